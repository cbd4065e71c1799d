"""THE seam: `Bridge.accept(signals)`. The only package that sees converter, policy and delivery.

Every signal gets exactly one outcome, which is counted and offered to the tap:

    convert -> policy.admit -> delivery.submit -> policy.commit -> counters

An unexpected failure in any of them costs the one signal at hand, never its neighbours, and never the caller.

What does that is in `accepting.py`. This module is loaded in every process that we are attached to, and alone until
there is something to convert: most of what we cost at the start of a process would be modules that nobody needs yet.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from otel_posthog.observe.guard import Guard

if TYPE_CHECKING:
    from otel_posthog.bridge.accepting import Accepting
    from otel_posthog.convert import Converter
    from otel_posthog.delivery import Delivery, DeliveryStats, Receipt
    from otel_posthog.model import AcceptResult, Decision, Signal
    from otel_posthog.observe import SignalStats
    from otel_posthog.policy import Policy

    Parts = tuple[Converter, Policy, Delivery]

Tap = Callable[["Signal", "Decision", bool], None]
"""Called with each signal, its decision, and whether delivery refused it; not while it is false (`__bool__`)."""


class Bridge:
    """Signals in, capture events to delivery, one outcome each. Safe in any thread.

    Args:
        converter: Signal -> Decision.
        policy: Decision -> Decision.
        delivery: Where the events go.
        guard: Counts what is swallowed.
        tap: Sees every outcome; `None` for nobody.
    """

    def __init__(
        self, converter: Converter, policy: Policy, delivery: Delivery, *, guard: Guard, tap: Tap | None = None
    ) -> None:
        self._set_up(lambda: (converter, policy, delivery), guard, tap)
        self.load()

    @classmethod
    def late(cls, make: Callable[[], Parts], *, guard: Guard, tap: Tap | None = None) -> Bridge:
        """A bridge whose parts are made when the first of them is needed.

        Args:
            make: Makes converter, policy and delivery; called once, by the thread that needs them first.
            guard: As above.
            tap: As above.
        """
        bridge = cls.__new__(cls)
        bridge._set_up(make, guard, tap)
        return bridge

    def _set_up(self, make: Callable[[], Parts], guard: Guard, tap: Tap | None) -> None:
        self._make = make
        self._guard = guard
        self._tap = tap
        self._accepting: Accepting | None = None
        self._loading = threading.Lock()
        self._closed = False
        self._followers: list[Callable[[], object]] = []
        self._waiting: list[Callable[[], object]] = []
        if hasattr(os, "register_at_fork"):
            # By a weak reference: the registration cannot be taken back, and must not keep a bridge alive.
            after_fork = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def load(self) -> Accepting:
        """Makes the parts now, where that has not happened yet; imports, opens nothing.

        Edges call it on a thread of their own, under a lock that a fork waits for (docs/decisions/0048).
        """
        found = self._accepting
        if found is not None:
            return found
        with self._loading:
            if self._accepting is None:
                made = self._made()
                if self._closed:
                    made.delivery.shutdown(0.0)
                self._accepting = made
            waiting, self._waiting = self._waiting, []
        for follow in waiting:
            follow()
        return self._accepting

    def _made(self) -> Accepting:
        try:
            from otel_posthog.bridge.accepting import Accepting

            return Accepting(*self._make(), guard=self._guard, tap=self._tap)
        except RuntimeError as error:
            if "un-acquired lock" not in str(error):
                raise
            why = str(error)
        # gevent has patched the lock of an import that was under way here, and it stays locked. It dies with the
        # exception's frames, some of them in cycles, and has to before anybody imports that module again.
        import gc

        gc.collect()
        raise RuntimeError(why)

    @property
    def loaded(self) -> bool:
        """Whether the parts have been made."""
        return self._accepting is not None

    @property
    def converter(self) -> Converter:
        """What converts now; another one after `replace`."""
        return (self._accepting or self.load()).converter

    def accept(
        self, signals: Sequence[Signal], left: list[Signal] | None = None, receipt: Receipt | None = None
    ) -> AcceptResult:
        """Converts and hands on every signal; never raises (except in our tests, at the end), never does I/O.

        Args:
            signals: Any number, in the order in which they happened.
            left: Filled with the refused ones, for a caller who keeps them and asks again.
            receipt: Told what became of every event (`delivery.Receipt`).

        Returns:
            One outcome for each: received = captured + dropped + refused.
        """
        return (self._accepting or self.load()).accept(signals, left, receipt)

    def replace(self, converter: Converter, delivery: Delivery | None = None) -> Delivery | None:
        """Goes on with another converter, and another delivery where one is given; the books go on too.

        Returns:
            The delivery that was replaced, for its owner to shut down; `None` where it stays.
        """
        accepting = self.load()
        accepting.converter = converter
        replaced: Delivery | None = None
        if delivery is not None:
            replaced = accepting.hand_over(delivery)
        for follow in tuple(self._followers):
            follow()
        return replaced

    def beside(self, converter: Converter) -> Bridge:
        """A bridge that converts otherwise, over the same policy, books and, as it is now, delivery.

        For what was accepted under rules that have changed since.

        Args:
            converter: Made from those rules.
        """
        mine = self.load()
        other = Bridge(converter, mine.policy, mine.delivery, guard=self._guard, tap=self._tap)
        other.load().counters = mine.counters
        return other

    def ended(self, delivery: Delivery) -> None:
        """A delivery that was replaced has been shut down: its books join ours, less what it leaves to others."""
        if self._accepting is not None:
            self._accepting.ended(delivery)

    def on_replaced(self, follow: Callable[[], object]) -> None:
        """Calls `follow` after each `replace`: for edges that keep something of the converter's rules at hand."""
        self._followers.append(follow)

    def on_loaded(self, follow: Callable[[], object]) -> None:
        """Calls `follow` once, which must not raise: on the thread that makes the parts, or now where they are made."""
        if self.loaded:
            follow()
        else:
            self._waiting.append(follow)

    def resume(self) -> None:
        """Begins to deliver what dead processes left in the spool; where there is nothing, no thread is started."""
        self.load().delivery.resume()

    def flush(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all events so far have their outcome."""
        return self._accepting is None or self._accepting.delivery.flush(timeout)

    def shutdown(self, timeout: float) -> bool:
        """Stops delivery within `timeout` seconds; True if nothing was lost."""
        self._closed = True
        return self._accepting is None or self._accepting.delivery.shutdown(timeout)

    def signal_stats(self) -> SignalStats:
        """The books of the signals."""
        return self.load().signal_stats()

    def delivery_stats(self) -> DeliveryStats:
        """The books of the events, those of former deliveries included."""
        return self.load().delivery_stats()

    def metrics(self, edge: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Every number of ours at this moment, by metric name, ready for JSON (`observe.metrics`).

        Args:
            edge: Counters of the edge in front of this bridge.
        """
        return self.load().metrics(edge)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it; that thread does not exist here.
        self._loading = threading.Lock()
        self._guard.after_fork()
        if self._accepting is not None:
            self._accepting.after_fork()


__all__ = ["Bridge", "Tap"]
