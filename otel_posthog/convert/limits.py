"""Keeps an event under PostHog's size: cut visibly, the largest value first, and say what was cut.

Limits: a name 200 bytes; a value `max_value_bytes` (cut where it is cleaned); an event 900 KiB serialised. Ids, groups
and what makes the event valid are never cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final, cast

from otel_posthog.convert.values import CUT_MARK, Cleaner, cut_visibly
from otel_posthog.model import JsonValue, Notice
from otel_posthog.semconv import posthog

ENVELOPE_BYTES: Final = 1_024
"""Room for name, distinct id, uuid, time and the wire format's own keys."""
SMALL_BYTES: Final = 1_024
"""A value up to this size is left out whole, where cutting the larger ones was not enough."""
MAX_LISTED: Final = 50

CONTEXT_BYTES: Final = 48 * 1024
"""More than the bridge's own properties (deployment, request, ids) can ever have."""
_EXPANDED: Final = (posthog.PERSON_SET, posthog.PERSON_SET_ONCE, "$group_set")
_KEPT: Final = frozenset(
    {
        "$lib", "$lib_version", "$is_server", "$geoip_disable", posthog.GROUPS_PROPERTY, posthog.SESSION_PROPERTY,
        posthog.WINDOW_PROPERTY, posthog.PERSON_PROFILE_PROPERTY, posthog.TRACE_PROPERTY, posthog.SPAN_PROPERTY,
        "$exception_list", "$exception_level", "$anon_distinct_id", "alias", "distinct_id", "$group_type", "$group_key",
        *_EXPANDED,
    }
)  # fmt: skip


def json_size(value: JsonValue) -> int:
    """Bytes of `value` as compact UTF-8 JSON."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def flat_weight(properties: Mapping[str, JsonValue]) -> int:
    """About how many bytes `properties` have as JSON; quick where hardly any value holds others."""
    weight = 2 + len("".join(properties)) + 10 * len(properties)
    for value in properties.values():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - as in `Cleaner.properties`
        if kind is str:
            weight += len(value)
        elif kind is dict or kind is list:
            weight += json_size(value)
    return weight


def surely_fits(cleaner: Cleaner, limit: int) -> bool:
    r"""Whether events made of what `cleaner` saw cannot exceed `limit`, without serialising them.

    Six bytes for a character is the most that JSON needs (`\u0000`).
    """
    return cleaner.weight * 6 + CONTEXT_BYTES <= limit


def list_cuts(properties: dict[str, JsonValue], names: dict[str, None]) -> None:
    """Writes the names of what was cut into `properties`."""
    if names:
        listed = [name for name in names if name][:MAX_LISTED]
        if len(names) > MAX_LISTED:
            listed.append(CUT_MARK)
        properties[posthog.CUT_PROPERTY] = listed


def fit(properties: dict[str, JsonValue], limit: int, cleaner: Cleaner) -> bool:
    """Cuts `properties` in place until the event has at most `limit` bytes; False where nothing helps."""
    excess = json_size(properties) + ENVELOPE_BYTES - limit
    if excess <= 0:
        return True
    cleaner.note(Notice.CUT_PROPERTIES)
    listed = properties.get(posthog.CUT_PROPERTY)
    names = dict.fromkeys(str(name) for name in cast("list[object]", listed)) if isinstance(listed, list) else {}
    # Room for the list of what is going to be cut.
    excess += min(MAX_LISTED * 210, limit // 4)
    excess = _shrink_exceptions(properties, excess, names)
    for round_ in (_shorten, _leave_out):
        if excess <= 0:
            break
        excess = round_(properties, excess, names)
    list_cuts(properties, names)
    return json_size(properties) + ENVELOPE_BYTES <= limit


def _largest_first(properties: dict[str, JsonValue]) -> list[tuple[int, dict[str, JsonValue], str, str]]:
    """(bytes, the map that holds it, key, name for people) of everything that may be cut."""
    found = [
        (json_size(value), properties, key, key)
        for key, value in properties.items()
        if key not in _KEPT and key != posthog.CUT_PROPERTY
    ]
    for outer in _EXPANDED:
        inner = properties.get(outer)
        if isinstance(inner, dict):
            inner = cast("dict[str, JsonValue]", inner)
            found.extend((json_size(value), inner, key, f"{outer}.{key}") for key, value in inner.items())
    # The name decides between equals, so that the result does not depend on the order of attributes.
    found.sort(key=lambda entry: (-entry[0], entry[3]))
    return found


def _shorten(properties: dict[str, JsonValue], excess: int, names: dict[str, None]) -> int:
    for size, holder, key, name in _largest_first(properties):
        if excess <= 0 or size <= SMALL_BYTES:
            break
        value = holder[key]
        if isinstance(value, str):
            raw = len(value.encode())
            # Escapes make JSON longer than the text: what must go in JSON bytes is at most as much in text bytes.
            wanted = int(raw * max(size - excess - SMALL_BYTES // 4, SMALL_BYTES) / size)
            holder[key] = cut_visibly(value, max(wanted, SMALL_BYTES // 8))
        else:
            holder[key] = CUT_MARK
        excess -= size - json_size(holder[key])
        names[name] = None
    return excess


def _leave_out(properties: dict[str, JsonValue], excess: int, names: dict[str, None]) -> int:
    for size, holder, key, name in _largest_first(properties):
        if excess <= 0:
            break
        del holder[key]
        excess -= size + len(key.encode()) + 4
        names[name] = None
    return excess


def _shrink_exceptions(properties: dict[str, JsonValue], excess: int, names: dict[str, None]) -> int:
    """Source context goes first, then middle frames, then long messages, then the far end of the chain."""
    chain = properties.get("$exception_list")
    if not isinstance(chain, list):
        return excess
    chain = cast("list[JsonValue]", chain)
    before = json_size(chain)
    for step in (_without_context, _fewer_frames, _shorter_messages, _fewer_exceptions):
        if excess <= 0 or json_size(chain) <= SMALL_BYTES:
            break
        step(chain)
        after = json_size(chain)
        excess -= before - after
        before = after
        names["$exception_list"] = None
    return excess


def _stacks(chain: list[JsonValue]) -> Iterator[list[JsonValue]]:
    # A finished event comes from another process: its list need not have our shape.
    for entry in chain:
        stack = cast("dict[str, JsonValue]", entry).get("stacktrace") if isinstance(entry, dict) else None
        frames = cast("dict[str, JsonValue]", stack).get("frames") if isinstance(stack, dict) else None
        if isinstance(frames, list):
            yield cast("list[JsonValue]", frames)


def _without_context(chain: list[JsonValue]) -> None:
    for frames in _stacks(chain):
        for frame in frames:
            if isinstance(frame, dict):
                for key in ("pre_context", "post_context"):
                    cast("dict[str, JsonValue]", frame).pop(key, None)


def _fewer_frames(chain: list[JsonValue]) -> None:
    for frames in _stacks(chain):
        if len(frames) > 20:
            del frames[4:-16]


def _shorter_messages(chain: list[JsonValue]) -> None:
    for entry in chain:
        if isinstance(entry, dict) and isinstance(entry.get("value"), str):  # pyright: ignore[reportUnknownMemberType]
            entry["value"] = cut_visibly(cast("str", entry["value"]), 4_096)


def _fewer_exceptions(chain: list[JsonValue]) -> None:
    del chain[5:]
