"""docs/flags.md does what it says: every block of it runs, in order, against the emulator."""

from __future__ import annotations

import gc
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.context.context import Context

from otel_posthog import assembly, flags
from otel_posthog.api.control import flush, shutdown
from otel_posthog.api.process import process
from otel_posthog.cli.main import main
from otel_posthog.emulator import Emulator
from otel_posthog.flags.process import client

pytest.importorskip("openfeature.contrib.hook.opentelemetry")

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "flags.md").read_text(encoding="utf-8")
PROMISE = re.compile(r"""^( *)(flags\.\w+\(.*\)) +# (True|False|"[^"]*"|\{.*?\})(?=$|[:;,]).*$""", re.MULTILINE)
"""A call with what its comment says that it gives."""


def blocks(language: str) -> list[str]:
    """The blocks of a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """It serves the flags of the page; the process is set up as the page says."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_")):
            monkeypatch.delenv(name)
    token = context.attach(Context())
    assembly.stop(0)
    process.forget()
    client.forget()
    file = tmp_path / "flags.yaml"
    (text,) = blocks("yaml")
    file.write_text(text, encoding="utf-8")
    with Emulator(flags=str(file)) as emulator:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", emulator.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TIMEOUT", "30")
        yield emulator
        client.forget()
        shutdown(30)
        process.forget()
    context.detach(token)
    # Where a registry is loaded, other tests' flags would be typing errors.
    sys.modules.pop("shop_flags", None)
    gc.collect()


def test_every_block_runs(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code, with the results that its comments promise; then the commands."""
    from openfeature import api

    space: dict[str, Any] = {"__name__": "page"}
    try:
        for code in blocks("python"):
            exec(compile(PROMISE.sub(r"\1assert \2 == \3", code), "docs/flags.md", "exec"), space)
    finally:
        api.clear_providers()
        api.clear_hooks()

    assert len(PROMISE.findall(PAGE)) == 8
    assert space["page"] == "the new dashboard"
    assert space["export"]() == ("Exports are temporarily disabled", 503)
    with space["scope"](distinct_id="ada"):
        visitor = space["app"].test_client()
        assert [visitor.get(path).status_code for path in ("/dashboard", "/exports", "/timer")] == [200, 503, 200]
    assert space["app"].test_client().get("/dashboard").location == "/old-dashboard"
    assert space["html"] == (
        '<script>posthog.init("phc_…", {bootstrap: {"distinctID": "ada", "isIdentifiedID": true, '
        '"featureFlags": {"new-dashboard": true, "timer-ui": "variant-b"}}})</script>'
    )

    assert flush(30)
    (used,) = emulator.events(event="feature_interaction")
    assert (used["properties"]["action"], used["properties"]["$feature/new-dashboard"]) == (
        "clicked_export_button",
        True,
    )
    told = emulator.flag_calls()
    assert told["new-dashboard"] == {True: 2}  # ada and grace, however often and by whichever way
    assert told["timer-ui"] == {"variant-b": 1}

    monkeypatch.chdir(tmp_path)
    registry = next(code for code in blocks("python") if "flags.Registry" in code)
    uses = "flags.enabled(FeatureFlags.TIMER_UI), flags.enabled(FeatureFlags.ENABLE_EXPORTS)\n"
    (tmp_path / "shop_flags.py").write_text(f"from otel_posthog import flags\n{registry}{uses}", encoding="utf-8")
    capsys.readouterr()
    for line in blocks("console")[0].splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        assert (program, main(words)) == ("otel-posthog", 0), line
    assert 'timer-ui for ada: "variant-b" (remote: ' in capsys.readouterr().out


def test_the_page_covers_the_room() -> None:
    """Every public name of `otel_posthog.flags` that people call is on the page."""
    helpers = {"Answer", "Bootstrap", "Finding", "FlagRequiredError", "FlagStats", "UnknownFlagError", "registered"}

    assert [name for name in flags.__all__ if name not in helpers and f"flags.{name}" not in PAGE] == []
