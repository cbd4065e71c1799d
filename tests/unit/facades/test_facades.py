"""The façades: what they send, for whom, what becomes of bad input, and that they are off with the gate."""

from __future__ import annotations

import asyncio
import inspect
import sys
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

import otel_posthog
from otel_posthog import facades, flags
from otel_posthog.emulator import Emulator
from otel_posthog.facades.whose import id_of
from tests.unit.api.conftest import COMMON

MORE = {"$ignore_sent_at", "$process_person_profile"}
ADA = SimpleNamespace(id=7, pk=7)
NOBODY = SimpleNamespace(id=None, pk=None, is_authenticated=False)

Said = tuple[str, str, dict[str, Any]]


def said(emulator: Emulator) -> list[Said]:
    """Name, person ("" for personless events) and own properties of everything that arrived, by name and person."""
    assert otel_posthog.flush(30)
    found: list[Said] = []
    for event in emulator.events():
        own = {name: value for name, value in event["properties"].items() if name not in COMMON | MORE}
        found.append((event["event"], event["distinct_id"] if event["person_mode"] == "full" else "", own))
    return sorted(found, key=lambda each: each[:2])


class Gone:
    """A model whose row has been deleted."""

    @property
    def pk(self) -> int:
        """Asks the database."""
        raise LookupError("gone")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (7, 7),
        ("ada", "ada"),
        (UUID(int=5), UUID(int=5)),
        (None, None),
        (ADA, 7),
        (SimpleNamespace(id="ada"), "ada"),
        (SimpleNamespace(pk=3, id=4), 3),
        (NOBODY, None),
        (SimpleNamespace(is_authenticated=False), None),
    ],
)
def test_whose(user: Any, expected: Any) -> None:
    """Objects are who their primary key says; an anonymous user is nobody."""
    assert id_of(user) == expected


@pytest.mark.parametrize("user", [Gone(), object(), True, 1.5, ["ada"], {"id": 1}, b"ada"])
def test_no_user(user: Any) -> None:
    """What is neither a user nor an id stays what it is, so that the call complains about it."""
    assert id_of(user) is user


@pytest.mark.usefixtures("running")
def test_track_event(emulator: Emulator) -> None:
    """Users, ids, and nobody, who is not a new person; the caller's dict stays as it was."""
    properties = {"team_slug": "acme", "count": 2, "exact": True}

    for user in (ADA, "grace", None, NOBODY):
        assert facades.track_event(user, "exported", properties)
    otel_posthog.identify("current")
    facades.track_event(None, "exported")

    assert properties == {"team_slug": "acme", "count": 2, "exact": True}
    assert said(emulator) == [
        ("exported", "", properties),
        ("exported", "", properties),
        ("exported", "7", properties),
        ("exported", "current", {}),
        ("exported", "grace", properties),
    ]
    assert sorted(name for person in emulator.persons() for name in person["distinct_ids"]) == ["7", "current", "grace"]


@pytest.mark.usefixtures("running")
def test_identify_user(emulator: Emulator) -> None:
    """Plain properties and the older SDKs' wrapper; from now on the work is theirs."""
    facades.identify_user(ADA, {"role": "admin"})
    facades.identify_user(7, {"$set": {"role": "owner"}, "$set_once": {"first": "2026"}})
    facades.identify_user(NOBODY, {"role": "nobody"})
    otel_posthog.capture("done")

    assert said(emulator) == [
        ("$set", "7", {"$set": {"role": "admin"}}),
        ("$set", "7", {"$set": {"role": "owner"}, "$set_once": {"first": "2026"}}),
        ("done", "7", {}),
    ]
    person = emulator.person("7")
    assert person is not None
    assert person["properties"] == {"role": "owner", "first": "2026"}


@pytest.mark.usefixtures("running")
def test_identify_somebody_else(emulator: Emulator) -> None:
    """An admin who makes an account stays who the request is for, and nobody is merged."""
    with otel_posthog.scope(distinct_id="admin"):
        facades.identify_user("new", {"role": "member"})
        otel_posthog.capture("account made")
        facades.track_event("new", "invited")

    assert said(emulator) == [
        ("$set", "new", {"$set": {"role": "member"}}),
        ("account made", "admin", {}),
        ("invited", "new", {}),
    ]


@pytest.mark.usefixtures("running")
def test_group_identify(emulator: Emulator) -> None:
    """The group has its properties, and what follows belongs to it."""
    facades.group_identify(group_type="team", group_key="acme", properties={"plan": "pro"})
    facades.track_event("ada", "exported")

    update = {"$groups": {"team": "acme"}, "$group_type": "team", "$group_key": "acme", "$group_set": {"plan": "pro"}}
    assert said(emulator) == [
        ("$groupidentify", "$team_acme", update),
        ("exported", "ada", {"$groups": {"team": "acme"}}),
    ]


@pytest.mark.usefixtures("running")
def test_flags(emulator: Emulator) -> None:
    """Each question, by id and by user; a flag that says no beats `default=True`, and a missing one does not."""
    assert facades.get_feature_flag(ADA, "new-dashboard") is True
    assert facades.get_feature_flag(7, "enable-exports", default=True) is False
    assert facades.get_feature_flag(7, "unheard-of", default=True) is True
    assert facades.is_feature_enabled("new-dashboard", ADA) is True
    assert facades.is_feature_enabled("acme-only", "grace", groups={"company": "acme"}) is True
    with otel_posthog.scope(groups={"company": "acme"}):
        assert facades.is_feature_enabled("acme-only", "grace") is True
    assert facades.get_feature_flag_payload(ADA, "dashboard-config") == {"theme": "dark", "widgets": [1, 2]}
    assert facades.get_feature_flag_payload(ADA, "a-list") == [1, 2]
    assert facades.get_feature_flag_payload(ADA, "enable-exports") == {}
    every = facades.get_all_feature_flags(ADA)
    assert (every["new-dashboard"], every["enable-exports"]) == (True, False)
    assert facades.get_active_experiments(ADA) == {"timer-ui-experiment": "variant-b"}
    assert facades.inject_feature_flags_to_frontend(ADA) == every
    assert facades.inject_feature_flags_to_frontend(ADA, booleans=True)["timer-ui-experiment"] is True

    assert otel_posthog.flush(30)
    assert emulator.flag_calls()["enable-exports"] == {False: 1}


@pytest.mark.usefixtures("running")
def test_interaction(emulator: Emulator) -> None:
    """It is the user's event, with the flag and what was done."""
    facades.track_feature_flag_interaction(ADA, "new-dashboard", "clicked", {"rows": 100})

    assert said(emulator) == [
        ("feature_interaction", "7", {"feature_flag": "new-dashboard", "action": "clicked", "rows": 100})
    ]


@pytest.mark.usefixtures("running")
def test_guard_outside_of_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions and coroutine functions keep their kind and name; others than those who may get an exception."""
    monkeypatch.delitem(sys.modules, "flask_login", raising=False)
    for module in ("flask", "starlette"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    @facades.feature_flag_required("new-dashboard")
    def view(number: int) -> int:
        return number

    @facades.feature_flag_required("new-dashboard")
    async def view_async(number: int) -> int:
        return number

    assert (view.__name__, view_async.__name__) == ("view", "view_async")
    assert inspect.iscoroutinefunction(view_async)
    with otel_posthog.scope(distinct_id="ada"):
        assert view(3) == 3
        assert asyncio.run(view_async(4)) == 4
    with otel_posthog.scope(), pytest.raises(flags.FlagRequiredError):
        view(3)


def test_guard_sends_elsewhere() -> None:
    """In Flask, nobody goes where `redirect_to` says, or gets 403; with the gate shut everybody does."""
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    app.get("/there")(facades.feature_flag_required("new-dashboard", redirect_to="/old")(lambda: "new"))
    app.get("/closed", endpoint="closed")(facades.feature_flag_required("new-dashboard")(lambda: "new"))

    there, closed = app.test_client().get("/there"), app.test_client().get("/closed")

    assert (there.status_code, there.location, closed.status_code) == (302, "/old", 403)


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("user", [object(), True, ["ada"], Gone(), ""])
@pytest.mark.parametrize("properties", [None, 5, "text", {1: object()}])
def test_bad_input(emulator: Emulator, user: Any, properties: Any) -> None:
    """Nothing raises; an event without a person is kept, and an update of nobody is not made."""
    facades.identify_user(user, properties)
    facades.group_identify("", None, properties)  # type: ignore[arg-type]
    facades.track_event(user, "", properties)
    facades.track_event(user, "kept", properties)
    facades.track_feature_flag_interaction(user, "", "", properties)
    assert facades.get_feature_flag(user, "", default=True) is True
    assert facades.get_feature_flag(user, "new-dashboard") is False
    assert facades.is_feature_enabled("new-dashboard", user, groups=5) is False  # type: ignore[arg-type]
    assert facades.get_feature_flag_payload(user, "dashboard-config") == {}
    assert facades.get_all_feature_flags(user) == {}
    assert facades.get_active_experiments(user) == {}
    assert facades.inject_feature_flags_to_frontend(user) == {}

    assert [(name, person) for name, person, _ in said(emulator)] == [("kept", "")]  # no key, no interaction


def test_off(emulator: Emulator) -> None:
    """With the gate shut every call returns at once with what says that there is nothing."""
    assert facades.track_event(ADA, "exported") is None
    assert facades.identify_user(ADA, {"role": "admin"}) is None
    assert facades.group_identify("team", "acme", {"plan": "pro"}) is None
    assert facades.track_feature_flag_interaction(ADA, "new-dashboard", "clicked") is None
    assert facades.get_feature_flag(ADA, "new-dashboard") is False
    assert facades.get_feature_flag(ADA, "new-dashboard", default=True) is True
    assert facades.is_feature_enabled("new-dashboard", ADA) is False
    assert facades.get_feature_flag_payload(ADA, "dashboard-config") == {}
    assert facades.get_all_feature_flags(ADA) == {}
    assert facades.get_active_experiments(ADA) == {}
    assert facades.inject_feature_flags_to_frontend(ADA) == {}
    assert emulator.events() == []


def test_every_name_is_there() -> None:
    """What the package lists is what it has, with words about it."""
    assert [name for name in facades.__all__ if not inspect.getdoc(getattr(facades, name))] == []
