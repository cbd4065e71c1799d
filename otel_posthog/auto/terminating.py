"""What stands in for the default action of SIGTERM: a flush, then the default action (docs/decisions/0046).

Nothing here takes a lock that the interrupted thread may hold: the signal can arrive between any two instructions, also
in the middle of `threading.Thread.start` or of our own queue.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


class Terminating:
    """A handler for SIGTERM where nobody has one.

    It compares equal to `signal.SIG_DFL`: code that installs a handler of its own only over the default action
    (`signal.getsignal(…) == signal.SIG_DFL`) must go on to do so.

    Args:
        flush: Sends what there is, bounded by itself.
        budget: Seconds to wait for it.
    """

    def __init__(self, flush: Callable[[], object], budget: Callable[[], float]) -> None:
        self._flush = flush
        self._budget = budget
        self._busy = False

    def __eq__(self, other: object) -> bool:
        return other is self or other is signal.SIG_DFL

    # Not that of SIG_DFL: Python 3.10 looks handlers up by hash, and would hand out SIG_DFL in place of this object to
    # servers that put the former handler back when they are done (uvicorn).
    __hash__ = object.__hash__

    def install(self) -> bool:
        """Takes the place of the default action; whether it was there to take, and this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return False
        try:
            if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
                return False
            signal.signal(signal.SIGTERM, self)
        except ValueError:  # a sub-interpreter
            return False
        return True

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """The signal."""
        if self._busy:
            return  # supervisors signal the group and the process: the second one must not cut the flush
        self._busy = True
        # A handler that came later and calls its predecessor decides about the end itself.
        mine = signal.getsignal(number) is self
        handed_over = False
        finished = _thread.allocate_lock()
        finished.acquire()

        def work() -> None:
            try:
                self._flush()
            finally:
                finished.release()
                if handed_over:
                    self._done(number, mine)

        try:
            # Not `threading.Thread`: its `start` waits without limit for a lock that this thread may hold.
            _thread.start_new_thread(work, ())
        except RuntimeError:
            pass  # no thread can be started: the tail is lost, the end is not
        else:
            try:
                finished.acquire(timeout=max(self._budget(), 0.0))
            except Exception:  # noqa: BLE001 - gevent's hub must not wait; the greenlet that flushes ends the process then
                handed_over = True
                return
            except BaseException:  # Ctrl-C
                self._busy = False
                raise
        self._done(number, mine)

    def _done(self, number: int, mine: bool) -> None:
        self._busy = False
        if mine:
            self._end(number)

    def _end(self, number: int) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Still alive: pid 1, for which the kernel ignores the default action. The next one is flushed too.
        signal.signal(number, self)


__all__ = ["Terminating"]
