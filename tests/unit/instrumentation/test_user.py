"""What user objects say, without asking a database."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import pytest

from otel_posthog.instrumentation.user import Login, UserReader, is_known, peek
from otel_posthog.rules.users import UserReference, UsersConfig, UserText

NUMBER = UUID("01990000-0000-7000-8000-000000000001")


class Plain:
    """An ordinary object."""

    id = 7

    def __repr__(self) -> str:
        return "a plain object"

    @property
    def broken(self) -> str:
        """Raises."""
        raise RuntimeError("no")

    def full_name(self) -> str:
        """A method, which is not called."""
        raise AssertionError


def row() -> Any:
    """A row of sqlite3."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found = connection.execute("SELECT 7 AS id, 'owner' AS role").fetchone()
    connection.close()
    return found


def reference(*path: str) -> UserReference:
    """A reference into the user."""
    return UserReference("user", path)


@pytest.mark.parametrize(
    ("user", "person"),
    [
        (Plain(), "7"),
        ({"id": NUMBER}, str(NUMBER)),
        ({"pk": 3}, "3"),
        ({"identity": "ada"}, "ada"),
        pytest.param(row(), "7", id="row"),
        (7, "7"),
        ("ada", "ada"),
        ({"id": 0}, ""),
        ({"id": "anonymous"}, ""),
        ({"id": None, "email": "ada@example.com"}, ""),
        pytest.param(object(), "", id="object"),
        (True, ""),
    ],
    ids=repr,
)
def test_a_user_s_own_id(user: Any, person: str) -> None:
    """Django's primary key, `id`, Starlette's `identity`; never a name or an address, never an illegal id."""
    assert UserReader(UsersConfig()).person(user) == person


@pytest.mark.parametrize(
    ("path", "user", "person"),
    [
        (("uuid",), {"id": 7, "uuid": NUMBER}, str(NUMBER)),
        (("company", "id"), {"company": {"id": 3}}, "3"),
        (("uuid",), {"id": 7}, ""),
        (("broken",), Plain(), ""),
        ((), "ada", "ada"),
        ((), {"id": 7}, ""),
    ],
    ids=repr,
)
def test_a_mapped_id(path: tuple[str, ...], user: Any, person: str) -> None:
    """What the configuration names, and nothing in its place."""
    assert UserReader(UsersConfig(distinct_id=reference(*path))).person(user) == person


@pytest.mark.parametrize(
    ("user", "person"),
    [({"id": 7}, "user-7"), ({"id": None}, ""), ({}, ""), ("ada", "")],
    ids=["there", "empty", "absent", "bare"],
)
def test_an_id_with_text_around_it(user: Any, person: str) -> None:
    """As the app's rules write it; where the reference finds nothing there is nobody, and no half an id."""
    config = UsersConfig(distinct_id=UserText(("user-", reference("id"))))
    assert UserReader(config).person(user) == person


def test_values() -> None:
    """What is missing, `None` or a method is left out; logins and sessions have values of their own."""
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    references = (
        ("role", reference("role")),
        ("missing", reference("missing")),
        ("name", reference("full_name")),
        ("broken", reference("broken")),
        ("user", reference()),
        ("method", UserReference("login", ("method",))),
        ("provider", UserReference("login", ("provider",))),
        ("at", UserReference("login", ("at",))),
        ("plan", UserReference("session", ("plan",))),
    )
    user = Plain()
    user.role = "owner"  # type: ignore[attr-defined]
    reader = UserReader(UsersConfig())

    assert reader.values(references, user, Login("password", at=moment), {"plan": "pro"}) == {
        "role": "owner",
        "method": "password",
        "at": moment,
        "plan": "pro",
    }
    assert reader.values(references, user, None) == {"role": "owner"}


@pytest.mark.parametrize(
    ("user", "known"),
    [
        (None, False),
        ("", False),
        ({"id": 7}, True),
        (7, True),
        (type("Anonymous", (), {"is_authenticated": False})(), False),
        (type("Old", (), {"is_authenticated": lambda self: True})(), True),
    ],
    ids=["none", "empty", "row", "id", "anonymous", "method"],
)
def test_who_is_known(user: Any, known: bool) -> None:
    """A stand-in for a visitor who is not logged in is nobody."""
    assert is_known(user) == known


def test_a_model_of_sqlalchemy() -> None:
    """Of a model only what was loaded is read: no relation, no expired attribute; the key is known all the same."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")
    base = orm.declarative_base()

    class Company(base):  # type: ignore[misc, valid-type]
        __tablename__ = "company"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        name = sqlalchemy.Column(sqlalchemy.String)

    class Account(base):  # type: ignore[misc, valid-type]
        __tablename__ = "account"
        id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
        role = sqlalchemy.Column(sqlalchemy.String)
        company_id = sqlalchemy.Column(sqlalchemy.ForeignKey("company.id"))
        company = orm.relationship(Company)

    engine = sqlalchemy.create_engine("sqlite://")
    base.metadata.create_all(engine)
    asked: list[str] = []
    with orm.Session(engine) as session:
        account = Account(id=7, role="owner", company=Company(id=3, name="acme"))
        session.add(account)
        session.commit()
        sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
        reader = UserReader(UsersConfig())
        expired = (reader.person(account), peek(account, "role"), peek(account, "company"))
        assert (expired, asked) == (("7", None, None), [])
        session.refresh(account)
        asked.clear()
        values = reader.values(
            (("role", reference("role")), ("company", reference("company", "name")), ("key", reference("company_id"))),
            account,
            None,
        )

    engine.dispose()
    assert (values, asked) == ({"role": "owner", "key": 3}, [])


def test_a_model_of_django() -> None:
    """The same of Django's: no deferred field, no relation that was not fetched."""
    from tests.unit.instrumentation.django_project import set_up

    set_up()
    from django.contrib.auth.models import Permission, User
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    User.objects.create_user("ada", "ada@example.com")
    try:
        user = User.objects.defer("email").get(username="ada")
        permission = Permission.objects.first()
        fetched = Permission.objects.select_related("content_type").first()
        with CaptureQueriesContext(connection) as queries:
            assert peek(user, "pk") == user.pk
            assert [peek(user, name) for name in ("username", "email", "groups", "logentry_set")] == [
                "ada",
                None,
                None,
                None,
            ]
            assert (peek(permission, "content_type"), peek(permission, "content_type_id")) == (
                None,
                permission.content_type_id,
            )
            assert peek(fetched, "content_type") is not None
        assert len(queries) == 0
    finally:
        User.objects.all().delete()
