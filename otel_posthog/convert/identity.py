"""Who an item belongs to (DESIGN §3): the first that is present and legal.

    posthog.distinct_id -> the rule's distinct_id -> posthogDistinctId -> user.id -> enduser.id -> captured header
    -> the same of the owning span -> late identity -> enduser.pseudo.id -> feature_flag.context.id
    -> the resource's default -> personless

Allow-listed baggage is stamped on the attributes by the SDK edge, below everything that the item itself says. PostHog's
illegal ids count as absent: an app that sets `user.id` to "anonymous" has not said who it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_posthog.convert.ids import hashed_uuid, is_uuid7, valid_uuid
from otel_posthog.convert.layout import SESSIONS
from otel_posthog.convert.person import claimed_id, person_id
from otel_posthog.convert.tags import Tags
from otel_posthog.convert.text import clean_text, cut_bytes, first_of
from otel_posthog.convert.values import Cleaner
from otel_posthog.model import Attributes, AttributeValue, Notice, Signal
from otel_posthog.model.frozen import frozen
from otel_posthog.semconv import otel, posthog

_STRONG: Final = (posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID)


@frozen
class Subject:
    """Whom the events of one item belong to.

    Args:
        distinct_id: Always usable as PostHog's `distinct_id`.
        personless: Nobody was named: the id only holds a session or a trace together.
    """

    distinct_id: str
    personless: bool


def strong_id(attributes: Attributes, tag: AttributeValue, rule: str = "", cleaner: Cleaner | None = None) -> str:
    """Who the carrier of `attributes` itself says; "" where it does not say.

    Args:
        attributes: Its attributes.
        tag: Its `posthog.distinct_id`.
        rule: The distinct id that the matching rule filled in.
        cleaner: Remembers illegal and shortened ids.
    """
    if tag is not None and (found := person_id(tag, cleaner)):
        return found
    if rule and (found := person_id(rule, cleaner)):
        return found
    for key in _STRONG:
        value = attributes.get(key)
        if value is not None and (found := person_id(value, cleaner)):
            return found
    for key in otel.HEADER_DISTINCT_ID:
        value = attributes.get(key)
        if value is not None and (found := claimed_id(value, cleaner)):
            return found
    return ""


def find_subject(
    signal: Signal, tags: Tags, owner: Tags, resource: Tags, rule: str, session: str, cleaner: Cleaner
) -> Subject:
    """The first identity of the order in this module's docstring."""
    found = strong_id(signal.attributes, tags.distinct_id, rule, cleaner)
    span = signal.span
    if not found and span is not None:
        found = strong_id(span.attributes, owner.distinct_id, "", cleaner)
    if not found and signal.local is not None and signal.local.distinct_id:
        found = person_id(signal.local.distinct_id, cleaner)
    if not found:
        found = person_id(signal.attributes.get(otel.ENDUSER_PSEUDO_ID), cleaner)
    if not found and span is not None:
        found = person_id(span.attributes.get(otel.ENDUSER_PSEUDO_ID), cleaner)
    if not found and (target := person_id(signal.attributes.get(otel.FLAG_CONTEXT_ID), cleaner)):
        # Whom a flag was evaluated for may be a device, a tenant, or made up for one request: it is counted under that
        # id, and belongs to the person who has it, but makes none.
        return Subject(target, personless=True)
    if not found:
        # A default for the whole service: anything that was said about the one item is nearer to the truth.
        found = person_id(resource.distinct_id, cleaner)
    if found:
        return Subject(found, personless=False)
    return Subject(_stand_in(signal, session), personless=True)


def _stand_in(signal: Signal, session: str) -> str:
    # Never one new person per call, and never the raw session or trace id: it must not collide with a real one.
    if session:
        return hashed_uuid("session", session)
    if signal.trace_id:
        return hashed_uuid("trace", signal.trace_id)
    attributes = signal.resource.attributes
    name, instance = attributes.get(otel.SERVICE_NAME), attributes.get(otel.SERVICE_INSTANCE)
    return hashed_uuid("service", _short(name), _short(instance))


def _short(value: AttributeValue) -> str:
    return value if type(value) is str else "" if value is None else str(person_id(value))


@dataclass(frozen=True, slots=True)
class Session:
    """The browser session of an item.

    Args:
        session_id: As the item said it, "" for none.
        is_posthog: It is a UUIDv7, which PostHog's session tables want of `$session_id`.
        window_id: "" for none.
    """

    session_id: str = ""
    is_posthog: bool = False
    window_id: str = ""


NO_SESSION: Final = Session()


def find_session(attributes: Attributes, tags: Tags, cleaner: Cleaner) -> Session:
    """The session that the carrier of `attributes` names: the tag, PostHog's own attribute, the header, `session.id`.

    A name that PostHog gave to the attribute promises a UUIDv7; where it holds another id, that is worth a notice.
    """
    window = _session_text(tags.window_id)
    said = _session_text(tags.session_id)
    if not said:
        for key in SESSIONS:
            value = attributes.get(key)
            if value is not None and (said := _session_text(value)):
                break
    promised = bool(said)
    if not said:
        value = attributes.get(otel.SESSION_ID)
        said = "" if value is None else _session_text(value)
    if not said:
        return Session(window_id=window) if window else NO_SESSION
    canonical = valid_uuid(said)
    if canonical and is_uuid7(canonical):
        return Session(canonical, is_posthog=True, window_id=window)
    if promised:
        cleaner.note(Notice.BAD_SESSION_ID)
    return Session(said, is_posthog=False, window_id=window)


def _session_text(value: AttributeValue) -> str:
    value = first_of(value)
    if isinstance(value, str):
        return cut_bytes(clean_text(str.__str__(value)).strip(), posthog.MAX_DISTINCT_ID_BYTES)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 64:
        return str(int.__int__(value))
    return ""


def find_groups(layers: tuple[Mapping[str, AttributeValue], ...], cleaner: Cleaner) -> dict[str, str]:
    """Group type -> key, from the strongest layer to the weakest; at most PostHog's five types."""
    groups: dict[str, str] = {}
    for layer in layers:
        # Sorted, so that which types are too many does not depend on the order of the attributes.
        for group_type in sorted(layer, key=str):
            name = cleaner.key(group_type).strip()
            if not name or name in groups:
                continue
            key = _group_key(layer[group_type])
            if not key:
                continue
            if len(groups) == posthog.MAX_GROUP_TYPES:
                cleaner.note(Notice.TOO_MANY_GROUPS)
                return groups
            groups[name] = key
    return groups


def _group_key(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not (value.is_integer() and abs(value) < 1e15):
        return repr(float(value)) if value == value else ""
    if isinstance(value, str):
        return cut_bytes(clean_text(str.__str__(value)).strip(), _MAX_GROUP_KEY_BYTES)
    return person_id(value)


_MAX_GROUP_KEY_BYTES: Final = 400
"""PostHog's column for group keys holds 400 characters."""
