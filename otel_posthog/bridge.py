"""THE seam: `Bridge.accept(signals)`. The only module that sees converter, policy and delivery.

Every signal gets exactly one outcome, which is counted and offered to the tap:

    convert -> policy.admit -> delivery.submit -> policy.commit -> counters
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from otel_posthog.convert import Converter
from otel_posthog.delivery import Delivery, DeliveryStats
from otel_posthog.model import AcceptResult, Decision, DropReason, Signal
from otel_posthog.observe import Guard, SignalCounters, SignalStats
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

    def accept(self, signals: Sequence[Signal]) -> AcceptResult:
        """Converts and hands on every signal; never raises (except under pytest), never does I/O."""
        captured = refused = 0
        dropped: Counter[DropReason] = Counter()
        for signal in signals:
            decision, taken = self._one(signal)
            if not decision.events:
                reason = decision.reason or DropReason.INVALID
                dropped[reason] += 1
                self._counters.dropped(reason, decision.rule)
            elif taken:
                captured += 1
                self._counters.captured(decision.rule, decision.notices)
            else:
                refused += 1
                self._counters.refused()
            if self._tap is not None:
                self._tap(signal, decision, bool(decision.events) and not taken)
        return AcceptResult(received=len(signals), captured=captured, dropped=dict(dropped), refused=refused)

    def _one(self, signal: Signal) -> tuple[Decision, bool]:
        try:
            decision = self._policy.admit(signal, self.converter.convert(signal))
        except Exception as error:
            self._guard.failed("convert", error)
            return Decision(reason=DropReason.INVALID), False
        if not decision.events:
            return decision, False
        if not self._delivery.submit(decision.events):
            return decision, False
        self._policy.commit(signal, decision)
        return decision, True

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
