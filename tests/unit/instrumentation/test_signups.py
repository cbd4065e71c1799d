"""Who signs up without being logged in; and who only seems to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import fastapi
import flask
import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from otel_posthog.instrumentation.django import PostHogDjangoInstrumentor
from otel_posthog.instrumentation.fastapi import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.flask import PostHogFlaskInstrumentor
from otel_posthog.instrumentation.signups import is_a_visitor_s
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, GRACE, people
from tests.unit.instrumentation.django_project import set_up

set_up()

from django.contrib.auth.models import User  # noqa: E402 - what follows needs settings
from django.core.management import call_command  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

SITE = {"origin": "https://members.example.com"}
A, G = {"x-posthog-distinct-id": ADA, **SITE}, {"x-posthog-distinct-id": GRACE, **SITE}


@pytest.mark.parametrize(
    ("names", "visitor"),
    [
        (["Origin", "Host", "X-CSRFToken", "X-XSRF-TOKEN", "x-posthog-distinct-id", "User-Agent", "Cookie"], True),
        (["Sec-Fetch-Site", "Sec-Fetch-User", "Sec-Fetch-Mode", "Idempotency-Key", "traceparent"], True),
        (["Host", "x-posthog-distinct-id", "User-Agent"], False),
        *(
            (["Origin", name], False)
            for name in (
                "Authorization",
                "X-Api-Key",
                "x-auth-token",
                "x-forwarded-user",
                "X-User-Id",
                "x_user",
                "X-UID",
                "User",
                "x-amzn-oidc-data",
                "cf-access-authenticated-user-email",
                "Authentication-Token",
            )
        ),
    ],
)
def test_headers_of_a_visitor(names: list[str], visitor: bool) -> None:
    """A browser's own, and nothing that looks like credentials."""
    assert is_a_visitor_s(Headers(dict.fromkeys(names, "x"))) is visitor


# --- Django ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def staff() -> Iterator[Client]:
    """Somebody who is logged in; whoever is made in the test is gone afterwards."""
    User.objects.create_user("boss", password="4Kx!horse")
    client = Client()
    client.login(username="boss", password="4Kx!horse")
    yield client
    User.objects.all().delete()


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("kind", ["form", "plain", "login"])
def test_a_visitor_signs_up(kind: str, traced: bool, on: Callable[..., Any], calls: Calls, staff: Any) -> None:
    """By a form, by hand, or logged in at once: the visitor's id becomes the person's, once."""
    on(PostHogDjangoInstrumentor)
    if traced:
        with calls.app.tracer.start_as_current_span("POST"):
            Client().post(f"/signup/{kind}", headers=A)
    else:
        Client().post(f"/signup/{kind}", headers=A)

    new = str(User.objects.get(username="new").pk)
    # With a trace, what was captured before it was known who it is waits for the end of the request.
    before = ("signed up", new if traced else ADA)
    assert sorted(people(calls)) == sorted([("$identify", new), before])


@pytest.mark.parametrize(
    "kind",
    ["two", "invited", "staff", "rollback", "failed", "logout"],
)
def test_what_is_no_sign_up(kind: str, on: Callable[..., Any], calls: Calls, staff: Any) -> None:
    """Several accounts, one without a password, one of the staff, none in the end, an error: nobody is merged."""
    on(PostHogDjangoInstrumentor)
    Client().post(f"/signup/{kind}", headers=A)

    assert people(calls) == [("signed up", ADA)]


def test_whoever_is_logged_in_makes_accounts_for_others(on: Callable[..., Any], calls: Calls, staff: Client) -> None:
    """An administrator is not merged with who they made: also where the view does not look who it is."""
    on(PostHogDjangoInstrumentor)
    staff.post("/signup/plain", headers=A)
    User.objects.get(username="new").delete()
    staff.post("/blind", headers=A)
    boss = str(User.objects.get(username="boss").pk)

    assert people(calls) == [("signed up", boss)]


def test_who_cannot_be_told_from_somebody(on: Callable[..., Any], calls: Calls, staff: Any) -> None:
    """Credentials that nobody has looked at; another server; a request that sends no form: no sure sign-up of all."""
    on(PostHogDjangoInstrumentor)
    server = {"x-posthog-distinct-id": ADA}
    for headers, method in (({**A, "Authorization": "Bearer x"}, "post"), (server, "post"), (A, "get")):
        getattr(Client(), method)("/blind", headers=headers)
        User.objects.get(username="new").delete()
    assert people(calls) == []

    Client().post("/blind", headers=A)
    assert [name for name, _ in people(calls)] == ["$identify"]


def test_an_api_for_visitors(on: Callable[..., Any], calls: Calls, staff: Client) -> None:
    """REST framework's view sees nobody in an administrator's session that it was not told to look at."""
    from tests.unit.instrumentation.django_rest import Orders

    on(PostHogDjangoInstrumentor)
    api = APIClient()
    api.cookies = staff.cookies
    before = Orders.authentication_classes
    Orders.authentication_classes = ()
    try:
        api.post("/api/one", headers=G)
        APIClient().post("/api/two", headers=A)
    finally:
        Orders.authentication_classes = before

    assert people(calls) == [("$identify", str(User.objects.get(username="two").pk))]


def test_outside_of_requests(on: Callable[..., Any], calls: Calls, staff: Any, tmp_path: Any) -> None:
    """Fixtures, commands and shells make users, and nobody signs up."""
    on(PostHogDjangoInstrumentor)
    Client().get("/")  # the app is up
    call_command("createsuperuser", username="root", email="root@example.com", interactive=False)
    User.objects.create_user("new", password="4Kx!horse")
    written = tmp_path / "users.json"
    call_command("dumpdata", "auth.user", output=str(written))
    call_command("loaddata", str(written), verbosity=0)

    assert people(calls) == [("looked", "")]


def test_not_by_configuration(on: Callable[..., Any], build: Callable[..., Calls], staff: Any) -> None:
    """`signups: false`: the first login tells."""
    calls = build(rules="users: {signups: false}\n")
    on(PostHogDjangoInstrumentor)
    Client().post("/signup/plain", headers=A)

    assert people(calls) == [("signed up", ADA)]


def test_async_handlers(on: Callable[..., Any], calls: Calls, staff: Any) -> None:
    """The same under ASGI, where the view runs in another thread."""
    on(PostHogDjangoInstrumentor)
    asyncio.run(AsyncClient().post("/signup/plain", headers=A))

    assert ("$identify", str(User.objects.get(username="new").pk)) in people(calls)


# --- Flask-Security --------------------------------------------------------------------------------------------------


def security_app(*, confirm: bool) -> flask.Flask:
    """An app with Flask-Security's own pages, and SQLAlchemy behind them."""
    from flask_security import AsaList, RoleMixin, Security, SQLAlchemySessionUserDatastore, UserMixin
    from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Integer, String, Table, create_engine
    from sqlalchemy.ext.mutable import MutableList
    from sqlalchemy.orm import declarative_base, relationship, scoped_session, sessionmaker
    from sqlalchemy.pool import StaticPool

    base = declarative_base()

    class Role(base, RoleMixin):  # type: ignore[misc,valid-type]
        __tablename__ = "role"
        id = Column(Integer, primary_key=True)
        name = Column(String)
        permissions = Column(MutableList.as_mutable(AsaList()))

    columns = (Column("member", ForeignKey("member.id")), Column("role", ForeignKey("role.id")))
    held = Table("roles", base.metadata, *columns)

    class Member(base, UserMixin):  # type: ignore[misc,valid-type]
        __tablename__ = "member"
        id = Column(Integer, primary_key=True)
        email = Column(String)
        password = Column(String)
        active = Column(Boolean)
        fs_uniquifier = Column(String, unique=True)
        confirmed_at = Column(DateTime)
        roles = relationship(Role, secondary=held)

    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    base.metadata.create_all(engine)
    session = scoped_session(sessionmaker(engine))
    base.query = session.query_property()
    app = flask.Flask("members")
    app.config.update(
        SECRET_KEY="not a secret",
        SECURITY_PASSWORD_SALT="not a secret",
        SECURITY_PASSWORD_HASH="plaintext",
        SECURITY_PASSWORD_SINGLE_HASH=True,
        SECURITY_REGISTERABLE=True,
        SECURITY_CONFIRMABLE=confirm,
        SECURITY_SEND_REGISTER_EMAIL=False,
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
        WTF_CSRF_ENABLED=False,
    )
    app.teardown_appcontext(lambda _: session.remove())
    Security(app, SQLAlchemySessionUserDatastore(session, Member, Role))
    return app


@pytest.mark.parametrize("confirm", [True, False], ids=["confirmed by mail", "logged in at once"])
def test_flask_security(confirm: bool, on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """Who registers is known when the account is saved, before and without a login; a failure makes nobody."""
    calls = build(rules="users: {set: {method: login.method, route: login.route}}\n")
    on(PostHogFlaskInstrumentor)
    client = security_app(confirm=confirm).test_client()
    form = {"email": "ada@example.com", "password": "4Kx!horse-battery", "password_confirm": "4Kx!horse-battery"}
    assert client.post("/register", json={**form, "password": "x"}, headers=A).status_code == 400
    assert client.post("/register", json=form, headers=A).status_code == 200

    assert calls.said == [
        ("$identify", "1", {"$anon_distinct_id": ADA, "$set": {"route": "security.register"}}),
    ]
    assert calls.app.runtime.bridge.metrics().get("otel_posthog.api.misused", {}) == {}


# --- FastAPI Users ---------------------------------------------------------------------------------------------------


def users_app() -> fastapi.FastAPI:
    """An app with the routes of FastAPI Users, and a dictionary behind them."""
    from dataclasses import dataclass, field
    from itertools import count

    from fastapi_users import BaseUserManager, FastAPIUsers, IntegerIDMixin, schemas
    from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
    from fastapi_users.db import BaseUserDatabase

    numbers = count(1)

    @dataclass
    class Member:
        email: str
        hashed_password: str
        is_active: bool = True
        is_superuser: bool = False
        is_verified: bool = False
        id: int = field(default_factory=lambda: next(numbers))

    members: dict[int, Member] = {}

    class Database(BaseUserDatabase[Member, int]):
        async def get(self, id: int) -> Member | None:  # noqa: A002
            return members.get(id)

        async def get_by_email(self, email: str) -> Member | None:
            return next((member for member in members.values() if member.email == email), None)

        async def create(self, create_dict: dict[str, Any]) -> Member:
            made = Member(**create_dict)
            members[made.id] = made
            return made

    class Manager(IntegerIDMixin, BaseUserManager[Member, int]):
        """Its hooks are the app's."""

    class Create(schemas.BaseUserCreate):
        """What is asked for."""

    class Read(schemas.BaseUser[int]):
        """What is answered."""

    async def manager() -> Manager:
        return Manager(Database())

    backend = AuthenticationBackend(
        "jwt",
        BearerTransport("login"),
        lambda: JWTStrategy("not a secret, and long enough to be one", 3600),
    )
    users = FastAPIUsers[Member, int](manager, [backend])
    app = fastapi.FastAPI()
    app.include_router(users.get_auth_router(backend))
    app.include_router(users.get_register_router(Read, Create))

    @app.get("/me")
    async def me(user: Any = fastapi.Depends(users.current_user())) -> int:  # noqa: B008
        import otel_posthog

        otel_posthog.capture("asked")
        return user.id

    return app


def test_fastapi_users(on: Callable[..., Any], build: Callable[..., Calls]) -> None:
    """Registration, login, a token in each request, logout; an administrator's registration of others is none."""
    calls = build(rules="users: {set: {method: login.method, route: login.route}}\n")
    on(PostHogFastAPIInstrumentor)
    with TestClient(users_app()) as client:
        ada = {"email": "ada@example.com", "password": "4Kx!horse"}
        assert client.post("/register", json=ada, headers=A).status_code == 201
        assert client.post("/register", json=ada, headers=G).status_code == 400
        form = {"username": ada["email"], "password": ada["password"]}
        token = client.post("/login", data=form, headers=G).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get("/me", headers=bearer).json() == 1
        other = {**ada, "email": "grace@example.com"}
        assert client.post("/register", json=other, headers={**bearer, **A}).status_code == 201
        assert client.post("/logout", headers=bearer).status_code == 204

    assert calls.said == [
        ("$identify", "1", {"$anon_distinct_id": ADA, "$set": {"route": "/register"}}),
        ("$identify", "1", {"$anon_distinct_id": GRACE, "$set": {"method": "jwt"}}),
        ("asked", "1", {}),
    ]
