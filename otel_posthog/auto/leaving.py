"""The end of the process, bounded: everything emitted until the providers shut down is delivered, in `exit_timeout`.

Order is what makes this hard. `atexit` runs handlers last in, first out: a provider built before our hook shuts down
*after* our handler, and what ends in between (spans of other handlers) still reaches our processor. So:

1. our handler flushes at once — before the providers', whose exporters may wait half a minute for a dead Collector;
2. it stops the runtime only if no provider is left that will shut our processors down by itself;
3. otherwise the last processor that is shut down stops it.

Only the time that we spend ourselves counts against the budget, so that a slow exporter cannot eat it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any


class Leaving:
    """Brings the runtime to its end exactly once.

    Args:
        flush: Sends what there is, within so many seconds; whether it could.
        stop: Stops for good, within so many seconds; whether nothing was lost.
        budget: Seconds that both may take in all; asked for when the end begins.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        flush: Callable[[float], bool],
        stop: Callable[[float], bool],
        budget: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flush = flush
        self._stop = stop
        self._budget = budget
        self._monotonic = monotonic
        self._spent = 0.0
        self._leaving = False
        self._waiting: set[int] = set()
        self._registered = False

    def watch(self) -> None:
        """Registers for the end of the process; once, however often it is called."""
        if self._registered:
            return
        self._registered = True
        atexit.register(self.at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)
        self._watch_sigterm()

    def expect(self, processor: object) -> None:
        """`processor` hangs on a provider that will shut it down at exit, after our own handler."""
        self._waiting.add(id(processor))

    def closed(self, processor: object) -> None:
        """A provider has shut `processor` down: what it holds leaves now, and with the last one everything stops.

        Before the end of the process a shutdown is a flush only: providers are replaced by reconfiguration (logfire)
        and shut down by tests, and the API may still capture.
        """
        self._waiting.discard(id(processor))
        if self._leaving and not self._waiting:
            self._spend(self._stop)
        else:
            self._spend(self._flush)
            if not self._leaving:
                self._spent = 0.0

    def at_exit(self) -> None:
        """Our `atexit` handler."""
        self._leaving = True
        self._spend(self._stop if not self._waiting else self._flush)

    def _spend(self, action: Callable[[float], bool]) -> None:
        begun = self._monotonic()
        budget = self._budget()
        done = action(max(0.0, budget - self._spent))
        # After one wait in vain there is nothing to be gained by another: PostHog is not there.
        self._spent = self._spent + self._monotonic() - begun if done else budget

    # --- children ----------------------------------------------------------------------------------------------------

    def _in_child(self) -> None:
        self._leaving = False
        self._spent = 0.0
        # A child of multiprocessing ends with os._exit, before Python 3.13 without atexit, but not without its own
        # finalizers. It clears them when it begins and runs the after-fork callbacks then: that is where ours comes in.
        util: Any = sys.modules.get("multiprocessing.util")
        if util is not None:

            def begun(own: Leaving) -> None:
                util.Finalize(None, own.at_child_end, exitpriority=-1)

            util.register_after_fork(self, begun)

    def at_child_end(self) -> None:
        """The finalizer in a child of `multiprocessing`."""
        self._spend(self._flush)

    # --- SIGTERM -----------------------------------------------------------------------------------------------------

    def _watch_sigterm(self) -> None:
        """Flushes on a SIGTERM that nobody handles.

        The default action ends the process without `atexit`: what the last second captured would be gone. Servers
        that handle the signal themselves install their handler later and never see ours, except those that raise it
        again when they are done (uvicorn), which is just when it is needed.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, number: int, _frame: FrameType | None) -> None:
        # In a thread: the signal may have interrupted the main thread while it held the queue's lock, and then a
        # flush from here would wait for itself. Joining with a limit makes the worst case a lost tail, not a hang.
        worker = threading.Thread(target=self._spend, args=(self._flush,), name="otel-posthog-sigterm", daemon=True)
        worker.start()
        worker.join(self._budget())
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
