"""`otel-posthog gateway` as a process: signals, reload, workers, and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator, Fault
from tests.fixtures.gateway import KEY, TOKEN, GatewayProcess
from tests.unit.gateway.gateway_world import otlp, post

Start = Callable[..., GatewayProcess]


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def start(tmp_path: Path, posthog: Emulator) -> Iterator[Start]:
    """Starts a gateway process; it is ended at the end."""
    running: list[GatewayProcess] = []

    def begin(*, name: str = "gateway", **more: Any) -> GatewayProcess:
        running.append(GatewayProcess(tmp_path / name, posthog.url, **more))
        return running[-1].start()

    yield begin
    for process in running:
        process.kill()


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.05)


def replace(path: Path, text: str) -> None:
    """Writes a file at once: half of it would be read as a change of its own."""
    (new := path.with_suffix(".new")).write_text(text)
    new.replace(path)


def names(emulator: Emulator) -> list[str]:
    """Names of the events."""
    return sorted(event["event"] for event in emulator.events())


@pytest.mark.row(18)
def test_sigterm_ends_it_in_order(start: Start, posthog: Emulator) -> None:
    """What has arrived is delivered, and it ends with 0; the spool is empty."""
    gateway = start(project={"delivery": {"flush_interval": 60}})
    assert post(gateway.http_url, otlp("seen"), token=TOKEN) == (200, {})
    assert gateway.stop() == 0
    assert names(posthog) == ["seen"], "although its batch was far from full"
    assert "everything that arrived has been delivered" in gateway.text


@pytest.mark.row(18)
def test_a_second_sigterm_ends_it_at_once(start: Start, posthog: Emulator) -> None:
    """With PostHog away a stop takes its time; a second signal does not, and nothing acknowledged is lost."""
    posthog.script(Fault(action="status", status=503))
    gateway = start(settings={"drain_timeout": 60})
    assert post(gateway.http_url, otlp("seen"), token=TOKEN) == (200, {})
    process = gateway.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in gateway.text)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    # Far sooner than the minute that the first one gave it.
    assert process.wait(40) == 128 + signal.SIGTERM
    gateway.kill()
    posthog.script()
    gateway.start()
    posthog.wait_for(lambda emulator: names(emulator) == ["seen"])


def test_it_is_unready_before_it_stops_listening(start: Start, posthog: Emulator) -> None:
    """A stop is first seen on `/readyz`, which answers until the end."""
    posthog.script(Fault(action="status", status=503))
    gateway = start(settings={"drain_timeout": 60})
    assert post(gateway.http_url, otlp("seen"), token=TOKEN) == (200, {})
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    wait_until(lambda: gateway.get("/readyz")[0] == 503)
    assert gateway.get("/livez") == (200, "ok\n")
    assert '"phase"' in gateway.get("/readyz?verbose")[1]
    posthog.script()
    assert gateway.process.wait(60) == 0
    assert names(posthog) == ["seen"]


def test_a_change_of_its_files_is_noticed(start: Start, posthog: Emulator, tmp_path: Path) -> None:
    """By looking and by SIGHUP; a bad change is said and changes nothing."""
    rules = tmp_path / "gateway" / "rules.yaml"
    rules.parent.mkdir()
    text = "rules:\n  - {name: paid, match: {name: Pay now}, capture: order paid, distinct_id: ada}\n"
    rules.write_text(text)
    gateway = start(project={"rules": "rules.yaml"})
    assert post(gateway.http_url, otlp(name="Pay now"), token=TOKEN) == (200, {})
    posthog.wait_for(lambda emulator: names(emulator) == ["order paid"])
    replace(rules, text.replace("capture: order paid", "capture: money came"))
    wait_until(lambda: "was read again and holds now" in gateway.text)
    assert post(gateway.http_url, otlp(name="Pay now", span_id="b7ad6b7169203333"), token=TOKEN) == (200, {})
    posthog.wait_for(lambda emulator: names(emulator) == ["money came", "order paid"])
    replace(rules, "rules: [\n")
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the one before stays in use" in gateway.text)
    assert "rules.yaml:2: this is not YAML" in gateway.text
    assert gateway.ready()
    assert post(gateway.http_url, otlp(name="Pay now", span_id="b7ad6b7169203334"), token=TOKEN) == (200, {})
    posthog.wait_for(lambda emulator: len(names(emulator)) == 3)
    assert gateway.stop() == 0


def test_a_file_that_comes_later(start: Start, posthog: Emulator) -> None:
    """A change that names a file which is not there yet is bad, and good once the file is: nothing else is touched."""
    gateway = start(project={"match": {"resource": {"service.name": "shop"}}})
    gateway.project = {"rules": "later.yaml"}
    gateway.write()
    wait_until(lambda: "later.yaml: the rules file cannot be read" in gateway.text)
    replace(
        gateway.folder / "later.yaml",
        "rules:\n  - {name: paid, match: {name: Pay now}, capture: order paid, distinct_id: ada}\n",
    )
    wait_until(lambda: "was read again and holds now" in gateway.text)
    assert post(gateway.http_url, otlp(name="Pay now"), token=TOKEN) == (200, {})
    posthog.wait_for(lambda emulator: names(emulator) == ["order paid"])


@pytest.mark.row(17)
def test_a_second_process_on_the_same_spool(start: Start, posthog: Emulator, tmp_path: Path) -> None:
    """It ends with 1 and says what to do; the first one goes on."""
    first = start()
    second = GatewayProcess(tmp_path / "second", posthog.url, settings={"spool": {"dir": str(first.spool)}})
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(60) == 1
    assert "is in use by another process" in second.text
    assert "Traceback" not in second.text
    second.kill()
    assert first.ready()


def test_a_bad_configuration(tmp_path: Path) -> None:
    """It ends with 1 before anything is opened, and says all that is wrong, one line each."""
    (tmp_path / "bridge.yaml").write_text("lissen: 1\nprojects:\n  a: {host: 'https://ph.example.com'}\n")
    done = subprocess.run(
        [sys.executable, "-m", "otel_posthog.cli.main", "gateway", "--config", "bridge.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["otel-posthog gateway"] * 3
    assert "(bridge.yaml:1): unknown key `lissen`" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bridge.yaml"]


@pytest.mark.row(41)
@pytest.mark.row(42)
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_it_says(start: Start, posthog: Emulator, form: str) -> None:
    """One printable line each, and no secret or payload in any output: log, answers, metrics, health, spool names."""
    posthog.script(Fault(action="status", status=401, count=2))
    gateway = start(settings={"log": {"format": form, "level": "debug"}})
    evil = "seen\n2026-01-01T00:00:00.000Z info forged\x1b[2J\u202e\x00"
    canary = "canary-mail@example.com"
    answers = [
        post(gateway.http_url, otlp(evil, **{"user.email": canary}), token=TOKEN),
        post(gateway.http_url, {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": canary}]}]}]}, token=TOKEN),
        post(gateway.http_url, f"not a request {canary}", token=TOKEN),
        post(gateway.http_url, otlp("x"), token=f"{TOKEN}-near-miss"),
    ]
    assert [status for status, _ in answers] == [200, 200, 400, 401]
    posthog.wait_for(lambda emulator: len(names(emulator)) == 1)
    seen = [
        *(str(answer) for _, answer in answers),
        *(gateway.get(page)[1] for page in ("/metrics", "/readyz?verbose")),
    ]
    check = subprocess.run(
        [sys.executable, "-m", "otel_posthog.cli.main", "gateway", "--config", str(gateway.write()), "--check"],
        env={**os.environ, "TEST_POSTHOG_KEY": KEY, "TEST_GATEWAY_TOKEN": TOKEN},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert gateway.stop() == 0
    seen += [gateway.text, check.stdout, check.stderr, *(str(path) for path in gateway.spool.rglob("*"))]
    for secret in (KEY, TOKEN, canary, "near-miss"):
        assert not any(secret in text for text in seen), secret
    lines = gateway.text.splitlines()
    assert lines
    assert all(line.isprintable() for line in lines)
    shape = r'\{"time": "' if form == "json" else r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) "
    assert not [line for line in lines if not re.match(shape, line)]


@pytest.mark.row(41)
def test_no_key_in_the_spool(start: Start, posthog: Emulator) -> None:
    """What lies on disk names projects, rules and requests: no key and no caller's token."""
    posthog.script(Fault(action="status", status=503))
    gateway = start(project={"default_rules": True}, settings={"drain_timeout": 0.2})
    assert post(gateway.http_url, otlp("kept"), token=TOKEN) == (200, {})
    assert gateway.stop() == 0
    assert "stay in the spool" in gateway.text
    files = [path for path in gateway.spool.rglob("*") if path.is_file()]
    assert any("rules" in path.parts for path in files)
    held = b"".join(path.read_bytes() for path in files)
    assert KEY.encode() not in held
    assert TOKEN.encode() not in held
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
