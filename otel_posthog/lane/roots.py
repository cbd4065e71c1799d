"""Local roots of the traces that are at work, for whoever asks from the middle of a request which request it is."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, Final

_KEPT: Final = 4_096
"""Traces remembered; the oldest are forgotten first."""


class Roots:
    """Local root spans by trace id, as long as somebody else keeps them alive.

    Nothing is taken out when a root ends: that would cost each span of the app a look. Safe in any thread (single
    operations on a dict).
    """

    __slots__ = ("_several", "_spans")

    def __init__(self) -> None:
        self._spans: dict[int, weakref.ref[Any]] = {}
        self._several: dict[int, None] = {}

    def started(self, trace_id: int, span: Any) -> None:
        """`span` is a local root of the trace; the latest one counts."""
        spans = self._spans
        if len(spans) >= _KEPT:
            _forget_one(spans)
        elif trace_id in spans and not self.is_over(trace_id, None):
            # A service that calls itself: the end of the latest says nothing about the others.
            if len(self._several) >= _KEPT:
                _forget_one(self._several)
            self._several[trace_id] = None
        spans[trace_id] = weakref.ref(span)

    def is_over(self, trace_id: int, span: Any) -> bool:
        """Whether the request of a trace has ended.

        Args:
            trace_id: Of the trace.
            span: One of its spans: where its root is not known, or not the only one, this one's end counts.
        """
        found = self._spans.get(trace_id)
        if found is None or trace_id in self._several:
            return getattr(span, "_end_time", None) is not None
        root = found()
        return root is None or getattr(root, "_end_time", None) is not None

    def of(self, trace_id: int) -> Any:
        """The local root of the trace; `None` where it is not known (unsampled and not recorded, or long gone)."""
        found = self._spans.get(trace_id)
        return None if found is None else found()


def _forget_one(known: dict[int, Any]) -> None:
    with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
        del known[next(iter(known))]
