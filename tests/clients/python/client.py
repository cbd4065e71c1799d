"""The story of the clients (../README.md), told with the official SDK for Python and its stock OTLP exporters.

`OTEL_EXPORTER_OTLP_PROTOCOL` chooses between `grpc` and `http/protobuf`. Nothing of otel-posthog is loaded.
"""

from __future__ import annotations

import json
import logging
import os

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

ADA = "python-ada"


def charge() -> None:
    """Fails, as cards do."""
    raise ValueError("card declined")


def main() -> None:
    """Tells the story and prints what was sent."""
    logging.basicConfig()
    resource = Resource.create({"service.name": "shop-python", "service.version": "1.2.3"})
    traces = TracerProvider(resource=resource)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    logs = LoggerProvider(resource=resource)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
    tracer, logger = traces.get_tracer("shop", "9"), logs.get_logger("shop", "9")
    with tracer.start_as_current_span("checkout", kind=SpanKind.SERVER) as span:
        span.set_attributes(
            {
                "posthog.event": "order completed",
                "posthog.distinct_id": ADA,
                "posthog.properties.total": 42,
                "posthog.properties.rate": 0.5,
                "posthog.properties.gift": True,
                "posthog.properties.items": ["tea", "cup"],
                "posthog.set.plan": "pro",
                "posthog.groups.company": "acme",
            }
        )
        attributes = {"posthog.event": "receipt sent", "posthog.distinct_id": ADA, "posthog.properties.pages": 2}
        logger.emit(
            LogRecord(
                body="receipt sent",
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                attributes=attributes,
            )
        )
        with tracer.start_as_current_span("charge card", attributes={"posthog.distinct_id": ADA}) as inner:
            try:
                charge()
            except ValueError as error:
                inner.record_exception(error)
                inner.set_status(StatusCode.ERROR, str(error))
        with tracer.start_as_current_span("nobody's business"):
            logger.emit(LogRecord(body="nobody's business"))
    traces.shutdown()
    logs.shutdown()
    context, failed = span.get_span_context(), inner.get_span_context()
    print(
        json.dumps(
            {
                "trace_id": f"{context.trace_id:032x}",
                "span_id": f"{context.span_id:016x}",
                "exception_span_id": f"{failed.span_id:016x}",
            }
        )
    )


if __name__ == "__main__":
    main()
