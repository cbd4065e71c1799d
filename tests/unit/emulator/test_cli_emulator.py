"""`otel-posthog emulator` as a process, and its mistakes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import urllib3

from otel_posthog.cli import emulator as command

RUN = (
    "import argparse, sys; from otel_posthog.cli import emulator as c; p = argparse.ArgumentParser();"
    " c.add_arguments(p); sys.exit(c.run(p.parse_args()))"
)


def run(*arguments: str) -> int:
    """The command in this process."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(arguments)))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_stopped(tmp_path: Path, stop: signal.Signals) -> None:
    """It prints where it listens, answers, applies the script, and leaves on a signal."""
    script = tmp_path / "faults.json"
    script.write_text(json.dumps([{"action": "status", "status": 503, "count": 1}]))
    flags = tmp_path / "flags.yaml"
    flags.write_text("flags: {new-checkout: true}")
    files = ("--faults", str(script), "--flags", str(flags), "--db", str(tmp_path / "x.db"))
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "--port", "0", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" listens at ")[1].split()[0]
        pool = urllib3.PoolManager(retries=False, timeout=60)
        body = json.dumps({"api_key": "phc_secret_in_no_log", "batch": [{"event": "e", "distinct_id": "a"}]}).encode()
        statuses = [pool.request("POST", f"{url}/batch/", body=body).status for _ in range(2)]
        asked = json.dumps({"token": "phc_secret_in_no_log", "distinct_id": "a"}).encode()
        answer = pool.request("POST", f"{url}/flags/?v=2", body=asked).json()
        live = pool.request("GET", f"{url}/api/live", preload_content=False)
        next(live.stream(10))
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
        live.close()
        pool.clear()
    finally:
        process.kill()
        process.wait()

    assert (statuses, answer["flags"]["new-checkout"]["enabled"]) == ([503, 200], True)
    assert process.returncode in {0, -stop}
    assert "phc_secret_in_no_log" not in out + err
    assert "Traceback" not in err


MISTAKES = [
    (["--host", "0.0.0.0"], "--allow-remote"),
    (["--db", "/nowhere/at/all/x.db"], "Create the folder first"),
    (["--faults", "/nowhere/faults.json"], "`--faults` (/nowhere/faults.json): No such file or directory"),
    (
        ["--flags", "/nowhere/flags.yaml"],
        "/nowhere/flags.yaml: the flags file cannot be read: No such file",
    ),
    (["--port", "99999"], "Choose another port"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_exit_1_with_the_way_out(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """A wrong option is one line on stderr and exit code 1."""
    assert run("--port", "0", *arguments) == 1

    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ('[{"action": "x"}]', "`faults[0].action`")])
def test_bad_script_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str) -> None:
    """A bad script names its file and its key."""
    script = tmp_path / "faults.json"
    script.write_text(text)

    assert run("--port", "0", "--faults", str(script)) == 1
    err = capsys.readouterr().err
    assert message in err
    assert str(script) in err


def test_missing_packages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message is the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    assert run("--port", "0") == 1
    assert "pip install 'otel-posthog[emulator]'" in capsys.readouterr().err


def test_import_is_light() -> None:
    """Importing the emulator loads no server and no protobuf."""
    code = "import sys, otel_posthog.emulator; print([m for m in ('starlette', 'uvicorn', 'google.protobuf', 'anyio') if m in sys.modules])"  # noqa: E501
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
