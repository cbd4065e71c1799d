"""Which emitter the calls go to: that of the process's one runtime, started by the first call where nobody did before.

Under `opentelemetry-instrument` the hook has started it before the app's first line. In plain code the first call reads
the environment, as the hook would have, and finds the gate open or shut.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from otel_posthog import assembly
from otel_posthog.errors import ConfigError
from otel_posthog.observe.guard import Guard
from otel_posthog.observe.log import Complaints, logger, quiet_logger

if TYPE_CHECKING:
    from otel_posthog.assembly import Runtime
    from otel_posthog.lane.emitter import Emitter


class ProcessEmitter:
    """The emitter of the process's runtime."""

    def __init__(self) -> None:
        self.guard = Guard()
        """Counts what calls swallow while there is no runtime, whose own guard counts otherwise."""
        self.complaints = Complaints(interval=float("inf"))
        """Of misuse: each kind once in a process."""
        self._lock = threading.RLock()
        self.started = False
        """There has been a runtime. Without one now it has been stopped, and a call is worth a complaint (`off`)."""
        self._runtime: Runtime | None = None
        self._emitter: Emitter | None = None
        self._asked = False
        self._starting = False
        # Handlers run last in, first out. The worker's was registered with its first item, so an exit handler that the
        # app registered before that runs after it, and what it captures is nobody's but ours to deliver.
        atexit.register(self._at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _at_exit(self) -> None:
        emitter = self._emitter
        if emitter is not None:
            emitter.edge.worker.at_exit()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._starting = False
        self.guard.after_fork()
        self.complaints.after_fork()

    def get(self) -> Emitter | None:
        """The emitter; `None` where the gate is shut, or the runtime has been stopped. Never raises."""
        runtime = assembly.current()
        if runtime is None:
            return None if self._asked else self._start()
        if runtime is not self._runtime:
            return self._follow(runtime)
        return self._emitter

    def off(self, call: str) -> None:
        """Counts a call after the end, and complains about the first one.

        Args:
            call: Its name.
        """
        self.guard.misused(
            "after_shutdown", "otel-posthog: %s() was called after the shutdown, so nothing is captured any more", call
        )

    def refused(self, call: str, emitter: Emitter) -> None:
        """Nothing was taken: for want of room, which is counted where it is missing, or because somebody has shut down.

        Args:
            call: Its name.
            emitter: Which did not take it.
        """
        if emitter.edge.worker.closed:
            self.off(call)

    @property
    def ended(self) -> bool:
        """Whether there was a runtime, and it has been stopped."""
        return self.started and assembly.current() is None

    def forget(self) -> None:
        """The next call reads the environment again."""
        with self._lock:
            self._asked = self.started = False
            self._runtime = self._emitter = None

    def _follow(self, runtime: Runtime) -> Emitter:
        from otel_posthog.lane.edge import edge_of
        from otel_posthog.lane.emitter import Emitter

        with self._lock:
            edge = edge_of(runtime)
            if self._emitter is None or self._emitter.edge is not edge:
                self._emitter = Emitter(edge)
            self._runtime = runtime
            self._asked = self.started = True
            return self._emitter

    def _start(self) -> Emitter | None:
        try:
            from otel_posthog.config.load import load_settings
            from otel_posthog.lane.edge import suppressed

            with self._lock:
                if self._asked or self._starting:
                    # Another thread was first, and we waited for it; or we are called from within the start itself.
                    runtime = assembly.current()
                    return None if runtime is None else self._follow(runtime)
                self._starting = True
                try:
                    quiet_logger()
                    settings = load_settings()
                    if not settings.enabled:
                        logger.info("otel-posthog is off: %s", settings.reason)
                        return None
                    return self._follow(assembly.start(settings, send_guard=suppressed))
                finally:
                    # Not before: calls of other threads would find neither a runtime nor a reason to wait for it.
                    self._starting, self._asked = False, True
        except ConfigError as error:
            logger.error("otel-posthog stays off: %s", error)
        except Exception as error:  # noqa: BLE001 - an edge: the app goes on
            self.guard.failed("api.start", error)
        return None


# The calls are module-level functions: they have no other place to keep it.
process = ProcessEmitter()
