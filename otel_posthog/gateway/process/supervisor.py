"""Several workers, one gateway: `--workers N`.

    supervisor ── spawns ─► worker 0 … N-1    each with its own spool folder, on the same ports (SO_REUSEPORT)
        │  ▲                     │
        │  └── {"admin": port} ──┘ one line on a pipe, when it serves
        └── admin port: health, metrics and live events of all of them

Spawned, not forked: gRPC and threads do not survive a fork. A worker that dies is started anew, with a growing pause;
its spool is its successor's. A supervisor that dies closes the workers' standard input, and they stop in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.aggregate import WorkersDoor, WorkersSources
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.admin.sources import Phase
from otel_posthog.gateway.configuration.settings import GatewaySettings
from otel_posthog.gateway.process.running import Wishes
from otel_posthog.gateway.receivers.settings import Listen
from otel_posthog.observe.log import logger

PLACE: Final = "OTEL_POSTHOG_WORKER"
"""Variable by which a worker learns its place; ours, not for people."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0
"""Seconds between the deaths of a worker and its next start; doubles."""

STEADY: Final = 60.0
"""Seconds after which a worker that ran has earned a short pause again."""

_KILL_GRACE: Final = 15.0
"""Seconds beyond its own limit that a worker has to end."""

_POLL: Final = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker knows of its supervisor.

    Args:
        number: Its number, from 0.
        workers: How many there are.
        report: Descriptor of the pipe that it reports on.
    """

    number: int
    workers: int
    report: int

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Place | None:
        """The place that the environment gives; `None` in a process that is no worker."""
        text = environ.get(PLACE, "")
        if not text:
            return None
        number, workers, report = (int(part) for part in text.split("/"))
        return cls(number, workers, report)

    def serving(self, admin_port: int) -> None:
        """Tells the supervisor that this worker serves."""
        with contextlib.suppress(OSError):  # it is gone, which is noticed elsewhere
            os.write(self.report, json.dumps({"admin": admin_port}).encode() + b"\n")


class Process(Protocol):
    """A worker's process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int:
        """Its id."""
        ...

    def poll(self) -> int | None:
        """Its exit code; `None` while it runs."""
        ...

    def send_signal(self, sig: int) -> None:
        """Sends a signal."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


Spawn = Callable[[int], "tuple[Process, int]"]
"""Starts worker `n`; gives its process, and the descriptor to read its report from (-1 for none)."""


@dataclass(slots=True)
class _Worker:
    number: int
    process: Process | None = None
    report: int = -1
    heard: bytes = b""
    admin: int = 0
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0
    restarts: int = 0
    served: bool = False
    reload: bool = False
    """It is to read its configuration again, once it can be told: until then the signal would end it."""


@dataclass(slots=True)
class Supervisor:
    """Keeps the workers running. `run` belongs to the main thread; the rest to any.

    Args:
        settings: Checked settings.
        workers: How many.
        spawn: Starts one.
        monotonic: Seconds that never go back.
    """

    settings: GatewaySettings
    workers: int
    spawn: Spawn
    monotonic: Callable[[], float] = time.monotonic
    _phase: Phase = Phase.STARTING
    _admin: AdminServer | None = None
    _all: list[_Worker] = field(default_factory=list[_Worker])
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def run(self) -> int:
        """Runs until it is told to stop.

        Returns:
            0, or 1 where a worker could not be started in the first place.

        Raises:
            ConfigError: The admin port cannot be had.
        """
        listen = self.settings.admin
        if listen is not None:
            token = self.settings.admin_token
            sources = WorkersSources(
                phase=lambda: self._phase,
                workers=self.ports,
                token=token.reveal() if token is not None else "",
                restarts=lambda: {worker.number: worker.restarts for worker in self._all},
            )
            self._admin = AdminServer(
                WorkersDoor(sources), host=listen.host, port=listen.port, token=sources.token
            ).start()
        try:
            with Wishes(forward=self._forward) as wishes:
                return self._run(wishes)
        finally:
            self._kill()
            if self._admin is not None:
                self._admin.close()
            self._selector.close()

    def ports(self) -> dict[int, int]:
        """Number of each worker -> port of its own door on loopback, 0 while it does not serve."""
        return {worker.number: worker.admin for worker in self._all}

    @property
    def admin_port(self) -> int:
        """Where health and metrics are served; 0 for nowhere."""
        return self._admin.port if self._admin is not None else 0

    def _run(self, wishes: Wishes) -> int:
        self._all = [_Worker(number) for number in range(self.workers)]
        for worker in self._all:
            self._start(worker)
        while True:
            wish = wishes.next(self._pause())
            self._listen()
            if wish == "stop":
                return self._stop(wishes)
            if wish == "reload":
                for worker in self._all:
                    worker.reload = worker.process is not None
            self._reload()
            if not self._look_after():
                self._phase = Phase.STOPPING
                self._signal("SIGTERM")
                self._await_end(wishes)
                return 1
            if self._phase is Phase.STARTING and all(worker.served for worker in self._all):
                self._phase = Phase.SERVING
                # The workers' own admin ports are for this process alone: this is the one for people.
                admin = f"admin on {self.settings.admin}" if self._admin is not None else "admin off"
                logger.info("otel-posthog gateway: all %d workers serve; %s", self.workers, admin)

    def _reload(self) -> None:
        """Has those read their configuration again that are to, and serve; one that starts is told when it does."""
        for worker in self._all:
            if worker.reload and worker.admin and worker.process is not None:
                worker.reload = False
                with contextlib.suppress(OSError):
                    worker.process.send_signal(signal.SIGHUP)

    def _pause(self) -> float:
        due = [worker.due - self.monotonic() for worker in self._all if worker.process is None]
        waiting = any(worker.process is not None and not worker.admin for worker in self._all)
        return max(0.01, min([*due, 0.05 if waiting else _POLL]))

    def _start(self, worker: _Worker) -> None:
        worker.process, worker.report = self.spawn(worker.number)
        worker.started = self.monotonic()
        worker.heard = b""
        worker.reload = False
        if worker.report >= 0:
            os.set_blocking(worker.report, False)
            self._selector.register(worker.report, selectors.EVENT_READ, worker)

    def _listen(self) -> None:
        """Reads what workers report."""
        for key, _ in self._selector.select(0):
            worker: _Worker = key.data
            try:
                data = os.read(worker.report, 4096)
            except BlockingIOError:
                continue
            if not data:
                self._deafen(worker)
                continue
            worker.heard += data
            *lines, worker.heard = worker.heard.split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    worker.admin = int(json.loads(line)["admin"])
                    worker.served = True

    def _deafen(self, worker: _Worker) -> None:
        if worker.report >= 0:
            self._selector.unregister(worker.report)
            os.close(worker.report)
            worker.report = -1

    def _look_after(self) -> bool:
        """Starts anew what has died; False where that cannot help."""
        now = self.monotonic()
        for worker in self._all:
            if worker.process is None:
                if now >= worker.due:
                    worker.restarts += 1
                    self._start(worker)
                continue
            code = worker.process.poll()
            if code is None:
                continue
            self._listen()
            self._deafen(worker)
            worker.process, worker.admin = None, 0
            if not worker.served and code == 1:
                # It has said why; it would say the same again.
                logger.error("otel-posthog gateway: worker %d cannot start", worker.number)
                return False
            if now - worker.started >= STEADY:
                worker.pause = FIRST_PAUSE
            worker.due = now + worker.pause
            logger.error(
                "otel-posthog gateway: worker %d ended with %s; it starts anew in %g s, and goes on with its spool",
                worker.number,
                _ending(code),
                worker.pause,
            )
            worker.pause = min(worker.pause * 2, LONGEST_PAUSE)
        return True

    # --- the end ---------------------------------------------------------------------------------------------------

    def _stop(self, wishes: Wishes) -> int:
        self._phase = Phase.STOPPING
        logger.info("otel-posthog gateway: stopping %d workers", self.workers)
        self._signal("SIGTERM")
        return self._await_end(wishes)

    def _await_end(self, wishes: Wishes) -> int:
        """Waits for all workers; 0 if each ended in order."""
        deadline = self.monotonic() + self.settings.drain_timeout + _KILL_GRACE
        codes: dict[int, int] = {}
        while True:
            for worker in self._all:
                code = worker.process.poll() if worker.process is not None else None
                if code is not None:
                    codes[worker.number] = code
                    worker.process = None
            if all(worker.process is None for worker in self._all):
                # One that was still loading has no handler yet: the signal itself ends it, and it had taken nothing.
                return 0 if set(codes.values()) <= {0, -signal.SIGTERM} else 1
            if self.monotonic() >= deadline:
                logger.error("otel-posthog gateway: a worker does not end and is killed; its spool is kept")
                return 1
            wishes.next(0.2)

    def _forward(self, number: int) -> None:
        """A second stop signal: the workers end at once, and so do we."""
        for worker in self._all:
            if worker.process is not None:
                with contextlib.suppress(OSError):
                    worker.process.send_signal(number)

    def _signal(self, name: str) -> None:
        number = getattr(signal, name, None)
        for worker in self._all:
            if worker.process is not None and number is not None:
                with contextlib.suppress(OSError):
                    worker.process.send_signal(number)

    def _kill(self) -> None:
        for worker in self._all:
            self._deafen(worker)
            if worker.process is not None and worker.process.poll() is None:
                worker.process.kill()
                worker.process.poll()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def spawner(arguments: Sequence[str], workers: int) -> Spawn:
    """Starts workers as processes of their own.

    Args:
        arguments: Of the command line, after `gateway`.
        workers: How many there are.
    """

    def spawn(number: int) -> tuple[Process, int]:
        ours, theirs = os.pipe()
        try:
            # Its standard input stays open as long as we live: that is how it learns that we do.
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "otel_posthog.cli.main", "gateway", *arguments],
                stdin=subprocess.PIPE,
                pass_fds=(theirs,),
                env={**os.environ, PLACE: f"{number}/{workers}/{theirs}"},
                # Ctrl-C of a terminal reaches its whole group: workers hear of it from us.
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return process, ours

    return spawn


def reserve(listen: Listen | None, key: str) -> tuple[Listen | None, socket.socket | None]:
    """Takes a port for workers to share, without listening on it: a free one is the same for all, and stays ours.

    Args:
        listen: Where to listen.
        key: Its key, for messages.

    Raises:
        ConfigError: The address cannot be had.
    """
    if listen is None:
        return None, None
    holder = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((listen.host, listen.port))
    except (OSError, OverflowError) as error:
        holder.close()
        raise ConfigError(str(error), key=key, source=str(listen), hint="Choose another port") from None
    return Listen(listen.host, holder.getsockname()[1]), holder


def wait_for_end_of_input() -> None:
    """Blocks as long as whoever started this worker lives: its end closes our standard input."""
    while os.read(0, 1024):
        pass
