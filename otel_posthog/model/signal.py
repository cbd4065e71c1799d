"""`Signal`: the one input type of the bridge.

A normalised, read-only view over a span, a span event or a log record. Both edges build it — `lane/readable.py` from
SDK objects, `gateway/decode` from OTLP bytes — and must build *equal* Signals for the same telemetry: that is what
makes the in-process path and the gateway path give the same events (`tests/parity`).

Normal form:

- attribute values are `None`, `bool`, `int`, `float`, `str`, `bytes`, `list` of these, or `dict` with `str` keys;
- ids are lower-case hex without prefix, `""` where absent or all zeros;
- times are nanoseconds since the Unix epoch, 0 where absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any

from otel_posthog.model.frozen import frozen

AttributeValue = Any
"""None, bool, int, float, str, bytes, list or dict of these (OTLP AnyValue)."""

Attributes = Mapping[str, AttributeValue]


class SignalKind(str, Enum):
    """What a Signal was before it was normalised."""

    SPAN = "span"
    SPAN_EVENT = "span_event"
    LOG = "log"


@frozen
class Resource:
    """Who emitted the telemetry (OTel resource). `posthog.*` keys on it are defaults for all its signals."""

    attributes: Attributes = field(default_factory=dict[str, AttributeValue])


@frozen
class Scope:
    """The instrumentation scope."""

    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])


@frozen
class Link:
    """A span link."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict[str, AttributeValue])


@frozen
class LocalFrame:
    """One Python frame as read from a live traceback, outermost call first.

    Source lines are read at the SDK edge, never in `convert/`. `filename` is the path from the module's package on,
    which issues are grouped by; `abs_path` is where the file lies on this machine.
    """

    filename: str
    abs_path: str
    function: str
    lineno: int
    module: str = ""
    context_line: str | None = None
    pre_context: tuple[str, ...] = ()
    post_context: tuple[str, ...] = ()


@frozen
class LocalException:
    """One exception of a live chain, the caught one first, causes after it.

    Args:
        type: Qualified class name without module (`Outer.Inner`).
        module: Module of the class, `builtins` for builtins.
        value: Its message, as PostHog's own SDK reads it; a placeholder where that raises.
        frames: Outermost call first, crash frame last.
        source: How it hangs on its parent: `cause`, `context` or `member`; "" for the root.
        parent: Index of its parent in the chain; -1 for the root.
        is_group: Whether it is an exception group.
        errno: The error number of an `OSError`; `None` for others.
    """

    type: str
    module: str
    value: str
    frames: tuple[LocalFrame, ...] = ()
    source: str = ""
    parent: int = -1
    is_group: bool = False
    errno: int | None = None


@frozen
class LocalContext:
    """What only the process itself can know about a signal; `None` on a Signal decoded from OTLP.

    Args:
        exception: The live exception chain behind an exception signal; empty where there was none.
        already_captured: The live exception was captured before (by us or by the `posthog` SDK).
        exception_id: Token of the live exception object, the same for every carrier of it; "" where unknown.
        sampled: Whether the span's trace was sampled; `None` where there is no trace.
        distinct_id: Late identity: who the rest of this local trace turned out to belong to; "" where unknown.
        handled: Whether the exception was handled by the app; `None` where unknown.
        mechanism: PostHog mechanism type, e.g. `middleware`, `logger`; "" where unknown.
        control_flow: The exception is no error but the way that the app answers or ends: a 404, an exit.
    """

    exception: tuple[LocalException, ...] = ()
    already_captured: bool = False
    exception_id: str = ""
    sampled: bool | None = None
    distinct_id: str = ""
    handled: bool | None = None
    mechanism: str = ""
    control_flow: bool = False

    def with_distinct_id(self, distinct_id: str) -> LocalContext:
        """The same with another late identity; a third of the cost of `dataclasses.replace`."""
        return LocalContext(
            self.exception,
            self.already_captured,
            self.exception_id,
            self.sampled,
            distinct_id,
            self.handled,
            self.mechanism,
            self.control_flow,
        )


@frozen
class Signal:
    """One normalised input item.

    Args:
        kind: Span, span event or log record.
        name: Span name, span event name, or the log record's event name ("" where it has none).
        attributes: The item's own attributes, in normal form.
        resource: Who emitted it.
        scope: Instrumentation scope.
        trace_id: 32 hex digits or "".
        span_id: 16 hex digits or "": the span itself, the span that owns the event, the log record's span.
        parent_span_id: 16 hex digits or "" (spans only).
        span_kind: `internal`, `server`, `client`, `producer`, `consumer`; "" for other than spans.
        start_time_ns: Span start; 0 for others.
        time_ns: Span end, span event time, or log time else observed time. Never "now".
        observed_time_ns: Log observed time; 0 for others.
        status_code: `unset`, `ok` or `error` (spans only).
        status_description: Text of an error status.
        severity_number: OTel severity, 0 where absent (log records only).
        severity_text: As the emitter wrote it.
        body: Log body, any attribute value.
        index: Position of a span event within its span; in process, number of a log record among those of the same
            times; 0 for others.
        span: The owning span's Signal, for a span event; it lends identity, resource and request context.
        links: Span links.
        local: What only the process knows; `None` on a Signal from OTLP.
    """

    kind: SignalKind
    name: str
    attributes: Attributes
    resource: Resource
    scope: Scope
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    span_kind: str = ""
    start_time_ns: int = 0
    time_ns: int = 0
    observed_time_ns: int = 0
    status_code: str = ""
    status_description: str = ""
    severity_number: int = 0
    severity_text: str = ""
    body: AttributeValue = None
    index: int = 0
    span: Signal | None = None
    links: tuple[Link, ...] = ()
    local: LocalContext | None = None

    def with_local(self, local: LocalContext | None) -> Signal:
        """The same signal with another local context; a third of the cost of `dataclasses.replace`."""
        return Signal(
            self.kind,
            self.name,
            self.attributes,
            self.resource,
            self.scope,
            self.trace_id,
            self.span_id,
            self.parent_span_id,
            self.span_kind,
            self.start_time_ns,
            self.time_ns,
            self.observed_time_ns,
            self.status_code,
            self.status_description,
            self.severity_number,
            self.severity_text,
            self.body,
            self.index,
            self.span,
            self.links,
            local,
        )

    def with_attributes(self, attributes: Attributes, span: Signal | None) -> Signal:
        """The same signal with other attributes and another owner."""
        return Signal(
            self.kind,
            self.name,
            attributes,
            self.resource,
            self.scope,
            self.trace_id,
            self.span_id,
            self.parent_span_id,
            self.span_kind,
            self.start_time_ns,
            self.time_ns,
            self.observed_time_ns,
            self.status_code,
            self.status_description,
            self.severity_number,
            self.severity_text,
            self.body,
            self.index,
            span,
            self.links,
            self.local,
        )
