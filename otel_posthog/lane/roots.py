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

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: dict[int, weakref.ref[Any]] = {}

    def started(self, trace_id: int, span: Any) -> None:
        """`span` is a local root of the trace; the latest one counts."""
        spans = self._spans
        if len(spans) >= _KEPT:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
                del spans[next(iter(spans))]
        spans[trace_id] = weakref.ref(span)

    def of(self, trace_id: int) -> Any:
        """The local root of the trace; `None` where it is not known (unsampled and not recorded, or long gone)."""
        found = self._spans.get(trace_id)
        return None if found is None else found()
