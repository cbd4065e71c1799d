"""What travels between services as W3C baggage: members made of an `Ambient`, and an `Ambient` made of members.

| Member | Content |
| --- | --- |
| `posthog.distinct_id`, `posthog.anonymous_id`, `posthog.session_id` | text |
| `posthog.groups` | `type=key&type=key` |
| `posthog.flags` | `on&!off&flag=variant` |
| `posthog.properties` | `name=text&name:=JSON` (numbers and booleans) |
| `posthog.signature` | `1.<seconds since 1970>.<HMAC-SHA256>`, see `signature.py` |

Keys and values in the lists are percent-encoded, and the propagator encodes every member once more: so values may hold
commas, equals signs, blanks and any script, and a member is a token whatever a group is called.

The W3C allows 180 members and 8192 bytes; these are six, and never more than `MAX_BYTES`: baggage rides on every call.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

from otel_posthog.context.ambient import Ambient
from otel_posthog.semconv import posthog

DISTINCT_ID: Final = posthog.DISTINCT_ID
ANONYMOUS_ID: Final = "posthog.anonymous_id"
SESSION_ID: Final = posthog.SESSION_ID
GROUPS: Final = "posthog.groups"
FLAGS: Final = "posthog.flags"
PROPERTIES: Final = "posthog.properties"
MEMBERS: Final = (DISTINCT_ID, ANONYMOUS_ID, SESSION_ID, GROUPS, FLAGS, PROPERTIES)
"""In the order in which they are given up last where there is no room."""

MAX_BYTES: Final = 2_048
"""Of all members together, as they are on the wire."""
MAX_VALUE: Final = 1_024
"""Characters of one member that is read."""
MAX_FLAGS: Final = 50
MAX_PROPERTIES: Final = 20
MAX_NAME: Final = 200
"""Characters of an id, of a group's type and key, of a flag and its variant, of a property's name."""
MAX_TEXT: Final = 400
"""Characters of a property's text."""


def encode(ambient: Ambient, properties: Mapping[str, Any], *, room: int = MAX_BYTES) -> dict[str, str]:
    """The members that say what `ambient` says; what there is no room for is left out, flags and properties first.

    Args:
        ambient: What holds for the work at hand.
        properties: Super properties that may travel.
        room: Bytes on the wire at the most, names and separators included.
    """
    room = min(room, MAX_BYTES)
    members: dict[str, str] = {}
    for name, value in (
        (DISTINCT_ID, ambient.distinct_id),
        (ANONYMOUS_ID, "" if ambient.distinct_id else ambient.anonymous_id),
        (SESSION_ID, ambient.session_id),
    ):
        text = _fit(value, MAX_NAME)
        if text and (weight := _weight(name, text)) <= room:
            members[name] = text
            room -= weight
    for name, pairs in (
        (GROUPS, _groups(ambient.groups)),
        (FLAGS, _flags(ambient.flags)),
        (PROPERTIES, _properties(properties)),
    ):
        kept: list[str] = []
        left = min(room - len(name) - 2, MAX_VALUE)
        for pair in pairs:
            left -= len(quote_plus(pair)) + (3 if kept else 0)  # the separator is encoded as well
            if left < 0:
                break
            kept.append(pair)
        if kept:
            members[name] = "&".join(kept)
            room -= _weight(name, members[name])
    return members


def decode(members: Mapping[str, Any]) -> Ambient:
    """What `members` say; whatever is malformed, too long, or would be a name with a meaning of its own is left out.

    Args:
        members: Of a baggage, from anybody; those that are not ours are not looked at.
    """
    groups = {
        key: value
        for key, sign, value in _pairs(members.get(GROUPS), posthog.MAX_GROUP_TYPES)
        if sign == "=" and value and len(value) <= MAX_NAME and "." not in key
    }
    flags: dict[str, str | bool] = {}
    for key, sign, value in _pairs(members.get(FLAGS), MAX_FLAGS):
        if sign == "=" and value and len(value) <= MAX_NAME:
            flags[key] = value
        elif sign in ("", "!"):
            flags[key] = not sign
    properties: dict[str, Any] = {}
    for key, sign, value in _pairs(members.get(PROPERTIES), MAX_PROPERTIES):
        if key.startswith("$") or len(value) > MAX_TEXT:
            continue
        if sign == "=":
            properties[key] = value
        elif sign == ":=" and (number := _number(value)) is not None:
            properties[key] = number
    return Ambient(
        distinct_id=_fit(members.get(DISTINCT_ID), MAX_NAME),
        anonymous_id=_fit(members.get(ANONYMOUS_ID), MAX_NAME),
        session_id=_fit(members.get(SESSION_ID), MAX_NAME),
        groups=groups,
        flags=flags,
        properties=properties,
    )


def weight_of(baggage: Mapping[str, Any]) -> int:
    """Bytes of `baggage` on the wire."""
    return sum(_weight(str(name), str(value)) for name, value in baggage.items())


# --- pairs -----------------------------------------------------------------------------------------------------------


def _groups(groups: Mapping[str, str]) -> Iterable[str]:
    for key in sorted(groups)[: posthog.MAX_GROUP_TYPES]:
        if _fit(key, MAX_NAME) and _fit(groups[key], MAX_NAME):
            yield f"{_quoted(key)}={_quoted(groups[key])}"


def _flags(flags: Mapping[str, str | bool]) -> Iterable[str]:
    for key in sorted(flags)[:MAX_FLAGS]:
        value = flags[key]
        if not _fit(key, MAX_NAME):
            continue
        if value is True or value is False:
            yield _quoted(key) if value else f"!{_quoted(key)}"
        elif _fit(value, MAX_NAME):
            yield f"{_quoted(key)}={_quoted(value)}"


def _properties(properties: Mapping[str, Any]) -> Iterable[str]:
    for key in sorted(properties)[:MAX_PROPERTIES]:
        value = properties[key]
        if not _fit(key, MAX_NAME) or key.startswith("$"):
            continue
        if isinstance(value, str):
            if _fit(value, MAX_TEXT):
                yield f"{_quoted(key)}={_quoted(value)}"
        elif isinstance(value, (bool, int, float)):
            text = json.dumps(value)
            if _number(text) is not None:
                yield f"{_quoted(key)}:={_quoted(text)}"


def _pairs(member: object, most: int) -> Iterable[tuple[str, str, str]]:
    """(key, sign, value) of each pair; the sign is `=`, `:=`, `!`, or nothing."""
    if not isinstance(member, str) or not member or len(member) > MAX_VALUE:
        return
    seen: set[str] = set()
    for pair in member.split("&", most)[:most]:
        key, sign, value = pair.partition("=")
        if sign and key.endswith(":"):
            key, sign = key[:-1], ":="
        elif not sign and key.startswith("!"):
            key, sign = key[1:], "!"
        key, value = unquote(key), unquote(value)
        if key not in seen and _fit(key, MAX_NAME) and _printable(value):
            seen.add(key)
            yield key, sign, value


def _number(text: str) -> float | bool | None:
    if len(text) > 32:
        return None
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, (bool, int, float)) and math.isfinite(value) else None


def _fit(value: object, limit: int) -> str:
    """`value` where it is clean text of at most so many characters, "" otherwise."""
    if not isinstance(value, str) or not value or len(value) > limit or not _printable(value):
        return ""
    return str.__str__(value) if value == value.strip() else ""


def _printable(text: str) -> bool:
    # No control characters, and no lone surrogates, which no wire carries.
    return text.isprintable()


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _weight(name: str, value: str) -> int:
    return len(quote_plus(name, errors="replace")) + len(quote_plus(value, errors="replace")) + 2


__all__ = [
    "ANONYMOUS_ID",
    "DISTINCT_ID",
    "FLAGS",
    "GROUPS",
    "MAX_BYTES",
    "MEMBERS",
    "PROPERTIES",
    "SESSION_ID",
    "decode",
    "encode",
    "weight_of",
]
