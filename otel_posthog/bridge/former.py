"""Books that go on when a bridge gets another delivery: those of the former ones count, too.

A reload with a new key or host brings a new delivery; the old one ends beside it. What had not ended in it stays with
its keeper (a spool, the gateway's journal), comes again and is captured anew: so it is taken back from the old books.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from otel_posthog.delivery import Delivery, DeliveryStats


class FormerDeliveries:
    """Deliveries that a bridge had before. Changed by one thread at a time; read by any."""

    def __init__(self) -> None:
        # Together, so that nobody sees a delivery in both or in neither of them.
        self._books: tuple[DeliveryStats, tuple[Delivery, ...]] = (DeliveryStats(), ())

    def add(self, delivery: Delivery) -> None:
        """It was replaced, and still has to end."""
        gone, leaving = self._books
        self._books = (gone, (*leaving, delivery))

    def ended(self, delivery: Delivery) -> None:
        """It was shut down: its numbers are kept, itself is not."""
        gone, leaving = self._books
        if delivery not in leaving:
            return
        stats = delivery.stats()
        stats = replace(stats, captured=stats.captured - stats.spooled, spooled=0)  # pyright: ignore[reportArgumentType]
        self._books = (_sum(gone, stats), tuple(each for each in leaving if each is not delivery))

    def with_these(self, stats: DeliveryStats) -> DeliveryStats:
        """`stats` of the delivery of today, and those of all before."""
        whole, leaving = self._books
        for each in leaving:
            whole = _sum(whole, each.stats())
        return _sum(whole, stats)


def _sum(before: DeliveryStats, after: DeliveryStats) -> DeliveryStats:
    return DeliveryStats(
        captured=before.captured + after.captured,
        delivered=before.delivered + after.delivered,
        spooled=before.spooled + after.spooled,
        dead_lettered=Counter(before.dead_lettered) + Counter(after.dead_lettered),
        lost=Counter(before.lost) + Counter(after.lost),
        pending=before.pending + after.pending,
        retries=before.retries + after.retries,
        batches=before.batches + after.batches,
        last_error=after.last_error,
        blocked=after.blocked,
    )
