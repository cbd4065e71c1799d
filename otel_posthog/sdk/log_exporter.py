"""`PostHogLogRecordExporter`; see `exporter.py` for what is reduced about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from otel_posthog.assembly import Runtime
from otel_posthog.lane.edge import OWN_SCOPE, runtime_from_arguments
from otel_posthog.model import LocalContext, Signal
from otel_posthog.sdk.exporter import Intake


class PostHogLogRecordExporter(LogRecordExporter):
    """Log records to PostHog events; for `OTEL_LOGS_EXPORTER=posthog` and declarative configuration.

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

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Gives the log records to the bridge.

        Returns:
            SUCCESS where all was taken. The batch processor forgets a failed batch, so FAILURE means counted as lost.
        """
        edge = self._intake.edge
        if edge is None:
            return LogRecordExportResult.SUCCESS
        try:
            signals: list[Signal] = []
            for record in batch:
                scope = record.instrumentation_scope
                if scope is not None and scope.name.partition(".")[0] == OWN_SCOPE:
                    continue
                log = record.log_record
                if edge.claimed(log):
                    continue  # a processor on the same provider has it, and knows more
                edge.claim(log)
                sampled = bool(log.trace_flags & 1) if log.trace_id and log.trace_flags is not None else None
                signals.append(edge.reader.log_record(record, local=LocalContext(sampled=sampled)))
            taken = self._intake.take(signals)
        except Exception as error:  # noqa: BLE001 - an edge: the batch processor's thread goes on
            edge.guard.failed("sdk.export", error)
            taken = False
        return LogRecordExportResult.SUCCESS if taken else LogRecordExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
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
