"""docs/compatibility.md does what it says: every block of it runs, in order, against a local PostHog."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.context.context import Context

from otel_posthog import assembly, facades
from otel_posthog.api.control import flush, shutdown
from otel_posthog.api.process import process
from otel_posthog.emulator import Emulator
from otel_posthog.flags.process import client
from tests.unit.api.conftest import COMMON

pytest.importorskip("posthog")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "compatibility.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)\(", re.MULTILINE)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """It serves the flags of the page, switched off; the process sends to it."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_")):
            monkeypatch.delenv(name)
    token = context.attach(Context())
    assembly.stop(0)
    process.forget()
    client.forget()
    config = {"rollout_percentage": 100, "payload": {"theme": "dark"}}
    with Emulator(flags={"flags": {"enable-exports": False, "dashboard-config": config}}) as emulator:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", emulator.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TIMEOUT", "30")
        yield emulator
        client.forget()
        shutdown(30)
        process.forget()
    context.detach(token)


def test_every_block_runs(emulator: Emulator) -> None:
    """The events that the page names, and the values that the flags give."""
    space: dict[str, Any] = {"__name__": "page"}
    for code in BLOCK.findall(PAGE):
        exec(compile(code, "docs/compatibility.md", "exec"), space)

    assert space["export"]() == ("Exports temporarily disabled", 503)
    assert space["theme"] == space["theme_now"] == "dark"
    assert flush(30)
    said = [
        (
            each["event"],
            each["distinct_id"],
            {key: value for key, value in each["properties"].items() if key not in COMMON | {"$ignore_sent_at"}},
        )
        for each in emulator.events()
        if each["event"] != "$feature_flag_called"
    ]
    team = {"$groups": {"team": "acme"}}
    update = {**team, "$group_type": "team", "$group_key": "acme", "$group_set": {"plan": "pro"}}
    first = {"$set": {"role": "admin", "auth_method": "oidc"}, "$set_once": {"signup_method": "local"}}
    assert sorted(said, key=lambda each: (each[0], str(each[2]))) == [
        ("$groupidentify", "user-42", update),
        ("$set", "user-42", {**team, "$set": {"role": "owner"}}),
        ("$set", "user-42", first),
        ("export.csv", "user-42", {**team, "rows": 100}),
        ("export.pdf", "user-42", {**team, "rows": 100, "area": "reports"}),
    ]


def test_the_page_has_every_facade() -> None:
    """A row for each façade, and none that is not there."""
    assert sorted(ROW.findall(PAGE)) == sorted(facades.__all__)
