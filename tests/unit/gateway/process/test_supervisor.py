"""Who looks after the workers, with processes and time that are not real."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.sources import Phase
from otel_posthog.gateway.process.running import Wish, Wishes
from otel_posthog.gateway.process.supervisor import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PLACE,
    Place,
    Supervisor,
    reserve,
    spawner,
)
from otel_posthog.gateway.receivers.settings import Listen
from tests.unit.gateway.gateway_world import settings_of


class Child:
    """A process that ends when it is told to."""

    def __init__(self, number: int, *, stubborn: bool = False) -> None:
        self.pid = 1000 + number
        self.code: int | None = None
        self.stubborn = stubborn
        self.signals: list[int] = []

    def poll(self) -> int | None:
        """See `Process`."""
        return self.code

    def send_signal(self, sig: int) -> None:
        """See `Process`."""
        self.signals.append(sig)
        if sig == signal.SIGTERM and not self.stubborn:
            self.code = 0

    def kill(self) -> None:
        """See `Process`."""
        self.signals.append(signal.SIGKILL)
        self.code = -signal.SIGKILL


class Script(Wishes):
    """Wishes from a list of steps; each step may change the world first."""

    def __init__(self, world: World, steps: list[object]) -> None:
        super().__init__()
        self.world = world
        self.steps = steps
        self.pauses: list[float] = []

    def next(self, timeout: float) -> Wish | None:
        """The next step; time goes on by the pause that was asked for."""
        self.pauses.append(timeout)
        self.world.now += timeout
        step = self.steps.pop(0) if self.steps else "stop"
        if callable(step):
            return step()
        return step  # type: ignore[return-value]


class World:
    """A supervisor of children."""

    def __init__(self, folder: Path, workers: int = 2, *, stubborn: bool = False) -> None:
        self.now = 100.0
        self.stubborn = stubborn
        self.children: list[Child] = []
        self.numbers: list[int] = []
        self.pipes: list[int] = []
        listen = {"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "admin": "off"}
        project = {"host": "https://eu.i.posthog.com", "key": {"env": "KEY"}}
        settings = settings_of(folder, {"listen": listen, "projects": {"a": project}})
        self.supervisor = Supervisor(settings, workers, self.spawn, monotonic=lambda: self.now)

    def spawn(self, number: int) -> tuple[Child, int]:
        """A child, and the end of a pipe on which it has nothing to say yet."""
        ours, theirs = os.pipe()
        self.children.append(Child(number, stubborn=self.stubborn))
        self.numbers.append(number)
        self.pipes.append(theirs)
        return self.children[-1], ours

    def run(self, *steps: object) -> tuple[int, Script]:
        """Runs through `steps`, then stops; the exit code."""
        script = Script(self, list(steps))
        try:
            return self.supervisor._run(script), script
        finally:
            self.supervisor._kill()
            for pipe in self.pipes:
                os.close(pipe)

    def serve(self, index: int, port: int = 7) -> None:
        """A child reports that it serves."""
        Place(self.numbers[index], 2, self.pipes[index]).serving(port)

    def end(self, index: int, code: int) -> None:
        """A child ends."""
        self.children[index].code = code


def test_they_serve_and_stop(tmp_path: Path) -> None:
    """The whole serves when all do; a stop reaches all of them, and is a success when all succeed."""
    world = World(tmp_path)

    def both_serve() -> None:
        world.serve(0, 7)
        world.serve(1, 8)

    def look() -> Wish:
        assert world.supervisor.ports() == {0: 7, 1: 8}
        assert world.supervisor._phase is Phase.SERVING
        return "reload"

    code, _ = world.run(both_serve, look)
    assert (code, world.supervisor._phase) == (0, Phase.STOPPING)
    assert [child.signals for child in world.children] == [[signal.SIGHUP, signal.SIGTERM]] * 2


def test_a_worker_that_starts_is_told_of_a_reload_when_it_serves(tmp_path: Path) -> None:
    """A hang-up before its handlers are there would end it, and it may have read the old files already."""
    world = World(tmp_path)

    def one_serves() -> Wish:
        world.serve(0)
        return "reload"

    def both_serve() -> None:
        assert [child.signals for child in world.children] == [[signal.SIGHUP], []]
        world.serve(1)

    def look() -> None:
        assert [child.signals for child in world.children] == [[signal.SIGHUP], [signal.SIGHUP]]

    code, _ = world.run(one_serves, both_serve, look)
    assert code == 0
    assert [child.signals[1:] for child in world.children] == [[signal.SIGTERM], [signal.SIGTERM]]


def test_a_worker_that_dies_is_started_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With pauses that grow while it dies again at once, and are short again once it has run for a while."""
    world = World(tmp_path, workers=1)

    def dies() -> None:
        world.serve(-1)
        world.end(-1, -signal.SIGSEGV)

    def runs_long() -> None:
        world.serve(-1)
        world.now += 61
        world.end(-1, 1)

    def comes_back() -> None:
        world.now = max(world.now, world.supervisor._all[0].due)

    steps: list[object] = [step for _ in range(8) for step in (dies, comes_back)]
    world.run(*steps, runs_long, comes_back)
    assert (len(world.children), world.supervisor._all[0].restarts) == (10, 9)
    said = [record.getMessage().partition("worker 0 ended with ")[2] for record in caplog.records]
    how = [text.partition(", and goes on")[0] for text in said if text]
    pauses = ["0.5", "1", "2", "4", "8", "16", "30", "30"]
    assert how == [
        *(f"SIGSEGV; it starts anew in {pause} s" for pause in pauses),
        "exit code 1; it starts anew in 0.5 s",
    ]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (0.5, 30.0)


def test_a_worker_that_cannot_start_ends_the_whole(tmp_path: Path) -> None:
    """It would fail in the same way for ever: the exit code tells whoever looks after the supervisor."""
    world = World(tmp_path)
    code, _ = world.run(lambda: world.end(1, 1))
    assert code == 1
    assert world.children[0].signals == [signal.SIGTERM]
    assert len(world.children) == 2


def test_a_worker_that_is_killed_while_it_starts_is_started_anew(tmp_path: Path) -> None:
    """No fault of the configuration: memory was short for a moment, say."""
    world = World(tmp_path, workers=1)
    code, _ = world.run(
        lambda: world.end(0, -signal.SIGKILL), None, None, None, None, None, None, None, None, None, None
    )
    assert code == 0
    assert len(world.children) >= 2


def test_workers_that_do_not_end_are_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After their own limit and some grace; their spools are kept."""
    caplog.set_level(logging.INFO, "otel_posthog")
    world = World(tmp_path, stubborn=True)
    code, script = world.run("stop", *[None] * 1000)
    assert code == 1
    assert sum(script.pauses) >= world.supervisor.settings.drain_timeout
    assert [child.signals for child in world.children] == [[signal.SIGTERM, signal.SIGKILL]] * 2
    assert "is killed; its spool is kept" in caplog.text


def test_reports_in_pieces_and_nonsense(tmp_path: Path) -> None:
    """A report may come in any pieces; what is none is left alone."""
    world = World(tmp_path, workers=1)
    line = json.dumps({"admin": 4711}).encode() + b"\n"

    def write(data: bytes) -> object:
        return lambda: os.write(world.pipes[0], data) and None

    world.run(write(b"nonsense\n[]\n{}\n" + line[:5]), write(line[5:]), None)
    assert world.supervisor._all[0].served


def test_places() -> None:
    """What a worker learns by its environment; a process that is none learns nothing."""
    assert Place.of({}) is None
    assert Place.of({PLACE: "1/4/9"}) == Place(1, 4, 9)
    Place(0, 1, 99).serving(1)  # a supervisor that is gone: no descriptor


def test_reserved_ports() -> None:
    """A free port is found once, for all workers, and shared with nobody who does not share."""
    listen, holder = reserve(Listen("127.0.0.1", 0), "listen.http")
    assert listen is not None
    assert holder is not None
    with holder, socket.socket() as other:
        assert listen.port > 0
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", listen.port))
    assert reserve(None, "listen.http") == (None, None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"`listen\.http`"):
            reserve(Listen("127.0.0.1", taken.getsockname()[1]), "listen.http")


def test_workers_are_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They know their place, and see the end of their input when whoever started them is gone."""
    monkeypatch.setenv("GREETING", "hello")
    monkeypatch.setattr(sys, "executable", _echo(tmp_path))
    process, report = spawner(["--config", "x"], 3)(2)
    try:
        with os.fdopen(report) as pipe:
            said = json.loads(pipe.readline())
            assert said == {
                "args": ["-m", "otel_posthog.cli.main", "gateway", "--config", "x"],
                "place": "2/3",
                "greeting": "hello",
            }
            assert isinstance(process, subprocess.Popen)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 7
    finally:
        process.kill()


def _echo(folder: Path) -> str:
    """A stand-in for the interpreter: reports how it was started, waits for the end of its input, ends with 7."""
    script = f"""#!{sys.executable}
import json, os, sys
place = os.environ["{PLACE}"]
said = {{"args": sys.argv[1:], "place": place.rpartition("/")[0], "greeting": os.environ["GREETING"]}}
os.write(int(place.rpartition("/")[2]), json.dumps(said).encode() + b"\\n")
while os.read(0, 100):
    pass
sys.exit(7)
"""
    path = folder / "echo"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)
