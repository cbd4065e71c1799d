"""Switched off is inert: the process is the same as without this package, but for one INFO line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.attach.processes import TOKEN, Environment, Launch, variables
from tests.attach.receiver import Receiver

CLOSED: dict[str, tuple[dict[str, str | None], str]] = {
    "sdk disabled": ({"OTEL_SDK_DISABLED": "TRUE "}, "OTEL_SDK_DISABLED is true"),
    "no endpoint": ({"OTEL_EXPORTER_OTLP_ENDPOINT": None}, "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
    "no token": ({"OTEL_EXPORTER_OTLP_TOKEN": None}, "OTEL_EXPORTER_OTLP_TOKEN is not set"),
    "blank token": ({"OTEL_EXPORTER_OTLP_TOKEN": "  "}, "OTEL_EXPORTER_OTLP_TOKEN is blank"),
    "switched off": ({"OTEL_POSTHOG_ENABLED": "false"}, "OTEL_POSTHOG_ENABLED is false"),
    "instrumentation disabled": (
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask, posthog"},
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS lists 'posthog'",
    ),
    "all instrumentations disabled": (
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS lists '*'",
    ),
}


@pytest.mark.parametrize("case", CLOSED)
def test_a_closed_gate_changes_nothing(
    case: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """No thread, descriptor, heavy module, environment or provider change; one INFO line with the failed condition."""
    where = environment("stock")
    changes, reason = CLOSED[case]
    env = variables(receiver, "collector", where)
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    process = launch([where.python, "inert.py"], env)
    assert process.end() == 0, process.output
    assert json.loads(process.output) == {
        "threads": [],
        "descriptors": 0,
        "modules": [],
        "environment": {},
        "tracer provider": [],
        "logger provider": [],
        "handlers": [],
        "logged": [["INFO", f"otel-posthog is off: {reason}"]],
        "installed": [False, False],
    }
    assert receiver.arrivals() == []


@pytest.mark.parametrize(
    ("setting", "value", "names"),
    [
        ("OTEL_POSTHOG_QUEUE_SIZE", "many", ["OTEL_POSTHOG_QUEUE_SIZE", "many"]),
        ("OTEL_POSTHOG_CONFIG", "broken_rules.yaml", ["broken_rules.yaml", "captur"]),
        ("OTEL_POSTHOG_CONFIG", "absent_rules.yaml", ["absent_rules.yaml"]),
    ],
    ids=["setting", "rules", "no rules file"],
)
def test_a_wrong_setting_keeps_it_off_with_one_error(
    setting: str,
    value: str,
    names: list[str],
    environment: Callable[[str], Environment],
    launch: Launch,
    receiver: Receiver,
) -> None:
    """One ERROR names file, key and the way out; the process is as if the gate were closed."""
    where = environment("stock")
    process = launch([where.python, "inert.py"], variables(receiver, "collector", where, **{setting: value}))
    assert process.end() == 0, process.output
    found = json.loads(process.output)
    logged = found.pop("logged")
    assert [level for level, _ in logged] == ["ERROR"]
    for name in names:
        assert name in logged[0][1]
    assert TOKEN not in logged[0][1]
    assert found["installed"] == [False, False]
    assert found["threads"] == [] and found["descriptors"] == 0
    assert found["tracer provider"] == [] and found["logger provider"] == []


def test_the_same_probe_sees_an_open_gate(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """The probe of the tests above is not blind: with an open gate it finds processors, environment and handlers."""
    where = environment("stock")
    process = launch([where.python, "inert.py"], variables(receiver, "collector", where))
    assert process.end() == 0, process.output
    found = json.loads(process.output)
    assert found["installed"] == [True, True]
    assert found["tracer provider"] != [] and found["logger provider"] != []
    assert found["handlers"] != []
    assert [name for name in found["modules"] if name.startswith("otel_posthog.")] != []


def test_importing_costs_no_thread_and_no_heavy_module_even_when_open(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Attaching starts no thread and opens nothing: that waits for the first event."""
    where = environment("stock")
    process = launch([where.python, "inert.py"], variables(receiver, "collector", where))
    assert process.end() == 0, process.output
    found = json.loads(process.output)
    assert found["threads"] == []
    assert found["descriptors"] == 0
    assert [name for name in found["modules"] if not name.startswith("otel_posthog")] == []
