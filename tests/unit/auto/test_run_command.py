"""`otel-posthog run`: what CMD gets, and what a wrong call says."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

from otel_posthog.cli import run as command

ENDPOINT, TOKEN = "http://127.0.0.1:4318", "phc_test_token"


def parse(*words: str) -> argparse.Namespace:
    """The arguments as the front end parses them."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def test_flags_become_variables_and_the_program_is_instrumented() -> None:
    """Endpoint and token are enough: exporters, path and the mark of `run` follow."""
    environ = {"PATH": "/bin"}
    command.prepare(environ, parse("--endpoint", ENDPOINT, "--token", TOKEN, "--service-name", "shop", "python"))
    path = environ.pop("PYTHONPATH").split(os.pathsep)
    assert Path(path[0], "sitecustomize.py").is_file()
    assert path[1:] == [str(Path.cwd())]
    assert environ == {
        "PATH": "/bin",
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT,
        "OTEL_EXPORTER_OTLP_TOKEN": TOKEN,
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20phc_test_token",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=bridge",
        "OTEL_POSTHOG_RUN": "true",
    }


def test_no_sdk_leaves_the_sdk_to_the_program() -> None:
    """`--no-sdk` sets no mark."""
    environ: dict[str, str] = {}
    command.prepare(environ, parse("--endpoint", ENDPOINT, "--token", TOKEN, "--no-sdk", "python"))
    assert "OTEL_POSTHOG_RUN" not in environ
    assert "PYTHONPATH" in environ


def test_with_nothing_set_the_program_runs_bare(capsys: pytest.CaptureFixture[str]) -> None:
    """A developer's machine: the environment stays as it is, and one line says why."""
    environ: dict[str, str] = {}
    command.prepare(environ, parse("python"))
    assert environ == {}
    assert capsys.readouterr().err == "otel-posthog run: off, because OTEL_EXPORTER_OTLP_ENDPOINT is not set\n"


def test_switching_the_bridge_off_keeps_the_users_own_telemetry() -> None:
    """With an endpoint of their own the program is instrumented all the same, without anything of ours."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_POSTHOG_ENABLED": "false"}
    command.prepare(environ, parse("python"))
    assert set(environ) == {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_POSTHOG_ENABLED", "PYTHONPATH"}


def test_a_disabled_sdk_is_not_instrumented() -> None:
    """`OTEL_SDK_DISABLED` means nothing at all."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "OTEL_SDK_DISABLED": "true"}
    command.prepare(environ, parse("python"))
    assert "PYTHONPATH" not in environ


def test_the_users_python_path_stays_behind_ours() -> None:
    """What was on the path stays on it, once."""
    first, second = command.instrumented_path("/a:/b"), None
    second = command.instrumented_path(first)
    assert first == second
    assert first.split(os.pathsep)[1:] == [str(Path.cwd()), "/a", "/b"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "which program?"),
        (["--"], 2, "which program?"),
        (["no-such-program-anywhere"], 127, "no such program on the PATH"),
        (["plain.txt"], 126, "not executable"),
    ],
    ids=["nothing", "only dashes", "unknown", "not executable"],
)
def test_a_program_that_cannot_start_is_a_friendly_error(
    words: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit code is the shell's, the message says what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.txt").write_text("no program")
    assert command.run(parse(*words)) == code
    assert says in capsys.readouterr().err


def test_a_script_is_given_to_this_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`otel-posthog run app.py` does what is meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text("")
    assert command.resolve(["app.py", "--flag"]) == [sys.executable, "app.py", "--flag"]


def test_flags_after_the_program_are_its_own() -> None:
    """Everything after CMD belongs to CMD."""
    assert parse("--endpoint", ENDPOINT, "flask", "--token", "x", "run").command == ["flask", "--token", "x", "run"]
    assert parse("flask", "run").token is None
