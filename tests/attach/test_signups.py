"""Visitors who register and are not logged in, in apps written the ordinary way, mounted in others and not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from otel_posthog.emulator.server import Emulator
from tests.attach.processes import Environment, Launch
from tests.attach.test_people import ADA, GRACE, told, variables
from tests.attach.test_people import emulator as local_posthog
from tests.attach.visitors import Visitor

emulator = local_posthog
SITE = {"origin": "http://127.0.0.1"}
RULES = "default_rules: true\nusers:\n  set: {auth_method: login.method}\n"


@pytest.mark.parametrize(("framework", "name"), [("django", "floor"), ("mounted", "stock")])
def test_a_visitor_registers(
    framework: str,
    name: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    emulator: Emulator,
    tmp_path: Path,
) -> None:
    """The visitor is the person from the registration on, and is merged once; who makes accounts for others is not."""
    where = environment(name)
    config = tmp_path / "bridge.yaml"
    config.write_text(RULES, encoding="utf-8")
    env = variables(emulator, where, config, MEMBERS_DATABASE=str(tmp_path / "members.sqlite3"))
    env["DJANGO_SETTINGS_MODULE"] = "members_django"
    process = launch(where.instrumented("python", "serve_members.py", framework, "{fd}", "7"), env, serve=True)
    ada = Visitor(process, {"x-posthog-distinct-id": ADA, **SITE})
    statuses = [ada.get("/"), ada.post("/register", name="ada"), ada.post("/login", name="ada"), ada.get("/me")]
    ada.headers = {"x-posthog-distinct-id": GRACE, **SITE}  # another browser profile, the same member
    statuses += [ada.get("/me"), ada.post("/register", name="grace"), ada.post("/logout")]
    assert (process.end(), statuses) == (0, [200] * 7), process.output

    assert told(emulator) == [
        ("$pageview", "/", ADA),
        ("$identify", "", "1"),
        ("api_request", "/register", "1"),
        ("$set", "", "1"),
        ("api_request", "/login", "1"),
        ("$pageview", "/me", "1"),
        ("$pageview", "/me", "1"),
        # A session that the view does not read: whose request this is, nobody asked.
        ("api_request", "/register", GRACE),
        ("api_request", "/logout", "1"),
    ]
    (person,) = [person for person in emulator.persons() if person["identified"]]
    assert (person["distinct_ids"], person["properties"]) == ([ADA, "1"], {"auth_method": "ModelBackend"})
