"""Where a call goes whose span is not recorded: a span that nobody records has neither a kind nor attributes.

The sampler is asked with both, and its answer gives the span its trace state: the one object that goes from there to
the span's context, and so to the propagator, whatever client makes the call. So this is a trace state that remembers.
On the wire it is what it would have been.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import TraceState

OUTGOING: Final = (SpanKind.CLIENT, SpanKind.PRODUCER)
"""Kinds of spans whose context goes to somebody else."""
_NONE: Final[Mapping[str, Any]] = {}


class Unrecorded(TraceState):
    """The trace state of a CLIENT or PRODUCER span that is dropped.

    Args:
        state: What the sampler said; `None` for an empty one.
        kind: Of the span.
        attributes: Those that it started with.
    """

    def __init__(self, state: Mapping[str, str] | None, kind: SpanKind, attributes: Mapping[str, Any] | None) -> None:
        super().__init__(tuple(state.items()) if state else None)
        self.kind = kind
        self.attributes = attributes or _NONE


def remembering(
    state: TraceState | None, kind: SpanKind | None, attributes: Mapping[str, Any] | None
) -> TraceState | None:
    """The trace state for a span that is dropped; `state` itself where there is nothing to remember.

    Args:
        state: What the sampler said: without one of its own, the parent's.
        kind: Of the span.
        attributes: Those that it starts with.
    """
    if kind is SpanKind.CLIENT or kind is SpanKind.PRODUCER:
        return Unrecorded(state, kind, attributes)
    if type(state) is Unrecorded:
        # The parent's: what that call was about says nothing of this span.
        return TraceState(tuple(state.items()))
    return state


def outgoing(span: Any) -> tuple[Any, Mapping[str, Any] | None]:
    """Kind and attributes of a span that is not recorded; (`None`, `None`) where nothing is known.

    Args:
        span: The current span of a context.
    """
    state = span.get_span_context().trace_state
    return (state.kind, state.attributes) if type(state) is Unrecorded else (None, None)


__all__ = ["OUTGOING", "Unrecorded", "outgoing", "remembering"]
