"""What is behind the bridge once there is something to convert: `accept`, and the books of the signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from otel_posthog.convert import Converter
from otel_posthog.delivery import Delivery, Receipt
from otel_posthog.errors import SignalError
from otel_posthog.model import AcceptResult, Decision, DropReason, Signal
from otel_posthog.observe import Guard, SignalCounters, SignalStats, Tally, snapshot
from otel_posthog.policy import Policy

if TYPE_CHECKING:
    from otel_posthog.bridge import Tap


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
        self._guard = guard
        self._tap = tap

    def accept(
        self, signals: Sequence[Signal], left: list[Signal] | None = None, receipt: Receipt | None = None
    ) -> AcceptResult:
        """See `Bridge.accept`."""
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
                    decision = self.policy.admit(signal, decision)
                if decision.events:
                    where = "submit"
                    taken = self.delivery.submit(decision.events, receipt)
                    if taken:
                        where = "commit"
                        self.policy.commit(signal, decision)
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
        self.counters.add(tally)
        # Told at the end, because telling raises under pytest, and the books must balance there too.
        for where, error in failures or ():
            self._guard.failed(where, error)
        if captured == len(signals) == 1:
            return _ONE_CAPTURED  # making a frozen object costs a third of all this
        return AcceptResult(len(signals), captured, dropped, refused)

    def signal_stats(self) -> SignalStats:
        """The books of the signals."""
        return self.counters.stats()

    def metrics(self, edge: Mapping[str, int] | None = None) -> dict[str, Any]:
        """See `Bridge.metrics`."""
        return snapshot(
            self.counters.stats(),
            self.delivery.stats(),
            removed=self.policy.removed(),
            errors=self._guard.counts(),
            edge=edge,
        )

    def after_fork(self) -> None:
        """To be called in the child of a fork: locks and books of its own."""
        self.counters.after_fork()
        self.policy.after_fork()


_INVALID = Decision(reason=DropReason.INVALID)
_ONE_CAPTURED = AcceptResult(1, 1, MappingProxyType({}), 0)
