"""The Flask app of the request rows, as gunicorn loads it: `BENCH_MODE` says what of ours is in it.

`/cart` asks SQLite five questions through SQLAlchemy, each a child span of its instrumentation; `/empty` has five child
spans around nothing, which no service has: it shows what recording costs where nothing else costs anything.
`/cpu` gives the CPU seconds of this worker so far, all threads.
"""

from __future__ import annotations

import os
import time

import sqlalchemy
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.bench.setting import QUIET, TOKEN, NullExporter


def _provider(mode: str) -> TracerProvider:
    provider = TracerProvider(
        sampler=sampling.ParentBased(sampling.ALWAYS_OFF), resource=Resource({"service.name": "shop"})
    )
    provider.add_span_processor(BatchSpanProcessor(NullExporter()))
    if mode != "without":
        from otel_posthog.assembly import build_runtime
        from otel_posthog.config.load import load_settings
        from otel_posthog.sdk.processor import PostHogSpanProcessor
        from otel_posthog.sdk.sampler import wrap_tracers

        settings = load_settings(endpoint=os.environ["BENCH_URL"], token=TOKEN, mode="direct")
        provider.add_span_processor(PostHogSpanProcessor(runtime=build_runtime(settings)))
        wrap_tracers(provider, mode)
    return provider


def build() -> Flask:
    """The app, instrumented as by `opentelemetry-instrument`."""
    provider = _provider(os.environ["BENCH_MODE"])
    app = Flask("shop")
    tracer = provider.get_tracer("opentelemetry.instrumentation.psycopg2")
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.StaticPool)
    product = sqlalchemy.text("SELECT id, name, price FROM product WHERE id = :id")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, price REAL)"))
        connection.execute(sqlalchemy.text("INSERT INTO product VALUES (7, 'mug', 12.5)"))
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider)

    @app.route("/cart/<int:number>")
    def cart(number: int) -> str:
        with engine.connect() as connection:
            for _ in range(5):
                connection.execute(product, {"id": number}).one()
        return f"cart {number}"

    @app.route("/empty/<int:number>")
    def empty(number: int) -> str:
        for _ in range(5):
            with tracer.start_as_current_span("SELECT", attributes=QUIET):
                pass
        return f"cart {number}"

    @app.route("/cpu")
    def cpu() -> str:
        return str(time.process_time())

    FlaskInstrumentor().instrument_app(app, tracer_provider=provider, excluded_urls="cpu")
    return app
