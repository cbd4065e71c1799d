"""`@required`: a view that only those see for whom a flag is on, in Flask, Django, FastAPI and Starlette."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn, TypeVar, cast

from otel_posthog.flags.calls import ask

F = TypeVar("F", bound=Callable[..., Any])

_FOUND: Final = 302


class FlagRequiredError(PermissionError):
    """A function was called that a flag guards, outside of any framework."""


def required(
    key: str,
    redirect_to: str | None = None,
    *,
    variant: str | None = None,
    default: bool = False,
    status: int = 403,
) -> Callable[[F], F]:
    """Guards a view by a flag, for the person of its request.

    Below the route's decorator: `@app.get("/beta")`, then `@flags.required("beta")`. Sync and async views, and methods
    of class-based ones. In an async view the question is asked in a thread, so that the loop goes on.

    Args:
        key: The flag.
        redirect_to: Where others go: a path or URL; in Flask and Django also the name of a view. They get `status`
            where `None`.
        variant: They need this variant, and not just any.
        default: Whether they may pass where there is no answer; nobody who is known is no answer, too.
        status: What the others get.

    Raises:
        FlagRequiredError: At a call, where no framework is at work that could answer.
        TypeError: At the decoration of a class of views: it would be one no more.
    """

    def allowed() -> bool:
        answer = ask(key)
        if answer.value is None:
            return default
        return answer.value == variant if variant is not None else bool(answer.value)

    def decorate(view: F) -> F:
        if hasattr(view, "as_view"):
            raise TypeError(
                "flags.required guards functions and methods, not a class of views: put it on its methods; in Flask "
                "into `decorators`, in Django `@method_decorator(flags.required(…), name='dispatch')`"
            )
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def guarded_async(*args: Any, **kwargs: Any) -> Any:
                import asyncio

                from otel_posthog.context.work import current_work

                current_work()  # here, and not in the thread: what is stamped there shall hold here
                await _meet_user_async(args)
                if await asyncio.to_thread(allowed):
                    return await view(*args, **kwargs)
                return _refuse((*args, *kwargs.values()), redirect_to, status)

            return cast("F", guarded_async)

        @functools.wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            _meet_user(args)
            if allowed():
                return view(*args, **kwargs)
            return _refuse((*args, *kwargs.values()), redirect_to, status)

        return cast("F", guarded)

    return decorate


def _meet_user(args: tuple[Any, ...]) -> None:
    """Frameworks load the user of a request when somebody looks, and so do we learn who it is: a guard may be first."""
    # What is raised by the app's own loader comes again when the view looks.
    with suppress(Exception):
        if not _strangers():
            return
        request = _django_request(args)
        if request is not None:
            _ = request.user.is_authenticated
        elif (login := cast("Any", sys.modules.get("flask_login"))) is not None:
            _ = login.current_user.is_authenticated


async def _meet_user_async(args: tuple[Any, ...]) -> None:
    request = _django_request(args)
    if request is None:
        _meet_user(args)  # Flask has no other way
        return
    with suppress(Exception):
        if _strangers():
            await request.auser()


def _strangers() -> bool:
    """Whether there is somebody to be met: the gate is open, and it is not known yet whom the work is for."""
    from otel_posthog.api.process import process
    from otel_posthog.context.work import current_work

    return process.get() is not None and not current_work().ambient.distinct_id


def _django_request(args: tuple[Any, ...]) -> Any:
    """Of a view, or of a method of one; `None` in another framework."""
    http: Any = sys.modules.get("django.http")
    return next((each for each in args[:2] if http is not None and isinstance(each, http.HttpRequest)), None)


def _refuse(args: tuple[Any, ...], redirect_to: str | None, status: int) -> Any:
    """The answer for those who may not, as the framework at work gives it."""
    # A framework that is at work is loaded.
    request = _django_request(args)
    if request is not None:
        http: Any = sys.modules["django.http"]
        if redirect_to is not None:
            address = redirect_to
            if not _is_address(redirect_to):
                from django import shortcuts

                address = cast("Any", shortcuts).resolve_url(redirect_to)
            if not _leads_back(address, request.path):
                return http.HttpResponseRedirect(address)
        return http.HttpResponse(_TEXT, status=status, content_type="text/plain")
    flask: Any = sys.modules.get("flask")
    if flask is not None and flask.has_request_context():
        if redirect_to is not None:
            address = redirect_to if _is_address(redirect_to) else flask.url_for(redirect_to)
            if not _leads_back(address, flask.request.root_path + flask.request.path):
                return flask.redirect(address)
        flask.abort(status)
    if "starlette" in sys.modules:
        _refuse_in_starlette(args, redirect_to, status)
    raise FlagRequiredError(_TEXT)


def _refuse_in_starlette(args: tuple[Any, ...], redirect_to: str | None, status: int) -> NoReturn:
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection

    # Only a view that takes the request has it.
    request = next((cast("Any", each) for each in args if isinstance(each, HTTPConnection)), None)
    if redirect_to is None or (request is not None and _leads_back(redirect_to, request.url.path)):
        raise HTTPException(status, _TEXT)
    # An exception, since the view's signature need not have the request, nor its declared answer a redirect.
    raise HTTPException(_FOUND, headers={"Location": redirect_to})


_TEXT: Final = "This is not available to you."


def _leads_back(address: str, path: str) -> bool:
    """Whether a redirect to `address` would come to the view at `path` again, and so on without an end."""
    from urllib.parse import urlsplit

    target = urlsplit(address)
    back = not target.netloc and target.path in ("", path)
    if back:
        from otel_posthog.api.process import process

        process.guard.misused(
            "flag_redirect", "otel-posthog: the redirect of flags.required leads to the view that it guards (%s)", path
        )
    return back


def _is_address(text: str) -> bool:
    return text.startswith(("/", "#", "?")) or "://" in text
