"""The hook has outgoing calls take along what holds: once, only behind the gate, and not where it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ON = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/i",
    "OTEL_EXPORTER_OTLP_TOKEN": "phc_x",
    "OTEL_POSTHOG_MODE": "direct",
    "OTEL_POSTHOG_EXIT_TIMEOUT": "0",
}
PROGRAM = """
import sys
from opentelemetry import propagate
from otel_posthog import assembly, auto
propagator = propagate.get_global_textmap()
auto.install()
auto.install()
ours = vars(propagator).get("inject")
wrapped = [ours is not None, hasattr(getattr(ours, "__wrapped__", None), "__wrapped__")]
loaded = "otel_posthog.lane.departing" in sys.modules
print(*wrapped, loaded)
"""


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (ON, "True False False"),
        ({**ON, "OTEL_POSTHOG_BAGGAGE": "false"}, "False False False"),
        ({**ON, "OTEL_POSTHOG_ENABLED": "false"}, "False False False"),
        ({}, "False False False"),
    ],
)
def test_the_propagator_is_wrapped_once_behind_the_gate(environ: dict[str, str], said: str) -> None:
    """Wrapped or not, wrapped twice, and what a first call alone loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == said, done.stderr
