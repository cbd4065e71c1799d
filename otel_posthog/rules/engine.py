"""First match wins: `RuleSet.match(signal)`."""

from __future__ import annotations

from otel_posthog.model import Signal
from otel_posthog.rules.match import Match


class RuleSet:
    """An ordered, compiled set of rules; immutable."""

    def match(self, signal: Signal) -> Match | None:
        """The filled-in action of the first rule that matches `signal`, or `None`. Never raises."""
        return None

    @property
    def digest(self) -> str:
        """Hex digest of the rules' meaning, equal in every process that loaded the same rules; "" for none."""
        return ""

    def __bool__(self) -> bool:
        return False
