"""`/metrics`: a gateway's numbers in Prometheus' text format, or OpenMetrics where the scraper asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from otel_posthog.gateway.admin.families import Family, gather
from otel_posthog.gateway.admin.names import prometheus_label, prometheus_name
from otel_posthog.gateway.admin.sources import AdminSources
from otel_posthog.gateway.books import BUCKETS, Histogram
from otel_posthog.observe.metrics import Instrument

if TYPE_CHECKING:
    from prometheus_client import Metric

TYPES = {Instrument.COUNTER: "counter", Instrument.GAUGE: "gauge", Instrument.HISTOGRAM: "histogram"}


class Collected:
    """What prometheus_client's encoders ask for.

    Args:
        collect: Gives the families, anew for each call.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect


def exposition(collect: Callable[[], Iterable[Metric]], accept: str) -> tuple[bytes, str]:
    """The body and its content type.

    Args:
        collect: Gives the families.
        accept: The request's `Accept` header.
    """
    from prometheus_client.exposition import choose_encoder

    encode, content_type = choose_encoder(accept)
    return encode(Collected(collect)), content_type  # type: ignore[arg-type]


def worker_metrics(sources: AdminSources) -> Iterator[Metric]:
    """Every family of this worker, our own and the process's (memory, CPU, files), with the label `worker`."""
    from prometheus_client import ProcessCollector

    worker = {"worker": str(sources.worker)}
    for family in gather(sources):
        yield prometheus_family(family, worker)
    for family in ProcessCollector(registry=None).collect():
        family.samples = [sample._replace(labels={**sample.labels, **worker}) for sample in family.samples]
        yield family


def prometheus_family(family: Family, more: dict[str, str]) -> Metric:
    """One family as prometheus_client has it.

    Args:
        family: Ours.
        more: Labels of every sample.
    """
    from prometheus_client import Metric

    name = prometheus_name(family.metric)
    made = Metric(name, family.metric.description, TYPES[family.metric.instrument])
    for labels, value in family.points:
        named = {**{prometheus_label(key): text for key, text in labels}, **more}
        if isinstance(value, Histogram):
            _add_histogram(made, name, named, value)
        else:
            suffix = "_total" if family.metric.instrument is Instrument.COUNTER else ""
            made.add_sample(name + suffix, named, value)
    return made


def _add_histogram(made: Metric, name: str, labels: dict[str, str], histogram: Histogram) -> None:
    seen = 0
    for bound, count in zip((*(repr(bound) for bound in BUCKETS), "+Inf"), histogram.counts, strict=True):
        seen += count
        made.add_sample(f"{name}_bucket", {**labels, "le": bound}, seen)
    made.add_sample(f"{name}_count", labels, seen)
    made.add_sample(f"{name}_sum", labels, histogram.total)
