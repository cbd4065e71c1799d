"""`flush`, `reload`, `shutdown`, and how the first call finds its runtime."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

import otel_posthog
from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.context import current_work
from otel_posthog.emulator import Emulator
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.attach.receiver import Receiver
from tests.unit.api.conftest import Calls

OURS = "otel-posthog"


@pytest.fixture(name="posthog")
def _posthog(monkeypatch: pytest.MonkeyPatch) -> object:
    """A local PostHog that the variables name."""
    with Emulator() as posthog:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", posthog.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_MODE", "direct")
        yield posthog
        otel_posthog.shutdown(60.0)


def test_off(off: None, caplog: pytest.LogCaptureFixture) -> None:
    """Behind a shut gate all is well: nothing waits, nothing is lost; one line says why it is shut."""
    with caplog.at_level(logging.INFO):
        assert otel_posthog.flush() is True
        assert otel_posthog.shutdown() is True
        assert otel_posthog.reload() is False
        otel_posthog.capture("x")

    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert "otel-posthog is off" in caplog.text
    assert assembly.current() is None


def test_the_first_call_starts(posthog: Emulator) -> None:
    """With the two variables and nothing else, the first call starts all that it needs."""
    otel_posthog.identify("ada", set={"plan": "pro"})
    uuid = otel_posthog.capture("order paid", {"total": 29.0})
    assert otel_posthog.flush(60.0) is True

    assert [(event["event"], event["distinct_id"]) for event in posthog.events()] == [
        ("$set", "ada"),
        ("order paid", "ada"),
    ]
    assert uuid in [event["uuid"] for event in posthog.events()]
    assert [person["properties"]["plan"] for person in posthog.persons()] == ["pro"]


def test_updates_leave_with_their_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the request goes on, and with no flush: the update and the event beside it, in order, in one batch."""
    with Receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"{receiver.url}/i")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_MODE", "direct")
        monkeypatch.setenv("OTEL_POSTHOG_LATE_IDENTITY_WAIT", "60")
        monkeypatch.setenv("OTEL_POSTHOG_FLUSH_INTERVAL", "3")  # so long that a busy machine makes no two of it
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(PostHogSpanProcessor())
        with provider.get_tracer("shop").start_as_current_span("request"):
            otel_posthog.capture("early")
            otel_posthog.identify("ada", set={"plan": "pro"})
            otel_posthog.capture("upgraded")
            receiver.wait(lambda it: len(it.events()) >= 2)
            first = receiver.events()
        assert otel_posthog.shutdown(60.0) is True
        batches = [[item["event"] for item in arrival.body["batch"]] for arrival in receiver.arrivals()]

    assert [(event.event, event.distinct_id) for event in first] == [("$set", "ada"), ("upgraded", "ada")]
    assert batches == [["$set", "upgraded"], ["early"]]


def test_an_exit_handler_of_the_app(posthog: Emulator) -> None:
    """What it captures leaves, too, although the worker's own handler, which is the younger one, ran before it."""
    otel_posthog.capture("first")
    emitter = process.get()
    assert emitter is not None
    emitter.edge.worker.at_exit()
    otel_posthog.capture("last")
    process._at_exit()

    assert [event["event"] for event in posthog.events()] == ["first", "last"]


def test_a_call_within_a_call(calls: Calls) -> None:
    """A signal handler, or `__del__`, may call while a call of its own thread holds what it needs: nobody waits."""
    guard, work = calls.app.runtime.guard, current_work()
    holders = (guard, guard._complaints, guard._misuse_complaints, work)
    locks = [*(each._lock for each in holders), calls.app.edge.worker._counting]
    with ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        # First whether it would wait: a test that does so for ever says nothing.
        again = [lock.acquire(blocking=False) for lock in locks]
        assert again == [True] * len(locks)
        for lock in locks:
            lock.release()
        otel_posthog.capture("")
        otel_posthog.identify("grace")
        otel_posthog.capture("x")

    assert [event.distinct_id for event in calls.events] == ["grace"]


def test_a_flush_without_an_end(posthog: Emulator) -> None:
    """As long as it takes is a time, too."""
    otel_posthog.capture("x")
    assert otel_posthog.flush(float("inf")) is True
    assert [event["event"] for event in posthog.events()] == ["x"]


def test_many_first_calls(posthog: Emulator) -> None:
    """Many threads make the first call at once: one runtime, no event lost."""
    begin = threading.Barrier(8)

    def work(number: int) -> None:
        begin.wait(60)
        otel_posthog.capture("first", {"number": number})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert otel_posthog.flush(60.0) is True

    assert sorted(event["properties"]["number"] for event in posthog.events()) == list(range(8))


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A setting that is wrong leaves it off with one ERROR that names it; after a reload with a good one it is on."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
    monkeypatch.setenv("OTEL_POSTHOG_MODE", "sideways")
    with caplog.at_level(logging.ERROR):
        assert otel_posthog.capture("x") is None
        assert otel_posthog.capture("x") is None

    assert len([record for record in caplog.records if "OTEL_POSTHOG_MODE" in record.message]) == 1


def test_reload_opens_the_gate(off: None, posthog: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that are set later count from the reload on."""
    monkeypatch.setenv("OTEL_POSTHOG_ENABLED", "false")
    assert otel_posthog.capture("before") is None
    monkeypatch.delenv("OTEL_POSTHOG_ENABLED")
    assert otel_posthog.capture("still before") is None
    assert otel_posthog.reload() is True
    otel_posthog.capture("after")
    assert otel_posthog.flush(60.0) is True

    assert [event["event"] for event in posthog.events()] == ["after"]


def test_reload_reads_again(posthog: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running bridge takes new settings over; it is not shut by one that would shut it."""
    otel_posthog.capture("one")
    assert otel_posthog.flush(60.0) is True
    monkeypatch.setenv("OTEL_POSTHOG_PROPERTIES", "region=eu")
    assert otel_posthog.reload() is True
    otel_posthog.capture("two")
    monkeypatch.setenv("OTEL_POSTHOG_ENABLED", "false")
    assert otel_posthog.reload() is False
    otel_posthog.capture("three")
    assert otel_posthog.flush(60.0) is True

    assert [(event["event"], event["properties"].get("region")) for event in posthog.events()] == [
        ("one", None),
        ("two", "eu"),
        ("three", "eu"),
    ]


def test_a_reload_that_fails(
    posthog: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wrong rules leave everything as it was."""
    otel_posthog.capture("one")
    (tmp_path / "rules.yaml").write_text("rules: 7\n")
    monkeypatch.setenv("OTEL_POSTHOG_CONFIG", str(tmp_path / "rules.yaml"))
    with caplog.at_level(logging.ERROR):
        assert otel_posthog.reload() is False
    otel_posthog.capture("two")
    assert otel_posthog.flush(60.0) is True

    assert [event["event"] for event in posthog.events()] == ["one", "two"]
    assert "the old settings and rules stay" in caplog.text


def test_shutdown_and_again(posthog: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    """The end delivers; after it nothing is taken, until a reload begins anew."""
    otel_posthog.capture("one")
    assert otel_posthog.shutdown(60.0) is True
    assert otel_posthog.shutdown() is True
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("lost") is None
    assert otel_posthog.flush() is True
    assert otel_posthog.reload() is True
    otel_posthog.capture("two")
    assert otel_posthog.flush(60.0) is True

    assert [event["event"] for event in posthog.events()] == ["one", "two"]
    assert [record.message for record in caplog.records] == [
        "otel-posthog: capture() was called after the shutdown, so nothing is captured any more"
    ]


def test_a_flush_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody there a flush gives up in time, and says so."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
    monkeypatch.setenv("OTEL_POSTHOG_MODE", "direct")
    otel_posthog.capture("x")

    assert otel_posthog.flush(0.05) is False
    assert otel_posthog.shutdown(0.05) is False


@pytest.mark.parametrize("timeout", ["soon", None, object()])
def test_a_timeout_that_is_none(
    calls: Calls, timeout: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A timeout that is no number is the usual one, and counted."""
    otel_posthog.capture("x")

    assert otel_posthog.flush(timeout) is True  # type: ignore[arg-type]
    assert calls.misused == {"timeout": 1}


def test_a_child(posthog: Emulator) -> None:
    """The child of a fork captures for itself, and never what its parent captured."""
    otel_posthog.identify("ada")
    otel_posthog.capture("parent before")
    child = os.fork()
    if child == 0:
        otel_posthog.capture("child")
        os._exit(0 if otel_posthog.flush(60.0) else 1)
    _, status = os.waitpid(child, 0)
    otel_posthog.capture("parent after")
    assert otel_posthog.flush(60.0) is True

    assert status == 0
    assert sorted((event["event"], event["distinct_id"]) for event in posthog.events()) == [
        ("child", "ada"),
        ("parent after", "ada"),
        ("parent before", "ada"),
    ]
    assert process.ended is False
