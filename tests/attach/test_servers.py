"""Servers that fork, preload, reload and end by signal: every worker delivers its own, all of it, once."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from tests.attach.processes import Environment, Launch, Process, only, variables
from tests.attach.receiver import Receiver

REQUESTS = 12
# No flush by time: whatever arrives before the end of the test was flushed by the end of the process.
ONLY_AT_EXIT = {"OTEL_POSTHOG_FLUSH_INTERVAL": "3000", **only("flask", "fastapi")}


def paid(receiver: Receiver) -> list[str]:
    """The distinct ids of the orders that arrived, sorted."""
    return sorted(event.distinct_id for event in receiver.events() if event.event == "order paid")


def people() -> list[str]:
    """Who ordered."""
    return sorted(f"person-{number}" for number in range(REQUESTS))


def booted(process: Process, workers: int) -> None:
    """Waits until so many workers take signals."""
    assert process.popen.stdout is not None
    while process.output.count("ready\n") < workers:
        line = process.popen.stdout.readline()
        assert line, process.output
        process.output += line


def order(get: Callable[..., int]) -> None:
    """One order each."""
    for number in range(REQUESTS):
        assert get("/buy", {"baggage": f"user.id=person-{number}"}) == 200


@pytest.mark.row(44, 45)
@pytest.mark.parametrize("mode", ["direct", "collector"])
@pytest.mark.parametrize("preload", [False, True], ids=["plain", "preload"])
@pytest.mark.parametrize("name", ["stock", "floor"])
def test_gunicorn_workers_flush_on_sigterm(
    name: str,
    preload: bool,
    mode: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    receiver: Receiver,
) -> None:
    """Two workers, with and without `--preload`: SIGTERM to the master brings every order once, exit code 0."""
    where = environment(name)
    flags = ["--preload"] if preload else []
    command = where.instrumented(
        *("gunicorn", "-c", "gunicorn_says.py", "--bind", "fd://{fd}", "--workers", "2", "--no-control-socket"),
        *flags,
        "shop_flask:app",
    )
    process = launch(command, variables(receiver, mode, where, **ONLY_AT_EXIT), serve=True)
    booted(process, 2)
    order(process.get)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == 0, process.output
    assert paid(receiver) == people(), process.output


@pytest.mark.row(45)
@pytest.mark.parametrize("name", ["stock", "floor"])
def test_uvicorn_raises_its_sigterm_again_and_nothing_is_lost(
    name: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Uvicorn ends by the default action of SIGTERM, which runs no `atexit`: our handler flushes before it."""
    where = environment(name)
    command = where.instrumented("uvicorn", "--fd", "{fd}", "--log-level", "warning", "shop_fastapi:app")
    process = launch(command, variables(receiver, "direct", where, **ONLY_AT_EXIT), serve=True)
    order(process.get)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == -signal.SIGTERM, process.output
    assert paid(receiver) == people(), process.output


def test_uvicorn_workers_deliver_their_own(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """`--workers 2` spawns fresh interpreters, each of which attaches by itself."""
    where = environment("stock")
    command = where.instrumented(
        "uvicorn", "--fd", "{fd}", "--workers", "2", "--log-level", "warning", "shop_fastapi:app"
    )
    process = launch(command, variables(receiver, "direct", where, **ONLY_AT_EXIT), serve=True)
    order(process.get)
    process.popen.send_signal(signal.SIGTERM)
    process.end()
    assert paid(receiver) == people(), process.output


@pytest.mark.row(44)
def test_gunicorn_that_initialises_again_in_post_fork(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Old advice, still around: `initialize()` in `post_fork` runs all hooks twice; each order is one event."""
    where = environment("stock")
    command = where.instrumented(
        "gunicorn", "--bind", "fd://{fd}", "--workers", "2", "--no-control-socket", "-c", "gunicorn_twice.py",
        "shop_flask:app",
    )  # fmt: skip
    process = launch(command, variables(receiver, "direct", where, **ONLY_AT_EXIT), serve=True)
    order(process.get)
    process.popen.send_signal(signal.SIGTERM)
    assert process.end() == 0, process.output
    assert paid(receiver) == people(), process.output
