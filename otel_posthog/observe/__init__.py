"""What happened, for people: counters, a tap, a rate-limited complaint."""

from otel_posthog.observe.counters import SignalCounters, SignalStats
from otel_posthog.observe.guard import Guard

__all__ = ["Guard", "SignalCounters", "SignalStats"]
