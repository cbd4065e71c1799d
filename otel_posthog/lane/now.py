"""The clocks of what calls make: in a place of their own, so that a test can stop them (`otel_posthog.testing`)."""

from __future__ import annotations

# By name, as the OpenTelemetry SDK's modules have them: whoever stops a clock replaces it in each module.
from time import perf_counter_ns, time_ns


def now_ns() -> int:
    """Nanoseconds since the Unix epoch."""
    return time_ns()


def elapsed_ns() -> int:
    """Nanoseconds since some moment, never going back: for durations."""
    return perf_counter_ns()
