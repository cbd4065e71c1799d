"""The gateway's metrics: names, units and meanings, and how OpenTelemetry names become Prometheus names.

What a bridge counts is in `observe.metrics` and has the attribute `project` here. What is in this table comes from the
books and the gauges of the gateway; whatever else is found there is shown too, without a meaning. Docs, alert rules and
dashboard are compared with this table by tests.
"""

from __future__ import annotations

import re
from typing import Final

from otel_posthog.observe.metrics import METRICS, Instrument, Metric

PREFIX: Final = "otel_posthog."

READY: Final = Metric(
    "otel_posthog.gateway.ready", "1", "1 while it is ready: `/readyz` says why it is not.", (), Instrument.GAUGE
)
BLOCKED: Final = Metric(
    "otel_posthog.project.blocked",
    "1",
    "1 while PostHog takes nothing whatever the data is: a revoked key, a host that is none.",
    ("project",),
    Instrument.GAUGE,
)
VIEWERS: Final = Metric("otel_posthog.tail.viewers", "{viewer}", "Who looks at `/tail` now.", (), Instrument.GAUGE)
INFO: Final = Metric(
    "otel_posthog.gateway.info", "1", "Always 1; its attribute names the version.", ("version",), Instrument.GAUGE
)

WORKER_UP: Final = Metric(
    "otel_posthog.worker.up", "1", "1 for a worker that answers, 0 for one that does not.", (), Instrument.GAUGE
)
WORKER_RESTARTS: Final = Metric(
    "otel_posthog.worker.restarts", "{restart}", "How often a worker had to be started anew.", ("worker",)
)

BOOK_METRICS: Final[tuple[Metric, ...]] = ()
"""What the receivers and the intake count."""

OWN_METRICS: Final[tuple[Metric, ...]] = (INFO, READY, WORKER_UP, WORKER_RESTARTS, BLOCKED, VIEWERS)
"""What the operator's door tells by itself."""

GATEWAY_METRICS: Final[tuple[Metric, ...]] = (*OWN_METRICS, *BOOK_METRICS)
"""All metrics that a gateway has and a process has not."""

KNOWN: Final = {metric.name: metric for metric in (*METRICS, *GATEWAY_METRICS)}

_UNITS: Final = {"s": "seconds", "By": "bytes", "ms": "milliseconds"}
_NOT_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]+")


def otel_name(name: str) -> str:
    """The full name of what the books call `name`."""
    return name if name.startswith(PREFIX) else PREFIX + name


def prometheus_name(metric: Metric) -> str:
    """The family's name by OpenTelemetry's rules for Prometheus, without the `_total` of counters.

    Dots become underscores, the unit is appended in words, a unit in braces is only an annotation.
    See https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/.
    """
    name = _NOT_A_NAME.sub("_", metric.name)
    unit = _UNITS.get(metric.unit, "")
    return f"{name}_{unit}" if unit and not name.endswith(f"_{unit}") else name


def prometheus_label(name: str) -> str:
    """A label's name: `server.address` is `server_address`."""
    return _NOT_A_NAME.sub("_", name)


def series_names(metric: Metric) -> tuple[str, ...]:
    """The names that `metric` has in queries."""
    name = prometheus_name(metric)
    if metric.instrument is Instrument.COUNTER:
        return (f"{name}_total",)
    if metric.instrument is Instrument.HISTOGRAM:
        return (f"{name}_bucket", f"{name}_count", f"{name}_sum")
    return (name,)
