"""What the context says about an item, put where the item itself does not say it.

The same for everything that becomes an event: calls, annotated spans, span events, log records of others, exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.work import Work, apart, work_of
from otel_posthog.lane.identity import CLAIMS, InheritedId, stated, states
from otel_posthog.lane.waiting import Item
from otel_posthog.model import Attributes, AttributeValue, Signal
from otel_posthog.semconv import otel, posthog

_SESSIONS: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)
_FEATURE: Final = posthog.PROPERTIES + posthog.FEATURE_PREFIX
_ACTIVE: Final = posthog.PROPERTIES + posthog.ACTIVE_FLAGS_PROPERTY

_STAMPS: Final = (posthog.POSTHOG_DISTINCT_ID, posthog.POSTHOG_SESSION_ID)
_NO: Final[AttributeValue] = False
_NONE: Final[Mapping[str, Any]] = {}


class Scoped(NamedTuple):
    """What holds in a scope that is apart from the request around it: neither says who the other is for."""

    ambient: Ambient


class Outlived(NamedTuple):
    """What held in a request that was over when the item began: for whoever it names, it holds if it was theirs."""

    work: Work


Held = Ambient | Scoped | Outlived
"""What holds for an item, and how."""


def held_by(work: Work | None, trace_id: int, began_ns: int | None = None) -> Held | None:
    """What holds at this moment in a unit of work, for an item of the trace.

    Args:
        work: The one at hand.
        trace_id: Of the item.
        began_ns: When the item began, in nanoseconds since the Unix epoch; now where `None`.
    """
    if work is None:
        return None
    if work.inner and apart(work, trace_id):
        return Scoped(work.ambient)
    if work.ended_ns and (began_ns is None or began_ns > work.ended_ns):
        return Outlived(work)
    return work.ambient


def ambient_of(trace_id: int, ctx: Mapping[str, Any], began_ns: int | None) -> Held | None:
    """What holds at this moment for a span of the trace that began then and ends in `ctx`."""
    return held_by(work_of(trace_id, ctx), trace_id, began_ns)


def settled(
    held: Held | None, raw: Attributes, supers: Mapping[str, Any]
) -> tuple[Ambient | Scoped | None, Mapping[str, Any]]:
    """What holds for an item, and its super properties, now that it is known whom the item names.

    Args:
        held: What held when it ended.
        raw: The attributes that it was read from.
        supers: The super properties that held where it started.
    """
    if not isinstance(held, Outlived):
        return held, supers
    person = stated(raw)
    if person and not held.work.knows(person):
        # A worker that this request happened to start serves somebody else.
        return Scoped(NOTHING), _NONE
    return held.work.ambient, supers


def complete_item(item: Item, raw: Attributes, held: Held | None, supers: Mapping[str, Any]) -> Item:
    """Completes an item of somebody else's telemetry, before anybody has seen it.

    Who identified the user is heard after what the item, or the rule that matches it, says about its person.

    Args:
        item: Its signal's attributes are a copy that nobody else has; it is changed.
        raw: The attributes that it was read from, where our stamps can be told from what the item says.
        held: What held for its unit of work when it ended.
        supers: The super properties that held where it started.
    """
    if isinstance(held, Outlived):
        held, supers = settled(held, raw, supers)
    ambient = held.ambient if isinstance(held, Scoped) else held
    attributes = cast("dict[str, AttributeValue]", item.signal.attributes)
    if supers:
        add_properties(attributes, supers)
    if ambient is not None:
        if ambient is not held or (ambient.nobody and not ambient.distinct_id):
            item.apart = item.apart or ambient is not held
            if not states(raw):
                item.apart = True
                _leave(attributes, raw, ambient)
            elif type(raw.get(posthog.POSTHOG_SESSION_ID)) is InheritedId:
                # Whoever it names was not in that session.
                attributes.pop(posthog.POSTHOG_SESSION_ID, None)
        else:
            item.person = ambient.distinct_id
        complete(attributes, ambient, says_session=_says_session(raw))
    return item


def complete(attributes: dict[str, AttributeValue], ambient: Ambient, *, says_session: bool = False) -> None:
    """Adds session, groups, flags and properties of the unit of work, and its anonymous id where nobody is known."""
    if ambient.anonymous_id and not ambient.distinct_id:
        attributes.setdefault(otel.ENDUSER_PSEUDO_ID, ambient.anonymous_id)
    if ambient.session_id and not says_session:
        attributes.setdefault(posthog.SESSION_ID, ambient.session_id)
    if ambient.window_id:
        attributes.setdefault(posthog.WINDOW_ID, ambient.window_id)
    for group_type, key in ambient.groups.items():
        attributes.setdefault(posthog.GROUPS + group_type, key)
    if ambient.flags:
        attributes.update(flag_properties(ambient.flags, attributes))
    if ambient.properties:
        add_properties(attributes, ambient.properties)


def complete_event(signal: Signal, held: Ambient | Scoped | None, supers: Mapping[str, Any]) -> None:
    """Adds to a span event what it does not have from its span: the properties."""
    attributes = cast("dict[str, AttributeValue]", signal.attributes)
    add_properties(attributes, supers)
    if held is not None:
        add_properties(attributes, (held.ambient if isinstance(held, Scoped) else held).properties)


def add_properties(attributes: dict[str, AttributeValue], properties: Mapping[str, Any]) -> None:
    """Adds event properties by name where they are not there."""
    for name, value in properties.items():
        attributes.setdefault(posthog.PROPERTIES + name, value)


def _leave(attributes: dict[str, AttributeValue], raw: Attributes, ambient: Ambient) -> None:
    """Takes away whom the item was for outside of this scope, or before the logout, and says who it is for now."""
    for key in _STAMPS:
        if type(raw.get(key)) is InheritedId:
            attributes.pop(key, None)
    for key in CLAIMS:
        attributes.pop(key, None)
    if ambient.distinct_id:
        attributes[posthog.DISTINCT_ID] = ambient.distinct_id
    elif ambient.nobody:
        attributes[posthog.DISTINCT_ID] = ambient.anonymous_id
        # A visitor who left is nobody new: PostHog makes no person of that.
        attributes.setdefault(posthog.PROCESS_PERSON_PROFILE, _NO)


def flag_properties(
    flags: Mapping[str, str | bool], attributes: Mapping[str, AttributeValue]
) -> dict[str, AttributeValue]:
    """What flags put on an event, as PostHog's own SDKs do: `$feature/<key>` and `$active_feature_flags`.

    Args:
        flags: Flag -> its value.
        attributes: What the event says itself, which wins.
    """
    said: dict[str, AttributeValue] = {}
    for key, value in flags.items():
        name = _FEATURE + key
        if name not in attributes:
            said[name] = value
    if _ACTIVE not in attributes:
        said[_ACTIVE] = sorted(key for key, value in flags.items() if value)
    return said


def _says_session(attributes: Attributes) -> bool:
    return any(key in attributes and type(attributes[key]) is not InheritedId for key in _SESSIONS)


__all__ = [
    "Held",
    "Outlived",
    "Scoped",
    "add_properties",
    "ambient_of",
    "complete",
    "complete_event",
    "complete_item",
    "flag_properties",
    "held_by",
    "settled",
]
