"""All numbers of a gateway at one moment, by metric: what `/metrics` and the OTLP self-metrics are made of.

A counter that first appears with its first count is invisible to `increase()` and `rate()`, and with it to an alert:
what an alert may ask for is there from the start, with 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from otel_posthog.gateway.admin import names
from otel_posthog.gateway.admin.health import why_not_ready
from otel_posthog.gateway.admin.sources import AdminSources
from otel_posthog.gateway.books import Histogram, Labels
from otel_posthog.model import LossReason, SignalKind
from otel_posthog.model.frozen import frozen
from otel_posthog.observe import metrics as bridge_metrics
from otel_posthog.observe.metrics import METRICS, Instrument, Metric
from otel_posthog.version import __version__

Value = float | Histogram

_KINDS: Final = tuple(kind.value for kind in SignalKind)
_LOSSES: Final = tuple(reason.value for reason in LossReason)
_PLACES: Final = (
    "commit", "convert", "intake", "intake.answer", "journal", "journal.job", "policy", "processing", "submit", "tap",
)  # fmt: skip
_ALARMING_DROPS: Final = ("invalid", "too_big")

_FROM_THE_START: Final[Mapping[str, Mapping[str, Any]]] = {
    bridge_metrics.SIGNALS_CAPTURED.name: dict.fromkeys(_KINDS, 0),
    bridge_metrics.SIGNALS_REFUSED.name: dict.fromkeys(_KINDS, 0),
    bridge_metrics.SIGNALS_DROPPED.name: {kind: dict.fromkeys(_ALARMING_DROPS, 0) for kind in _KINDS},
    bridge_metrics.EVENTS_DEAD_LETTERED.name: dict.fromkeys(_LOSSES, 0),
    bridge_metrics.EVENTS_LOST.name: dict.fromkeys(_LOSSES, 0),
    bridge_metrics.INTERNAL_ERRORS.name: dict.fromkeys(_PLACES, 0),
}


@frozen
class Family:
    """One metric with all its points.

    Args:
        metric: Name, unit, meaning, instrument.
        points: Value by labels; a `Histogram` for that instrument, a number for others.
    """

    metric: Metric
    points: tuple[tuple[Labels, Value], ...]


def gather(sources: AdminSources) -> tuple[Family, ...]:
    """Every metric at this moment."""
    return (*_own(sources), *_of_books(sources), *_of_projects(sources))


def _own(sources: AdminSources) -> Iterator[Family]:
    yield Family(names.INFO, (((("version", __version__),), 1),))
    yield Family(names.WORKER_UP, (((), 1),))
    yield Family(names.READY, (((), int(not why_not_ready(sources))),))
    blocked = ((project.name, project.bridge.delivery_stats().blocked) for project in sources.projects())
    yield Family(names.BLOCKED, tuple(((("project", name),), int(bool(why))) for name, why in blocked))
    yield Family(names.VIEWERS, (((), sources.tail.viewers),))


def _of_books(sources: AdminSources) -> Iterator[Family]:
    snapshot = sources.books()
    found: dict[tuple[str, Instrument], dict[Labels, Value]] = {}
    for book, metric in names.BOOKS.items():
        found[book, metric.instrument] = {tuple(sorted(labels)): 0 for labels in names.FROM_THE_START.get(book, ())}
    every: tuple[tuple[Instrument, Mapping[tuple[str, Labels], Value]], ...] = (
        (Instrument.COUNTER, snapshot.counters),
        (Instrument.HISTOGRAM, snapshot.durations),
        (Instrument.GAUGE, sources.gauges()),
    )
    for instrument, values in every:
        for (book, labels), value in values.items():
            found.setdefault((book, instrument), {})[tuple(sorted(labels))] = value
    for (book, instrument), points in found.items():
        yield Family(names.metric_of(book, instrument), tuple(points.items()))


def _of_projects(sources: AdminSources) -> Iterator[Family]:
    by_project = {project.name: project.bridge.metrics() for project in sources.projects()}
    for metric in METRICS:
        points: list[tuple[Labels, Value]] = []
        for project, values in by_project.items():
            value = values[metric.name]
            if metric.name in _FROM_THE_START:
                value = _merged(_FROM_THE_START[metric.name], value)
            points += _flattened((("project", project),), metric.attributes, value)
        if metric is bridge_metrics.INTERNAL_ERRORS:
            # One guard serves all projects of a gateway, so each of them tells the same numbers.
            points = [((label,), value) for (_, label), value in dict(points[::-1]).items()]
            points = list(dict(points).items())
        yield Family(metric, tuple(points))


def _merged(start: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    merged = dict(start)
    for key, below in value.items():
        above = start.get(key)
        merged[key] = {**above, **below} if isinstance(above, dict) else below
    return merged


def _flattened(labels: Labels, attributes: tuple[str, ...], value: Any) -> Iterator[tuple[Labels, float]]:
    if not attributes:
        yield labels, value
        return
    for key, below in value.items():
        yield from _flattened((*labels, (attributes[0], str(key))), attributes[1:], below)
