"""Books that go on over a change of the delivery."""

from __future__ import annotations

from collections.abc import Sequence

from otel_posthog.bridge import Bridge
from otel_posthog.bridge.former import FormerDeliveries
from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats, Receipt
from otel_posthog.model import CaptureEvent, LossReason
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules import RuleSet


class Part:
    """A delivery with books that a test writes."""

    def __init__(self, stats: DeliveryStats) -> None:
        self.books = stats

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """See `Delivery`."""
        return True

    def resume(self) -> None:
        """See `Delivery`."""

    def flush(self, timeout: float) -> bool:
        """See `Delivery`."""
        return True

    def shutdown(self, timeout: float) -> bool:
        """See `Delivery`: what is pending is left to its keeper."""
        books = self.books
        self.books = DeliveryStats(books.captured, books.delivered, spooled=books.pending, lost=books.lost)
        return not books.pending

    def stats(self) -> DeliveryStats:
        """See `Delivery`."""
        return self.books


def test_books_go_on_and_balance() -> None:
    """While the old one leaves and after it: what it leaves to others comes again, so it is taken back."""
    first = Part(DeliveryStats(captured=10, delivered=5, lost={LossReason.REJECTED: 1}, pending=4, blocked="a key"))
    second = Part(DeliveryStats())
    converter = Converter(ConvertConfig(), RuleSet())
    bridge = Bridge(converter, Policy(), first, guard=Guard())
    assert bridge.delivery_stats() is first.books
    assert bridge.replace(converter, second) is first
    stats = DeliveryStats(captured=10, delivered=5, lost={LossReason.REJECTED: 1}, pending=4)
    assert bridge.delivery_stats() == stats, "what blocked the old one does not block the new one"
    first.shutdown(1.0)
    bridge.ended(first)
    assert bridge.delivery_stats() == DeliveryStats(captured=6, delivered=5, lost={LossReason.REJECTED: 1})
    second.books = DeliveryStats(captured=4, delivered=3, lost={LossReason.REJECTED: 1}, last_error="no")
    stats = bridge.delivery_stats()
    assert stats == DeliveryStats(captured=10, delivered=8, lost={LossReason.REJECTED: 2}, last_error="no")
    assert stats.balanced
    assert bridge.metrics()["otel_posthog.events.delivered"] == 8


def test_an_end_that_is_nobodys() -> None:
    """Told twice, or of a delivery that never was here: nothing is counted twice."""
    former = FormerDeliveries()
    part = Part(DeliveryStats(captured=1, delivered=1))
    former.ended(part)
    former.add(part)
    former.ended(part)
    former.ended(part)
    assert former.with_these(DeliveryStats()) == DeliveryStats(captured=1, delivered=1)
