"""Processes begin, fork and end in many ways; what was captured leaves with them, once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.attach.processes import NO_FRAMEWORKS, Environment, Launch, Process, variables
from tests.attach.receiver import Fault, Receiver

# No flush by time: whatever arrives before the end of the test was flushed by the end of the process.
ONLY_AT_EXIT = {"OTEL_POSTHOG_FLUSH_INTERVAL": "3000", "OTEL_POSTHOG_LATE_IDENTITY_WAIT": "50", **NO_FRAMEWORKS}


def names(receiver: Receiver) -> list[str]:
    """The events that arrived, sorted."""
    return sorted(event.event for event in receiver.events())


def read_until(process: Process, wanted: str) -> None:
    """Reads what the process prints until it prints `wanted`."""
    assert process.popen.stdout is not None
    while (line := process.popen.stdout.readline()).strip() != wanted:
        assert line, process.output
        process.output += line


LIVES: dict[str, tuple[int, list[str]]] = {
    "exits": (0, ["before", "in a handler"]),
    "forks": (0, ["child 0", "child 1", "child 2", "parent after", "parent before"]),
    "processes": (0, ["parent before", "worker 0", "worker 1", "worker 2"]),
    "spawned": (0, ["parent", "spawned"]),
    "os_exit": (3, ["kept"]),
    "raises": (1, ["before the end"]),
    "twice": (0, ["once"]),
    "threads": (0, [f"thread {number}" for number in range(5)]),
    "nothing": (0, []),
}


# Before contrib 0.66 opentelemetry-instrument took its sitecustomize away from children of the program.
EVERY_LIFE = [(life, name) for life in LIVES for name in ("stock", "floor") if (life, name) != ("spawned", "floor")]


@pytest.mark.parametrize(("life", "name"), EVERY_LIFE)
def test_each_life_delivers_its_own_once(
    life: str, name: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Exit code kept, everything delivered at the end of the process that captured it, nothing twice."""
    where = environment(name)
    code, expected = LIVES[life]
    process = launch(
        where.instrumented("python", "lives.py", life), variables(receiver, "direct", where, **ONLY_AT_EXIT)
    )
    assert process.end() == code, process.output
    assert names(receiver) == expected, process.output


@pytest.mark.parametrize("distro", ["edot", "adot"])
@pytest.mark.parametrize("life", ["exits", "forks", "twice"])
def test_other_distributions_end_the_same_way(
    life: str, distro: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """EDOT and ADOT build the same providers, with other things around them."""
    where = environment(distro)
    code, expected = LIVES[life]
    process = launch(
        where.instrumented("python", "lives.py", life), variables(receiver, "direct", where, **ONLY_AT_EXIT)
    )
    assert process.end() == code, process.output
    # ADOT's second configuration asks AWS's metadata service, instrumented by then, and that failure is a true one.
    arrived = [name for name in names(receiver) if name != "$exception"]
    assert arrived == expected, process.output


@pytest.mark.row(45)
def test_an_unhandled_sigterm_flushes_and_still_kills(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """The process dies by the signal, as it would without us, and its last second is not lost."""
    where = environment("stock")
    process = launch(
        where.instrumented("python", "lives.py", "waits"), variables(receiver, "direct", where, **ONLY_AT_EXIT)
    )
    read_until(process, "ready")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == -signal.SIGTERM
    assert names(receiver) == ["before the signal"]


def test_the_flush_at_sigterm_can_be_switched_off(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """`OTEL_POSTHOG_FLUSH_ON_SIGTERM=false`: no handler of ours, the default action, nothing sent."""
    where = environment("stock")
    more = {"OTEL_POSTHOG_FLUSH_ON_SIGTERM": "false", **ONLY_AT_EXIT}
    process = launch(where.instrumented("python", "lives.py", "waits"), variables(receiver, "direct", where, **more))
    read_until(process, "ready")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == -signal.SIGTERM
    assert names(receiver) == []


def test_a_handler_of_the_apps_own_stays_its_own(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """The app handles SIGTERM itself: its handler runs, its exit code counts, the exit flushes."""
    where = environment("stock")
    process = launch(
        where.instrumented("python", "lives.py", "handles"), variables(receiver, "direct", where, **ONLY_AT_EXIT)
    )
    read_until(process, "ready")
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == 7
    assert "mine" in process.output
    assert names(receiver) == ["before the signal"]


@pytest.mark.row(45)
def test_a_dead_posthog_does_not_hold_the_exit(environment: Callable[[str], Environment], launch: Launch) -> None:
    """Every product request hangs: the process ends by itself, long before the test's patience, and exits 0."""
    where = environment("stock")
    import threading

    never = threading.Event()
    script = lambda path, _: Fault(503, wait=never) if "events" in path or "batch" in path else None  # noqa: E731
    with Receiver(script) as receiver:
        more = {"OTEL_POSTHOG_EXIT_TIMEOUT": "1", **ONLY_AT_EXIT}
        process = launch(
            where.instrumented("python", "lives.py", "exits"), variables(receiver, "direct", where, **more)
        )
        assert process.end(60) == 0, process.output
        never.set()


@pytest.mark.parametrize("started_by", ["instrument", "run --no-sdk"])
def test_a_provider_that_comes_late_is_joined(
    started_by: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """No distribution: the app's own providers get the processors when they are set, and one line says so."""
    where = environment("plain")
    words = ["python", "lives.py", "late"]
    command = where.instrumented(*words) if started_by == "instrument" else where.run(*words)
    if started_by != "instrument":
        command.insert(2, "--no-sdk")
    process = launch(command, variables(receiver, "direct", where))
    assert process.end() == 0, process.output
    assert names(receiver) == ["early tracer", "late provider", "log"], process.output


@pytest.mark.parametrize("mode", ["direct", "collector"])
def test_run_needs_no_distribution(
    mode: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """`otel-posthog run` sets the SDK up by itself: product events and standard telemetry arrive."""
    where = environment("plain")
    process = launch(where.run("python", "lives.py", "no_sdk_but_ours"), variables(receiver, mode, where))
    assert process.end() == 0, process.output
    assert names(receiver) == ["log line", "span"], process.output
    assert [span["name"] for span in receiver.spans()] == ["work"]


@pytest.mark.parametrize("name", ["stock", "edot", "adot"])
def test_run_uses_the_distribution_that_is_there(
    name: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Where a distribution is installed, `run` is `opentelemetry-instrument` with the variables set."""
    where = environment(name)
    process = launch(where.run("python", "lives.py", "threads"), variables(receiver, "direct", where))
    assert process.end() == 0, process.output
    assert names(receiver) == [f"thread {number}" for number in range(5)], process.output
    assert len([span for span in receiver.spans() if span["name"] == "work"]) == 5


@pytest.mark.row(45)
def test_run_keeps_exit_codes_and_signals(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """The program takes the place of `run`: its exit code and the signal that ended it are what a shell sees."""
    where = environment("stock")
    failed = launch(where.run("python", "-c", "raise SystemExit(41)"), variables(receiver, "direct", where))
    assert failed.end() == 41, failed.output
    killed = launch(where.run("python", "lives.py", "waits"), variables(receiver, "direct", where, **ONLY_AT_EXIT))
    read_until(killed, "ready")
    killed.popen.send_signal(signal.SIGTERM)
    assert killed.end() == -signal.SIGTERM
    assert names(receiver) == ["before the signal"]
