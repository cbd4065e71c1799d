"""What is behind the bridge once there is something to convert: `accept`, and the books of the signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from otel_posthog.convert import Converter
from otel_posthog.delivery import Delivery, DeliveryStats, Receipt
from otel_posthog.errors import SignalError
from otel_posthog.model import AcceptResult, Decision, DropReason, Signal
from otel_posthog.observe import Guard, SignalCounters, SignalStats, Tally, snapshot
from otel_posthog.policy import Policy

if TYPE_CHECKING:
    from otel_posthog.bridge import Tap
    from otel_posthog.bridge.former import FormerDeliveries


class Accepting:
    """Converter, policy and delivery in a row; see `Bridge`, which is what everybody holds.

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
        self.converter = converter
        self.policy = policy
        self.delivery = delivery
        self.counters = SignalCounters()
        self._former: FormerDeliveries | None = None
        self._guard = guard
        self._tap = tap

    def accept(
        self, signals: Sequence[Signal], left: list[Signal] | None = None, receipt: Receipt | None = None
    ) -> AcceptResult:
        """See `Bridge.accept`.

        What policy has no opinion on is submitted together, up to `_TOGETHER` at once: delivery's lock, clock and books
        then cost each event a fraction. Where policy has one, what came before it goes first, and it goes alone, since
        the next may depend on what became of it.
        """
        tally = Tally(len(signals))
        failures: list[tuple[str, Exception]] = []
        waiting: list[tuple[Signal, Decision]] = []
        # A tap that is false has nobody looking through it now.
        convert, tap, stateful = self.converter.convert, self._tap or None, self.policy.stateful
        together = tap is None and len(signals) > 1
        for signal in signals:
            try:
                decision = convert(signal)
            except Exception as error:  # noqa: BLE001 - an edge: one signal must not take its batch with it
                decision = _INVALID
                # The converter's own verdict on hostile input is an outcome, not a failure of ours.
                if not isinstance(error, SignalError):
                    failures.append(("convert", error))
            events = decision.events
            if together and len(events) == 1 and events[0].event not in stateful:
                waiting.append((signal, decision))
                if len(waiting) == _TOGETHER:
                    self._submit_together(waiting, tally, left, receipt, failures)
                    waiting = []
                continue
            taken = False
            if events:
                if waiting:
                    self._submit_together(waiting, tally, left, receipt, failures)
                    waiting = []
                decision, taken = self._submit_alone(signal, decision, receipt, failures)
            _enter(signal, decision, taken, tally, left)
            if tap is not None:
                try:
                    tap(signal, decision, bool(decision.events) and not taken)
                except Exception as error:  # noqa: BLE001 - an edge: whoever looks must not disturb
                    failures.append(("tap", error))
        if waiting:
            self._submit_together(waiting, tally, left, receipt, failures)
        self.counters.add(tally)
        # Told at the end, because telling raises in our tests, and the books must balance there too.
        for where, error in failures:
            self._guard.failed(where, error)
        return tally.result()

    def _submit_together(
        self,
        decided: list[tuple[Signal, Decision]],
        tally: Tally,
        left: list[Signal] | None,
        receipt: Receipt | None,
        failures: list[tuple[str, Exception]],
    ) -> None:
        """Events that policy has no opinion on, one of each signal, in one go."""
        try:
            taken = self.delivery.submit([decision.events[0] for _, decision in decided], receipt)
        except Exception as error:  # noqa: BLE001 - an edge, as above
            failures.append(("submit", error))
            taken = False
        if taken:
            tally.captured_together(decided)
            return
        alone = len(decided) > 1  # no room for all of them: as many as there is room for
        for signal, decision in decided:
            taken = alone and self._submit_alone(signal, decision, receipt, failures)[1]
            _enter(signal, decision, taken, tally, left)

    def _submit_alone(
        self, signal: Signal, decision: Decision, receipt: Receipt | None, failures: list[tuple[str, Exception]]
    ) -> tuple[Decision, bool]:
        """What policy makes of `decision`, and whether delivery took its events."""
        taken = False
        where = "policy"
        try:
            decision = self.policy.admit(signal, decision)
            if decision.events:
                where = "submit"
                taken = self.delivery.submit(decision.events, receipt)
                if taken:
                    where = "commit"
                    self.policy.commit(signal, decision)
        except Exception as error:  # noqa: BLE001 - an edge, as above
            # Before submit it is invalid; where submit fails nothing is known, so it may be sent again; after it the
            # events are on their way, whatever we remember.
            if where == "policy":
                decision = _INVALID
            failures.append((where, error))
        return decision, taken

    def hand_over(self, delivery: Delivery) -> Delivery:
        """Everything goes to `delivery` from now on; gives the one before."""
        from otel_posthog.bridge.former import FormerDeliveries

        # Into the books of the former ones first: no event may be in none of them.
        self._former = self._former or FormerDeliveries()
        replaced = self.delivery
        self._former.add(replaced)
        self.delivery = delivery
        return replaced

    def ended(self, delivery: Delivery) -> None:
        """See `Bridge.ended`."""
        if self._former is not None:
            self._former.ended(delivery)

    def delivery_stats(self) -> DeliveryStats:
        """See `Bridge.delivery_stats`."""
        stats = self.delivery.stats()
        return stats if self._former is None else self._former.with_these(stats)

    def signal_stats(self) -> SignalStats:
        """The books of the signals."""
        return self.counters.stats()

    def metrics(self, edge: Mapping[str, int] | None = None) -> dict[str, Any]:
        """See `Bridge.metrics`."""
        return snapshot(
            self.counters.stats(),
            self.delivery_stats(),
            removed=self.policy.removed(),
            errors=self._guard.counts(),
            misused=self._guard.misuses(),
            edge=edge,
        )

    def after_fork(self) -> None:
        """To be called in the child of a fork: locks and books of its own."""
        self.counters.after_fork()
        self.policy.after_fork()


def _enter(signal: Signal, decision: Decision, taken: bool, tally: Tally, left: list[Signal] | None) -> None:
    """The one outcome of `signal`."""
    if not decision.events:
        tally.dropped(signal.kind, decision.reason or DropReason.INVALID, decision.rule)
    elif taken:
        tally.captured(signal.kind, len(decision.events), decision.rule, decision.notices)
    else:
        if left is not None:
            left.append(signal)
        tally.refused(signal.kind, len(decision.events))


_INVALID = Decision(reason=DropReason.INVALID)
_TOGETHER: Final = 64
"""Events submitted at once, at the most: delivery's lock is held for about 30 µs."""
