"""Django REST framework: people of tokens, and errors that its exception handler answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_posthog.instrumentation.django import PostHogDjangoInstrumentor
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, people
from tests.unit.instrumentation.django_project import set_up
from tests.unit.instrumentation.test_flask import issues

set_up()

from django.contrib.auth.models import User  # noqa: E402 - what follows needs settings
from rest_framework.authtoken.models import Token  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402
from rest_framework_simplejwt.tokens import RefreshToken  # noqa: E402

A = {"x-posthog-distinct-id": ADA}


@pytest.fixture
def ada() -> Iterator[User]:
    """A member."""
    yield User.objects.create_user("ada", "ada@example.com", "4Kx!horse")
    User.objects.all().delete()


@pytest.mark.parametrize("by", ["token", "jwt", "password", "session", "force"])
def test_people_of_an_api(by: str, on: Callable[..., Any], calls: Calls, ada: User) -> None:
    """However the view finds out who it is, the person is known before it begins; nobody remains nobody."""
    on(PostHogDjangoInstrumentor)
    client = APIClient()
    client.get("/api/none", headers=A)
    if by == "token":
        client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.create(user=ada).key}")
    elif by == "jwt":
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {RefreshToken.for_user(ada).access_token}")
    elif by == "password":
        client.credentials(HTTP_AUTHORIZATION="Basic YWRhOjRLeCFob3JzZQ==")
    elif by == "session":
        client.login(username="ada", password="4Kx!horse")
    else:
        client.force_authenticate(ada)
    assert client.get("/api/none", headers=A).json() is True
    assert client.get("/api/none", headers=A).json() is True

    person = str(ada.pk)
    # A session was seen to begin, outside of any request; of a token the first request counts as a login.
    merged = [] if by == "session" else [("$identify", person)]
    assert people(calls) == [("ordered", ADA), *merged, ("ordered", person), ("ordered", person)]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("own", 200, {"method": "ModelBackend", "route": "own token"}),
        ("jwt", 200, {"method": "ModelBackend", "route": "jwt"}),
        ("second", 401, None),
    ],
)
def test_a_login_that_gives_a_token(
    path: str, status: int, told: Any, on: Callable[..., Any], build: Callable[..., Calls], ada: User
) -> None:
    """Who asks for a token with the right password, and gets one, logs in."""
    calls = build(rules="users:\n  set: {method: login.method, route: login.route}\n")
    on(PostHogDjangoInstrumentor)
    client = APIClient()
    wrong = {"username": "ada", "password": "x"}
    assert client.post(f"/tokens/{path}", wrong, headers=A).status_code in (400, 401)
    assert client.post(f"/tokens/{path}", {**wrong, "password": "4Kx!horse"}, headers=A).status_code == status

    merged = [("$identify", str(ada.pk), {"$anon_distinct_id": ADA, "$set": told})]
    assert calls.said == (merged if told else [])


@pytest.mark.parametrize(
    ("kind", "status", "captured"),
    [
        ("arithmetic", 500, [("ArithmeticError", True)]),
        ("made of", 500, [("KeyError", True)]),
        ("busy", 503, []),
        ("invalid", 400, []),
    ],
)
def test_errors_that_the_exception_handler_answered(
    kind: str, status: int, captured: Any, on: Callable[..., Any], calls: Calls
) -> None:
    """A server error that the handler made of an exception is captured with that one; answers are not."""
    on(PostHogDjangoInstrumentor)

    assert APIClient(raise_request_exception=False).get(f"/api/{kind}").status_code == status
    assert issues(calls) == captured


def test_one_of_each_beside_opentelemetry(on: Callable[..., Any], calls: Calls) -> None:
    """What REST framework passes on is OpenTelemetry's to see, as in any view."""
    from opentelemetry.instrumentation.django import DjangoInstrumentor

    DjangoInstrumentor().instrument(tracer_provider=calls.app.tracer_provider)
    on(PostHogDjangoInstrumentor)
    try:
        client = APIClient(raise_request_exception=False)
        assert [client.get(f"/api/{kind}").status_code for kind in ("value", "arithmetic")] == [500, 500]
    finally:
        DjangoInstrumentor().uninstrument()

    assert issues(calls) == [("ValueError", False), ("ArithmeticError", True)]
