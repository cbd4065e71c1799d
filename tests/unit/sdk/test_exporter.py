"""The reduced way in: exporters behind the SDK's own batch processors."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_posthog.sdk.exporter import PostHogLogRecordExporter, PostHogSpanExporter


def test_spans_and_logs_become_events(app: Any) -> None:
    """Tagged items and exceptions, through batch processors."""
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(BatchSpanProcessor(PostHogSpanExporter(runtime=app.runtime)))
    logger_provider = LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(BatchLogRecordProcessor(PostHogLogRecordExporter(runtime=app.runtime)))
    with pytest.raises(ValueError), tracer_provider.get_tracer("x").start_as_current_span("x") as span:
        span.set_attributes({"posthog.event": "paid", "user.id": "u1"})
        raise ValueError("x")
    logger_provider.get_logger("x").emit(body="x", attributes={"posthog.event": "line"})
    logger_provider.get_logger("otel_posthog.x").emit(body="x", attributes={"posthog.event": "ours"})
    tracer_provider.force_flush()
    logger_provider.force_flush()
    assert sorted(event.event for event in app.settle()) == ["$exception", "line", "paid"]
    tracer_provider.shutdown()
    logger_provider.shutdown()


def test_a_full_buffer_is_a_failure_and_counted(build: Any) -> None:
    """FAILURE is never silent: what did not fit is in the books."""
    app = build(capacity=0)
    exporter = PostHogSpanExporter(runtime=app.runtime)
    span = app.tracer_provider.get_tracer("x").start_span("x")
    span.end()
    assert exporter.export([span._readable_span()]) is SpanExportResult.FAILURE
    assert app.edge.worker.stats().overflowed == 1
    exporter.shutdown()


def test_after_its_end_it_takes_nothing(app: Any) -> None:
    """A late batch is refused."""
    exporter = PostHogSpanExporter(runtime=app.runtime)
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export([]) is SpanExportResult.FAILURE


def test_without_a_gate_they_do_nothing() -> None:
    """No arguments and no environment: the standard configuration must not fail, and nothing is sent."""
    spans, logs = PostHogSpanExporter(), PostHogLogRecordExporter()
    assert isinstance(spans, SpanExporter)
    assert isinstance(logs, LogRecordExporter)
    assert spans.export([]) is SpanExportResult.SUCCESS
    assert logs.export([]) is LogRecordExportResult.SUCCESS
    assert spans.force_flush()
    assert logs.force_flush()
    spans.shutdown()
    logs.shutdown()


def test_keyword_arguments_are_a_gate_of_their_own() -> None:
    """A declarative configuration file gives key and host."""
    exporter = PostHogSpanExporter(api_key="phc_abcdefghijkl", host="https://eu.i.posthog.com")
    assert exporter._intake.edge is not None
    assert "phc_abcdefghijkl" not in repr(vars(exporter))
    exporter.shutdown(timeout_millis=100)
