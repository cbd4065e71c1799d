"""What is remembered of people, and for how many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import otel_posthog
from otel_posthog import assembly
from otel_posthog.config.settings import BrowserConfig, Mode, Secret
from otel_posthog.errors import RulesError
from otel_posthog.instrumentation import people as module
from otel_posthog.instrumentation.people import People, people_of
from otel_posthog.instrumentation.user import Login
from otel_posthog.rules.users import UsersConfig
from tests.unit.api.conftest import Calls
from tests.unit.instrumentation.conftest import ADA, GRACE, people


def the_people() -> People:
    """Those of the process."""
    runtime = assembly.current()
    assert runtime is not None
    return people_of(runtime)


def visit(who: People, user: Any, *, browser: str = "", login: bool = False) -> None:
    """One request of a user."""
    request = who.arrive((browser or None, None, None), None)
    request.begin()
    try:
        if login:
            who.logged_in(request, user, Login())
        else:
            who.seen(request, user, silent=True)
        otel_posthog.capture("acted")
    finally:
        request.end()


def test_a_visitor_becomes_one_person_only(calls: Calls) -> None:
    """Who comes next to the same browser is not merged with whoever was there before."""
    who = the_people()
    visit(who, {"id": 1}, browser=ADA, login=True)
    visit(who, {"id": 2}, browser=ADA, login=True)
    visit(who, {"id": 1}, browser=GRACE, login=True)

    merged = [(person, own["$anon_distinct_id"]) for name, person, own in calls.said if name == "$identify"]
    assert merged == [("1", ADA), ("1", GRACE)]


def test_the_id_of_a_person_is_no_visitor(calls: Calls) -> None:
    """Users with UUIDs of version 7: the browser may still name the one who left."""
    who = the_people()
    visit(who, {"id": ADA}, login=True)
    visit(who, {"id": GRACE}, browser=ADA, login=True)

    assert people(calls) == [("acted", ADA), ("acted", GRACE)]


def test_rules_that_name_people_are_not_contradicted(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is identified by an id beside the one that the rules write; the log says why, and what to write."""
    runtime = assembly.current()
    assert runtime is not None
    with caplog.at_level("INFO", "otel_posthog"):
        who = People(UsersConfig(stands_back=True), trusted=True, project_key="", guard=runtime.guard)
    visit(who, {"id": 7}, login=True)
    visit(who, {"id": 7})

    assert people(calls) == [("acted", ""), ("acted", "")]
    assert who.sources.g == who.sources.state == ()


def test_memory_is_bounded(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are remembered."""
    monkeypatch.setattr(module, "_KEPT", 3)
    who = the_people()
    for number in range(1, 10):
        visit(who, {"id": number}, browser=f"01990000-0000-7000-8000-00000000001{number}")

    assert list(who._properties) == ["7", "8", "9"]
    assert list(who._merged.values()) == ["7", "8", "9"]


def test_headers_are_not_believed(build: Callable[..., Calls]) -> None:
    """By configuration nothing that a browser says counts."""
    from otel_posthog.config.settings import IdentityConfig

    calls = build(identity=IdentityConfig(headers=False))
    visit(the_people(), {"id": 1}, browser=ADA, login=True)
    visit(the_people(), None, browser=ADA)

    assert people(calls) == [("acted", "1"), ("acted", "")]


@pytest.mark.parametrize(
    ("mode", "pages", "key"),
    [
        (Mode.DIRECT, BrowserConfig(), "phc_test"),
        (Mode.COLLECTOR, BrowserConfig(), ""),
        (Mode.COLLECTOR, BrowserConfig(host="https://eu.i.posthog.com", token=Secret("phc_pages")), "phc_pages"),
    ],
    ids=["direct", "collector", "collector with pages"],
)
def test_whose_cookie_it_is(mode: Mode, pages: BrowserConfig, key: str, build: Callable[..., Calls]) -> None:
    """That of the project that pages name: behind a Collector the process knows of no other."""
    runtime = build(mode=mode).app.runtime

    assert people_of(replace(runtime, settings=replace(runtime.settings, browser=pages)))._project_key == key


def test_a_user_without_an_id_is_said_once(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is identified, and the log says what to write."""
    for _ in range(3):
        visit(the_people(), {"name": "Ada"})

    assert people(calls) == [("acted", "")] * 3
    assert calls.misused == {"user_id": 3}


BEFORE = "users:\n  set: {role: role}\n  sources: g.member\n"
AFTER = "users:\n  distinct_id: 'user-{user.id}'\n  set: {plan: plan}\n  sources: [session.account, g.user]\n"
RULES = "rules:\n  - {name: checkouts, match: {name: checkout}, capture: paid, distinct_id: '{user.id}'}\n"
USER = {"id": 7, "role": "owner", "plan": "pro"}


def test_it_follows_the_rules(build: Callable[..., Calls], caplog: pytest.LogCaptureFixture) -> None:
    """After a reload people are who the new section says; a wrong one changes nothing; none stands back."""
    calls = build(rules=BEFORE)
    runtime = assembly.current()
    assert runtime is not None
    file = Path(runtime.settings.rules.path)
    who = the_people()

    def reload(text: str) -> None:
        file.write_text(text, encoding="utf-8")
        now = assembly.current()
        assert now is not None
        assembly.reload(now.settings)

    visit(who, USER, login=True)
    reload(AFTER)
    assert who is the_people()
    assert (who.sources.session, who.sources.g) == (("account",), ("user",))
    visit(who, USER, login=True)
    with pytest.raises(RulesError):
        reload("users:\n  set: {role: '{x}'}\n")
    visit(who, USER)
    with caplog.at_level("INFO", "otel_posthog"):
        reload(RULES)
    visit(who, USER, login=True)

    assert calls.said == [
        ("$set", "7", {"$set": {"role": "owner"}}),
        ("acted", "7", {}),
        ("$set", "user-7", {"$set": {"plan": "pro"}}),
        ("acted", "user-7", {}),
        ("acted", "user-7", {}),
        ("acted", "", {}),
    ]
    assert "rules say who people are" in caplog.text
