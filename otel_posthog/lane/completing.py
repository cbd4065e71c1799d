"""What the context says about an item, put where the item itself does not say it.

The same for everything that becomes an event: calls, annotated spans, span events, log records of others, exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

from otel_posthog.context.ambient import Ambient
from otel_posthog.context.work import Work, apart, work_of
from otel_posthog.lane.identity import CLAIMS, InheritedId, states
from otel_posthog.lane.waiting import Item
from otel_posthog.model import Attributes, AttributeValue, Signal
from otel_posthog.semconv import otel, posthog

_SESSIONS: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)
_FEATURE: Final = posthog.PROPERTIES + posthog.FEATURE_PREFIX
_ACTIVE: Final = posthog.PROPERTIES + posthog.ACTIVE_FLAGS_PROPERTY

_STAMPS: Final = (posthog.POSTHOG_DISTINCT_ID, posthog.POSTHOG_SESSION_ID)
_NO: Final[AttributeValue] = False


class Scoped(NamedTuple):
    """What holds in a scope that is apart from the request around it: neither says who the other is for."""

    ambient: Ambient


def held_by(work: Work | None, trace_id: int) -> Ambient | Scoped | None:
    """What holds at this moment in a unit of work, for an item of the trace."""
    if work is None:
        return None
    return Scoped(work.ambient) if work.inner and apart(work, trace_id) else work.ambient


def ambient_of(trace_id: int, ctx: Mapping[str, Any]) -> Ambient | Scoped | None:
    """What holds at this moment for a span of the trace that ends in `ctx`."""
    return held_by(work_of(trace_id, ctx), trace_id)


def complete_item(item: Item, raw: Attributes, held: Ambient | Scoped | None, supers: Mapping[str, Any]) -> Item:
    """Completes an item of somebody else's telemetry, before anybody has seen it.

    Who identified the user is heard after what the item, or the rule that matches it, says about its person.

    Args:
        item: Its signal's attributes are a copy that nobody else has; it is changed.
        raw: The attributes that it was read from, where our stamps can be told from what the item says.
        held: What held for its unit of work when it ended.
        supers: The super properties that held where it started.
    """
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
    "Scoped",
    "add_properties",
    "ambient_of",
    "complete",
    "complete_event",
    "complete_item",
    "flag_properties",
    "held_by",
]
