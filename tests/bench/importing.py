"""Rows about the start of a process: our import and attach beside `import posthog`, and the shut gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.harness import Row, alone, interleaved
from tests.bench.setting import TOKEN

_ROOT = Path(__file__).parents[2]

# CPU time of the process, not wall time: other processes on the machine would be measured too.
_ATTACH = """
import time
from opentelemetry import trace, _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
import opentelemetry.instrumentation.utils
trace.set_tracer_provider(TracerProvider())
_logs.set_logger_provider(LoggerProvider())
begun = time.process_time()
from otel_posthog.auto import install
install()
spent = time.process_time() - begun
print(spent)
"""
_POSTHOG = """
import time
begun = time.process_time()
import posthog
print(time.process_time() - begun)
"""


def rows(url: str, rounds: int) -> list[Row]:
    """All of this module."""
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TOKEN": TOKEN, "OTEL_POSTHOG_MODE": "direct"}
    ours, peer = interleaved(lambda: _run(_ATTACH, on), lambda: _run(_POSTHOG, {}), rounds)
    off = alone(lambda: _run(_ATTACH, {}), rounds)
    return [
        Row(
            "import and attach, on top of the loaded OTel SDK",
            "import posthog",
            ours,
            peer,
            0.15,
            0.08,
            "both processors attached to live providers; nothing is sent yet",
        ),
        Row("import and attach behind a shut gate", "", off, note="for information"),
    ]


def _run(code: str, environment: dict[str, str]) -> float:
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_ROOT), **environment},
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if found.returncode:
        raise RuntimeError(found.stderr)
    return float(found.stdout.splitlines()[-1])
