"""Marking the spans of the work at hand, so that traces link up with persons and groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter


def mark(attributes: Mapping[str, str], emitter: Emitter) -> tuple[int, tuple[Any, ...]]:
    """Sets `attributes` on the current span and on its local root, where they are recorded.

    Args:
        attributes: Plain text.
        emitter: Knows the local roots.

    Returns:
        The id of the current trace, 0 where there is none; and the spans.
    """
    from opentelemetry import trace

    span = trace.get_current_span()
    trace_id = span.get_span_context().trace_id
    if not trace_id:
        return 0, ()
    root = emitter.edge.roots.of(trace_id)
    found = (span, root) if root is not None and root is not span else (span,)
    marked = tuple(one for one in found if one.is_recording())
    for one in marked:
        one.set_attributes(attributes)
    return trace_id, marked


def mark_person(distinct_id: str, emitter: Emitter) -> int:
    """Marks the spans with the person.

    Args:
        distinct_id: A legal one.
        emitter: Knows the local roots.

    Returns:
        The id of the current trace, 0 where there is none.
    """
    from otel_posthog.lane.emitter import IDENTIFIED
    from otel_posthog.lane.internals import keep_beside

    trace_id, marked = mark({posthog.DISTINCT_ID: distinct_id, posthog.POSTHOG_DISTINCT_ID: distinct_id}, emitter)
    for one in marked:
        keep_beside(one, IDENTIFIED, value=True)
    return trace_id
