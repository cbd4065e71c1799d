"""`PostHogSpanProcessor` and `PostHogLogRecordProcessor`: what hangs on the app's providers.

Their callbacks run in the user's request: they never raise, never block, do no I/O, and look at as little as will do.
What concerns us is handed to the worker's thread as it is; Signals are built there (log records excepted, which others
may change after us). Only two things have to happen at once: the identity stamp, since an ended span is frozen, and the
look at the live exception, since it is gone a moment later.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind

from otel_posthog.assembly import Runtime
from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.properties import KEY as SUPERS
from otel_posthog.context.traces import traces
from otel_posthog.context.work import KEY as WORK
from otel_posthog.context.work import root_started
from otel_posthog.lane.completing import Held, Outlived, ambient_of, complete_event, complete_item, settled
from otel_posthog.lane.edge import runtime_from_arguments
from otel_posthog.lane.exceptions import LiveException
from otel_posthog.lane.identity import LINKING, InheritedId, inherited, stated
from otel_posthog.lane.internals import (
    MARKS,
    Context,
    attributes_of,
    baggage_in,
    baggage_key,
    current_context_reader,
    events_of,
    is_long_over,
    keep_beside,
    kept_beside,
    put_attributes,
    span_in,
    span_key,
    suppression_key,
)
from otel_posthog.lane.shapes import ACTS, LINKS, MESSAGE, STATES
from otel_posthog.lane.waiting import Item, plain_local
from otel_posthog.lane.worker import RootEnded, Worker, WorkerStats
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.sdk.callbacks import Closed, Life, is_event_for_us, is_exception_name, live_event, says_yes
from otel_posthog.sdk.candidates import Candidates
from otel_posthog.sdk.quick import quick_end, quick_start
from otel_posthog.semconv import otel, posthog

if TYPE_CHECKING:
    from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor

_CARES: Final = ACTS | STATES
_MAX_OPEN: Final = 10_000
"""Spans or roots remembered while they run; beyond it the oldest is forgotten (spans that never end)."""

_ENTRANCES: Final = frozenset({1, 4})
"""SERVER and CONSUMER: an exception that leaves such a root leaves the app."""

_CONSUMER: Final = SpanKind.CONSUMER

_NO_RESOURCE: Final = Resource()
_NO_SCOPE: Final = Scope()

_TOO_EARLY: Final = (
    "otel-posthog: identify() was called before a request or message began, outside of any, so it does not count in "
    "it: call it while the request is handled, or put `with otel_posthog.scope():` around both"
)

_KEPT: Final = "_otel_posthog_properties"
"""Where the super properties wait that held at a span's start."""
_APART: Final = "_otel_posthog_apart"
"""Kept beside a span that started in the context of a request that is long over."""
_NONE: Final[Mapping[str, Any]] = {}
_WORKS: Final = traces.works

Ended = tuple[Any, "tuple[LiveException, tuple[int, ...]] | None", bool, "Held | None"]
"""A span, the live exception that it saw, whether it was handed over at its start, and what held at its end."""


class PostHogSpanProcessor(SpanProcessor):
    """Turns tagged spans, spans that a rule matches, and exceptions into PostHog events; stamps identity on spans.

    One line of plain code beside an existing provider:

        provider.add_span_processor(PostHogSpanProcessor(api_key="phc_…", host="https://eu.i.posthog.com"))

    Without arguments it is configured by the environment, and does nothing where the gate is shut. Exceptions and log
    records meet in one queue with the spans when the log processor is made by `for_logs()`.

    Args:
        api_key: Project API key; the bearer token where `host` is a Collector.
        host: PostHog host, or the OTLP endpoint of a Collector. PostHog US where only a key is given.
        runtime: What to feed, instead of `api_key` and `host`.
        closed: Called with this processor when its provider shuts it down, in place of closing the bridge; for a host
            that looks after the bridge itself.
        **options: Further settings by the variable's name without `OTEL_POSTHOG_`, in lower case.

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
        **options: Any,
    ) -> None:
        runtime = runtime or runtime_from_arguments(api_key, host, options)
        self._life = Life(runtime, closed, self)
        self._runtime = runtime
        self._current = current_context_reader()
        self._span_key = span_key()
        self._baggage_key = baggage_key()
        self._suppressed = suppression_key()
        # Spans that were handed over at their start, and local roots of traces from outside, while they run.
        self._begun: dict[int, None] = {}
        self._roots: dict[int, int] = {}
        edge = self._life.edge
        if edge is None:
            # Off: instance attributes in place of the methods, so that a span pays nothing for us.
            self.on_start = _nothing_at_start
            self.on_end = _nothing_at_end
            return
        self._edge = edge
        self._worker: Worker = edge.worker
        self._use_rules()
        edge.follow_rules(weakref.WeakMethod(self._use_rules))

    def for_logs(self) -> PostHogLogRecordProcessor:
        """A log processor that feeds the same bridge, with one queue for both."""
        from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor

        return PostHogLogRecordProcessor(runtime=self._runtime, off=self._runtime is None)

    def _use_rules(self) -> None:
        prefilter = self._edge.rules.prefilter
        self._ends = Candidates(prefilter.by_span_kind)
        self._starts = Candidates(prefilter.starts_by_span_kind)
        self._event_rules = prefilter.span_events
        # On the instance, in place of the methods of the class: see `quick.py`.
        self.on_start = quick_start(
            self._starting,
            current=self._current,
            span_key=self._span_key,
            baggage_key=self._baggage_key,
            any_rules=bool(self._starts),
        )
        self.on_end = quick_end(
            self._ending,
            self._tagged_ending,
            quiet=self._edge.shapes.quiet,
            candidates=self._ends,
            open_traces=self._worker.open_traces,
            roots=self._roots,
            begun=self._begun,
        )

    # --- start -------------------------------------------------------------------------------------------------------

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Stamps the identity that is known; hands over what fires at the start."""
        self._starting(span, parent_context)

    def _starting(self, span: Any, parent_context: Any) -> None:
        try:
            context: Context = self._current() if parent_context is None else parent_context
            above: Mapping[str, Any] | None
            try:
                attributes = span._attributes._dict
                local = context.get(self._span_key) if self._span_key else span_in(context, "")
                above = None if local is None else local._attributes._dict
            except AttributeError:
                local = span_in(context, self._span_key)
                attributes, above = attributes_of(span), attributes_of(local)
            baggage: Mapping[str, Any] | None = None
            if getattr(local, "_end_time", None) is not None and self._is_stale(local, span, context):
                keep_beside(span, _APART, True)
                context, above = _NONE, None
            elif WORK in context and context[WORK].left is not None:
                context, above = self._apart(context, local, above, span)
            if context or not LINKING.isdisjoint(attributes):
                key = self._baggage_key
                if not key or key in context:
                    # The API's own kind of baggage is a dict: asked for that way, it costs a third.
                    said = context[key] if key else None
                    baggage = cast("dict[str, Any]", said) if type(said) is dict else baggage_in(context, key)
                    # Super properties see to it that there is a baggage.
                    if SUPERS in context:
                        keep_beside(span, _KEPT, context[SUPERS])
                stamps = self._edge.stamper.missing(attributes, above, baggage)
                if stamps:
                    put_attributes(span, stamps)
            parent = span.parent
            if parent is None or parent.is_remote:
                trace_id = span.get_span_context().trace_id
                self._edge.roots.started(trace_id, span)
                arriving = self._edge.arriving.ambient(baggage) if baggage else NOTHING
                entered_in = self._current() if getattr(span.kind, "value", 0) in _ENTRANCES else None
                if root_started(trace_id, context, arriving, entered_in=entered_in):
                    self._edge.guard.misused("scope", _TOO_EARLY)
                if parent is not None:
                    self._root_started(span)
            if self._starts or posthog.ON in attributes:
                self._started(span)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self._edge.guard.failed("sdk.on_start", error)

    def _is_stale(self, parent: Any, span: Any, context: Context) -> bool:
        """Whether what the parent says does not count: its request is over, and long so, or the span is another's."""
        trace_id = parent.get_span_context().trace_id
        root = self._edge.roots.of(trace_id)
        if is_long_over(parent, root, span.start_time or 0):
            return True
        person = stated(attributes_of(span))
        if not person or not self._edge.roots.is_over(trace_id, parent):
            return False
        work = context.get(WORK)
        if work is not None and (work.knows(person) or (work.managed and not work.has_ended)):
            return False  # background tasks of ASGI servers: the span ends with the answer, and the visit after them
        return person != self._edge.stamper.missing(_NONE, attributes_of(parent), None).get(posthog.POSTHOG_DISTINCT_ID)

    def _apart(
        self, context: Context, parent: Any, above: Mapping[str, Any] | None, span: Any
    ) -> tuple[Context, Mapping[str, Any] | None]:
        """What counts where a worker goes on in the context of a request that is over, for somebody else."""
        if context[WORK].left != span.get_span_context().trace_id:
            return context, above
        marked = parent is not None and posthog.DISTINCT_ID in (kept_beside(parent, MARKS) or ())
        return {key: context[key] for key in (WORK, SUPERS) if key in context}, above if marked else None

    def _root_started(self, span: Any) -> None:
        context = span.get_span_context()
        roots = self._roots
        if len(roots) >= _MAX_OPEN:
            roots.pop(next(iter(roots)), None)
        if roots.setdefault(context.trace_id, context.span_id) != context.span_id:
            self._worker.share(format(context.trace_id, "032x"))
            traces.several(context.trace_id)

    def _started(self, span: Any) -> None:
        attributes = attributes_of(span)
        edge = self._edge
        signal: Signal | None = None
        if attributes.get(posthog.ON) == "start" and edge.shapes.of(attributes) & ACTS:
            signal = edge.reader.span(span)
        elif self._starts.admit(span):
            candidate = edge.reader.span(span)
            found = edge.rules.match(candidate)
            signal = candidate if found is not None and found.on == "start" else None
        if signal is None or (self._suppressed and self._current().get(self._suppressed)):
            return
        if edge.claimed(span, "start"):
            return
        context = span.get_span_context()
        ambient = ambient_of(context.trace_id, self._current(), span.start_time)
        supers = kept_beside(span, _KEPT)
        payload = (signal, dict(attributes), bool(context.trace_flags & 1), ambient, supers or _NONE)
        if self._worker.hand_over(_expand_start, payload):
            edge.claim(span, "start")
            self._worker.open_traces.add(context.trace_id)
            if len(self._begun) >= _MAX_OPEN:
                self._begun.pop(next(iter(self._begun)), None)
            self._begun[context.span_id] = None

    # --- end ---------------------------------------------------------------------------------------------------------

    def on_end(self, span: Any) -> None:
        """Hands the span over where it is tagged, has an exception, may match a rule, or completes a trace for us."""
        self._ending(span)

    def _ending(self, span: Any) -> None:
        # What can be told later is told on the worker's thread (`_expand_end`): this decides whether at all.
        try:
            context = span.get_span_context()
            trace_id = context.trace_id
            if self._roots and self._roots.get(trace_id) == context.span_id:
                del self._roots[trace_id]
            begun = False
            if self._begun and context.span_id in self._begun:
                del self._begun[context.span_id]
                begun = True
            if self._edge.claimed(span):
                return
            attributes = attributes_of(span)
            if span.kind is _CONSUMER and _has_local_parent(span) and self._edge.shapes.of(attributes) & MESSAGE:
                # One of the messages of a batch: what it states holds for nobody else in the trace.
                self._worker.share(format(trace_id, "032x"))
            seen: tuple[LiveException, tuple[int, ...]] | None = None
            events = events_of(span)
            concerns = bool(events) and self._interesting(events)
            if concerns and self._edge.exceptions and not says_yes(attributes.get(posthog.IGNORE)):
                seen = live_event(events)
            if not (
                concerns
                or posthog.EVENT in attributes
                or trace_id in self._worker.open_traces
                or self._edge.shapes.of(attributes) & _CARES
                or self._ends.admit(span)
            ):
                return
            here = self._current()
            if self._suppressed and here.get(self._suppressed):
                return
            held = ambient_of(trace_id, here, span.start_time)
            if trace_id in _WORKS and not _has_local_parent(span):
                _root_ended(trace_id, attributes)
            if self._worker.hand_over(self._expand_end, (span, seen, begun, held)):
                self._edge.claim(span)
                self._worker.open_traces.add(trace_id)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self._edge.guard.failed("sdk.on_end", error)

    def _tagged_ending(self, span: Any) -> None:
        """As `_ending`, for a span that names an event and has nothing else that concerns us (see `quick.py`)."""
        kept, claim = span.__dict__, self._edge.claim_key
        here = self._current()
        if claim in kept or (self._suppressed and here.get(self._suppressed)):
            return
        trace_id = span._context.trace_id
        ambient: Held | None = None
        if trace_id in _WORKS or WORK in here:
            ambient = ambient_of(trace_id, here, span._start_time)
            if not _has_local_parent(span):
                _root_ended(trace_id, span._attributes._dict)
        if self._worker.hand_over(self._expand_end, (span, None, False, ambient)):
            kept[claim] = True
            self._worker.open_traces.add(trace_id)

    def _interesting(self, events: Sequence[Any]) -> bool:
        if self._event_rules:
            return True
        of = self._edge.shapes.of
        return any(is_event_for_us(event.name) or of(attributes_of(event)) & ACTS for event in events)

    # --- on the worker's thread --------------------------------------------------------------------------------------

    def _expand_end(self, payload: Ended) -> Iterable[Item | RootEnded]:
        span, _, begun, ambient = payload
        try:
            attributes = span._attributes._dict
            if posthog.EVENT in attributes and not begun and not span._events._dq:
                # The commonest case, without asking what it is once more: tagged, and nothing else.
                sampled, parent = bool(span._context.trace_flags & 1), span._parent
                signal = self._edge.reader.span(span, local=plain_local(sampled))
                item = Item(signal, type(attributes.get(posthog.POSTHOG_DISTINCT_ID)) is InheritedId, True, sampled)
                if parent is None or parent.is_remote:
                    item.ends = parent is None
                supers = kept_beside(span, _KEPT)
                item.apart = kept_beside(span, _APART) is True
                if ambient is not None or supers:
                    complete_item(item, attributes, ambient, supers or _NONE)
                return (item,)
        except AttributeError:
            pass  # no span of the SDK's own class, see `internals.py`
        return self._expand_carefully(payload)

    def _expand_carefully(self, payload: Ended) -> Iterator[Item | RootEnded]:
        span, seen, begun, ambient = payload
        edge = self._edge
        attributes, parent = attributes_of(span), span.parent
        context = span.get_span_context()
        root = parent is None or parent.is_remote
        shape = edge.shapes.of(attributes)
        convert = not begun and bool(shape & ACTS or self._ends.admit(span))
        events = events_of(span)
        with_events = bool(events) and self._interesting(events) and not says_yes(attributes.get(posthog.IGNORE))
        if convert or with_events:
            stamped, sampled = inherited(attributes), bool(context.trace_flags & 1)
            owner = edge.reader.span(span, local=plain_local(sampled))
            ambient, supers = settled(ambient, attributes, kept_beside(span, _KEPT) or _NONE)
            # Also where it is not converted: it may state who its events, and the rest of the trace, belong to.
            whole = Item(owner, stamped, convert, sampled, apart=kept_beside(span, _APART) is True)
            complete_item(whole, attributes, ambient, supers)
            yield whole
            if with_events:
                for signal in edge.reader.span_events(span, owner):
                    live = seen[0] if seen is not None and signal.index in seen[1] else None
                    item = self._event_item(signal, live, span if root else None)
                    if item is not None:
                        item.inherited, item.sampled = stamped, sampled
                        item.person, item.apart = whole.person, whole.apart
                        complete_event(signal, ambient, supers)
                        yield item
        elif shape & (STATES | LINKS) or isinstance(ambient, (Ambient, Outlived)):
            ambient, _ = settled(ambient, attributes, _NONE)
            person = ambient.distinct_id if isinstance(ambient, Ambient) else ""
            yield _witness(attributes, context.trace_id, edge.stating, person)
        if root:
            yield RootEnded(f"{context.trace_id:032x}", only_root=parent is None)

    def _event_item(self, signal: Signal, live: LiveException | None, root: Any) -> Item | None:
        if not is_exception_name(signal.name):
            concerns = self._event_rules or is_event_for_us(signal.name)
            return Item(signal) if concerns or self._edge.shapes.of(signal.attributes) & ACTS else None
        if live is None:
            # Recorded by hand: the app caught it, unless it says that it let it go.
            escaped = str(signal.attributes.get(otel.EXCEPTION_ESCAPED, "False")).lower() == "true"
            return Item(signal, unhandled=None if escaped else False, mechanism="generic")
        if root is None:
            return Item(signal, live=live, mechanism="generic")
        entrance = getattr(root.kind, "value", 0) in _ENTRANCES
        return Item(signal, live=live, unhandled=True, mechanism="middleware" if entrance else "generic")

    # --- the end of the provider -------------------------------------------------------------------------------------

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Delivers what ended so far.

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


def _expand_start(
    payload: tuple[Signal, Mapping[str, Any], bool, Held | None, Mapping[str, Any]],
) -> Iterator[Item | RootEnded]:
    signal, attributes, sampled, ambient, supers = payload
    yield complete_item(Item(signal, inherited=inherited(attributes), sampled=sampled), attributes, ambient, supers)


def _root_ended(trace_id: int, attributes: Mapping[str, Any]) -> None:
    """A request is over: what it was about is known, and whom its span named."""
    work = _WORKS.get(trace_id)
    if work is not None:
        work.person = work.person or stated(attributes)
        if not work.managed and work.trace_id == trace_id:
            work.finish()


def _has_local_parent(span: Any) -> bool:
    return span.parent is not None and not span.parent.is_remote


def _witness(attributes: Mapping[str, Any], trace_id: int, keys: frozenset[str], person: str) -> Item:
    """Nothing of its own, but it knows who the others of its trace belong to."""
    stated = {key: attributes[key] for key in keys if key in attributes}
    signal = Signal(
        kind=SignalKind.SPAN,
        name="",
        attributes=stated,
        resource=_NO_RESOURCE,
        scope=_NO_SCOPE,
        trace_id=format(trace_id, "032x"),
    )
    return Item(signal, inherited=inherited(stated), convert=False, person=person)


def _nothing_at_start(span: Any, parent_context: Any = None) -> None:
    """The gate is shut."""


def _nothing_at_end(span: Any) -> None:
    """The gate is shut."""


def __getattr__(name: str) -> Any:
    # The logs SDK is loaded by whoever asks for the log processor.
    if name == "PostHogLogRecordProcessor":
        from otel_posthog.sdk import log_processor

        return log_processor.PostHogLogRecordProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["PostHogLogRecordProcessor", "PostHogSpanProcessor"]
