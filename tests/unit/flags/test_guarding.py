"""`@flags.required` in Flask, Django, FastAPI and Starlette, and outside of them."""

from __future__ import annotations

import asyncio
import inspect
import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from flask import Flask
from flask.views import MethodView
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from otel_posthog import flags
from otel_posthog.api.held import scope
from otel_posthog.api.people import identify
from otel_posthog.api.process import process
from otel_posthog.context import working
from otel_posthog.context.ambient import Ambient
from otel_posthog.context.work import current_work
from otel_posthog.emulator import Emulator
from otel_posthog.observe import Guard
from tests.unit.flags.conftest import Calls


def asked(app: Any, path: str) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of a GET of an ASGI app, in the context of the caller."""
    said: list[dict[str, Any]] = []
    path, _, query = path.partition("?")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("shop", 80),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers, b"".join(message.get("body", b"") for message in said[1:])


def as_somebody() -> Any:
    """A unit of work of a person."""
    return working(Ambient(distinct_id="ada"))


def test_flask(running: None, calls: Calls) -> None:
    """Those with the flag see the view; others get 403, or are sent elsewhere by path or by name of a view."""
    app = Flask("shop")

    @app.get("/new")
    @flags.required("new-dashboard")
    def new() -> str:
        """The new one."""
        return "new"

    @app.get("/beta")
    @flags.required("beta-features")
    def beta() -> str:
        return "beta"

    @app.get("/moved")
    @flags.required("beta-features", redirect_to="/old?x=1")
    def moved() -> str:
        return "moved"

    @app.get("/named")
    @flags.required("beta-features", redirect_to="new")
    def named() -> str:
        return "named"

    class Method(MethodView):
        @flags.required("beta-features", status=404)
        def get(self) -> str:
            return "method"

    app.add_url_rule("/method", view_func=Method.as_view("method"))

    with as_somebody():
        client = app.test_client()
        got = {path: client.get(path) for path in ("/new", "/beta", "/moved", "/named", "/method")}

    assert {path: response.status_code for path, response in got.items()} == {
        "/new": 200,
        "/beta": 403,
        "/moved": 302,
        "/named": 302,
        "/method": 404,
    }
    assert (got["/moved"].location, got["/named"].location) == ("/old?x=1", "/new")
    assert (new.__name__, new.__doc__) == ("new", "The new one.")
    assert sorted((event["distinct_id"], event["properties"]["$feature_flag"]) for event in calls()) == [
        ("ada", "beta-features"),
        ("ada", "new-dashboard"),
    ]


def test_a_redirect_that_leads_back(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is sent to the guarded view itself would be sent on without an end: they get the status."""
    monkeypatch.setattr(process, "guard", Guard())
    app = Flask("shop")
    back = flags.required("beta-features", redirect_to="/back?x=1", status=404)
    app.add_url_rule("/back", "back", back(lambda: "back"))
    app.add_url_rule("/elsewhere", "elsewhere", back(lambda: "elsewhere"))
    app.add_url_rule("/named", "named", flags.required("beta-features", redirect_to="named")(lambda: "named"))
    app.add_url_rule("/query", "query", flags.required("beta-features", redirect_to="?x=1")(lambda: "query"))

    @flags.required("beta-features", redirect_to="/back")
    async def starlette_back(request: Request) -> PlainTextResponse:
        return PlainTextResponse("back")

    site = Starlette(routes=[Route("/back", starlette_back)])
    with as_somebody():
        client = app.test_client()
        got = [client.get(path).status_code for path in ("/back", "/elsewhere", "/named", "/query")]
        status, _, _ = asked(site, "/back")

    assert [*got, status] == [404, 302, 403, 403, 403]
    assert process.guard.misuses() == {"flag_redirect": 4}


def test_a_class_of_views() -> None:
    """It would lose `as_view`: said where it is written."""
    with pytest.raises(TypeError, match="put it on its methods"):
        flags.required("new-dashboard")(MethodView)


def test_anonymous_visitors_do_not_pass(running: None, emulator: Emulator) -> None:
    """Nobody who is known has no answer: the default counts."""
    app = Flask("shop")
    app.add_url_rule("/a", "a", flags.required("new-dashboard")(lambda: "a"))
    app.add_url_rule("/b", "b", flags.required("new-dashboard", default=True)(lambda: "b"))

    client = app.test_client()
    assert (client.get("/a").status_code, client.get("/b").status_code) == (403, 200)
    assert emulator.stats()["flag_requests"]["evaluations"] == 0


@pytest.mark.parametrize(("variant", "passes"), [("variant-b", True), ("control", False)])
def test_a_variant(running: None, variant: str, passes: bool) -> None:
    """One of them alone."""
    guarded = flags.required("timer-ui-experiment", variant=variant)(lambda: "seen")

    with as_somebody():
        if passes:
            assert guarded() == "seen"
        else:
            with pytest.raises(Exception, match="not available"):
                guarded()


def test_fastapi(running: None) -> None:
    """Sync and async endpoints keep their signatures; who was identified before the endpoint counts."""
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI()

    def person(user: str = "") -> str:
        if user:
            identify(user)
        return user

    @app.get("/new/{number}")
    @flags.required("new-dashboard")
    async def new(number: int, user: str = fastapi.Depends(person)) -> dict[str, Any]:
        return {"number": number, "user": user, "flags": dict(current_work().ambient.flags)}

    @app.get("/beta")
    @flags.required("beta-features")
    def beta(user: str = fastapi.Depends(person)) -> str:
        return user

    @app.get("/moved")
    @flags.required("beta-features", redirect_to="/old")
    async def moved() -> str:
        return "moved"

    assert inspect.iscoroutinefunction(new)
    with as_somebody():
        status, _, body = asked(app, "/new/7?user=ada")
        assert (status, json.loads(body)) == (
            200,
            {"number": 7, "user": "ada", "flags": {"new-dashboard": True}},
        )
        assert asked(app, "/beta?user=ada")[0] == 403
        status, headers, _ = asked(app, "/moved?user=ada")
        assert (status, headers["location"]) == (302, "/old")


def test_starlette(running: None) -> None:
    """An endpoint without FastAPI."""

    @flags.required("beta-features")
    async def beta(request: Request) -> PlainTextResponse:
        return PlainTextResponse("beta")

    with as_somebody():
        assert asked(Starlette(routes=[Route("/beta", beta)]), "/beta")[0] == 403


def test_django(running: None) -> None:
    """Functions, coroutine functions, and methods of class-based views."""
    if not django_settings.configured:
        django_settings.configure(TEMPLATES=[])
    import django

    django.setup()
    from django.http import HttpRequest, HttpResponse

    @flags.required("beta-features")
    def beta(request: HttpRequest) -> HttpResponse:
        return HttpResponse("beta")

    @flags.required("new-dashboard")
    def new(request: HttpRequest) -> HttpResponse:
        return HttpResponse("new")

    @flags.required("beta-features", redirect_to="/old")
    async def moved(request: HttpRequest) -> HttpResponse:
        return HttpResponse("moved")

    class View:
        @flags.required("beta-features")
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse("view")

    request = HttpRequest()
    with as_somebody():
        assert (new(request).status_code, beta(request).status_code) == (200, 403)
        away = asyncio.run(moved(request))
        assert (away.status_code, away["Location"]) == (302, "/old")
        assert View().get(request).status_code == 403


def test_django_users_are_met(running: None) -> None:
    """Django loads the user when somebody looks: the guard does, once, where it is not known who it is."""
    if not django_settings.configured:
        django_settings.configure(TEMPLATES=[])
    from django.http import HttpRequest, HttpResponse
    from django.utils.functional import SimpleLazyObject

    looked: list[str] = []

    def load() -> Any:
        looked.append("looked")
        identify("ada")  # as our hook does
        return SimpleNamespace(is_authenticated=True)

    async def load_async() -> Any:
        return load()

    @flags.required("new-dashboard")
    def new(request: HttpRequest) -> HttpResponse:
        return HttpResponse("new")

    @flags.required("new-dashboard")
    async def new_async(request: HttpRequest) -> HttpResponse:
        return HttpResponse("new")

    def request() -> HttpRequest:
        made = HttpRequest()
        made.user = SimpleLazyObject(load)  # type: ignore[attr-defined]
        made.auser = load_async  # type: ignore[attr-defined]
        return made

    with scope():
        assert new(request()).status_code == 200
        assert new(request()).status_code == 200
    with scope():
        assert asyncio.run(new_async(request())).status_code == 200
    assert looked == ["looked", "looked"]


def test_nobody_is_met_with_the_gate_shut() -> None:
    """A switched-off package makes no query."""
    from django.http import HttpRequest, HttpResponse

    if not django_settings.configured:
        django_settings.configure(TEMPLATES=[])
    looked: list[str] = []

    @flags.required("new-dashboard", default=True)
    def new(request: HttpRequest) -> HttpResponse:
        return HttpResponse("new")

    class Asked(HttpRequest):
        @property
        def user(self) -> Any:
            looked.append("looked")
            return None

    assert (new(Asked()).status_code, looked) == (200, [])


def test_without_a_framework(running: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function says so by an exception."""
    import sys

    monkeypatch.delitem(sys.modules, "starlette", raising=False)
    guarded = flags.required("beta-features")(lambda: "seen")

    with as_somebody(), pytest.raises(flags.FlagRequiredError):
        guarded()


def test_an_async_view_is_stamped(running: None) -> None:
    """The question is asked in a thread; what it found holds for the view."""

    @flags.required("new-dashboard")
    async def view() -> dict[str, Any]:
        return dict(current_work().ambient.flags)

    async def request() -> dict[str, Any]:
        identify("ada")
        return await view()

    assert asyncio.run(request()) == {"new-dashboard": True}


def test_off() -> None:
    """Behind the gate the default counts: closed, or open where the view says so."""
    with pytest.raises(Exception, match="not available"):
        flags.required("new-dashboard")(lambda: "seen")()
    assert flags.required("new-dashboard", default=True)(lambda: "seen")() == "seen"
