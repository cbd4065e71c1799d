"""Marking the spans of the work at hand, so that traces link up with persons, groups and flags."""

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
    from otel_posthog.lane.internals import MARKS, keep_beside, kept_beside

    trace_id, spans = spans_of(work, emitter)
    for span in spans:
        keep_beside(span, MARKS, (kept_beside(span, MARKS) or frozenset()) | attributes.keys())
        span.set_attributes(attributes)
    return trace_id


def spans_of(work: Work, emitter: Emitter) -> tuple[int, list[Any]]:
    """(trace that is about this work, 0 for none; those of the current span and its local root that are recorded)."""
    from opentelemetry import trace

    from otel_posthog.context import apart

    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if not trace_id:
        return 0, []
    root = emitter.edge.roots.of(trace_id)
    if work.left == trace_id:
        # The span that a worker began for this piece of work is about it, whatever request the trace was about.
        trace_id, root = 0, None
    elif apart(work, trace_id):
        return 0, []
    found = (span, root) if root is not None and root is not span else (span,)
    return trace_id, [one for one in found if one.is_recording()]
