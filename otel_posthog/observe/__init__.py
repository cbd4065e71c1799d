"""What happened, for people: counters, metrics, a tap, a rate-limited complaint."""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.observe.counters import SignalCounters, SignalStats, Tally
    from otel_posthog.observe.guard import Guard
    from otel_posthog.observe.log import Complaints, quiet_logger
    from otel_posthog.observe.metrics import METRICS, Metric, snapshot
    from otel_posthog.observe.tap import Outcome, Subscription, Tap
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Complaints": "log",
            "Guard": "guard",
            "METRICS": "metrics",
            "Metric": "metrics",
            "Outcome": "tap",
            "SignalCounters": "counters",
            "SignalStats": "counters",
            "Subscription": "tap",
            "Tally": "counters",
            "Tap": "tap",
            "quiet_logger": "log",
            "snapshot": "metrics",
        },
    )

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
