"""What the worker's thread and its callers wait by.

Under gevent a lock from before its patch is one that stops the whole hub: so nothing is made before the first item, and
where the patch came later still, locks are asked for and never waited for.
"""

from __future__ import annotations

import threading
import time
from typing import Final

_ASK_AGAIN: Final = 0.001
"""Seconds between two looks whether a lock is free that must not be waited for."""


class Sync:
    """Events and locks, made when they are first needed. Safe in any thread."""

    def __init__(self) -> None:
        self.kind = threading.Lock
        self.wake = threading.Event()
        self.halt = threading.Event()
        self.work = threading.Lock()
        """Held while items are settled; whoever holds it may pause in between."""
        self.holder = 0
        """The thread that has it by `acquire`; 0 for none."""
        self.start = threading.Lock()
        """Held while the thread is started; nobody waits for it."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Takes `work`; whether that was possible within `timeout` seconds (`None`: however long it takes).

        At once not where this very thread has it: what it settles, or who looks on, has called for a flush, and it
        would wait for itself.
        """
        me = threading.get_ident()
        if self.holder == me or not self._take(timeout):
            return False
        self.holder = me
        return True

    def release(self) -> None:
        """Gives `work` back."""
        self.holder = 0
        self.work.release()

    def _take(self, timeout: float | None) -> bool:
        if self.kind is threading.Lock:
            return self.work.acquire(timeout=-1 if timeout is None else timeout)
        # gevent has patched since. A greenlet that waited for this lock would keep all others from running, also the
        # one that holds it.
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.work.acquire(blocking=False):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_ASK_AGAIN)
        return True
