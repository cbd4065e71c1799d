"""What requests of Flask, Django and Starlette say beyond what the context knows: who is logged in, and a CSP nonce."""

from __future__ import annotations

from typing import Any


def signed_out(request: Any) -> bool | None:
    """Whether nobody is logged in; `None` where the app has no users that we would know of.

    The user is looked at, where that was not done before: the page is about to say who it is for. So a lazy user is
    loaded here, and the framework's instrumentation sees it.

    Args:
        request: Flask's, Django's or Starlette's; `None` for none.
    """
    user = _user_of(request)
    known = getattr(user, "is_authenticated", None)
    if callable(known):
        known = known()
    return None if known is None else not known


def _user_of(request: Any) -> Any:
    if request is None:
        return None
    scope = getattr(request, "scope", None)
    if isinstance(scope, dict) and "type" in scope and not hasattr(request, "META"):
        return scope.get("user")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if hasattr(request, "META"):
        return getattr(request, "user", None)
    return _flask_user()


def _flask_user() -> Any:
    from sys import modules

    flask, flask_login = modules.get("flask"), modules.get("flask_login")
    if flask is None or flask_login is None or not flask.has_request_context():
        return None
    return flask_login.current_user if hasattr(flask.current_app, "login_manager") else None


def nonce_of(request: Any, context: Any) -> str:
    """The nonce of the page's Content-Security-Policy, where one of the usual packages made one; "" for none.

    Flask-Talisman has a function `csp_nonce` in the template's context, Django 6 a text of that name; django-csp has it
    on the request.

    Args:
        request: As for `signed_out`.
        context: The template's context, a mapping.
    """
    found: Any = context.get("csp_nonce") if context is not None else None
    if found is None:
        found = getattr(request, "csp_nonce", None)
    if callable(found):
        found = found()
    return "" if found is None else str(found)


__all__ = ["nonce_of", "signed_out"]
