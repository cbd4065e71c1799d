"""The books behind `DeliveryStats`. Not locked: whoever owns it holds their lock around every entry."""

from __future__ import annotations

from collections import Counter

from otel_posthog.delivery.protocols import DeliveryStats
from otel_posthog.model import LossReason


class Ledger:
    """Counts what became of every event; every entry keeps the books balanced."""

    def __init__(self) -> None:
        self.pending = 0
        self.retries = 0
        self.batches = 0
        self.last_error = ""
        self.blocked = ""
        self._captured = 0
        self._delivered = 0
        self._spooled = 0
        self._dead_lettered: Counter[LossReason] = Counter()
        self._lost: Counter[LossReason] = Counter()

    def captured(self, count: int) -> None:
        """`count` events were taken."""
        self._captured += count
        self.pending += count

    def delivered(self, count: int) -> None:
        """The sink acknowledged `count` events."""
        self._delivered += count
        self.pending -= count

    def spooled(self, count: int) -> None:
        """`count` events stay on disk for a later process."""
        self._spooled += count
        self.pending -= count

    def lost(self, count: int, reason: LossReason) -> None:
        """`count` events are given up."""
        if count:
            self._lost[reason] += count
            self.pending -= count

    def dead_lettered(self, count: int, reason: LossReason) -> None:
        """`count` events are given back to whoever keeps a copy of them."""
        if count:
            self._dead_lettered[reason] += count
            self.pending -= count

    def stats(self) -> DeliveryStats:
        """The books at this moment."""
        return DeliveryStats(
            captured=self._captured,
            delivered=self._delivered,
            spooled=self._spooled,
            dead_lettered=dict(self._dead_lettered),
            lost=dict(self._lost),
            pending=self.pending,
            retries=self.retries,
            batches=self.batches,
            last_error=self.last_error,
            blocked=self.blocked,
        )
