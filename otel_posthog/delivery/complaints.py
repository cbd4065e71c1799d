"""One log line a minute about failed deliveries, however many there are."""

from __future__ import annotations

import logging
from collections.abc import Callable

from otel_posthog.delivery.protocols import DeliveryStats

logger = logging.getLogger("otel_posthog")

INTERVAL = 60.0


class Complaints:
    """Rate-limited reports of one destination; their texts are ours, never payload and never a secret.

    Args:
        lane: Name of the destination.
        monotonic: Seconds that never go back.
    """

    def __init__(self, lane: str, monotonic: Callable[[], float]) -> None:
        self._lane = lane
        self._monotonic = monotonic
        self._silent_until = 0.0
        self._held_back = 0

    def __call__(self, note: str, stats: DeliveryStats) -> None:
        """Reports `note` unless something was reported within the last minute."""
        now = self._monotonic()
        if now < self._silent_until:
            self._held_back += 1
            return
        self._silent_until = now + INTERVAL  # at once, since several lanes share it
        held_back, self._held_back = self._held_back, 0
        logger.warning(
            "otel-posthog: delivery (%s): %s. Events waiting: %d, lost so far: %d%s",
            self._lane,
            note,
            stats.pending,
            sum(stats.lost.values()),
            f"; {held_back} more reports held back" if held_back else "",
        )
