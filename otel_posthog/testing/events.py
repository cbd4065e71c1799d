"""`Event` and `Events`: what was captured, to be compared with plain dicts and lists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final, cast

from otel_posthog.delivery.encoding import rfc3339
from otel_posthog.model import CaptureEvent

if TYPE_CHECKING:
    from otel_posthog.testing.folding import Folded

BACKGROUND: Final = frozenset(
    {
        "$geoip_disable",
        "$is_server",
        "$lib",
        "$lib_version",
        "$span_id",
        "$trace_id",
        "deployment_method",
        "environment",
        "machine",
        "platform",
        "python_version",
        "service_name",
        "timezone",
        "trace_sampled",
    }
)
"""Properties that tell of library, process, machine and trace, and nothing of what happened."""

GROUPS: Final = "$groups"
_EXCEPTIONS: Final = "$exception_list"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_WIDTH: Final = 300


class Event(dict[str, Any]):
    """One event: a dict of `event`, `distinct_id`, `properties`, and `groups` where it has any.

    So it equals a plain dict with just these, and is what snapshots and dirty-equals take it for. Left out of the
    properties is what tells of machine, process and trace (`BACKGROUND`): `whole` has that, too.

    Args:
        captured: The event as delivery would get it.
    """

    def __init__(self, captured: CaptureEvent) -> None:
        said = {name: value for name, value in captured.properties.items() if name not in BACKGROUND}
        groups = said.pop(GROUPS, None)
        if _EXCEPTIONS in said:
            said[_EXCEPTIONS] = _anywhere(said[_EXCEPTIONS])
        super().__init__(event=captured.event, distinct_id=captured.distinct_id, properties=said)
        if groups:
            self["groups"] = groups
        self.captured = captured
        """As the converter made it."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.captured.event

    @property
    def distinct_id(self) -> str:
        """Whose it is; of a personless event an id that PostHog makes no person of."""
        return self.captured.distinct_id

    @property
    def properties(self) -> dict[str, Any]:
        """What it says, without `BACKGROUND` and groups."""
        return self["properties"]

    @property
    def groups(self) -> dict[str, str]:
        """Group type -> key."""
        return self.get("groups", {})

    @property
    def uuid(self) -> str:
        """What PostHog de-duplicates by, with name, person and day."""
        return self.captured.uuid

    @property
    def timestamp(self) -> datetime:
        """When it happened, UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self.captured.timestamp_ns // 1_000)

    @property
    def personless(self) -> bool:
        """Whether PostHog makes no person of it."""
        return self.captured.properties.get("$process_person_profile") is False

    @property
    def whole(self) -> dict[str, Any]:
        """All of it as plain JSON values: every property, the groups among them, `timestamp` and `uuid`."""
        captured = self.captured
        return {
            "event": captured.event,
            "distinct_id": captured.distinct_id,
            "properties": dict(captured.properties),
            "timestamp": rfc3339(captured.timestamp_ns),
            "uuid": captured.uuid,
        }

    def __hash__(self) -> int:  # type: ignore[override]
        raise TypeError("an Event is a dict, and cannot be hashed; its `uuid` can")

    def __reduce__(self) -> tuple[Any, ...]:
        return Event, (self.captured,)


class Events(list[Event]):
    """A list of events."""

    def named(self, name: str) -> Events:
        """Those of this name."""
        return Events(event for event in self if event.name == name)

    def of(self, distinct_id: str) -> Events:
        """Those of this person."""
        return Events(event for event in self if event.distinct_id == distinct_id)

    def one(self, name: str | None = None) -> Event:
        """The only one, or the only one of this name.

        Args:
            name: Of any name where `None`.

        Raises:
            AssertionError: There is none, or there are several; it says what there is.
        """
        return only(self, name)

    def as_dicts(self, *, whole: bool = False) -> list[dict[str, Any]]:
        """Plain dicts, for snapshots.

        Args:
            whole: With everything, see `Event.whole`.
        """
        return [event.whole if whole else dict(event) for event in self]

    def fold(self) -> Folded:
        """The people and groups that PostHog would make of them, see `otel_posthog.testing.fold`."""
        from otel_posthog.testing.folding import fold

        return fold(self)


def only(events: Events, name: str | None, more: Iterable[str] = ()) -> Event:
    """See `Events.one`.

    Args:
        events: Among which.
        name: Of which name.
        more: Further lines for the message.
    """
    __tracebackhide__ = True
    found = events if name is None else events.named(name)
    if len(found) == 1:
        return found[0]
    what = "event" if name is None else f"event {name!r}"
    lines = [f"exactly one {what} was expected, and {len(found) or 'none'} captured"]
    if not found and name is not None:
        close = difflib.get_close_matches(name, {event.name for event in events}, n=1)
        lines[0] += f"; did you mean {close[0]!r}?" if close else ""
    raise AssertionError("\n".join([*lines, *listing(events), *more]))


def listing(events: Events) -> list[str]:
    """Lines for people: what was captured."""
    if not events:
        return ["Captured: nothing"]
    return ["Captured:", *(f"  {number}. {_line(event)}" for number, event in enumerate(events, 1))]


def _anywhere(chain: Any) -> Any:
    """An exception list without the place where this machine has the code."""
    if isinstance(chain, list):
        return [_anywhere(one) for one in cast("list[Any]", chain)]
    if isinstance(chain, dict):
        entries = cast("dict[str, Any]", chain)
        return {key: _anywhere(value) for key, value in entries.items() if key != "abs_path"}
    return chain


def _line(event: Event) -> str:
    who = "nobody" if event.personless else repr(event.distinct_id)
    said = event.properties
    if _EXCEPTIONS in said:
        # In short, or it would be all that one sees.
        chain = [f"{one.get('type')}: {one.get('value')}" for one in said[_EXCEPTIONS]]
        said = {**said, _EXCEPTIONS: chain}
    text = f"{event.name!r} of {who} {said!r}"
    if event.groups:
        text += f" in {event.groups!r}"
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"


__all__ = ["BACKGROUND", "Event", "Events", "listing", "only"]
