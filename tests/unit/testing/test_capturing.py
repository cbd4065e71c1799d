"""`capturing()`: all that the code under test does, and nothing left behind."""

from __future__ import annotations

import asyncio
import logging
import threading
import unittest
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsList, IsPartialDict, IsStr
from inline_snapshot import snapshot
from opentelemetry import _logs, context, trace
from opentelemetry._logs import _internal as logs_internal
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import otel_posthog
from otel_posthog import assembly, flags
from otel_posthog.api.process import process
from otel_posthog.errors import ConfigError
from otel_posthog.testing import CapturedEvents, capturing
from tests.fixtures.logging_bridge import LoggingHandler

early = trace.get_tracer("shop")
"""Asked for before there was any provider, as modules of apps do."""


@pytest.fixture(autouse=True)
def own_globals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No provider and no runtime of another test."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    monkeypatch.setattr(trace, "_TRACER_PROVIDER_SET_ONCE", trace.Once())
    monkeypatch.setattr(logs_internal, "_LOGGER_PROVIDER", None)
    monkeypatch.setattr(logs_internal, "_LOGGER_PROVIDER_SET_ONCE", logs_internal.Once())
    monkeypatch.setattr(assembly._process, "_runtime", None)
    process.forget()
    yield
    process.forget()


@pytest.fixture
def events() -> Iterator[CapturedEvents]:
    """What the test does."""
    with capturing(seed="a test") as events:
        yield events


def test_calls_are_whole_events(events: CapturedEvents) -> None:
    """Calls: the person, the groups and what they say; the rest is in `whole`."""
    otel_posthog.identify("ada", set={"plan": "pro"})
    otel_posthog.capture("order paid", {"total": 29.0}, groups={"company": "acme"})

    assert events == [
        {"event": "$set", "distinct_id": "ada", "properties": {"$set": {"plan": "pro"}}},
        {"event": "order paid", "distinct_id": "ada", "properties": {"total": 29.0}, "groups": {"company": "acme"}},
    ]
    paid = events[-1]
    assert (paid.name, paid.distinct_id, paid.properties, paid.groups, paid.uuid, paid.timestamp) == (
        "order paid",
        "ada",
        {"total": 29.0},
        {"company": "acme"},
        "019b76da-a800-7000-8000-000000000002",
        datetime(2026, 1, 1, tzinfo=timezone.utc),
    )
    assert paid.whole == {
        "event": "order paid",
        "distinct_id": "ada",
        "properties": IsPartialDict(
            {"total": 29.0, "$groups": {"company": "acme"}, "$lib": "otel-posthog", "$is_server": True}
        ),
        "timestamp": "2026-01-01T00:00:00.000000Z",
        "uuid": "019b76da-a800-7000-8000-000000000002",
    }


def test_spans_logs_and_exceptions_are_captured(events: CapturedEvents) -> None:
    """Annotated spans and log lines, errors, durations by the clock of the test; with no provider of the app's."""
    with early.start_as_current_span("checkout", attributes={"posthog.event": "checked out", "user.id": "ada"}):
        events.clock.advance(2)
    logging.getLogger("shop").error("declined", extra={"posthog.event": "card declined", "user.id": "ada"})
    with pytest.raises(ZeroDivisionError), early.start_as_current_span("bad", attributes={"user.id": "ada"}):
        1 / 0  # noqa: B018
    with otel_posthog.timed("imported", {"rows": 3}, distinct_id="ada"):
        events.clock.advance(timedelta(seconds=1))

    assert events.of("ada").as_dicts() == [
        {"event": "checked out", "distinct_id": "ada", "properties": {"duration_ms": 2000.0}},
        {"event": "card declined", "distinct_id": "ada", "properties": {}},
        {"event": "$exception", "distinct_id": "ada", "properties": IsPartialDict(**{"$exception_level": "error"})},
        {
            "event": "imported",
            "distinct_id": "ada",
            "properties": {"rows": 3, "duration_ms": 1000.0, "success": True},
        },
    ]
    assert [event.timestamp.second for event in events] == [2, 2, 2, 3]
    (error,) = events.one("$exception").properties["$exception_list"]
    assert (error["type"], error["value"]) == ("ZeroDivisionError", "division by zero")
    assert [sorted(frame) for frame in error["stacktrace"]["frames"] if "abs_path" in frame] == []


def test_the_same_again() -> None:
    """Ids and times are the same in each run, also of traces, personless visitors and exceptions."""
    runs: list[Any] = []
    for _ in range(2):
        with capturing(seed="a test") as events:
            with early.start_as_current_span("request"):
                otel_posthog.capture("seen")
                otel_posthog.capture_exception(KeyError("x"))
            with early.start_as_current_span("next", attributes={"posthog.event": "done"}):
                pass
            logging.getLogger("shop").error("declined", extra={"posthog.event": "card declined"})
            runs.append(events.as_dicts(whole=True))

    assert runs[0] == runs[1]
    assert len({event["uuid"] for event in runs[0]}) == 4


def test_another_seed_has_other_traces() -> None:
    """Two tests never share a trace, which something might still remember."""
    found: list[int] = []
    for seed in ("one", "two"):
        with capturing(seed=seed), early.start_as_current_span("request") as span:
            found.append(span.get_span_context().trace_id)

    assert found[0] != found[1]


def test_a_provider_of_the_app(events: CapturedEvents) -> None:
    """Providers that are set in the test, or are not global at all; unsampled spans, too."""
    mine = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    trace.set_tracer_provider(mine)
    with trace.get_tracer("x").start_as_current_span("a", attributes={"posthog.event": "by the app's"}):
        pass
    other = TracerProvider(shutdown_on_exit=False)
    events.attach(other)
    events.attach(other)
    with other.get_tracer("x").start_as_current_span("a", attributes={"posthog.event": "by another"}):
        pass
    lines = LoggerProvider(shutdown_on_exit=False)
    _logs.set_logger_provider(lines)
    logging.getLogger("shop").error("x", extra={"posthog.event": "a line"})
    mine.shutdown()

    assert [event.name for event in events] == ["by the app's", "by another", "a line"]
    assert trace.get_tracer_provider() is mine


def test_a_line_counts_once(events: CapturedEvents) -> None:
    """Where the app turns log lines into records itself, ours stands back."""
    logger = logging.getLogger("shop.own")
    handler = LoggingHandler()
    logger.addHandler(handler)
    try:
        logger.error("x", extra={"posthog.event": "a line"})
    finally:
        logger.removeHandler(handler)

    assert [event.name for event in events] == ["a line"]


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers, processors, samplers, time, ids, handlers, context and runtime are as they were."""
    mine = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    tracer = mine.get_tracer("x")

    def state() -> list[Any]:
        import opentelemetry.sdk.trace as sdk

        from otel_posthog.lane import exceptions, now, uuids

        return [
            trace._TRACER_PROVIDER,
            trace._set_tracer_provider,
            logs_internal._LOGGER_PROVIDER,
            logs_internal._set_logger_provider,
            mine._active_span_processor._span_processors,
            sorted(vars(mine)),
            tracer.sampler,  # type: ignore[attr-defined]
            mine.get_tracer("y").sampler,  # type: ignore[attr-defined]
            RandomIdGenerator.generate_trace_id,
            sdk.time_ns,  # type: ignore[attr-defined]
            now.time_ns,
            uuids.getrandbits,
            exceptions._new_token,
            list(logging.getLogger().handlers),
            context.get_current(),
            assembly.current(),
        ]

    before = state()
    with capturing() as events:
        events.attach(mine)
        otel_posthog.identify("ada")
        with mine.get_tracer("z").start_as_current_span("a", attributes={"posthog.event": "seen"}):
            pass
        assert events.named("seen")

    assert state() == before
    assert otel_posthog.capture("after it") is None
    with early.start_as_current_span("a", attributes={"posthog.event": "after it"}):
        pass
    assert len(events) == 1  # and it can still be read


def test_tests_do_not_see_each_other() -> None:
    """The person of one is nobody in the next; tracers that modules keep work in both."""
    for _ in range(2):
        with capturing() as events:
            with early.start_as_current_span("a", attributes={"posthog.event": "seen"}):
                pass
            otel_posthog.identify("ada")
        assert [(event.name, event.personless) for event in events] == [("seen", True)]


def test_blocks_in_blocks() -> None:
    """The inner one takes; afterwards the outer one goes on."""
    with capturing() as outer:
        otel_posthog.capture("before", distinct_id="ada")
        with capturing() as inner:
            otel_posthog.capture("inside", distinct_id="ada")
        otel_posthog.capture("after", distinct_id="ada")

    assert [event.name for event in inner] == ["inside"]
    assert [event.name for event in outer] == ["before", "after"]


def test_threads_and_tasks(events: CapturedEvents) -> None:
    """What happened in threads and tasks before the look is in it, without any wait."""

    def work(number: int) -> None:
        for turn in range(50):
            otel_posthog.capture("worked", {"turn": turn}, distinct_id=f"worker-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def main() -> None:
        with otel_posthog.scope(distinct_id="ada"):
            await asyncio.gather(*(asyncio.to_thread(otel_posthog.capture, "asked") for _ in range(3)))

    asyncio.run(main())
    assert [len(events.of(f"worker-{number}")) for number in range(4)] == [50] * 4
    assert len(events.of("ada")) == 3
    assert len({event.uuid for event in events}) == 203


def test_more_than_a_queue_holds(events: CapturedEvents) -> None:
    """Nothing is lost, however many: production's bounds are for production."""
    for number in range(12_000):
        otel_posthog.capture("counted", {"n": number}, distinct_id="ada")

    assert len(events) == 12_000


def test_rules_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules as text or file, from the project, from the environment; settings by name."""
    text = "rules:\n  - name: pay\n    match: {name: pay}\n    capture: order paid\n"
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    (tmp_path / "pyproject.toml").write_text(
        '[[tool.otel_posthog.rules]]\nname = "pay"\nmatch = {name = "pay"}\ncapture = "order paid"\n'
    )

    def paid(**arguments: Any) -> list[str]:
        with capturing(**arguments) as events:
            with early.start_as_current_span("pay"):
                pass
            return [event.name for event in events]

    assert paid() == []
    assert paid(rules=text) == paid(rules=file) == paid(rules=str(file)) == paid(directory=tmp_path) == ["order paid"]
    monkeypatch.setenv("OTEL_POSTHOG_CONFIG", str(file))
    monkeypatch.setenv("OTEL_POSTHOG_SINK", "console")
    monkeypatch.setenv("OTEL_POSTHOG_ENABLED", "false")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert paid() == ["order paid"]
    with pytest.raises(ConfigError, match="no such setting"), capturing(keep_qery=True):
        pass
    with pytest.raises(ConfigError, match="rules"), capturing(rules="rules:\n  - nome: x\n"):
        pass
    assert assembly.current() is None


def test_flags_in_a_test(events: CapturedEvents) -> None:
    """Nobody is asked for a flag; an override answers, and evaluations of others are events."""
    assert flags.enabled("new-ui", "ada", default=True) is True
    with flags.override("new-ui", False):
        assert flags.enabled("new-ui", "ada", default=True) is False
    assert events == []


def test_time_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where freezegun (functions in the place of `time`'s) or time-machine (which says so) rules, theirs counts."""
    import sys
    import time
    import types

    at = 1_700_000_000_000_000_000
    there = [True]
    hatch = types.SimpleNamespace(is_travelling=lambda: there[0])
    with capturing() as events:
        otel_posthog.capture("first", distinct_id="ada")
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: at)
            otel_posthog.capture("second", distinct_id="ada")
            with early.start_as_current_span("a", attributes={"posthog.event": "third", "user.id": "ada"}):
                pass
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "time_machine", types.SimpleNamespace(escape_hatch=hatch))
            otel_posthog.capture("fourth", distinct_id="ada")
            there[0] = False
            otel_posthog.capture("fifth", distinct_id="ada")
            patch.setitem(sys.modules, "time_machine", types.SimpleNamespace(coordinates_stack=[object()]))
            otel_posthog.capture("sixth, with an older one", distinct_id="ada")

        ours = [event.timestamp == events.clock.now for event in events]
    assert ours == [True, False, False, False, True, False]
    assert [events[index].timestamp.year for index in (1, 2)] == [2023, 2023]


def test_real_time() -> None:
    """Where a test wants real ids and times, it has them."""
    before = datetime.now(timezone.utc)
    with capturing(real_time=True) as events:
        otel_posthog.capture("now", distinct_id="ada")
    (event,) = events
    assert before - timedelta(milliseconds=1) <= event.timestamp <= datetime.now(timezone.utc)
    assert event.uuid[-12:] != "000000000001"


def test_the_list(events: CapturedEvents) -> None:
    """It is read like a list, compares like one, and forgets when it is told to."""
    otel_posthog.capture("a", distinct_id="ada")
    first = events.events
    otel_posthog.capture("b", {"n": 1}, distinct_id="bob")

    assert (len(events), len(first), bool(events)) == (2, 1, True)
    assert [event.name for event in events[1:]] == ["b"]
    assert events == IsList(IsPartialDict(event="a"), IsPartialDict(distinct_id="bob"))
    assert events != [] and events != [{"event": "a"}]
    assert events == events.events
    assert repr(events) == repr(events.as_dicts())
    assert events.one("b") in events
    events.clear()
    assert (list(events), len(events)) == ([], 0)
    otel_posthog.capture("c", distinct_id="ada")
    assert events.one().name == "c"


def test_what_a_failure_says(events: CapturedEvents) -> None:
    """Who looks for an event that is not there sees what is, what was dropped and why, and which calls were wrong."""
    otel_posthog.capture("order paid", {"total": 29.0}, distinct_id="ada", groups={"company": "acme"})
    otel_posthog.capture("seen")
    otel_posthog.capture("", distinct_id="ada")
    with early.start_as_current_span("a", attributes={"posthog.event": "x", "posthog.ignore": True}):
        pass
    with pytest.raises(ZeroDivisionError), early.start_as_current_span("bad", attributes={"user.id": "ada"}):
        1 / 0  # noqa: B018

    with pytest.raises(AssertionError) as failure:
        events.one("order payd")
    assert str(failure.value).splitlines() == snapshot(
        [
            "exactly one event 'order payd' was expected, and none captured; did you mean 'order paid'?",
            "Captured:",
            "  1. 'order paid' of 'ada' {'total': 29.0} in {'company': 'acme'}",
            "  2. 'seen' of nobody {'$process_person_profile': False}",
            "  3. '$exception' of 'ada' {'$exception_list': ['ZeroDivisionError: division by zero'], '$exception_level': 'error', '$exception_source': 'otel.span'}",  # noqa: E501
            "Dropped: 1 x ignored",
            "Wrong calls: 1 x event",
        ]
    )
    with pytest.raises(AssertionError, match=r"^exactly one event was expected, and 3 captured"):
        events.one()
    with pytest.raises(IndexError, match=r"^there is no event 7\nCaptured:\n  1\. 'order paid' of 'ada'"):
        events[7]
    with pytest.raises(TypeError, match="takes no processors"):
        events.attach(object())


def test_an_error_of_ours_is_told(events: CapturedEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal failure, which production would count and swallow, ends the test."""
    from otel_posthog.lane.edge import edge_of

    runtime = assembly.current()
    assert runtime is not None

    def broken(_payload: object) -> list[Any]:
        raise LookupError("a bug")

    edge_of(runtime).worker.hand_over(broken, None)
    with pytest.raises(LookupError, match="a bug"):
        len(events)
    edge_of(runtime).worker.failures.clear()


class InUnittest(unittest.TestCase):
    """The kit without pytest's fixtures."""

    def setUp(self) -> None:
        block = capturing()
        self.events = block.__enter__()
        self.addCleanup(block.__exit__, None, None, None)

    def test_a_test_case(self) -> None:
        """One capture, one event."""
        otel_posthog.capture("seen", distinct_id="ada")
        self.assertEqual(self.events, [{"event": "seen", "distinct_id": "ada", "properties": {}}])
        self.assertEqual(self.events.one().uuid, IsStr(regex="019b76da-.*"))
