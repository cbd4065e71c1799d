"""The gateway's metrics: names, units and meanings, and how OpenTelemetry names become Prometheus names.

What a bridge counts is in `observe.metrics` and has the attribute `project` here. What is in this table comes from the
books and the gauges of the gateway; whatever else is found there is shown too, without a meaning. Docs, alert rules and
dashboard are compared with this table by tests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from otel_posthog.gateway.books import Labels
from otel_posthog.gateway.inbound import AnswerKind
from otel_posthog.model import LossReason
from otel_posthog.observe.metrics import Instrument, Metric

PREFIX: Final = "otel_posthog."


def _counter(name: str, unit: str, meaning: str, *attributes: str) -> Metric:
    return Metric(PREFIX + name, unit, meaning, attributes)


def _gauge(name: str, unit: str, meaning: str, *attributes: str) -> Metric:
    return Metric(PREFIX + name, unit, meaning, attributes, Instrument.GAUGE)


def _histogram(name: str, meaning: str, *attributes: str) -> Metric:
    return Metric(PREFIX + name, "s", meaning, attributes, Instrument.HISTOGRAM)


INFO: Final = _gauge("gateway.info", "1", "Always 1; its attribute names the version.", "version")
READY: Final = _gauge("gateway.ready", "1", "1 while it is ready: `/readyz` says why it is not.")
WORKER_UP: Final = _gauge("worker.up", "1", "1 for a worker that answers, 0 for one that does not.")
WORKER_RESTARTS: Final = _counter("worker.restarts", "{restart}", "How often a worker had to be started anew.")
BLOCKED: Final = _gauge(
    "project.blocked",
    "1",
    "1 while PostHog takes nothing whatever the data is: a revoked key, a host that is none.",
    "project",
)
VIEWERS: Final = _gauge("tail.viewers", "{viewer}", "Who looks at `/tail` now.")

BOOKS: Final[Mapping[str, Metric]] = {
    # What the receivers see.
    "receiver_requests": _counter(
        "receiver.requests", "{request}", "Requests with an answer; `gone`: nobody waited for it.",
        "transport", "kind", "answer",
    ),
    "receiver_refused": _counter(
        "receiver.refused", "{request}", "Requests and connections turned away before they were looked into.",
        "transport", "why",
    ),
    "receiver_bytes": _counter("receiver.read", "By", "Bytes of requests, as they came.", "transport"),
    "receiver_faults": _counter(
        "receiver.faults", "{error}", "Faults of ours; the caller was told to try again.", "transport", "where"
    ),
    "receiver_ack": _histogram(
        "receiver.ack.duration", "From the last byte of a request to its answer: what an acknowledgement costs.",
        "transport",
    ),
    # What the intake makes of it.
    "intake_requests": _counter("intake.requests", "{request}", "Requests with a verdict.", "kind", "answer"),
    "intake_items": _counter(
        "intake.items", "{item}", "Spans and log records of acknowledged requests: `wanted` by a tag or a rule, "
        "`skipped` because nothing wants them, `rejected` because they can never be read.", "kind", "outcome",
    ),
    "intake_bytes": _counter("intake.read", "By", "Bytes of requests, inflated.", "kind"),
    "inflight_bytes": _gauge("intake.inflight", "By", "Memory of requests without an answer yet."),
    # What the spool holds.
    "commit": _histogram("spool.commit.duration", "One group commit: written and synced."),
    "commit_failures": _counter(
        "spool.commit.failures", "{commit}", "Commits that failed; their callers were told to try again.", "reason"
    ),
    "spool_size": _gauge("spool.size", "By", "Journal on disk, that of dead workers included."),
    "spool_limit": _gauge("spool.limit", "By", "What the journal may take of the disk."),
    "spool_records": _gauge("spool.records", "{request}", "Acknowledged requests that are not done."),
    "spool_oldest_age": _gauge("spool.oldest.age", "s", "Since the oldest of these arrived."),
    "spool_orphans": _gauge("spool.orphans", "{folder}", "Folders of dead workers and of replays that are drained."),
    "spool_damaged": _counter("spool.damaged", "{stretch}", "Damaged stretches that were passed over, and kept."),
    "spool_unknown_version": _counter(
        "spool.unknown_version", "{request}", "Requests of a newer format, left alone for a newer gateway."
    ),
    "spool_gone": _counter("spool.gone", "{request}", "Requests whose place on the disk could not be read any more."),
    "recovered_records": _counter("spool.recovered", "{request}", "Requests of an earlier life that were taken up."),
    # What is worked at.
    "waiting_bytes": _gauge("processing.waiting", "By", "Memory of what is durable and waits to be converted."),
    "waiting_records": _gauge("processing.records", "{request}", "Requests that are worked at."),
    "processing_failures": _counter("processing.failures", "{error}", "Attempts at a request that made us fail."),
    "request_age": _histogram(
        "request.age", "From the arrival of a request to the end of each of its events: how late PostHog is."
    ),
    "blocked_records": _gauge(
        "project.waiting", "{request}", "Requests that wait until their project takes something.", "project"
    ),
    # What an operator has to look at.
    "dead_letters": _counter("dead_letters.written", "{letter}", "Dead letters that were written.", "reason"),
    "dead_letters_not_kept": _counter(
        "dead_letters.not_kept", "{letter}", "Dead letters without room: lost for good.", "reason"
    ),
    "dead_letters_kept": _gauge("dead_letters.kept", "{letter}", "Dead letters in the store.", "reason"),
    "dead_letter_bytes": _gauge("dead_letters.size", "By", "The store on disk."),
    "config_reloads": _counter("config.reloads", "{reload}", "How often the configuration was read again.", "result"),
    "config_last_reload_successful": _gauge(
        "config.last_reload.successful", "1", "0 while a changed configuration cannot be used and the old one holds."
    ),
    "config_last_reload_timestamp": _gauge(
        "config.last_reload.time", "s", "When the configuration in use was read, since the Unix epoch."
    ),
}  # fmt: skip
"""What the receivers, the intake and the service count, by its name in the books and the gauges."""

BOOK_METRICS: Final[tuple[Metric, ...]] = tuple(BOOKS.values())

OWN_METRICS: Final[tuple[Metric, ...]] = (INFO, READY, WORKER_UP, WORKER_RESTARTS, BLOCKED, VIEWERS)
"""What the operator's door tells by itself."""

GATEWAY_METRICS: Final[tuple[Metric, ...]] = (*OWN_METRICS, *BOOK_METRICS)
"""All metrics that a gateway has and a process has not."""

_LETTERS: Final = (
    *(reason.value for reason in LossReason),
    "crashed",
    "failed",
    "unreadable",
    "unreadable_items",
    "unrouted",
)

FROM_THE_START: Final[Mapping[str, tuple[Labels, ...]]] = {
    "receiver_requests": tuple(
        (("transport", transport), ("kind", kind), ("answer", answer.value))
        for transport in ("http", "grpc")
        for kind in ("traces", "logs")
        for answer in AnswerKind
    ),
    "receiver_refused": tuple((("transport", each), ("why", "unauthenticated")) for each in ("http", "grpc")),
    "receiver_faults": tuple(
        (("transport", transport), ("where", where))
        for transport, places in (
            ("http", ("accept", "admission", "answer", "http", "intake", "loop", "sweep")),
            ("grpc", ("admission", "grpc", "intake")),
        )
        for where in places
    ),
    "receiver_bytes": tuple((("transport", each),) for each in ("http", "grpc")),
    "intake_items": tuple(
        (("kind", kind), ("outcome", outcome))
        for kind in ("traces", "logs")
        for outcome in ("wanted", "skipped", "rejected")
    ),
    "commit_failures": ((("reason", "disk"),), (("reason", "full"),)),
    "spool_damaged": ((),),
    "spool_unknown_version": ((),),
    "spool_gone": ((),),
    "recovered_records": ((),),
    "processing_failures": ((),),
    "dead_letters": tuple((("reason", each),) for each in _LETTERS),
    "dead_letters_not_kept": tuple((("reason", each),) for each in _LETTERS),
    "config_reloads": ((("result", "ok"),), (("result", "failed"),)),
}
"""Counters that are there with 0 from the start, by their name in the books: an alert can only see what grows."""

_UNITS: Final = {"s": "seconds", "By": "bytes", "ms": "milliseconds"}
_NOT_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]+")


def metric_of(book: str, instrument: Instrument) -> Metric:
    """The metric of what the books or the gauges call `book`; a nameless one of its own where it is not known."""
    known = BOOKS.get(book)
    if known is not None and known.instrument is instrument:
        return known
    unit = "s" if instrument is Instrument.HISTOGRAM else "1"
    return Metric(PREFIX + book, unit, "Not described.", (), instrument)


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
