"""Spans and log records -> Signals, faster than by the generated messages, and to the same Signals.

What costs is not protobuf's parser but each look from Python into what it parsed: three for an attribute, of which a
span has twenty. Here attributes stay bytes while an item is parsed, and bytes that were seen before in the request are
known: most attributes of a request are the same few (method, scheme, route, status), and keys nearly always.

- Keys are shared strings, which also makes everything behind it faster that looks at the keys of an item.
- A string that is no UTF-8 is mended with U+FFFD and noted; a value nested too deep rejects its item.

`from_protobuf` reads the same telemetry the plain way; `tests/parity/test_prepare.py` compares the two.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from struct import Struct
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from otel_posthog.gateway.decode.decoded import MENDED_TEXT, SPAN_KINDS, STATUS_CODES, Complaints, Ration, at
from otel_posthog.gateway.decode.from_protobuf import TRACE_ID_BYTES, attribute_of, id_of, link_of, parsed, value_of
from otel_posthog.model import AttributeValue, Resource, Scope, Signal, SignalKind

_Pair = tuple[str, AttributeValue]


_UNSET: Final = (STATUS_CODES[0], "")


class UnreadableError(Exception):
    """This item can never be read."""


class LeanReader:
    """Reads the items of one request.

    Args:
        complaints: Told what was mended.
        ration: How many items and span events there may be.
    """

    def __init__(self, complaints: Complaints, ration: Ration) -> None:
        self._complaints = complaints
        self._ration = ration
        self._pair = _Pairs(complaints).__getitem__
        self._statuses: dict[bytes, tuple[str, str]] = {b"": _UNSET}

    def span(self, raw: bytes) -> Any:
        """A span, not yet decoded.

        Raises:
            UnreadableError: It is broken protobuf.
        """
        return _parse(_lean().span, raw)

    def log(self, raw: bytes) -> Any:
        """A log record, as `span`."""
        return _parse(_lean().log, raw)

    def span_head(self, span: Any, resource: Resource, scope: Scope) -> Signal:
        """`span` without attributes and links.

        Raises:
            UnreadableError: It can never be read.
        """
        status_code, status_description = self._status(span.status)
        return Signal(
            SignalKind.SPAN, self._text(span.name), {}, resource, scope,
            id_of(span.trace_id, TRACE_ID_BYTES), id_of(span.span_id), id_of(span.parent_span_id),
            at(SPAN_KINDS, span.kind), span.start, span.end, 0, status_code, status_description,
        )  # fmt: skip

    def log_head(self, record: Any, resource: Resource, scope: Scope) -> Signal:
        """`record` without attributes and body, as `span_head`."""
        time_ns, observed = record.time, record.observed
        return Signal(
            SignalKind.LOG, self._text(record.event_name), {}, resource, scope,
            id_of(record.trace_id, TRACE_ID_BYTES), id_of(record.span_id), "",
            "", 0, time_ns or observed, observed, "", "", record.severity, self._text(record.severity_text),
        )  # fmt: skip

    def span_signals(self, signals: list[Signal], span: Any, resource: Resource, scope: Scope) -> None:
        """Appends `span`, then its span events.

        Raises:
            UnreadableError: It can never be read; nothing was appended.
        """
        trace_id, span_id = id_of(span.trace_id, TRACE_ID_BYTES), id_of(span.span_id)
        parent = span.parent_span_id
        status = span.status
        status_code, status_description = self._status(status) if status else _UNSET
        links, events = span.links, span.events
        owner = Signal(
            SignalKind.SPAN, self._text(span.name), self._attributes(span.attributes), resource, scope,
            trace_id, span_id, id_of(parent) if parent else "",
            at(SPAN_KINDS, span.kind), span.start, span.end, 0, status_code, status_description, 0, "", None, 0, None,
            tuple([link_of(self._parsed(Span.Link, raw)) for raw in links]) if links else (),
        )  # fmt: skip
        if not events:
            signals.append(owner)
            return
        self._ration.take(len(events))
        made = [owner]
        for index, event in enumerate(events):
            made.append(
                Signal(
                    SignalKind.SPAN_EVENT, self._text(event.name), self._attributes(event.attributes), resource, scope,
                    trace_id, span_id, "", "", 0, event.time, 0, "", "", 0, "", None, index, owner,
                )
            )  # fmt: skip
        signals += made

    def log_signals(self, signals: list[Signal], record: Any, resource: Resource, scope: Scope) -> None:
        """Appends the signal of `record`, as `span_signals`."""
        time_ns, observed = record.time, record.observed
        body = record.body
        signals.append(
            Signal(
                SignalKind.LOG, self._text(record.event_name), self._attributes(record.attributes), resource, scope,
                id_of(record.trace_id, TRACE_ID_BYTES), id_of(record.span_id), "",
                "", 0, time_ns or observed, observed, "", "", record.severity, self._text(record.severity_text),
                value_of(self._parsed(AnyValue, body)) if body else None,
            )
        )  # fmt: skip

    def _attributes(self, pairs: Iterable[bytes]) -> dict[str, AttributeValue]:
        """The attributes; the last of several with one key wins."""
        return dict(map(self._pair, pairs))

    def _text(self, raw: bytes) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self._complaints.note(MENDED_TEXT)
            return raw.decode("utf-8", "replace")

    def _status(self, raw: bytes) -> tuple[str, str]:
        found = self._statuses.get(raw)
        if found is None:
            status = self._parsed(Status, raw)
            found = self._statuses[raw] = (at(STATUS_CODES, status.code), status.message)
        return found

    def _parsed(self, message: Any, raw: bytes) -> Any:
        found = parsed(message, raw, self._complaints)
        if found is None:
            raise UnreadableError
        return found


def _parse(message: Any, raw: bytes) -> Any:
    try:
        return message.FromString(raw)
    except DecodeError:
        raise UnreadableError from None


# --- attributes ----------------------------------------------------------------------------------------------------

_KEY_TAG: Final = 0x0A
_VALUE_TAG: Final = 0x12
_STRING, _BOOL, _INT, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
"""Tags within `AnyValue`."""
_MAX_KNOWN: Final = 160
"""Bytes of a pair that is remembered: longer ones hardly come twice."""

_double = Struct("<d").unpack_from


class _Pairs(dict[bytes, _Pair]):
    """The bytes of a `KeyValue` -> its key and value. Only scalars are kept: whoever gets a list may have it alone."""

    def __init__(self, complaints: Complaints) -> None:
        super().__init__()
        self._complaints = complaints
        self._keys: dict[bytes, str] = {}

    def __missing__(self, raw: bytes) -> _Pair:
        pair = self._quick(raw)
        if pair is None:
            message = parsed(KeyValue, raw, self._complaints)
            if message is None:
                raise UnreadableError
            key, value = attribute_of(message)
            pair = self._keys.setdefault(key.encode(), key), value
            if isinstance(value, (list, dict)):
                return pair
        if len(raw) <= _MAX_KNOWN:
            self[raw] = pair
        return pair

    def _quick(self, raw: bytes) -> _Pair | None:
        """What nearly every attribute is: a short key, and a short text or a number; `None` for all else.

        0A <key size> <key> 12 <value size> ( 0A <size> <text> | 10 <bool> | 18 <varint> | 21 <8 bytes> )
        """
        size = len(raw)
        # Lengths of one byte each, and nothing before, between or behind: so `raw[…]` is always within.
        if not 6 <= size < 128 or raw[0] != _KEY_TAG:
            return None
        value = raw[1] + 4
        if value >= size or raw[value - 2] != _VALUE_TAG or value + raw[value - 1] != size:
            return None
        tag = raw[value]
        value += 1
        found: AttributeValue
        try:
            if tag == _STRING:
                if value >= size or value + 1 + raw[value] != size:
                    return None
                found = raw[value + 1 :].decode()
            elif tag in (_INT, _BOOL):
                found = _number(raw, value, size)
                if found is None:
                    return None
                if tag == _BOOL:
                    found = found != 0
            elif tag == _DOUBLE and value + 8 == size:
                found = _double(raw, value)[0]
            else:
                return None
            text = raw[2 : value - 3]
            key = self._keys.get(text)
            if key is None:
                key = self._keys[text] = text.decode()
        except UnicodeDecodeError:
            return None  # mended by the long way
        return key, found


def _number(raw: bytes, start: int, end: int) -> int | None:
    """A varint that is exactly `raw[start:end]`; `None` for none, and for one of more than three bytes."""
    size = end - start
    if not 0 < size <= 3 or raw[end - 1] >= 0x80:
        return None
    low = raw[start]
    if size == 1:
        return low
    high = raw[start + 1]
    if low < 0x80 or (size == 3 and high < 0x80):
        return None
    return low & 0x7F | (high & 0x7F) << 7 | (raw[start + 2] << 14 if size == 3 else 0)


# --- the schema ----------------------------------------------------------------------------------------------------


class _Lean:
    """The messages whose texts and attributes stay bytes."""

    def __init__(self, pool: Any) -> None:
        self.span: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("otel_posthog.Span"))
        self.log: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("otel_posthog.LogRecord"))


@functools.cache
def _lean() -> _Lean:
    field = descriptor_pb2.FieldDescriptorProto
    raw, fixed, number = field.TYPE_BYTES, field.TYPE_FIXED64, field.TYPE_INT32
    file = descriptor_pb2.FileDescriptorProto(name="otel_posthog/lean.proto", package="otel_posthog", syntax="proto3")
    # Numbers as in opentelemetry/proto/trace/v1/trace.proto and logs/v1/logs.proto.
    for message, fields in {
        "Event": (("time", 1, fixed), ("name", 2, raw), ("attributes", 3, raw)),
        "Span": (
            ("trace_id", 1, raw), ("span_id", 2, raw), ("parent_span_id", 4, raw), ("name", 5, raw),
            ("kind", 6, number), ("start", 7, fixed), ("end", 8, fixed), ("attributes", 9, raw),
            ("events", 11, "Event"), ("links", 13, raw), ("status", 15, raw),
        ),
        "LogRecord": (
            ("time", 1, fixed), ("severity", 2, number), ("severity_text", 3, raw), ("body", 5, raw),
            ("attributes", 6, raw), ("trace_id", 9, raw), ("span_id", 10, raw), ("observed", 11, fixed),
            ("event_name", 12, raw),
        ),
    }.items():  # fmt: skip
        made = file.message_type.add(name=message)
        for name, tag, kind in fields:
            of_message = isinstance(kind, str)
            made.field.add(
                name=name,
                number=tag,
                type=field.TYPE_MESSAGE if of_message else kind,
                type_name=f".otel_posthog.{kind}" if of_message else None,
                label=field.LABEL_REPEATED if name in ("attributes", "events", "links") else field.LABEL_OPTIONAL,
            )
    pool: Any = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return _Lean(pool)
