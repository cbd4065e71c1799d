"""What one step of the policy pipeline promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from otel_posthog.model import CaptureEvent, DropReason, Signal


class Step(Protocol):
    """One rule of policy. Called with the policy's lock held: no I/O, no callbacks, no waiting.

    `admit` may be called for a decision that delivery then refuses; what must hold only for events that were really
    taken belongs in `commit`.
    """

    events: frozenset[str]
    """Names of the capture events that this step has an opinion on; others never reach it."""

    reason: DropReason
    """Why it removes an event."""

    def admit(self, signal: Signal, event: CaptureEvent, now: float) -> CaptureEvent | None:
        """`event` (or what it becomes), or `None` to remove it.

        Args:
            signal: What the event was made from.
            event: One event of the decision.
            now: Seconds that never go back.
        """
        ...

    def commit(self, signal: Signal, event: CaptureEvent, now: float) -> None:
        """Delivery took `event`."""
        ...


Steps = Sequence[Step]
