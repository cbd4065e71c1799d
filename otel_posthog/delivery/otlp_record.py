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

Written by hand, not by protobuf's messages: those cost 2 µs for each attribute in Python, and their import as much as
the rest of this package. `tests/unit/delivery/test_wires.py` parses everything with the official messages.

    LogRecord { 1: time fixed64, 2: severity, 3: severity text, 6: KeyValue …, 9: trace id, 10: span id,
                11: observed time fixed64, 12: event name }
    KeyValue  { 1: key, 2: AnyValue }
    AnyValue  { 1: string, 2: bool, 3: int (varint), 4: double, 5: ArrayValue { 1: AnyValue … } }
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Final, cast

from otel_posthog.delivery.encoding import Dumps
from otel_posthog.model import CaptureEvent
from otel_posthog.semconv import posthog
from otel_posthog.version import __version__

MAX_ATTRIBUTES: Final = 100

_NESTED: Final = {"$set": posthog.SET, "$set_once": posthog.SET_ONCE, "$groups": posthog.GROUPS}
_PLAIN: Final = {"$session_id": posthog.SESSION_ID, "$window_id": posthog.WINDOW_ID}
_TYPED: Final[dict[str, tuple[str, type]]] = {
    "$process_person_profile": (posthog.PROCESS_PERSON_PROFILE, bool),
    "$unset": (posthog.UNSET, list),
}
_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}\Z")
_INT64: Final = 2**63
_UINT64: Final = 2**64
_FIXED64: Final = struct.Struct("<Q").pack
_DOUBLE: Final = struct.Struct("<d").pack
_TRUE: Final = b"\x10\x01"
_FALSE: Final = b"\x10\x00"
# INFO: a back-end that filters by severity must not see "unspecified".
_SEVERITY: Final = b"\x10\x09\x1a\x04INFO"
_MAX_KEYS: Final = 2_000
_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def varint(number: int) -> bytes:
    """`number` (0 to 2⁶⁴ − 1) as a protobuf varint."""
    if number < 0x80:
        return _SMALL[number]
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field."""
    if len(content) < 0x80:
        return b"%b%c%b" % (tag, len(content), content)
    return b"%b%b%b" % (tag, varint(len(content)), content)


class LogRecords:
    """Writes events as LogRecords; remembers the bytes of property names, which are few.

    Args:
        dumps: JSON encoder for what typed attributes cannot hold.
    """

    def __init__(self, dumps: Dumps) -> None:
        self._dumps = dumps
        self._names: dict[str, bytes] = {}

    def record(self, event: CaptureEvent, uuid: str) -> bytes:
        """`event` as a serialised LogRecord.

        Args:
            event: What to write.
            uuid: Its uuid in canonical form.

        Raises:
            ValueError: It has no form at all: a time out of range, a name that is no UTF-8 (or TypeError).
        """
        if not 0 <= event.timestamp_ns < _UINT64:
            raise ValueError(f"no OTLP time: {event.timestamp_ns} ns")
        pairs: list[bytes] = [
            self._pair(posthog.EVENT, event.event),
            self._pair(posthog.DISTINCT_ID, event.distinct_id),
            self._pair(posthog.UUID, uuid),
            self._pair(posthog.CARRIER, posthog.CARRIER_LOG),
        ]
        packed: dict[str, Any] = {}
        ids = b""
        names = self._names
        for name, value in event.properties.items():
            prefix = names.get(name)
            if prefix is not None and len(pairs) < MAX_ATTRIBUTES:  # an ordinary property, seen before
                if type(value) is str and len(value) < 0x7E and value.isascii():
                    # Most attributes: both lengths fit a byte, and one formatting does for three fields.
                    pairs.append(b"%b\x12%c\x0a%c%b" % (prefix, len(value) + 2, len(value), value.encode()))
                    continue
                written = exact_value(value)
                if written is None:
                    packed[name] = value
                else:
                    pairs.append(prefix + field(b"\x12", written))
            elif name == "$trace_id" and isinstance(value, str) and _TRACE_ID.match(value):
                ids += b"\x4a\x10" + bytes.fromhex(value)
            elif name == "$span_id" and isinstance(value, str) and _SPAN_ID.match(value):
                ids += b"\x52\x08" + bytes.fromhex(value)
            else:
                found = self._property(name, value)
                if found is None or len(pairs) + len(found) > MAX_ATTRIBUTES:
                    packed[name] = value
                else:
                    pairs += found
        if packed:
            pairs.append(self._pair(posthog.PROPERTIES_JSON, self._dumps(packed).decode()))
        time = _FIXED64(event.timestamp_ns)
        attributes = [b"\x32%b%b" % (varint(len(pair)), pair) for pair in pairs]
        return b"".join(
            (b"\x09", time, _SEVERITY, *attributes, ids, b"\x59", time, field(b"\x62", event.event.encode()))
        )

    def _property(self, name: str, value: Any) -> list[bytes] | None:
        """The attributes that bring back exactly this property; `None` where there are none."""
        if name in _NESTED:
            members = cast("dict[Any, Any]", value) if type(value) is dict else {}
            pairs = [self._exact_pair(_NESTED[name], key, member) for key, member in members.items()]
            return cast("list[bytes]", pairs) if pairs and None not in pairs else None
        if name in _PLAIN or name in _TYPED:
            key, kind = (_PLAIN[name], str) if name in _PLAIN else _TYPED[name]
            if type(value) is not kind or (kind is list and any(type(item) is not str for item in value)):
                return None
            pair = self._exact_pair(key, "", value, whole=True)
        else:
            pair = self._exact_pair(posthog.PROPERTIES, name, value)
            if pair is not None and len(self._names) < _MAX_KEYS:
                self._names[name] = _key(posthog.PROPERTIES + name)
        return None if pair is None else [pair]

    def _exact_pair(self, prefix: str, name: Any, value: Any, *, whole: bool = False) -> bytes | None:
        if not whole and (type(name) is not str or not name):
            return None
        written = exact_value(value)
        try:
            return None if written is None else _key(prefix + name) + field(b"\x12", written)
        except UnicodeEncodeError:
            return None

    def _pair(self, key: str, text: str) -> bytes:
        return _key(key) + field(b"\x12", field(b"\x0a", text.encode()))


def _key(key: str) -> bytes:
    """A KeyValue's first field."""
    return field(b"\x0a", key.encode())


def log_record(event: CaptureEvent, dumps: Dumps) -> bytes:
    """One event as a serialised LogRecord; see `LogRecords.record`."""
    return LogRecords(dumps).record(event, event.uuid)


def exact_value(value: Any) -> bytes | None:
    """`value` as a serialised AnyValue that brings it back as it is; `None` where there is none."""
    kind = cast("type[object]", type(value))
    if kind is str:
        try:
            return field(b"\x0a", value.encode())
        except UnicodeEncodeError:
            return None
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is int:
        if -_INT64 <= value < _INT64:
            return b"\x18" + varint(value if value >= 0 else value + _UINT64)
        return None
    if kind is float:
        return b"\x21" + _DOUBLE(value) if math.isfinite(value) else None
    if kind is not list or not value:
        return None
    items = [None if type(item) is list else exact_value(item) for item in cast("list[Any]", value)]
    return None if None in items else field(b"\x2a", b"".join(field(b"\x0a", item or b"") for item in items))


def any_value(value: Any) -> bytes:
    """`value` as a serialised AnyValue; what has no exact one becomes text."""
    if isinstance(value, tuple):
        value = list(cast("tuple[Any, ...]", value))
    written = exact_value(value)
    return field(b"\x0a", str(value).encode(errors="replace")) if written is None else written


def resource_bytes(attributes: Mapping[str, object]) -> bytes:
    """A serialised Resource."""
    pairs = (_key(key) + field(b"\x12", any_value(value)) for key, value in attributes.items())
    return b"".join(field(b"\x0a", pair) for pair in pairs)


def scope_bytes() -> bytes:
    """The serialised InstrumentationScope of this package."""
    return field(b"\x0a", b"otel-posthog") + field(b"\x12", __version__.encode())
