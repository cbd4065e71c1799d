"""`LaneDelivery`: an engine with a thread of its own; forks, late threads and the interpreter's exit.

- Nothing exists before the first submit, unless a dead process left something in the spool (`resume`): no thread, no
  socket, no file, and no lock (one made before gevent patches `threading` would block the whole hub).
- The thread is a daemon: it never holds up the exit. At exit (`atexit` callbacks run while daemon threads still do) the
  queue is flushed within `exit_timeout`, but stays open: providers registered their own callbacks earlier, so theirs
  run later, and what they bring then is still taken, and sent at once. Their shutdown closes.
- Where no thread can be started (an interpreter that is ending refuses), `flush` and `shutdown` do the work in the
  calling thread.
- A fork's child starts empty with new locks, no thread and no connection: what the parent had taken, the parent sends.
  A fork in the middle of our first import of the HTTP client would leave the child with a module that nobody finishes
  and everybody waits for; so the worker imports under a gate, and a fork waits (once, some 100 ms) until it is through.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from otel_posthog.delivery.complaints import logger
from otel_posthog.delivery.engine import Engine
from otel_posthog.delivery.protocols import DeliveryStats, Receipt
from otel_posthog.model import CaptureEvent

_GRACE = 0.5
"""Seconds that a shutdown after the flush at exit gets at the least."""

_LAST_STEP = 0.1
"""Seconds that a shutdown waits for its thread at the most, once there is nothing more to be done."""

_GATE_PATIENCE = 5.0
"""Seconds that a fork waits for our imports at the most."""


class Exit:
    """The interpreter's exit, which lanes of one destination pass together: all within the time of one.

    Args:
        timeout: Seconds that the flush at exit may take.
    """

    def __init__(self, timeout: float) -> None:
        self.by = 0.0
        """Monotonic seconds of its end; 0 where it has not begun."""
        self._timeout = timeout
        self._lanes: list[weakref.ReferenceType[LaneDelivery]] = []

    def join(self, lane: LaneDelivery) -> None:
        """`lane` belongs to it."""
        self._lanes.append(weakref.ref(lane))

    def begin(self) -> None:
        """All lanes hurry from here on; once."""
        if self.by:
            return
        self.by = time.monotonic() + self._timeout
        for found in self._lanes:
            lane = found()
            if lane is not None:
                lane.hurry(self.by)


class LaneDelivery:
    """`Delivery` to one sink. Safe in any thread; never raises.

    Args:
        new_engine: Makes the engine, at the first submit and after a fork.
        close: Closes what the engine used; a later use opens it again.
        left_behind: Whether a dead process left something for this lane; opens nothing that stays open.
        after_fork: Makes what the engine uses forget the parent's connections and locks.
        leaving: The exit; shared by lanes that have its time together.
        guard: Told about internal errors.
        name: For the thread's name and log lines.
    """

    def __init__(
        self,
        new_engine: Callable[[], Engine],
        *,
        close: Callable[[], None],
        left_behind: Callable[[], bool] = lambda: False,
        after_fork: Callable[[], None],
        leaving: Exit,
        guard: Callable[[str, BaseException], None],
        name: str,
    ) -> None:
        self._new_engine = new_engine
        self._close = close
        self._left_behind = left_behind
        self._forget_parent = after_fork
        self._exit = leaving
        leaving.join(self)
        self._guard = guard
        self._name = name
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._running = False
        self._pid = os.getpid()
        self._closed = False
        self._end_by = 0.0
        self._ended = False
        self._ended_well = True
        self._gates: list[threading.Lock] = []
        if hasattr(os, "register_at_fork"):
            before, parent, child = map(weakref.WeakMethod, (self._before_fork, self._in_parent, self._after_fork))
            os.register_at_fork(
                before=lambda: _call(before),
                after_in_parent=lambda: _call(parent),
                after_in_child=lambda: _call(child),
            )

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """See `Delivery.submit`."""
        try:
            if self._pid != os.getpid():  # a fork that Python did not see (uWSGI)
                self._after_fork()
            engine = self._engine or self._first()
            if not engine.submit(events, receipt):
                return False
            if not self._running:
                self._start(engine)
            return True
        except Exception as error:  # noqa: BLE001 - an edge: telemetry never breaks the host
            self._guard("delivery.submit", error)
            return False

    def resume(self) -> None:
        """See `Delivery.resume`."""
        try:
            if self._closed or self._running or not self._left_behind():
                return
            # The engine looks for itself, and takes what is there by then.
            self._start(self._engine or self._first())
        except Exception as error:  # noqa: BLE001 - an edge
            self._guard("delivery.resume", error)

    def flush(self, timeout: float) -> bool:
        """See `Delivery.flush`."""
        return self.end_flush(self.begin_flush(), timeout)

    def begin_flush(self) -> tuple[Engine, int] | None:
        """Makes everything due now; what it gives is for `end_flush`, which must follow."""
        engine = self._engine
        if engine is None or self._pid != os.getpid():
            return None
        return engine, engine.begin_flush()

    def end_flush(self, begun: tuple[Engine, int] | None, timeout: float) -> bool:
        """Waits up to `timeout` seconds for what `begin_flush` began; True where everything has its outcome."""
        if begun is None:
            return True
        engine, epoch = begun
        try:
            if self._exit.by:  # several owners flush at exit; together they get the time of one
                timeout = max(min(timeout, self._exit.by - time.monotonic()), min(timeout, _GRACE))
            return self._drive(engine, time.monotonic() + timeout, lambda: engine.flushed(epoch), epoch)
        except Exception as error:  # noqa: BLE001 - an edge
            self._guard("delivery.flush", error)
            return False
        finally:
            engine.end_flush()

    def begin_shutdown(self, timeout: float) -> None:
        """Closes admission, and makes everything due within `timeout` seconds; `shutdown` must follow."""
        if self._closed:
            return
        if self._exit.by:
            timeout = max(min(timeout, self._exit.by - time.monotonic()), _GRACE)
        self._end_by = time.monotonic() + timeout
        self._closed = True
        engine = self._engine
        if engine is not None and self._pid == os.getpid():
            engine.finishing(self._end_by, closed=True)

    def shutdown(self, timeout: float) -> bool:
        """See `Delivery.shutdown`."""
        if self._ended:
            return self._ended_well
        self._ended = True
        try:
            self.begin_shutdown(timeout)
            engine = self._engine
            if engine is None or self._pid != os.getpid():
                return True
            self._drive(engine, self._end_by, lambda: engine.stats().pending == 0)
            self._ended_well = engine.abandon() == 0
            engine.wake.set()  # the worker has nothing left to do and ends
            thread = self._thread
            if thread is not None and thread is not threading.current_thread():
                # Where gevent has patched since it was started, it has a hub of its own, and an interpreter that ended
                # under that would crash.
                thread.join(_LAST_STEP)
            self._close()
        except Exception as error:  # noqa: BLE001 - an edge
            self._ended_well = False
            self._guard("delivery.shutdown", error)
        return self._ended_well

    def hurry(self, by: float) -> None:
        """The exit has begun: everything is due, and is attempted until `by` (monotonic) at the latest."""
        engine = self._engine
        if engine is not None and not self._closed and self._pid == os.getpid():
            engine.finishing(by, closed=False)

    def waiting(self) -> tuple[int, int]:
        """How many events are in the queue, and about how many bytes they have."""
        engine = self._engine
        return engine.waiting() if engine is not None and self._pid == os.getpid() else (0, 0)

    def stats(self) -> DeliveryStats:
        """See `Delivery.stats`."""
        engine = self._engine
        return engine.stats() if engine is not None and self._pid == os.getpid() else DeliveryStats()

    def _first(self) -> Engine:
        # setdefault is atomic: of two first submits at the same time, both get the same engine.
        made = self._new_engine()
        if self._closed:
            made.finishing(0.0, closed=True)
        engine = vars(self)
        if engine["_engine"] is None:
            engine["_engine"] = made
        return engine["_engine"]

    def _start(self, engine: Engine) -> None:
        self._running = True
        thread = threading.Thread(target=self._work, args=(engine,), name=f"otel-posthog-{self._name}", daemon=True)
        try:
            # In an empty context: the first request's span must not become the parent of all that we do later.
            contextvars.Context().run(thread.start)
        except RuntimeError:  # "can't start new thread": flush and shutdown do the work
            self._running = False
            return
        if self._thread is None:
            me = weakref.WeakMethod(self._at_exit)
            atexit.register(lambda: _call(me))
        self._thread = thread

    def _work(self, engine: Engine) -> None:
        while True:
            engine.wake.clear()
            try:
                with engine.driver:
                    wait = engine.step()
            except Exception as error:  # noqa: BLE001 - an edge: the thread must survive a bug
                wait = 1.0
                try:
                    self._guard("delivery.worker", error)
                except BaseException:
                    self._running = False
                    raise
            if wait is None:
                return
            if wait > 0:
                engine.wake.wait(wait)

    def _drive(self, engine: Engine, deadline: float, done: Callable[[], bool], epoch: int | None = None) -> bool:
        """Waits until `done` or `deadline`; does the work itself where no other thread does."""
        thread = self._thread
        if thread is threading.current_thread():
            return done()  # somebody flushes from within a delivery: waiting would never end
        working = thread is not None and thread.is_alive()
        target = 1 << 62 if epoch is None else epoch
        while not done() and not engine.gave_up:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if working:
                engine.flushed(target, min(left, 0.5))
                working = thread is not None and thread.is_alive()
            elif engine.driver.acquire(timeout=left):
                try:
                    engine.wake.clear()
                    wait = engine.step()
                finally:
                    engine.driver.release()
                if wait is None:
                    break
                engine.wake.wait(min(wait, left))
        return done()

    def _at_exit(self) -> None:
        engine = self._engine
        if engine is None or self._closed or self._pid != os.getpid():
            return
        try:
            self._exit.begin()
            done = self.end_flush((engine, engine.begin_flush()), max(self._exit.by - time.monotonic(), 0.0))
            engine.linger()
            waiting = engine.stats().pending
            # Where it is done, what waits came meanwhile: it leaves at once, and its owner waits for it at shutdown.
            if waiting and not done:
                logger.warning("otel-posthog: events not delivered at exit (%s): %d", self._name, waiting)
        except Exception as error:  # noqa: BLE001 - an edge
            self._guard("delivery.exit", error)

    def _before_fork(self) -> None:
        engine = self._engine
        if engine is not None and not engine.loaded and engine.gate.acquire(timeout=_GATE_PATIENCE):
            self._gates.append(engine.gate)

    def _in_parent(self) -> None:
        if self._gates:
            self._gates.pop().release()

    def _after_fork(self) -> None:
        self._gates = []
        self._pid = os.getpid()
        self._engine = None
        self._thread = None
        self._running = False
        self._exit.by = 0.0
        self._forget_parent()


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    bound = method()
    if bound is not None:
        bound()
