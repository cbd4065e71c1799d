"""Marking the spans of the work at hand, so that traces link up with persons and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_posthog.context import Work
    from otel_posthog.lane.emitter import Emitter


def mark(attributes: Mapping[str, str], work: Work, emitter: Emitter) -> int:
    """Sets `attributes` on the current span and on its local root, where they are recorded.

    Args:
        attributes: Plain text.
        work: What they hold for; a scope in the middle of a request marks nothing of the request's.
        emitter: Knows the local roots.

    Returns:
        The id of the trace that is about this work; 0 where there is none.
    """
    from opentelemetry import trace

    from otel_posthog.context import apart

    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if not trace_id:
        return 0
    root = emitter.edge.roots.of(trace_id)
    if work.left == trace_id:
        # The span that a worker began for this piece of work is about it, whatever request the trace was about.
        _set(span, attributes)
        return 0
    if apart(work, trace_id):
        return 0
    for marked in (span, root) if root is not None and root is not span else (span,):
        _set(marked, attributes)
    return trace_id


def _set(span: Any, attributes: Mapping[str, str]) -> None:
    from otel_posthog.lane.emitter import MARKS
    from otel_posthog.lane.internals import keep_beside, kept_beside

    if span.is_recording():
        keep_beside(span, MARKS, (kept_beside(span, MARKS) or frozenset()) | attributes.keys())
        span.set_attributes(attributes)
