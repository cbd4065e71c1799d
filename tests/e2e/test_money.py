"""Real Flask and FastAPI apps against a local PostHog: nothing lost, nothing doubled, nobody else's, nothing leaked."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.emulator import Emulator, Fault
from otel_posthog.sdk.processor import PostHogSpanProcessor

PASSWORD = "hunter2"


@dataclass
class Shop:
    """The providers of a service, one line of ours beside them, and the PostHog that they feed."""

    emulator: Emulator
    processor: PostHogSpanProcessor
    traces: TracerProvider
    logs: LoggerProvider

    @property
    def tracer(self) -> trace.Tracer:
        """The app's."""
        return self.traces.get_tracer("shop")

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What arrived, everything delivered; of these names, where any are given."""
        assert self.processor.force_flush(20_000)
        return [event for event in self.emulator.events() if not names or event["event"] in names]

    def logger(self, name: str) -> logging.Logger:
        """A stdlib logger whose records reach the LoggerProvider."""
        logger = logging.getLogger(name)
        logger.handlers = [LoggingHandler(logger_provider=self.logs)]
        logger.propagate = False
        return logger


@pytest.fixture(name="shop")
def shop_with_emulator() -> Iterator[Shop]:
    """Direct mode, everything real from the span to SQLite."""
    with Emulator() as emulator:
        processor = PostHogSpanProcessor(
            api_key="phc_test", host=emulator.url, mode="direct", flush_interval=0.05, retry_initial=0.05
        )
        resource = Resource({"service.name": "shop"})
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(processor)
        logs.add_log_record_processor(processor.for_logs())
        yield Shop(emulator, processor, traces, logs)
        traces.shutdown()
        logs.shutdown()


# --- Flask -----------------------------------------------------------------------------------------------------------


@pytest.fixture(name="flask_client")
def flask_app(shop: Shop) -> Any:
    """A shop that knows nothing of PostHog but the names of attributes."""
    import flask
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    app = flask.Flask("shop.flask")
    FlaskInstrumentor().instrument_app(app, tracer_provider=shop.traces)
    shop.logger("shop.flask")

    @app.get("/buy/<user>")
    def buy(user: str) -> str:
        with shop.tracer.start_as_current_span("charge", attributes={"posthog.event": "paid"}):
            pass
        trace.get_current_span().set_attribute("user.id", user)  # known last
        return "ok"

    @app.get("/boom")
    def boom() -> str:
        with shop.tracer.start_as_current_span("view"), shop.tracer.start_as_current_span("query"):
            raise ConnectionError(f"cannot reach postgres://shop:{PASSWORD}@db:5432/shop")

    @app.get("/abort/<int:status>")
    def abort(status: int) -> str:
        with shop.tracer.start_as_current_span("view"):
            flask.abort(status)

    return app.test_client


def test_each_sale_is_the_buyer_s_under_load_and_faults(shop: Shop, flask_client: Callable[[], Any]) -> None:
    """200 buyers in 8 threads, identity known last, a third of the answers 503 and some lost: 200 sales, one each."""
    shop.emulator.script(
        Fault(action="status", status=503, probability=0.3), Fault(action="lose_answer", probability=0.1), seed=7
    )

    def buy(number: int) -> int:
        return flask_client().get(f"/buy/user-{number}").status_code

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(buy, range(200))) == {200}
    sales = Counter(event["distinct_id"] for event in shop.events("paid"))
    assert sales == Counter(f"user-{number}" for number in range(200))
    shop.emulator.script()


def test_a_500_is_one_issue_and_a_404_none(shop: Shop, flask_client: Callable[[], Any]) -> None:
    """Nested spans, server span and Flask's own log: one. Answers that the app chose: none, unless they are 500."""
    client = flask_client()
    statuses = [
        client.get(path).status_code for path in ("/boom", "/abort/404", "/abort/401", "/nowhere", "/abort/503")
    ]
    assert statuses == [500, 404, 401, 404, 503]
    caught = [event["properties"]["$exception_list"][0] for event in shop.events("$exception")]
    assert [(one["type"], one["mechanism"]["handled"]) for one in caught] == [
        ("ConnectionError", False),
        ("ServiceUnavailable", True),
    ]
    assert caught[0]["value"] == "cannot reach postgres://***@db:5432/shop"
    assert [frame["filename"] for frame in caught[0]["stacktrace"]["frames"]][:1] == ["flask/app.py"]


def test_nothing_that_was_not_named_leaves(shop: Shop, flask_client: Callable[[], Any]) -> None:
    """No query, cookie, header, address, or password is in anything that arrives."""
    client = flask_client()
    secret = {"Authorization": f"Bearer {PASSWORD}", "Cookie": f"session={PASSWORD}", "X-Api-Key": PASSWORD}
    client.get(f"/buy/ann?token={PASSWORD}&email=ann@example.com", headers=secret)
    client.get(f"/boom?token={PASSWORD}", headers=secret)
    sent = json.dumps(shop.events())
    assert PASSWORD not in sent
    assert "ann@example.com" not in sent
    assert "127.0.0.1" not in sent


# --- FastAPI ---------------------------------------------------------------------------------------------------------


@pytest.fixture(name="fetch")
def fastapi_app(shop: Shop) -> Iterator[Callable[[str], int]]:
    """An async shop behind a real server; gives a function that fetches a path and returns the status."""
    import asyncio

    import fastapi
    import uvicorn
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    app = fastapi.FastAPI()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=shop.traces)
    shop.logger("uvicorn.error")

    async def buy(user: str, tasks: fastapi.BackgroundTasks) -> str:
        def mail() -> None:
            with shop.tracer.start_as_current_span("mail", attributes={"posthog.event": "mailed"}):
                pass

        with shop.tracer.start_as_current_span("charge", attributes={"posthog.event": "paid"}):
            await asyncio.sleep(0.001)
        trace.get_current_span().set_attribute("user.id", user)
        tasks.add_task(mail)
        return "ok"

    async def stream(user: str) -> fastapi.responses.StreamingResponse:
        trace.get_current_span().set_attribute("user.id", user)

        async def parts() -> AsyncIterator[bytes]:
            yield b"a"
            with shop.tracer.start_as_current_span("part", attributes={"posthog.event": "streamed"}):
                await asyncio.sleep(0)
            yield b"b"

        return fastapi.responses.StreamingResponse(parts())

    async def boom() -> None:
        with shop.tracer.start_as_current_span("query"):
            raise ValueError("boom")

    async def missing() -> None:
        with shop.tracer.start_as_current_span("query"):
            raise fastapi.HTTPException(404, "no such item")

    # Without annotations that are text: FastAPI reads them.
    buy.__annotations__.update(user=str, tasks=fastapi.BackgroundTasks)
    app.get("/buy/{user}", response_model=None)(buy)
    stream.__annotations__.update(user=str)
    app.get("/stream/{user}", response_model=None)(stream)
    app.get("/boom", response_model=None)(boom)
    app.get("/missing", response_model=None)(missing)

    over = threading.Semaphore(0)

    async def served(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            over.release()

    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(served, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()

    def fetch(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{listening.getsockname()[1]}{path}", timeout=30) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        finally:
            # The client has its answer a moment before the server's span ends.
            assert over.acquire(timeout=60)

    yield fetch
    server.should_exit = True
    thread.join(30)
    listening.close()


def test_tasks_that_interleave_are_not_mixed_up(shop: Shop, fetch: Callable[[str], int]) -> None:
    """60 buyers at once on one event loop, background work included: each has one sale and one mail."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: fetch(f"/buy/user-{number}"), range(60))) == {200}
    shop.emulator.wait_for(lambda _: len(shop.events("mailed")) >= 60)
    for name in ("paid", "mailed"):
        counted = Counter(event["distinct_id"] for event in shop.events(name))
        assert counted == Counter(f"user-{number}" for number in range(60))


def test_what_follows_the_answer_is_still_the_person_s(shop: Shop, fetch: Callable[[str], int]) -> None:
    """A streamed body runs after the view has returned."""
    assert fetch("/stream/ann") == 200
    assert [(event["event"], event["distinct_id"]) for event in shop.events()] == [("streamed", "ann")]


def test_an_async_failure_is_one_issue_and_a_404_none(shop: Shop, fetch: Callable[[str], int]) -> None:
    """Span, server span, and the server's log outside of both."""
    assert [fetch("/boom"), fetch("/missing")] == [500, 404]
    [event] = shop.events("$exception")
    assert event["properties"]["$exception_list"][0]["type"] == "ValueError"


# --- what must not grow ----------------------------------------------------------------------------------------------


def test_what_is_remembered_is_bounded(shop: Shop) -> None:
    """5,000 traces with names, keys and people of their own, errors among them: nothing keeps them."""
    logger = shop.logger("shop.many")
    for number in range(5_000):
        with shop.tracer.start_as_current_span(
            f"GET /{number}", attributes={f"key.{number}": 1, "user.id": f"u{number}"}
        ):
            if number % 10 == 0:
                with shop.tracer.start_as_current_span("x", attributes={"posthog.event": "seen"}):
                    pass
            if number % 100 == 0:
                try:
                    raise ValueError(number)
                except ValueError:
                    logger.exception("failed")
        if number % 500 == 0:
            shop.processor.release(10)
    assert len(shop.events("seen")) == 500
    assert len(shop.events("$exception")) == 50
    edge = shop.processor._edge
    assert len(edge.worker.open_traces) == len(edge.worker._waiting) == len(edge.worker._waiting._said) == 0
    assert len(edge.worker._waiting._known) <= 1_000
    assert len(edge.shapes._known) <= 4_096
    assert not shop.processor._roots
    assert not shop.processor._begun
