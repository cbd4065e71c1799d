"""The thread behind the callbacks: hand-over, flush, exit, fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

PROCESS = Path(__file__).with_name("process.py")


def emit(app: Any, *names: str) -> None:
    """One tagged root span for each name."""
    for name in names:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": name}):
            pass


def run(tmp_path: Path, scenario: str) -> list[dict[str, Any]]:
    """What a process of its own captured."""
    path = tmp_path / "events"
    path.touch()
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(PROCESS), str(path), scenario],
        capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "OTEL_POSTHOG_RAISE": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_thread_delivers_by_itself(app: Any) -> None:
    """Nobody has to flush."""
    arrived = threading.Event()
    submit = app.delivery.submit
    app.delivery.submit = lambda events, receipt=None: (submit(events), arrived.set())[0]
    emit(app, "one")
    assert arrived.wait(60)


def test_no_thread_before_the_first_item(app: Any) -> None:
    """An app that captures nothing has no thread of ours."""
    with app.tracer.start_as_current_span("quiet"):
        pass
    assert app.edge.worker._thread is None


def test_a_stream_of_items_wakes_the_thread_once(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking it costs a request more than handing over: after an item it looks again by itself before it sleeps."""
    monkeypatch.setattr("otel_posthog.lane.worker._PAUSE", 600.0)
    worker = app.edge.worker
    arrived, woken = threading.Event(), list[str]()
    submit, wake = app.delivery.submit, worker._sync.wake.set
    app.delivery.submit = lambda events, receipt=None: (submit(events), arrived.set())[0]
    monkeypatch.setattr(worker._sync.wake, "set", lambda: (woken.append("woken"), wake()))
    emit(app, "one")
    assert arrived.wait(60)
    with worker._sync.work:  # it has finished with the first item
        emit(app, "two", "three")
    assert app.spans.force_flush()
    assert ([event.event for event in app.delivery.events], woken) == (["one", "two", "three"], ["woken"])


def test_many_threads_lose_nothing(app: Any) -> None:
    """Eight threads hand over at once."""

    def work(name: str) -> None:
        emit(app, *[f"{name}-{number}" for number in range(250)])

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({event.event for event in app.settle()}) == 2_000
    stats = app.edge.worker.stats()
    assert (stats.handed_over, stats.signals, stats.overflowed, stats.lost, stats.waiting) == (2_000, 2_000, 0, 0, 0)


def test_open_traces_do_not_pile_up(app: Any) -> None:
    """What was settled is forgotten."""
    emit(app, *[f"n{number}" for number in range(50)])
    app.arrived()
    assert app.edge.worker.open_traces == set()


def test_force_flush_settles_what_waits(app: Any) -> None:
    """A flush does not wait for late identity."""
    root = app.tracer.start_span("root")
    from opentelemetry import trace

    with trace.use_span(root):
        emit(app, "waiting")
    assert app.tracer_provider.force_flush()
    assert [event.event for event in app.delivery.events] == ["waiting"]
    root.end()


@pytest.mark.row(46)
def test_force_flush_is_honest(app: Any) -> None:
    """False where delivery could not, or had no room, in time."""
    app.delivery.answers = False
    emit(app, "one")
    assert not app.spans.force_flush(10)
    app.delivery.answers = True
    app.delivery.room = 0
    emit(app, "two")
    assert not app.logs.force_flush(10)
    app.delivery.room = 100
    assert app.spans.force_flush(1_000)


def test_a_dead_server_is_waited_for_once(app: Any) -> None:
    """Several processors that end together share one wait."""
    app.delivery.room = 0
    emit(app, "one")
    assert not app.spans.force_flush(300)
    begun = time.monotonic()
    app.logger_provider.shutdown()
    app.tracer_provider.shutdown()
    assert time.monotonic() - begun < 1.9  # twice exit_timeout would be 4 s
    assert app.edge.worker.stats().lost == 1


def test_the_bridge_closes_with_the_last_processor(app: Any) -> None:
    """The logger provider goes first at exit; spans still arrive until the tracer provider goes too."""
    app.logger_provider.shutdown()
    assert app.delivery.closed == 0
    emit(app, "after")
    app.tracer_provider.shutdown()
    assert [event.event for event in app.delivery.events] == ["after"]
    assert app.delivery.closed == 1


@pytest.mark.row(46)
def test_shutdown_twice_is_fine(app: Any) -> None:
    """Providers, apps and atexit may all shut down."""
    emit(app, "one")
    for _ in range(2):
        app.spans.shutdown()
        app.logs.shutdown()
    assert app.delivery.closed == 1
    assert app.edge.worker.shutdown()


def test_what_comes_after_the_end_is_counted(app: Any) -> None:
    """A closed worker takes nothing and says so."""
    app.logs.shutdown()
    app.spans.shutdown()
    emit(app, "too late")
    stats = app.edge.worker.stats()
    assert (stats.handed_over, stats.overflowed) == (1, 1)


def test_a_host_may_look_after_the_end_itself(build: Any) -> None:
    """With `closed` a shutdown only tells, and `release` gives what waits to the bridge."""
    from otel_posthog.sdk.processor import PostHogSpanProcessor

    app = build()
    told: list[Any] = []
    processor = PostHogSpanProcessor(runtime=app.runtime, closed=told.append)
    app.tracer_provider.add_span_processor(processor)
    emit(app, "one")
    processor.shutdown()
    processor.shutdown()
    assert told == [processor]
    assert app.delivery.closed == 0
    assert processor.release()
    assert [event.event for event in app.delivery.events] == ["one"]


def test_one_bad_item_costs_itself(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that cannot be read is counted; its neighbours arrive."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")

    def broken(payload: Any) -> Any:
        raise RuntimeError(payload)

    emit(app, "one")
    app.edge.worker.hand_over(broken, "x")
    emit(app, "two")
    assert app.names == ["one", "two"]
    assert app.edge.worker.stats().failed == 1
    assert app.runtime.guard.counts() == {"sdk.item": 1}


@pytest.mark.row(44)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_neither_loses_nor_doubles(tmp_path: Path) -> None:
    """What the parent took the parent delivers; the child starts empty and has a thread of its own."""
    events = run(tmp_path, "fork")
    assert sorted(event["event"] for event in events) == ["child", "parent after", "parent before"]
    by_name = {event["event"]: event["pid"] for event in events}
    assert by_name["parent before"] == by_name["parent after"] != by_name["child"]


@pytest.mark.row(44)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_held_at_the_fork_does_not_hang_the_child(tmp_path: Path) -> None:
    """A thread of the parent held the worker's lock; it does not exist in the child."""
    events = run(tmp_path, "fork with a busy worker")
    assert sorted(event["event"] for event in events) == ["child", "parent"]


@pytest.mark.parametrize("scenario", ["shutdown at exit", "no shutdown"])
def test_the_end_of_the_interpreter_delivers(tmp_path: Path, scenario: str) -> None:
    """Also where the provider does not shut down by itself."""
    assert [event["event"] for event in run(tmp_path, scenario)] == ["one"]


def test_items_that_wait_leave_at_the_end(tmp_path: Path) -> None:
    """A root that never ends holds nothing back at exit."""
    assert [event["event"] for event in run(tmp_path, "open root at exit")] == ["waiting"]


def test_a_thread_that_is_at_work_at_the_end(tmp_path: Path) -> None:
    """Threads that the interpreter waits for lose nothing."""
    assert len(run(tmp_path, "thread at exit")) == 200


def keep_handing_over(worker: Any, stop: threading.Event, most: int = 200_000) -> tuple[list[int], Any]:
    """An app that always has the next item ready before the last one is settled, until `stop` or `most` items."""
    settled: list[int] = []

    def expand(number: int) -> tuple[()]:
        settled.append(number)
        if not stop.is_set() and number < most:
            worker.hand_over(expand, number + 1)
        return ()

    return settled, expand


def test_a_flush_under_load_waits_for_what_came_before_it_only(app: Any) -> None:
    """Everything handed over so far is settled; what keeps coming is none of its business, and it says True."""
    worker, stop = app.edge.worker, threading.Event()
    settled, expand = keep_handing_over(worker, stop)
    try:
        worker.hand_over(expand, 0)
        assert worker.settle(30)
        assert worker.flush(30)
        assert len(settled) < 200_000
    finally:
        stop.set()


def test_a_flush_under_load_ends_in_time(app: Any) -> None:
    """With no time left it settles no more than a slice."""
    worker, stop = app.edge.worker, threading.Event()
    settled: list[int] = []
    with worker._sync.work:
        for number in range(1_000):
            worker.hand_over(lambda payload: settled.append(payload) or (), number)
        stop.set()
        worker._drain(until=1_000, deadline=0.0)
        assert len(settled) <= 20


def test_items_that_wait_for_identity_do_not_wait_for_a_quiet_moment(app: Any) -> None:
    """Under steady load the thread still looks what is due."""
    worker, stop = app.edge.worker, threading.Event()
    settled, expand = keep_handing_over(worker, stop)
    due, looked = worker._waiting.due, threading.Event()
    worker._waiting.due = lambda now: (looked.set(), due(now))[1]
    try:
        worker.hand_over(expand, 0)
        assert looked.wait(60)
        assert len(settled) < 200_000
    finally:
        stop.set()


@pytest.mark.row(49)
@pytest.mark.parametrize("jump", [3_600.0, -3_600.0])
def test_clocks_that_jump_while_items_wait(app: Any, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    """Both clocks jump by an hour: an item leaves early or with its root, once, with the time at which it happened."""
    wall = time.time_ns()
    root = app.tracer.start_span("root", start_time=wall)
    from opentelemetry import trace

    with trace.use_span(root):
        span = app.tracer.start_span("x", attributes={"posthog.event": "waiting"}, start_time=wall)
        span.end(end_time=wall + 1_000)
    assert app.arrived() == []
    monkeypatch.setattr(time, "time", lambda: wall / 1e9 + jump)
    monkeypatch.setattr(time, "time_ns", lambda: wall + int(jump * 1e9))
    app.clock.now += jump
    assert [event.event for event in app.arrived()] == (["waiting"] if jump > 0 else [])
    root.end(end_time=wall + 2_000)
    emit(app, "next")
    assert app.names == ["waiting", "next"]
    assert app.delivery.events[0].timestamp_ns in (wall, wall + 1_000)
    assert app.edge.worker.stats().waiting == 0
