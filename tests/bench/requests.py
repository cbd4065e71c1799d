"""Rows about a whole request: Flask, five child spans, a trace that is not sampled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider, sampling

from tests.bench.harness import Row, Side, interleaved, per_call
from tests.bench.setting import QUIET, quiet_batch_processor, runtime

REQUESTS = 200


def rows(url: str, rounds: int) -> Iterator[Row]:
    """All of this module."""
    for mode, target, moonshot in (("server", 1.1, 1.05), ("all", 1.5, 1.25)):
        with runtime(url) as made:
            with_us, close = _with_us(made, mode)
            results = interleaved(with_us, _side(_app(_provider())), rounds)
            close()
        yield Row(
            f"Flask request, 5 child spans, unsampled: `{mode}`",
            "the same without us",
            *results,
            target,
            moonshot,
        )


def _with_us(made: Any, mode: str) -> tuple[Side, Any]:
    from otel_posthog.sdk.processor import PostHogSpanProcessor
    from otel_posthog.sdk.sampler import wrap_tracers

    provider = _provider()
    processor = PostHogSpanProcessor(runtime=made)
    provider.add_span_processor(processor)
    wrap_tracers(provider, mode)
    return _side(_app(provider)), processor.shutdown


def _provider() -> TracerProvider:
    provider = TracerProvider(
        sampler=sampling.ParentBased(sampling.ALWAYS_OFF),
        resource=Resource({"service.name": "shop"}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(quiet_batch_processor(REQUESTS))
    return provider


def _app(provider: TracerProvider) -> Any:
    from flask import Flask
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    app = Flask("shop")
    tracer = provider.get_tracer("opentelemetry.instrumentation.psycopg2")

    @app.route("/cart/<int:number>")
    def cart(number: int) -> str:
        for _ in range(5):
            with tracer.start_as_current_span("SELECT", attributes=QUIET):
                pass
        return f"cart {number}"

    FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    return app


def _side(app: Any) -> Side:
    """The app as a WSGI server calls it: no test client, whose own cost would flatter us."""
    from werkzeug.test import EnvironBuilder

    environ = EnvironBuilder("/cart/7", headers={"User-Agent": "Mozilla/5.0 Firefox/140.0"}).get_environ()

    def answer(status: str, headers: Any, exc_info: Any = None) -> Any:
        assert status == "200 OK", status
        return lambda data: None

    def request() -> None:
        body = app(dict(environ), answer)
        assert b"".join(body) == b"cart 7"
        body.close()

    def run() -> None:
        for _ in range(REQUESTS):
            request()

    return lambda: per_call(REQUESTS, run, time.thread_time)
