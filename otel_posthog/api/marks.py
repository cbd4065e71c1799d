"""Marking the spans of the work at hand, so that traces link up with persons and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
    from otel_posthog.lane.emitter import MARKS
    from otel_posthog.lane.internals import keep_beside, kept_beside

    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if not trace_id or apart(work, trace_id):
        return 0
    root = emitter.edge.roots.of(trace_id)
    for marked in (span, root) if root is not None and root is not span else (span,):
        if marked.is_recording():
            keep_beside(marked, MARKS, (kept_beside(marked, MARKS) or frozenset()) | attributes.keys())
            marked.set_attributes(attributes)
    return trace_id
