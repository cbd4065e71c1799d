"""What goes on in the context of a request that is over: work for its person, and workers that serve others later."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.trace import SpanKind

import otel_posthog
from otel_posthog.context import Ambient, attach_properties, current_work, working
from tests.unit.api.conftest import Calls

SESSION = "0190163d-8694-739b-aea5-966c26f8ad91"
ADA = Ambient(distinct_id="ada", session_id=SESSION, groups={"company": "acme"}, flags={"new-ui": True})
HEADERS = {"http.request.header.x_posthog_session_id": (SESSION,)}
URL = {"url.full": "https://shop.example/checkout", "http.request.method": "POST"}
HERS = {"$current_url", "$session_id", "$groups", "$feature/new-ui", "tenant", "$trace_id"}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """`opentelemetry-instrumentation-threading`, as `opentelemetry-instrument` loads it; undone afterwards."""
    instrumentor = pytest.importorskip("opentelemetry.instrumentation.threading").ThreadingInstrumentor()
    instrumentor.instrument()
    yield
    instrumentor.uninstrument()


def kept(calls: Calls) -> list[tuple[str, str, set[str]]]:
    """Of each event, oldest first, its name, its person ("" for personless), and what it has of the request."""
    return [
        (
            event.event,
            "" if event.properties.get("$process_person_profile") is False else event.distinct_id,
            HERS & set(event.properties),
        )
        for event in sorted(calls.events, key=lambda event: event.timestamp_ns)
    ]


class Worker:
    """A thread that is started by whoever constructs it, and then does what it is given."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], Any] | None] = queue.Queue()
        self.failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                self.failures.append(error)
            self._jobs.task_done()

    def do(self, job: Callable[[], Any]) -> None:
        """Does it, and waits for it."""
        self._jobs.put(job)
        self._jobs.join()
        assert self.failures == []

    def end(self) -> None:
        """No more jobs."""
        self._jobs.put(None)
        self._thread.join(60)


@pytest.fixture(name="worker")
def worker_of_a_request(calls: Calls) -> Iterator[Worker]:
    """A thread that Ada's request has started, which is over."""
    with request(calls), working(ADA), attach_properties({"tenant": "t1"}):
        made = Worker()
    yield made
    made.end()


def request(calls: Calls, **attributes: Any) -> Any:
    """A request with a URL and a browser session."""
    return calls.app.tracer.start_as_current_span(
        "POST /checkout", context=context.Context(), kind=SpanKind.SERVER, attributes={**URL, **HEADERS, **attributes}
    )


def capturing(name: str, **arguments: Any) -> Callable[[], Any]:
    """A job."""
    return lambda: otel_posthog.capture(name, **arguments)


# --- a worker that serves others -------------------------------------------------------------------------------------


def test_it_finishes_the_request_s_work(calls: Calls, worker: Worker) -> None:
    """What a request has started is its person's after its end, with all that the request knew; named or not."""
    worker.do(capturing("mail sent"))
    worker.do(capturing("order filed", distinct_id="ada"))
    worker.do(lambda: otel_posthog.identify("ada"))
    worker.do(capturing("done"))

    assert kept(calls) == [(name, "ada", HERS) for name in ("mail sent", "order filed", "done")]
    assert calls.misused == {}


def test_an_event_of_somebody_else(calls: Calls, worker: Worker) -> None:
    """Whoever a call names has nothing of the request that is over, and the next call is the request's again."""
    worker.do(capturing("job done", distinct_id="bob"))
    worker.do(capturing("told", distinct_id="ada"))
    worker.do(lambda: otel_posthog.capture_exception(ValueError("no stock"), distinct_id="bob"))
    worker.do(lambda: otel_posthog.set_person({"plan": "pro"}, distinct_id="bob"))

    assert kept(calls) == [
        ("job done", "bob", set()),
        ("told", "ada", HERS),
        ("$exception", "bob", set()),
        ("$set", "bob", set()),
    ]


def test_work_for_somebody_else(calls: Calls, worker: Worker) -> None:
    """From `identify` on the worker's work is another's, one after another, and the request's other threads stay."""
    with ThreadPoolExecutor(1) as pool:
        for user in ("bob", "eve"):
            worker.do(lambda user=user: otel_posthog.identify(user))  # type: ignore[misc]
            worker.do(capturing("job done"))
        worker.do(lambda: otel_posthog.group("company", "apex"))
        worker.do(capturing("more done"))
        worker.do(lambda: otel_posthog.identify("joe"))
        worker.do(capturing("last done"))
        worker.do(lambda: pool.submit(otel_posthog.capture, "handed on").result(60))

    assert kept(calls) == [
        ("job done", "bob", set()),
        ("job done", "eve", set()),
        ("more done", "eve", {"$groups"}),
        ("last done", "joe", set()),
        ("handed on", "joe", set()),
    ]
    assert calls.misused == {"scope": 3}


def test_what_else_the_request_has_started(calls: Calls) -> None:
    """Two threads of one request: what one of them is told holds in it alone."""
    with request(calls), working(ADA):
        one, other = Worker(), Worker()
    one.do(lambda: otel_posthog.identify("bob"))
    other.do(capturing("mail sent"))
    other.do(lambda: otel_posthog.reset())
    other.do(capturing("after"))
    one.do(capturing("job done"))
    for worker in (one, other):
        worker.end()

    assert kept(calls) == [
        ("mail sent", "ada", HERS - {"tenant"}),
        ("after", "", set()),
        ("job done", "bob", set()),
    ]


def test_what_a_thread_learns_late(calls: Calls) -> None:
    """Group and person that one thread names after the end hold there, and the request's other threads stay."""
    with request(calls), working(Ambient(distinct_id="ada", groups={"company": "acme"})):
        one, other = Worker(), Worker()

    def late() -> None:
        otel_posthog.identify("ada")
        otel_posthog.group("company", "apex")
        otel_posthog.capture("late")
        with calls.app.tracer.start_as_current_span("x", attributes={"posthog.event": "annotated"}):
            pass

    one.do(late)
    other.do(capturing("mail sent"))
    for worker in (one, other):
        worker.end()

    assert sorted((name, person, own.get("$groups")) for name, person, own in calls.said) == [
        ("annotated", "ada", {"company": "apex"}),
        ("late", "ada", {"company": "apex"}),
        ("mail sent", "ada", {"company": "acme"}),
    ]


def test_a_visitor_s_request(calls: Calls) -> None:
    """Nobody was known in it: whoever is named later has not its session, and is not made one with its visitor."""
    with request(calls), working(Ambient(anonymous_id="visitor", session_id=SESSION)):
        worker = Worker()
    worker.do(capturing("finished"))
    worker.do(capturing("by name", distinct_id="bob"))
    worker.do(lambda: otel_posthog.identify("bob"))
    worker.do(capturing("job done"))
    worker.end()

    assert kept(calls) == [
        ("finished", "visitor", {"$current_url", "$session_id", "$trace_id"}),
        ("by name", "bob", set()),
        ("job done", "bob", set()),
    ]


def test_a_request_that_always_names(calls: Calls) -> None:
    """An app that never identifies, and says whose each event is: the person that the request named is its person."""
    with request(calls):
        otel_posthog.capture("ordered", distinct_id="ada")
        worker = Worker()
    worker.do(capturing("mail sent", distinct_id="ada"))
    worker.do(capturing("mail sent", distinct_id="bob"))
    worker.end()

    hers = {"$current_url", "$session_id", "$trace_id"}
    assert kept(calls) == [("ordered", "ada", hers), ("mail sent", "ada", hers), ("mail sent", "bob", set())]


@pytest.mark.parametrize("key", ["user.id", "posthog.distinct_id", "enduser.id"])
def test_a_request_whose_span_says(calls: Calls, key: str) -> None:
    """A person whom only the request's span names is the request's person, too."""
    with request(calls) as span:
        worker = Worker()
        span.set_attribute(key, "ada")
    worker.do(capturing("mail sent", distinct_id="ada"))
    worker.do(capturing("mail sent", distinct_id="bob"))
    worker.end()

    assert kept(calls) == [
        ("mail sent", "ada", {"$current_url", "$session_id", "$trace_id"}),
        ("mail sent", "bob", set()),
    ]


def test_a_request_at_work(calls: Calls) -> None:
    """While the request goes on, a call that names somebody else is made in it: its URL and its session hold."""
    with request(calls), working(ADA):
        worker = Worker()
        worker.do(capturing("promoted", distinct_id="bob"))
        worker.end()

    assert kept(calls) == [("promoted", "bob", HERS - {"tenant"})]


def test_a_background_task(calls: Calls) -> None:
    """An ASGI server's span ends with the answer, and its background tasks run in the request: nothing is over yet."""
    with request(calls) as root, working(ADA):
        root.end()
        otel_posthog.capture("told", distinct_id="bob")
        with calls.app.tracer.start_as_current_span("task", attributes={"posthog.event": "promoted", "user.id": "bob"}):
            pass

    assert kept(calls) == [
        ("told", "bob", HERS - {"tenant"}),
        ("promoted", "bob", HERS - {"tenant", "$current_url"}),
    ]


def test_a_service_that_calls_itself(calls: Calls) -> None:
    """The end of an inner request of the same trace and process is not the end of the outer one."""
    with request(calls) as outer:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        there = propagate.extract(carrier, context.Context())
        with calls.app.tracer.start_as_current_span("GET /stock", context=there, kind=SpanKind.SERVER):
            otel_posthog.capture("asked", distinct_id="robot")
        assert outer.is_recording()
        otel_posthog.capture("ordered", distinct_id="ada")

    assert [(name, person, "$trace_id" in has) for name, person, has in kept(calls)] == [
        ("asked", "robot", True),
        ("ordered", "ada", True),
    ]


def test_super_properties_of_the_worker_s_own(calls: Calls, worker: Worker) -> None:
    """Those that a worker sets hold for whoever it serves; those of the request do not."""

    def job(user: str) -> None:
        with otel_posthog.super_properties(job="nightly"):
            otel_posthog.capture("by name", distinct_id=user)
            otel_posthog.identify(user)
            with otel_posthog.super_properties(step=2):
                otel_posthog.capture("done")

    worker.do(lambda: job("bob"))

    assert calls.said == [("by name", "bob", {"job": "nightly"}), ("done", "bob", {"job": "nightly", "step": 2})]


def test_scopes_of_a_worker(calls: Calls, worker: Worker) -> None:
    """A worker that keeps its jobs apart, as it should: nothing of the request is in them, and no complaint."""

    def job(user: str) -> None:
        with otel_posthog.scope():
            otel_posthog.capture("begun")
            if user:
                otel_posthog.identify(user)
                otel_posthog.group("company", "apex")
            otel_posthog.capture("done")

    for user in ("bob", ""):
        worker.do(lambda user=user: job(user))  # type: ignore[misc]

    assert kept(calls) == [
        ("begun", "", set()),
        ("done", "bob", {"$groups"}),
        ("begun", "", set()),
        ("done", "", set()),
    ]
    assert calls.misused == {}


def test_spans_of_a_worker(calls: Calls, worker: Worker) -> None:
    """Annotated spans of jobs: the request's where they say nothing, somebody else's where they do, or `identify`."""
    tracer = calls.app.tracer

    def job(name: str, **attributes: Any) -> None:
        with tracer.start_as_current_span("job", attributes={"posthog.event": name, **attributes}) as span:
            if name == "late":
                span.set_attribute("user.id", "bob")
            if name == "identified":
                otel_posthog.identify("bob")
                with tracer.start_as_current_span("step", attributes={"posthog.event": "step"}):
                    pass

    for name in ("finished", "late", "identified"):
        worker.do(lambda name=name: job(name))  # type: ignore[misc]
    worker.do(lambda: job("stated", **{"user.id": "bob"}))
    worker.do(lambda: job("her own", **{"user.id": "ada"}))

    hers = HERS - {"$current_url"}
    assert sorted(kept(calls)) == [
        ("finished", "ada", hers),
        ("her own", "ada", hers),
        ("identified", "bob", {"$trace_id"}),
        ("late", "bob", {"$trace_id"}),
        ("stated", "bob", {"$trace_id"}),
        ("step", "bob", {"$trace_id"}),
    ]


def test_spans_of_a_request_s_own(calls: Calls) -> None:
    """What began in the request is of it, also where it ends after it and says another id of the person."""
    with request(calls, **{"user.id": "42"}), working(ADA):
        span = calls.app.tracer.start_span("export", attributes={"posthog.event": "exported", "user.id": "42"})
        here = context.get_current()
    token = context.attach(here)
    span.end()
    context.detach(token)

    assert kept(calls) == [("exported", "42", HERS - {"$current_url", "tenant"})]


def test_log_records_of_a_worker(calls: Calls, worker: Worker) -> None:
    """The same for log records that are product events."""
    logger = calls.app.logger_provider.get_logger("shop")

    def log(name: str, **attributes: Any) -> None:
        logger.emit(body=name, attributes={"posthog.event": name, **attributes})

    worker.do(lambda: log("hers"))
    worker.do(lambda: log("his", **{"user.id": "bob"}))

    assert kept(calls) == [("hers", "ada", HERS - {"$current_url"}), ("his", "bob", {"$trace_id"})]


def test_messages_of_a_consumer(calls: Calls) -> None:
    """A consumer that a request happened to start: each message is its own, whatever the thread's context says."""
    with request(calls), working(ADA):
        worker = Worker()

    def message(user: str) -> None:
        parent = trace.SpanContext(0xABCDEF, 0x77, is_remote=True, trace_flags=trace.TraceFlags(1))
        arriving = trace.set_span_in_context(trace.NonRecordingSpan(parent))  # on top of the thread's context
        with calls.app.tracer.start_as_current_span("process", context=arriving, kind=SpanKind.CONSUMER):
            otel_posthog.capture("received")
            if user:
                otel_posthog.identify(user)
            otel_posthog.capture("done")

    for user in ("bob", ""):
        worker.do(lambda user=user: message(user))  # type: ignore[misc]
    worker.do(capturing("mail sent"))
    worker.end()

    assert kept(calls) == [
        ("received", "bob", {"$trace_id"}),
        ("done", "bob", {"$trace_id"}),
        ("received", "", {"$trace_id"}),
        ("done", "", {"$trace_id"}),
        ("mail sent", "ada", HERS - {"tenant"}),
    ]


def test_tasks_of_a_request(calls: Calls) -> None:
    """`asyncio.create_task` in a request that then answers: hers as it is, another's where it is told."""

    async def main() -> None:
        answered = asyncio.Event()

        async def hers() -> None:
            await answered.wait()
            otel_posthog.capture("mail sent")

        async def his() -> None:
            await answered.wait()
            otel_posthog.identify("bob")
            otel_posthog.capture("job done")

        with request(calls), working(ADA):
            tasks = [asyncio.create_task(his()), asyncio.create_task(hers())]
        answered.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())

    assert kept(calls) == [("job done", "bob", set()), ("mail sent", "ada", HERS - {"tenant"})]


def test_a_pool_of_a_request(calls: Calls) -> None:
    """A pool that the first request made: with the instrumentation each task is the request's that submitted it."""
    with request(calls), working(ADA):
        pool = ThreadPoolExecutor(1)
        pool.submit(otel_posthog.capture, "hers").result(60)
    with request(calls), working(Ambient(distinct_id="bob")):
        his = pool.submit(otel_posthog.capture, "his")
    his.result(60)
    pool.submit(otel_posthog.capture, "nobody's").result(60)
    pool.shutdown()

    assert [(name, person) for name, person, _ in kept(calls)] == [("hers", "ada"), ("his", "bob"), ("nobody's", "")]


def test_a_worker_ten_minutes_later(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long after the request nothing of it holds any more, and one job's person has nothing of another's."""
    with working(ADA) as work:
        worker = Worker()
    work._ended -= 601
    worker.do(capturing("nobody's"))
    worker.do(lambda: otel_posthog.identify("bob"))
    worker.do(lambda: otel_posthog.group("company", "apex"))
    worker.do(lambda: otel_posthog.identify("eve"))
    worker.do(capturing("hers"))
    worker.end()

    assert kept(calls) == [("nobody's", "", set()), ("hers", "eve", set())]


# --- `identify` outside of any request -------------------------------------------------------------------------------


def test_identify_at_boot(calls: Calls) -> None:
    """Whom a worker's boot code named is in none of its requests; outside of them it holds, as in any script."""
    otel_posthog.identify("deployer")
    otel_posthog.capture("booted")
    for user in ("ada", ""):
        here = context.get_current()
        with calls.app.tracer.start_as_current_span("GET /", context=here, kind=SpanKind.SERVER):
            otel_posthog.capture("seen")
            if user:
                otel_posthog.identify(user)
            with calls.app.tracer.start_as_current_span("x", attributes={"posthog.event": "annotated"}):
                pass
    otel_posthog.capture("swept")

    assert sorted((name, person) for name, person, _ in kept(calls)) == [
        ("annotated", ""),
        ("annotated", "ada"),
        ("booted", "deployer"),
        ("seen", ""),
        ("seen", "ada"),
        ("swept", "deployer"),
    ]
    assert calls.misused == {"scope": 2}


def test_identify_in_a_script(calls: Calls) -> None:
    """A script names its person once; spans of its own, and calls to others, change nothing."""
    otel_posthog.identify("ada")
    with calls.app.tracer.start_as_current_span("step", attributes={"posthog.event": "stepped"}):
        otel_posthog.capture("inside")
        with calls.app.tracer.start_as_current_span("GET", kind=SpanKind.CLIENT):
            otel_posthog.capture("called")
    otel_posthog.capture("done")

    assert sorted((name, person) for name, person, _ in kept(calls)) == [
        ("called", "ada"),
        ("done", "ada"),
        ("inside", "ada"),
        ("stepped", "ada"),
    ]
    assert calls.misused == {}


def test_a_scope_around_a_request(calls: Calls) -> None:
    """A middleware outside of the request's span says who it is in a scope: that holds in the request."""
    for user in ("ada", "bob"):
        with otel_posthog.scope():
            otel_posthog.identify(user)
            with calls.app.tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
                otel_posthog.capture("seen")

    assert [(name, person) for name, person, _ in kept(calls)] == [("seen", "ada"), ("seen", "bob")]
    assert calls.misused == {}


def test_a_person_of_a_worker_in_a_request(calls: Calls, worker: Worker) -> None:
    """Whom a worker was told of does not hold in a request that begins on its thread."""

    def visit() -> None:
        otel_posthog.identify("bob")
        with request(calls):
            otel_posthog.capture("seen")
        with calls.app.tracer.start_as_current_span(
            "GET /",
            context=trace.set_span_in_context(trace.INVALID_SPAN),
            kind=SpanKind.SERVER,
        ):
            otel_posthog.capture("seen, too")
        otel_posthog.capture("job done")

    worker.do(visit)

    assert [(name, person) for name, person, _ in kept(calls)] == [("seen", ""), ("seen, too", ""), ("job done", "bob")]


def test_what_a_thread_knows(calls: Calls, worker: Worker) -> None:
    """`identify` for another in a worker leaves the request's own unit of work as it is."""
    found: list[Ambient] = []
    worker.do(lambda: otel_posthog.identify("bob"))
    worker.do(lambda: found.append(current_work().ambient))
    inside = copy_context()

    assert found == [Ambient(distinct_id="bob")]
    assert inside.run(lambda: otel_posthog.capture("x")) is not None
