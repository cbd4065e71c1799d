"""One delivery out of several: the primary, whose books count, and onlookers that concern nobody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from otel_posthog.delivery.protocols import Delivery, DeliveryStats, Receipt
from otel_posthog.model import CaptureEvent

_ONLOOKERS_AT_LEAST = 0.2


class FanOut:
    """`Delivery` to the primary; onlookers see what it took, and can neither refuse nor slow it.

    Args:
        primary: Decides what is taken; its books are the books.
        onlookers: Name -> delivery.
        guard: Told about what an onlooker raises.
    """

    def __init__(
        self, primary: Delivery, onlookers: Mapping[str, Delivery], *, guard: Callable[[str, BaseException], None]
    ) -> None:
        self.primary = primary
        self.onlookers = dict(onlookers)
        self._guard = guard

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """See `Delivery.submit`."""
        if not self.primary.submit(events, receipt):
            return False
        for name in self.onlookers:
            try:
                self.onlookers[name].submit(events)
            except Exception as error:  # noqa: BLE001, PERF203 - an edge: an onlooker concerns nobody
                self._guard(f"sink.{name}", error)
        return True

    def resume(self) -> None:
        """See `Delivery.resume`; only the primary has a spool."""
        self.primary.resume()

    def flush(self, timeout: float) -> bool:
        """See `Delivery.flush`; the answer is the primary's."""
        return self._each(timeout, lambda delivery, left: delivery.flush(left))

    def shutdown(self, timeout: float) -> bool:
        """See `Delivery.shutdown`; the answer is the primary's."""
        return self._each(timeout, lambda delivery, left: delivery.shutdown(left))

    def stats(self) -> DeliveryStats:
        """The primary's books."""
        return self.primary.stats()

    def _each(self, timeout: float, act: Callable[[Delivery, float], bool]) -> bool:
        deadline = time.monotonic() + timeout
        done = act(self.primary, timeout)
        for name, onlooker in self.onlookers.items():
            try:
                act(onlooker, max(deadline - time.monotonic(), _ONLOOKERS_AT_LEAST))
            except Exception as error:  # noqa: BLE001, PERF203 - an edge
                self._guard(f"sink.{name}", error)
        return done
