"""`otel-posthog flags`, against the emulator."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_posthog.cli.main import main
from otel_posthog.emulator import Emulator
from otel_posthog.emulator.faults import Fault
from tests.unit.flags.conftest import Calls, Start

REGISTRY = """
from otel_posthog import flags

class FeatureFlags(flags.Registry):
    NEW_DASHBOARD = flags.Flag("new-dashboard", owner="growth", expires="2020-01-31")
    GONE = flags.Flag("gone", owner="checkout", state="permanent")
"""


@pytest.fixture(autouse=True)
def _app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An app with a registry, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("shop_flags_of_test.py").write_text(REGISTRY, encoding="utf-8")
    Path("views.py").write_text("enabled(FeatureFlags.NEW_DASHBOARD), enabled('beta-features')\n", encoding="utf-8")
    yield
    sys.modules.pop("shop_flags_of_test", None)
    gc.collect()  # where a registry is loaded, other tests' flags would be typing errors


def test_list(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """What the registry knows beside what PostHog has."""
    start(flags_secret_key="phx_test")

    assert main(["flags", "list", "--registry", "shop_flags_of_test", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["key"]: row for row in shown["flags"]}
    assert shown["posthog"] == "asked"
    assert rows["new-dashboard"] == {
        "key": "new-dashboard",
        "owner": "growth",
        "expires": "2020-01-31",
        "overdue": True,
        "state": "testing",
        "registered": True,
        "posthog": "active",
    }
    assert (rows["gone"]["posthog"], rows["admin-tools"]["registered"]) == ("", False)

    assert main(["flags", "list", "--registry", "shop_flags_of_test:FeatureFlags"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "testing, owner growth, overdue since 2020-01-31, active at PostHog" in text
    assert "phx_test" not in text


def test_list_without_a_key(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The registry alone, and what is missing."""
    start()

    assert main(["flags", "list", "--registry", "shop_flags_of_test"]) == 0
    assert "OTEL_POSTHOG_FLAGS_SECRET_KEY is not set" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("status", [401, 503])
def test_definitions_that_were_not_given_out(
    start: Start, emulator: Emulator, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    """A key for them promises them: what was not looked at is no good result for CI."""
    start(flags_secret_key="phx_test")
    emulator.script(Fault(action="status", status=status, path="/flags/definitions"))

    assert main(["flags", "list", "--registry", "shop_flags_of_test"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "it gave no definitions (`otel-posthog doctor` says why)" in said
    assert "testing, owner growth, overdue since 2020-01-31" in said
    emulator.script()
    emulator.flags = {"flags": {}}
    assert main(["flags", "list", "--registry", "shop_flags_of_test"]) == 0
    assert "PostHog's are not shown: it has none." in capsys.readouterr().out


def test_paths_that_are_not_there(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """They are no reason to call each flag unused."""
    start()

    assert main(["flags", "unused", "--registry", "shop_flags_of_test", "views.py", "viwes.py"]) == 1
    out, err = capsys.readouterr()
    assert (out, "(viwes.py): there is no such file or folder. Name those of your app" in err) == ("", True)


def test_ask(start: Start, capsys: pytest.CaptureFixture[str], emulator: Emulator, calls: Calls) -> None:
    """Value, payload and why; PostHog is told nothing."""
    start()

    assert main(["flags", "ask", "timer-ui-experiment", "--for", "ada"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == 'payload: {"colour": "blue"}'
    assert main(["flags", "ask", "admin-tools", "--for", "ada", "--property", "is_admin=true", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] is True
    assert main(["flags", "ask", "acme-only", "--for", "ada", "--group", "company=acme", "--json"]) == 0
    assert main(["flags", "ask", "no-such-flag", "--for", "ada"]) == 1
    assert "no answer" in capsys.readouterr().out
    assert emulator.stats()["flag_requests"]["evaluations"] == 4
    assert calls() == []


def test_unused(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and each finding with its owner and places."""
    start(flags_secret_key="phx_test")

    assert main(["flags", "unused", "--registry", "shop_flags_of_test", "views.py"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["expired: new-dashboard (owner: growth): its last day was 2020-01-31", "  views.py:1"]
    assert "unregistered: beta-features: PostHog has it, and no registry" in lines
    assert "unused: gone (owner: checkout): nothing reads it: delete it here and in PostHog" in lines
    assert "unused: admin-tools: PostHog has it, and nothing reads it" in lines

    assert main(["flags", "unused", "--registry", "shop_flags_of_test", "views.py", "--json"]) == 1
    assert {finding["kind"] for finding in json.loads(capsys.readouterr().out)} == {"expired", "unregistered", "unused"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flags", "ask", "a", "--for", "anonymous"], "is no distinct id"),
        (["flags", "ask", "a", "--for", "ada"], "flags are off: "),
        (["flags", "list", "--registry", "no.such.module"], "cannot be imported"),
    ],
)
def test_what_cannot_be(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the way out, and exit code 1."""
    assert main(words) == 1
    assert said in capsys.readouterr().err


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert main(["flags", "ask", "a", "--for", "ada", "--group", "company"]) == 2
    assert main(["flags"]) == 2
