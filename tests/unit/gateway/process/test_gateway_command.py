"""`otel-posthog gateway`: its options, `--check` and `--schema`."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_posthog.cli.main import main
from otel_posthog.gateway.configuration.bridge_schema import bridge_json_schema
from otel_posthog.gateway.process import check

KEY, TOKEN = "phc_canary_of_the_command", "canary-token-of-the-command"


@pytest.fixture
def bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes `bridge.yaml` into the working directory."""
    for name in [name for name in os.environ if name.startswith(("OTEL_", "POSTHOG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SHOP_KEY", KEY)
    monkeypatch.setenv("SHOP_TOKEN", TOKEN)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)

    def write(**more: Any) -> None:
        free = {"http": "127.0.0.1:0", "grpc": "off", "admin": "127.0.0.1:0"}
        projects = {"shop": {"host": "https://eu.i.posthog.com", "key": {"env": "SHOP_KEY"}, "default_rules": True}}
        document = {"listen": free, "spool": {"dir": "spool"}, "projects": projects, **more}
        Path("bridge.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    return write


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], list[str]]:
    """Exit code, and the lines of both outputs."""
    code = main(["gateway", *words])
    out, err = capsys.readouterr()
    assert KEY not in out + err
    assert TOKEN not in out + err
    return code, out.splitlines(), err.splitlines()


def test_check(bridge: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a start needs, one row each; nothing is made."""
    monkeypatch.setattr(check, "_installed", lambda _: True)  # the floor has no extras
    bridge(tokens={"collector": {"env": "SHOP_TOKEN"}})
    code, out, err = run(capsys, "--config", "bridge.yaml", "--check")
    assert (code, err) == (0, [])
    rows = [" ".join(line.split()) for line in out]
    assert rows[0] == "✓ configuration bridge.yaml"
    assert rows[1].startswith("✓ project shop https://eu.i.posthog.com, key phc_…(25), ")
    assert rows[1].endswith("gets the rest")
    assert rows[2:7] == [
        "✓ callers show a token: collector",
        "✓ packages all there",
        "✓ listen http 127.0.0.1:0 is free",
        "· listen grpc off",
        "✓ listen admin 127.0.0.1:0 is free",
    ]
    whole = " ".join(rows[7:])  # rows are wrapped
    assert re.fullmatch(rf"✓ spool {re.escape(str(Path('spool').absolute()))}, [\d,]+ MiB free ✓ workers 1", whole)
    assert sorted(path.name for path in Path().iterdir()) == ["bridge.yaml"]


def test_check_of_a_gateway_that_forwards(bridge: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no spool, and uses one that is there."""
    bridge(acknowledge="forward", listen={"http": "127.0.0.1:0", "grpc": "off", "admin": "off"})
    for shown in ("none", "spool, for dead letters and what was spooled before"):
        _, out, _ = run(capsys, "--config", "bridge.yaml", "--check")
        whole = " ".join(" ".join(out).split())  # rows are wrapped
        assert f"· spool {shown}; an answer follows PostHog's (acknowledge: forward)" in whole
        assert "· callers show nothing: anybody who reaches the listeners may send" in whole
        Path("spool").mkdir(exist_ok=True)


def test_check_finds_what_a_file_cannot_tell(
    bridge: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that is taken, a spool that is no folder, a package that is missing: exit 1, each in its row."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        Path("file").write_text("no folder")
        bridge(listen={"http": f"127.0.0.1:{port}", "grpc": "off", "admin": "off"}, spool={"dir": "file/spool"})
        monkeypatch.setattr(check, "_installed", lambda name: name != "grpc")
        code, out, err = run(capsys, "--config", "bridge.yaml", "--check")
    assert (code, err) == (1, [])
    problems = [" ".join(line.split()) for line in out if "✗" in line]
    assert problems[0].startswith("✗ packages missing: grpc (OTLP over gRPC); pip install 'otel-posthog[gateway]'")
    assert problems[1].startswith(f"✗ listen http 127.0.0.1:{port}: Address already in use")
    assert problems[2] == "✗ spool file/spool: file is no folder"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a file system without room is needed")
def test_check_finds_no_room_and_no_folder(bridge: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever runs it: root may write everywhere."""
    bridge(listen={"http": "127.0.0.1:0", "grpc": "off", "admin": "off"}, spool={"dir": "/proc/spool"})
    code, out, _ = run(capsys, "--config", "bridge.yaml", "--check")
    assert code == 1
    assert "✗ spool /proc/spool: " in " ".join(" ".join(out).split())


def test_check_knows_the_ports_that_collectors_take(
    bridge: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commonest reason for a port in use, with what to do."""

    def taken(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(check.socket.socket, "bind", taken)
    bridge(listen={"http": "127.0.0.1:4318", "grpc": "127.0.0.1:4317", "admin": "127.0.0.1:8887"})
    code, out, _ = run(capsys, "--config", "bridge.yaml", "--check")
    whole = " ".join(" ".join(out).split())
    assert code == 1
    assert "choose another (a Collector takes this one by default; beside one --http 127.0.0.1:14318)" in whole
    assert "choose another (a Collector takes this one by default; beside one --grpc off)" in whole
    assert "127.0.0.1:8887: Address already in use; stop what listens there, or choose another" in whole


def test_check_of_a_bad_file(bridge: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Every mistake, one line each, on standard error."""
    bridge(lissen={}, workers="many", acknowledge="spol")
    code, out, err = run(capsys, "--config", "bridge.yaml", "--check")
    assert (code, out) == (1, [])
    assert [line.partition("(bridge.yaml:")[0] for line in err] == [
        "otel-posthog gateway: `lissen` ",
        "otel-posthog gateway: `workers` ",
        "otel-posthog gateway: `acknowledge` ",
    ]


@pytest.mark.row(42)
def test_messages_are_one_line_each(bridge: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever stands in the file."""
    Path("bridge.yaml").write_text('"a\\nb\\e[31m": 1\nprojects: {"\\u202e": 1}\n')
    code, _, err = run(capsys, "--config", "bridge.yaml")
    assert code == 1
    assert all(line.isprintable() and line.startswith("otel-posthog gateway: ") for line in err), err


def test_nothing_is_set(bridge: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file and variables: what to set."""
    code, _, err = run(capsys)
    assert code == 1
    (said,) = err
    assert said == (
        "otel-posthog gateway: OTEL_EXPORTER_OTLP_ENDPOINT is not set. Set "
        "OTEL_EXPORTER_OTLP_ENDPOINT=https://eu.i.posthog.com (or us) and OTEL_EXPORTER_OTLP_TOKEN=phc_…, "
        "or name a file: --config bridge.yaml"
    )


@pytest.mark.parametrize(("words", "what"), [(["--workers", "0"], "0"), (["--workers", "x"], "x")])
def test_wrong_usage(bridge: Any, capsys: pytest.CaptureFixture[str], words: list[str], what: str) -> None:
    """Usage errors end with 2."""
    code, _, err = run(capsys, *words)
    assert code == 2
    assert f"'{what}' is no number of workers; use 1 to 256, or auto" in err[-1]


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """For editors."""
    code, out, _ = run(capsys, "--schema")
    assert code == 0
    assert json.loads("\n".join(out)) == bridge_json_schema()
