"""PostHog's own AI processor beside ours: each AI span goes one way."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.sdk.processor import PostHogSpanProcessor

RULES = """
rules:
  - name: everything
    match: {kind: span}
    capture: "span {name}"
"""


@pytest.fixture(name="posthog_ai")
def ai_endpoint() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that takes OTLP; its address, and (path, span name) of what arrived."""
    arrived: list[tuple[str, str]] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            raw = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
                arrived.extend((self.path, span.name) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", arrived
    server.shutdown()
    thread.join()
    server.server_close()


def test_ai_spans_go_to_posthog_s_processor_alone(
    emulator: Any, bridge: Any, posthog_ai: tuple[str, list[tuple[str, str]]], tmp_path: Path
) -> None:
    """A rule that matches every span converts no AI span; the processor of `posthog.ai.otel` exports no other."""
    from posthog.ai.otel import PostHogSpanProcessor as Theirs

    url, arrived = posthog_ai
    (tmp_path / "rules.yaml").write_text(RULES)
    running = bridge(config=str(tmp_path / "rules.yaml"))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Theirs(api_key="phc_the_shop", host=url))
    provider.add_span_processor(PostHogSpanProcessor(runtime=running.runtime))
    tracer = provider.get_tracer("t")
    for name, attributes in (
        ("chat", {"gen_ai.request.model": "m"}),
        ("llm.call", {}),
        ("step", {"ai.operationId": "x"}),
        ("flow", {"traceloop.entity.name": "x"}),
        ("checkout", {"shop.total": 12.5}),
    ):
        tracer.start_span(name, attributes=attributes).end()
    assert provider.force_flush(60_000)
    running.flush()
    provider.shutdown()
    assert sorted(arrived) == [("/i/v0/ai/otel", name) for name in ("chat", "flow", "llm.call", "step")]
    assert [event["event"] for event in emulator.events()] == ["span checkout"]
