"""Events, spans and log records for tests of rules, and of code that reads events."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

from otel_posthog.model import CaptureEvent, Link, Resource, Scope, Signal, SignalKind
from otel_posthog.testing.clock import START
from otel_posthog.testing.events import GROUPS, Event

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID: Final = "b7ad6b7169203331"
KINDS: Final = ("internal", "server", "client", "producer", "consumer")
STATUSES: Final = ("unset", "ok", "error")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_numbers = itertools.count(1)  # two events that look alike are two all the same


def make_event(
    event: str = "something happened",
    distinct_id: str = "ada",
    properties: Mapping[str, Any] | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - PostHog's word
    set_once: Mapping[str, Any] | None = None,
    timestamp: datetime = START,
    uuid: str = "",
) -> Event:
    """An event as `captured_events` has them.

    Args:
        event: Its name.
        distinct_id: Whose it is.
        properties: Name -> JSON value; `$set`, `$unset` and the like as PostHog has them, too.
        groups: Group type -> key.
        set: Person properties to set.
        set_once: Person properties to set where the person does not have them yet.
        timestamp: When it happened.
        uuid: Another one each time by default; the same one for the same event that arrives again.

    Raises:
        ValueError: `timestamp` has no zone.
    """
    said = dict(properties or {})
    for name, values in (("$set", set), ("$set_once", set_once), (GROUPS, groups)):
        if values:
            said[name] = {**said.get(name, {}), **values}
    return Event(CaptureEvent(event, distinct_id, uuid or str(UUID(int=next(_numbers))), _ns(timestamp), said))


def make_span(
    name: str = "GET /orders",
    attributes: Mapping[str, Any] | None = None,
    *,
    kind: str = "internal",
    status: str = "unset",
    duration: float = 0.0,
    end: datetime = START,
    scope: str = "tests",
    resource: Mapping[str, Any] | None = None,
    trace_id: str = TRACE_ID,
    span_id: str = SPAN_ID,
    parent_span_id: str = "",
    links: Iterable[Link] = (),
) -> Signal:
    """An ended span, as rules see it.

    Args:
        name: Its name.
        attributes: Key -> value.
        kind: `internal`, `server`, `client`, `producer` or `consumer`.
        status: `unset`, `ok` or `error`.
        duration: Seconds.
        end: When it ended.
        scope: Name of the instrumentation scope.
        resource: Attributes of the resource.
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_span_id: 16 hex digits, or "" for a root.
        links: To other spans.

    Raises:
        ValueError: `kind` or `status` is none of these, or `end` has no zone.
    """
    ended = _ns(end)
    return Signal(
        kind=SignalKind.SPAN,
        name=name,
        attributes=dict(attributes or {}),
        resource=Resource(dict(resource or {})),
        scope=Scope(scope),
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_span_id,
        span_kind=_one_of("kind", kind, KINDS),
        start_time_ns=ended - round(duration * 1_000_000_000),
        time_ns=ended,
        status_code=_one_of("status", status, STATUSES),
        links=tuple(links),
    )


def make_span_event(
    name: str = "exception", attributes: Mapping[str, Any] | None = None, *, span: Signal | None = None
) -> Signal:
    """An event of a span, at the span's end; an exception where it has `exception.type` and the like.

    Args:
        name: Its name.
        attributes: Key -> value.
        span: Whose; one by `make_span` by default.
    """
    owner = span or make_span()
    return Signal(
        kind=SignalKind.SPAN_EVENT,
        name=name,
        attributes=dict(attributes or {}),
        resource=owner.resource,
        scope=owner.scope,
        trace_id=owner.trace_id,
        span_id=owner.span_id,
        time_ns=owner.time_ns,
        span=owner,
    )


def make_log(
    body: Any = "",
    attributes: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    severity: int = 9,
    timestamp: datetime = START,
    scope: str = "tests",
    resource: Mapping[str, Any] | None = None,
    span: Signal | None = None,
) -> Signal:
    """A log record, as rules see it.

    Args:
        body: Its text, or any other attribute value.
        attributes: Key -> value.
        name: Its event name, "" where it has none.
        severity: OpenTelemetry's number: 5 debug, 9 info, 13 warning, 17 error, 21 fatal.
        timestamp: When.
        scope: Name of the logger.
        resource: Attributes of the resource.
        span: In which it was logged; none by default.

    Raises:
        ValueError: `severity` is not between 0 and 24, or `timestamp` has no zone.
    """
    if not 0 <= severity <= 24:
        raise ValueError(f"a severity is a number from 0 to 24, not {severity!r}")
    at = _ns(timestamp)
    return Signal(
        kind=SignalKind.LOG,
        name=name,
        attributes=dict(attributes or {}),
        resource=Resource(dict(resource or {})),
        scope=Scope(scope),
        trace_id=span.trace_id if span else "",
        span_id=span.span_id if span else "",
        time_ns=at,
        observed_time_ns=at,
        severity_number=severity,
        body=body,
    )


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{what} is one of {', '.join(known)}, not {value!r}")
    return value


def _ns(moment: datetime) -> int:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no zone: say which moment it is, e.g. by tzinfo=timezone.utc")
    return ((moment - _EPOCH) // _MICROSECOND) * 1_000


__all__ = ["make_event", "make_log", "make_span", "make_span_event"]
