"""`PostHogLogRecordProcessor`: reads what passes through the app's LoggerProvider.

In a module of its own, so that an app with traces alone does not load the logs SDK.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from typing import Any, Final

from opentelemetry.sdk._logs import LogRecordProcessor

from otel_posthog.assembly import Runtime
from otel_posthog.context.properties import properties_in
from otel_posthog.context.work import work_in
from otel_posthog.lane.completing import Held, complete_item, held_by
from otel_posthog.lane.edge import OWN_SCOPE, runtime_from_arguments
from otel_posthog.lane.exceptions import LiveException, matches, see
from otel_posthog.lane.identity import inherited
from otel_posthog.lane.internals import (
    Context,
    attributes_of,
    baggage_in,
    baggage_key,
    current_context_reader,
    put_attributes,
    span_in,
    span_key,
    suppression_key,
)
from otel_posthog.lane.shapes import ACTS, EXCEPTION
from otel_posthog.lane.waiting import Item
from otel_posthog.lane.worker import RootEnded, Worker, WorkerStats
from otel_posthog.model import Signal
from otel_posthog.sdk.callbacks import Closed, Life, is_event_for_us, is_exception_name, says_yes, word
from otel_posthog.semconv import otel, posthog

_LAST_RESORTS: Final = frozenset(
    {
        "aiohttp.server",
        "asyncio",
        "celery.app.trace",
        "concurrent.futures",
        "daphne.server",
        "django.request",
        "gunicorn.error",
        "hypercorn.error",
        "opentelemetry.instrumentation.exceptions",
        "sanic.error",
        "tornado.application",
        "uvicorn.error",
        "waitress",
        "werkzeug",
    }
)
"""Loggers by which frameworks and servers report an exception that nobody in the app handled."""
_FLASK_LAST_RESORT: Final = "Exception on "
"""How Flask begins such a report; its logger is named after the app."""

_ERROR: Final = 17
"""Severity number from which on a record reports an error."""

_EMPTY: Final[Mapping[str, Any]] = {}


class PostHogLogRecordProcessor(LogRecordProcessor):
    """Turns tagged log records, records that a rule matches, and logged exceptions into PostHog events.

    It only reads (and stamps identity on) what passes: nothing of ours is emitted through the app's LoggerProvider.

        provider.add_log_record_processor(span_processor.for_logs())

    Args:
        api_key: As for `PostHogSpanProcessor`; prefer its `for_logs()` where there is one.
        host: As for `PostHogSpanProcessor`.
        runtime: What to feed, instead of `api_key` and `host`.
        closed: As for `PostHogSpanProcessor`.
        off: Does nothing at all.
        **options: As for `PostHogSpanProcessor`.

    Raises:
        ConfigError: A setting is wrong.
    """

    def __init__(
        self,
        api_key: str | None = None,
        host: str | None = None,
        *,
        runtime: Runtime | None = None,
        closed: Closed | None = None,
        off: bool = False,
        **options: Any,
    ) -> None:
        if not off:
            runtime = runtime or runtime_from_arguments(api_key, host, options)
        self._life = Life(runtime, closed, self)
        self._current = current_context_reader()
        self._span_key = span_key()
        self._baggage_key = baggage_key()
        self._suppressed = suppression_key()
        self._unmarked: dict[int, tuple[Any, bool]] = {}
        edge = self._life.edge
        if edge is None:
            self.on_emit = _nothing
            return
        self._edge = edge
        self._worker: Worker = edge.worker
        self._use_rules()
        edge.follow_rules(weakref.WeakMethod(self._use_rules))

    def _use_rules(self) -> None:
        self._rules = self._edge.rules.prefilter.logs

    def on_emit(self, log_record: Any) -> None:
        """Stamps identity; hands the record over where it is tagged, has an exception, or may match a rule."""
        try:
            scope = log_record.instrumentation_scope
            if scope is not None and (scope.name == OWN_SCOPE or scope.name.startswith(OWN_SCOPE + ".")):
                return
            log = log_record.log_record
            context: Context = log.context if log.context is not None else self._current()
            if self._suppressed and context.get(self._suppressed):
                return
            attributes = attributes_of(log)
            if context:
                self._stamp(log, attributes, context)
            if self._edge.carrier:
                self._mark(log, log_record.resource)
            shape = self._edge.shapes.of(attributes)
            name = getattr(log, "event_name", None)
            if shape & (ACTS | EXCEPTION) or self._rules or (name and is_event_for_us(name)):
                self._take(log_record, log, attributes, shape, name or "", context)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self._edge.guard.failed("sdk.on_emit", error)

    def _stamp(self, log: Any, attributes: Mapping[str, Any], context: Context) -> None:
        local = span_in(context, self._span_key)
        above = attributes_of(local) if local is not None else _EMPTY
        baggage = baggage_in(context, self._baggage_key)
        if not above and not baggage:
            return
        stamps = self._edge.stamper.missing(attributes, above, baggage)
        if stamps:
            put_attributes(log, stamps)

    def _mark(self, log: Any, resource: Any) -> None:
        """Says that this process carries its product data itself, where the resource does not say so already."""
        known = self._unmarked.get(id(resource))
        if known is None or known[0] is not resource:
            said = posthog.CARRIER in (resource.attributes if resource is not None else _EMPTY)
            if len(self._unmarked) > 64:
                self._unmarked.clear()
            known = self._unmarked[id(resource)] = (resource, not said)
        if known[1]:
            log.attributes[posthog.CARRIER] = self._edge.carrier

    def _take(
        self, record: Any, log: Any, attributes: Mapping[str, Any], shape: int, name: str, context: Context
    ) -> None:
        if self._edge.claimed(log):
            return
        signal = self._edge.moments.numbered(self._edge.reader.log_record(record))
        live: LiveException | None = None
        unhandled: bool | None = None
        mechanism = ""
        if shape & EXCEPTION or is_exception_name(name):
            mechanism = "logger"
            unhandled = _is_last_resort(signal)
            if self._edge.exceptions and not says_yes(attributes.get(posthog.IGNORE)):
                live = _live_log(log, attributes)
        sampled = bool(log.trace_flags & 1) if signal.trace_id and log.trace_flags is not None else None
        item = Item(
            signal,
            inherited=inherited(attributes),
            sampled=sampled,
            live=live,
            unhandled=unhandled,
            mechanism=mechanism,
        )
        trace_id = log.trace_id or 0
        payload = (item, attributes, held_by(work_in(context, trace_id), trace_id), properties_in(context))
        if self._worker.hand_over(_expand_item, payload):
            self._edge.claim(log)
            if signal.trace_id:
                self._worker.open_traces.add(log.trace_id)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Delivers what was emitted so far.

        Args:
            timeout_millis: Milliseconds to wait at the most.

        Returns:
            Whether all of it has its outcome.
        """
        return self._life.flush(timeout_millis)

    def release(self, timeout: float = 1.0) -> bool:
        """Gives everything that waits here to the bridge, without waiting for its delivery.

        Args:
            timeout: Seconds to wait at the most.
        """
        return self._life.release(timeout)

    def stats(self) -> WorkerStats:
        """What passed through the queue that this processor feeds (shared with the other processors of its bridge)."""
        return self._life.stats()

    def shutdown(self) -> None:
        """Delivers what is there, within `exit_timeout`; twice is fine."""
        self._life.shutdown()


def _live_log(log: Any, attributes: Mapping[str, Any]) -> LiveException | None:
    error = getattr(log, "exception", None)
    if not isinstance(error, BaseException):
        error = sys.exc_info()[1]
        if error is None or not matches(
            error, word(attributes, otel.EXCEPTION_TYPE), word(attributes, otel.EXCEPTION_MESSAGE)
        ):
            return None
    # Whoever logs it as an error calls it one, also where it is an answer or an exit.
    severity = getattr(log.severity_number, "value", log.severity_number)
    return see(error, deliberate=isinstance(severity, int) and severity >= _ERROR)


def _is_last_resort(signal: Signal) -> bool:
    if signal.scope.name in _LAST_RESORTS:
        return True
    return isinstance(signal.body, str) and signal.body.startswith(_FLASK_LAST_RESORT) and signal.severity_number >= 17


def _expand_item(
    payload: tuple[Item, Mapping[str, Any], Held | None, Mapping[str, Any]],
) -> Iterator[Item | RootEnded]:
    yield complete_item(*payload)


def _nothing(log_record: Any) -> None:
    """The gate is shut."""
