"""How long to wait before the next attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_RETRY_AFTER = 30.0
"""A `Retry-After` is believed up to here, as PostHog's own SDK does: a wrong or hostile one must not park the queue for
a day."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential, with full jitter: a fleet that lost its server together does not come back together.

    Args:
        initial: Upper bound of the first pause, seconds; doubles with each attempt.
        longest: Upper bound of every pause, seconds.
        rand: Uniform in [0, 1).
    """

    initial: float
    longest: float
    rand: Callable[[], float]

    def pause(self, attempts: int, floor: float = 0.0) -> float:
        """Seconds to wait after `attempts` failed attempts, and at least what the server asked for."""
        # The exponent is bounded so that a week of failures does not overflow a float.
        bound = min(self.longest, self.initial * 2.0 ** min(attempts - 1, 60))
        return max(self.rand() * bound, min(floor, MAX_RETRY_AFTER))
