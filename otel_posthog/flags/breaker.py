"""`Breaker`: after a failure nobody asks for a while, so that an outage of PostHog's costs requests nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_FIRST: Final = 1.0
"""Seconds of the first pause; it doubles with each further failure."""
_DOUBTS: Final = 5
"""Questions refused one after another until that counts as PostHog's failure, and not as theirs."""


class Breaker:
    """Says whether a question may be asked. Safe in any thread, and after a fork.

    Args:
        longest: Longest pause in seconds; 0 for none.
        trial: Seconds that others wait for the outcome of the first question after a pause.
        monotonic: Seconds that never go back; injected by tests.
    """

    def __init__(self, *, longest: float, trial: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._longest = longest
        self._trial = trial
        self._monotonic = monotonic
        # Re-entrant: a signal handler or a `__del__` may call while a call of its own thread is in here.
        self._lock = threading.RLock()
        self._pause = 0.0
        self._until = 0.0
        self._tried_until = 0.0
        self._doubts = 0

    def allows(self) -> bool:
        """Whether to ask now; of many that ask after a pause the first is let through."""
        if not self._pause:
            return True
        now = self._monotonic()
        with self._lock:
            if now < self._until or now < self._tried_until:
                return False
            self._tried_until = now + self._trial
            return True

    def succeeded(self) -> None:
        """PostHog answered."""
        if self._pause or self._doubts:
            with self._lock:
                self._pause = self._until = self._tried_until = 0.0
                self._doubts = 0

    def failed(self, *, doubtful: bool = False) -> None:
        """It did not.

        Args:
            doubtful: It refused the question: that may be the question's fault, which must not cost all the others.
        """
        now = self._monotonic()
        with self._lock:
            if now < self._until:
                return  # several were on their way when the pause began: that is one failure
            if doubtful:
                self._doubts += 1
                if self._doubts < _DOUBTS:
                    self._tried_until = 0.0
                    return
            self._pause = min(self._pause * 2 or _FIRST, self._longest)
            self._until = now + self._pause
            self._tried_until = 0.0

    def after_fork(self) -> None:
        """To be called in the child of a fork."""
        self._lock = threading.RLock()
