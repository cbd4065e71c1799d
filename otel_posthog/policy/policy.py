"""`Policy`: what needs state between signals; a map from Decision to Decision."""

from __future__ import annotations

from otel_posthog.model import Decision, Signal


class Policy:
    """Admits, thins or drops the events of a decision. Safe in any thread."""

    def admit(self, signal: Signal, decision: Decision) -> Decision:
        """`decision`, with fewer events where policy forbids some, or with a reason where it forbids all."""
        return decision

    def commit(self, signal: Signal, decision: Decision) -> None:
        """Delivery took `decision`: remember what must not be captured again."""
