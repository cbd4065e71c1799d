"""Whatever comes in, the decoders answer: with signals, with counts, or with a SignalError."""

import base64
import json
import re
from contextlib import suppress
from typing import Any

from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Decoded
from otel_posthog.gateway.decode.from_json import decode_logs_json, decode_traces_json
from otel_posthog.gateway.decode.from_protobuf import decode_logs_protobuf, decode_traces_protobuf

TEXT = st.text(max_size=8)
UINT64 = st.one_of(st.just(0), st.integers(0, 2**64 - 1))


@st.composite
def key_values(draw: st.DrawFn, values: st.SearchStrategy[AnyValue]) -> KeyValue:
    """An attribute, with few keys, so that some repeat; some without a value."""
    key = draw(st.sampled_from(["", "a", "b", "é"]))
    return KeyValue(key=key, value=draw(values)) if draw(st.booleans()) else KeyValue(key=key)


ANY_VALUES = st.recursive(
    st.one_of(
        st.just(AnyValue()),
        TEXT.map(lambda value: AnyValue(string_value=value)),
        st.booleans().map(lambda value: AnyValue(bool_value=value)),
        st.integers(-(2**63), 2**63 - 1).map(lambda value: AnyValue(int_value=value)),
        st.floats().map(lambda value: AnyValue(double_value=value)),
        st.binary(max_size=5).map(lambda value: AnyValue(bytes_value=value)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda values: AnyValue(array_value=ArrayValue(values=values))),
        st.lists(key_values(inner), max_size=3).map(lambda values: AnyValue(kvlist_value=KeyValueList(values=values))),
    ),
    max_leaves=6,
)
ATTRIBUTES = st.lists(key_values(ANY_VALUES), max_size=4)
TRACE_IDS = st.one_of(st.binary(min_size=16, max_size=16), st.just(b"\0" * 16), st.binary(max_size=3))
SPAN_IDS = st.one_of(st.binary(min_size=8, max_size=8), st.just(b"\0" * 8), st.just(b""))
EVENTS = st.builds(Span.Event, name=TEXT, time_unix_nano=UINT64, attributes=ATTRIBUTES)
LINKS = st.builds(Span.Link, trace_id=TRACE_IDS, span_id=SPAN_IDS, attributes=ATTRIBUTES)
SPANS = st.builds(
    Span,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    parent_span_id=SPAN_IDS,
    name=TEXT,
    kind=st.integers(0, 5),
    start_time_unix_nano=UINT64,
    end_time_unix_nano=UINT64,
    attributes=ATTRIBUTES,
    events=st.lists(EVENTS, max_size=2),
    links=st.lists(LINKS, max_size=2),
    status=st.one_of(st.none(), st.builds(Status, code=st.integers(0, 2), message=TEXT)),
    flags=st.integers(0, 3),
    trace_state=TEXT,
)
RECORDS = st.builds(
    LogRecord,
    time_unix_nano=UINT64,
    observed_time_unix_nano=UINT64,
    severity_number=st.integers(0, 24),
    severity_text=TEXT,
    body=st.one_of(st.none(), ANY_VALUES),
    attributes=ATTRIBUTES,
    trace_id=TRACE_IDS,
    span_id=SPAN_IDS,
    event_name=TEXT,
)
RESOURCES = st.one_of(st.none(), st.builds(Resource, attributes=ATTRIBUTES))
SCOPES = st.one_of(st.none(), st.builds(InstrumentationScope, name=TEXT, version=TEXT, attributes=ATTRIBUTES))
TRACES = st.lists(
    st.builds(
        ResourceSpans,
        resource=RESOURCES,
        scope_spans=st.lists(st.builds(ScopeSpans, scope=SCOPES, spans=st.lists(SPANS, max_size=2)), max_size=2),
    ),
    max_size=2,
).map(lambda parts: ExportTraceServiceRequest(resource_spans=parts))
LOGS = st.lists(
    st.builds(
        ResourceLogs,
        resource=RESOURCES,
        scope_logs=st.lists(st.builds(ScopeLogs, scope=SCOPES, log_records=st.lists(RECORDS, max_size=2)), max_size=2),
    ),
    max_size=2,
).map(lambda parts: ExportLogsServiceRequest(resource_logs=parts))


def otlp_json(message: Any) -> bytes:
    """The message in OTLP/JSON: protobuf's own JSON with hex ids and enum numbers."""

    def to_hex(found: re.Match[str]) -> str:
        return f'{found[1]}"{base64.b64decode(found[2]).hex()}"'

    text = json.dumps(MessageToDict(message, use_integers_for_enums=True))
    # Only the ids of spans and log records are keys followed by a colon; text of a user has escaped quotes.
    return re.sub(r'((?<!\\)"(?:traceId|spanId|parentSpanId)": )"([^"]*)"', to_hex, text).encode()


@given(TRACES)
def test_traces_are_equal_in_both_encodings(request: ExportTraceServiceRequest) -> None:
    """A traces request gives equal Signals in protobuf and in OTLP/JSON."""
    by_protobuf = decode_traces_protobuf(request.SerializeToString())
    by_json = decode_traces_json(otlp_json(request))

    # NaN is not equal to itself: the text of the whole is compared too.
    assert repr(by_json) == repr(by_protobuf)
    assert by_protobuf.rejected == 0


@given(LOGS)
def test_logs_are_equal_in_both_encodings(request: ExportLogsServiceRequest) -> None:
    """A logs request gives equal Signals in protobuf and in OTLP/JSON."""
    assert repr(decode_logs_json(otlp_json(request))) == repr(decode_logs_protobuf(request.SerializeToString()))


@given(TRACES, st.data())
def test_damaged_protobuf(request: ExportTraceServiceRequest, data: st.DataObject) -> None:
    """Damage anywhere gives signals, counts or a SignalError, never another exception."""
    body = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(0, 3))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    for decoder in (decode_traces_protobuf, decode_logs_protobuf):
        with suppress(SignalError):
            assert isinstance(decoder(bytes(body)), Decoded)


JSON_KEYS = (
    "resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "key", "value", "stringValue",
    "intValue", "arrayValue", "values", "kvlistValue", "name", "traceId", "spanId", "kind", "status", "code",
    "events", "links", "timeUnixNano", "body",
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(JSON_KEYS),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=15,
)


@given(
    st.one_of(
        JSON, st.lists(JSON, max_size=3).map(lambda spans: {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    )
)
def test_any_json(document: Any) -> None:
    """Any JSON document gives signals, counts or a SignalError, never another exception."""
    with suppress(SignalError):
        result = decode_traces_json(json.dumps(document).encode())
        assert isinstance(result, Decoded)
