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
import sys
import time
from collections.abc import Callable
from typing import Any

from otel_posthog.auto.terminating import Terminating


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

    def watch(self, *, sigterm: bool = True) -> None:
        """Registers for the end of the process; once, however often it is called.

        Args:
            sigterm: Also flush on a SIGTERM that nobody handles: its default action ends the process without `atexit`.
        """
        if self._registered:
            return
        self._registered = True
        atexit.register(self.at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)
        if sigterm:
            Terminating(self._terminated, self._budget).install()

    def _terminated(self) -> None:
        self._spend(self._flush)
        self._spent = 0.0  # a process that outlives it (pid 1, a chain of handlers) has its whole budget again

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
