"""OTLP/HTTP requests as PostHog's telemetry endpoints take them (posthog-wire §4.1 to §4.3).

The body is sniffed, `Content-Type` is not read: protobuf first, then JSON, for logs JSON lines too. One record that
cannot be read refuses the whole request.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from otel_posthog.emulator.inflate import InflateError, InflateLimitError, gunzip, is_gzip
from otel_posthog.emulator.refusal import Refusal
from otel_posthog.semconv.otel import SERVICE_NAME
from otel_posthog.semconv.posthog import POSTHOG_DISTINCT_ID, POSTHOG_SESSION_ID

SIGNALS = ("traces", "logs", "metrics")
_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_HEX_KEYS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})


@dataclass(frozen=True, slots=True)
class TelemetryRow:
    """One span, log record or metric.

    Args:
        signal: `traces`, `logs` or `metrics`.
        name: Span name, event name or body of a log record, metric name.
        service: `service.name`, "" where absent.
        time_ns: Span end, log time else observed time; 0 where unknown.
        trace_id: Lower-case hex, "" where absent.
        span_id: Lower-case hex, "" where absent.
        distinct_id: `posthogDistinctId`, the link to the person.
        session_id: `sessionId`, the link to the replay.
        data: Everything, for people.
    """

    signal: str
    name: str
    service: str
    time_ns: int
    trace_id: str = ""
    span_id: str = ""
    distinct_id: str = ""
    session_id: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


def decode(signal: str, body: bytes, *, limit: int) -> list[TelemetryRow]:
    """Rows of one request.

    Args:
        signal: `traces`, `logs` or `metrics`.
        body: As sent.
        limit: Bytes after decompression.

    Raises:
        Refusal: 400 or 413.
    """
    if is_gzip(body):
        try:
            body = gunzip(body, limit)
        except InflateLimitError:
            raise _refusal(413, "payload_too_large", "Decompressed request body exceeds limit") from None
        except InflateError as error:
            raise _refusal(400, "undecodable_body", f"Failed to decompress gzip request body: {error}") from None
    if len(body) > limit:
        raise _refusal(413, "payload_too_large", "Request body exceeds limit")
    request = _message(signal, body)
    rows = {"traces": _spans, "logs": _logs, "metrics": _metrics}[signal]
    return list(rows(request))


def _refusal(status: int, reason: str, text: str) -> Refusal:
    return Refusal(status, reason, text)


def _message(signal: str, body: bytes) -> Any:
    # protobuf's generated code is heavy and untyped, and only OTLP requests need it
    from google.protobuf.message import DecodeError

    kind = _request_type(signal)
    message = kind()
    try:
        message.ParseFromString(body)
        return message
    except DecodeError:
        pass
    try:
        documents = _json_documents(body, lines=signal == "logs")
        return _from_json(kind, documents)
    except ValueError as error:
        raise _refusal(400, "undecodable_body", f"Failed to decode request as protobuf or JSON: {error}") from None


def _request_type(signal: str) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        return ExportTraceServiceRequest
    if signal == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        return ExportLogsServiceRequest
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    return ExportMetricsServiceRequest


def _json_documents(body: bytes, *, lines: bool) -> list[Any]:
    text = body.decode("utf-8")
    try:
        return [json.loads(text)]
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:
        if not lines:
            raise
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _from_json(kind: Any, documents: list[Any]) -> Any:
    from google.protobuf import json_format

    merged = kind()
    for document in documents:
        if not isinstance(document, dict):
            raise ValueError("a request must be an object")
        part = kind()
        try:
            json_format.ParseDict(_base64_ids(document), part, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ValueError(str(error)) from None
        merged.MergeFrom(part)
    return merged


def _base64_ids(value: Any) -> Any:
    """OTLP/JSON writes ids in hex where protobuf's JSON reader wants base64."""
    if isinstance(value, list):
        return [_base64_ids(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    out: dict[str, Any] = {}
    for key, item in cast("dict[str, Any]", value).items():
        if key in _HEX_KEYS and isinstance(item, str):
            try:
                out[key] = base64.b64encode(binascii.unhexlify(item)).decode()
            except binascii.Error:
                raise ValueError(f"`{key}` is not hex") from None
        else:
            out[key] = _base64_ids(item)
    return out


def _spans(request: Any) -> Iterator[TelemetryRow]:
    for group in request.resource_spans:
        resource = attributes_of(group.resource.attributes)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                attributes = attributes_of(span.attributes)
                data: dict[str, Any] = {
                    "name": span.name,
                    "kind": _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else str(span.kind),
                    "parent_span_id": _hex(span.parent_span_id, 8, "parent_span_id"),
                    "start_ns": span.start_time_unix_nano,
                    "end_ns": span.end_time_unix_nano,
                    "status": {"code": span.status.code, "message": span.status.message},
                    "attributes": attributes,
                    "events": [
                        {
                            "name": event.name,
                            "time_ns": event.time_unix_nano,
                            "attributes": attributes_of(event.attributes),
                        }
                        for event in span.events
                    ],
                    "links": [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links],
                    "scope": scoped.scope.name,
                    "resource": resource,
                }
                yield TelemetryRow(
                    signal="traces",
                    name=span.name,
                    service=_text(resource.get(SERVICE_NAME)),
                    time_ns=_sqlite_integer(span.end_time_unix_nano),
                    trace_id=_hex(span.trace_id, 16, "trace_id"),
                    span_id=_hex(span.span_id, 8, "span_id"),
                    data=data,
                    **_links(attributes, resource),
                )


def _logs(request: Any) -> Iterator[TelemetryRow]:
    for group in request.resource_logs:
        resource = attributes_of(group.resource.attributes)
        for scoped in group.scope_logs:
            for record in scoped.log_records:
                attributes = attributes_of(record.attributes)
                body = _value(record.body)
                event_name = record.event_name or _text(attributes.get("event.name"))
                data = {
                    "event_name": event_name,
                    "body": body,
                    "severity": record.severity_text or str(record.severity_number or ""),
                    "time_ns": record.time_unix_nano,
                    "observed_ns": record.observed_time_unix_nano,
                    "attributes": attributes,
                    "scope": scoped.scope.name,
                    "resource": resource,
                }
                yield TelemetryRow(
                    signal="logs",
                    name=event_name or (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)),
                    service=_text(resource.get(SERVICE_NAME)),
                    time_ns=_sqlite_integer(record.time_unix_nano or record.observed_time_unix_nano),
                    trace_id=_hex(record.trace_id, 16, "trace_id"),
                    span_id=_hex(record.span_id, 8, "span_id"),
                    data=data,
                    **_links(attributes, resource),
                )


def _metrics(request: Any) -> Iterator[TelemetryRow]:
    for group in request.resource_metrics:
        resource = attributes_of(group.resource.attributes)
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data") or ""
                points: list[Any] = list(getattr(metric, kind).data_points) if kind else []
                data: dict[str, Any] = {"unit": metric.unit, "type": kind, "points": len(points), "resource": resource}
                times = [point.time_unix_nano for point in points]
                yield TelemetryRow(
                    signal="metrics",
                    name=metric.name,
                    service=_text(resource.get(SERVICE_NAME)),
                    time_ns=_sqlite_integer(max(times, default=0)),
                    data=data,
                )


def attributes_of(pairs: Iterable[Any]) -> dict[str, Any]:
    """OTLP key-values as a plain mapping; bytes as hex."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    if kind == "double_value" and not -1e308 < value.double_value < 1e308:
        return str(value.double_value)  # JSON has no NaN and no Infinity
    return getattr(value, kind)


def _links(attributes: dict[str, Any], resource: dict[str, Any]) -> dict[str, str]:
    return {
        name: _text(attributes.get(key, resource.get(key)))
        for name, key in (("distinct_id", POSTHOG_DISTINCT_ID), ("session_id", POSTHOG_SESSION_ID))
    }


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _hex(value: bytes, size: int, name: str) -> str:
    if len(value) not in {0, size}:
        raise _refusal(400, "invalid_record", f"invalid {name}: {len(value)} bytes, not {size}")
    return value.hex()


def _sqlite_integer(nanos: int) -> int:
    return min(nanos, 2**63 - 1)
