"""The snippets of the seed documents run on the façades, and give what they promise."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from tests.seeds.expected import EXPECTED, INSTALLATION, USER, USER_ONCE, Outcome
from tests.seeds.extract import as_json, committed, snippets_in
from tests.seeds.running import CONTEXT, Run, run_all
from tests.seeds.table import FILE, table

pytest.importorskip("flask_login")
pytest.importorskip("posthog")
pytestmark = pytest.mark.timeout(300)

SNIPPETS = committed()
RUN = [each.name for each in SNIPPETS if each.kind == "python" and not each.later]


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """All of them, once in each state."""
    return run_all()


def outcome_of(run: Run, name: str) -> Outcome:
    """What came of one snippet."""
    said = run.outcomes[name]
    return Outcome(
        person=said.get("person"),
        nobody=said.get("nobody"),
        names=said.get("names"),
        events=tuple(run.events(name)),
        flag_calls=tuple(run.flag_calls(name)),
    )


def test_committed_snippets_are_those_of_the_documents(seed_documents: Path) -> None:
    """What is kept here is what the documents hold, to the letter."""
    assert as_json(snippets_in(seed_documents)) == as_json(SNIPPETS)


def test_every_snippet_runs_or_says_why_not() -> None:
    """Nothing is left out silently: each one has an expected outcome, or names what covers it."""
    assert [each.name for each in SNIPPETS if each.kind == "python" and each.name not in EXPECTED] == []
    assert list(EXPECTED) == RUN
    assert [each.name for each in SNIPPETS if each.kind == "definition" and not each.later] == []
    assert {each.kind for each in SNIPPETS} == {"python", "template", "definition"}


def test_table() -> None:
    """The table is what the snippets and their outcomes make of it."""
    assert FILE.read_text(encoding="utf-8") == table()


@pytest.mark.parametrize("state", ["on", "off", "down"])
@pytest.mark.parametrize("name", RUN)
def test_outcome(runs: dict[str, Run], name: str, state: str) -> None:
    """Pages, values, events and flag calls are the right ones, whole."""
    assert outcome_of(runs[state], name) == EXPECTED[name][state]


@pytest.mark.parametrize("name", RUN)
def test_with_the_gate_shut(runs: dict[str, Run], name: str) -> None:
    """The app is as where PostHog gives no answer, and nothing is sent."""
    expected = EXPECTED[name]["down"]

    found = outcome_of(runs["shut"], name)

    assert (found.person, found.nobody, found.names) == (expected.person, expected.nobody, expected.names)
    assert (found.events, found.flag_calls) == ((), ())


def test_nothing_arrives_with_the_gate_shut(runs: dict[str, Run]) -> None:
    """No event of anybody, and PostHog's package is not even loaded."""
    assert (runs["shut"].stored, runs["shut"].posthog_loaded, runs["shut"].said) == ({}, False, "")


def test_people_and_groups(runs: dict[str, Run]) -> None:
    """What PostHog makes of it: people with their properties, none inside of another; groups with theirs."""
    people = {name: found for name, found in runs["on"].people.items() if found}
    more = {"auth_method": "oidc", "last_seen": "2025-10-20 10:30:00", "first_seen_python_version": "3.12.0"}
    first = {"first_seen_version": "2.8.0", "first_seen_platform": "Linux"}

    assert people == {
        "PostHog-Enhancements:122": {**USER, **USER_ONCE},
        "PostHog-Enhancements:137": {**INSTALLATION, **first},
        "PostHog-Advanced:23": {**USER, **USER_ONCE},
        "PostHog-Advanced:48": {**INSTALLATION, **first, **more},
    }
    assert runs["on"].groups == {
        ("platform", "Linux"): {"platform_name": "Linux", "platform_release": "5.15.0"},
        ("team", "acme"): {},
        ("version", "3.0.0"): {"python_versions": ["3.12.0", "3.11.5"], "version_number": "3.0.0"},
    }


@pytest.mark.parametrize("state", ["on", "off", "down"])
def test_nobody_is_made_up(runs: dict[str, Run], state: str) -> None:
    """There is no person per call: beside the users there are only the errors that nobody's visits caused."""
    run = runs[state]
    others = [each for name, events in run.stored.items() if name not in EXPECTED for each in events]

    assert [(each["event"], each["person_mode"]) for each in others] == [("$exception", "propertyless")] * 2
    assert run.refused == []


def test_context_of_events(runs: dict[str, Run]) -> None:
    """What two snippets list as the context of all events is on those of their requests."""
    run = runs["on"]
    shop = {"app_version": "3.0.0", "environment": "production", "deployment_method": "docker"}
    carried: dict[str, dict[str, Any]] = {}
    for name in ("PostHog-Enhancements:191", "PostHog-Enhancements:203"):
        (event,) = run.stored[name]
        listed = run.outcomes[name]["data"]
        carried[name] = {key: event["properties"].get(key) for key in listed}
        assert set(event["properties"]) == CONTEXT

    assert carried == {
        "PostHog-Enhancements:191": {
            "$current_url": "https://app.example.com/dashboard",
            "$browser": "Chrome",
            "$device_type": "Desktop",  # as posthog-js spells it
            "$os": "Linux",
            **shop,
        },
        "PostHog-Enhancements:203": {
            **shop,
            "platform": {"Darwin": "macOS"}.get(platform.system(), platform.system()),
            "python_version": platform.python_version(),
        },
    }
