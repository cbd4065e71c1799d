"""Threads, forks and exits: nothing before the first event, nothing twice, nothing that hangs."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_delivery, build_lane
from otel_posthog.model import LossReason
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import QUICK, TOKEN, Server, Workshop, balanced, event, key, raise_it, until

PRELUDE = """
import atexit, os, sys, threading, time
from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_delivery
from tests.unit.delivery.loopback import event, raise_it
lane = Lane(Mode.DIRECT, sys.argv[1], Secret("phc_canary0123456789"))
def build(**changes):
    config = DeliveryConfig(**{"wire": "v0", "flush_interval": 60.0, "exit_timeout": 30.0, **changes})
    return build_delivery(Settings(enabled=True, lane=lane, delivery=config), guard=raise_it)
"""


def run(server: Server, code: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(code), server.url],
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_nothing_before_the_first_event(server: Server, deliver: Workshop) -> None:
    """Building starts no thread; asking and ending do not either."""
    before = set(threading.enumerate())
    delivery = deliver()
    assert delivery.flush(1)
    assert delivery.stats().captured == 0
    assert delivery.shutdown(1)
    assert set(threading.enumerate()) <= before
    assert not delivery.submit([event(1)])


def lanes() -> list[str]:
    """Threads of deliveries that run now."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("otel-posthog-direct")]


def test_the_thread_ends_with_the_delivery(server: Server, deliver: Workshop) -> None:
    """After shutdown no thread of ours is left."""
    delivery = deliver()
    delivery.submit([event(1)])
    assert lanes()
    assert delivery.shutdown(30)
    assert until(lambda: not lanes())


@pytest.mark.row(46)
def test_shutdown_twice_and_from_many_threads(server: Server, deliver: Workshop) -> None:
    """Idempotent; everything that was taken before it is delivered."""
    delivery = deliver(flush_interval=60.0)
    delivery.submit([event(number) for number in range(150)])
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(delivery.shutdown(30))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert delivery.shutdown(1)
    assert set(server.store) == {key(event(number)) for number in range(150)}
    assert delivery.stats().delivered == 150
    assert not delivery.flush(1) or delivery.stats().pending == 0


def test_shutdown_does_not_wait_for_a_hanging_server(server: Server, deliver: Workshop) -> None:
    """The answer may never come: the events are counted as lost, once, and a late answer changes nothing."""
    server.default = loopback.hang
    delivery = deliver(timeout=20.0)
    delivery.submit([event(1)])
    assert until(lambda: len(server.seen) == 1)
    delivery.submit([event(2)])
    assert not delivery.shutdown(0.3)
    assert delivery.stats().lost == {LossReason.SHUTDOWN: 2}
    server.over.set()
    assert until(lambda: not lanes())
    assert delivery.stats().lost == {LossReason.SHUTDOWN: 2}


def test_a_known_outage_does_not_use_up_the_exit(server: Server, deliver: Workshop) -> None:
    """After several failures in a row one last attempt is enough; the books say what was lost."""
    server.default = loopback.status(503)
    # Pauses that grow: only a few attempts fit between the count and the shutdown, however late that comes.
    delivery = deliver(retry_initial=0.1, retry_max=60.0)
    delivery.submit([event(number) for number in range(5)])
    assert until(lambda: delivery.stats().retries >= 3)
    attempts = len(server.seen)
    assert not delivery.shutdown(60)
    assert len(server.seen) <= attempts + 3
    assert delivery.stats().lost == {LossReason.SHUTDOWN: 5}


def test_many_threads_submit(server: Server, deliver: Workshop) -> None:
    """The books balance at every moment, and each event arrives once."""
    delivery = deliver(queue_size=100_000)
    stop = threading.Event()
    wrong: list[Any] = []

    def watch() -> None:
        while not stop.is_set():
            try:
                balanced(delivery.stats())
            except AssertionError as error:
                wrong.append(error)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    writers = [
        threading.Thread(target=lambda base=base: [delivery.submit([event(base + n)]) for n in range(500)])
        for base in range(0, 4000, 500)
    ]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join(30)
    assert delivery.flush(30)
    stop.set()
    watcher.join(60)
    assert wrong == []
    assert server.store == dict.fromkeys((key(event(number)) for number in range(4000)), 1)


def test_flush_waits_for_what_came_before_it_only(server: Server, deliver: Workshop) -> None:
    """Events that keep coming do not keep a flush from ending."""
    delivery = deliver(queue_size=100_000)
    stop = threading.Event()

    def pour() -> None:
        number = 10_000
        while not stop.is_set():
            number += 1
            delivery.submit([event(number)])
            stop.wait(0.001)

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        for number in range(5):
            delivery.submit([event(number)])
            assert delivery.flush(30)
            assert key(event(number)) in server.store
    finally:
        stop.set()
        thread.join(60)


def test_flush_without_time_says_no(server: Server, deliver: Workshop) -> None:
    """Zero seconds: an honest answer, at once."""
    server.default = loopback.hang
    delivery = deliver()
    delivery.submit([event(1)])
    assert not delivery.flush(0)
    assert not delivery.flush(0.05)


def test_the_worker_has_no_part_in_the_first_request(server: Server, deliver: Workshop) -> None:
    """The thread starts in an empty context: no span of the app becomes parent of what we do."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("request")
    variable.set("first request")
    seen: list[str] = []

    class Peek:
        def __enter__(self) -> None:
            seen.append(variable.get("nothing"))

        def __exit__(self, *_: object) -> None:
            pass

    settings = Settings(enabled=True, lane=Lane(Mode.DIRECT, server.url, Secret(TOKEN)), delivery=QUICK)
    delivery = deliver.build(settings, send_guard=Peek)
    started: list[contextvars.Context] = []
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        started.append(contextvars.copy_context())
        original(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        delivery.submit([event(1)])
    finally:
        threading.Thread.start = original  # type: ignore[method-assign]
    assert delivery.flush(30)
    assert seen == ["nothing"]
    assert variable not in started[0]


def test_without_threads_flush_and_shutdown_do_the_work(
    server: Server, deliver: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started any more, the caller sends."""

    def refuse(self: threading.Thread) -> None:
        if "otel-posthog" in self.name:
            raise RuntimeError("can't start new thread")
        start(self)

    start = threading.Thread.start
    delivery, other = deliver(flush_interval=60.0), deliver(flush_interval=60.0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert delivery.submit([event(1)])
    assert delivery.flush(30)
    assert other.submit([event(2)])
    assert other.shutdown(30)
    assert set(server.store) == {key(event(1)), key(event(2))}


@pytest.mark.row(45)
@pytest.mark.parametrize(
    "end",
    ["", "sys.exit(0)", "sys.exit(3)", "raise ValueError('unhandled')", "threading.Thread(target=sys.exit).start()"],
)
def test_every_ordinary_exit_flushes(server: Server, end: str) -> None:
    """Nobody calls shutdown: what was captured arrives all the same."""
    ended = run(server, f"delivery = build()\ndelivery.submit([event(n) for n in range(150)])\n{end}")
    assert set(server.store) == {key(event(number)) for number in range(150)}, ended.stderr


@pytest.mark.row(45)
def test_events_of_later_atexit_callbacks_arrive(server: Server) -> None:
    """Providers registered their callbacks before us, so they end after our flush: what they bring is still sent."""
    ended = run(
        server,
        """
        def provider_shutdown():
            assert delivery.submit([event(2)])
            assert delivery.shutdown(30)
            assert not delivery.submit([event(3)])
        atexit.register(provider_shutdown)
        delivery = build()
        delivery.submit([event(1)])
        """,
    )
    assert set(server.store) == {key(event(1)), key(event(2))}, ended.stderr
    assert ended.stderr == ""


def test_the_first_event_of_an_atexit_callback_arrives(server: Server) -> None:
    """Submit for the first time while the interpreter ends: the shutdown that follows sends."""
    ended = run(
        server,
        """
        delivery = build()
        @atexit.register
        def late():
            assert delivery.submit([event(1)])
            assert delivery.shutdown(30)
        """,
    )
    assert set(server.store) == {key(event(1))}, ended.stderr


def test_after_a_failed_flush_at_exit_later_events_still_leave(server: Server) -> None:
    """The server is away at our flush and back at the provider's: what is left goes out then, the late event too."""
    server.script = [loopback.status(503)] * 4
    ended = run(
        server,
        """
        @atexit.register
        def provider_shutdown():
            assert delivery.submit([event(2)])
            assert delivery.flush(30)
            assert delivery.stats().delivered == 2
        delivery = build(flush_interval=0.01, retry_initial=0.05, retry_max=0.05)
        delivery.submit([event(1)])
        while delivery.stats().retries < 2:
            time.sleep(0.005)
        """,
    )
    assert ended.returncode == 0, ended.stderr
    assert set(server.store) == {key(event(1)), key(event(2))}, ended.stderr


def test_an_exit_does_not_wait_for_what_may_not_go_out(server: Server, deliver: Workshop) -> None:
    """One event may only be sent again in a minute: the others leave, and shutdown does not sit its time out."""

    def later(handler: loopback.Handler, seen: loopback.Seen) -> None:
        answer = loopback.results(seen, **{"user-0": "retry"})
        handler.reply(200, answer, Content_Type="application/json", Retry_After="60")

    server.default = later
    delivery = deliver(wire="v1", flush_interval=60.0)
    delivery.submit([event(number) for number in range(10)])
    begun = time.monotonic()
    assert not delivery.shutdown(30)
    assert time.monotonic() - begun < 25
    stats = delivery.stats()
    assert (stats.delivered, stats.lost) == (9, {LossReason.SHUTDOWN: 1})


@pytest.mark.row(45)
@pytest.mark.parametrize("server_does", [loopback.hang, loopback.status(503), loopback.drip_head])
def test_an_exit_is_bounded_whatever_the_server_does(server: Server, server_does: Any) -> None:
    """No hang, no traceback; one line says what was not delivered."""
    server.default = server_does
    ended = run(
        server,
        """
        delivery = build(exit_timeout=0.5)
        delivery.submit([event(1)])
        begun = time.monotonic()
        atexit.register(lambda: os.write(1, b"%f" % (time.monotonic() - begun)))
        """,
    )
    server.over.set()
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert "events not delivered at exit (direct@127.0.0.1): 1" in ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_starts_empty_and_sends_its_own(server: Server) -> None:
    """What the parent had taken, the parent sends, once; the child's events are the child's."""
    ended = run(
        server,
        """
        delivery = build()
        delivery.submit([event(n) for n in range(50)])
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                assert delivery.stats().captured == 0
                assert delivery.submit([event(1000 + child)])
                assert delivery.flush(30)
                assert delivery.shutdown(30)
                os._exit(7)
            children.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [7, 7, 7]
        assert delivery.flush(30)
        """,
    )
    assert ended.returncode == 0, ended.stderr
    expected = [*range(50), 1000, 1001, 1002]
    assert server.store == dict.fromkeys((key(event(number)) for number in expected), 1)


@pytest.mark.row(44)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_while_everything_is_busy(server: Server) -> None:
    """Threads submit and the worker sends while the process forks: no child hangs, no lock is held for ever."""
    ended = run(
        server,
        """
        delivery = build(flush_interval=0.001, queue_size=100000)
        stop = threading.Event()
        def pour(base):
            number = base
            while not stop.is_set():
                number += 1
                delivery.submit([event(number)])
                stop.wait(0.0001)
        threads = [threading.Thread(target=pour, args=(base,), daemon=True) for base in (100000, 200000, 300000)]
        for thread in threads:
            thread.start()
        for child in range(40):
            pid = os.fork()
            if pid == 0:
                import signal
                signal.alarm(60)
                delivery.submit([event(child)])
                os._exit(0 if delivery.flush(50) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, child
        stop.set()
        for thread in threads:
            thread.join()
        assert delivery.flush(30)
        assert delivery.stats().balanced
        """,
    )
    assert ended.returncode == 0, ended.stderr
    assert {key(event(child)) for child in range(40)} <= set(server.store)


@pytest.mark.row(44)
def test_a_fork_that_python_did_not_see(server: Server, deliver: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """UWSGI forks in C: a changed process id is noticed at the next submit."""
    delivery = deliver(flush_interval=60.0)
    delivery.submit([event(1)])
    parents, thread = vars(delivery)["_engine"], vars(delivery)["_thread"]
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert delivery.stats().captured == 0
    assert delivery.submit([event(2)])
    assert delivery.flush(30)
    assert set(server.store) == {key(event(2))}
    delivery.shutdown(5)
    # A fork's child would be without it. Here it would go on in the tests that follow.
    parents.finishing(0.0, closed=True)
    parents.abandon()
    parents.wake.set()
    thread.join(60)
    assert not thread.is_alive()


def test_an_abandoned_delivery_is_collected(server: Server) -> None:
    """The hooks for forks and exits hold no delivery alive."""
    import gc
    import weakref

    lane = Lane(Mode.DIRECT, server.url, Secret(TOKEN))
    delivery = build_lane(lane, QUICK, guard=raise_it)
    gone = weakref.ref(delivery)
    del delivery
    gc.collect()
    assert gone() is None


def test_no_secret_in_any_repr(server: Server, deliver: Workshop) -> None:
    """Neither the delivery nor its parts show the key."""
    delivery = deliver()
    delivery.submit([event(1)])
    assert delivery.flush(30)
    said = repr(vars(delivery)) + repr(vars(vars(delivery)["_engine"])) + repr(delivery.stats())
    assert TOKEN not in said


def test_nowhere_to_deliver_is_a_config_error() -> None:
    """No lane and no sink: said at load, with the way out."""
    from otel_posthog.errors import ConfigError

    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        build_delivery(Settings(enabled=True), guard=raise_it)


def test_what_comes_after_the_flush_at_exit_is_no_alarm(server: Server) -> None:
    """Threads go on to capture while the exit flushes: the provider's own shutdown brings that, so nothing is said."""
    ended = run(
        server,
        """
        stop = threading.Event()
        submitted = 0
        def work():
            global submitted
            while not stop.is_set():
                submitted += delivery.submit([event(submitted)])
                time.sleep(0.001)
        thread = threading.Thread(target=work, daemon=True)
        def provider():  # registered before, so it runs after the lane's own
            stop.set()
            thread.join()
            delivery.shutdown(30)
            print(submitted, delivery.stats().delivered)
        atexit.register(provider)
        delivery = build(flush_interval=60.0)
        thread.start()
        while submitted < 20:
            time.sleep(0.005)
        """,
    )
    submitted, delivered = ended.stdout.split()
    assert submitted == delivered != "0"
    assert ended.stderr == ""
