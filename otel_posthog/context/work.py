"""`Work`: one request, job, message or script run, shared by everything that it does."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from opentelemetry import context, trace

from otel_posthog.context.ambient import NOTHING, Ambient

KEY: Final = context.create_key("otel-posthog-work")
_PATIENCE: Final = 1.0
"""Seconds until a change is made without the lock."""


class Work:
    """What one unit of work has learnt. Safe in any thread: changes are made under a lock, reads see one `Ambient`.

    Args:
        ambient: What is known at the start.
        trace_id: The trace that it began in; 0 for none, or where somebody looks after its end (`managed`).
        managed: It ends with the block that began it, see `working`. One that `identify` made in the middle of nowhere
            has no end of its own: in another trace it counts as over, so that the next job on the same thread is not
            counted for the person of the one before.
    """

    __slots__ = ("_lock", "ambient", "managed", "trace_id")

    def __init__(self, ambient: Ambient = NOTHING, *, trace_id: int = 0, managed: bool = False) -> None:
        self.ambient = ambient
        self.trace_id = trace_id
        self.managed = managed
        self._lock = threading.Lock()

    def change(self, **values: Any) -> Ambient:
        """Replaces fields of the ambient.

        Args:
            **values: By field of `Ambient`; `groups` and `flags` are merged into those that are there.

        Returns:
            What holds now.
        """
        with self._changing():
            for name in ("groups", "flags"):
                if name in values:
                    values[name] = {**getattr(self.ambient, name), **values[name]}
            self.ambient = replace(self.ambient, **values)
            return self.ambient

    def reset(self, ambient: Ambient = NOTHING) -> None:
        """Forgets everything, as at a logout.

        Args:
            ambient: What is known from now on.
        """
        with self._changing():
            self.ambient = ambient

    @contextmanager
    def _changing(self) -> Generator[None]:
        # In the child of a fork a thread that is not there may hold it: so it is not waited for without an end.
        mine = self._lock.acquire(timeout=_PATIENCE)
        try:
            yield
        finally:
            if mine:
                self._lock.release()


def work_in(ctx: Any, trace_id: int) -> Work | None:
    """The unit of work that `ctx` is part of.

    Args:
        ctx: An OpenTelemetry context.
        trace_id: Of the current span in it; 0 for none.

    Returns:
        `None` where there is none, or only one that is over.
    """
    found = ctx.get(KEY)
    if found is None or found.managed or not found.trace_id or not trace_id or found.trace_id == trace_id:
        return found
    return None


def current_work() -> Work:
    """The unit of work at hand; where there is none, one begins here, and holds for what follows in this context."""
    here = context.get_current()
    trace_id = trace.get_current_span(here).get_span_context().trace_id
    found = work_in(here, trace_id)
    if found is None:
        found = Work(trace_id=trace_id)
        context.attach(context.set_value(KEY, found, here))
    return found


@contextmanager
def working(ambient: Ambient = NOTHING) -> Generator[Work]:
    """A unit of work that ends with the block: what is learnt inside holds inside.

    Args:
        ambient: What is known at its start.
    """
    work = Work(ambient, managed=True)
    token = context.attach(context.set_value(KEY, work))
    try:
        yield work
    finally:
        context.detach(token)
