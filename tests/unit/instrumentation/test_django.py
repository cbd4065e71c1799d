"""Django, sync and async, and allauth's signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context

from otel_posthog.instrumentation.django import PostHogDjangoInstrumentor
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, GRACE, people
from tests.unit.instrumentation.django_project import set_up
from tests.unit.instrumentation.test_flask import issues

set_up()

from django.conf import settings  # noqa: E402 - what follows needs settings
from django.contrib import auth  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.handlers.base import BaseHandler  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models.signals import post_save  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

USERS = "users:\n  set: {staff: is_staff, method: login.method, route: login.route}\n"
A, G = {"x-posthog-distinct-id": ADA}, {"x-posthog-distinct-id": GRACE}


@pytest.fixture(autouse=True)
def members() -> Iterator[dict[str, str]]:
    """Two members, by name: what they are to PostHog."""
    made = [User.objects.create_user(name, f"{name}@example.com") for name in ("ada", "grace")]
    yield {user.username: str(user.pk) for user in made}
    User.objects.all().delete()


def test_a_visit_a_login_and_a_logout(on: Callable[..., Any], build: Callable[..., Calls], members: Any) -> None:
    """The visitor's id becomes the person's at the login, once; after the logout it is nobody; all is mapped."""
    calls = build(rules=USERS)
    on(PostHogDjangoInstrumentor)
    client, ada = Client(), members["ada"]
    client.get("/", headers=A)
    client.get("/login/ada", headers=A)
    client.get("/me", headers=A)
    client.get("/logout")
    client.get("/me")

    assert people(calls) == [
        ("looked", ADA),
        ("$identify", ada),
        ("welcomed", ada),
        ("asked", ada),
        ("left", ""),
        ("asked", ""),
    ]
    assert calls.said[1][2] == {
        "$anon_distinct_id": ADA,
        "$set": {"staff": False, "method": "ModelBackend", "route": "login"},
    }
    assert "example.com" not in str(calls.events)


@pytest.mark.skipif(not hasattr(auth, "alogin"), reason="Django 5 brought logins to async views")
def test_async_views(on: Callable[..., Any], calls: Calls, members: Any) -> None:
    """The same under ASGI, with `alogin` and `auser`, for two people at once."""
    on(PostHogDjangoInstrumentor)

    async def visit(name: str, headers: Any) -> None:
        client = AsyncClient()
        await client.get(f"/alogin/{name}", headers=headers)
        await client.get("/ame")
        await client.get("/me")

    async def both() -> None:
        await asyncio.gather(visit("ada", A), visit("grace", G))

    asyncio.run(both())

    ada, grace = members["ada"], members["grace"]
    assert sorted(people(calls)) == sorted(
        (name, person) for person in (ada, grace) for name in ("$identify", "welcomed", "asked", "asked")
    )


@pytest.mark.parametrize("path", ["/", "/session", "/me"])
def test_no_query_is_ours(path: str, calls: Calls, members: Any) -> None:
    """Each page asks the database what it asked without us: nothing, the session, the session and the user."""
    client = Client()
    client.get("/login/ada")
    with CaptureQueriesContext(connection) as without:
        client.get(path)
    instrumentor = PostHogDjangoInstrumentor()
    instrumentor.instrument()
    try:
        client = Client()
        client.get("/login/ada")
        with CaptureQueriesContext(connection) as queries:
            client.get(path)
    finally:
        instrumentor.uninstrument()

    assert len(queries) == len(without) == {"/": 0, "/session": 1, "/me": 2}[path]
    # Who reads the session reads the key of the user with it; who reads nothing is nobody.
    assert people(calls)[-1][1] == ("" if path in ("/", "/session") else members["ada"])


def test_a_session_that_was_read_names_its_user(on: Callable[..., Any], calls: Calls, members: Any) -> None:
    """With a trace, what was captured before the end of the request is attributed, too."""
    on(PostHogDjangoInstrumentor)
    client = Client()
    client.get("/login/ada")
    with calls.app.tracer.start_as_current_span("GET"):
        client.get("/session")

    assert people(calls)[-1] == ("shopped", members["ada"])


def test_a_user_by_token(on: Callable[..., Any], calls: Calls, members: Any) -> None:
    """Who is put into the request without a login: the first request with a browser's id merges it."""
    on(PostHogDjangoInstrumentor)
    client = Client()
    for _ in range(2):
        client.get("/token", headers={"x-key": "grace", **G})

    assert people(calls) == [("$identify", members["grace"])]


def test_until_the_last_word(on: Callable[..., Any], calls: Calls, members: Any) -> None:
    """A streamed answer is part of its request, and nothing is left of it afterwards."""
    on(PostHogDjangoInstrumentor)
    client = Client()
    client.get("/login/ada")

    assert b"".join(client.get("/stream").streaming_content) == b"hi"
    assert people(calls)[-1] == ("said", members["ada"])
    assert dict(context.get_current()) == {}


def test_allauth_s_signals(on: Callable[..., Any], build: Callable[..., Calls], members: Any) -> None:
    """Who signs up is identified, also without being logged in; a social login has a provider."""
    signals = pytest.importorskip("allauth.account.signals")
    from django.test import RequestFactory

    from otel_posthog.context import working

    calls = build(rules=USERS)
    on(PostHogDjangoInstrumentor)

    class Social:
        account = type("Account", (), {"provider": "github"})

    with working():
        signals.user_signed_up.send(
            User, request=RequestFactory().get("/"), user=User.objects.get(username="ada"), sociallogin=Social()
        )

    assert [(name, person, own["$set"]["method"]) for name, person, own in calls.said] == [
        ("$set", members["ada"], "github")
    ]


@pytest.mark.parametrize(
    ("kind", "status", "captured"),
    [
        ("arithmetic", 500, [("ArithmeticError", True)]),
        ("lookup", 400, []),
    ],
)
def test_errors_that_a_middleware_answered(
    kind: str, status: int, captured: Any, on: Callable[..., Any], calls: Calls
) -> None:
    """A server error made by `process_exception` is captured with the live exception; answers to clients are not."""
    on(PostHogDjangoInstrumentor)

    assert Client(raise_request_exception=False).get(f"/fail/{kind}").status_code == status
    assert issues(calls) == captured


def test_inside_of_opentelemetry(on: Callable[..., Any], calls: Calls, members: Any) -> None:
    """OpenTelemetry replaces the context in each request: the visit begins inside of it."""
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    on(PostHogDjangoInstrumentor)  # before: the order of instrumentors is nobody's promise
    DjangoInstrumentor().instrument(tracer_provider=calls.app.tracer_provider)
    try:
        client = Client(raise_request_exception=False)
        client.get("/login/ada", headers=A)
        client.get("/fail/value")
        client.get("/fail/arithmetic")
    finally:
        DjangoInstrumentor().uninstrument()

    assert people(calls) == [
        ("$identify", members["ada"]),
        ("welcomed", members["ada"]),
        ("$exception", ""),
        ("$exception", ""),
    ]
    assert issues(calls) == [("ValueError", False), ("ArithmeticError", True)]


def anatomy() -> list[Any]:
    """Everything that may be changed."""
    return [
        dict(vars(BaseHandler)),
        {name: getattr(auth, name, None) for name in ("get_user", "aget_user")},
        [list(signal.receivers) for signal in (auth.user_logged_in, auth.user_logged_out, post_save)],
        list(settings.MIDDLEWARE),
    ]


def test_no_trace_is_left(calls: Calls) -> None:
    """After `uninstrument` every object is what it was; a handler that was built before goes straight through."""
    before = anatomy()
    instrumentor = PostHogDjangoInstrumentor()
    instrumentor.instrument()
    client = Client()
    client.get("/login/ada")
    assert anatomy() != before
    instrumentor.uninstrument()
    client.get("/me")

    assert anatomy() == before
    assert people(calls)[-1] == ("asked", "")


def test_it_never_breaks_the_app(on: Callable[..., Any], calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in us, requests, logins and logouts do what they did; it is counted."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    instrumentor = on(PostHogDjangoInstrumentor)

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("sabotage")

    for name in ("seen", "logged_in", "logged_out"):
        monkeypatch.setattr(instrumentor.at_work.people, name, broken)
    client = Client()
    assert [client.get(path).status_code for path in ("/login/ada", "/me", "/logout", "/")] == [200] * 4

    assert set(calls.app.runtime.guard.counts()) == {"instrumentation.django"}
    calls.app.runtime.guard.after_fork()
