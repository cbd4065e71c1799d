"""The thread behind the callbacks: takes what they handed over, settles it, gives it to the bridge.

A callback appends to a deque and leaves. The thread starts with the first item, sleeps without a timeout while there
is nothing to do, and looks every 50 ms while there is: so a burst costs one wake-up, and an idle app none. It survives
fork (the child starts empty and with a thread of its own), is bounded in memory and in time, and everything that does
not fit is counted.

Under gevent the thread is a greenlet, and a lock from before its patch is one that stops the whole hub: so nothing is
made before the first item, and where the patch came later still, locks are asked for and never waited for.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import IdentityConfig
from otel_posthog.lane.sync import Sync
from otel_posthog.lane.waiting import Item, Waiting
from otel_posthog.model import Signal, SignalKind
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.guard import Guard
from otel_posthog.semconv import otel

_PAUSE: Final = 0.05
"""Seconds between two looks while there is work: long enough to gather a burst, short enough to be live."""
_MANY: Final = 1_000
"""Hand-overs that have gathered meanwhile: with that many the thread goes on at once."""
_CROWDED: Final = 1_000
"""Hand-overs waiting from which on what they hold is looked at: ten thousand of a megabyte each are no queue."""
_RETRY_PAUSE: Final = 0.25
"""Seconds until delivery is asked again after it had no room."""
_FORK_PATIENCE: Final = 1.0
"""Seconds that a fork waits at the most for the thread to finish what it has in hand."""
_SECOND_WAIT: Final = 0.5
"""Seconds that a further flush may take right after one that timed out: an exit waits for a dead server once."""
_SLICE: Final = 20
"""Items settled, and signals given to the bridge, in one go: about a tenth of a millisecond each.

Going through one stage with several costs a quarter less than going through all stages with each: the code and data of
a stage stay in the processor's caches, and what costs the same for one and for many is shared. Many more at once, and
the app's threads would wait for the interpreter.
"""
_DEAR: Final = 10
"""An exception counts as so many: its frames and its stack's text."""
_SLICE_SECONDS: Final = 0.0001
"""A slice ends early where its items are dear: a stack trace costs as much as twenty ordinary spans."""
_HOLD: Final = 0.00015
"""Seconds of work after which the thread pauses: with the slice that goes over it, a quarter of a millisecond."""
_YIELD: Final = 0.00002
"""A real pause, not 0: a thread that waits for the interpreter must get it before we take it again, and otherwise
would wait for the whole switch interval of 5 ms. By time and not by number, since waking up costs as much CPU as two
items do."""
_MAX_SHARED: Final = 1_000
_SPAN: Final = SignalKind.SPAN


@frozen
class RootEnded:
    """The local root span of a trace ended.

    Args:
        trace_id: 32 hex digits.
        only_root: The trace began in this process.
    """

    trace_id: str
    only_root: bool


Expand = Callable[[Any], Iterable["Item | RootEnded | Signal"]]
"""Makes items from what a callback handed over; runs on the thread. A bare Signal is settled already."""


@frozen
class WorkerStats:
    """What passed through.

    Args:
        handed_over: What callbacks handed over, overflow included.
        overflowed: Hand-overs that found the buffer full; lost.
        failed: Hand-overs that could not be read; lost.
        signals: Signals that the bridge gave an outcome.
        lost: Signals that delivery had no room for until the end.
        waiting: Hand-overs and signals on their way.
    """

    handed_over: int = 0
    overflowed: int = 0
    failed: int = 0
    signals: int = 0
    lost: int = 0
    waiting: int = 0


class Worker:
    """Takes hand-overs from callbacks and feeds the bridge from one thread.

    Args:
        bridge: Where settled signals go.
        identity: How long items wait for the identity of their trace.
        guard: Counts what is swallowed.
        exit_timeout: Seconds that a shutdown may take altogether.
        capacity: Hand-overs waiting at the most.
        monotonic: The clock of the wait for late identity; injected by tests.
    """

    def __init__(
        self,
        bridge: Bridge,
        *,
        identity: IdentityConfig,
        guard: Guard,
        exit_timeout: float = 5.0,
        capacity: int = 10_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bridge = bridge
        self.guard = guard
        self._identity = identity
        self._exit_timeout = exit_timeout
        self._capacity = capacity
        self._monotonic = monotonic
        self._users = 0
        self._hosted = False
        self._closed = False
        # Traces with something on its way here: callbacks look whether the end of a root span concerns us. They hold
        # on to this very set.
        self.open_traces: set[int] = set()
        self._reset()
        if hasattr(os, "register_at_fork"):
            # By a weak reference: the registration cannot be taken back, and must not keep a worker alive.
            before, parent, child = (
                weakref.WeakMethod(method) for method in (self._before_fork, self._in_parent, self._reset)
            )
            os.register_at_fork(
                before=lambda: _call_weakly(before),
                after_in_parent=lambda: _call_weakly(parent),
                after_in_child=lambda: _call_weakly(child),
            )

    def _reset(self) -> None:
        """The state of a process that has handed over nothing: at the start, and in the child of a fork.

        What the parent took stays with the parent, which delivers it; a lock of the parent may be held by a thread
        that does not exist in the child.
        """
        self._pid = os.getpid()
        self._queue: deque[tuple[Expand, Any]] = deque()
        self._backlog: deque[Signal] = deque()
        self._expanded = self._overflowed = self._failed = self._signals = self._lost = 0
        self.open_traces.clear()
        # Traces with several local roots at work at once, see `Waiting`.
        self.shared_traces: set[str] = set()
        self._waiting = Waiting(
            wait=self._identity.late_wait,
            cap=self._identity.late_cap,
            identify=self._identify,
            shared=lambda trace_id: trace_id in self.shared_traces,
        )
        self._timed_out_at: float | None = None
        self._awake = False
        self._paused_at = 0.0
        vars(self).pop("_made", None)
        vars(self).pop("_runner", None)
        self._gate: Sync | None = None
        # Never held across anything that could wait: it may be older than a patch.
        self._counting = threading.RLock()
        self._thread: threading.Thread | None = None
        self.failures: deque[Exception] = deque(maxlen=8)

    @property
    def _sync(self) -> Sync:
        own = vars(self)
        return own.get("_made") or own.setdefault("_made", Sync())  # of two at once, both get the same

    def _before_fork(self) -> None:
        # Between two items: a thread that is importing when the process forks (the converter loads its parts when they
        # are needed) leaves the child a module lock that nobody will ever release.
        sync = self._sync if self._thread is not None else None
        self._gate = sync if sync is not None and sync.acquire(_FORK_PATIENCE) else None

    def _in_parent(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()

    def _identify(self, signal: Signal) -> str:
        # Through the bridge each time: a reload gives it another converter.
        return self.bridge.converter.identify(signal)

    # --- callbacks ---------------------------------------------------------------------------------------------------

    def hand_over(self, expand: Expand, payload: Any) -> bool:
        """Takes `payload` for the thread; False (and counted) where there is no room. Never blocks, no I/O.

        Args:
            expand: Makes items from `payload`, on the thread.
            payload: What the callback captured.
        """
        if self._pid != os.getpid():  # a fork that Python did not see (uWSGI)
            self._reset()
        if self._closed or len(self._queue) >= self._capacity:
            with self._counting:
                self._overflowed += 1
            return False
        self._queue.append((expand, payload))
        if not self._awake:
            self._awake = True
            if self._thread is None:
                self._start_thread()
            self._sync.wake.set()
        return True

    @property
    def crowded(self) -> bool:
        """Whether so much waits that its size counts."""
        return len(self._queue) > _CROWDED

    def take(self, signals: Sequence[Signal]) -> bool:
        """Gives finished signals to the bridge; for exporters, which have a thread and a queue before them.

        Args:
            signals: In the order in which they happened.

        Returns:
            Whether everything was taken; what delivery has no room for now is kept and asked for again, up to the
            capacity, and beyond that counted as overflow.
        """
        if self._pid != os.getpid():
            self._reset()
        room = self._capacity - len(self._queue)
        fits = signals[: max(room, 0)] if not self._closed else ()
        if fits:
            self.hand_over(_expand_signals, tuple(fits))
        missing = len(signals) - len(fits)
        if missing:
            with self._counting:
                self._overflowed += missing
        return not missing

    def share(self, trace_id: str) -> None:
        """Several local roots of `trace_id` are at work at once."""
        if len(self.shared_traces) >= _MAX_SHARED:
            self.shared_traces.clear()
        self.shared_traces.add(trace_id)

    def _start_thread(self) -> None:
        # Without waiting: whoever does not get the lock leaves the start to the one who has it.
        starting = self._sync.start
        if not starting.acquire(blocking=False):
            return
        try:
            if self._thread is not None or self._closed:
                return
            thread = threading.Thread(target=self._run, name="otel-posthog-sdk", daemon=True)
            try:
                thread.start()
            except AssertionError:
                # In a callback of gevent's hub, where nobody may wait, not even for the first step of a greenlet. It
                # takes it all the same; and we must not raise, now that the item is in the queue.
                pass
            except BaseException as error:
                self._awake = False  # the next item tries again
                if isinstance(error, Exception):
                    return  # the interpreter is on its way out: shutdown drains on its own thread
                # While we waited for its first step something else (Ctrl-C, a timeout of gevent) came: it takes it yet.
                self._sync.wake.set()
                raise
            self._thread = thread
            at_exit = weakref.WeakMethod(self.at_exit)
            atexit.register(_call_weakly, at_exit)
            parent: Any = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
            if parent is not None and parent() is not None:
                # A child of multiprocessing ends with os._exit, before Python 3.13 without atexit, but not without its
                # own finalizers.
                sys.modules["multiprocessing.util"].Finalize(None, _call_weakly, (at_exit,), exitpriority=-1)
        finally:
            starting.release()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        sync = self._sync
        halt = sync.halt
        # Of two that were started the second has nothing to do, see `_start_thread`.
        me = threading.current_thread()
        if vars(self).setdefault("_runner", me) is not me:
            return
        while not halt.is_set():
            sync.wake.wait()
            sync.wake.clear()
            while not halt.is_set():
                try:
                    sync.acquire()
                    try:
                        # Idle is who has found nothing for a whole pause: one that slept after each item would have to
                        # be woken for the next, by the request's thread, which that costs more than all the rest.
                        found = bool(self._queue or self._backlog or self._waiting)
                        self._step()
                        idle = not (found or self._queue or self._backlog or self._waiting)
                    finally:
                        sync.release()
                except Exception as error:  # noqa: BLE001 - the thread must live on
                    idle = False
                    self._swallow("sdk.worker", error)
                if idle:
                    self._awake = False
                    # An item that came between the look and the flag would sleep until the next one.
                    if not self._queue:
                        break
                    self._awake = True
                stuck = bool(self._backlog) or not self.bridge.loaded
                if stuck or len(self._queue) < _MANY:
                    halt.wait(_RETRY_PAUSE if stuck else _PAUSE)

    def _step(self) -> None:
        self._paused_at = time.perf_counter()
        known = set(self.open_traces)
        before = self._so_far()
        self._deliver()
        self._drain(before)
        self._backlog.extend(self._waiting.due(self._monotonic()))
        self._deliver()
        if self._expanded + self._failed >= before:
            # Whatever was open before the drain has been read: what does not wait any more is done.
            waiting = {int(trace_id, 16) for trace_id in self._waiting.traces()}
            self.open_traces.difference_update(known - waiting)

    def _so_far(self) -> int:
        """How many hand-overs there have been: those that were read, and those that wait."""
        return self._expanded + self._failed + len(self._queue)

    def _drain(self, until: int, deadline: float | None = None) -> None:
        """Reads hand-overs up to number `until`: an app that never pauses must not keep us from all the rest."""
        while self._queue and not self._backlog and self._expanded + self._failed < until and self._ready():
            self._settle_slice()
            if deadline is not None and time.monotonic() >= deadline:
                return
            self._deliver()
            self._yield()

    def _settle_slice(self) -> None:
        """Queue -> backlog, as far as the items of one slice are settled by themselves."""
        queue, settled = self._queue, self._backlog
        now = self._monotonic()
        until = time.perf_counter() + _SLICE_SECONDS
        for _ in range(_SLICE):
            if not queue:
                return
            expand, payload = queue.popleft()
            try:
                made = tuple(expand(payload))
            except Exception as error:  # noqa: BLE001 - one bad item costs itself
                self._failed += 1
                self._swallow("sdk.item", error)
                continue
            self._expanded += 1
            for one in made:
                if isinstance(one, Item):
                    settled.extend(self._waiting.add(one, now))
                elif isinstance(one, RootEnded):
                    settled.extend(self._waiting.root_ended(one.trace_id, only_root=one.only_root))
                else:
                    settled.append(one)
            if time.perf_counter() > until:
                return

    def _deliver(self) -> None:
        backlog = self._backlog
        if backlog and not self._ready():
            return
        while backlog:
            signals: list[Signal] = []
            room = _SLICE
            while backlog and room > 0:
                signal = backlog.popleft()
                signals.append(signal)
                room -= 1 if signal.kind is _SPAN or not _is_dear(signal) else _DEAR
            left: list[Signal] = []
            try:
                self.bridge.accept(signals, left)
            except Exception as error:  # noqa: BLE001 - the bridge raises (in our tests) after it counted
                self._swallow("sdk.bridge", error)
            self._signals += len(signals) - len(left)
            if left:
                backlog.extendleft(reversed(left))
                return  # no room: kept, and asked again after a pause
            if backlog:
                self._yield()

    def _ready(self) -> bool:
        """Whether what is behind the bridge is there; it is loaded with the first item.

        Loading can fail for a moment: where gevent patches the locks of an import that is under way on this thread.
        The items stay where they are, and it is tried again.
        """
        if not self.bridge.loaded:
            try:
                self.bridge.load()
            except Exception as error:  # noqa: BLE001 - the thread must live on
                self._swallow("sdk.bridge", error)
                return False
        return True

    def _yield(self) -> None:
        """Lets other threads have the interpreter, where we have had it for long enough."""
        if time.perf_counter() - self._paused_at >= _HOLD:
            time.sleep(_YIELD)
            self._paused_at = time.perf_counter()

    def _swallow(self, where: str, error: Exception) -> None:
        try:
            self.guard.failed(where, error)
        except Exception:  # noqa: BLE001 - the guard raises in our tests, where a dead thread would only hide it
            self.failures.append(error)

    @property
    def closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._closed

    @property
    def exit_timeout(self) -> float:
        """Seconds that a shutdown may take altogether."""
        return self._exit_timeout

    # --- ends --------------------------------------------------------------------------------------------------------

    def attach(self, *, hosted: bool = False) -> None:
        """One more processor uses this worker.

        Args:
            hosted: Somebody else flushes at the end of the process.
        """
        self._users += 1
        self._hosted = self._hosted or hosted

    def settle(self, timeout: float) -> bool:
        """Settles everything that was handed over so far, and gives it to the bridge; waits for no delivery.

        Args:
            timeout: Seconds to wait at the most (for the thread, or for room in the queue of delivery).

        Returns:
            Whether the bridge has all of it.
        """
        deadline = time.monotonic() + max(timeout, 0.0)
        sync = self._sync
        before = -1
        while True:
            left = max(0.0, deadline - time.monotonic())
            if not sync.acquire(left):
                return False
            # On the calling thread: at the end of the interpreter ours may be gone, and none can be started.
            try:
                if before < 0:
                    before = self._so_far()  # with the lock: nothing is between queue and count
                self._deliver()
                self._drain(before, deadline)
                read = self._expanded + self._failed >= before
                if read and not self._backlog:
                    self._backlog.extend(self._waiting.release_all())
                    if not self._queue:
                        self.open_traces.clear()
                    self._deliver()
                if read and not self._backlog:
                    return True
            except Exception as error:  # noqa: BLE001 - an end must end
                self._swallow("sdk.settle", error)
            finally:
                sync.release()
            if time.monotonic() >= deadline:
                return False
            sync.halt.wait(min(_PAUSE, left))  # delivery is full: its own thread needs the time to send

    def flush(self, timeout: float) -> bool:
        """Settles everything that was handed over so far and waits until it has its outcome.

        Args:
            timeout: Seconds to wait at the most; half a second right after a flush that timed out, so that several
                processors that end together wait for a dead server once.

        Returns:
            Whether all of it got through in time.
        """
        begun = time.monotonic()
        if self._timed_out_at is not None and begun - self._timed_out_at < 2 * self._exit_timeout:
            timeout = min(timeout, _SECOND_WAIT)
        settled = self.settle(timeout)
        done = self.bridge.flush(max(0.0, timeout - (time.monotonic() - begun))) and settled
        self._timed_out_at = None if done else time.monotonic()
        return done

    def detach(self, timeout: float | None = None) -> bool:
        """One processor less: flushes, and after the last one shuts the bridge down.

        Args:
            timeout: Seconds; `exit_timeout` where `None`.

        Returns:
            Whether nothing was lost.
        """
        self._users -= 1
        return (
            self.flush(self._exit_timeout if timeout is None else timeout)
            if self._users > 0
            else self.shutdown(timeout)
        )

    def shutdown(self, timeout: float | None = None) -> bool:
        """Takes nothing more, settles and delivers what is there within `timeout` seconds, counts the rest.

        Idempotent.

        Args:
            timeout: Seconds; `exit_timeout` where `None`.

        Returns:
            Whether nothing was lost.
        """
        if self._closed:
            return not self._lost
        timeout = self._exit_timeout if timeout is None else timeout
        begun = time.monotonic()
        if self._timed_out_at is not None and begun - self._timed_out_at < 2 * self._exit_timeout:
            timeout = min(timeout, _SECOND_WAIT)
        self._closed = True
        settled = self.settle(timeout)
        self._sync.halt.set()
        self._sync.wake.set()
        left = len(self._backlog) + len(self._queue) + len(self._waiting)
        if left:
            self._lost += left
            self._backlog.clear()
            self._queue.clear()
        done = self.bridge.shutdown(max(0.0, timeout - (time.monotonic() - begun)))
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, min(1.0, timeout - (time.monotonic() - begun))))
        return done and settled

    def at_exit(self) -> None:
        """The process ends: what was taken still goes, unless somebody else sees to that."""
        # The provider may have been built with `shutdown_on_exit=False`, or never shut down: what was taken still goes.
        # Where a host looks after the end, its budget is the only one: a dead server must not be waited for twice.
        if not self._closed and not self._hosted and self._pid == os.getpid():
            self.flush(self._exit_timeout)

    def stats(self) -> WorkerStats:
        """What passed through so far."""
        queued = len(self._queue)
        return WorkerStats(
            handed_over=self._expanded + self._failed + self._overflowed + queued,
            overflowed=self._overflowed,
            failed=self._failed,
            signals=self._signals,
            lost=self._lost,
            waiting=queued + len(self._backlog) + len(self._waiting),
        )


def _is_dear(signal: Signal) -> bool:
    return signal.kind is SignalKind.SPAN_EVENT or otel.EXCEPTION_TYPE in signal.attributes


def _expand_signals(signals: tuple[Signal, ...]) -> tuple[Signal, ...]:
    return signals


def _call_weakly(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    call = method()
    if call is not None:
        call()


__all__ = ["Expand", "RootEnded", "Worker", "WorkerStats"]
