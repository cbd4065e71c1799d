"""`capture`: one product event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from otel_posthog.api.moment import moment_ns
from otel_posthog.api.process import process
from otel_posthog.api.values import id_value, plain, unreadable
from otel_posthog.lane.now import now_ns
from otel_posthog.lane.uuids import uuid7
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter


def capture(
    event: str,
    properties: Mapping[str, Any] | None = None,
    *,
    distinct_id: str | int | UUID | None = None,
    groups: Mapping[str, str | int | UUID] | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
    set_once: Mapping[str, Any] | None = None,
    timestamp: datetime | str | float | None = None,
) -> str | None:
    """Captures a product event. Never raises, blocks or does I/O.

    Person, groups, session, super properties, flags, request and trace are those of the context that it is called in.
    Where nobody has been identified yet, the event waits for the end of the request (two seconds at the most) and
    becomes that of the person that the request turns out to belong to. Without one it is a personless event.

    Args:
        event: Its name: text of at most 200 bytes.
        properties: Name -> value. Dates, decimals, enums, UUIDs, sets, dataclasses and the like become what one would
            expect (see docs/annotate.md).
        distinct_id: Whose it is, in place of the context's person.
        groups: Group type -> key, for this event; above those of the context.
        set: Person properties to set.
        set_once: Person properties to set where the person does not have them yet.
        timestamp: When it happened; now by default. A `datetime`, ISO 8601 text, or seconds since the Unix epoch;
            without a zone it counts as UTC.

    Returns:
        The event's uuid; `None` where the gate is shut, or the call had no event in it, or there was no room.
    """
    emitter = process.get()
    if emitter is None:
        return process.off("capture") if process.started else None
    try:
        name = event.strip() if type(event) is str else event_name(event)
        if not name:
            return no_name(event, emitter)
        moment = now_ns()
        if timestamp is not None:
            moment = moment_ns(timestamp, moment, emitter.edge.guard)
        uuid = uuid7(moment)
        attributes: dict[str, Any] = {posthog.EVENT: name, posthog.UUID: uuid}
        if distinct_id is not None:
            state(attributes, distinct_id, emitter)
        if groups is not None:
            add_groups(attributes, groups, emitter)
        if set is not None:
            add(attributes, posthog.SET, set, emitter, "set")
        if set_once is not None:
            add(attributes, posthog.SET_ONCE, set_once, emitter, "set_once")
        own = plain(properties, emitter.edge.guard) if properties is not None else None
        if emitter.emit(name, attributes, properties=own, time_ns=moment):
            return uuid
        return process.refused("capture", emitter)
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.capture", error)
        return None


def event_name(event: Any) -> str:
    """The name in a member of an enum, or in some other kind of text; "" for anything else."""
    if isinstance(event, Enum):
        event = event.value
    return str.__str__(event).strip() if isinstance(event, str) else ""


def no_name(event: Any, emitter: Emitter) -> None:
    """Complains about an event without a name."""
    emitter.edge.guard.misused(
        "event",
        "otel-posthog: the name of an event is text, not %s; the event is not captured",
        "''" if isinstance(event, str) else type(event).__name__,
    )


def state(attributes: dict[str, Any], distinct_id: Any, emitter: Emitter) -> None:
    """Adds whom the call names; what cannot be an id at all is complained about, and an illegal one later."""
    found = id_value(distinct_id)
    if found is None:
        bad_id(distinct_id, emitter)
    else:
        attributes[posthog.DISTINCT_ID] = found


def bad_id(distinct_id: Any, emitter: Emitter) -> None:
    """Complains about something that is no distinct id."""
    from otel_posthog.lane.emitter import BAD_ID

    # Text is shown only where it is one of PostHog's illegal ids: anything else may be somebody's data.
    shown = repr(distinct_id) if isinstance(distinct_id, str) else type(distinct_id).__name__
    emitter.edge.guard.misused("distinct_id", BAD_ID, shown)


def add(attributes: dict[str, Any], prefix: str, values: Any, emitter: Emitter, what: str) -> None:
    """Adds `values` below `prefix`.

    Args:
        attributes: Where to.
        prefix: Of the attributes, e.g. `posthog.set.`.
        values: Name -> value; anything else is complained about.
        emitter: Whose guard is told.
        what: The argument, for the complaint.
    """
    for name, value in (plain(values, emitter.edge.guard, what) or {}).items():
        attributes[prefix + name] = value


def add_groups(attributes: dict[str, Any], groups: Any, emitter: Emitter) -> None:
    """Adds `groups`, type -> key."""
    if not isinstance(groups, Mapping):
        plain(groups, emitter.edge.guard, "groups")
        return
    try:
        pairs = [*cast("Mapping[Any, Any]", groups).items()]
    except Exception as error:  # noqa: BLE001 - a mapping of the app's
        unreadable(groups, error, emitter.edge.guard, "groups")
        return
    for group_type, key in pairs:
        pair = group_pair(group_type, key, emitter)
        if pair is not None:
            attributes[posthog.GROUPS + pair[0]] = pair[1]


def group_pair(group_type: Any, key: Any, emitter: Emitter) -> tuple[str, str] | None:
    """A group's type and key as text; `None` (and a complaint) where they name no group."""
    name, value = id_value(group_type), id_value(key)
    named = name.strip() if isinstance(name, str) else ""
    keyed = str(value).strip() if value is not None else ""
    if named and keyed and "." not in named:
        return named, keyed
    emitter.edge.guard.misused(
        "group",
        "otel-posthog: a group has a type (text without a dot) and a key (text or a number), not %s and %s; it "
        "is left out",
        _shape(group_type),
        _shape(key),
    )
    return None


def _shape(value: Any) -> str:
    if not isinstance(value, str):
        return type(value).__name__
    return "text with a dot" if "." in value else "''"
