"""Strategies that build telemetry with the real SDK: spans, span events, recorded exceptions, links, log records."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tests.parity.exact import exact
from tests.parity.values import attributes, evaluations, resource_attributes, scope_attributes, texts, values

START = 1_700_000_000_000_000_000
DAY = 86_400 * 10**9
FLAG_EVENT = "feature_flag.evaluation"

times = st.one_of(st.sampled_from([1, START, START + DAY, 2**63]), st.integers(START, START + DAY))
trace_ids = st.one_of(st.sampled_from([1, 2**128 - 1, 0xABC]), st.integers(1, 2**128 - 1))
span_ids = st.one_of(st.sampled_from([1, 2**64 - 1]), st.integers(1, 2**64 - 1))
scope_names = st.sampled_from(["", "shop", "opentelemetry.instrumentation.flask", "io.shop/ü"])
scope_versions = st.sampled_from([None, "", "1.0"])


class BoomError(Exception):
    """An error of the app's."""


class Outer:
    """A class with an error inside, whose qualified name has dots."""

    class NestedError(ValueError):
        """Nested."""


def _plain(text: str) -> None:
    raise ValueError(text)


def _custom(text: str) -> None:
    raise BoomError(text, 2)


def _nested(text: str) -> None:
    raise Outer.NestedError(text)


def _silent(text: str) -> None:
    raise KeyError


def _caused(text: str) -> None:
    try:
        _plain(text)
    except ValueError as error:
        raise BoomError("because") from error


def _in_context(text: str) -> None:
    try:
        _custom(text)
    except BoomError:
        _plain(f"while handling\n{text}")


def _suppressed(text: str) -> None:
    try:
        _plain(text)
    except ValueError:
        raise BoomError(text) from None


def _deep(text: str, depth: int = 40) -> None:
    if depth:
        _deep(text, depth - 1)
    raise RecursionError(text)


def _group(text: str) -> None:
    errors: list[Exception] = []
    for fail in (_plain, _caused):
        try:
            fail(text)
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", errors)  # noqa: F821 - Python 3.11


def _syntax(text: str) -> None:
    compile("a b", "<template>", "exec")


failures: list[Callable[[str], None]] = [_plain, _custom, _nested, _silent, _caused, _in_context, _suppressed, _deep]
failures += [_syntax]
if sys.version_info >= (3, 11):
    failures.append(_group)


def raised(fail: Callable[[str], None], text: str) -> Exception:
    """The exception of `fail`, really raised: with a traceback and its chain."""
    try:
        fail(text)
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


class DrawnIds(IdGenerator):
    """Ids that the example chose."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._used: set[int] = set()

    def generate_span_id(self) -> int:
        """Unique within the example, so that spans can be told apart."""
        span_id = self._draw(span_ids)
        while span_id in self._used:
            span_id = span_id % (2**64 - 1) + 1
        self._used.add(span_id)
        return span_id

    def generate_trace_id(self) -> int:
        """Any."""
        return self._draw(trace_ids)


@st.composite
def _contexts(draw: st.DrawFn) -> SpanContext:
    return SpanContext(
        draw(trace_ids), draw(span_ids), is_remote=draw(st.booleans()), trace_flags=TraceFlags(draw(st.integers(0, 1)))
    )


# Made once, since making a strategy costs as much as drawing from it.
_parents = st.none() | _contexts()
_span_names = st.sampled_from(["GET /cart", "", "checkout", "order.paid"]) | texts
_span_kinds = st.sampled_from(SpanKind)
_upto_two = st.integers(0, 2)
_one_or_two = st.integers(1, 2)
_event_names = st.sampled_from(["order paid", "exception", "feature_flag.evaluation", "feature_flag", ""]) | texts
_failing = st.lists(st.sampled_from(failures), max_size=2)
_statuses = st.sampled_from(StatusCode)
_log_times = st.none() | st.just(0) | times
_log_texts = st.sampled_from([None, "", "INFO", "eRROR"])
_log_severities = st.none() | st.sampled_from(SeverityNumber)
_log_names = st.sampled_from([None, "", "order paid", "exception", "http.server.exception", FLAG_EVENT])


@functools.cache
def _of_links(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(texts, extra, max_size=2)


@functools.cache
def _of_events(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return attributes(extra, most=4) | evaluations(extra)


@functools.cache
def _of_exceptions(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any] | None]:
    return st.none() | attributes(extra, most=3)


@functools.cache
def _of_records(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any] | None]:
    return st.none() | attributes(extra) | evaluations(extra)


@functools.cache
def _bodies(extra: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | extra


@st.composite
def _span(draw: st.DrawFn, tracer: trace.Tracer, extra: st.SearchStrategy[Any]) -> ReadableSpan:
    parent = draw(_parents)
    start = draw(times)
    span = tracer.start_span(
        draw(_span_names),
        context=trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None,
        kind=draw(_span_kinds),
        attributes=draw(attributes(extra)),
        links=[Link(draw(_contexts()), draw(_of_links(extra))) for _ in range(draw(_upto_two))],
        start_time=start,
    )
    for _ in range(draw(_upto_two)):
        span.add_event(
            draw(_event_names),
            draw(_of_events(extra)),
            draw(times),
        )
    for fail in draw(_failing):
        span.record_exception(
            raised(fail, draw(texts)),
            attributes=draw(_of_exceptions(extra)),
            timestamp=draw(times),
            escaped=draw(st.booleans()),
        )
    status = draw(_statuses)
    span.set_status(Status(status, draw(texts) if status is StatusCode.ERROR else None))
    span.end(draw(times))
    assert isinstance(span, ReadableSpan)
    return span


def _told_apart(owners: list[Any]) -> bool:
    """Whether no two are equal to the encoder, which groups by `==` and sends one of them, but differ (`1`, `True`)."""
    return all(one != other or exact(_said(one)) == exact(_said(other)) for one in owners for other in owners)


def _said(owner: Any) -> Any:
    return dict(owner.attributes or {})


@st.composite
def spans(draw: st.DrawFn, extra: st.SearchStrategy[Any] = values) -> list[ReadableSpan]:
    """One request's worth of finished spans, from several resources and scopes."""
    ids = DrawnIds(draw)
    made: list[ReadableSpan] = []
    for _ in range(draw(_one_or_two)):
        provider = TracerProvider(
            sampler=sampling.ALWAYS_ON,
            resource=Resource(draw(resource_attributes())),
            id_generator=ids,
            shutdown_on_exit=False,
        )
        for _ in range(draw(_one_or_two)):
            tracer = provider.get_tracer(draw(scope_names), draw(scope_versions), attributes=draw(scope_attributes))
            made.append(draw(_span(tracer, extra)))
    assume(_told_apart([span.resource for span in made]))
    assume(_told_apart([span.instrumentation_scope for span in made]))
    return made


class _Keep(LogRecordProcessor):
    def __init__(self) -> None:
        self.records: list[ReadWriteLogRecord] = []

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self.records.append(log_record)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


# The oldest SDKs have no live exception on a record: its text among the attributes is all there is.
_of_a_record = (
    st.none() | st.sampled_from(failures) if "exception" in inspect.signature(LogRecord).parameters else st.none()
)


@st.composite
def _log_record(draw: st.DrawFn, extra: st.SearchStrategy[Any]) -> LogRecord:
    within = draw(_parents)
    return LogRecord(
        timestamp=draw(_log_times),
        observed_timestamp=draw(times),
        context=trace.set_span_in_context(NonRecordingSpan(within)) if within else None,
        severity_text=draw(_log_texts),
        severity_number=draw(_log_severities),
        body=draw(_bodies(extra)),
        attributes=draw(_of_records(extra)),
        event_name=draw(_log_names),
        **({"exception": raised(fail, draw(texts))} if (fail := draw(_of_a_record)) else {}),
    )


@st.composite
def log_records(draw: st.DrawFn, extra: st.SearchStrategy[Any] = values) -> list[ReadableLogRecord]:
    """One request's worth of log records as exporters see them, from several resources and scopes."""
    made: list[ReadableLogRecord] = []
    for _ in range(draw(_one_or_two)):
        provider = LoggerProvider(resource=Resource(draw(resource_attributes())), shutdown_on_exit=False)
        keep = _Keep()
        provider.add_log_record_processor(keep)
        for _ in range(draw(_one_or_two)):
            logger = provider.get_logger(draw(scope_names), draw(scope_versions), attributes=draw(scope_attributes))
            logger.emit(draw(_log_record(extra)))
        made += [
            ReadableLogRecord(kept.log_record, kept.resource or Resource({}), kept.instrumentation_scope, kept.limits)
            for kept in keep.records
        ]
    assume(_told_apart([record.resource for record in made]))
    assume(_told_apart([record.instrumentation_scope for record in made]))
    return made
