"""`Tap`: the latest outcomes, for people who look (`explain`, `tail`, the tests).

Off unless somebody asks for one: a tap holds whole signals, and with them personal data, in memory. It is bounded, and
a reader that cannot keep up misses the oldest and is told how many.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from otel_posthog.model import Decision, Signal
from otel_posthog.model.frozen import frozen


@frozen
class Outcome:
    """What became of one signal.

    Args:
        number: 1 for the first signal that this tap saw.
        signal: The signal.
        decision: What converter and policy made of it.
        refused: Delivery had no room for its events.
    """

    number: int
    signal: Signal
    decision: Decision
    refused: bool

    @property
    def verdict(self) -> str:
        """`captured`, `refused`, or the drop reason's value."""
        if self.decision.events:
            return "refused" if self.refused else "captured"
        reason = self.decision.reason
        return reason.value if reason is not None else "invalid"


class Subscription:
    """One reader of a tap; a context manager. Not to be shared between threads that read."""

    def __init__(self, tap: Tap, capacity: int) -> None:
        self._tap = tap
        self._waiting: deque[Outcome] = deque(maxlen=capacity)
        self._missed = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, outcome: Outcome) -> None:
        """Hands over one outcome; never blocks for longer than a reader takes to empty its list."""
        with self._changed:
            if len(self._waiting) == self._waiting.maxlen:
                self._missed += 1
            self._waiting.append(outcome)
            self._changed.notify()

    def read(self, timeout: float | None = None) -> list[Outcome]:
        """All outcomes that wait; an empty list after `timeout` seconds without any, or once closed.

        Args:
            timeout: Seconds to wait for the first; `None` to wait until one comes or the subscription is closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed, timeout)
            found = list(self._waiting)
            self._waiting.clear()
            return found

    @property
    def missed(self) -> int:
        """Outcomes that were overwritten before they were read."""
        with self._changed:
            return self._missed

    def close(self) -> None:
        """Stops listening and wakes a reader that waits; idempotent."""
        self._tap.unsubscribe(self)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __enter__(self) -> Subscription:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Tap:
    """A ring of the latest outcomes; to be given to `Bridge` as its `tap`. Safe in any thread.

    Args:
        capacity: Outcomes kept.
    """

    def __init__(self, capacity: int = 1_000) -> None:
        self._lock = threading.Lock()
        self._ring: deque[Outcome] = deque(maxlen=capacity)
        self._seen = 0
        self._readers: tuple[Subscription, ...] = ()

    def __call__(self, signal: Signal, decision: Decision, refused: bool) -> None:
        """Records one outcome."""
        with self._lock:
            self._seen += 1
            outcome = Outcome(self._seen, signal, decision, refused)
            self._ring.append(outcome)
            for reader in self._readers:
                reader.put(outcome)

    def latest(self) -> tuple[Outcome, ...]:
        """The outcomes that are kept, oldest first."""
        with self._lock:
            return tuple(self._ring)

    def subscribe(self, capacity: int = 1_000) -> Subscription:
        """A reader that gets every outcome from now on.

        Args:
            capacity: Outcomes that may wait for it; beyond it the oldest is lost and counted in `missed`.
        """
        subscription = Subscription(self, capacity)
        with self._lock:
            self._readers = (*self._readers, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stops handing outcomes to `subscription`."""
        with self._lock:
            self._readers = tuple(reader for reader in self._readers if reader is not subscription)
