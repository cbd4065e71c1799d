"""docs/functions.md does what it says: its files load, its code runs, and the event is the one that it shows."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import context

from otel_posthog import assembly
from otel_posthog.api.control import flush, shutdown
from otel_posthog.api.process import process
from otel_posthog.emulator import Emulator
from otel_posthog.instrumentation.functions import PostHogFunctionsInstrumentor
from otel_posthog.rules.document import parse_document
from otel_posthog.rules.parse import parse_file

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "functions.md").read_text(encoding="utf-8")
SHOP = 'def charge(amount, currency="EUR"):\n    return {"id": "ch_1"}\n'


def blocks(language: str) -> list[str]:
    """The blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(name="emulator")
def running_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The process is set up as the page says."""
    token = context.attach(context.Context())
    assembly.stop(0)
    process.forget()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "billing.py").write_text(SHOP)
    (tmp_path / "bridge.yaml").write_text(blocks("yaml")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    instrumentor = PostHogFunctionsInstrumentor()
    with Emulator() as emulator:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", emulator.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_CONFIG", str(tmp_path / "bridge.yaml"))
        instrumentor.instrument()
        yield emulator
        instrumentor.uninstrument()
        shutdown(60)
        process.forget()
    for name in ("shop", "shop.billing"):
        sys.modules.pop(name, None)
    context.detach(token)


def test_the_example(emulator: Emulator) -> None:
    """The call gives the event of the comment, and a duration."""
    [code] = blocks("python")
    exec(compile(code, "docs/functions.md", "exec"), {})
    assert flush(60)
    [event] = emulator.events()
    [(name, promised)] = re.findall(r"^# ([^:]+): (\{.*\})$", code, re.MULTILINE)
    wanted = json.loads(promised.replace("True", "true"))
    assert event["event"] == name
    assert {key: event["properties"].get(key) for key in wanted} == wanted
    assert event["properties"]["duration_ms"] >= 0


@pytest.mark.parametrize("text", blocks("yaml"))
def test_files_load(text: str) -> None:
    """Every file of the page is a good one."""
    root, key = parse_document(text.encode(), "page.yaml")
    assert parse_file(root, file="page.yaml", key=key).functions
