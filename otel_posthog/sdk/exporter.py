"""`PostHogSpanExporter` and `PostHogLogRecordExporter`: the reduced way in, for configurations that know no other.

    OTEL_TRACES_EXPORTER=otlp,posthog        exporter: {posthog: {api_key: phc_…, host: https://eu.i.posthog.com}}

Reduced, because an exporter stands behind a batch processor: it never sees unsampled spans, baggage or a live exception
(exceptions are read from their text), stamps no identity, and knows nothing of late identity beyond its own batches.
The processors are the better way wherever they can be attached. Where one of these is configured, the zero-code hook
adds nothing beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_posthog.assembly import Runtime
from otel_posthog.lane.edge import Edge, edge_of, runtime_from_arguments
from otel_posthog.model import LocalContext, Signal

if TYPE_CHECKING:
    from otel_posthog.sdk.log_exporter import PostHogLogRecordExporter


class Intake:
    """What both exporters do the same: give signals to the bridge, flush it, close it once.

    Args:
        runtime: What to feed; `None` does nothing.
    """

    def __init__(self, runtime: Runtime | None) -> None:
        self.edge: Edge | None = edge_of(runtime) if runtime is not None else None
        self._ended = False
        if self.edge is not None:
            self.edge.worker.attach()

    def take(self, signals: Sequence[Signal]) -> bool:
        """Gives `signals` to the bridge; what it has no room for stays with the worker, which asks again.

        Returns:
            Whether everything was taken.
        """
        if self.edge is None:
            return True
        return not self._ended and self.edge.worker.take(signals)

    def flush(self, timeout_millis: int) -> bool:
        """Delivers what was taken so far."""
        return self.edge is None or self.edge.worker.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: int | None = None) -> None:
        """Delivers what is there; twice is fine."""
        if self._ended or self.edge is None:
            return
        self._ended = True
        self.edge.worker.detach(None if timeout_millis is None else timeout_millis / 1000)


class PostHogSpanExporter(SpanExporter):
    """Spans to PostHog events; for `OTEL_TRACES_EXPORTER=posthog` and declarative configuration.

    Args:
        api_key: Project API key; the environment's where `None`.
        host: PostHog host or OTLP endpoint; the environment's where `None`.
        runtime: What to feed, instead of `api_key` and `host`.
        **options: Further settings by the variable's name without `OTEL_POSTHOG_`, in lower case.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self, api_key: str | None = None, host: str | None = None, *, runtime: Runtime | None = None, **options: Any
    ) -> None:
        self._intake = Intake(runtime or runtime_from_arguments(api_key, host, options))

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Gives the spans to the bridge.

        Returns:
            SUCCESS where all was taken. The batch processor forgets a failed batch, so FAILURE means counted as lost.
        """
        edge = self._intake.edge
        if edge is None:
            return SpanExportResult.SUCCESS
        try:
            signals: list[Signal] = []
            for span in spans:
                if edge.claimed(span):
                    continue  # a processor on the same provider has it, and knows more
                edge.claim(span)
                context = span.get_span_context()
                local = LocalContext(sampled=bool(context.trace_flags & 1))
                owner = edge.reader.span(span, local=local)
                signals.append(owner)
                signals += edge.reader.span_events(span, owner, local=local)
            taken = self._intake.take(signals)
        except Exception as error:  # noqa: BLE001 - an edge: the batch processor's thread goes on
            edge.guard.failed("sdk.export", error)
            taken = False
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Delivers what was exported so far.

        Args:
            timeout_millis: Milliseconds to wait at the most.

        Returns:
            Whether all of it has its outcome.
        """
        return self._intake.flush(timeout_millis)

    def shutdown(self, timeout_millis: int | None = None) -> None:
        """Delivers what is there, within `exit_timeout`; twice is fine."""
        self._intake.shutdown(timeout_millis)


def __getattr__(name: str) -> Any:
    # The logs SDK is loaded by whoever asks for the log exporter.
    if name == "PostHogLogRecordExporter":
        from otel_posthog.sdk import log_exporter

        return log_exporter.PostHogLogRecordExporter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Intake", "PostHogLogRecordExporter", "PostHogSpanExporter"]
