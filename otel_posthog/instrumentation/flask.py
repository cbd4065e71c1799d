"""Flask: each request's visit; Flask-Login's users, `g.user` and sessions; errors that `@errorhandler` answered."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final, cast

from otel_posthog.instrumentation.frameworks import PostHogFlaskInstrumentor
from otel_posthog.instrumentation.hooks import Hooks
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.instrumentation.people import People
from otel_posthog.instrumentation.signups import account_made
from otel_posthog.instrumentation.swallowed import swallowed
from otel_posthog.instrumentation.user import Login, unnoticed
from otel_posthog.instrumentation.visit import Account, Streamed, Visit, going_on, visit_at_hand

_VISIT: Final = "_otel_posthog_visit"
_END: Final = "_otel_posthog_end"
_BEFORE: Final = "_otel_posthog_before"
"""The user of the session when the request began."""
_USER_KEY: Final = "_user_id"
"""Where Flask-Login keeps what `get_id()` of a user gave; no distinct id, since it may be a token."""
_KEPT: Final = 10_000
"""Such keys that are remembered."""
_BY_KEY: Final = object()
"""In place of a user object: somebody who is known by such a key."""
_FIRST_SERVER_ERROR: Final = 500


class FlaskHooks(Hooks):
    """What is done in Flask."""

    framework: ClassVar[str] = "flask"

    def __init__(self, people: People, patches: Patches) -> None:
        super().__init__(people, patches)
        self._apps: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._known_by: Any = None

    def modules(self) -> Mapping[str, Hook]:
        """Flask itself, Flask-Login, and Flask-Security, which is built on it."""
        return {
            "flask.app": self._flask,
            "flask_login.login_manager": self._flask_login,
            "flask_security.signals": self._flask_security,
        }

    # --- what is wrapped ---------------------------------------------------------------------------------------------

    def _flask(self, module: Any) -> None:
        flask = module.Flask
        self.patches.on_undo(self._leave)
        self.patches.wrap_method(flask, "full_dispatch_request", self._dispatch)
        self.patches.wrap_method(flask, "do_teardown_request", self._teardown)
        self.patches.wrap_method(flask, "dispatch_request", self._view)
        self.patches.wrap_method(flask, "handle_user_exception", self._handle_user_exception)
        self.patches.wrap_method(flask, "finalize_request", self._finalize)

    def _flask_login(self, module: Any) -> None:
        from flask_login import signals  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

        known = cast("Any", signals)
        receivers: tuple[tuple[Any, Any], ...] = (
            (known.user_logged_in, self._logged_in),
            (known.user_loaded_from_cookie, self._remembered),
            (known.user_logged_out, self._logged_out),
        )
        for signal, receiver in receivers:
            self._connect(signal, receiver)
        self.patches.wrap(module.LoginManager, "_update_request_context_with_user", self._loaded)

    def _flask_security(self, module: Any) -> None:
        self._connect(module.user_registered, self._registered)

    def _connect(self, signal: Any, receiver: Any) -> None:
        signal.connect(receiver, weak=False)
        self.patches.on_undo(lambda: signal.disconnect(receiver))

    # --- the request -------------------------------------------------------------------------------------------------

    def _dispatch(self, wrapped: Any, app: Any, args: Any, kwargs: Any) -> Any:
        if app not in self._apps:
            try:
                self._enter(app)
            except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
                self.failed(error)
        return wrapped(*args, **kwargs)

    def _enter(self, app: Any) -> None:
        """Puts our function right after that of OpenTelemetry, which replaces the context: inside of it."""
        with self._lock:
            if app not in self._apps and self.on:
                listed: list[Any] = app.before_request_funcs.setdefault(None, [])
                listed.insert(_after_opentelemetry(listed), self._begin)
                self._apps.add(app)

    def _leave(self) -> None:
        for app in tuple(self._apps):
            listed: list[Any] = app.before_request_funcs.get(None, [])
            if self._begin in listed:
                listed.remove(self._begin)
            if not listed:
                app.before_request_funcs.pop(None, None)
        self._apps.clear()

    def _begin(self) -> None:
        try:
            here = _request_context()
            environ = here.request.environ
            visit = going_on(environ)
            if visit is not None:
                end = visit.enter()
            else:
                visit = self.people.arrive_wsgi(environ)
                visit.begin()
                end = visit.end
            # On this very object: the copies that Flask makes for other threads end nothing.
            kept = here.__dict__
            kept[_VISIT], kept[_END] = visit, end
            if self._known:
                self._returned(visit, here)
            if self.people.sources.session:
                before = kept[_BEFORE] = self._session_user(here)
                if before is not None:
                    self.people.seen(visit, before, _session(here))
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)

    def _teardown(self, wrapped: Any, _app: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        finally:  # also where a function of the app's raises
            self._end()

    def _end(self) -> None:
        try:
            here = _request_context()
            kept: dict[str, Any] = here.__dict__ if here is not None else {}
            kept.pop(_VISIT, None)
            kept.pop(_BEFORE, None)
            end = kept.pop(_END, None)
            if end is not None:
                end()
        except Exception as error:  # noqa: BLE001 - an edge
            self.failed(error)

    def _view(self, wrapped: Any, _app: Any, args: Any, kwargs: Any) -> Any:
        try:
            held = _globals()
            if not self.people.sources.g_names.isdisjoint(held):
                here = _request_context()
                visit = here.__dict__.get(_VISIT) if here is not None else None
                if isinstance(visit, Visit):
                    self._look_at_globals(visit, here, held)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return wrapped(*args, **kwargs)

    def _finalize(self, wrapped: Any, _app: Any, args: Any, kwargs: Any) -> Any:
        response = wrapped(*args, **kwargs)
        try:
            here = _request_context()
            visit = here.__dict__.get(_VISIT) if here is not None else None
            if isinstance(visit, Visit):
                self._look(visit, here)
                if visit.accounts:
                    self.people.answered(visit, response.status_code, self.framework, _session(here))
                if response.is_streamed and not response.direct_passthrough:
                    response.response = Streamed(response.response, visit)
        except Exception as error:  # noqa: BLE001 - an edge: the response is ready
            self.failed(error)
        return response

    # --- who ---------------------------------------------------------------------------------------------------------

    def _look(self, visit: Visit, here: Any) -> None:
        """Who is known at the end of a request that nobody told us about."""
        sources = self.people.sources
        if sources.session:
            after, before = self._session_user(here), here.__dict__.get(_BEFORE)
            if after is None and before is not None and visit.ambient.distinct_id:
                self.people.logged_out(visit)
            elif after is not None and after != before:
                self.people.logged_in(visit, after, _login(here.request), _session(here))
            here.__dict__[_BEFORE] = after
        if not sources.g_names.isdisjoint(held := _globals()):
            self._look_at_globals(visit, here, held)
        for name in sources.request:
            self.people.seen(visit, here.request.__dict__.get(name), _session(here), silent=True)
        for call in sources.calls:
            self.people.seen(visit, call(here.request), _session(here), silent=True)

    def _look_at_globals(self, visit: Visit, here: Any, held: Mapping[str, Any]) -> None:
        sources = self.people.sources
        for name in sources.g:
            user: Any = held.get(name)
            # A proxy would load its user when it is looked at.
            if user is not None and type(user).__module__ != "werkzeug.local":
                self.people.seen(visit, user, _session(here), silent=not sources.session)

    def _session_user(self, here: Any) -> Any:
        session = _session(here)
        if session is not None:
            for key in self.people.sources.session:
                found = unnoticed(session, key)
                if found is not None and found != "":
                    return found
        return None

    def _loaded(self, wrapped: Any, _manager: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        try:
            visit = visit_at_hand()
            if visit is not None:
                user = args[0] if args else kwargs.get("user")
                session = _session(_request_context())
                if user is None and visit.user is _BY_KEY:
                    self.people.logged_out(visit)  # a session that is not valid any more
                self.people.seen(visit, user, session)
                self._learn(visit, user, session)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return result

    def _learn(self, visit: Visit, user: Any, session: Any) -> None:
        """Who a key in the session stands for, so that a request that loads nobody is known, too."""
        key = unnoticed(session, _USER_KEY) if session is not None else None
        person = visit.ambient.distinct_id
        if user is None or not person or not isinstance(key, str):
            return
        if self._known_by is not self.people.reader:
            # Whoever was known was so by the rules before.
            self._known, self._known_by = {}, self.people.reader
        self._known.pop(key, None)
        self._known[key] = person
        if len(self._known) > _KEPT:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread did so meanwhile
                del self._known[next(iter(self._known))]

    def _returned(self, visit: Visit, here: Any) -> None:
        session = _session(here)
        if session is None or self._known_by is not self.people.reader:
            return
        person = self._known.get(str(unnoticed(session, _USER_KEY)))
        if person is not None:
            visit.user = _BY_KEY
            self.people.returned(visit, person, session)

    def _logged_in(self, _app: Any, user: Any = None, method: str = "", **_: Any) -> None:
        try:
            here, visit = _request_context(), visit_at_hand()
            if visit is not None and any(account.user is user for account in visit.accounts):
                return  # logged in before it was saved: see `_registered`
            login = _login(here.request if here is not None else None)._replace(method=method)
            self.people.logged_in(visit, user, login, _session(here))
        except Exception as error:  # noqa: BLE001 - an edge: the login goes on
            self.failed(error)

    def _remembered(self, app: Any, user: Any = None, **_: Any) -> None:
        self._logged_in(app, user, "remember")

    def _logged_out(self, _app: Any, **_: Any) -> None:
        try:
            self.people.logged_out(visit_at_hand())
        except Exception as error:  # noqa: BLE001 - an edge: the logout goes on
            self.failed(error)

    def _registered(self, _app: Any, user: Any = None, **_: Any) -> None:
        """An account was made, and is saved when the view has returned: only then it has a number."""
        try:
            here = _request_context()
            if here is not None:
                visit = visit_at_hand()
                account_made(visit, Account(user, _login(here.request), self.framework))
                if visit is not None:
                    visit.user = user
        except Exception as error:  # noqa: BLE001 - an edge: the registration goes on
            self.failed(error)

    # --- errors ------------------------------------------------------------------------------------------------------

    def _handle_user_exception(self, wrapped: Any, _app: Any, args: Any, kwargs: Any) -> Any:
        answer = wrapped(*args, **kwargs)
        try:
            # With a request context before the exception in newer versions of Flask.
            error = next((one for one in (*args, *kwargs.values()) if isinstance(one, BaseException)), None)
            if error is not None and (status := _status(answer)) >= _FIRST_SERVER_ERROR:
                swallowed(error, status)
        except Exception as error:  # noqa: BLE001 - an edge: the answer is ready
            self.failed(error)
        return answer


def _after_opentelemetry(functions: list[Any]) -> int:
    places = [
        index + 1
        for index, function in enumerate(functions)
        if str(getattr(function, "__module__", "")).startswith("opentelemetry.")
    ]
    return max(places, default=0)


def _request_context() -> Any:
    """The current request context; `None` outside of any."""
    held: Any = sys.modules["flask.globals"]
    variable = getattr(held, "_cv_request", None) or held._cv_app
    found = variable.get(None)
    return found if getattr(found, "request", None) is not None else None


def _globals() -> Mapping[str, Any]:
    """What the app has put into `g`."""
    held: Any = sys.modules["flask.globals"]
    return getattr(getattr(held._cv_app.get(None), "g", None), "__dict__", {})


def _session(here: Any) -> dict[str, Any] | None:
    """The session itself, not through the context's property: that notes that it was asked for."""
    held = getattr(here, "__dict__", {})
    session: Any = held.get("_session")
    session = held.get("session") if session is None else session
    return cast("dict[str, Any]", session) if isinstance(session, dict) else None


def _login(request: Any) -> Login:
    return Login(route=str(getattr(request, "endpoint", None) or ""))


def _status(answer: Any) -> int:
    """The status of what a handler returned; 200 for a mere body."""
    status: Any = getattr(answer, "status_code", None)
    if status is None:
        status = getattr(answer, "code", None)
    if status is None and isinstance(answer, tuple) and len(cast("tuple[Any, ...]", answer)) > 1:
        status = cast("tuple[Any, ...]", answer)[1]
    if isinstance(status, str):
        status = status.split(" ", 1)[0]
        status = int(status) if status.isdigit() else 200
    return int(status) if isinstance(status, int) else 200


__all__ = ["FlaskHooks", "PostHogFlaskInstrumentor"]
