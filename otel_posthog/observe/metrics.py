"""Our own metrics: one table of names, units and meanings, and a snapshot of their values.

`otel-posthog status --json`, the tests and every later exporter read this one dictionary, so that a number has one name
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, Protocol

from otel_posthog.model import DropReason, LossReason
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.counters import SignalStats

Value = Any
"""An int, or a dict of attribute value -> Value, one level for each of the metric's attributes."""


class Instrument(str, Enum):
    """How a metric behaves over time."""

    COUNTER = "counter"
    """Only grows; starts at 0 in every process, a forked one too."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    """Durations by bucket; in the gateway alone."""


@frozen
class Metric:
    """One row of the table.

    Args:
        name: Its name in every output.
        unit: UCUM; `{signal}` and the like for counts.
        description: What it counts, for people.
        attributes: Names of the attributes by which it is split, outermost first.
        instrument: Counter or gauge.
    """

    name: str
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    instrument: Instrument = Instrument.COUNTER


SIGNALS_RECEIVED: Final = Metric(
    "otel_posthog.signals.received", "{signal}", "Spans, span events and log records handed to the bridge."
)
SIGNALS_CAPTURED: Final = Metric(
    "otel_posthog.signals.captured", "{signal}", "Signals whose events delivery took.", ("kind",)
)
SIGNALS_DROPPED: Final = Metric(
    "otel_posthog.signals.dropped", "{signal}", "Signals that became no event, for good.", ("kind", "reason")
)
SIGNALS_REFUSED: Final = Metric(
    "otel_posthog.signals.refused", "{signal}", "Signals whose events delivery had no room for.", ("kind",)
)
SIGNALS_BY_RULE: Final = Metric(
    "otel_posthog.signals.by_rule", "{signal}", "Signals that a rule captured or dropped.", ("rule",)
)
SIGNALS_MENDED: Final = Metric(
    "otel_posthog.signals.mended", "{notice}", "What had to be mended on captured signals.", ("notice",)
)
EVENTS_CAPTURED: Final = Metric("otel_posthog.events.captured", "{event}", "Capture events that delivery took.")
EVENTS_REFUSED: Final = Metric(
    "otel_posthog.events.refused", "{event}", "Capture events that delivery had no room for."
)
EVENTS_REMOVED: Final = Metric(
    "otel_posthog.events.removed", "{event}", "Capture events that policy took out of a decision.", ("reason",)
)
EVENTS_DELIVERED: Final = Metric(
    "otel_posthog.events.delivered", "{event}", "Capture events that the sink acknowledged."
)
EVENTS_SPOOLED: Final = Metric(
    "otel_posthog.events.spooled", "{event}", "Capture events on disk, for a later process.", (), Instrument.GAUGE
)
EVENTS_DEAD_LETTERED: Final = Metric(
    "otel_posthog.events.dead_lettered",
    "{event}",
    "Capture events that PostHog will never take, handed to the dead letters.",
    ("reason",),
)
EVENTS_LOST: Final = Metric("otel_posthog.events.lost", "{event}", "Capture events given up.", ("reason",))
QUEUE_SIZE: Final = Metric(
    "otel_posthog.queue.size", "{event}", "Capture events in the queue or in flight.", (), Instrument.GAUGE
)
DELIVERY_RETRIES: Final = Metric("otel_posthog.delivery.retries", "{attempt}", "Attempts beyond the first.")
DELIVERY_BATCHES: Final = Metric("otel_posthog.delivery.batches", "{request}", "Requests that were answered.")
INTERNAL_ERRORS: Final = Metric(
    "otel_posthog.internal.errors", "{error}", "Failures of ours that were swallowed.", ("place",)
)
API_MISUSED: Final = Metric(
    "otel_posthog.api.misused", "{call}", "Calls of ours with something wrong in them, see docs/annotate.md.", ("what",)
)
FLAG_QUESTIONS: Final = Metric(
    "otel_posthog.flags.questions",
    "{question}",
    "Questions about feature flags, by who answered, or why the default counted.",
    ("outcome",),
)
EDGE: Final = Metric("otel_posthog.edge", "{item}", "What the edge in front of the bridge counted.", ("counter",))

METRICS: Final[tuple[Metric, ...]] = (
    SIGNALS_RECEIVED,
    SIGNALS_CAPTURED,
    SIGNALS_DROPPED,
    SIGNALS_REFUSED,
    SIGNALS_BY_RULE,
    SIGNALS_MENDED,
    EVENTS_CAPTURED,
    EVENTS_REFUSED,
    EVENTS_REMOVED,
    EVENTS_DELIVERED,
    EVENTS_SPOOLED,
    EVENTS_DEAD_LETTERED,
    EVENTS_LOST,
    QUEUE_SIZE,
    DELIVERY_RETRIES,
    DELIVERY_BATCHES,
    INTERNAL_ERRORS,
    API_MISUSED,
    FLAG_QUESTIONS,
    EDGE,
)
"""Every metric of ours; docs/observability.md lists the same, and a test compares the two."""


class DeliveryBooks(Protocol):
    """What a snapshot reads of `delivery.DeliveryStats` (observe and delivery do not know each other)."""

    @property
    def captured(self) -> int:
        """Events that delivery took."""
        ...

    @property
    def delivered(self) -> int:
        """Events that the sink acknowledged."""
        ...

    @property
    def spooled(self) -> int:
        """Events on disk."""
        ...

    @property
    def dead_lettered(self) -> Mapping[LossReason, int]:
        """Events put aside."""
        ...

    @property
    def lost(self) -> Mapping[LossReason, int]:
        """Events given up."""
        ...

    @property
    def pending(self) -> int:
        """Events in the queue or in flight."""
        ...

    @property
    def retries(self) -> int:
        """Attempts beyond the first."""
        ...

    @property
    def batches(self) -> int:
        """Requests that were answered."""
        ...


def snapshot(
    signals: SignalStats,
    delivery: DeliveryBooks,
    *,
    removed: Mapping[DropReason, int] | None = None,
    errors: Mapping[str, int] | None = None,
    misused: Mapping[str, int] | None = None,
    edge: Mapping[str, int] | None = None,
) -> dict[str, Value]:
    """Every metric's value, by name, ready for JSON.

    A metric without attributes is an int; one with attributes is a dict by attribute value, nested in the order of
    `Metric.attributes`. Only what was counted appears in a dict.

    Args:
        signals: The bridge's books.
        delivery: Delivery's books.
        removed: Events that policy removed, by reason.
        errors: `Guard.counts()`.
        misused: `Guard.misuses()`.
        edge: Counters of the edge in front of the bridge (processors' own queue, the gateway's receivers), by name.
    """
    values: dict[Metric, Value] = {
        SIGNALS_RECEIVED: signals.received,
        SIGNALS_CAPTURED: _plain(signals.captured_by_kind),
        SIGNALS_DROPPED: {kind.value: _plain(reasons) for kind, reasons in signals.dropped_by_kind.items()},
        SIGNALS_REFUSED: _plain(signals.refused_by_kind),
        SIGNALS_BY_RULE: _plain(signals.by_rule),
        SIGNALS_MENDED: _plain(signals.notices),
        EVENTS_CAPTURED: delivery.captured,
        EVENTS_REFUSED: signals.events_refused,
        EVENTS_REMOVED: _plain(removed or {}),
        EVENTS_DELIVERED: delivery.delivered,
        EVENTS_SPOOLED: delivery.spooled,
        EVENTS_DEAD_LETTERED: _plain(delivery.dead_lettered),
        EVENTS_LOST: _plain(delivery.lost),
        QUEUE_SIZE: delivery.pending,
        DELIVERY_RETRIES: delivery.retries,
        DELIVERY_BATCHES: delivery.batches,
        INTERNAL_ERRORS: _plain(errors or {}),
        API_MISUSED: _plain(misused or {}),
        FLAG_QUESTIONS: {},
        EDGE: _plain(edge or {}),
    }
    return {metric.name: values[metric] for metric in METRICS}


def _plain(counts: Mapping[Any, int]) -> dict[str, int]:
    return {key.value if isinstance(key, Enum) else str(key): count for key, count in counts.items()}
