"""OTLP bodies become Signals: content types, envelopes, and one whole example in both encodings."""

import json

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Decoded
from otel_posthog.gateway.decode.request import JSON, PROTOBUF, decode, decode_logs, decode_traces
from otel_posthog.model import Link, Resource, Scope, Signal, SignalKind

TRACE_ID, SPAN_ID, PARENT_ID = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174", "eee19b7ec3c1b173"

RESOURCE = Resource({"service.name": "shop"})
SCOPE = Scope("shop.http", "1.2", {"s": True})
SPAN = Signal(
    kind=SignalKind.SPAN,
    name="POST /checkout",
    attributes={
        "text": "é",
        "int": -(2**63),
        "double": 1.5,
        "nan": None,
        "bool": False,
        "bytes": b"\x00\xff",
        "list": ["a", 1, None, [2.5]],
        "map": {"a": {"b": True}, "": None},
        "empty": "",
        "none": None,
        "twice": "last",
    },
    resource=RESOURCE,
    scope=SCOPE,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    parent_span_id=PARENT_ID,
    span_kind="server",
    start_time_ns=1_700_000_000_000_000_001,
    time_ns=1_700_000_000_123_456_789,
    status_code="error",
    status_description="no money",
    links=(Link("0" * 31 + "1", "0" * 15 + "2", {"l": 1}),),
)
EVENTS = tuple(
    Signal(
        kind=SignalKind.SPAN_EVENT,
        name=name,
        attributes={"n": index},
        resource=RESOURCE,
        scope=SCOPE,
        trace_id=TRACE_ID,
        span_id=SPAN_ID,
        time_ns=1_700_000_000_000_000_010 + index,
        index=index,
        span=SPAN,
    )
    for index, name in enumerate(("paid", "shipped"))
)
LOG = Signal(
    kind=SignalKind.LOG,
    name="order.paid",
    attributes={"a": 1},
    resource=RESOURCE,
    scope=SCOPE,
    trace_id=TRACE_ID,
    span_id=SPAN_ID,
    time_ns=1_700_000_000_000_000_020,
    observed_time_ns=1_700_000_000_000_000_021,
    severity_number=9,
    severity_text="INFO",
    body={"order": 7},
)


def any_value(value: object) -> dict[str, object]:
    """An AnyValue in OTLP/JSON."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, bytes):
        return {"bytesValue": "AP8="}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(item) for item in value]}}
    assert isinstance(value, dict)
    return {"kvlistValue": {"values": pairs(value)}}


def pairs(attributes: object) -> list[dict[str, object]]:
    """Attributes in OTLP/JSON."""
    assert isinstance(attributes, dict)
    return [{"key": key, "value": any_value(value)} for key, value in attributes.items()]


SPAN_JSON = {
    "traceId": TRACE_ID.upper(),
    "spanId": SPAN_ID,
    "parentSpanId": PARENT_ID,
    "name": "POST /checkout",
    "kind": 2,
    "startTimeUnixNano": "1700000000000000001",
    "endTimeUnixNano": "1700000000123456789",
    "attributes": [{"key": "twice", "value": {"stringValue": "first"}}, *pairs(SPAN.attributes)],
    "events": [
        {"name": "paid", "timeUnixNano": "1700000000000000010", "attributes": pairs({"n": 0})},
        {"name": "shipped", "timeUnixNano": 1700000000000000011, "attributes": pairs({"n": 1})},
    ],
    "links": [{"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "2", "attributes": pairs({"l": 1})}],
    "status": {"code": 2, "message": "no money"},
    "flags": 3,
}
LOG_JSON = {
    "timeUnixNano": "1700000000000000020",
    "observedTimeUnixNano": "1700000000000000021",
    "severityNumber": 9,
    "severityText": "INFO",
    "body": any_value({"order": 7}),
    "attributes": pairs({"a": 1}),
    "traceId": TRACE_ID,
    "spanId": SPAN_ID,
    "eventName": "order.paid",
}


def traces(*spans: object) -> dict[str, object]:
    """A traces request in OTLP/JSON."""
    return {"resourceSpans": [envelope("scopeSpans", "spans", spans)]}


def logs(*records: object) -> dict[str, object]:
    """A logs request in OTLP/JSON."""
    return {"resourceLogs": [envelope("scopeLogs", "logRecords", records)]}


def envelope(scopes: str, items: str, members: tuple[object, ...]) -> dict[str, object]:
    """Resource and scope around items."""
    return {
        "resource": {"attributes": pairs(RESOURCE.attributes)},
        scopes: [
            {
                "scope": {"name": SCOPE.name, "version": SCOPE.version, "attributes": pairs(SCOPE.attributes)},
                items: list(members),
            }
        ],
    }


def proto_traces(request: dict[str, object]) -> bytes:
    """The same traces in protobuf, by protobuf's own JSON reader (ids aside, which it takes for base64)."""
    return _proto(ExportTraceServiceRequest(), request)


def proto_logs(request: dict[str, object]) -> bytes:
    """The same logs in protobuf."""
    return _proto(ExportLogsServiceRequest(), request)


def _proto(message: ExportTraceServiceRequest | ExportLogsServiceRequest, request: dict[str, object]) -> bytes:
    import base64
    import re

    from google.protobuf.json_format import Parse

    def to_base64(found: re.Match[str]) -> str:
        return f'{found[1]}"{base64.b64encode(bytes.fromhex(found[2])).decode()}"'

    text = re.sub(r'("(?:traceId|spanId|parentSpanId)": )"([0-9a-fA-F]*)"', to_base64, json.dumps(request))
    Parse(text, message)
    return message.SerializeToString()


def test_traces_json() -> None:
    """A whole span: hex ids in any case, integers as text or numbers, every value type, last of two keys."""
    assert decode_traces(json.dumps(traces(SPAN_JSON)).encode(), content_type=JSON) == [SPAN, *EVENTS]


def test_traces_protobuf() -> None:
    """The same span in protobuf gives equal Signals."""
    assert decode_traces(proto_traces(traces(SPAN_JSON)), content_type=PROTOBUF) == [SPAN, *EVENTS]


def test_logs_json() -> None:
    """A whole log record."""
    assert decode_logs(json.dumps(logs(LOG_JSON)).encode(), content_type=JSON) == [LOG]


def test_logs_protobuf() -> None:
    """The same log record in protobuf gives an equal Signal."""
    assert decode_logs(proto_logs(logs(LOG_JSON)), content_type=PROTOBUF) == [LOG]


def test_span_event_owns_its_span() -> None:
    """A span event's Signal holds the very Signal of its span, not a copy."""
    span, first, second = decode_traces(json.dumps(traces(SPAN_JSON)).encode(), content_type=JSON)

    assert first.span is span
    assert second.span is span


@pytest.mark.parametrize("body", [b"", b"{}", b"  ", b'{"resourceSpans": []}', b'{"resourceSpans": [{}]}'])
def test_empty_json(body: bytes) -> None:
    """Empty requests and envelopes are requests without items."""
    assert decode("traces", body, content_type=JSON) == Decoded()


def test_empty_protobuf() -> None:
    """A body of no bytes is an empty request."""
    assert decode("traces", b"", content_type=PROTOBUF) == decode("logs", b"", content_type=PROTOBUF) == Decoded()


def test_minimal_items() -> None:
    """What is absent has the value of the normal form, in both encodings."""
    span = Signal(SignalKind.SPAN, "", {}, Resource(), Scope(), span_kind="internal", status_code="unset")
    log = Signal(SignalKind.LOG, "", {}, Resource(), Scope())
    bare_span = {"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}
    bare_log = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{}]}]}]}

    assert decode_traces(json.dumps(bare_span).encode(), content_type=JSON) == [span]
    assert decode_traces(proto_traces(bare_span), content_type=PROTOBUF) == [span]
    assert decode_logs(json.dumps(bare_log).encode(), content_type=JSON) == [log]
    assert decode_logs(proto_logs(bare_log), content_type=PROTOBUF) == [log]


def test_zero_ids_are_absent() -> None:
    """All-zero ids mean "no id" in both encodings; so does a wrong length."""
    zero = {"traceId": "0" * 32, "spanId": "0" * 16, "parentSpanId": "0" * 16}
    short = {"traceId": "ab", "spanId": "ab" * 20, "parentSpanId": ""}

    for ids in (zero, short):
        for signal in (
            *decode_traces(json.dumps(traces(ids)).encode(), content_type=JSON),
            *decode_traces(proto_traces(traces(ids)), content_type=PROTOBUF),
        ):
            assert (signal.trace_id, signal.span_id, signal.parent_span_id) == ("", "", "")


def test_log_time_falls_back_to_observed_time() -> None:
    """A log record without a time has the time at which it was observed."""
    record = {"observedTimeUnixNano": "5"}

    for signal in (
        *decode_logs(json.dumps(logs(record)).encode(), content_type=JSON),
        *decode_logs(proto_logs(logs(record)), content_type=PROTOBUF),
    ):
        assert (signal.time_ns, signal.observed_time_ns) == (5, 5)


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json "])
def test_content_type_parameters(content_type: str) -> None:
    """Parameters, case and blanks of a content type do not matter."""
    assert decode_logs(json.dumps(logs(LOG_JSON)).encode(), content_type=content_type) == [LOG]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/grpc", "application/jsonx"])
def test_other_content_types(content_type: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(SignalError, match="is neither application/x-protobuf nor application/json"):
        decode("traces", b"{}", content_type=content_type)
