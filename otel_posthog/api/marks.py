"""Marking the spans of the work at hand, so that traces link up with persons and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter


def mark(attributes: Mapping[str, str], emitter: Emitter) -> int:
    """Sets `attributes` on the current span and on its local root, where they are recorded.

    Args:
        attributes: Plain text.
        emitter: Knows the local roots.

    Returns:
        The id of the current trace, 0 where there is none.
    """
    from opentelemetry import trace

    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if not trace_id:
        return 0
    root = emitter.edge.roots.of(trace_id)
    for marked in (span, root) if root is not None and root is not span else (span,):
        if marked.is_recording():
            marked.set_attributes(attributes)
    return trace_id
