"""Which unit of work a trace belongs to, for whoever has a span and no context, or a context that has lost it.

A context that was attached inside a span's block ends with the block, and a span ends outside of its own context. So
what `identify` learnt in a child span would be forgotten with that span, although it holds for the whole request. A
local trace is one request, though, so the trace remembers it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_posthog.context.work import Work

_KEPT: Final = 2_048
"""Traces remembered; the oldest are forgotten first."""


class Traces:
    """Units of work by trace id. Safe in any thread: single operations on a dict.

    A trace that several units of work are part of (a batch of messages, a page that asks for two things at once) is
    known to have several, and then nothing is concluded from the trace: only contexts tell which.
    """

    __slots__ = ("works",)

    def __init__(self) -> None:
        self.works: dict[int, Work | None] = {}
        """The same object for good: callbacks look whether a trace is in it before they ask."""

    def of(self, trace_id: int) -> Work | None:
        """The one unit of work of the trace; `None` where it is not known, or there are several."""
        return self.works.get(trace_id)

    def began(self, trace_id: int, work: Work) -> None:
        """`work` is at work in the trace."""
        works = self.works
        if works.setdefault(trace_id, work) is not work:
            works[trace_id] = None
        if len(works) > _KEPT:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
                del works[next(iter(works))]

    def replaced(self, trace_id: int, before: Work, work: Work) -> None:
        """`work` goes on with what `before` began."""
        if self.works.get(trace_id) is before:
            self.works[trace_id] = work

    def several(self, trace_id: int) -> None:
        """Several local roots of the trace are at work at once."""
        self.works[trace_id] = None

    def forget(self, trace_id: int) -> None:
        """The trace visits anew: what it brought before was another request."""
        # Of several at once nobody knows which of them have ended: that stays.
        if self.works.get(trace_id) is not None:
            self.works.pop(trace_id, None)


# One for a process, as the context of OpenTelemetry is: spans, log records and calls meet here.
traces = Traces()
