"""PostHog cannot be asked: defaults count, nobody waits long, and nobody asks again for a while."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import Any

import pytest
from opentelemetry import trace

from otel_posthog import assembly, flags
from otel_posthog.api.control import shutdown
from otel_posthog.emulator import Emulator
from otel_posthog.emulator.faults import Fault
from otel_posthog.flags.breaker import Breaker
from otel_posthog.flags.process import client
from tests.unit.flags.conftest import Calls, Start, heard


class Clock:
    """Seconds by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_breaker() -> None:
    """Pauses double up to the longest; after each one question is let through; an answer closes it."""
    clock = Clock()
    breaker = Breaker(longest=4, trial=2, monotonic=clock)
    assert breaker.allows()
    pauses: list[float] = []
    for _ in range(4):
        breaker.failed()
        begun = clock.now
        while not breaker.allows():
            clock.now += 0.25
        pauses.append(clock.now - begun)
        assert not breaker.allows()
    assert pauses == [1, 2, 4, 4]
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.allows()


def test_failures_at_once_are_one() -> None:
    """Fifty requests that were on their way when PostHog went away are no reason for a pause of a day."""
    clock = Clock()
    breaker = Breaker(longest=64, trial=0, monotonic=clock)
    for _ in range(50):
        breaker.failed()
    clock.now += 1.0
    assert breaker.allows()


def test_failures_at_once_are_one_while_others_try() -> None:
    """The same where a try may take its time."""
    clock = Clock()
    breaker = Breaker(longest=64, trial=2, monotonic=clock)
    for _ in range(50):
        breaker.failed()
    clock.now += 1.0
    assert breaker.allows()


def test_a_question_within_a_question(running: None) -> None:
    """A signal handler may ask while a question of its own thread is under way: nobody waits for himself."""
    assert flags.enabled("new-dashboard", "ada") is True
    asking = client._asking
    assert asking is not None
    with asking._lock, asking._breaker._lock:
        # First whether it would wait: a test that does so for ever says nothing.
        for lock in (asking._lock, asking._breaker._lock):
            assert lock.acquire(blocking=False)
            lock.release()
        asking._breaker.failed(doubtful=True)
        assert flags.enabled("new-dashboard", "grace") is True


def test_a_refused_question_is_its_own_fault(start: Start, emulator: Emulator, calls: Calls) -> None:
    """One question that PostHog refuses costs nobody else the answer; where it refuses all, it is left alone."""
    start(flags_cooldown=3600)
    emulator.script(Fault(action="status", status=400, path="/flags/", count=4))
    for _ in range(4):
        assert flags.enabled("new-dashboard", "ada") is False
    assert flags.enabled("new-dashboard", "grace") is True

    emulator.script(Fault(action="status", status=400, path="/flags/"))
    for _ in range(7):
        assert flags.enabled("new-dashboard", "ada") is False
    assert flags.stats().unanswered == {"failed": 9, "cooldown": 2}


@pytest.mark.parametrize("status", [500, 401])
def test_an_error_of_posthogs(
    start: Start, emulator: Emulator, calls: Calls, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default counts, PostHog is left alone for a while, and nobody is told about answers that nobody had."""
    monkeypatch.setattr("otel_posthog.flags.breaker._FIRST", 3_600.0)
    start(flags_cooldown=3600)
    emulator.script(Fault(action="status", status=status, path="/flags/"))

    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert flags.enabled("new-dashboard", "ada", default=False) is False
    assert flags.variant("new-dashboard", "grace", default="control") == "control"

    assert flags.stats().unanswered == {"failed": 1, "cooldown": 2}
    assert emulator.faults()[0]["applied"] == 1
    assert calls() == []


def test_after_the_pause_posthog_is_asked_again(start: Start, emulator: Emulator) -> None:
    """A pause of zero: each question tries."""
    start(flags_cooldown=0)
    emulator.script(Fault(action="status", status=503, path="/flags/", count=1))

    assert flags.enabled("new-dashboard", "ada") is False
    assert flags.enabled("new-dashboard", "ada") is True


def test_nobody_listens(start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The port is closed: the default, one line in the log, and no key in it."""
    start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9/i")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_canary_token")

    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert flags.enabled("new-dashboard", "ada", default=True) is True

    shown = capfd.readouterr()
    assert "canary" not in shown.out + shown.err
    assert "Traceback" not in shown.err
    shutdown(0.1)


@pytest.mark.parametrize("action", ["hang", "drip"])
def test_a_server_that_hangs(start: Start, emulator: Emulator, action: str) -> None:
    """The wait is bounded by the setting, also where an answer comes byte by byte."""
    start(flags_timeout=0.2)
    emulator.script(Fault(action=action, path="/flags/", bytes_per_second=2))
    begun = time.monotonic()

    assert flags.enabled("new-dashboard", "ada", default=True) is True

    assert time.monotonic() - begun < 30
    assert flags.stats().unanswered == {"failed": 1}
    emulator.script()


def test_a_name_that_takes_its_time(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolving a name has no limit of its own, and in an outage of DNS it takes half a minute."""
    import socket

    start(flags_timeout=0.2)
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS_HOST", "http://posthog.test")
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TOKEN", "phc_test")
    resolved = threading.Event()
    look_up: Any = socket.getaddrinfo

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "posthog.test":
            return look_up(host, *args, **kwargs)
        resolved.wait(60)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert not resolved.is_set()
    assert flags.stats().unanswered == {"failed": 1}
    resolved.set()


def test_local_answers_do_not_use_up_the_next_try(start: Start, emulator: Emulator) -> None:
    """After the pause it is the next question for PostHog that is let through, whatever was answered meanwhile."""
    start(flags_secret_key="phx_test", flags_cooldown="0.01")
    assert flags.enabled("new-dashboard", "ada") is True
    emulator.script(Fault(action="status", status=500, path="/flags/", count=1))
    assert flags.enabled("admin-tools", "ada", default=True) is True

    deadline = time.monotonic() + 60
    while flags.enabled("admin-tools", "ada", default=True) and time.monotonic() < deadline:
        assert flags.enabled("new-dashboard", "ada") is True
    assert flags.enabled("admin-tools", "ada", default=True) is False


def test_over_quota(start: Start, emulator: Emulator) -> None:
    """PostHog answers without flags: no answer, for as long as the pause."""
    start()
    emulator.script(Fault(action="quota", path="/flags/"))

    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert flags.stats().unanswered == {"failed": 1}


def test_definitions_hold_through_an_outage(start: Start, emulator: Emulator) -> None:
    """With a secret key what was loaded goes on answering."""
    start(flags_secret_key="phx_test")
    assert flags.enabled("new-dashboard", "ada") is True
    emulator.script(Fault(action="status", status=500, path="/flags/"))

    assert flags.enabled("new-dashboard", "grace") is True
    assert flags.enabled("admin-tools", "grace", default=True) is True  # PostHog alone knows whether she is one
    assert flags.stats().unanswered == {"failed": 1}


def test_definitions_that_cannot_be_loaded(start: Start, emulator: Emulator) -> None:
    """PostHog is asked instead."""
    start(flags_secret_key="phx_test")
    emulator.script(Fault(action="status", status=500, path="/flags/definitions"))

    assert flags.enabled("new-dashboard", "ada") is True
    assert flags.details("new-dashboard", "ada").source == "remote"


def test_a_flag_that_is_turned_off_is_off_within_the_interval(start: Start, emulator: Emulator) -> None:
    """The kill switch of a process that evaluates by itself."""
    start(flags_secret_key="phx_test", flags_poll_interval="0.1")
    assert flags.enabled("new-dashboard", "ada") is True

    emulator.flags = {"flags": {"new-dashboard": False}}

    deadline = time.monotonic() + 60
    while flags.enabled("new-dashboard", "ada") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert flags.enabled("new-dashboard", "ada", default=True) is False


def test_without_the_package(start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """One clear warning with the way out, and the default."""
    start()
    for name in [name for name in sys.modules if name == "posthog" or name.startswith("posthog.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("otel_posthog.flags.sdk", "otel_posthog.flags.asking"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "posthog", None)
    heard(monkeypatch)

    with caplog.at_level(logging.WARNING, "otel_posthog"):
        assert [flags.enabled("new-dashboard", "ada", default=True) for _ in range(3)] == [True] * 3

    (said,) = [record.getMessage() for record in caplog.records]
    assert said.endswith("every default counts: they need the posthog package: pip install -U 'otel-posthog[flags]'")
    assert flags.stats().unanswered == {"package": 3}


def test_a_package_that_is_too_old(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same, with the reason."""
    from otel_posthog.flags import sdk

    def refuse(self: object, *_: object, **more: object) -> None:
        raise TypeError(f"unexpected keyword argument {min(more)!r}")

    start()
    monkeypatch.setattr(sdk.Client, "__init__", refuse)
    heard(monkeypatch)

    with caplog.at_level(logging.WARNING, "otel_posthog"):
        assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert "the posthog package cannot be used (unexpected keyword argument" in caplog.text
    assert flags.stats().unanswered == {"package": 1}


def test_collector_mode(start: Start, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Collector knows no flags: host and key are named apart, or the default counts, and says so."""
    start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert flags.stats().unanswered == {"off": 1}
    shutdown(0.1)
    client.forget()
    from otel_posthog.api.process import process

    process.forget()
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS_HOST", emulator.url)
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TOKEN", "phc_test")

    assert flags.enabled("beta-features", "ada", default=True) is False
    shutdown(0.1)


def test_after_the_shutdown(running: None) -> None:
    """Late questions get the default."""
    assert flags.enabled("new-dashboard", "ada") is True
    shutdown(30)
    assert flags.enabled("new-dashboard", "ada") is False
    assert [thread.name for thread in threading.enumerate() if thread.name == "otel-posthog-flags"] == []


def test_the_thread_ends_with_the_runtime(local: None) -> None:
    """Nobody looks at definitions any more."""
    assert flags.enabled("new-dashboard", "ada") is True
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "otel-posthog-flags"]

    shutdown(30)
    assert flags.enabled("new-dashboard", "ada") is False

    thread.join(30)
    assert not thread.is_alive()


def test_many_threads(running: None, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """All wait for the first one's start, however long it takes; each person is told once."""
    from otel_posthog.flags import sdk

    found: list[bool] = []
    made = sdk.Client.__init__

    def slow(self: Any, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.2)  # the import of a package, a slow disk
        made(self, *args, **kwargs)

    monkeypatch.setattr(sdk.Client, "__init__", slow)

    def ask() -> None:
        found.extend(flags.enabled("new-dashboard", f"person-{number}") for number in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 40
    assert sorted(event["distinct_id"] for event in calls()) == [f"person-{number}" for number in range(5)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child(local: None, emulator: Emulator) -> None:
    """The child evaluates, reports, and follows changes with a thread of its own."""
    assert flags.enabled("new-dashboard", "parent") is True
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            from otel_posthog.api.control import flush

            answers = (flags.enabled("new-dashboard", "child"), flags.enabled("beta-features", "child", default=True))
            running = [thread.name for thread in threading.enumerate()].count("otel-posthog-flags")
            code = 0 if answers == (True, False) and running == 1 and flush(30) else 2
        finally:
            os.write(write, b"x")
            os._exit(code)
    os.read(read, 1)
    _, status = os.waitpid(child, 0)
    os.close(read)
    os.close(write)

    assert os.waitstatus_to_exitcode(status) == 0
    emulator.wait_for(
        lambda each: [e for e in each.events(event="$feature_flag_called") if e["distinct_id"] == "child"]
    )


def test_questions_make_no_spans(start: Start, monkeypatch: pytest.MonkeyPatch, tracer: trace.Tracer) -> None:
    """An instrumented HTTP client stays silent about our own requests, in the caller's thread and in ours."""
    import requests
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []
    sent: Any = requests.Session.send

    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(is_instrumentation_enabled())
        return sent(self, *args, **kwargs)

    monkeypatch.setattr(requests.Session, "send", send)
    start(flags_secret_key="phx_test")

    assert flags.enabled("new-dashboard", "ada") is True
    assert flags.enabled("admin-tools", "ada") is False

    assert len(seen) >= 2
    assert not any(seen)


def test_a_reload_follows_the_settings(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """New settings, another client."""
    from otel_posthog.api.control import reload

    assert flags.enabled("new-dashboard", "ada") is True
    monkeypatch.setenv("OTEL_POSTHOG_FLAGS", "false")
    assert reload()
    assert flags.enabled("new-dashboard", "ada") is False
    assert assembly.current() is not None


def test_a_reload_of_something_else_keeps_the_client(
    running: None, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    """What was told stays told."""
    from otel_posthog.api.control import reload

    assert flags.enabled("new-dashboard", "ada") is True
    before = client.get()[0]
    monkeypatch.setenv("OTEL_POSTHOG_EXCEPTIONS", "false")
    assert reload()
    assert flags.enabled("new-dashboard", "ada") is True
    assert client.get()[0] is before
    assert len(calls()) == 1


def test_where_the_posthog_package_is_instrumented(running: None, calls: Calls) -> None:
    """Our client's events are taken before that has anything to take: each answer is one event still."""
    from otel_posthog.instrumentation.posthog_sdk import PostHogSdkInstrumentor

    instrumentor = PostHogSdkInstrumentor()
    instrumentor.instrument()
    try:
        assert flags.enabled("new-dashboard", "ada") is True
        assert [event["distinct_id"] for event in calls()] == ["ada"]
    finally:
        instrumentor.uninstrument()
