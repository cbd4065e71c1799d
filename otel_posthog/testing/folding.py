"""`fold`: the people and groups that PostHog would make of some events.

It is the local PostHog's own ingestion (docs/emulator.md) over a database in memory: persons.py there, and no second
copy of its rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime, timedelta, timezone
from typing import Any, Final, cast

from otel_posthog.model.frozen import frozen
from otel_posthog.testing.events import Event

_TOKEN: Final = "phc_test"  # noqa: S105 - one project is as good as another
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


@frozen
class Person:
    """One person.

    Args:
        distinct_ids: All ids, the first one first.
        properties: As they are after the last event.
        identified: An `$identify` or `$create_alias` has said who it is.
        events: Number of their events, each counted once.
    """

    distinct_ids: tuple[str, ...]
    properties: Mapping[str, Any]
    identified: bool
    events: int


@frozen
class Group:
    """One group.

    Args:
        type: E.g. `company`.
        key: E.g. `acme`.
        properties: As they are after the last `$groupidentify`.
        events: Number of events in it.
    """

    type: str
    key: str
    properties: Mapping[str, Any]
    events: int


@frozen
class Folded:
    """What PostHog would have.

    Args:
        persons: In order of their first appearance.
        groups: By type in order of appearance, then key.
        events: Number of events, each counted once.
        warnings: Ingestion warnings and drops by reason, and how often.
    """

    persons: tuple[Person, ...]
    groups: tuple[Group, ...]
    events: int
    warnings: Mapping[str, int] = field(default_factory=dict[str, int])

    def person(self, distinct_id: str) -> Person:
        """The person of an id.

        Raises:
            AssertionError: There is none; it says who there is.
        """
        __tracebackhide__ = True
        for person in self.persons:
            if distinct_id in person.distinct_ids:
                return person
        known = ", ".join("/".join(person.distinct_ids) for person in self.persons)
        raise AssertionError(f"there is no person {distinct_id!r}; there is {known or 'nobody'}")

    def group(self, type: str, key: str) -> Group:  # noqa: A002 - PostHog's word
        """The group of a type and key.

        Raises:
            AssertionError: There is none; it says which there are.
        """
        __tracebackhide__ = True
        for group in self.groups:
            if (group.type, group.key) == (type, key):
                return group
        known = ", ".join(f"{group.type} {group.key!r}" for group in self.groups)
        raise AssertionError(f"there is no {type} {key!r}; there is {known or 'no group'}")


def fold(events: Iterable[Mapping[str, Any]]) -> Folded:
    """Applies events to people and groups in the order of their arrival, as PostHog does, whatever their times say.

    `$set`, `$set_once`, `$unset`, merges by `$identify`, `$create_alias` and `$merge_dangerously`, `$groupidentify`,
    personless events. An event that arrives twice counts once, and is applied to its person twice
    (docs/decisions/0051).

    Args:
        events: Of `captured_events`, by `make_event`, or dicts with `event`, `distinct_id` and `properties`.
    """
    from otel_posthog.emulator import queries
    from otel_posthog.emulator.store import Store

    store = Store(":memory:", lambda: _EPOCH)
    try:
        store.add_events([_received(event) for event in events], [], path="fold")
        persons = [
            (store.rows("SELECT rowid FROM persons WHERE id = ?", [row["id"]])[0]["rowid"], row)
            for row in queries.persons(store)
        ]
        stats = queries.stats(store)
        return Folded(
            persons=tuple(
                Person(tuple(row["distinct_ids"]), row["properties"], row["identified"], row["events"])
                for _, row in sorted(persons, key=lambda pair: pair[0])
            ),
            groups=tuple(
                Group(row["type"], row["key"], row["properties"], row["events"]) for row in queries.groups(store)
            ),
            events=stats["stored"],
            warnings={**stats["warnings"], **stats["dropped"]},
        )
    finally:
        store.close()


def _received(given: Mapping[str, Any]) -> Any:
    from otel_posthog.emulator.received import ReceivedEvent

    event = given if isinstance(given, Event) else _made(given)
    captured = event.captured
    return ReceivedEvent(
        token=_TOKEN,
        uuid=captured.uuid,
        event=captured.event,
        distinct_id=captured.distinct_id,
        timestamp=_EPOCH + timedelta(microseconds=captured.timestamp_ns // 1_000),
        properties=cast("dict[str, Any]", event.whole["properties"]),
        sent=event.whole,
        version="v1",
    )


def _made(given: Mapping[str, Any]) -> Event:
    from otel_posthog.testing.factories import make_event

    values = dict(given)
    if isinstance(values.get("timestamp"), str):
        values["timestamp"] = datetime.fromisoformat(values["timestamp"].replace("Z", "+00:00"))
    return make_event(**values)


__all__ = ["Folded", "Group", "Person", "fold"]
