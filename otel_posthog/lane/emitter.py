"""Log records of our own: what `capture()` and its like make, from the call to the queue in front of the bridge.

They never pass the app's LoggerProvider (docs/decisions/0040): what a call means is captured on its thread, as cheaply
as there is, and a Signal is built from it on ours. In collector mode it leaves as a plain OTLP log record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, cast

from opentelemetry import trace

from otel_posthog.assembly import resource_of_environment
from otel_posthog.context.properties import KEY as SUPERS
from otel_posthog.context.properties import properties_in, properties_since_the_end
from otel_posthog.context.work import apart, work_in
from otel_posthog.convert.person import person_id
from otel_posthog.lane.completing import add_properties, complete
from otel_posthog.lane.edge import OWN_SCOPE, Edge
from otel_posthog.lane.exceptions import LiveException
from otel_posthog.lane.identity import LINKING, InheritedId
from otel_posthog.lane.internals import (
    MARKS,
    attributes_of,
    baggage_in,
    baggage_key,
    current_context_reader,
    is_long_over,
    kept_beside,
    span_key,
)
from otel_posthog.lane.now import now_ns
from otel_posthog.lane.outliving import Outliving
from otel_posthog.lane.waiting import Item
from otel_posthog.lane.worker import RootEnded
from otel_posthog.model import Attributes, AttributeValue, Resource, Scope, Signal, SignalKind
from otel_posthog.semconv import posthog
from otel_posthog.version import __version__

BAD_ID: Final = (
    "otel-posthog: %s is no distinct id that PostHog takes, so it counts as absent. An id is text or a number that "
    "is this person's alone; leave it out for visitors who are not known"
)
_SCOPE: Final = Scope(OWN_SCOPE, __version__)
_NO_RESOURCE: Final = Resource()
_NOTHING: Final[Mapping[str, Any]] = {}


class Emitter:
    """Hands records over to the worker of an edge. Safe in any thread; never blocks, does no I/O.

    Args:
        edge: Whose worker.
        now_ns: Nanoseconds since the Unix epoch; injected by tests.
    """

    def __init__(self, edge: Edge, *, now_ns: Callable[[], int] = now_ns) -> None:
        self.edge = edge
        self._now_ns = now_ns
        self._current = current_context_reader()
        self._span_key = span_key()
        self._baggage_key = baggage_key()
        self._resource: tuple[object, Resource] | None = None
        self._outliving = Outliving(edge.roots)

    def emit(
        self,
        name: str,
        attributes: dict[str, AttributeValue],
        *,
        properties: Mapping[str, AttributeValue] | None = None,
        time_ns: int = 0,
        live: LiveException | None = None,
        context: Mapping[str, Any] | None = None,
        severity: tuple[int, str] = (9, "INFO"),
    ) -> bool:
        """Hands over one record; person, groups, super properties and request are those of the caller.

        Args:
            name: Event name of the record, "" for one that only updates.
            attributes: `posthog.*` and other attributes in normal form; ours from now on. What they say wins over what
                the context says.
            properties: Properties of the event, by name without prefix; in normal form, and ours from now on, too.
            time_ns: When it happened; now where 0.
            live: The exception that the record brings.
            context: The OpenTelemetry context that it belongs to; the current one where `None`.
            severity: OTel severity number and text.

        Returns:
            Whether it was taken; counted as overflow where not.
        """
        here = self._current() if context is None else context
        span = here.get(self._span_key) if self._span_key else trace.get_current_span(here)  # type: ignore[arg-type]
        root: Any = None
        trace_id = 0
        if span is not None:
            trace_id = span.get_span_context().trace_id
            root = self.edge.roots.of(trace_id)
        work = work_in(here, trace_id)
        if self.edge.worker.crowded:
            properties = _short(properties, self.edge.longest)
            attributes = _short(attributes, self.edge.longest)
        if posthog.DISTINCT_ID in attributes and self._outliving.is_anothers(
            attributes[posthog.DISTINCT_ID], work, span, trace_id
        ):
            here, work, span, root, trace_id = {SUPERS: properties_since_the_end(here)}, None, None, None, 0
        elif work is not None and work.left is not None and work.left == trace_id:
            here, span, root, trace_id = {SUPERS: properties_in(here)}, None, None, 0
        moment = time_ns or self._now_ns()
        payload = (
            name,
            attributes,
            properties,
            moment,
            here,
            span,
            root,
            work.ambient if work is not None else None,
            work is not None and work.inner and apart(work, trace_id),
            live,
            severity,
        )
        taken = self.edge.worker.hand_over(self._expand, payload)
        if taken and trace_id:
            self.edge.worker.open_traces.add(trace_id)
        return taken

    def outlives(self, person: str = "") -> bool:
        """Whether the caller goes on in the context of a request that is over.

        Args:
            person: Whom it goes on for: somebody who has nothing to do with that request; "" for whomever.
        """
        here = self._current()
        span = trace.get_current_span(here)  # type: ignore[arg-type]
        trace_id = span.get_span_context().trace_id
        work = work_in(here, trace_id)
        if person:
            return self._outliving.is_anothers(person, work, span, trace_id)
        return self._outliving.is_over(work, span, trace_id)

    # --- on the worker's thread --------------------------------------------------------------------------------------

    def _expand(self, payload: Any) -> Iterator[Item | RootEnded]:
        name, attributes, properties, moment, here, span, root, ambient, inner, live, severity = payload
        baggage = baggage_in(here, self._baggage_key)
        if span is not None and is_long_over(span, root, self._now_ns()):
            # A worker that has the context of the request that happened to start it.
            span, root, baggage = None, None, _NOTHING
        context = span.get_span_context() if span is not None else None
        traced = context if context is not None and context.is_valid else None
        if properties:
            for key, value in properties.items():
                attributes[posthog.PROPERTIES + key] = value
        said = attributes.get(posthog.DISTINCT_ID)
        if said is not None and not person_id(said):
            # As if it had not been said, in every place: "anonymous" is nobody, whoever else is there.
            del attributes[posthog.DISTINCT_ID]
            self.edge.guard.misused("distinct_id", BAD_ID, repr(said))
        add_properties(attributes, properties_in(here))
        if ambient is None and baggage:
            # No local root has brought it into a unit of work: nothing records spans here.
            ambient = self.edge.arriving.ambient(baggage)
        if ambient is not None:
            if ambient.distinct_id:
                attributes.setdefault(posthog.DISTINCT_ID, ambient.distinct_id)
            complete(attributes, ambient)
        states = person_id(attributes.get(posthog.DISTINCT_ID))
        owner = self.edge.reader.span(root) if root is not None else None
        inherited = False
        left = ambient if ambient is not None and ambient.nobody and not states else None
        if left is not None or inner:
            # Whoever was there before has left, or is somebody else: what spans say of them does not hold here.
            owner = None if owner is None else _of_nobody(owner)
            if left is not None:
                attributes[posthog.DISTINCT_ID] = left.anonymous_id
                attributes[posthog.PROCESS_PERSON_PROFILE] = False
        else:
            above = attributes_of(span) if span is not None else None
            if above and (marks := kept_beside(span, MARKS)):
                above = _without(above, marks)
            if owner is not None and (marks := kept_beside(root, MARKS)):
                owner = owner.with_attributes(_without(owner.attributes, marks), None)
            stamps = self.edge.stamper.missing(attributes, above, baggage)
            attributes.update(stamps)
            inherited = not states and type(attributes.get(posthog.POSTHOG_DISTINCT_ID)) is InheritedId
        signal = Signal(
            kind=SignalKind.LOG,
            name=name,
            attributes=attributes,
            resource=self._resource_now(),
            scope=_SCOPE,
            trace_id=format(traced.trace_id, "032x") if traced else "",
            span_id=format(traced.span_id, "016x") if traced else "",
            time_ns=moment,
            observed_time_ns=moment,
            severity_number=severity[0],
            severity_text=severity[1],
            span=owner,
        )
        sampled = bool(traced.trace_flags & 1) if traced else None
        if live is not None:
            # With the other carriers of the same exception: only together they tell how far it went.
            yield Item(signal, inherited, True, sampled, live, False, "generic", asked=True, apart=inner)
        elif inner or posthog.DISTINCT_ID in attributes:
            # Whoever updates a person by name in passing (an admin, a job) says nothing about whose the request is.
            speaks = not inner and (name or (ambient is not None and ambient.distinct_id == states))
            yield Item(signal, sampled=sampled, at_once=True, states=states if speaks else "")
        else:
            yield Item(signal, inherited=inherited, sampled=sampled)

    def witness(self, distinct_id: str, trace_id: int) -> None:
        """What waits in this trace belongs to this person; nothing of its own is emitted.

        Args:
            distinct_id: A legal one.
            trace_id: 0 where there is no trace, and so nothing that waits.
        """
        if trace_id and self.edge.worker.hand_over(_expand_witness, (distinct_id, trace_id)):
            self.edge.worker.open_traces.add(trace_id)

    def _resource_now(self) -> Resource:
        """Who this process is: what its provider says, else what the environment says."""
        # Not `get_tracer_provider()`: that would make one where `OTEL_PYTHON_TRACER_PROVIDER` names one.
        provider = getattr(trace, "_TRACER_PROVIDER", None)
        made = self._resource
        if made is None or made[0] is not provider:
            said = getattr(provider, "resource", None)
            if said is None:
                from os import environ

                said = _Described(resource_of_environment(environ))
            made = self._resource = (provider, self.edge.reader.resource(said))
        return made[1]


def _short(value: Any, longest: int) -> Any:
    """`value` without what the converter would cut off: one character more than there is room for, so that it does."""
    if type(value) is str or type(value) is bytes:
        return value if len(value) <= longest else value[: longest + 1]
    if type(value) is dict:
        items = cast("dict[str, Any]", value)
        for item in items.values():
            if type(item) is dict or type(item) is list:
                break
            if (type(item) is str or type(item) is bytes) and len(item) > longest:
                break
        else:
            return items  # nearly always
        return {key: _short(item, longest) for key, item in items.items()}
    if type(value) is list:
        return [_short(item, longest) for item in cast("list[Any]", value)]
    return value


class _Described:
    """A resource that only has attributes."""

    def __init__(self, attributes: Mapping[str, object]) -> None:
        self.attributes = attributes


def _expand_witness(payload: tuple[str, int]) -> tuple[Item]:
    distinct_id, trace_id = payload
    signal = Signal(
        kind=SignalKind.LOG,
        name="",
        attributes={},
        resource=_NO_RESOURCE,
        scope=_SCOPE,
        trace_id=format(trace_id, "032x"),
    )
    return (Item(signal, convert=False, at_once=True, states=distinct_id),)


def _without(attributes: Attributes, keys: frozenset[str]) -> dict[str, AttributeValue]:
    return {key: value for key, value in attributes.items() if key not in keys}


def _of_nobody(owner: Signal) -> Signal:
    """The span as a request, without what it says of persons and groups."""
    kept = {k: v for k, v in owner.attributes.items() if k not in LINKING and not k.startswith(posthog.PREFIX)}
    return owner.with_attributes(kept, None)


__all__ = ["Emitter"]
