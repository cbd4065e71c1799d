"""THE seam: `Bridge.accept(signals)`. The only module that sees converter, policy and delivery.

Every signal gets exactly one outcome, which is counted and offered to the tap:

    convert -> policy.admit -> delivery.submit -> policy.commit -> counters

An unexpected failure in any of them costs the one signal at hand, never its neighbours, and never the caller.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from otel_posthog.convert import Converter
from otel_posthog.delivery import Delivery, DeliveryStats
from otel_posthog.errors import SignalError
from otel_posthog.model import AcceptResult, Decision, DropReason, Signal
from otel_posthog.observe import Guard, SignalCounters, SignalStats, Tally, snapshot
from otel_posthog.policy import Policy

Tap = Callable[[Signal, Decision, bool], None]
"""Called with each signal, its decision, and whether delivery refused it."""


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
        self,
        converter: Converter,
        policy: Policy,
        delivery: Delivery,
        *,
        guard: Guard,
        tap: Tap | None = None,
    ) -> None:
        self.converter = converter
        self._policy = policy
        self._delivery = delivery
        self._guard = guard
        self._counters = SignalCounters()
        self._tap = tap
        self._followers: list[Callable[[], object]] = []
        if hasattr(os, "register_at_fork"):
            # By a weak reference: the registration cannot be taken back, and must not keep a bridge alive.
            after_fork = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def accept(self, signals: Sequence[Signal], left: list[Signal] | None = None) -> AcceptResult:
        """Converts and hands on every signal; never raises (except under pytest, at the end), never does I/O.

        Args:
            signals: Any number, in the order in which they happened.
            left: Filled with the refused ones, for a caller who keeps them and asks again.

        Returns:
            One outcome for each: received = captured + dropped + refused.
        """
        tally = Tally(len(signals))
        dropped: dict[DropReason, int] = {}
        captured = refused = 0
        failures: list[tuple[str, Exception]] | None = None
        for signal in signals:
            taken = False
            decision = _INVALID
            where = "convert"
            try:
                decision = self.converter.convert(signal)
                if decision.events:
                    where = "policy"
                    decision = self._policy.admit(signal, decision)
                if decision.events:
                    where = "submit"
                    taken = self._delivery.submit(decision.events)
                    if taken:
                        where = "commit"
                        self._policy.commit(signal, decision)
            except Exception as error:  # noqa: BLE001 - an edge: one signal must not take its batch with it
                # Before submit it is invalid; where submit fails nothing is known, so it may be sent again; after it
                # the events are on their way, whatever we remember.
                if where in ("convert", "policy"):
                    decision = _INVALID
                # The converter's own verdict on hostile input is an outcome, not a failure of ours.
                if not (where == "convert" and isinstance(error, SignalError)):
                    failures = failures or []
                    failures.append((where, error))
            if not decision.events:
                reason = decision.reason or DropReason.INVALID
                dropped[reason] = dropped.get(reason, 0) + 1
                tally.dropped(signal.kind, reason, decision.rule)
            elif taken:
                captured += 1
                tally.captured(signal.kind, len(decision.events), decision.rule, decision.notices)
            else:
                refused += 1
                if left is not None:
                    left.append(signal)
                tally.refused(signal.kind, len(decision.events))
            if self._tap is not None:
                try:
                    self._tap(signal, decision, bool(decision.events) and not taken)
                except Exception as error:  # noqa: BLE001 - an edge: whoever looks must not disturb
                    failures = failures or []
                    failures.append(("tap", error))
        self._counters.add(tally)
        # Told at the end, because telling raises under pytest, and the books must balance there too.
        for where, error in failures or ():
            self._guard.failed(where, error)
        if captured == len(signals) == 1:
            return _ONE_CAPTURED  # making a frozen object costs a third of all this
        return AcceptResult(len(signals), captured, dropped, refused)

    def replace(self, converter: Converter, delivery: Delivery | None = None) -> Delivery | None:
        """Goes on with another converter, and another delivery where one is given; the books go on too.

        Returns:
            The delivery that was replaced, for its owner to shut down; `None` where it stays.
        """
        self.converter = converter
        replaced: Delivery | None = None
        if delivery is not None:
            replaced, self._delivery = self._delivery, delivery
        for follow in tuple(self._followers):
            follow()
        return replaced

    def on_replaced(self, follow: Callable[[], object]) -> None:
        """Calls `follow` after each `replace`: for edges that keep something of the converter's rules at hand."""
        self._followers.append(follow)

    def flush(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until all events so far have their outcome."""
        return self._delivery.flush(timeout)

    def shutdown(self, timeout: float) -> bool:
        """Stops delivery within `timeout` seconds; True if nothing was lost."""
        return self._delivery.shutdown(timeout)

    def signal_stats(self) -> SignalStats:
        """The books of the signals."""
        return self._counters.stats()

    def delivery_stats(self) -> DeliveryStats:
        """The books of the events."""
        return self._delivery.stats()

    def metrics(self, edge: Mapping[str, int] | None = None) -> dict[str, Any]:
        """Every number of ours at this moment, by metric name, ready for JSON (`observe.metrics`).

        Args:
            edge: Counters of the edge in front of this bridge.
        """
        return snapshot(
            self._counters.stats(),
            self._delivery.stats(),
            removed=self._policy.removed(),
            errors=self._guard.counts(),
            edge=edge,
        )

    def _after_fork(self) -> None:
        self._counters.after_fork()
        self._policy.after_fork()
        self._guard.after_fork()


_INVALID = Decision(reason=DropReason.INVALID)
_ONE_CAPTURED = AcceptResult(1, 1, MappingProxyType({}), 0)
