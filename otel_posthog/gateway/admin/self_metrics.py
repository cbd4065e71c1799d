"""The gateway's own metrics over OTLP, for those who push metrics instead of being scraped; only where asked for.

The same families as `/metrics`, at the same moment, handed to the standard exporter. The SDK's `MeterProvider` stands
back: its observable instruments know no histograms, and would ask for each number at a moment of its own, so that the
books would not balance. See docs/decisions/0092-self-metrics-without-a-provider.md.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from otel_posthog.gateway.admin.families import Family, gather
from otel_posthog.gateway.admin.sources import AdminSources
from otel_posthog.gateway.books import BUCKETS, Histogram
from otel_posthog.gateway.configuration.settings import SelfMetricsSettings
from otel_posthog.observe.log import Complaints
from otel_posthog.observe.metrics import Instrument
from otel_posthog.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric, MetricsData

SERVICE_NAME = "otel-posthog-gateway"
SCOPE = "otel_posthog.gateway"

_EXPORT_TIMEOUT = 10.0


class SelfMetrics:
    """Exports in a thread of its own, from `start` to `stop`.

    Args:
        sources: What is read.
        settings: Where it goes.
        exporter: Makes what sends; the standard OTLP/HTTP exporter by default.
        time_ns: Nanoseconds since the Unix epoch.
    """

    def __init__(
        self,
        sources: AdminSources,
        settings: SelfMetricsSettings,
        *,
        exporter: Callable[[SelfMetricsSettings], Any] | None = None,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._sources = sources
        self._settings = settings
        self._make_exporter = exporter or otlp_exporter
        self._time_ns = time_ns
        self._began_ns = time_ns()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._exporter: Any = None
        self._complaints = Complaints()

    def start(self) -> None:
        """Begins; the first export is an interval later. Idempotent."""
        if self._thread is None:
            self._exporter = self._make_exporter(self._settings)
            self._thread = threading.Thread(target=self._run, name="otel-posthog-self-metrics", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Exports once more, all within `timeout` seconds, and ends. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join(timeout)
            self._exporter.shutdown()
            thread.join(1.0)

    def _run(self) -> None:
        from opentelemetry.instrumentation.utils import suppress_instrumentation

        with suppress_instrumentation():
            while not self._stopping.wait(self._settings.interval):
                self._export()
            self._export()

    def _export(self) -> None:
        try:
            result = self._exporter.export(metrics_data(self._sources, self._began_ns, self._time_ns()))
            failed = "" if getattr(result, "name", "") == "SUCCESS" else "the exporter gave up"
        except Exception as error:  # noqa: BLE001 - an edge: whoever counts must not disturb
            failed = type(error).__name__
        if failed:
            self._complaints.say("self metrics", "the gateway's own metrics could not be sent (%s)", failed)


def otlp_exporter(settings: SelfMetricsSettings) -> Any:
    """The standard OTLP/HTTP exporter."""
    import logging

    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    # It logs every attempt of every interval; that they fail is said once a minute, by us.
    logging.getLogger("opentelemetry.exporter.otlp.proto.http").setLevel(logging.CRITICAL)
    headers = {name: value.reveal() for name, value in settings.headers.items()}
    return OTLPMetricExporter(endpoint=settings.url, headers=headers, timeout=_EXPORT_TIMEOUT)


def metrics_data(sources: AdminSources, began_ns: int, now_ns: int) -> MetricsData:
    """Every family at this moment as the SDK has it.

    Args:
        sources: What is read.
        began_ns: When the counters began at 0.
        now_ns: Time of the points.
    """
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    ours = {
        "service.name": SERVICE_NAME,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{sources.worker}",
    }
    # `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win.
    resource = Resource(ours).merge(OTELResourceDetector().detect())
    metrics = [_metric(family, sources.worker, began_ns, now_ns) for family in gather(sources) if family.points]
    scope = ScopeMetrics(InstrumentationScope(SCOPE, __version__), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, worker: int, began_ns: int, now_ns: int) -> Metric:
    from opentelemetry.sdk.metrics import export

    numbers: list[export.NumberDataPoint] = []
    histograms: list[export.HistogramDataPoint] = []
    for labels, value in family.points:
        attributes = {**dict(labels), "worker": str(worker)}
        if isinstance(value, Histogram):
            histograms.append(_histogram(attributes, value, began_ns, now_ns))
        else:
            numbers.append(export.NumberDataPoint(attributes, began_ns, now_ns, value))
    cumulative = export.AggregationTemporality.CUMULATIVE
    data: Any
    if family.metric.instrument is Instrument.HISTOGRAM:
        data = export.Histogram(histograms, cumulative)
    elif family.metric.instrument is Instrument.COUNTER:
        data = export.Sum(numbers, cumulative, is_monotonic=True)
    else:
        data = export.Gauge(numbers)
    return export.Metric(family.metric.name, family.metric.description, family.metric.unit, data)


def _histogram(attributes: Mapping[str, str], value: Histogram, began_ns: int, now_ns: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    unknown: Any = None  # OTLP's `min` and `max` are optional; the encoder leaves them out
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=began_ns,
        time_unix_nano=now_ns,
        count=sum(value.counts),
        sum=value.total,
        bucket_counts=value.counts,
        explicit_bounds=BUCKETS,
        min=unknown,
        max=unknown,
    )
