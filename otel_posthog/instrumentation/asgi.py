"""Starlette, and what is built on it: two layers of ASGI in each app's own chain of middlewares.

The outer one stands inside of OpenTelemetry's, which replaces the context, and around everything of the app: it begins
and ends the visit. The inner one stands inside of the app's middlewares: there it sees whom they let in, and an error
that an exception handler is just making an answer of.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, cast

from otel_posthog.instrumentation.browser import HEADERS
from otel_posthog.instrumentation.hooks import Hooks
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.swallowed import swallowed
from otel_posthog.instrumentation.user import Login, unnoticed
from otel_posthog.instrumentation.visit import MARK, Visit, going_on, visit_at_hand

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS: Final = tuple(name.encode() for name in HEADERS)
_COOKIE: Final = b"cookie"
_WANTED: Final = frozenset((*_HEADERS, _COOKIE))
_FIRST_SERVER_ERROR: Final = 500
_REQUESTS: Final = ("http", "websocket")


class AsgiHooks(Hooks):
    """What Starlette and FastAPI have in common."""

    def modules(self) -> Mapping[str, Hook]:
        """Where environments for apps of WSGI are made of scopes."""
        return {
            "starlette.middleware.wsgi": self._bridge,
            "a2wsgi.wsgi": self._bridge,
            "asgiref.wsgi": lambda module: self._bridge(module.WsgiToAsgiInstance),
        }

    def _bridge(self, owner: Any) -> None:
        self.patches.wrap(owner, "build_environ", self._build_environ)

    def _build_environ(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        environ = wrapped(*args, **kwargs)
        try:
            visit = going_on(args[0] if args else kwargs["scope"])
            if visit is not None:
                environ[MARK] = visit
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return environ

    def _wrap_app(self, app_class: Any) -> None:
        # OpenTelemetry puts a subclass in its place; apps may have been made of the class itself.
        while str(app_class.__module__).startswith("opentelemetry."):
            app_class = app_class.__base__
        self.patches.wrap(app_class, "build_middleware_stack", self._build)

    def _build(self, wrapped: Any, app: Any, args: Any, kwargs: Any) -> Any:
        """Builds the chain with our two layers in it; the app's list of middlewares is left as it was."""
        from starlette.middleware import Middleware

        before = app.user_middleware
        try:
            listed = list(before)
            places = [
                index + 1
                for index, one in enumerate(listed)
                if str(getattr(one.cls, "__module__", "")).startswith("opentelemetry.")
            ]
            listed.insert(max(places, default=0), Middleware(cast("Any", Edge), hooks=self))
            listed.append(Middleware(cast("Any", Inside), hooks=self))
            app.user_middleware = listed
        except Exception as error:  # noqa: BLE001 - an edge: the app starts without us
            self.failed(error)
        try:
            return wrapped(*args, **kwargs)
        finally:
            app.user_middleware = before

    # --- the request -------------------------------------------------------------------------------------------------

    def arrive(self, scope: Scope) -> Visit | None:
        """Begins the visit of a request; `None` where it is off, or that failed."""
        if not self.on:
            return None
        try:
            found: dict[bytes, str] = {}
            for name, value in scope["headers"]:
                if name in _WANTED:
                    text = value.decode("latin-1")
                    # Cookies may come in several headers; of others the first counts, as it does for Starlette.
                    before = found.get(name)
                    found[name] = text if before is None else before if name != _COOKIE else f"{before}; {text}"
            claimed: list[str | None] = [found.get(name) for name in _HEADERS]
            visit = self.people.arrive(claimed, found.get(_COOKIE))
            visit.begin()
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
            return None
        return visit

    def entered(self, scope: Scope) -> Any:
        """The app's middlewares have let the request in; gives the user of its session."""
        before = None
        try:
            visit = visit_at_hand() if self.on else None
            if visit is not None:
                before = self._session_user(scope)
                if before is not None:
                    self.people.seen(visit, before, _session(scope))
                self._look(visit, scope)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return before

    def answering(self, scope: Scope, status: int, before: Any) -> None:
        """The app begins to answer.

        Args:
            scope: The request.
            status: Of the answer.
            before: What `entered` gave.
        """
        try:
            visit = visit_at_hand() if self.on else None
            if visit is None:
                return
            sources = self.people.sources
            if sources.session:
                after = self._session_user(scope)
                if after is None and before is not None:
                    self.people.logged_out(visit)
                elif after is not None and after != before:
                    self.people.logged_in(visit, after, login_in(scope), _session(scope))
            self._look(visit, scope)
            if visit.accounts:
                self.people.answered(visit, status, self.framework, _session(scope))
            if sources.calls:
                from starlette.requests import HTTPConnection

                for call in sources.calls:
                    self.people.seen(visit, call(HTTPConnection(scope)), _session(scope), silent=True)
            error = sys.exc_info()[1] if status >= _FIRST_SERVER_ERROR else None
            if error is not None:
                swallowed(error, status)
        except Exception as error:  # noqa: BLE001 - an edge: the answer goes on
            self.failed(error)

    # --- who ---------------------------------------------------------------------------------------------------------

    def _look(self, visit: Visit, scope: Scope) -> None:
        session = _session(scope)
        if "user" in scope:
            self.people.seen(visit, scope["user"], session, silent=True)
        state: Any = scope.get("state")
        sources = self.people.sources
        for name in sources.state:
            # `request.state` is a view of this mapping.
            if isinstance(state, Mapping) and name in state:
                self.people.seen(visit, state[name], session, silent=True)
        for name in sources.request:
            if name in scope:
                self.people.seen(visit, scope[name], session, silent=True)

    def _session_user(self, scope: Scope) -> Any:
        session = _session(scope)
        for key in self.people.sources.session if session is not None else ():
            found = unnoticed(session, key)
            if found is not None and found != "":
                return found
        return None


class Edge:
    """The outer layer: a visit."""

    def __init__(self, app: App, hooks: AsgiHooks) -> None:
        self.app = app
        self._hooks = hooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the app."""
        end = self._enter(scope) if scope["type"] in _REQUESTS else None
        if end is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            end()

    def _enter(self, scope: Scope) -> Callable[[], None] | None:
        # An app that is mounted in another has a chain of its own: the request has begun before.
        visit = going_on(scope) if self._hooks.on else None
        if visit is not None:
            return visit.enter()
        visit = self._hooks.arrive(scope)
        if visit is None:
            return None
        scope[MARK] = visit
        return visit.end


class Inside:
    """The inner layer: who was let in, and what went wrong."""

    def __init__(self, app: App, hooks: AsgiHooks) -> None:
        self.app = app
        self._hooks = hooks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the app."""
        hooks = self._hooks
        if scope["type"] not in _REQUESTS or not hooks.on:
            await self.app(scope, receive, send)
            return
        before = hooks.entered(scope)

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                hooks.answering(scope, message["status"], before)
            await send(message)

        await self.app(scope, receive, sending)


def _session(scope: Scope) -> dict[str, Any] | None:
    """The session, not through `request.session`: that notes that it was asked for."""
    found = scope.get("session")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def login_in(scope: Scope) -> Login:
    """A login in this request."""
    return Login(route=str(getattr(scope.get("route"), "path", None) or scope.get("path") or ""))
