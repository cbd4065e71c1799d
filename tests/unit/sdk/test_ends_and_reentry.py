"""Deliveries that fail or hang, callbacks that raise or come back to us, ends that meet each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import otel_posthog
from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.assembly import build_runtime
from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.lane.edge import edge_of, suppressed
from otel_posthog.model import LossReason
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.fixtures.logging_bridge import LoggingHandler
from tests.unit.delivery.loopback import until

OK = Response(200, {"content-type": "application/json"}, b'{"status": 1}')


@pytest.fixture(autouse=True)
def as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is swallowed there is swallowed here."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")


class Wire:
    """A transport that does what a test says, and counts."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.act: Callable[[Request], Response] = lambda _: OK

    def post(self, request: Request, *, timeout: float) -> Response:
        """See `Transport`."""
        self.requests.append(request)
        return self.act(request)

    def close(self) -> None:
        """See `Transport`."""


class Real:
    """Processors over a real delivery with a scripted transport."""

    def __init__(self, *, exit_timeout: float = 30.0, tap: Any = None) -> None:
        self.wire = Wire()
        delivery = DeliveryConfig(
            wire="v0", compression="none", flush_interval=0.01, retry_initial=0.01, retry_max=0.02,
            exit_timeout=exit_timeout,
        )  # fmt: skip
        lane = Lane(Mode.DIRECT, "http://127.0.0.1:9", Secret("phc_test"))
        settings = Settings(enabled=True, lane=lane, delivery=delivery)
        self.runtime = build_runtime(settings, transport=self.wire, send_guard=suppressed, tap=tap)
        self.spans = PostHogSpanProcessor(runtime=self.runtime)
        self.traces = TracerProvider(shutdown_on_exit=False)
        self.traces.add_span_processor(self.spans)
        self.logs = LoggerProvider(shutdown_on_exit=False)
        self.logs.add_log_record_processor(self.spans.for_logs())

    def emit(self, *names: str) -> None:
        """One tagged root span for each name."""
        emit(self.traces, *names)

    def sent(self, name: str) -> int:
        """In how many requests the name is."""
        return sum(f'"event":"{name}"'.encode() in request.body.replace(b": ", b":") for request in self.wire.requests)

    def close(self) -> None:
        """Ends both providers."""
        self.wire.over.set()
        self.traces.shutdown()
        self.logs.shutdown()


def emit(provider: TracerProvider, *names: str) -> None:
    """One tagged root span for each name."""
    for name in names:
        with provider.get_tracer("shop").start_as_current_span("x", attributes={"posthog.event": name}):
            pass


@pytest.fixture(name="real")
def real_delivery() -> Iterator[Callable[..., Real]]:
    """Makes apps with a real delivery; ends them."""
    made: list[Real] = []

    def build(**arguments: Any) -> Real:
        made.append(Real(**arguments))
        return made[-1]

    yield build
    for each in made:
        each.close()


def in_time(*calls: Callable[[], object]) -> None:
    """Runs all at once, each in a thread of its own; none raises, none hangs."""
    raised: list[BaseException] = []
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        try:
            together.wait(30)
            call()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [thread for thread in threads if thread.is_alive()] == []
    assert raised == []


@pytest.mark.row(46)
@pytest.mark.parametrize("way", ["raises", "fails", "hangs"])
def test_a_transport_that_never_delivers(real: Callable[..., Real], way: str) -> None:
    """Flushes say False, shutdowns end, nobody sees an exception, and what was lost is in the books once."""
    app = real(exit_timeout=0.2)

    def act(_: Request) -> Response:
        if way == "raises":
            raise ZeroDivisionError("a bug of the transport")
        if way == "hangs":
            app.wire.over.wait(120)
        return Response(500, {}, b"")

    app.wire.act = act
    app.emit("one", "two", "three")
    assert until(lambda: app.runtime.bridge.delivery_stats().captured == 3)
    assert not app.traces.force_flush(100)
    assert not app.spans.force_flush(100)
    in_time(app.traces.shutdown, app.logs.shutdown)
    in_time(app.spans.shutdown, app.spans.shutdown)
    stats = app.runtime.bridge.delivery_stats()
    assert (stats.captured, stats.delivered, stats.pending) == (3, 0, 0)
    assert stats.lost == {LossReason.SHUTDOWN: 3}


@pytest.mark.row(46)
def test_a_transport_that_recovers_from_its_bug(real: Callable[..., Real]) -> None:
    """It raised twice what it never should: the batch arrives by the third attempt, and the failures are counted."""
    app = real()

    def act(_: Request) -> Response:
        if len(app.wire.requests) <= 2:
            raise ZeroDivisionError
        return OK

    app.wire.act = act
    app.emit("one", "two")
    assert until(lambda: app.runtime.bridge.delivery_stats().delivered == 2)
    assert app.runtime.guard.counts() == {"delivery": 2}


@pytest.mark.row(46)
def test_telemetry_from_within_a_delivery_is_not_delivered(real: Callable[..., Real]) -> None:
    """A transport that logs, and makes spans, with our tags: no storm, no deadlock, and what was asked for arrives."""
    app = real()
    logger = logging.getLogger("client.of.the.transport")
    logger.propagate = False
    handler = LoggingHandler(logger_provider=app.logs)
    logger.addHandler(handler)

    def act(_: Request) -> Response:
        logger.error("sending", extra={"posthog.event": "inside"})
        app.emit("inside")
        app.traces.force_flush(60_000)
        app.runtime.bridge.flush(60)
        return OK

    app.wire.act = act
    try:
        app.emit("outside")
        assert until(lambda: app.runtime.bridge.delivery_stats().delivered == 1)
    finally:
        logger.removeHandler(handler)
    app.close()
    assert (app.sent("outside"), app.sent("inside")) == (1, 0)


@pytest.mark.row(46)
def test_a_shutdown_from_within_a_delivery(real: Callable[..., Real]) -> None:
    """What is on its way arrives, the shutdown comes back, and a second one is fine."""
    app = real()
    came_back = threading.Event()

    def act(_: Request) -> Response:
        app.traces.shutdown()
        app.logs.shutdown()
        app.spans.shutdown()
        came_back.set()
        return OK

    app.wire.act = act
    app.emit("one")
    assert came_back.wait(60)
    in_time(app.spans.shutdown, lambda: app.spans.force_flush(100))
    assert app.sent("one") == 1


@pytest.mark.row(46)
def test_who_looks_on_may_raise_and_flush(real: Callable[..., Real]) -> None:
    """A tap runs on our thread: a flush there would wait for itself, so it says False at once."""
    said: list[bool] = []

    def tap(*_: Any) -> None:
        said.append(app.traces.force_flush(120_000))
        raise ValueError("of the tap")

    app = real(tap=tap)
    app.emit("one", "two")
    assert until(lambda: app.runtime.bridge.delivery_stats().delivered == 2)
    assert until(lambda: app.runtime.guard.counts() != {} and len(said) == 2)
    assert said == [False, False]


@pytest.mark.row(46)
def test_who_looks_on_may_shut_down(real: Callable[..., Real]) -> None:
    """It comes back, nothing takes an item any more, and every signal has an outcome."""
    over = threading.Event()

    def tap(*_: Any) -> None:
        app.spans.shutdown()
        app.traces.shutdown()
        app.logs.shutdown()
        over.set()

    app = real(tap=tap)
    app.emit("one")
    assert over.wait(60)
    in_time(app.spans.shutdown, app.traces.shutdown)
    app.emit("late")
    stats = edge_of(app.runtime).worker.stats()
    assert (stats.handed_over, stats.overflowed) == (2, 1)


class Neighbour(SpanProcessor):
    """Another processor of the app's, which calls us from its callback."""

    def __init__(self, act: Callable[[Any], None]) -> None:
        self.act = act

    def on_end(self, span: Any) -> None:
        """Acts."""
        self.act(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here; SDKs before 1.45 answer nothing for it."""
        return True


@pytest.mark.row(46)
@pytest.mark.parametrize("first", [True, False])
def test_a_neighbour_captures_in_its_callback(build: Any, monkeypatch: pytest.MonkeyPatch, *, first: bool) -> None:
    """From within `on_end`, before ours or after it: a call, a span of its own, a flush; each event once."""
    app = build()
    monkeypatch.setattr(assembly._process, "_runtime", app.runtime)
    process.forget()
    token = context.attach(context.Context())

    def act(span: Any) -> None:
        if span.name == "own":
            return
        otel_posthog.capture("called", distinct_id="ada")
        with app.tracer.start_as_current_span("own", attributes={"posthog.event": "own"}):
            pass
        assert app.tracer_provider.force_flush(60_000)

    processors = (Neighbour(act), app.spans)
    app.tracer_provider._active_span_processor._span_processors = processors if first else processors[::-1]
    try:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "outer"}):
            pass
        assert sorted(app.names) == ["called", "outer", "own"]
    finally:
        context.detach(token)
        process.forget()


@pytest.mark.row(46)
def test_ends_that_meet_each_other(real: Callable[..., Real]) -> None:
    """Flushes and shutdowns of all owners at once, with spans that still end: no deadlock, nothing twice."""
    app = real()
    names = [f"n{number:03}" for number in range(100)]
    app.emit(*names)
    in_time(
        lambda: app.spans.force_flush(30_000),
        lambda: app.traces.force_flush(30_000),
        lambda: app.logs.force_flush(30_000),
        app.spans.shutdown,
        app.traces.shutdown,
        app.logs.shutdown,
        lambda: app.runtime.bridge.flush(30),
        lambda: app.emit(*["late"] * 20),
    )
    in_time(app.spans.shutdown, app.traces.force_flush, app.logs.shutdown)
    assert {name: app.sent(name) for name in names} == dict.fromkeys(names, 1)
    stats = app.runtime.bridge.delivery_stats()
    assert (stats.lost, stats.pending) == ({}, 0)
