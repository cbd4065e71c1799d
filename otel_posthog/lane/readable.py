"""SDK objects -> Signals, in the normal form of `model/signal.py`.

Equal to what `gateway/decode` makes of the same item after the official OTLP encoder (`tests/parity`). What OTLP cannot
carry at all is kept here in the nearest normal form instead of being lost: integers beyond 64 bits and text with lone
surrogates stay, other objects become their `str()`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from otel_posthog.lane.internals import attributes_of, events_of
from otel_posthog.model import Attributes, AttributeValue, Link, LocalContext, Resource, Scope, Signal, SignalKind

_PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes})
_MAX_DEPTH: Final = 64
"""Deeper values are cut: protobuf stops at 100 messages, and a list may contain itself."""
_CACHE_SIZE: Final = 512
_TRACE_DIGITS: Final = 32
# `%` is twice as fast as `format`, which reads its specification each time; and there are three ids to a span.
_TRACE_ID: Final = "%032x"
_SPAN_ID: Final = "%016x"

_NO_SCOPE: Final = Scope()
_SPAN: Final = SignalKind.SPAN


class _ByIdentity:
    """What was made from an SDK object, found again while that object lives.

    Resources and scopes are shared by thousands of spans. They hash by content (a resource serialises itself to JSON
    for it), so the identity is the key, and the entry holds the object so that its id cannot be given to another.
    """

    __slots__ = ("_entries", "_lock")

    def __init__(self) -> None:
        self._entries: dict[int, tuple[object, Any, Any]] = {}
        self._lock = threading.Lock()

    def get(self, source: object, extra: object) -> Any:
        entry = self._entries.get(id(source))
        return entry[1] if entry is not None and entry[2] is extra else None

    def put(self, source: object, extra: object, made: Any) -> None:
        with self._lock:
            if len(self._entries) >= _CACHE_SIZE:
                # Cleared whole: an app has a handful of each; one that makes them per request gains nothing from LRU.
                self._entries.clear()
            self._entries[id(source)] = (source, made, extra)


class Reader:
    """Reads SDK objects; remembers the Resource and Scope Signals that it made.

    Args:
        resource_defaults: Resource attributes that apply where the resource itself does not say (`deployment.py`).
        unread: Attributes that count as absent: headers that are not believed.
    """

    def __init__(self, resource_defaults: Attributes | None = None, *, unread: frozenset[str] = frozenset()) -> None:
        self._defaults: Attributes = resource_defaults or {}
        self._unread = tuple(unread)
        # The next span's are mostly the same. Pairs, so that other threads see both or neither.
        self._newest_resource: tuple[object, Resource] = (self, Resource({}))
        self._newest_scope: tuple[object, Scope] = (self, _NO_SCOPE)
        self._resources = _ByIdentity()
        self._scopes = _ByIdentity()

    def span(self, span: Any, *, local: LocalContext | None = None) -> Signal:
        """The Signal of a span; one that has not ended yet has no `time_ns`.

        Args:
            span: A `ReadableSpan`, SDK 1.39 or newer.
            local: What only the process knows.
        """
        try:
            # What is behind the properties of the SDK's class, which are a call each. In the order of `Signal`: twenty
            # keywords cost as much as the object.
            context, parent, status, name = span._context, span._parent, span._status, span._name
            attributes = normal_attributes(span._attributes._dict)
            if self._unread:
                self._forget(attributes)
            trace_id, span_id, description = context.trace_id, context.span_id, status._description
            resource, made = self._newest_resource
            scope, read = self._newest_scope
            return Signal(
                _SPAN,
                name if type(name) is str else _text(name),
                attributes,
                made if resource is span._resource else self.resource(span._resource),
                read if scope is span._instrumentation_scope else self.scope(span._instrumentation_scope),
                _TRACE_ID % trace_id if trace_id else "",
                _SPAN_ID % span_id if span_id else "",
                "" if parent is None else _hex(parent.span_id, 16),
                span._kind._name_.lower(),
                span._start_time or 0,
                span._end_time or 0,
                0,
                status._status_code._name_.lower(),
                _text(description) if description else "",
                0,
                "",
                None,
                0,
                None,
                tuple(_link(link) for link in span._links) if span._links._dq else (),
                local,
            )
        except AttributeError:  # no span of the SDK's own class
            return self._foreign_span(span, local)

    def _foreign_span(self, span: Any, local: LocalContext | None) -> Signal:
        """As `span`, by what is public."""
        context = span.get_span_context() if hasattr(span, "get_span_context") else getattr(span, "context", None)
        parent = span.parent
        status = getattr(span, "status", None)
        return Signal(
            kind=SignalKind.SPAN,
            name=_text(span.name),
            attributes=self._attributes(span),
            resource=self.resource(span.resource),
            scope=self.scope(getattr(span, "instrumentation_scope", None)),
            trace_id=_hex(context.trace_id, 32) if context is not None else "",
            span_id=_hex(context.span_id, 16) if context is not None else "",
            parent_span_id=_hex(parent.span_id, 16) if parent is not None else "",
            span_kind=_word(span.kind),
            start_time_ns=span.start_time or 0,
            time_ns=span.end_time or 0,
            status_code=_word(getattr(status, "status_code", None)) or "unset",
            status_description=_text(getattr(status, "description", None) or ""),
            links=tuple(_link(link) for link in links) if (links := _links_of(span)) else (),
            local=local,
        )

    def span_events(self, span: Any, owner: Signal, *, local: LocalContext | None = None) -> list[Signal]:
        """The Signals of the span events of `span`, whose own Signal is `owner`."""
        return [
            Signal(
                kind=SignalKind.SPAN_EVENT,
                name=_text(event.name),
                attributes=self._attributes(event),
                resource=owner.resource,
                scope=owner.scope,
                trace_id=owner.trace_id,
                span_id=owner.span_id,
                time_ns=event.timestamp or 0,
                index=index,
                span=owner,
                local=local,
            )
            for index, event in enumerate(events_of(span))
        ]

    def log_record(self, record: Any, *, local: LocalContext | None = None) -> Signal:
        """The Signal of a `ReadableLogRecord` or `ReadWriteLogRecord`, SDK 1.39 or newer."""
        log = record.log_record
        observed = log.observed_timestamp or 0
        severity = getattr(log.severity_number, "value", log.severity_number)
        return Signal(
            kind=SignalKind.LOG,
            name=_text(getattr(log, "event_name", None) or ""),
            attributes=self._attributes(log),
            resource=self.resource(record.resource),
            scope=self.scope(record.instrumentation_scope),
            trace_id=_hex(log.trace_id or 0, 32),
            span_id=_hex(log.span_id or 0, 16),
            time_ns=log.timestamp or observed,
            observed_time_ns=observed,
            severity_number=severity if isinstance(severity, int) else 0,
            severity_text=_text(log.severity_text or ""),
            body=normal_value(log.body),
            local=local,
        )

    def _attributes(self, item: Any) -> dict[str, AttributeValue]:
        copy = normal_attributes(attributes_of(item))
        self._forget(copy)
        return copy

    def _forget(self, attributes: dict[str, AttributeValue]) -> None:
        for key in self._unread:
            attributes.pop(key, None)

    def resource(self, resource: Any) -> Resource:
        """The Signal form of an SDK resource, with the defaults below it; made once for each."""
        made = self._resources.get(resource, self._defaults)
        if made is None:
            own = normal_attributes(resource.attributes if resource is not None else {})
            made = Resource({**self._defaults, **own} if self._defaults else own)
            self._resources.put(resource, self._defaults, made)
        self._newest_resource = (resource, made)
        return cast("Resource", made)

    def scope(self, scope: Any) -> Scope:
        """The Signal form of an instrumentation scope; made once for each."""
        if scope is None:
            return _NO_SCOPE
        made = self._scopes.get(scope, None)
        if made is None:
            made = Scope(
                _text(scope.name or ""),
                _text(scope.version or ""),
                normal_attributes(getattr(scope, "attributes", None) or {}),
            )
            self._scopes.put(scope, None, made)
        self._newest_scope = (scope, made)
        return cast("Scope", made)


def from_span(
    span: Any, *, local: LocalContext | None = None, resource_defaults: Attributes | None = None
) -> list[Signal]:
    """The Signal of a `ReadableSpan`, followed by one for each of its span events.

    Args:
        span: A finished span of SDK 1.39 or newer.
        local: What only the process knows; the same for all.
        resource_defaults: Resource attributes that apply where the resource does not say.
    """
    reader = Reader(resource_defaults)
    owner = reader.span(span, local=local)
    return [owner, *reader.span_events(span, owner, local=local)]


def from_log_record(
    record: Any, *, local: LocalContext | None = None, resource_defaults: Attributes | None = None
) -> Signal:
    """The Signal of a `ReadableLogRecord` or `ReadWriteLogRecord`.

    Args:
        record: A log record of SDK 1.39 or newer.
        local: What only the process knows.
        resource_defaults: Resource attributes that apply where the resource does not say.
    """
    return Reader(resource_defaults).log_record(record, local=local)


# --- values --------------------------------------------------------------------------------------------------------


def normal_attributes(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """A copy in normal form."""
    # One C-level copy, then only what is not plain already is looked at: nearly every value is.
    copy = dict(attributes)
    if not _PLAIN.issuperset(map(type, copy.values())):
        for key, value in copy.items():
            if type(value) not in _PLAIN:
                copy[key] = normal_value(value)
    return copy


def normal_value(value: Any, depth: int = 0) -> AttributeValue:
    """`value` in normal form: exact plain types, lists for sequences, dicts with text keys for mappings.

    Anything else becomes its `str()`, and `None` where even that fails.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, bytes):
        return bytes(value)
    if depth >= _MAX_DEPTH:
        return None
    try:
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {_text(key): normal_value(item, depth + 1) for key, item in pairs}
        if isinstance(value, Sequence):
            return [normal_value(item, depth + 1) for item in cast("Sequence[Any]", value)]
    except Exception:  # noqa: BLE001 - a foreign container may fail in any way; its text may still work
        pass
    return _text(value) or None


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    try:
        return str.__str__(str(value))
    except Exception:  # noqa: BLE001 - `__str__` of the app's object
        return ""


def _hex(number: int, width: int) -> str:
    return (_TRACE_ID if width == _TRACE_DIGITS else _SPAN_ID) % number if number else ""


def _word(member: Any) -> str:
    # The words are the names of the enum members, so that a new member needs no table here.
    return str(getattr(member, "name", "")).lower()


def _links_of(span: Any) -> Sequence[Any]:
    links = getattr(span, "_links", None)
    if links is None:
        links = getattr(span, "links", None)
    return tuple(links) if links else ()


def _link(link: Any) -> Link:
    return Link(
        _hex(link.context.trace_id, 32),
        _hex(link.context.span_id, 16),
        normal_attributes(link.attributes or {}),
    )
