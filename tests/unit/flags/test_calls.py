"""Questions about flags, answered by PostHog or by its SDK in the process; the real SDK against the emulator."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from requests import Session

from otel_posthog import flags
from otel_posthog.api.capture import capture
from otel_posthog.api.control import flush
from otel_posthog.api.held import super_properties
from otel_posthog.api.people import identify
from otel_posthog.api.process import process
from otel_posthog.context import working
from otel_posthog.context.ambient import Ambient
from otel_posthog.emulator import Emulator
from otel_posthog.observe import Guard
from tests.unit.flags.conftest import Calls, Start, heard

both = pytest.mark.parametrize("way", ["running", "local"])


def questions(emulator: Emulator) -> int:
    """How often `/flags` was asked."""
    return emulator.stats()["flag_requests"]["evaluations"]


@both
def test_enabled(way: str, request: pytest.FixtureRequest, emulator: Emulator) -> None:
    """On, off, a variant (which is on), and a flag that nobody knows."""
    request.getfixturevalue(way)

    assert flags.enabled("new-dashboard", "ada") is True
    assert flags.enabled("beta-features", "ada") is False
    assert flags.enabled("timer-ui-experiment", "ada") is True
    assert flags.enabled("no-such-flag", "ada") is False
    assert flags.enabled("no-such-flag", "ada", default=True) is True


@both
def test_a_kill_switch_fires(way: str, request: pytest.FixtureRequest) -> None:
    """PostHog's no beats `default=True`: the default counts where there is no answer, and nowhere else."""
    request.getfixturevalue(way)

    assert flags.enabled("enable-exports", "ada", default=True) is False
    assert flags.variant("enable-exports", "ada", default="control") is False


@both
def test_variants_payloads_and_configuration(way: str, request: pytest.FixtureRequest) -> None:
    """Payloads come as what their JSON says; a configuration is a mapping, whatever comes."""
    request.getfixturevalue(way)

    assert flags.variant("timer-ui-experiment", "ada") == "variant-b"
    assert flags.variant("new-dashboard", "ada") is True
    assert flags.variant("no-such-flag", "ada") is None
    assert flags.payload("timer-ui-experiment", "ada") == {"colour": "blue"}
    assert flags.payload("new-dashboard", "ada", default="none") == "none"
    assert flags.config("dashboard-config", "ada", default={"theme": "light", "size": 3}) == {
        "theme": "dark",
        "widgets": [1, 2],
        "size": 3,
    }
    assert flags.config("no-such-flag", "ada").get("theme", "light") == "light"
    assert flags.config("a-list", "ada", default={"a": 1}) == {"a": 1}


@both
def test_all_flags_cost_one_question(
    way: str, request: pytest.FixtureRequest, emulator: Emulator, calls: Calls
) -> None:
    """A listing is one request, and tells PostHog nothing: nobody was given a value."""
    request.getfixturevalue(way)

    found = flags.all("ada")

    # Also in the process: some flags want properties that only PostHog knows.
    assert questions(emulator) == 1
    assert found["new-dashboard"] is True
    assert found["beta-features"] is False
    assert found["timer-ui-experiment"] == "variant-b"
    assert flags.experiments("ada") == {"timer-ui-experiment": "variant-b"}
    assert calls() == []


@both
def test_what_posthog_is_told(way: str, request: pytest.FixtureRequest, calls: Calls) -> None:
    """One `$feature_flag_called` for each answer, however often it is asked for, with what PostHog's SDK says of it."""
    request.getfixturevalue(way)

    for _ in range(3):
        flags.enabled("new-dashboard", "ada")
        flags.variant("timer-ui-experiment", "ada", groups={"company": "acme"})
    flags.enabled("no-such-flag", "ada")

    told = calls()
    assert [(event["distinct_id"], event["properties"]["$feature_flag"]) for event in told] == [
        ("ada", "new-dashboard"),
        ("ada", "timer-ui-experiment"),
        ("ada", "no-such-flag"),
    ]
    first, second, third = (event["properties"] for event in told)
    assert first["$feature_flag_response"] is True
    assert first["$feature/new-dashboard"] is True
    assert first["locally_evaluated"] is (way == "local")
    assert first["$feature_flag_id"] > 0
    assert first["$feature_flag_version"] > 0
    assert first["$feature_flag_reason"]
    assert first["$lib"] == "otel-posthog"
    assert first["service_name"] == "shop"
    assert "$process_person_profile" not in first
    assert ("$feature_flag_request_id" in first) is (way == "running")
    assert second["$feature_flag_response"] == "variant-b"
    assert second["$feature_flag_payload"] == {"colour": "blue"}
    assert second["$groups"] == {"company": "acme"}
    assert third["$feature_flag_error"] == "flag_missing"
    assert "$feature_flag_response" not in third


@both
def test_the_context_says_for_whom(way: str, request: pytest.FixtureRequest, calls: Calls) -> None:
    """Person and groups of the request at hand, without being named again."""
    request.getfixturevalue(way)

    with working(Ambient(distinct_id="grace", groups={"company": "acme"})):
        assert flags.enabled("acme-only") is True
    with working(Ambient(distinct_id="grace", groups={"company": "globex"})):
        assert flags.enabled("acme-only") is False

    told = [(event["distinct_id"], event["properties"]["$groups"]) for event in calls()]
    assert told == [("grace", {"company": "acme"}), ("grace", {"company": "globex"})]


@both
def test_targeting_by_properties(way: str, request: pytest.FixtureRequest) -> None:
    """Of the person, of the super properties around, and of a group."""
    request.getfixturevalue(way)

    assert flags.enabled("admin-tools", "ada", person_properties={"is_admin": True}) is True
    assert flags.enabled("admin-tools", "ada", person_properties={"is_admin": False}) is False
    with super_properties(deployment_method="docker"):
        assert flags.enabled("docker-optimizations", "ada") is True
    assert flags.enabled("docker-optimizations", "ada") is False
    rich = {"company": {"plan": "enterprise"}}
    assert flags.enabled("rich-companies", "ada", groups={"company": "acme"}, group_properties=rich) is True
    assert (
        flags.enabled("rich-companies", "ada", groups={"company": "globex"}, group_properties={"company": {}}) is False
    )


@both
@pytest.mark.parametrize("key", ["0", "user", 7])
def test_keys_of_groups_are_no_persons(way: str, request: pytest.FixtureRequest, emulator: Emulator, key: Any) -> None:
    """What is illegal as a person's id is fine for a company, and a number is its text."""
    request.getfixturevalue(way)
    emulator.flags = {
        "group_types": ["company"],
        "flags": {"only": {"group": "company", "conditions": [{"properties": {"$group_key": str(key)}}]}},
    }

    assert flags.enabled("only", "ada", groups={"company": key}) is True
    assert flags.enabled("only", "ada", groups={"company": "other"}) is False


@pytest.mark.parametrize("about", ["groups", "person_properties", "group_properties"])
@pytest.mark.parametrize("wrong", [7, "text", [1], {"a": object()}, {1: 2}])
def test_wrong_types_beside_the_question(running: None, about: str, wrong: Any) -> None:
    """Complained about and left aside; the question is answered."""
    assert flags.enabled("new-dashboard", "ada", default=False, **{about: wrong}) is True


def test_a_percentage_is_stable(local: None, emulator: Emulator) -> None:
    """A tenth of the people, always the same ones; who is in at 10 % is in at 50 %, since PostHog hashes the id."""
    people = [f"person-{number}" for number in range(1_000)]
    chosen = {person for person in people if flags.enabled("tenth", person)}

    assert 60 < len(chosen) < 140
    assert chosen == {person for person in people if flags.enabled("tenth", person)}
    assert questions(emulator) == 0


@both
def test_later_events_of_the_work_say_the_value(way: str, request: pytest.FixtureRequest, emulator: Emulator) -> None:
    """Events after the question, and not those before it, nor those of other work."""
    request.getfixturevalue(way)
    with working(Ambient(distinct_id="grace")):
        capture("before")
        flags.variant("timer-ui-experiment")
        flags.enabled("beta-features")
        flags.enabled("new-dashboard", "somebody-else")
        capture("after")
    with working(Ambient(distinct_id="ada")):
        capture("elsewhere")

    assert flush(30)
    said = {
        event["event"]: {key: value for key, value in event["properties"].items() if "feature" in key}
        for event in emulator.events()
        if not event["event"].startswith("$")
    }
    assert said == {
        "before": {},
        "after": {
            "$feature/timer-ui-experiment": "variant-b",
            "$feature/beta-features": False,
            "$active_feature_flags": ["timer-ui-experiment"],
        },
        "elsewhere": {},
    }


def test_one_request_asks_once(running: None, emulator: Emulator, tracer: trace.Tracer) -> None:
    """Ten checks of one trace are one question; another trace asks again, and so does another person."""
    with tracer.start_as_current_span("GET /"):
        for key in ("new-dashboard", "beta-features", "timer-ui-experiment", "no-such-flag") * 3:
            flags.enabled(key, "ada")
        assert questions(emulator) == 1
        flags.enabled("new-dashboard", "grace")
        assert questions(emulator) == 2
    with tracer.start_as_current_span("GET /"):
        flags.enabled("new-dashboard", "ada")
    assert questions(emulator) == 3


def test_identity_of_the_span(running: None, tracer: trace.Tracer, calls: Calls) -> None:
    """Where nothing was identified, the span's own identity counts; then the visitor's."""
    with tracer.start_as_current_span("GET /", attributes={"user.id": "u-17"}):
        assert flags.enabled("new-dashboard") is True
    with tracer.start_as_current_span("GET /", attributes={"enduser.pseudo.id": "visitor-4"}):
        assert flags.enabled("new-dashboard") is True
    with tracer.start_as_current_span("GET /"):
        identify("ada")
        assert flags.enabled("new-dashboard") is True

    assert [event["distinct_id"] for event in calls()] == ["u-17", "visitor-4", "ada"]


@pytest.mark.parametrize("key", ["", "  ", None, 7, "x" * 401])
def test_a_key_that_is_none(running: None, key: Any) -> None:
    """The default, and no exception."""
    assert flags.enabled(key, "ada", default=True) is True
    assert flags.stats().unanswered == {"misuse": 1}


class Mute:
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_a_key_without_a_text(running: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No exception whatever is asked for, and nobody's data in the log."""
    monkeypatch.setattr(process, "guard", Guard())
    heard(monkeypatch)
    with caplog.at_level(logging.WARNING, "otel_posthog"):
        assert flags.enabled(Mute(), "ada", default=True) is True  # pyright: ignore[reportArgumentType]
        assert flags.interaction(Mute(), distinct_id="ada") is None  # pyright: ignore[reportArgumentType]
        assert flags.enabled("new-dashboard", ["ada@shop.example"]) is False  # pyright: ignore[reportArgumentType]
    assert [record.getMessage() for record in caplog.records] == [
        "otel-posthog: Mute is no key of a flag",
        "otel-posthog: flags were asked for list, which is no distinct id",
    ]


@pytest.mark.parametrize(
    "value", [float("nan"), b"\xff", 10**400, "\ud800", [float("inf")]], ids=["nan", "raw", "huge", "half", "list"]
)
def test_what_json_cannot_hold(running: None, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that has no JSON costs itself: neither the answer nor those of everybody else."""
    about: Any = {
        "person_properties": {"is_admin": True, "odd": value},
        "group_properties": {"company": {"odd": value}},
    }
    sent: list[str] = []
    post = Session.post
    monkeypatch.setattr(
        Session, "post", lambda self, *args, **more: sent.append(str(more["data"])) or post(self, *args, **more)
    )

    assert flags.enabled("admin-tools", "ada", groups={"company": "\ud800"}, **about) is True
    assert flags.stats().answered == {"remote": 1}
    assert [json.loads(text, parse_constant=pytest.fail)["distinct_id"] for text in sent] == ["ada"]
    assert "\\ud8" not in sent[0]


@pytest.mark.parametrize("person", ["", "anonymous", "null", [], object()])
def test_a_person_that_is_none(running: None, person: Any, emulator: Emulator) -> None:
    """PostHog is not asked for somebody who is everybody."""
    assert flags.enabled("new-dashboard", person, default=False) is False
    assert flags.enabled("new-dashboard") is False
    assert flags.stats().unanswered == {"no_person": 2}
    assert questions(emulator) == 0


def test_ids_as_apps_have_them(running: None, calls: Calls) -> None:
    """The number of a user is its text."""
    assert flags.enabled("new-dashboard", 42) is True
    assert [event["distinct_id"] for event in calls()] == ["42"]


def test_interaction(running: None, emulator: Emulator) -> None:
    """The seed's event, with the value that the work was given."""
    with working(Ambient(distinct_id="ada")):
        flags.enabled("new-dashboard")
        assert flags.interaction("new-dashboard", "clicked_export_button", {"export_type": "csv", "rows": 100})

    assert flush(30)
    (event,) = emulator.events(event="feature_interaction")
    said = {key: event["properties"][key] for key in ("feature_flag", "action", "export_type", "rows")}
    assert said == {
        "feature_flag": "new-dashboard",
        "action": "clicked_export_button",
        "export_type": "csv",
        "rows": 100,
    }
    assert event["properties"]["$feature/new-dashboard"] is True
    assert event["distinct_id"] == "ada"


@pytest.mark.parametrize("wrong", [7, "text", [1], object()])
def test_wrong_types_of_what_is_given(running: None, emulator: Emulator, wrong: Any) -> None:
    """A configuration stays a mapping, and an interaction an event."""
    assert flags.config("no-such-flag", "ada", default=wrong) == {}
    assert flags.interaction("new-dashboard", properties=wrong, distinct_id="ada")

    assert flush(30)
    assert [event["properties"]["feature_flag"] for event in emulator.events(event="feature_interaction")] == [
        "new-dashboard"
    ]


def test_details(running: None) -> None:
    """Who answered, and why."""
    answer = flags.details("timer-ui-experiment", "ada")

    assert (answer.value, answer.payload, answer.source) == ("variant-b", {"colour": "blue"}, "remote")
    assert answer.reason
    assert flags.details("no-such-flag", "ada") == flags.Answer("no-such-flag", reason="missing")


def test_off(start: Start, monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> None:
    """Behind the gate every question gets its default, at once and without `posthog` being loaded."""
    assert flags.enabled("new-dashboard", "ada") is False
    assert flags.variant("new-dashboard", "ada", default="control") == "control"
    assert flags.config("dashboard-config", "ada", default={"a": 1}) == {"a": 1}
    assert flags.all("ada") == {}
    assert flags.bootstrap("ada") == {"featureFlags": {}}
    assert flags.interaction("new-dashboard") is None
    assert flags.stats().unanswered["off"] == 5
    assert questions(emulator) == 0


def test_switched_off(start: Start, emulator: Emulator) -> None:
    """`OTEL_POSTHOG_FLAGS=false` leaves everything else on."""
    start(flags="false")

    assert flags.enabled("new-dashboard", "ada", default=True) is True
    assert capture("seen", distinct_id="ada")
    assert flush(30)
    assert [event["event"] for event in emulator.events()] == ["seen"]
    assert questions(emulator) == 0


def test_nothing_is_loaded_before_it_is_needed() -> None:
    """The room is a name until a question comes; `posthog` stays out until one has somebody to be asked."""
    code = """
import sys
from otel_posthog import flags
assert not [name for name in sys.modules if name.startswith("otel_posthog.flags.")], sys.modules
assert flags.enabled("new-dashboard", "ada", default=True) is True
assert flags.variant("new-dashboard") is None
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"posthog", "requests", "flask", "django", "starlette", "openfeature"}, loaded
assert "opentelemetry.sdk" not in sys.modules
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "COV_"))}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
