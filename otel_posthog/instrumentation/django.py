"""Django: each request's visit, sync and async; logins and users of `django.contrib.auth`; errors answered by hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, cast

from otel_posthog.instrumentation.frameworks import PostHogDjangoInstrumentor
from otel_posthog.instrumentation.hooks import Hooks
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.signups import account_made, is_a_visitor_s
from otel_posthog.instrumentation.swallowed import swallowed
from otel_posthog.instrumentation.user import Login, peek
from otel_posthog.instrumentation.visit import Account, Streamed, Visit, going_on, visit_at_hand

_MIDDLEWARE: Final = "otel_posthog.instrumentation.django.PostHogMiddleware"
_USER_KEY: Final = "_auth_user_id"
_FIRST_FAILURE: Final = 400
_FIRST_SERVER_ERROR: Final = 500
_UID: Final = "otel_posthog"
_UNUSABLE: Final = "!"
"""Begins what stands in place of a password where nobody can log in with one."""
_NOTHING: Final[Mapping[str, Any]] = {}


class DjangoHooks(Hooks):
    """What is done in Django."""

    framework: ClassVar[str] = "django"
    _watches = False

    def modules(self) -> Mapping[str, Hook]:
        """Django's handlers, its authentication, allauth's signals, and REST framework."""
        return {
            "django.core.handlers.base": self._handlers,
            "django.contrib.auth": self._auth,
            "allauth.account.signals": self._allauth,
            "rest_framework.request": self._rest_request,
            "rest_framework.views": self._rest_views,
            "rest_framework.authtoken.serializers": self._rest_tokens,
            "rest_framework_simplejwt.serializers": self._rest_jwt,
        }

    # --- what is wrapped ---------------------------------------------------------------------------------------------

    def _handlers(self, module: Any) -> None:
        self.patches.wrap(module.BaseHandler, "load_middleware", self._load_middleware)
        self.patches.wrap(module.BaseHandler, "process_exception_by_middleware", self._process_exception)

    def _auth(self, module: Any) -> None:
        self.patches.wrap(module, "get_user", self._get_user)
        self.patches.wrap(module, "aget_user", self._aget_user)
        self._connect(module.user_logged_in, self._logged_in)
        self._connect(module.user_logged_out, self._logged_out)

    def _allauth(self, module: Any) -> None:
        self._connect(module.user_logged_in, self._allauth_logged_in)
        self._connect(module.user_signed_up, self._allauth_signed_up)

    def _rest_request(self, module: Any) -> None:
        self.patches.wrap(module.Request, "_authenticate", self._authenticate)

    def _rest_views(self, module: Any) -> None:
        self.patches.wrap(module.APIView, "handle_exception", self._process_exception)

    def _rest_tokens(self, module: Any) -> None:
        self.patches.wrap(module.AuthTokenSerializer, "validate", self._validate)

    def _rest_jwt(self, module: Any) -> None:
        self.patches.wrap(module.TokenObtainSerializer, "validate", self._validate)

    def _connect(self, signal: Any, receiver: Any, sender: Any = None) -> None:
        signal.connect(receiver, sender=sender, weak=False, dispatch_uid=_UID)
        self.patches.on_undo(lambda: signal.disconnect(sender=sender, dispatch_uid=_UID))

    def _load_middleware(self, wrapped: Any, _handler: Any, args: Any, kwargs: Any) -> Any:
        """Builds the chain with our middleware in it, inside of OpenTelemetry's; the setting is left as it was."""
        from django.conf import settings  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

        held = cast("Any", settings)
        self._watch_accounts(held)
        listed: list[str] = list(held.MIDDLEWARE)
        if _MIDDLEWARE in listed:
            return wrapped(*args, **kwargs)
        places = [index + 1 for index, path in enumerate(listed) if path.startswith("opentelemetry.")]
        before = held.MIDDLEWARE
        listed.insert(max(places, default=0), _MIDDLEWARE)
        held.MIDDLEWARE = listed
        try:
            return wrapped(*args, **kwargs)
        finally:
            held.MIDDLEWARE = before

    def _watch_accounts(self, settings: Any) -> None:
        """Now that the app is whole, and knows its own class of users."""
        try:
            from django.apps import apps  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
            from django.db.models.signals import (  # pyright: ignore[reportMissingImports]
                post_save,  # pyright: ignore[reportUnknownVariableType]
            )

            known = cast("Any", apps)
            if not self._watches and self.on and known.is_installed("django.contrib.auth"):
                self._watches = True
                self._connect(post_save, self._saved, known.get_model(settings.AUTH_USER_MODEL))
        except Exception as error:  # noqa: BLE001 - an edge: the app starts without us
            self.failed(error)

    # --- the request -------------------------------------------------------------------------------------------------

    def arrive(self, request: Any) -> tuple[Visit, Callable[[], None]] | None:
        """Begins the visit of a request; gives what ends it, too. `None` where that failed."""
        try:
            visit = going_on(request.META, request.__dict__.get("scope", _NOTHING))
            if visit is not None:
                return visit, visit.enter()
            visit = self.people.arrive_wsgi(request.META)
            visit.begin()
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
            return None
        return visit, visit.end

    def leave(self, visit: Visit, end: Callable[[], None], request: Any, status: int) -> None:
        """Looks at who it was, as far as the app did, and ends the visit."""
        try:
            if self.on:
                self._look(visit, request)
                if visit.proven is not None and status < _FIRST_FAILURE and not visit.ambient.distinct_id:
                    self._login(request, visit.proven, "")
                if visit.accounts and _is_nobody_s(request):
                    self.people.answered(visit, status, self.framework, _loaded_session(request))
        except Exception as error:  # noqa: BLE001 - an edge: the response is ready
            self.failed(error)
        finally:
            end()

    def streaming(self, visit: Visit, response: Any) -> Any:
        """The response; what it streams is made within the visit."""
        try:
            # A file goes to the server as it is.
            if response.streaming and not response.is_async and not hasattr(response, "file_to_stream"):
                response.streaming_content = Streamed(response.streaming_content, visit)
        except Exception as error:  # noqa: BLE001 - an edge: the response is ready
            self.failed(error)
        return response

    def _look(self, visit: Visit, request: Any) -> None:
        session = _loaded_session(request)
        user = _evaluated(request.__dict__.get("user"))
        if user is not None:
            # Who was not seen while the session was read came with a token, in each request anew.
            self.people.seen(visit, user, session, silent=True)
        elif session is not None and not visit.ambient.distinct_id and self.people.by_own_id:
            # The app has read its session, and no user: the key of one stands in it.
            self.people.seen(visit, session.get(_USER_KEY), session)
        sources = self.people.sources
        for key in sources.session if session is not None else ():
            self.people.seen(visit, cast("Any", session).get(key), session, silent=True)
        for name in sources.request:
            self.people.seen(visit, _evaluated(request.__dict__.get(name)), session, silent=True)
        for call in sources.calls:
            self.people.seen(visit, call(request), session, silent=True)

    # --- who ---------------------------------------------------------------------------------------------------------

    def _get_user(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        user = wrapped(*args, **kwargs)
        self._seen(user, args[0] if args else kwargs.get("request"))
        return user

    async def _aget_user(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        user = await wrapped(*args, **kwargs)
        self._seen(user, args[0] if args else kwargs.get("request"))
        return user

    def _seen(self, user: Any, request: Any) -> None:
        try:
            self.people.seen(visit_at_hand(), user, _loaded_session(request))
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)

    def _logged_in(self, request: Any = None, user: Any = None, **_: Any) -> None:
        try:
            self._login(request, user, "")
        except Exception as error:  # noqa: BLE001 - an edge: the login goes on
            self.failed(error)

    def _allauth_logged_in(self, request: Any = None, user: Any = None, sociallogin: Any = None, **_: Any) -> None:
        try:
            provider = str(getattr(getattr(sociallogin, "account", None), "provider", "") or "")
            self._login(request, user, provider)
        except Exception as error:  # noqa: BLE001 - an edge: the login goes on
            self.failed(error)

    def _allauth_signed_up(self, request: Any = None, user: Any = None, **more: Any) -> None:
        if self.people.reader.config.signups:
            self._allauth_logged_in(request, user, **more)

    def _authenticate(self, wrapped: Any, request: Any, args: Any, kwargs: Any) -> Any:
        """REST framework has found out who it is, by a token maybe, which comes in each request anew."""
        result = wrapped(*args, **kwargs)
        try:
            user = _evaluated(request.__dict__.get("_user"))
            self.people.seen(visit_at_hand(), user, _loaded_session(request._request), silent=True)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return result

    def _validate(self, wrapped: Any, serializer: Any, args: Any, kwargs: Any) -> Any:
        """A password is right for which a token is asked: a login, if the view gives one."""
        result: Any = wrapped(*args, **kwargs)
        try:
            visit = visit_at_hand()
            if visit is not None:
                # REST framework's own says so in what it returns, Simple JWT's keeps it.
                visit.proven = result.get("user") or getattr(serializer, "user", None)
        except Exception as error:  # noqa: BLE001 - an edge: the login goes on
            self.failed(error)
        return result

    def _saved(
        self, instance: Any = None, created: bool = False, raw: bool = False, using: Any = None, **_: Any
    ) -> None:
        """An account was made: by whom, is looked at when it is there to stay, and the request has been answered."""
        try:
            visit = visit_at_hand() if created and not raw and _is_an_ordinary_account(instance) else None
            if visit is None:
                return
            from django.db import transaction  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

            held, made = cast("Any", transaction), Account(instance, Login(), self.framework)
            connection = held.get_connection(using)
            if connection.in_atomic_block or connection.get_autocommit():
                held.on_commit(lambda: account_made(visit, made), using=using, robust=True)
        except Exception as error:  # noqa: BLE001 - an edge: the account is there
            self.failed(error)

    def _login(self, request: Any, user: Any, provider: str) -> None:
        if user is None:
            return
        session = _loaded_session(request)
        backend = str(getattr(user, "__dict__", {}).get("backend") or (session or {}).get("_auth_user_backend") or "")
        match = getattr(request, "resolver_match", None)
        login = Login(
            method=provider or _allauth_method(session) or backend.rpartition(".")[2],
            provider=provider,
            backend=backend,
            route=str(getattr(match, "view_name", "") or ""),
        )
        self.people.logged_in(visit_at_hand() if request is not None else None, user, login, session)

    def _logged_out(self, request: Any = None, **_: Any) -> None:
        try:
            if request is not None:
                self.people.logged_out(visit_at_hand())
        except Exception as error:  # noqa: BLE001 - an edge: the logout goes on
            self.failed(error)

    # --- errors ------------------------------------------------------------------------------------------------------

    def _process_exception(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        response = wrapped(*args, **kwargs)
        try:
            error = args[0] if args else kwargs.get("exception")
            status = getattr(response, "status_code", 0)
            if status >= _FIRST_SERVER_ERROR and isinstance(error, BaseException):
                swallowed(error, status)
        except Exception as error:  # noqa: BLE001 - an edge: the answer is ready
            self.failed(error)
        return response


class PostHogMiddleware:
    """What stands in the chain of a handler, for both of Django's worlds."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        from asgiref.sync import (  # pyright: ignore[reportMissingImports]
            iscoroutinefunction,  # pyright: ignore[reportUnknownVariableType]
            markcoroutinefunction,  # pyright: ignore[reportUnknownVariableType]
        )

        self.get_response = get_response
        self._instrumentor = PostHogDjangoInstrumentor()
        self._async = bool(iscoroutinefunction(get_response))
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """One request."""
        if self._async:
            return self._acall(request)
        hooks = self._hooks()
        begun = hooks.arrive(request) if hooks is not None else None
        if hooks is None or begun is None:
            return self.get_response(request)
        status = _FIRST_SERVER_ERROR
        try:
            response = self.get_response(request)
            status = response.status_code
            return hooks.streaming(begun[0], response)
        finally:
            hooks.leave(*begun, request, status)

    def _hooks(self) -> DjangoHooks | None:
        found = self._instrumentor.at_work
        return found if isinstance(found, DjangoHooks) else None

    async def _acall(self, request: Any) -> Any:
        hooks = self._hooks()
        begun = hooks.arrive(request) if hooks is not None else None
        if hooks is None or begun is None:
            return await self.get_response(request)
        status = _FIRST_SERVER_ERROR
        try:
            response = await self.get_response(request)
            status = response.status_code
            return response
        finally:
            hooks.leave(*begun, request, status)


def _evaluated(user: Any) -> Any:
    """The user behind a lazy object; `None` where it has not been looked at, since looking asks the database."""
    from django.utils import functional  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    lazy = cast("Any", functional)
    if user is None or not issubclass(type(user), lazy.LazyObject):
        return user
    inner = object.__getattribute__(user, "_wrapped")
    return None if inner is lazy.empty else inner


def _loaded_session(request: Any) -> dict[str, Any] | None:
    """What is in the session where it was loaded: loading it may ask the database."""
    session = getattr(request, "__dict__", {}).get("session")
    found = getattr(session, "__dict__", {}).get("_session_cache")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _is_an_ordinary_account(user: Any) -> bool:
    """Whether people make accounts like this for themselves: with a password, and for no member of staff."""
    password = peek(user, "password")
    has_password = isinstance(password, str) and password[:1] not in ("", _UNUSABLE)
    return has_password and not peek(user, "is_staff") and not peek(user, "is_superuser")


def _is_nobody_s(request: Any) -> bool:
    """Whether a request is surely one of somebody who is not logged in, and sends a form."""
    if request.method != "POST" or "user" not in request.__dict__:
        return False
    if not is_a_visitor_s(request.headers) or request.META.get("REMOTE_USER"):
        return False
    session = _loaded_session(request)
    if session is not None:
        return _USER_KEY not in session
    from django.conf import settings  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

    return cast("Any", settings).SESSION_COOKIE_NAME not in request.COOKIES


def _allauth_method(session: Mapping[str, Any] | None) -> str:
    """How allauth remembers that somebody logged in last: `password`, `code`, or the name of a provider."""
    records: Any = (session or {}).get("account_authentication_methods")
    if not isinstance(records, list) or not records:
        return ""
    last: Any = cast("list[Any]", records)[-1]
    if not isinstance(last, dict):
        return ""
    found = cast("dict[str, Any]", last)
    return str(found.get("provider") or found.get("method") or "")


__all__ = ["DjangoHooks", "PostHogDjangoInstrumentor", "PostHogMiddleware"]
