"""The books of a running service can be read by its owner."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from dirty_equals import IsPartialDict

from tests.attach.processes import Environment, Launch, variables
from tests.attach.receiver import Receiver

PROGRAM = """
import json
from opentelemetry import trace
from otel_posthog import auto

tracer = trace.get_tracer("shop")
for attributes in ({"posthog.event": "paid", "posthog.distinct_id": "ada"}, {"posthog.event": " "}):
    with tracer.start_as_current_span("checkout", attributes=attributes):
        pass
trace.get_tracer_provider().force_flush()
print("METRICS", json.dumps(auto.metrics()))
"""


def books(launch: Launch, command: list[str], env: dict[str, str]) -> dict[str, Any]:
    """What the program read."""
    process = launch(command, env)
    assert process.end() == 0, process.output
    [line] = [line for line in process.output.splitlines() if line.startswith("METRICS ")]
    return json.loads(line.removeprefix("METRICS "))


def test_metrics_of_the_running_bridge(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """What was received, captured and dropped, by name; nothing at all where the gate is shut."""
    where = environment("stock")
    env = variables(receiver, "direct", where)
    command = where.instrumented("python", "-c", PROGRAM)

    assert books(launch, command, env) == IsPartialDict(
        {
            "otel_posthog.signals.received": 2,
            "otel_posthog.signals.captured": {"span": 1},
            "otel_posthog.signals.dropped": {"span": {"empty_name": 1}},
            "otel_posthog.events.captured": 1,
            "otel_posthog.events.lost": {},
        }
    )
    silent = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "LOGS", "METRICS")}
    assert books(launch, command, {**env, **silent, "OTEL_POSTHOG_ENABLED": "false"}) == {}
