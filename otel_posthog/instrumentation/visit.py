"""`Visit`: one request or task, from its edge to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from opentelemetry import context, trace

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.traces import traces
from otel_posthog.context.work import KEY, Work, above, local_trace
from otel_posthog.instrumentation.user import Login

NOBODY: Final = object()
"""What stands for "no user has been seen"."""
MARK: Final = "otel_posthog.visit"
"""Key of an ASGI scope, or of the WSGI environment made of one, whose visit has begun."""


class Account(NamedTuple):
    """An account that was made in a request.

    Args:
        user: The user object.
        login: How.
        framework: Who saw it, and alone knows whose request this is: the app may be mounted in another one.
    """

    user: Any
    login: Login
    framework: str


class Visit(Work):
    """A unit of work that a framework begins and ends, maybe in two different functions.

    Args:
        ambient: What is known at its start.
        browser_id: The anonymous id that the browser named, "" for none: whoever logs in had it.
    """

    __slots__ = ("accounts", "browser_id", "proven", "token", "user")

    def __init__(self, ambient: Ambient = NOTHING, *, browser_id: str = "") -> None:
        super().__init__(ambient, managed=True)
        self.browser_id = browser_id
        self.user: Any = NOBODY
        """The user object that was looked at last."""
        self.accounts: list[Account] = []
        """Who was made a user in it, and is not logged in."""
        self.proven: Any = None
        """The user whose password was right, where the answer will say whether that is a login."""
        self.token: Any = None

    def begin(self) -> None:
        """Holds from now on, in this context."""
        here = context.get_current()
        self.trace_id = local_trace(here)
        self._is_in(self.trace_id)
        self.token = context.attach(context.set_value(KEY, self, here))

    def enter(self) -> Callable[[], None]:
        """Holds in this context, too: that of an app that is mounted in the one where it began.

        Returns:
            To be called when that app has answered; the visit goes on.
        """
        here = context.get_current()
        if here.get(KEY) is self:
            return _nothing
        self._is_in(local_trace(here))
        token = context.attach(context.set_value(KEY, self, here))

        def leave() -> None:
            if context.get_current().get(KEY) is self:
                context.detach(token)

        return leave

    def _is_in(self, trace_id: int) -> None:
        before = traces.of(trace_id) if trace_id else None
        if before is not None and not before.managed:
            # Another service sent something along, or a middleware outside of us has identified somebody.
            self.ambient = above(self.ambient, before.ambient)
            traces.replaced(trace_id, before, self)
        elif trace_id:
            traces.began(trace_id, self)

    def end(self) -> None:
        """Holds no more."""
        token, self.token, self.user = self.token, None, NOBODY
        self.accounts, self.proven = [], None
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
        here = context.get_current()
        if here.get(KEY) is self._visit:
            return next(self._iterator)  # where the visit still is, its end may come with the last of them
        token = context.attach(context.set_value(KEY, self._visit, here))
        try:
            return next(self._iterator)
        finally:
            context.detach(token)

    def close(self) -> None:
        """Also where nobody has asked for the first of them."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


def going_on(*places: Mapping[Any, Any]) -> Visit | None:
    """The visit that has begun in an app around this one, of another framework maybe.

    Args:
        places: Scopes and environments of the request.
    """
    for place in places:
        found = place.get(MARK)
        if isinstance(found, Visit) and not found.has_ended:
            return found
    return None


def _nothing() -> None:
    """Nothing is to be left."""


def visit_at_hand() -> Visit | None:
    """The visit that the current context is part of; `None` outside of any."""
    here = context.get_current()
    found = here.get(KEY)
    if found is None:
        found = traces.of(trace.get_current_span(here).get_span_context().trace_id)
    return found if isinstance(found, Visit) else None
