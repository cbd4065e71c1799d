"""Functions of a real process become events, with no line of it changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator

APPS = Path(__file__).parent / "apps" / "functions"
RULES = """
functions:
  "billing:charge":
    - {event: charged, properties: {amount: args.amount, currency: args.currency, charge: result.id}}
    - {event: charge failed, when: failure, properties: {why: error.type}}
  "billing:charge_later": {event: charged later, properties: {charge: result.id}}
  "tasks:pay": {event: paid, properties: {order: args.order, gave: result}}
  "tasks:refund": {event: refunded, properties: {order: args.order}}
"""
CHARGED = [
    ("charge failed", {"why": "ValueError"}),
    ("charged later", {"charge": "ch_2"}),
    ("charged", {"amount": 1, "currency": "EUR", "charge": "ch_1"}),
    ("charged", {"amount": 2, "currency": "EUR", "charge": "ch_2"}),
    ("charged", {"amount": 3, "currency": "EUR", "charge": "ch_3"}),
]

pytestmark = pytest.mark.timeout(180)


def run(
    folder: Path, emulator: Emulator, program: str, functions: str = RULES, said: str = "", **more: str
) -> list[tuple[str, dict[str, Any]]]:
    """Name and own properties of what a program became under the standard launcher, which says `said` and no more."""
    rules = folder / "bridge.yaml"
    rules.write_text(functions)
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env.update(
        OTEL_EXPORTER_OTLP_ENDPOINT=emulator.endpoint,
        OTEL_EXPORTER_OTLP_TOKEN="phc_test",
        OTEL_POSTHOG_CONFIG=str(rules),
        OTEL_POSTHOG_EXIT_TIMEOUT="60",
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        **more,
    )
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run(
        [launcher, sys.executable, program], env=env, cwd=APPS, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "otel-posthog:" in line] == ([said] if said else [])
    wanted = {"amount", "currency", "charge", "why", "order", "gave"}
    found = [(e["event"], {k: v for k, v in e["properties"].items() if k in wanted}) for e in emulator.events()]
    return sorted(found, key=repr)


def test_an_app_that_takes_functions_by_name(tmp_path: Path) -> None:
    """Calls, failures, coroutines, and a pool of processes, each of which counts its own."""
    with Emulator() as emulator:
        assert run(tmp_path, emulator, "main.py") == CHARGED


@pytest.mark.parametrize("works", [True, False], ids=["beside one that works", "alone"])
def test_a_misspelt_module_is_said_once(tmp_path: Path, works: bool) -> None:
    """With the first event; where there is none, when the process ends."""
    functions = "functions:\n  biling:charge: misspelt\n" + "  billing:charge_later: charged later\n" * works
    with Emulator() as emulator:
        assert run(
            tmp_path,
            emulator,
            "main.py",
            functions,
            "otel-posthog: functions: biling:charge is not counted: there is no module biling in sys.path; "
            f"did you mean billing? ({tmp_path / 'bridge.yaml'}, line 2)",
        ) == ([("charged later", {})] if works else [])


@pytest.mark.parametrize(
    "more",
    [{"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "posthog_functions"}, {"OTEL_POSTHOG_ENABLED": "false"}],
    ids=["switched off", "gate shut"],
)
def test_off(tmp_path: Path, more: dict[str, str]) -> None:
    """By the standard variable, and with the gate."""
    with Emulator() as emulator:
        assert run(tmp_path, emulator, "main.py", **more) == []


def test_tasks_of_celery(tmp_path: Path) -> None:
    """What a worker runs counts, and so does a direct call; nobody's `self` is an argument."""
    pytest.importorskip("celery")
    with Emulator() as emulator:
        assert run(tmp_path, emulator, "work.py") == [
            ("paid", {"order": "o1", "gave": "O1"}),
            ("paid", {"order": "o2", "gave": "O2"}),
            ("refunded", {"order": "o3"}),
        ]
