"""Which ids may become somebody's: those that are certainly a visitor's."""

from __future__ import annotations

from typing import Any

import pytest

import otel_posthog
from otel_posthog.context import Ambient, working
from otel_posthog.instrumentation import browser
from otel_posthog.instrumentation.people import People
from otel_posthog.observe import Guard
from otel_posthog.rules.users import UsersConfig

VISITOR = "01920000-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("ambient", "said"),
    [
        (Ambient(anonymous_id="anon-1"), [("$identify", "ada", {"$anon_distinct_id": "anon-1"})]),
        (Ambient(anonymous_id="victim", claimed=True), []),
    ],
)
def test_a_claim_is_never_merged(calls: Any, ambient: Ambient, said: list[Any]) -> None:
    """Who sends somebody else's id and then logs in does not take over that person."""
    with working(ambient):
        otel_posthog.identify("ada")
    assert calls.said == said


@pytest.mark.parametrize(("sent", "claimed"), [(VISITOR, False), ("victim", True), ("42", True)])
def test_what_a_browser_may_claim(sent: str, claimed: bool) -> None:
    """posthog-js names its visitors by a UUIDv7; anything else in its header may be a person's id."""
    people = People(UsersConfig(), trusted=True, project_key="", guard=Guard())
    visit = people.arrive(tuple(sent if name == "x-posthog-distinct-id" else None for name in browser.HEADERS), None)
    assert (visit.ambient.anonymous_id, visit.ambient.claimed) == (sent, claimed)
