"""What happened, for people: counters, metrics, a tap, a rate-limited complaint."""

from otel_posthog.observe.counters import SignalCounters, SignalStats, Tally
from otel_posthog.observe.guard import Guard
from otel_posthog.observe.log import Complaints, quiet_logger
from otel_posthog.observe.metrics import METRICS, Metric, snapshot
from otel_posthog.observe.tap import Outcome, Subscription, Tap

__all__ = [
    "METRICS",
    "Complaints",
    "Guard",
    "Metric",
    "Outcome",
    "SignalCounters",
    "SignalStats",
    "Subscription",
    "Tally",
    "Tap",
    "quiet_logger",
    "snapshot",
]
