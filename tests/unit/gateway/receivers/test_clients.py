"""OpenTelemetry's own Python exporters as clients, over both transports."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_posthog.gateway.decode.request import decode_logs, decode_traces
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind, Inbound
from otel_posthog.gateway.receivers.stray_metrics import MESSAGE
from tests.unit.gateway.receivers.rig import FakeIntake, Rig, Start, tokens

EXPORTERS: dict[str, dict[str, Any]] = {
    "http": {"traces": HttpSpans, "logs": HttpLogs, "metrics": HttpMetrics},
    "grpc": {"traces": GrpcSpans, "logs": GrpcLogs, "metrics": GrpcMetrics},
}
OVER = pytest.mark.parametrize("over", ["http", "grpc"])


def exporter(rig: Rig, over: str, signal: str, *, compress: bool = False) -> Any:
    """The official exporter, with a token."""
    make = EXPORTERS[over][signal]
    if over == "http":
        compression: Any = Compression.Gzip if compress else Compression.NoCompression
        headers = {"authorization": "Bearer s3cret"}
        return make(f"http://127.0.0.1:{rig.http}/v1/{signal}", headers=headers, compression=compression)
    compression = grpc.Compression.Gzip if compress else grpc.Compression.NoCompression
    headers = (("authorization", "Bearer s3cret"),)
    return make(f"http://127.0.0.1:{rig.grpc}", insecure=True, headers=headers, compression=compression)


def send(exporter: Any, signal: str) -> None:
    """One span, or one log record, or one measurement."""
    if signal == "traces":
        spans = TracerProvider()
        spans.add_span_processor(SimpleSpanProcessor(exporter))
        with spans.get_tracer("test").start_as_current_span("checkout", attributes={"posthog.event": "paid"}):
            pass
        spans.shutdown()
    elif signal == "logs":
        logs = LoggerProvider()
        logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        logs.get_logger("test").emit(LogRecord(body="paid", attributes={"posthog.event": "paid"}))
        logs.shutdown()
    else:
        metrics = MeterProvider([PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))])
        metrics.get_meter("test").create_counter("paid").add(1)
        metrics.force_flush()
        metrics.shutdown()


@OVER
@pytest.mark.parametrize("signal", ["traces", "logs"])
@pytest.mark.parametrize("compress", [False, True])
def test_what_they_send_arrives(start: Start, over: str, signal: str, compress: bool) -> None:
    """Readable by our decoder, compressed or not."""
    rig = start(None, tokens(ada="s3cret"))
    send(exporter(rig, over, signal, compress=compress), signal)
    [inbound] = rig.intake.seen
    assert (inbound.kind, inbound.caller, inbound.transport, inbound.gzip) == (signal, "ada", over, compress)
    body = gzip.decompress(inbound.body) if compress else inbound.body
    decode: Callable[..., Any] = decode_traces if signal == "traces" else decode_logs
    [signal_read] = decode(body, content_type=inbound.media_type)
    assert signal_read.attributes == {"posthog.event": "paid"}


@OVER
def test_they_come_again_after_a_fault_of_ours(start: Start, over: str, caplog: pytest.LogCaptureFixture) -> None:
    """What failed is sent once more as it was, and taken."""
    rig = start(FakeIntake(), tokens(ada="s3cret"))
    answers: list[Answer | BaseException] = [OK, ValueError("a fault")]

    def answer(_: Inbound) -> Answer | BaseException:
        return answers.pop()

    rig.intake.answer = answer
    send(exporter(rig, over, "traces"), "traces")
    assert (len(rig.intake.seen), answers) == (2, [])
    assert len({inbound.body for inbound in rig.intake.seen}) == 1


@OVER
def test_they_do_not_come_again_with_what_is_hopeless(
    start: Start, over: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each kind of permanent answer is heard as one."""
    rig = start(FakeIntake(), tokens(ada="s3cret"))
    kinds = [AnswerKind.BAD_DATA, AnswerKind.FORBIDDEN]
    if over == "http":
        # Its gRPC exporter takes RESOURCE_EXHAUSTED for retryable, with or without RetryInfo.
        kinds.append(AnswerKind.TOO_LARGE)
    for kind in kinds:
        rig.intake.seen.clear()
        rig.intake.answer = Answer(kind, message="hopeless")
        send(exporter(rig, over, "traces"), "traces")
        assert len(rig.intake.seen) == 1
    assert "Failed to export" in caplog.text


@OVER
def test_metrics_are_taken_and_rejected(start: Start, over: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is retried, nothing is an error on their side."""
    rig = start(None, tokens(ada="s3cret"))
    caplog.clear()
    send(exporter(rig, over, "metrics"), "metrics")
    assert rig.books.count("receiver_requests", kind="metrics", answer="ok") == 1
    assert [record.name for record in caplog.records if "export" in record.getMessage().lower()] == []
    assert MESSAGE in caplog.text
