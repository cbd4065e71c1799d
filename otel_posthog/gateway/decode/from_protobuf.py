"""OTLP protobuf -> Signals, by the generated messages of opentelemetry-proto.

upb refuses a whole request for one invalid UTF-8 string or one value nested too deep, and Collectors do forward such
spans (they do not check). The second, tolerant pass walks the wire format down to the items and parses each alone:

    Export…ServiceRequest { 1: Resource… { 1: Resource, 2: Scope… { 1: InstrumentationScope, 2: item } } }

Traces and logs have the same field numbers, so that one walk serves both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ProtoResource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import (
    MENDED_TEXT,
    SPAN_KINDS,
    STATUS_CODES,
    UNREADABLE,
    UNREADABLE_OWNER,
    Complaints,
    Decoded,
    Ration,
    at,
)
from otel_posthog.gateway.decode.wire import BrokenWireError, children
from otel_posthog.model import AttributeValue, Link, Resource, Scope, Signal, SignalKind

TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
_ZERO_IDS: Final = (bytes(TRACE_ID_BYTES), bytes(SPAN_ID_BYTES))

ItemT = TypeVar("ItemT", Span, LogRecord)
MessageT = TypeVar("MessageT", bound=Message)


def decode_traces_protobuf(body: bytes, ration: Ration | None = None) -> Decoded:
    """Decodes an `ExportTraceServiceRequest`.

    Args:
        body: Its bytes.
        ration: How much of it may be looked at; `None` for all of it.

    Raises:
        SignalError: The bytes are no such message, not even with some spans left out.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        return _salvage(body, Span, _append_span, ration)
    signals: list[Signal] = []
    for resource_spans in request.resource_spans:
        if ration is not None:
            ration.take(1 + len(resource_spans.scope_spans))
        resource = Resource(_attributes(resource_spans.resource.attributes))
        for scope_spans in resource_spans.scope_spans:
            if ration is not None:
                ration.take(len(scope_spans.spans))
            scope = _scope(scope_spans.scope)
            for span in scope_spans.spans:
                if ration is not None:
                    ration.take(len(span.events))
                _append_span(signals, span, resource, scope)
    return Decoded(tuple(signals))


def decode_logs_protobuf(body: bytes, ration: Ration | None = None) -> Decoded:
    """Decodes an `ExportLogsServiceRequest`.

    Args:
        body: Its bytes.
        ration: How much of it may be looked at; `None` for all of it.

    Raises:
        SignalError: The bytes are no such message, not even with some log records left out.
    """
    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError:
        return _salvage(body, LogRecord, _append_log, ration)
    signals: list[Signal] = []
    for resource_logs in request.resource_logs:
        if ration is not None:
            ration.take(1 + len(resource_logs.scope_logs))
        resource = Resource(_attributes(resource_logs.resource.attributes))
        for scope_logs in resource_logs.scope_logs:
            if ration is not None:
                ration.take(len(scope_logs.log_records))
            scope = _scope(scope_logs.scope)
            for record in scope_logs.log_records:
                _append_log(signals, record, resource, scope)
    return Decoded(tuple(signals))


# --- messages to signals -------------------------------------------------------------------------------------------


def _append_span(signals: list[Signal], span: Span, resource: Resource, scope: Scope) -> None:
    """Appends the signals of `span`: itself, then its span events."""
    trace_id = id_of(span.trace_id, TRACE_ID_BYTES)
    span_id = id_of(span.span_id)
    owner = Signal(
        kind=SignalKind.SPAN,
        name=span.name,
        attributes=_attributes(span.attributes),
        resource=resource,
        scope=scope,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=id_of(span.parent_span_id),
        span_kind=at(SPAN_KINDS, span.kind),
        start_time_ns=span.start_time_unix_nano,
        time_ns=span.end_time_unix_nano,
        status_code=at(STATUS_CODES, span.status.code),
        status_description=span.status.message,
        links=tuple(link_of(link) for link in span.links),
    )
    signals.append(owner)
    for index, event in enumerate(span.events):
        signals.append(
            Signal(
                kind=SignalKind.SPAN_EVENT,
                name=event.name,
                attributes=_attributes(event.attributes),
                resource=resource,
                scope=scope,
                trace_id=trace_id,
                span_id=span_id,
                time_ns=event.time_unix_nano,
                index=index,
                span=owner,
            )
        )


def _append_log(signals: list[Signal], record: LogRecord, resource: Resource, scope: Scope) -> None:
    """Appends the signal of `record`."""
    signals.append(
        Signal(
            kind=SignalKind.LOG,
            name=record.event_name,
            attributes=_attributes(record.attributes),
            resource=resource,
            scope=scope,
            trace_id=id_of(record.trace_id, TRACE_ID_BYTES),
            span_id=id_of(record.span_id),
            time_ns=record.time_unix_nano or record.observed_time_unix_nano,
            observed_time_ns=record.observed_time_unix_nano,
            severity_number=record.severity_number,
            severity_text=record.severity_text,
            body=value_of(record.body),
        )
    )


def id_of(raw: bytes, length: int = SPAN_ID_BYTES) -> str:
    """Lower-case hex; "" for absent, all zeros, or a wrong length, all of which mean "no id" (OTLP)."""
    return raw.hex() if len(raw) == length and raw not in _ZERO_IDS else ""


def link_of(link: Span.Link) -> Link:
    """A span link."""
    return Link(id_of(link.trace_id, TRACE_ID_BYTES), id_of(link.span_id), _attributes(link.attributes))


def attribute_of(pair: KeyValue) -> tuple[str, AttributeValue]:
    """An attribute's key and value."""
    return pair.key, value_of(pair.value)


def _scope(scope: InstrumentationScope) -> Scope:
    return Scope(scope.name, scope.version, _attributes(scope.attributes))


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    """The attributes; the last of several with one key wins."""
    return {pair.key: value_of(pair.value) for pair in pairs}


def value_of(value: AnyValue) -> AttributeValue:
    """An attribute's value, or a log record's body."""
    # Most values are strings: asking for one first saves the oneof lookup for them.
    text = value.string_value
    if text:
        return text
    field = value.WhichOneof("value")
    if field is None:
        return None
    if field == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if field == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, field)


# --- the tolerant pass ---------------------------------------------------------------------------------------------


def _salvage(
    body: bytes,
    message: type[ItemT],
    append: Callable[[list[Signal], ItemT, Resource, Scope], None],
    ration: Ration | None,
) -> Decoded:
    signals: list[Signal] = []
    complaints = Complaints()
    take = (ration or Ration(sys.maxsize)).take
    try:
        for resource_items in children(body, 1):
            take()
            resource = resource_from(b"".join(children(resource_items, 1)), complaints)
            for scope_items in children(resource_items, 2):
                take()
                scope = scope_from(b"".join(children(scope_items, 1)), complaints)
                for raw in children(scope_items, 2):
                    take()
                    item = _item_from(message, raw, complaints)
                    if item is None:
                        continue
                    if isinstance(item, Span):
                        take(len(item.events))
                    if resource is None or scope is None:
                        complaints.reject(UNREADABLE_OWNER)
                    else:
                        append(signals, item, resource, scope)
    except BrokenWireError as error:
        raise SignalError(f"the body is not an OTLP protobuf request: {error}") from None
    if not signals and not complaints.rejected:
        raise SignalError("the body is not an OTLP protobuf request: no part of it could be read")
    return complaints.decoded(signals)


def _item_from(message: type[ItemT], raw: bytes, complaints: Complaints) -> ItemT | None:
    """One span or log record; `None` where it can never be read, which is counted."""
    item = parsed(message, raw, complaints)
    if item is None:
        complaints.reject(UNREADABLE["traces" if message is Span else "logs"])
    return item


def resource_from(raw: bytes, complaints: Complaints) -> Resource | None:
    """A resource by its bytes (several occurrences of it, one after the other, merge); `None` where they are broken."""
    message = parsed(ProtoResource, raw, complaints)
    if message is not None:
        return Resource(_attributes(message.attributes))
    attributes = _salvaged_attributes(raw, 1, complaints, "resource")
    return None if attributes is None else Resource(attributes)


def scope_from(raw: bytes, complaints: Complaints) -> Scope | None:
    """A scope by its bytes, as `resource_from`."""
    message = parsed(InstrumentationScope, raw, complaints)
    if message is not None:
        return _scope(message)
    attributes = _salvaged_attributes(raw, 3, complaints, "scope")
    if attributes is None:
        return None
    name, version = ((list(children(raw, field)) or [b""])[-1].decode("utf-8", "replace") for field in (1, 2))
    return Scope(name, version, attributes)


def _salvaged_attributes(
    raw: bytes, field: int, complaints: Complaints, where: str
) -> dict[str, AttributeValue] | None:
    attributes: dict[str, AttributeValue] = {}
    try:
        for raw_pair in children(raw, field):
            pair = parsed(KeyValue, raw_pair, complaints)
            if pair is None:
                complaints.note(f"an attribute of a {where} was left out: a value nested too deep, or broken protobuf")
            else:
                attributes.update(_attributes([pair]))
    except BrokenWireError:
        return None
    return attributes


def parsed(message: type[MessageT], raw: bytes, complaints: Complaints) -> MessageT | None:
    """A message by its bytes, mended where its texts are no UTF-8; `None` where it can never be read."""
    try:
        return message.FromString(raw)
    except DecodeError:
        # Most often it is one string that is no UTF-8.
        from otel_posthog.gateway.decode.mended import mended

        found = mended(message, raw)
        if found is not None:
            complaints.note(MENDED_TEXT)
        return found
