"""One raised exception is one `$exception`, whoever carries it; three retries are three."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import dataclasses
import functools
import http.server
import inspect
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import starlette.exceptions
import werkzeug.exceptions
import werkzeug.wrappers
from opentelemetry._logs import Logger, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.trace import SpanKind

from otel_posthog.config.settings import ConvertConfig, IdentityConfig
from otel_posthog.lane.exceptions import CAPTURED_MARK, UUID_MARK, matches, read_chain, see
from tests.fixtures.logging_bridge import LoggingHandler


@pytest.fixture(name="logger")
def logger_into(app: Any) -> Iterator[logging.Logger]:
    """A stdlib logger whose records reach the app's LoggerProvider, as the logging instrumentation has it."""
    yield from _logger(app.logger_provider)


def _logger(provider: LoggerProvider, name: str = "shop.views") -> Iterator[logging.Logger]:
    logger = logging.getLogger(name)
    handler = LoggingHandler(logger_provider=provider)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


def exceptions(app: Any) -> list[Any]:
    """The `$exception` events, everything settled."""
    return [event for event in app.settle() if event.event == "$exception"]


def first(event: Any) -> dict[str, Any]:
    """The caught exception of an event."""
    return event.properties["$exception_list"][0]


def test_one_failure_through_spans_and_log_is_one(app: Any, logger: logging.Logger) -> None:
    """Nested spans, the server span and the framework's log carry one exception object: one event."""
    with pytest.raises(ValueError), app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        request.set_attribute("user.id", "u1")
        try:
            with app.tracer.start_as_current_span("view") as view, app.tracer.start_as_current_span("query"):
                raise ValueError("no such order")
        except ValueError:
            logger.exception("Exception on /orders [GET]")
            raise
    [event] = exceptions(app)
    assert event.distinct_id == "u1"
    caught = first(event)
    assert (caught["type"], caught["value"]) == ("ValueError", "no such order")
    assert caught["mechanism"]["handled"] is False
    assert caught["mechanism"]["type"] == "middleware"
    assert caught["stacktrace"]["frames"][-1]["context_line"].strip() == 'raise ValueError("no such order")'
    assert app.reasons() == {"duplicate_exception": 3}
    assert view.status.status_code.name == "ERROR"


def test_the_innermost_span_speaks_and_the_outermost_knows_the_way(app: Any) -> None:
    """The event has the ids of the span where it broke, and the frames from the root on."""

    def inner() -> None:
        with app.tracer.start_as_current_span("inner") as span:
            spans.append(span)
            raise KeyError("x")

    def outer() -> None:
        with app.tracer.start_as_current_span("outer") as span:
            spans.append(span)
            inner()

    spans: list[Any] = []
    with pytest.raises(KeyError):
        outer()
    [event] = exceptions(app)
    assert event.properties["$span_id"] == format(spans[1].context.span_id, "016x")
    functions = [frame["function"] for frame in first(event)["stacktrace"]["frames"]]
    assert functions == ["outer", "inner"]


def test_three_retries_in_spans_are_three(app: Any) -> None:
    """Every attempt raised an object of its own."""
    with app.tracer.start_as_current_span("request"):
        for _ in range(3):
            with pytest.raises(OSError), app.tracer.start_as_current_span("attempt"):
                raise OSError("timed out")
    assert len(exceptions(app)) == 3
    assert len({event.uuid for event in exceptions(app)}) == 3
    assert {first(event)["mechanism"]["handled"] for event in exceptions(app)} == {True}


def test_three_retries_recorded_by_hand_are_three(app: Any) -> None:
    """Handled exceptions that were recorded on one span are each one, although only text is left of them."""
    with app.tracer.start_as_current_span("request") as span:
        for _ in range(3):
            try:
                raise OSError("timed out")
            except OSError as error:
                span.record_exception(error)
    assert len(exceptions(app)) == 3
    assert {first(event)["mechanism"]["handled"] for event in exceptions(app)} == {True}


def test_three_retries_recorded_and_logged_are_three(app: Any, logger: logging.Logger) -> None:
    """The log has the live object, the span event only text: still one for each attempt."""
    with app.tracer.start_as_current_span("request") as span:
        for _ in range(3):
            try:
                raise OSError("timed out")
            except OSError as error:
                span.record_exception(error)
                logger.exception("attempt failed")
    assert len(exceptions(app)) == 3


def test_the_last_of_several_recorded_is_the_live_one(app: Any) -> None:
    """Two handled attempts and one that leaves the span: three, and only the last is unhandled."""
    with pytest.raises(OSError), app.tracer.start_as_current_span("request") as span:
        for attempt in range(3):
            try:
                raise OSError("timed out")
            except OSError as error:
                if attempt == 2:
                    raise
                # Attempts take their time; see the next test for what does not.
                span.record_exception(error, timestamp=time.time_ns() - (2 - attempt) * 1_000_000_000)
    found = exceptions(app)
    assert sorted(first(event)["mechanism"]["handled"] for event in found) == [False, True, True]


@pytest.mark.parametrize("logged", [False, True])
def test_recorded_and_let_go_is_one(
    app: Any, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, logged: bool
) -> None:
    """`span.record_exception(error); raise` writes two span events about one exception, on each span that does so."""
    # How long a busy machine takes from one to the other is not what is asked here.
    monkeypatch.setattr("otel_posthog.sdk.callbacks.ON_ITS_WAY_NS", 60 * 1_000_000_000)
    with (
        pytest.raises(ValueError),
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request,
        app.tracer.start_as_current_span("query") as query,
    ):
        try:
            raise ValueError("x")
        except ValueError as error:
            request.record_exception(error)
            query.record_exception(error)
            if logged:
                logger.exception("failed")
            raise
    [event] = exceptions(app)
    assert first(event)["mechanism"]["handled"] is False
    assert first(event)["mechanism"]["type"] == "middleware"


KEPT = ValueError("not configured")


def test_an_object_that_is_raised_again_is_captured_again(app: Any) -> None:
    """`raise NOT_CONFIGURED` in three requests is three failures, although it is one object; nested spans add none."""

    def check() -> None:
        with app.tracer.start_as_current_span("check"):
            raise KEPT

    for _ in range(3):
        with pytest.raises(ValueError), app.tracer.start_as_current_span("request"):
            check()
    assert len(exceptions(app)) == 3
    assert len({event.uuid for event in exceptions(app)}) == 3
    assert app.reasons() == {"duplicate_exception": 3}


def _again(error: BaseException) -> None:
    raise error  # as `six.reraise` and its like: one statement for all


def test_handlers_that_raise_it_again_make_no_second_one(app: Any, logger: logging.Logger) -> None:
    """`raise`, `raise error`, a helper that raises, a future: one propagation, however often it is seen."""

    def through(pass_on: Callable[[BaseException], None], depth: int) -> None:
        with app.tracer.start_as_current_span("level"):
            try:
                if depth:
                    through(pass_on, depth - 1)
                raise ValueError("x")
            except ValueError as error:
                logger.exception("seen")
                pass_on(error)
                raise

    def in_a_thread(error: BaseException) -> None:
        def fail() -> None:
            raise error

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(fail).result()

    def nothing(_: BaseException) -> None:
        """Leaves it to the bare `raise`."""

    for pass_on in (nothing, _again, in_a_thread):
        before = len(exceptions(app))
        with pytest.raises(ValueError), app.tracer.start_as_current_span("request"):
            through(pass_on, 3)
        assert len(exceptions(app)) == before + 1


def test_a_recursion_is_one_failure(app: Any) -> None:
    """Every level of a recursion through C stands at the same call: nobody raised it twice."""

    @functools.cache
    def endless(depth: int) -> int:
        with app.tracer.start_as_current_span("level"):
            return endless(depth + 1) if depth < 20 else endless(int("x"))

    with pytest.raises(ValueError), app.tracer.start_as_current_span("request"):
        endless(0)
    assert len(exceptions(app)) == 1


def test_an_unrelated_exception_in_flight_is_not_mistaken(app: Any) -> None:
    """A span that ends in an except block is not about the exception handled there."""
    error = RuntimeError("other")
    try:
        raise error
    except RuntimeError:
        with app.tracer.start_as_current_span("cleanup") as span:
            span.add_event("exception", {"exception.type": "ValueError", "exception.message": "recorded"})
    [event] = exceptions(app)
    assert first(event)["type"] == "ValueError"
    assert not hasattr(error, CAPTURED_MARK)


def test_a_logged_exception_outside_any_trace_leaves_at_once(app: Any, logger: logging.Logger) -> None:
    """There is no trace to wait for; a log of the app's own means that the app took it."""
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("went wrong")
    events = [event for event in app.arrived() if event.event == "$exception"]
    assert len(events) == 1
    assert first(events[0])["mechanism"] == {
        "type": "logger", "handled": True, "exception_id": 0, "synthetic": False,
    }  # fmt: skip


def test_a_framework_s_last_resort_is_unhandled(app: Any) -> None:
    """What a server logs because nobody handled it was not handled."""
    for logger in _logger(app.logger_provider, "django.request"):
        try:
            raise ValueError("x")
        except ValueError:
            logger.exception("Internal Server Error: /x")
    [event] = exceptions(app)
    assert first(event)["mechanism"]["handled"] is False


@pytest.mark.skipif(
    "exception" not in inspect.signature(Logger.emit).parameters, reason="SDK 1.42 brought `Logger.emit(exception=…)`"
)
def test_emit_with_an_exception_object(app: Any) -> None:
    """`Logger.emit(exception=…)` brings the object itself, outside any except block."""
    error = ValueError("given")
    app.logger_provider.get_logger("x").emit(
        body="failed", severity_number=SeverityNumber.ERROR, exception=error, event_name="job.exception"
    )
    app.logger_provider.get_logger("x").emit(body="failed again", exception=error)
    [event] = exceptions(app)
    assert first(event)["value"] == "given"
    assert getattr(error, CAPTURED_MARK) is True


def test_chains_and_groups_are_told(app: Any) -> None:
    """Causes, contexts, suppressed contexts and group members, in the caught exception's event."""
    with pytest.raises(RuntimeError), app.tracer.start_as_current_span("x"):
        try:
            try:
                raise KeyError("deepest")
            except KeyError:
                raise ValueError("middle")  # noqa: B904 - the implicit context is what is tested
        except ValueError as error:
            raise RuntimeError("outermost") from error
    [event] = exceptions(app)
    assert [one["type"] for one in event.properties["$exception_list"]] == ["RuntimeError", "ValueError", "KeyError"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")
def test_a_group_has_its_members(app: Any) -> None:
    """The members of a group follow it."""
    with pytest.raises(Exception, match="several"), app.tracer.start_as_current_span("x"):
        raise builtins.ExceptionGroup("several", [ValueError("a"), TypeError("b")])
    [event] = exceptions(app)
    assert [one["type"] for one in event.properties["$exception_list"]] == ["ExceptionGroup", "ValueError", "TypeError"]


def test_tasks_share_nothing_but_the_object(app: Any) -> None:
    """Two tasks that fail are two; one failure that a gather brings to the root is one."""
    inside: list[str] = []

    async def fail(text: str, both: asyncio.Event) -> None:
        with app.tracer.start_as_current_span("task"):
            inside.append(text)
            if len(inside) == 2:
                both.set()
            await both.wait()
            raise ValueError(text)

    async def main() -> None:
        both = asyncio.Event()
        with app.tracer.start_as_current_span("root"):
            await asyncio.gather(fail("one", both), fail("two", both), return_exceptions=True)
            await fail("three", both)

    with pytest.raises(ValueError, match="three"):
        asyncio.run(main())
    assert sorted(first(event)["value"] for event in exceptions(app)) == ["one", "three", "two"]


def test_exceptions_can_be_switched_off(build: Any) -> None:
    """With `exceptions` off nothing is captured, and nothing is marked for others."""
    app = build(convert=ConvertConfig(exceptions=False))
    error = ValueError("x")
    with pytest.raises(ValueError), app.tracer.start_as_current_span("x"):
        raise error
    assert exceptions(app) == []
    assert not hasattr(error, CAPTURED_MARK)


def test_without_waiting_the_first_carrier_speaks(build: Any) -> None:
    """`late_wait` 0: still one event for one object."""
    app = build(identity=IdentityConfig(late_wait=0))
    with pytest.raises(ValueError), app.tracer.start_as_current_span("a"), app.tracer.start_as_current_span("b"):
        raise ValueError("x")
    assert len(exceptions(app)) == 1
    assert app.reasons() == {"duplicate_exception": 1}


# --- what is no error ------------------------------------------------------------------------------------------------


class OutOfStock(starlette.exceptions.HTTPException):
    """The app's own answer: its type says nothing to a gateway, its base class does here."""


@pytest.mark.parametrize(
    "error",
    [
        werkzeug.exceptions.NotFound(),
        werkzeug.exceptions.HTTPException(response=werkzeug.wrappers.Response(status=409)),
        OutOfStock(409, "none left"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
    ],
)
def test_an_answer_or_an_exit_is_no_issue(app: Any, logger: logging.Logger, error: BaseException) -> None:
    """Neither from spans nor from a warning, and it stays unmarked: whoever wants to capture it may."""
    # `with span` records what is no Exception, too; `start_as_current_span` does not.
    with pytest.raises(type(error)), app.tracer.start_span("view"):
        try:
            raise error
        except BaseException:
            logger.warning("answered", exc_info=True)
            raise
    assert exceptions(app) == []
    assert app.reasons() == {"control_flow": 2}
    assert not hasattr(error, CAPTURED_MARK)


@pytest.mark.parametrize("error", [werkzeug.exceptions.BadGateway(), OutOfStock(500)])
def test_a_server_error_is_an_issue(app: Any, error: Exception) -> None:
    """An answer of 500 and more says that something broke."""
    with pytest.raises(type(error)), app.tracer.start_as_current_span("view"):
        raise error
    assert len(exceptions(app)) == 1


def test_an_answer_that_is_logged_as_an_error_is_one(app: Any, logger: logging.Logger) -> None:
    """The author of the record calls it an error; the spans around it add nothing."""
    with pytest.raises(werkzeug.exceptions.Gone), app.tracer.start_as_current_span("request"):
        try:
            with app.tracer.start_as_current_span("view"):
                raise werkzeug.exceptions.Gone
        except werkzeug.exceptions.Gone:
            logger.exception("should never be gone")
            raise
    [event] = exceptions(app)
    assert first(event)["type"] == "Gone"


# --- the posthog SDK -------------------------------------------------------------------------------------------------


@pytest.fixture(name="posthog_sdk")
def posthog_against_loopback() -> Iterator[tuple[Any, Callable[[], list[str]]]]:
    """The real `posthog` SDK, sending to a recorder on loopback; gives the client and the names that arrived."""
    from posthog import Posthog

    bodies: list[bytes] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b'{"status": 1}')

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = Posthog("phc_test", host=f"http://127.0.0.1:{server.server_port}", gzip=False)

    def names() -> list[str]:
        client.flush()
        found: list[str] = []
        for body in bodies:
            found += [event["event"] for event in json.loads(body)["batch"]]
        return found

    yield client, names
    client.shutdown()
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_posthog_sdk_skips_what_we_have(app: Any, posthog_sdk: Any) -> None:
    """We come first (the inner span), the app's own `capture_exception` second: one in all."""
    client, names = posthog_sdk
    with app.tracer.start_as_current_span("request"):
        try:
            with app.tracer.start_as_current_span("query"):
                raise ValueError("x")
        except ValueError as error:
            client.capture_exception(error, distinct_id="u1")
    assert len(exceptions(app)) == 1
    assert names() == []


def test_we_skip_what_the_posthog_sdk_has(app: Any, posthog_sdk: Any, logger: logging.Logger) -> None:
    """The SDK comes first: our spans and logs of the same object are duplicates."""
    client, names = posthog_sdk
    with pytest.raises(ValueError), app.tracer.start_as_current_span("request"):
        try:
            raise ValueError("x")
        except ValueError as error:
            client.capture_exception(error, distinct_id="u1")
            logger.exception("failed")
            raise
    assert names() == ["$exception"]
    assert exceptions(app) == []
    assert app.reasons() == {"duplicate_exception": 2}


# --- one exception, read ---------------------------------------------------------------------------------------------


class Slotted(Exception):
    __slots__ = ("code",)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Refusing(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(name)

    def __getattr__(self, name: str) -> Any:
        return "yes to everything"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unspeakable(Unprintable):
    def __repr__(self) -> str:
        raise RuntimeError("no text either")

    @property
    def message(self) -> str:
        raise RuntimeError("nor here")


@pytest.mark.parametrize(
    "error", [Slotted("x"), Frozen(1), Refusing("x"), Unprintable("x"), Unspeakable("x"), KeyboardInterrupt()]
)
def test_any_object_is_captured_once(error: BaseException) -> None:
    """Slots, frozen instances and classes that refuse attributes are marked all the same."""
    once, twice = see(error, deliberate=True), see(error, deliberate=True)
    assert (once.captured_before, twice.captured_before) == (False, True)
    assert once.token == twice.token == vars(error)[UUID_MARK]


@pytest.mark.row(47)
def test_a_str_that_raises_has_a_placeholder() -> None:
    """The app's `__str__` costs the text and nothing else."""
    assert read_chain(see(Unprintable("x")))[0].value == "Unprintable('x')"
    assert read_chain(see(Unspeakable("x")))[0].value == "<broken repr>"


@pytest.mark.row(47)
def test_a_cycle_ends() -> None:
    """An exception that is its own cause is told once."""
    one, two = ValueError("1"), ValueError("2")
    one.__cause__, two.__cause__ = two, one
    assert [link.value for link in see(one).chain] == ["1", "2"]


def test_a_suppressed_context_is_left_out() -> None:
    """`raise … from None` means it."""
    error = ValueError("1")
    error.__context__ = KeyError("2")
    error.__suppress_context__ = True
    assert len(see(error).chain) == 1


def test_a_long_chain_is_bounded() -> None:
    """At most 50 exceptions are told."""
    error: BaseException = ValueError("0")
    for number in range(200):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following
    assert len(see(error).chain) == 50


def test_a_deep_traceback_keeps_both_ends() -> None:
    """Of a recursion the way in and the crash are kept."""

    def fall(depth: int) -> None:
        if depth == 0:
            raise RecursionError("bottom")
        fall(depth - 1)

    try:
        fall(600)
    except RecursionError as error:
        frames = read_chain(see(error))[0].frames
    assert len(frames) == 128
    assert frames[0].function == "test_a_deep_traceback_keeps_both_ends"
    assert (frames[-1].context_line or "").strip() == 'raise RecursionError("bottom")'


def test_no_frame_and_no_local_is_kept() -> None:
    """What the callback keeps of a traceback holds nothing of the request alive."""
    import gc
    import weakref

    class Big:
        pass

    def fail() -> None:
        big = Big()
        alive.append(weakref.ref(big))
        raise ValueError("x")

    alive: list[Any] = []
    try:
        fail()
    except ValueError as error:
        kept = see(error)
    gc.collect()
    assert alive[0]() is None
    assert kept.frames == 2


def test_source_that_is_gone_costs_the_lines_only() -> None:
    """Code from nowhere has a frame without source."""
    try:
        exec(compile("raise ValueError('x')", "<string>", "exec"))
    except ValueError as error:
        frame = read_chain(see(error))[0].frames[-1]
    assert (frame.filename, frame.lineno, frame.context_line) == ("<string>", 1, None)


@pytest.mark.parametrize(
    ("type_name", "message", "expected"),
    [
        ("ValueError", "x", True),
        ("builtins.ValueError", "x", True),
        ("shop.errors.ValueError", "", True),
        ("KeyError", "x", False),
        ("ValueError", "y", False),
        ("", "x", True),
    ],
)
def test_a_carrier_is_matched_by_type_and_message(type_name: str, message: str, expected: bool) -> None:
    """The last component of the type decides, and the message where there is one."""
    assert matches(ValueError("x"), type_name, message) is expected


def test_logging_s_own_message_matches() -> None:
    """Logging writes the first argument where `str` would write the tuple."""
    assert matches(ValueError("first", "second"), "ValueError", "first")
