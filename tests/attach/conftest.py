"""Real processes in real environments: where they are, how they are started, how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.attach.processes import APPS, DISTROS, ROOT, Environment, Launch, Process
from tests.attach.receiver import Receiver


@pytest.fixture
def environment() -> Callable[[str], Environment]:
    """Finds an environment by name; one that was not built skips the test, or fails it where all are required."""

    def find(name: str) -> Environment:
        home = Path(sys.executable).parent if name == "stock" else ROOT / ".envs" / name / "bin"
        if not (home / "opentelemetry-instrument").exists() or not (home / "python").exists():
            reason = f"the environment {name!r} is not there: run `make envs`"
            if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
                pytest.fail(reason)
            pytest.skip(reason)
        return Environment(name, home, DISTROS[name])

    return find


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts programs; what still runs at the end of the test is killed, whole process group, by id."""
    started: list[Process] = []

    def start(command: list[str], env: dict[str, str], *, serve: bool = False) -> Process:
        listener: socket.socket | None = None
        if serve:
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            command = [word.replace("{fd}", str(listener.fileno())) for word in command]
        popen = subprocess.Popen(
            command,
            env=env,
            cwd=APPS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            pass_fds=[listener.fileno()] if listener is not None else [],
        )
        process = Process(popen, listener)
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.wait(30)
        if process.popen.stdout is not None:
            process.popen.stdout.close()
        if process.socket is not None:
            process.socket.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running receiver without faults."""
    with Receiver() as running:
        yield running


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Everything in this folder is marked `attach`."""
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.attach)
