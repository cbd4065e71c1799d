"""`otel-posthog tail`: lines for people and programs, over any number of connections."""

from __future__ import annotations

import io
import json
import os
import signal as signals
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot

from otel_posthog.cli import tail
from otel_posthog.cli.main import main
from otel_posthog.cli.tail_text import show
from otel_posthog.gateway.admin.door import WorkerDoor
from otel_posthog.gateway.admin.server import AdminServer

Serve = Callable[..., AdminServer]


class Command:
    """The command in a thread, as `main` runs it; the process's own streams are pytest's."""

    def __init__(self, *words: str) -> None:
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, args=(words,), daemon=True)
        self._thread.start()

    def _run(self, words: tuple[str, ...]) -> None:
        self.code = main(["tail", *words])

    def end(self) -> int | None:
        """Its exit code, once it has ended."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.code


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks until it holds."""
    import time

    deadline, pause = time.monotonic() + 60, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_lines_for_people(gateway: Any, serve: Serve, make_signal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: events with who and what, drops with why; the connection is told on standard error."""
    server = serve(gateway)
    command = Command("--url", server.url, "--drops", "--count", "3")
    wait_until(lambda: gateway.tail.viewers == 1)
    gateway.projects["shop"].bridge.accept(
        [
            make_signal("order", total=42.5, note="two words", **{"$lib": "x"}),
            make_signal("drop it"),
            make_signal("plain"),
        ]
    )

    assert command.end() == 0
    out, err = capsys.readouterr()
    assert out == snapshot("""\
● 22:13:20.123  shop  order  ada  total=42.5 note="two words"
○ shop  span drop it → rule (silence)
○ shop  span plain → not_tagged
""")
    assert err == f"otel-posthog tail: connected to {server.url}\n"


def test_lines_for_programs(gateway: Any, serve: Serve, make_signal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON as the gateway sends it, filtered by the gateway."""
    server = serve(gateway)
    command = Command("--url", server.url, "--json", "--event", "order", "--distinct-id", "bob", "--count", "1")
    wait_until(lambda: gateway.tail.viewers == 1)
    gateway.projects["shop"].bridge.accept([make_signal("order"), make_signal("order", who="bob", umlaut="ü")])

    assert command.end() == 0
    out, _ = capsys.readouterr()
    assert out.isascii()
    assert json.loads(out)["properties"] == {"umlaut": "ü"}


@pytest.mark.row(42)
def test_hostile_text_reaches_no_terminal() -> None:
    """Escape sequences, new lines, NUL and marks that turn text around are shown as signs, on one line."""
    stream = io.StringIO()
    hostile = "a\nb\x1b[2J\x00\u009b31m\u202e\u200f\u2028\u2066"
    for kind in ("event", "refused", "drop", "missed"):
        show(
            {
                "type": kind,
                "count": hostile,
                "project": hostile,
                "event": hostile,
                "distinct_id": hostile,
                "timestamp": hostile,
                "reason": hostile,
                "signal": {"kind": hostile, "name": hostile, "rule": hostile},
                "properties": {hostile: hostile},
            },
            stream,
        )

    lines = stream.getvalue().split("\n")
    assert len(lines) == 5
    assert lines.pop() == ""
    assert {char for line in lines for char in line if not char.isprintable()} == set()


def test_a_terminal_gets_colours_and_one_line_of_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is cut."""

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Tty()
    show(
        {"type": "event", "project": "shop", "event": "order", "distinct_id": "ada", "properties": {"a": "x" * 99}},
        stream,
    )

    assert stream.getvalue() == snapshot("""\
\x1b[32m●\x1b[0m   shop  \x1b[1morder\x1b[0m  ada  a=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
""")


def test_what_an_event_says_itself_comes_before_what_every_event_says() -> None:
    """A terminal cuts the end of a line."""
    stream = io.StringIO()
    properties = {"environment": "production", "service_name": "till", "$is_server": True, "$trace_id": "5b8e"}
    show(
        {
            "type": "event",
            "timestamp": "2026-11-21T09:12:44.071Z",
            "project": "shop",
            "event": "order paid",
            "distinct_id": "ada",
            "properties": {**properties, "$geoip_disable": True, "sku": "mug", "total": 12.5},
        },
        stream,
    )

    assert stream.getvalue() == (
        "● 09:12:44.071  shop  order paid  ada  sku=mug total=12.5 environment=production service_name=till "
        "$trace_id=5b8e\n"
    )


def test_it_waits_for_a_gateway_that_went_away(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """The pauses grow, each is told, and begin anew after a connection that was let in."""
    first = serve(gateway)
    said: list[str] = []
    paused: list[float] = []
    port = first.port

    def pause(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) in (4, 5):
            serve(WorkerDoor(gateway.sources()), port=port)

    documents = tail.follow(tail._address(f"127.0.0.1:{port}"), {}, "", say=said.append, pause=pause)
    offering = threading.Event()

    def offer() -> None:
        while not offering.wait(0.005):
            gateway.projects["shop"].bridge.accept([make_signal("order")])

    thread = threading.Thread(target=offer)
    thread.start()
    try:
        assert next(documents)["event"] == "order"
        first.close()
        while len(paused) < 4:
            next(documents)
        assert next(documents)["event"] == "order"
    finally:
        offering.set()
        thread.join(60)
        documents.close()

    assert paused == [0.5, 1.0, 2.0, 4.0]
    lost = f"otel: no connection to http://127.0.0.1:{port}"
    assert [text.partition(" (")[0] for text in said] == [
        f"connected to http://127.0.0.1:{port}",
        *[lost.removeprefix("otel: ")] * 4,
        f"connected to http://127.0.0.1:{port} again",
    ]
    assert said[2].endswith("(Connection refused); again in 1 s")


def test_nobody_there_at_first_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong address is told at once, with the way out; a program that waits is not what was asked for."""
    import socket

    # Bound, so that nobody else gets the port; not listening.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert main(["tail", "--url", f"127.0.0.1:{port}"]) == 1

    assert capsys.readouterr().err == (
        f"otel-posthog: `--url` (http://127.0.0.1:{port}): no gateway answers (Connection refused). "
        "Start `otel-posthog gateway`, or name its admin address\n"
    )


def test_tokens(
    gateway: Any, serve: Serve, make_signal: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token comes from a file, so that it is in no list of processes; a wrong one is told, and never shown."""
    server = serve(gateway, token="s3cret")
    path = tmp_path / "token"
    needed = (
        "`--token-file`: the admin token is needed. Name a file that holds the gateway's `admin_token`. "
        "If it has none, --url is not its admin address"
    )
    for content, message in (
        (None, needed),
        ("wr0ng\n", needed),
        ("\n", f"`--token-file` ({path}): it holds no token. Write the token on one line"),
    ):
        if content is not None:
            path.write_text(content)
        assert main(["tail", "--url", server.url, *(["--token-file", str(path)] if content else [])]) == 1
        assert capsys.readouterr().err == f"otel-posthog: {message}\n"

    path.write_text("s3cret\n")
    command = Command("--url", server.url, "--token-file", str(path), "--count", "1")
    wait_until(lambda: gateway.tail.viewers == 1)
    gateway.projects["shop"].bridge.accept([make_signal("order")])
    assert command.end() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "ftp://x"], "'ftp://x' is no address; write it as http://127.0.0.1:8887"),
        (["--url", "http://"], "'http://' is no address"),
        (["--url", "http://u:p@h"], "is no address"),
        (["--url", "http://h:99999"], "is no address"),
        (["--count", "0"], "'0' is not a number from 1"),
        (["--count", "x"], "'x' is not a number from 1"),
    ],
)
def test_wrong_usage(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 2 and says what would be right."""
    assert main(["tail", *words]) == 2
    assert said in capsys.readouterr().err


def test_it_asks_where_a_gateway_listens_by_default() -> None:
    """One default for gateway, tail and health check."""
    from otel_posthog.cli.gateway import HEALTH_URL
    from otel_posthog.gateway.configuration.settings import DEFAULT_ADMIN

    assert f"http://{DEFAULT_ADMIN.host}:{DEFAULT_ADMIN.port}" == tail.DEFAULT_URL
    assert f"{tail.DEFAULT_URL}/livez" == HEALTH_URL


def test_another_server_is_told_as_such(gateway: Any, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """An address where something else answers."""
    server = serve(gateway)

    assert main(["tail", "--url", f"{server.url}/elsewhere"]) == 1
    assert capsys.readouterr().err == (
        "otel-posthog: `--url`: HTTP 404: that is not a gateway's admin address. It listens on 8887 by default\n"
    )


def test_ctrl_c_ends_it_cleanly(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """As a process: 130, and nothing on standard error but that it was connected."""
    server = serve(gateway)
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_posthog.cli", "tail", "--url", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUTF8": "1"},
        text=True,
        encoding="utf-8",
        # Shells start what runs in the background with Ctrl-C ignored, and that is inherited.
        preexec_fn=lambda: signals.signal(signals.SIGINT, signals.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        wait_until(lambda: gateway.tail.viewers == 1)
        gateway.projects["shop"].bridge.accept([make_signal("order")])
        assert "order" in process.stdout.readline()
        process.send_signal(signals.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert (process.returncode, err) == (130, f"otel-posthog tail: connected to {server.url}\n")
