"""Apps of one framework in those of another: one request is one visit, of one person."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import fastapi
import flask
import flask_login
import pytest
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware

import otel_posthog
from otel_posthog.instrumentation.django import PostHogDjangoInstrumentor
from otel_posthog.instrumentation.fastapi import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.flask import PostHogFlaskInstrumentor
from otel_posthog.instrumentation.starlette import PostHogStarletteInstrumentor
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, people
from tests.unit.instrumentation.django_project import set_up
from tests.unit.instrumentation.test_flask import Shop, issues

set_up()

from django.contrib.auth.models import User  # noqa: E402 - what follows needs settings
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

A = {"x-posthog-distinct-id": ADA}


@pytest.fixture
def traced(request: pytest.FixtureRequest, calls: Calls) -> Iterator[bool]:
    """With all of OpenTelemetry's own instrumentations, and without."""
    if not request.param:
        yield False
        return
    from opentelemetry.instrumentation.django import DjangoInstrumentor
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.instrumentation.starlette import StarletteInstrumentor

    with ExitStack() as undo:
        for kind in (DjangoInstrumentor, FastAPIInstrumentor, FlaskInstrumentor, StarletteInstrumentor):
            kind().instrument(tracer_provider=calls.app.tracer_provider)
            undo.callback(kind().uninstrument)
        yield True


def legacy() -> Any:
    """Starlette's own, which warns that it will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.middleware.wsgi import WSGIMiddleware as Bridge

    return Bridge


BRIDGES = {"a2wsgi": lambda: WSGIMiddleware, "asgiref": lambda: WsgiToAsgi, "starlette": legacy}


def shop() -> Any:
    """An app of Flask that logs in, asks, and fails."""
    app = Shop().app
    app.add_url_rule("/fail", "fail", lambda: {}["colour"])
    app.register_error_handler(KeyError, lambda _: ("sorry", 500))
    return app


def django_in(bridge: str | None) -> Any:
    """The Django project, as an app of ASGI."""
    return get_asgi_application() if bridge is None else BRIDGES[bridge]()(get_wsgi_application())


async def served(request: Request, call_next: Any) -> Any:
    """A middleware of the outer app: what it captures at the end is the person's, too."""
    response = await call_next(request)
    otel_posthog.capture("served")
    return response


def around(inner: Any, kind: Any = fastapi.FastAPI) -> Any:
    """An app in which another is mounted."""
    outer = kind(middleware=[Middleware(BaseHTTPMiddleware, dispatch=served)])
    outer.mount("/inner", inner)
    return outer


@pytest.mark.parametrize("traced", [False, True], indirect=True)
@pytest.mark.parametrize("bridge", list(BRIDGES))
def test_flask_in_fastapi(bridge: str, traced: bool, on: Callable[..., Any], calls: Calls) -> None:
    """A login in the inner app is one in the outer; an error that the inner one answered is one."""
    on(PostHogFlaskInstrumentor)
    on(PostHogFastAPIInstrumentor)
    with TestClient(around(BRIDGES[bridge]()(shop()))) as client:
        assert client.get("/inner/login/1", headers=A).status_code == 200
        assert client.get("/inner/me", headers=A).text == "True"
        assert client.get("/inner/fail").status_code == 500
        assert client.get("/inner/logout", headers=A).status_code == 200

    assert sorted(people(calls)) == [  # with a trace, an exception waits for the end of its request
        ("$exception", "1"),
        ("$identify", "1"),
        ("asked", "1"),
        ("left", ""),
        ("served", ""),
        ("served", "1"),
        ("served", "1"),
        ("served", "1"),
        ("welcomed", "1"),
    ]
    assert issues(calls) == [("KeyError", True)]


@pytest.mark.parametrize("traced", [False, True], indirect=True)
@pytest.mark.parametrize("bridge", [None, "a2wsgi"])
def test_django_in_starlette(bridge: str | None, traced: bool, on: Callable[..., Any], calls: Calls) -> None:
    """As an app of ASGI, and as one of WSGI; the outer app's session says nothing about the inner one's."""
    ada = User.objects.create_user("ada")
    on(PostHogDjangoInstrumentor)
    on(PostHogStarletteInstrumentor)
    try:
        with TestClient(around(django_in(bridge), Starlette)) as client:
            client.get("/inner/login/ada", headers=A)
            client.get("/inner/me", headers=A)
    finally:
        User.objects.all().delete()

    person = str(ada.pk)
    assert people(calls) == [
        ("$identify", person),
        ("welcomed", person),
        ("served", person),
        ("asked", person),
        ("served", person),
    ]


def test_sessions_of_two_apps(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """Each app has its own: who is in the outer one's has not just logged in when the inner one has nobody."""
    calls = build(rules="users: {sources: session.account, set: {number: session.account}}\n")
    on(PostHogStarletteInstrumentor)
    on(PostHogFlaskInstrumentor)

    async def login(request: Request) -> PlainTextResponse:
        request.session["account"] = 7
        return PlainTextResponse("hello")

    inner = Starlette(
        routes=[Route("/", lambda _: PlainTextResponse("hi"))],
        middleware=[Middleware(SessionMiddleware, secret_key="another", session_cookie="inner")],
    )
    outer = Starlette(
        routes=[Route("/login", login), Mount("/flask", WSGIMiddleware(Shop().app)), Mount("/starlette", inner)],
        middleware=[Middleware(SessionMiddleware, secret_key="not a secret", session_cookie="outer")],
    )
    with TestClient(outer) as client:
        client.get("/login", headers=A)
        assert [client.get(path).status_code for path in ("/flask/", "/starlette/")] == [200, 200]

    assert people(calls) == [("$identify", "7"), ("looked", "7")]


@pytest.mark.parametrize("traced", [False, True], indirect=True)
def test_fastapi_in_fastapi(traced: bool, on: Callable[..., Any], calls: Calls) -> None:
    """One of each: an error that the inner app answered passes the outer one's layers, too."""
    on(PostHogFastAPIInstrumentor)
    inner = fastapi.FastAPI()
    inner.add_exception_handler(ValueError, lambda _request, _error: JSONResponse("sorry", status_code=500))

    def get_current_user() -> dict[str, int]:
        return {"id": 8}

    @inner.get("/")
    async def view(user: Any = fastapi.Depends(get_current_user)) -> None:  # noqa: B008
        otel_posthog.capture("asked")
        raise ValueError("no stock left")

    with TestClient(around(inner)) as client:
        assert client.get("/inner/", headers=A).status_code == 500

    assert sorted(people(calls)) == [("$exception", "8"), ("$identify", "8"), ("asked", "8"), ("served", "8")]


@pytest.mark.parametrize("traced", [False, True], indirect=True)
def test_flask_beside_flask(traced: bool, on: Callable[..., Any], calls: Calls) -> None:
    """A dispatcher gives each request to one app."""
    on(PostHogFlaskInstrumentor)
    first, second = Shop().app, Shop().app
    first.wsgi_app = DispatcherMiddleware(first.wsgi_app, {"/second": second})  # type: ignore[method-assign]
    client = first.test_client()
    for path in ("/second/login/1", "/me", "/second/logout", "/"):
        assert client.get(path, headers=A).status_code == 200

    assert people(calls) == [("$identify", "1"), ("welcomed", "1"), ("asked", "1"), ("left", ""), ("looked", ADA)]


def test_what_was_begun_and_is_over(on: Callable[..., Any], calls: Calls) -> None:
    """An environment that is used again is another request."""
    on(PostHogFlaskInstrumentor)
    on(PostHogStarletteInstrumentor)
    seen: list[Any] = []

    def keeping(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        return app(environ, start_response)

    app = Shop().app
    with TestClient(Starlette(routes=[Mount("/", WSGIMiddleware(keeping))])) as client:
        client.get("/login/1", headers=A)
    (environ,) = seen
    with app.request_context({**environ, "PATH_INFO": "/", "HTTP_COOKIE": ""}):
        app.full_dispatch_request()

    assert flask_login and flask
    assert people(calls) == [("$identify", "1"), ("welcomed", "1"), ("looked", ADA)]
