"""One gateway process in the foreground: signals, watched files, and how it ends.

SIGTERM, SIGINT   graceful stop, exit 0; a second one ends the process at once (what is acknowledged is on disk)
SIGHUP            the configuration is read again
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Literal

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.configuration.bridge_file import BridgeFileError
from otel_posthog.gateway.configuration.reload import POLL_INTERVAL, SETTLE, Watch
from otel_posthog.gateway.configuration.settings import GatewaySettings
from otel_posthog.gateway.process.service import GatewayService
from otel_posthog.observe.log import logger

Wish = Literal["stop", "reload", "child"]


class Wishes:
    """What signals ask for, in order. A context manager: the handlers of before come back.

    Args:
        forward: Called with each stop signal after the first; ends the process by default.
    """

    def __init__(self, forward: Callable[[int], object] | None = None) -> None:
        self._queue: queue.SimpleQueue[Wish] = queue.SimpleQueue()
        self._second = forward or _end_at_once
        self._stopping = False
        self._before: dict[int, Any] = {}

    def wish(self, what: Wish) -> None:
        """Asks from any thread."""
        self._queue.put(what)

    def next(self, timeout: float) -> Wish | None:
        """The next wish; `None` after `timeout` seconds without any."""
        try:
            return self._queue.get(timeout=timeout)
        except queue.Empty:
            return None

    def __enter__(self) -> Wishes:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        handlers: Mapping[str, Callable[[int, FrameType | None], None]] = {
            "SIGTERM": self._on_stop,
            "SIGINT": self._on_stop,
            "SIGHUP": lambda _number, _frame: self._queue.put("reload"),
            "SIGCHLD": lambda _number, _frame: self._queue.put("child"),
        }
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            if number is not None:
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        # A SimpleQueue may be filled in a signal handler: its `put` is reentrant.
        if self._stopping:
            self._second(number)
        self._stopping = True
        self._queue.put("stop")


def _end_at_once(number: int) -> None:
    os._exit(128 + number)


def run_gateway(
    settings: GatewaySettings,
    load: Callable[[], GatewaySettings],
    *,
    make: Callable[[GatewaySettings], GatewayService] = GatewayService,
    started: Callable[[GatewayService], object] = lambda _: None,
    orphaned: Callable[[], object] | None = None,
) -> int:
    """Runs a gateway until it is told to stop; in the main thread.

    Args:
        settings: What it starts with.
        load: Reads the configuration again.
        make: Builds the service.
        started: Called when it serves.
        orphaned: Blocks as long as somebody wants this process; for workers, whose supervisor may die.

    Returns:
        The exit code.

    Raises:
        ConfigError: It cannot start.
    """
    with Wishes() as wishes:
        service = make(settings)
        service.start()
        started(service)
        if orphaned is not None:
            _watch_parent(orphaned, wishes)
        watch = Watch(settings.files, settings.seen)
        changing = False
        while True:
            wish = wishes.next(SETTLE if changing else POLL_INTERVAL)
            if wish == "stop":
                break
            # Half a file may well be a good one that lacks a project, so it has to look the same twice.
            changes = settings.reload == "auto" and watch.changed()
            settled = changing and not changes and wish is None
            changing = (changing or changes) and not settled
            if wish == "reload" or settled:
                changing = False
                before, settings = settings, reload_once(service, settings, load, watch)
                if settings is not before:
                    watch.follow(settings.files, settings.seen)
        service.stop()
    return 0


def reload_once(
    service: GatewayService,
    settings: GatewaySettings,
    load: Callable[[], GatewaySettings],
    watch: Watch | None = None,
) -> GatewaySettings:
    """Reads the configuration again and goes on with it; where it is bad, with what was there.

    Args:
        service: What runs.
        settings: What holds.
        load: Reads the configuration again.
        watch: Gets the files of a bad configuration besides: one of them may be where it is mended.

    Returns:
        The settings that hold now.
    """
    try:
        changed = load()
        service.reload(changed)
    except (ConfigError, OSError) as error:
        if watch is not None and isinstance(error, BridgeFileError):
            watch.also(error.files)
        service.reload_failed(str(error))
    except Exception as error:  # noqa: BLE001 - an edge: a gateway that serves must not end over its configuration
        service.reload_failed(f"internal error ({type(error).__name__})")
    else:
        return changed
    return settings


def _watch_parent(orphaned: Callable[[], object], wishes: Wishes) -> None:
    def wait() -> None:
        with contextlib.suppress(OSError):
            orphaned()
        logger.warning("otel-posthog gateway: the supervisor is gone; this worker stops")
        wishes.wish("stop")

    threading.Thread(target=wait, name="otel-posthog-parent", daemon=True).start()
