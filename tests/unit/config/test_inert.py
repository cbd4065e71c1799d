"""Off is inert."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

AUDITED = """
import sys, threading
from otel_posthog.config.load import load_settings
from otel_posthog.config.otlp_environment import standard_otlp_environment
seen = []
sys.addaudithook(lambda event, args: seen.append(event))
environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.honeycomb.io", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x"}
for settings in (load_settings({}), load_settings(environ), load_settings({**environ, "OTEL_SDK_DISABLED": "true"})):
    assert not settings.enabled
assert standard_otlp_environment(environ) == {}
touched = ("open", "socket.", "os.", "subprocess.", "_thread.", "import", "shutil.", "urllib.")
print([event for event in seen if event.startswith(touched)], threading.active_count())
"""


def test_a_shut_gate_touches_nothing() -> None:
    """The interpreter's own audit sees no file, socket, thread, process or further import while the gate stays shut."""
    result = subprocess.run(
        [sys.executable, "-c", AUDITED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert (result.stdout.strip(), result.stderr) == ("[] 1", "")
