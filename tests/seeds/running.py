"""Runs the world in processes of their own, each against a local PostHog in another state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from otel_posthog.emulator import Emulator
from otel_posthog.emulator.faults import Fault
from tests.seeds.extract import committed

ROOT = Path(__file__).resolve().parents[2]
SWITCHES = (
    "new-dashboard",
    "beta-features",
    "advanced-reports",
    "enable-exports",
    "new-timer-ui",
    "new-ui",
    "risky-feature",
    "my-new-feature",
)
EXPERIMENTS = ("onboarding-flow", "timer-ui-experiment")
STATES = ("on", "off", "down", "shut")
"""Every flag is on; every flag is off; PostHog answers no question about flags; the gate is shut."""
CONTEXT = {
    "$browser",
    "$browser_version",
    "$current_url",
    "$device_type",
    "$geoip_disable",
    "$host",
    "$ignore_sent_at",
    "$is_server",
    "$lib",
    "$lib_version",
    "$os",
    "$pathname",
    "$raw_user_agent",
    "$request_method",
    "$span_id",
    "$trace_id",
    "app_version",
    "deployment_method",
    "environment",
    "http_route",
    "http_status_code",
    "machine",
    "platform",
    "python_version",
    "service_name",
    "timezone",
    "trace_sampled",
}
"""Properties of every event of a request; compared once."""


def flags_of(state: str) -> dict[str, Any]:
    """The flags of a state, as a file would hold them."""
    on = state != "off"
    shares = {"control": 0, "variant-b": 100} if on else {"control": 100, "variant-b": 0}
    flags: dict[str, Any] = dict.fromkeys(SWITCHES, on)
    flags |= {key: {"variants": shares} for key in EXPERIMENTS}
    config = {"rollout_percentage": 100, "payload": {"theme": "dark", "enabled_widgets": ["timer"]}}
    flags["dashboard-config"] = config if on else False
    return {"group_types": ["team"], "flags": flags}


@dataclass
class Run:
    """What came of all snippets in one state.

    Args:
        outcomes: What each of them gave, by name.
        stored: Everything that arrived, whole, by distinct id.
        people: Properties of the people, by distinct id.
        groups: Properties of the groups, by type and key.
        refused: What PostHog refused.
        posthog_loaded: The process imported the `posthog` package.
        said: What it wrote to its standard error.
    """

    outcomes: dict[str, Any]
    posthog_loaded: bool
    said: str
    stored: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def events(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        """Name and own properties of each event of a snippet, by name, flag calls aside."""
        found = [
            (each["event"], {key: value for key, value in each["properties"].items() if key not in CONTEXT})
            for each in self.stored.get(name, ())
            if each["event"] != "$feature_flag_called"
        ]
        return sorted(found, key=itemgetter(0))

    def flag_calls(self, name: str) -> list[tuple[str, Any]]:
        """What PostHog was told about flags by a snippet: (flag, value) of each `$feature_flag_called`."""
        return [
            (each["properties"]["$feature_flag"], each["properties"].get("$feature_flag_response"))
            for each in self.stored.get(name, ())
            if each["event"] == "$feature_flag_called"
        ]


def run_all() -> dict[str, Run]:
    """All snippets, in every state; the processes run at the same time."""
    rows = [
        {"document": each.document, "name": each.name, "kind": each.kind, "text": each.text}
        for each in committed()
        if each.code
    ]
    with ExitStack() as stack:
        given = Path(stack.enter_context(TemporaryDirectory())) / "snippets.json"
        given.write_text(json.dumps(rows), encoding="utf-8")
        started: dict[str, tuple[Emulator, subprocess.Popen[str]]] = {}
        for state in STATES:
            posthog = stack.enter_context(Emulator(flags=flags_of(state)))
            if state == "down":
                posthog.script(Fault("status", path="/flags*", status=503))
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", str(ROOT / "tests/seeds/world.py")],
                    env=_environment("" if state == "shut" else posthog.endpoint),
                    stdin=stack.enter_context(given.open(encoding="utf-8")),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            started[state] = (posthog, process)
        found: dict[str, Run] = {}
        for state, (posthog, process) in started.items():
            out, err = process.communicate(timeout=240)
            assert process.returncode == 0, err
            found[state] = _arrived(posthog, Run(**json.loads(out), said=err))
        return found


def _environment(endpoint: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TOKEN": "phc_seeds",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "service.version=3.0.0,deployment.environment.name=production",
        "OTEL_POSTHOG_MODE": "direct",
        "OTEL_POSTHOG_DEPLOYMENT_METHOD": "docker",
        "OTEL_POSTHOG_FLAGS_TIMEOUT": "30",
    }


def _arrived(posthog: Emulator, run: Run) -> Run:
    stored: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in posthog.events():
        stored[each["distinct_id"]].append(each)
    run.stored = dict(stored)
    run.people = {name: person["properties"] for name in stored if (person := posthog.person(name)) is not None}
    run.groups = {(each["type"], each["key"]): each["properties"] for each in posthog.groups()}
    run.refused = posthog.refusals()
    return run
