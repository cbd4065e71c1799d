"""`Visit`: one request or task, from its edge to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from opentelemetry import context, trace

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.traces import traces
from otel_posthog.context.work import KEY, Work, above, local_trace

NOBODY: Final = object()
"""What stands for "no user has been seen"."""


class Visit(Work):
    """A unit of work that a framework begins and ends, maybe in two different functions.

    Args:
        ambient: What is known at its start.
        browser_id: The anonymous id that the browser named, "" for none: whoever logs in had it.
    """

    __slots__ = ("before", "browser_id", "token", "user")

    def __init__(self, ambient: Ambient = NOTHING, *, browser_id: str = "") -> None:
        super().__init__(ambient, managed=True)
        self.browser_id = browser_id
        self.user: Any = NOBODY
        """The user object that was looked at last."""
        self.before: Any = None
        """What the framework wants to remember from its start."""
        self.token: Any = None

    def begin(self) -> None:
        """Holds from now on, in this context."""
        here = context.get_current()
        trace_id = self.trace_id = local_trace(here)
        if trace_id:
            before = traces.of(trace_id)
            if before is not None and not before.managed:
                # Another service sent something along, or a middleware outside of us has identified somebody.
                self.ambient = above(self.ambient, before.ambient)
                traces.replaced(trace_id, before, self)
            else:
                traces.began(trace_id, self)
        self.token = context.attach(context.set_value(KEY, self, here))

    def end(self) -> None:
        """Holds no more."""
        token, self.token, self.user = self.token, None, NOBODY
        self.finish()
        # Where somebody else's end was first, the context is what it was before both: detaching would undo that.
        if token is not None and context.get_current().get(KEY) is self:
            context.detach(token)


class Streamed:
    """What a streamed answer makes after its request has ended, made within its visit.

    Args:
        chunks: The answer's own.
        visit: The request.
    """

    def __init__(self, chunks: Iterable[Any], visit: Visit) -> None:
        self._chunks = chunks
        self._iterator = iter(chunks)
        self._visit = visit

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token = context.attach(context.set_value(KEY, self._visit))
        try:
            return next(self._iterator)
        finally:
            context.detach(token)

    def close(self) -> None:
        """Also where nobody has asked for the first of them."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def visit_at_hand() -> Visit | None:
    """The visit that the current context is part of; `None` outside of any."""
    here = context.get_current()
    found = here.get(KEY)
    if found is None:
        found = traces.of(trace.get_current_span(here).get_span_context().trace_id)
    return found if isinstance(found, Visit) else None
