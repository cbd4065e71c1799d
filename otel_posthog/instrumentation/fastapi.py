"""FastAPI: what Starlette knows, and what dependencies such as `get_current_user` give; FastAPI Users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from otel_posthog.instrumentation.asgi import AsgiHooks, login_in
from otel_posthog.instrumentation.frameworks import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.signups import account_made, is_a_visitor_s
from otel_posthog.instrumentation.user import Login
from otel_posthog.instrumentation.visit import Account, visit_at_hand


class FastAPIHooks(AsgiHooks):
    """What is done in FastAPI."""

    framework: ClassVar[str] = "fastapi"

    def modules(self) -> Mapping[str, Hook]:
        """The class of apps, and the place where routes get what they depend on; FastAPI Users."""
        return {
            "fastapi.applications": self._fastapi,
            "fastapi.routing": self._routing,
            "fastapi_users.manager": self._users_manager,
            "fastapi_users.authentication.authenticator": self._users_authenticator,
            "fastapi_users.authentication.backend": self._users_backend,
            **super().modules(),
        }

    def _fastapi(self, module: Any) -> None:
        self._wrap_app(module.FastAPI)

    def _routing(self, module: Any) -> None:
        self.patches.wrap(module, "solve_dependencies", self._solve)

    def _users_manager(self, module: Any) -> None:
        self.patches.wrap(module.BaseUserManager, "create", self._create)

    def _users_authenticator(self, module: Any) -> None:
        self.patches.wrap(module.Authenticator, "_authenticate", self._authenticate)

    def _users_backend(self, module: Any) -> None:
        self.patches.wrap(module.AuthenticationBackend, "login", self._login)
        self.patches.wrap(module.AuthenticationBackend, "logout", self._logout)

    async def _solve(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        solved: Any = await wrapped(*args, **kwargs)
        try:
            dependencies = self.people.sources.dependencies
            # Before FastAPI 0.112 it was the last of a tuple.
            found: Any = getattr(solved, "dependency_cache", None)
            if found is None:
                found = solved[-1]
            for key, value in found.items() if found and dependencies else ():
                # A key begins with the function itself; the cache outlives no request.
                if value is not None and getattr(key[0], "__name__", "") in dependencies:
                    request = kwargs.get("request")
                    session = getattr(request, "scope", {}).get("session")
                    self.people.seen(visit_at_hand(), value, session, silent=True)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return solved

    # --- FastAPI Users: logins are seen, so whoever comes with a token has logged in before ---------------------------

    async def _authenticate(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        found: Any = await wrapped(*args, **kwargs)
        try:
            self.people.seen(visit_at_hand(), found[0])
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return found

    async def _login(self, wrapped: Any, backend: Any, args: Any, kwargs: Any) -> Any:
        response: Any = await wrapped(*args, **kwargs)
        try:
            user: Any = kwargs.get("user", args[-1] if args else None)
            method = str(getattr(backend, "name", ""))
            self.people.logged_in(visit_at_hand(), user, Login(method=method, backend=method))
        except Exception as error:  # noqa: BLE001 - an edge: the login goes on
            self.failed(error)
        return response

    async def _logout(self, wrapped: Any, _backend: Any, args: Any, kwargs: Any) -> Any:
        response: Any = await wrapped(*args, **kwargs)
        try:
            self.people.logged_out(visit_at_hand())
        except Exception as error:  # noqa: BLE001 - an edge: the logout goes on
            self.failed(error)
        return response

    async def _create(self, wrapped: Any, _manager: Any, args: Any, kwargs: Any) -> Any:
        user: Any = await wrapped(*args, **kwargs)
        try:
            # As its own routes register: what a visitor says of themselves is not believed ("safe").
            safe = kwargs.get("safe", args[1] if len(args) > 1 else False)
            request: Any = kwargs.get("request", args[2] if len(args) > 2 else None)
            # Its cookies may have any name.
            cookies = [name for name in request.cookies if not name.startswith("ph_")] if request is not None else ()
            if safe and request is not None and not cookies and is_a_visitor_s(request.headers):
                account_made(visit_at_hand(), Account(user, login_in(request.scope), self.framework))
        except Exception as error:  # noqa: BLE001 - an edge: the account is there
            self.failed(error)
        return user


__all__ = ["FastAPIHooks", "PostHogFastAPIInstrumentor"]
