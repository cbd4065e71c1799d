"""A plain WSGI app that owns its OpenTelemetry set-up. The bridge is one line beside it.

OTEL_EXPORTER_OTLP_ENDPOINT=https://eu.i.posthog.com/i OTEL_EXPORTER_OTLP_TOKEN=phc_… python app.py
"""

from contextlib import suppress
from wsgiref.simple_server import make_server

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import otel_posthog.auto

otel_posthog.auto.install()  # the one line; before the exporter, so that the token reaches it too

trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
tracer = trace.get_tracer("guestbook")


def app(environ, start_response):
    with tracer.start_as_current_span("sign the guestbook") as span:
        visitor = environ["QUERY_STRING"] or "somebody"
        span.set_attribute("posthog.event", "guestbook signed")
        span.set_attribute("posthog.distinct_id", visitor)
        span.set_attribute("posthog.set.name", visitor.title())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"Thank you, {visitor}.\n".encode()]


if __name__ == "__main__":
    with make_server("127.0.0.1", 8000, app) as server:
        print("Sign at http://127.0.0.1:8000/?ada")
        with suppress(KeyboardInterrupt):
            server.serve_forever()
