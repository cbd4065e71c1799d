"""Where the work at hand follows to: tasks by themselves, threads with OpenTelemetry's instrumentation of them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import SpanKind, set_span_in_context

from otel_posthog.context import Ambient, attach_properties, working
from otel_posthog.lane.emitter import Emitter
from otel_posthog.semconv import posthog

KNOWN = Ambient(distinct_id="u1", groups={"company": "acme"}, flags={"beta": True})
ALL = ("u1", {"company": "acme"}, True, "t1")


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """What a test attaches ends with it."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


@pytest.fixture
def threads() -> Iterator[None]:
    """`opentelemetry-instrumentation-threading`, as `opentelemetry-instrument` loads it; undone afterwards."""
    package = pytest.importorskip("opentelemetry.instrumentation.threading")
    instrumentor = package.ThreadingInstrumentor()
    instrumentor.instrument()
    yield
    instrumentor.uninstrument()


def in_request(app: Any, run: Callable[[Callable[[], None]], Any]) -> list[Any]:
    """What a call and an annotated span say that are made in `run`'s other place, which a request starts."""

    def elsewhere() -> None:
        assert Emitter(app.edge).emit("called", {posthog.EVENT: "called"})
        with app.tracer.start_as_current_span("work", attributes={"posthog.event": "worked"}):
            pass

    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(KNOWN),
        attach_properties({"tenant": "t1"}),
    ):
        run(elsewhere)
    return [
        (
            event.distinct_id,
            event.properties.get("$groups"),
            event.properties.get("$feature/beta"),
            event.properties.get("tenant"),
        )
        for event in app.settle()
    ]


def in_thread(work: Callable[[], None]) -> None:
    """A thread of the app's own."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)


def in_timer(work: Callable[[], None]) -> None:
    """A timer."""
    timer = threading.Timer(0, work)
    timer.start()
    timer.join(60)


def in_pool(work: Callable[[], None]) -> None:
    """An executor."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(60)


def in_map(work: Callable[[], None]) -> None:
    """An executor's map."""
    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(lambda _: work(), [1], timeout=60)) == [None]


def in_executor_of_a_loop(work: Callable[[], None]) -> None:
    """`loop.run_in_executor`, which, unlike `to_thread`, takes no context along."""

    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    asyncio.run(main())


def in_task(work: Callable[[], None]) -> None:
    """A task."""

    async def inner() -> None:
        await asyncio.sleep(0)
        work()

    async def main() -> None:
        await asyncio.create_task(inner())

    asyncio.run(main())


def in_callback_of_a_loop(work: Callable[[], None]) -> None:
    """`loop.call_soon`."""

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: (work(), done.set_result(None)))
        await done

    asyncio.run(main())


def in_to_thread(work: Callable[[], None]) -> None:
    """`asyncio.to_thread`."""
    asyncio.run(asyncio.to_thread(work))


@pytest.mark.parametrize("run", [in_task, in_callback_of_a_loop, in_to_thread])
def test_it_follows_by_itself(app: Any, run: Callable[..., Any]) -> None:
    """Tasks, callbacks of a loop, and `to_thread` copy the context, as Python does."""
    assert in_request(app, run) == [ALL, ALL]


@pytest.mark.parametrize("run", [in_thread, in_timer, in_pool, in_map, in_executor_of_a_loop])
def test_it_follows_into_threads(app: Any, threads: None, run: Callable[..., Any]) -> None:
    """Threads, timers and executors, with OpenTelemetry's instrumentation of threads."""
    assert in_request(app, run) == [ALL, ALL]


@pytest.mark.parametrize("run", [in_thread, in_pool])
def test_without_the_instrumentation_a_thread_is_nobody_s(app: Any, run: Callable[..., Any]) -> None:
    """A thread with a context of its own knows of no request, and guesses none."""
    assert [(groups, beta, tenant) for _, groups, beta, tenant in in_request(app, run)] == [(None, None, None)] * 2
    assert "u1" not in {event.distinct_id for event in app.settle()}


def test_a_context_may_be_taken_along_by_hand(app: Any) -> None:
    """`contextvars.copy_context().run`, as everywhere in Python."""
    import contextvars

    def run(work: Callable[[], None]) -> None:
        ctx = contextvars.copy_context()
        in_thread(lambda: ctx.run(work))

    assert in_request(app, run) == [ALL, ALL]


def test_work_that_outlives_the_request(app: Any, threads: None) -> None:
    """What a request started is still its person's when the answer is long out."""
    go, done = threading.Event(), threading.Event()

    def later() -> None:
        assert go.wait(60)
        assert Emitter(app.edge).emit("called", {posthog.EVENT: "called"})
        done.set()

    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER), working(KNOWN):
        thread = threading.Thread(target=later)
        thread.start()
    with app.tracer.start_as_current_span("another", kind=SpanKind.SERVER), working(Ambient(distinct_id="u2")):
        go.set()
        assert done.wait(60)
    thread.join(60)
    (event,) = app.settle()
    assert (event.distinct_id, event.properties["$groups"]) == ("u1", {"company": "acme"})


def test_a_thread_that_lives_on(app: Any, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that the first request happened to start does not count all its later jobs for that person."""
    from otel_posthog.context import work as module

    now = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    done = threading.Semaphore(0)

    def worker() -> None:
        while name := jobs.get():
            assert Emitter(app.edge).emit(name, {posthog.EVENT: name})
            with app.tracer.start_as_current_span("job", attributes={"posthog.event": f"{name} span"}):
                pass
            done.release()

    thread = threading.Thread(target=worker)
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER), working(KNOWN):
        thread.start()
    for name in ("soon", "late"):
        jobs.put(name)
        assert done.acquire(timeout=60)
        now[0] += module.OUTLIVES + 1
    jobs.put("")
    thread.join(60)
    found = {event.event: event.properties.get("$groups") for event in app.settle()}
    acme = {"company": "acme"}
    assert found == {"soon": acme, "soon span": acme, "late": None, "late span": None}


@pytest.mark.parametrize("over", [True, False])
def test_what_spans_and_baggage_say_ends_with_the_request(
    app: Any, threads: None, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    """So does the person on a span of a request that is long over; not while its root goes on."""
    from otel_posthog.lane import internals

    monkeypatch.setattr(internals, "_OUTLIVES_NS", -1)
    go, done = threading.Event(), threading.Event()

    def worker() -> None:
        assert go.wait(60)
        assert Emitter(app.edge).emit("job", {posthog.EVENT: "job"})
        with app.tracer.start_as_current_span("job", attributes={"posthog.event": "job span"}):
            pass
        done.set()

    root = app.tracer.start_span("request", context.Context(), kind=SpanKind.SERVER, attributes={"user.id": "u1"})
    token = context.attach(baggage.set_baggage("user.id", "u9", set_span_in_context(root)))
    with app.tracer.start_as_current_span("inner", attributes={"posthog.event": "inner"}):
        thread = threading.Thread(target=worker)
        thread.start()
    context.detach(token)
    if over:
        root.end()
    assert app.settle()
    go.set()
    assert done.wait(60)
    thread.join(60)
    assert app.settle()
    root.end()
    who = {
        event.event: "" if event.properties.get("$process_person_profile") is False else event.distinct_id
        for event in app.settle()
    }
    later = "" if over else "u1"
    assert who == {"inner": "u1", "job": later, "job span": later}
