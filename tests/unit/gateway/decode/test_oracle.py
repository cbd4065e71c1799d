"""The official encoder is the oracle: what it writes decodes to what `lane/readable.py` reads from the live objects."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_posthog.gateway.decode.request import PROTOBUF, decode_logs, decode_traces
from otel_posthog.lane.readable import from_log_record, from_span

RESOURCE = Resource({"service.name": "shop", "n": 1, "list": ["a", "b"]})
VALUES: dict[str, Any] = {
    "text": "é",
    "int": 2**62,
    "negative": -1,
    "double": 1.5,
    "bool": True,
    "list": ["a", "b"],
    "numbers": [1, 2],
    "empty": "",
}


@pytest.fixture(name="spans")
def _spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("shop.http", "1.2", attributes={"s": 1})
    other = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1))
    with tracer.start_as_current_span("parent", kind=SpanKind.SERVER, attributes=VALUES, links=[Link(other, {"l": 1})]):
        with tracer.start_as_current_span("child", kind=SpanKind.CLIENT) as child:
            child.add_event("paid", VALUES)
            child.record_exception(ValueError("no"))
            child.set_status(Status(StatusCode.ERROR, "no money"))
        with provider.get_tracer("").start_as_current_span("other") as span:
            span.set_status(StatusCode.OK)
    yield exporter
    provider.shutdown()


def test_spans(spans: InMemorySpanExporter) -> None:
    """Spans, span events, links, status and scopes are equal, Signal for Signal."""
    finished = spans.get_finished_spans()
    found = {
        signal.name: signal
        for signal in decode_traces(encode_spans(finished).SerializeToString(), content_type=PROTOBUF)
    }
    expected = {signal.name: signal for span in finished for signal in from_span(span)}

    assert found == expected
    assert set(found) == {"parent", "child", "other", "paid", "exception"}


@pytest.mark.parametrize("body", ["text", 5, 1.5, True, None, b"\x00", ["a", 1, None], {"a": {"b": [1]}}])
def test_logs(body: Any) -> None:
    """Log records with any body are equal, Signal for Signal."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("shop", "1").emit(
        timestamp=None,
        observed_timestamp=7,
        severity_number=SeverityNumber.WARN2,
        severity_text="WARN",
        body=body,
        attributes=VALUES | {"nested": {"a": [1, None, "x"]}, "bytes": b"\xff"},
        event_name="order.paid",
    )
    finished = exporter.get_finished_logs()
    provider.shutdown()

    assert decode_logs(encode_logs(finished).SerializeToString(), content_type=PROTOBUF) == [
        from_log_record(record) for record in finished
    ]
