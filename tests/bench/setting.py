"""What both sides work with: the bridge towards the sink, the `posthog` SDK towards the same, and spans."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from otel_posthog.assembly import Runtime, build_runtime
from otel_posthog.config.load import load_settings

TOKEN = "phc_bench0000000000000000000000000000000000000"

RULES = """
default_rules: true
rules:
  - {name: vip, match: {attributes: {shop.vip: true}}, capture: vip order}
  - {name: checkout, match: {name: checkout}, capture: "checkout {shop.step}"}
  - {name: search, match: {name: {glob: "search *"}}, capture: searched}
  - {name: charge, match: {span_kind: client, attributes: {shop.provider: {exists: true}}}, capture: charged}
  - {name: jobs, match: {span_kind: consumer}, capture: job done}
  - {name: logs, match: {kind: log, severity: {gte: error}}, capture: logged}
  - {name: shop scope, match: {scope: shop, status: error}, capture: shop failed}
"""
"""The default set and seven of a shop's own. None matches `QUIET`."""

QUIET = {
    "db.system": "postgresql",
    "db.name": "shop",
    "db.user": "app",
    "db.statement": "SELECT id, name, price FROM product WHERE id = %s",
    "db.operation": "SELECT",
    "net.peer.name": "db.internal",
    "net.peer.port": 5432,
    "thread.id": 140_000,
}
"""An ordinary span: a database query, which is what most spans of a service are."""

REQUEST = {
    "http.request.method": "GET",
    "http.response.status_code": 200,
    "http.route": "/cart/<int:number>",
    "url.scheme": "https",
    "url.path": "/cart/7",
    "server.address": "shop.example",
    "client.address": "203.0.113.9",
    "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}
"""An ordinary server span: what an event with all of its request context is made from."""

TAGS = {
    "posthog.event": "order paid",
    "posthog.distinct_id": "ada",
    "posthog.properties.total": 42.5,
    "posthog.properties.currency": "EUR",
    "posthog.properties.plan": "pro",
}
PROPERTIES = {"total": 42.5, "currency": "EUR", "plan": "pro", "step": 3, "vip": True}


class NullExporter(SpanExporter):
    """Takes everything and does nothing."""

    def export(self, spans: Any) -> SpanExportResult:
        """Nothing."""
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    """A provider with no processor at all."""
    return TracerProvider(
        sampler=sampling.ALWAYS_ON,
        resource=Resource({"service.name": "shop", "service.version": "1.2.3", "deployment.environment.name": "prod"}),
        shutdown_on_exit=False,
    )


def live_spans(
    count: int, attributes: Mapping[str, Any], context: Any = None, kind: SpanKind = SpanKind.CLIENT
) -> list[Any]:
    """Spans that have started, with nobody listening."""
    tracer = provider().get_tracer("opentelemetry.instrumentation.psycopg2")
    return [
        tracer.start_span("SELECT", context=context or trace.set_span_in_context(trace.INVALID_SPAN),
                          kind=kind, attributes=attributes)
        for _ in range(count)
    ]  # fmt: skip


def ended(spans: list[Any]) -> list[ReadableSpan]:
    """The same, ended."""
    for span in spans:
        span.end()
    return spans


def quiet_batch_processor(room: int) -> BatchSpanProcessor:
    """The SDK's processor with a queue that holds a whole round: its thread sleeps while the caller is measured."""
    return BatchSpanProcessor(
        NullExporter(), max_queue_size=4 * room, max_export_batch_size=4 * room, schedule_delay_millis=600_000
    )


@contextmanager
def runtime(url: str, *, rules: str = "", **options: Any) -> Iterator[Runtime]:
    """The bridge in direct mode towards `url`, everything else at its default."""
    with tempfile.TemporaryDirectory() as folder:
        if rules:
            path = Path(folder) / "rules.yaml"
            path.write_text(rules)
            options["config"] = str(path)
        made = build_runtime(load_settings(endpoint=url, token=TOKEN, mode="direct", **options))
        try:
            yield made
        finally:
            made.bridge.shutdown(10)


@contextmanager
def posthog_client(url: str) -> Iterator[Any]:
    """The `posthog` SDK at its defaults, towards `url`."""
    from posthog import Posthog

    client = Posthog(TOKEN, host=url)
    try:
        yield client
    finally:
        client.shutdown()
