"""A log record that is a finished event (`posthog.carrier` = `log`) -> exactly that event (DESIGN §5).

In collector mode the process converts, and what arrives at the gateway has its final name, distinct id, uuid, time and
properties: nothing is added, or the same event would differ with the route that it took. The other half is
`delivery/wire_otlp.py`; `tests/unit/convert/test_carrier_roundtrip.py` holds the two together.

| Attribute | Event |
| --- | --- |
| event name, time, `posthog.distinct_id`, `posthog.uuid` | name, time, distinct id, uuid |
| `posthog.properties.<name>` | property |
| `posthog.properties_json` | further properties, packed |
| `posthog.set.<name>`, `posthog.set_once.<name>`, `posthog.unset` | `$set`, `$set_once`, `$unset` |
| `posthog.groups.<type>` | `$groups` |
| `posthog.session_id`, `posthog.window_id`, `posthog.process_person_profile` | the `$` property of that name |
| trace id and span id of the record | `$trace_id`, `$span_id` |
"""

from __future__ import annotations

from otel_posthog.convert.ids import valid_uuid
from otel_posthog.convert.person import person_id
from otel_posthog.convert.tags import Tags
from otel_posthog.convert.text import clean_text, cut_bytes
from otel_posthog.convert.values import ABSENT, Cleaner
from otel_posthog.model import Attributes, CaptureEvent, JsonValue, Signal, SignalKind
from otel_posthog.semconv import posthog


def is_final(signal: Signal, tags: Tags) -> bool:
    """Whether `signal` claims to be a finished event."""
    return tags.carrier == posthog.CARRIER_LOG and signal.kind is SignalKind.LOG


def bridge_mark(*carriers: object) -> str | None:
    """The digest of the rules that the emitting process loaded; "" for a mark without one, `None` for no mark.

    Args:
        carriers: `posthog.carrier` of the item, its span and its resource.
    """
    for carrier in carriers:
        if isinstance(carrier, str) and carrier and carrier != posthog.CARRIER_LOG:
            return carrier.partition(":")[2].strip()
    return None


def final_event(signal: Signal, tags: Tags, cleaner: Cleaner) -> CaptureEvent | None:
    """The event that `signal` is; `None` where an essential part is missing or illegal.

    Such a record is converted like any other tagged one: nothing is lost, and nothing illegal passes.
    """
    uuid = valid_uuid(tags.uuid)
    said = tags.event if isinstance(tags.event, str) else signal.name
    name = clean_text(said)
    distinct_id = tags.distinct_id
    if (
        not uuid
        or not name.strip()
        or cut_bytes(name, posthog.MAX_NAME_BYTES) != name
        or not isinstance(distinct_id, str)
        or person_id(distinct_id) != distinct_id
        or not 0 <= signal.time_ns < 1 << 63
    ):
        return None
    properties: dict[str, JsonValue] = {}
    for key, value in tags.properties.items():
        _put(properties, clean_text(str(key)), value, cleaner)
    _merge(properties, posthog.PERSON_SET, tags.set, cleaner)
    _merge(properties, posthog.PERSON_SET_ONCE, tags.set_once, cleaner)
    _merge(properties, posthog.GROUPS_PROPERTY, tags.groups, cleaner)
    for key, value in (
        (posthog.PERSON_UNSET, tags.unset),
        (posthog.SESSION_PROPERTY, tags.session_id),
        (posthog.WINDOW_PROPERTY, tags.window_id),
        (posthog.PERSON_PROFILE_PROPERTY, tags.person_profile),
        (posthog.TRACE_PROPERTY, signal.trace_id or None),
        (posthog.SPAN_PROPERTY, signal.span_id or None),
    ):
        if value is not None:
            _put(properties, key, value, cleaner)
    return CaptureEvent(name, distinct_id, uuid, signal.time_ns, properties)


def _merge(properties: dict[str, JsonValue], key: str, values: Attributes, cleaner: Cleaner) -> None:
    if not values:
        return
    packed = properties.get(key)
    merged: dict[str, JsonValue] = dict(packed) if isinstance(packed, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for name, value in values.items():
        _put(merged, clean_text(name), value, cleaner)
    properties[key] = merged


def _put(properties: dict[str, JsonValue], key: str, value: object, cleaner: Cleaner) -> None:
    # `null` is a value here: the process wrote it on purpose.
    cleaned = None if value is None else cleaner.value(value, key)
    cleaner.weight += len(key) + 4
    if cleaned is not ABSENT:
        properties[key] = cleaned
