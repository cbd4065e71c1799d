"""What a process pays for being attached: which modules it loads before anything has happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

GATE = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_EXPORTER_OTLP_TOKEN": "phc_test_token",
    "OTEL_POSTHOG_MODE": "direct",
    "OTEL_POSTHOG_EXIT_TIMEOUT": "0.1",
}

ATTACH = """
import sys, threading
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
import opentelemetry.instrumentation.utils
trace.set_tracer_provider(TracerProvider())
_logs.set_logger_provider(LoggerProvider())
before = set(sys.modules)
from otel_posthog import assembly
from otel_posthog.auto import install
print("attached", install())

def loaded(*packages):
    return sorted(name for name in set(sys.modules) - before if name.startswith(packages))

LATE = ("otel_posthog.convert.converter", "otel_posthog.policy", "otel_posthog.delivery", "otel_posthog.model.outcome",
        "otel_posthog.bridge.accepting", "otel_posthog.observe.counters", "ssl", "hashlib", "http.client", "urllib3")
RULES = ("otel_posthog.rules.parse", "otel_posthog.rules.schema", "otel_posthog.rules.compiled", "yaml")
"""


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter: only there it can be seen what is loaded when."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "POSTHOG_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-c", ATTACH + code],
        env={**kept, **GATE, **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_attaching_loads_neither_converter_nor_delivery_nor_rules() -> None:
    """Both processors hang on live providers, and most of the package is still on disk; no thread runs."""
    done = run("print(loaded(*LATE, *RULES), [one.name for one in threading.enumerate()])")
    assert done.stdout.splitlines() == ["attached True", "[] ['MainThread']"], done.stderr


def test_a_quiet_app_never_loads_them() -> None:
    """Spans that nobody annotated, a flush and the end of the providers need no converter."""
    done = run(
        """
with trace.get_tracer("shop").start_as_current_span("GET /cart"):
    pass
trace.get_tracer_provider().force_flush()
trace.get_tracer_provider().shutdown()
print(loaded(*LATE, *RULES))
"""
    )
    assert done.stdout.splitlines() == ["attached True", "[]"], done.stderr


def test_the_first_item_loads_them_on_a_thread_of_ours() -> None:
    """The span's own thread imports nothing, and the item is converted and taken by delivery."""
    done = run(
        """
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(LATE):
            print(threading.current_thread().name, name in LATE or name.partition(".")[0])
            sys.meta_path.remove(self)  # the first one will do

sys.meta_path.insert(0, Spy())
with trace.get_tracer("shop").start_as_current_span("pay", attributes={"posthog.event": "paid"}):
    pass
while not (assembly.current().bridge.loaded and assembly.current().bridge.signal_stats().captured):
    threading.Event().wait(0.01)
print(assembly.current().bridge.delivery_stats().captured)
"""
    )
    assert done.stdout.splitlines() == ["attached True", "otel-posthog-sdk True", "1"], done.stderr


def test_rules_are_loaded_at_attach_where_there_are_some(tmp_path: Path) -> None:
    """Their prefilter is asked for every span, and a mistake in them has to be said at once."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: checkout, match: {name: checkout}, capture: bought}\n")
    done = run("print(bool(loaded(*RULES)), loaded(*LATE[:3]))", OTEL_POSTHOG_CONFIG=str(rules))
    assert done.stdout.splitlines() == ["attached True", "True []"], done.stderr


@pytest.mark.parametrize("text", ["rules: [{name: x, match: {nmae: checkout}, capture: bought}]", "rules: ["])
def test_wrong_rules_are_refused_at_attach(tmp_path: Path, text: str) -> None:
    """One ERROR names the file; the bridge stays off and the app goes on."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(text)
    done = run("print(assembly.current())", OTEL_POSTHOG_CONFIG=str(rules))
    assert done.stdout.splitlines() == ["attached False", "None"], done.stderr
    assert done.stderr.count(str(rules)) == 1
