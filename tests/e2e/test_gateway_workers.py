"""`otel-posthog gateway --workers N`: one port, several processes, none of which may take anything with it."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator, Fault
from tests.fixtures.gateway import TOKEN, GatewayProcess
from tests.unit.gateway.gateway_world import otlp, post

Start = Callable[..., GatewayProcess]


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def start(tmp_path: Path, posthog: Emulator) -> Iterator[Start]:
    """Starts a gateway with workers; they are ended at the end, whatever has become of it."""
    running: list[GatewayProcess] = []

    def begin(workers: int = 2, **more: Any) -> GatewayProcess:
        gateway = GatewayProcess(tmp_path / "gateway", posthog.url, args=("--workers", str(workers)), **more)
        running.append(gateway)
        gateway.start()
        wait_until(lambda: len(children(gateway)) == workers)
        return gateway

    yield begin
    for gateway in running:
        left = children(gateway)
        gateway.kill()
        for pid in left:
            wait_until(lambda pid=pid: not alive(pid))


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.05)


def children(gateway: GatewayProcess) -> list[int]:
    """Process ids of the workers, by number."""
    if gateway.process is None:
        return []
    parent = gateway.process.pid
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "status").read_text()
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue
        worker = re.search(rb"OTEL_POSTHOG_WORKER=(\d+)/", environ)
        if worker is not None and re.search(rf"^PPid:\s+{parent}$", status, re.MULTILINE):
            found[int(worker[1])] = int(entry.name)
    return [found[number] for number in sorted(found)]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def names(emulator: Emulator) -> list[str]:
    """Names of the events."""
    return sorted(event["event"] for event in emulator.events())


def send(gateway: GatewayProcess, number: int) -> int:
    """One event on a connection of its own, again until it is taken; how often it was tried."""
    document = otlp(f"event {number}", span_id=f"{number + 1:016x}")
    for attempt in range(1, 200):
        try:
            status, _ = post(gateway.http_url, document, token=TOKEN)
        except OSError:  # the kernel had given the connection to a worker that died
            status = 503
        if status == 200:
            return attempt
        time.sleep(0.05)
    raise AssertionError("it was never taken")


def test_workers_share_the_ports(start: Start, posthog: Emulator) -> None:
    """Both take requests from one port, each writes a spool of its own, and they show themselves as one."""
    gateway = start()
    for number in range(40):
        assert send(gateway, number) == 1
    posthog.wait_for(lambda emulator: len(names(emulator)) == 40)
    assert sorted(path.name for path in gateway.spool.iterdir()) == ["0", "1", "dead"]
    text = gateway.get("/metrics")[1]
    taken = {
        match[1]: float(match[2])
        for match in re.finditer(r'intake_requests_total\{[^}]*worker="(\d)"\} ([0-9.]+)', text)
    }
    assert sum(taken.values()) == 40
    assert len(taken) == 2, "the kernel gives connections to both"
    assert gateway.stop() == 0
    assert "all 2 workers serve" in gateway.text


@pytest.mark.row(12)
def test_a_worker_that_dies_comes_back(start: Start, posthog: Emulator) -> None:
    """What it had acknowledged is delivered by its successor; the others serve on meanwhile."""
    posthog.script(Fault(action="status", status=503))
    gateway = start()
    for number in range(20):
        send(gateway, number)
    first, second = children(gateway)
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: (now := children(gateway))[:1] == [first] and now[1:] not in ([], [second]))
    posthog.script()
    for number in range(20, 30):
        send(gateway, number)
    posthog.wait_for(lambda emulator: len(names(emulator)) == 30, timeout=60)
    assert children(gateway)[0] == first
    wait_until(gateway.ready)
    assert 'otel_posthog_worker_restarts_total{worker="1"} 1.0' in gateway.get("/metrics")[1]
    assert "worker 1 ended with SIGKILL" in gateway.text
    assert gateway.stop() == 0


def test_workers_that_are_no_longer_there(start: Start, posthog: Emulator, tmp_path: Path) -> None:
    """After a start with fewer workers the spools of the others are drained."""
    posthog.script(Fault(action="status", status=503))
    gateway = start(3, settings={"drain_timeout": 0.2})
    for number in range(30):
        send(gateway, number)
    assert gateway.stop() == 0
    posthog.script()
    alone = GatewayProcess(tmp_path / "gateway", posthog.url, ports=gateway.ports)
    with alone:
        posthog.wait_for(lambda emulator: len(names(emulator)) == 30, timeout=60)
        wait_until(lambda: sorted(path.name for path in alone.spool.iterdir()) == ["0", "dead"])
    assert len(posthog.events()) == 30


def test_a_supervisor_that_dies_takes_its_workers_along(start: Start, posthog: Emulator) -> None:
    """Nobody would look after them, and the next start would find their spools in use."""
    gateway = start()
    workers = children(gateway)
    gateway.kill()
    wait_until(lambda: not any(alive(pid) for pid in workers))
    gateway.start()
    assert set(children(gateway)).isdisjoint(workers)
    send(gateway, 1)
    posthog.wait_for(lambda emulator: names(emulator) == ["event 1"])
    assert "is in use by another process" not in gateway.text


def test_a_hang_up_reaches_the_workers(start: Start) -> None:
    """SIGHUP to the supervisor has each of them read the configuration again."""
    gateway = start(settings={"reload": "signal"})
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    wait_until(lambda: gateway.text.count("was read again and holds now") == 2)
    assert {re.search(r"\[(\d)\]", line)[1] for line in gateway.text.splitlines() if "read again" in line} == {"0", "1"}  # type: ignore[index]


@pytest.mark.row(18)
def test_a_second_sigterm_ends_workers_at_once(start: Start, posthog: Emulator) -> None:
    """The first one lets them deliver, the second one does not."""
    posthog.script(Fault(action="status", status=503))
    gateway = start(settings={"drain_timeout": 600})
    for number in range(10):
        send(gateway, number)
    process, workers = gateway.process, children(gateway)
    assert process is not None
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: gateway.text.count("stopping; at most") == 2)
    process.send_signal(signal.SIGTERM)
    # Far sooner than the ten minutes that the first one gave them.
    assert process.wait(90) == 1
    wait_until(lambda: not any(alive(pid) for pid in workers))


def test_workers_that_cannot_start(tmp_path: Path, posthog: Emulator) -> None:
    """A spool that is taken ends the whole with 1 and a reason, in place of starting again for ever."""
    with GatewayProcess(tmp_path / "first", posthog.url) as first:
        second = GatewayProcess(
            tmp_path / "second", posthog.url, args=("--workers", "2"), settings={"spool": {"dir": str(first.spool)}}
        )
        second.start(wait=False)
        assert second.process is not None
        assert second.process.wait(60) == 1
        assert "is in use by another process" in second.text
        assert "worker 0 cannot start" in second.text
        second.kill()
        assert first.ready()
