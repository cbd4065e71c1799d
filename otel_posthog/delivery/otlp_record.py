"""CaptureEvent -> OTLP LogRecord, so that `convert/carrier.py` at the gateway rebuilds exactly the same event.

| Event | Log record |
| --- | --- |
| name | `event_name` and `posthog.event` |
| time | `time_unix_nano` and `observed_time_unix_nano` |
| distinct id, uuid | `posthog.distinct_id`, `posthog.uuid` |
| property | `posthog.properties.<name>` |
| `$set`, `$set_once`, `$groups` | `posthog.set.<name>`, `posthog.set_once.<name>`, `posthog.groups.<type>` |
| `$unset`, `$session_id`, `$window_id`, `$process_person_profile` | `posthog.unset`, `posthog.session_id`, … |
| `$trace_id`, `$span_id` | trace id and span id of the record |
| what is left | one JSON object in `posthog.properties_json` |

`posthog.carrier` = `log` says that this is a finished event: nothing is to be added to it.

Left for the JSON object is what a typed attribute cannot bring back exactly (null, nested values, empty lists and maps,
integers beyond 64 bits, strings that are no UTF-8), and what comes after the first 100 attributes: SDKs and Collectors
cut at 128, and cutting would change the event.

Imports protobuf, so it is imported only where a Collector is the destination.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import SEVERITY_NUMBER_INFO, LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otel_posthog.delivery.encoding import Dumps
from otel_posthog.model import CaptureEvent
from otel_posthog.semconv import posthog
from otel_posthog.version import __version__

MAX_ATTRIBUTES: Final = 100

_NESTED: Final = {"$set": posthog.SET, "$set_once": posthog.SET_ONCE, "$groups": posthog.GROUPS}
_PLAIN: Final = {"$session_id": posthog.SESSION_ID, "$window_id": posthog.WINDOW_ID}
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}\Z")
_INT64: Final = 2**63


def log_record(event: CaptureEvent, dumps: Dumps) -> bytes:
    """`event` as a serialised LogRecord.

    Args:
        event: What to encode.
        dumps: JSON encoder for what typed attributes cannot hold.

    Raises:
        ValueError: It has no form at all: a time out of range, a name that is no UTF-8 (or TypeError).
    """
    record = LogRecord(
        event_name=event.event,
        time_unix_nano=event.timestamp_ns,
        observed_time_unix_nano=event.timestamp_ns,
        severity_number=SEVERITY_NUMBER_INFO,  # a back-end that filters by severity must not see "unspecified"
        severity_text="INFO",
    )
    attributes: dict[str, Any] = {
        posthog.EVENT: event.event,
        posthog.DISTINCT_ID: event.distinct_id,
        posthog.UUID: event.uuid,
        posthog.CARRIER: posthog.CARRIER_LOG,
    }
    packed: dict[str, Any] = {}
    for name, value in event.properties.items():
        if name == "$trace_id" and isinstance(value, str) and _TRACE_ID.match(value):
            record.trace_id = bytes.fromhex(value)
        elif name == "$span_id" and isinstance(value, str) and _SPAN_ID.match(value):
            record.span_id = bytes.fromhex(value)
        else:
            flat = _flat(name, value)
            if flat is None or len(attributes) + len(flat) > MAX_ATTRIBUTES:
                packed[name] = value
            else:
                attributes.update(flat)
    if packed:
        attributes[posthog.PROPERTIES_JSON] = dumps(packed).decode()
    record.attributes.extend(KeyValue(key=key, value=any_value(value)) for key, value in attributes.items())
    return record.SerializeToString()


def _flat(name: str, value: Any) -> dict[str, Any] | None:
    """The attributes that bring back exactly this property; `None` where there are none."""
    if name in _NESTED:
        members = cast("dict[Any, Any]", value) if type(value) is dict else {}
        if members and all(_plain_key(key) and _exact(member) for key, member in members.items()):
            return {f"{_NESTED[name]}{key}": member for key, member in members.items()}
        return None
    if name in _PLAIN:
        return {_PLAIN[name]: value} if type(value) is str and _exact(value) else None
    if name == "$process_person_profile":
        return {posthog.PROCESS_PERSON_PROFILE: value} if type(value) is bool else None
    if name == "$unset":
        names = cast("list[Any]", value) if type(value) is list else []
        return {posthog.UNSET: value} if all(type(item) is str for item in names) and _exact(value) else None
    return {f"{posthog.PROPERTIES}{name}": value} if _plain_key(name) and _exact(value) else None


def _plain_key(key: object) -> bool:
    return type(key) is str and bool(key) and _utf8(key)


def _utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _exact(value: Any) -> bool:
    """Whether a typed attribute brings `value` back as it is."""
    kind = cast("type[object]", type(value))
    if kind is list:
        return bool(value) and all(type(item) is not list and _exact(item) for item in cast("list[Any]", value))
    if kind is str:
        return _utf8(value)
    if kind is bool:
        return True
    if kind is int:
        return -_INT64 <= value < _INT64
    return kind is float and math.isfinite(value)


def any_value(value: Any) -> AnyValue:
    """`value` as an AnyValue; what is no scalar and no list becomes text."""
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, (list, tuple)):
        items = cast("list[Any]", value)
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in items]))
    return AnyValue(string_value=str(value))


def resource_bytes(attributes: Mapping[str, object]) -> bytes:
    """A serialised Resource."""
    pairs = [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]
    return Resource(attributes=pairs).SerializeToString()


def scope_bytes() -> bytes:
    """The serialised InstrumentationScope of this package."""
    return InstrumentationScope(name="otel-posthog", version=__version__).SerializeToString()
