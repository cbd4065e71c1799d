"""The frame: help, usage, exit codes, and pages that say what the commands say."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from otel_posthog.cli import main as frame
from otel_posthog.cli.main import COMMANDS, build_parser, main
from otel_posthog.errors import ConfigError
from otel_posthog.version import __version__

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_documented(command: str) -> None:
    """Each command has help in one line and in full, and docs/cli.md holds it; if not: python tests/docs/write.py."""
    found = re.search(rf"<!-- generated: help {command} -->\n```text\n(.*?)```\n", PAGE, re.DOTALL)
    text = build_parser(command, width=100).format_help()

    assert found is not None
    # Python's own wrapping of usages differs between versions; the words do not.
    assert text.split() == found.group(1).split()
    if command:
        module = frame._module(command)
        assert re.fullmatch(r"[a-z][^\n]{10,90}[^.]", module.HELP)
        assert f"  {command:<10}{module.HELP}" in build_parser("").format_help()
        assert f"## {command}\n" in PAGE


def test_version_and_help_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    """--version and --help print to standard output and end with 0."""
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    assert main(["status", "--help"]) == 0

    out, err = capsys.readouterr()
    assert out.startswith(f"otel-posthog {__version__}\nusage: otel-posthog [-h] [--version] COMMAND …\n")
    assert err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "usage: otel-posthog"),
        (["statsu"], "no command 'statsu'; did you mean status?"),
        (["xyz"], "no command 'xyz'; the commands are status, doctor, run"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["status", "--bogus"], "unrecognized arguments: --bogus"),
        (["status", "--js"], "unrecognized arguments: --js"),
        (["doctor", "--timeout", "0"], "'0' is not a number of seconds from 0.1 to 60"),
        (["doctor", "--timeout", "soon"], "'soon' is not a number of seconds"),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with 2 and says on standard error what would be right."""
    assert main(words) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def command(monkeypatch: pytest.MonkeyPatch, end: object) -> None:
    """Puts a command in the place of `status` that ends in a certain way."""

    def run(_: argparse.Namespace) -> int:
        if isinstance(end, BaseException):
            raise end
        assert isinstance(end, int)
        return end

    module = SimpleNamespace(HELP="a test", add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(frame, "_module", lambda name: module)


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (ConfigError("no good", key="OTEL_X", hint="Mend it"), 1, "otel-posthog: `OTEL_X`: no good. Mend it\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(7), 7, ""),
        (SystemExit(), 0, ""),
        (SystemExit("bye"), 1, "bye\n"),
    ],
)
def test_every_end_has_its_code(
    end: object, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However a command ends, the exit code is the documented one, and an error of ours comes without a traceback."""
    command(monkeypatch, end)

    assert main(["status"]) == code
    assert capsys.readouterr() == ("", said)


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected keeps its traceback."""
    command(monkeypatch, ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        main(["status"])


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "otel_posthog.cli", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_reader_that_leaves_is_no_error() -> None:
    """`otel-posthog status | true` says nothing on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_posthog.cli", "status"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()

    assert (process.wait(60), err) == (141, b"")


def test_only_the_chosen_command_is_imported() -> None:
    """The frame and `status` load neither other commands, nor urllib3, nor OpenTelemetry's SDK."""
    code = (
        "import sys; from otel_posthog.cli.main import main; main(['status', '--json']);"
        "print(sorted(m for m in sys.modules if m.startswith(('otel_posthog.cli.', 'urllib3', 'yaml')) "
        "or m == 'opentelemetry.sdk'), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert result.stderr.strip() == "['otel_posthog.cli.installed', 'otel_posthog.cli.main', 'otel_posthog.cli.status']"


def test_a_wrong_setting_ends_with_1() -> None:
    """`status` and `doctor` show a wrong setting and the way out, without a traceback."""
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9/i", "OTEL_EXPORTER_OTLP_TOKEN": "phc_x"}
    wrong = {**on, "OTEL_POSTHOG_QUEUE_SIZE": "many"}

    status = run("status", **wrong)
    doctor = run("doctor", "--offline", **wrong)

    assert (status.returncode, doctor.returncode) == (1, 1)
    for output in (status.stdout, doctor.stdout):
        text = " ".join(output.split())
        assert "`OTEL_POSTHOG_QUEUE_SIZE` (environment): 'many' is not a whole number" in text
        assert "Use a whole number of 1 or more; the default is 10000" in text
    assert status.stderr + doctor.stderr == ""
