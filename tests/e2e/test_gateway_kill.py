"""`kill -9` of the gateway under load, at random moments and at each named point (rows 12 and 13 of the catalogue).

An acknowledgement is an obligation: after the last restart each span that was answered 200 is at PostHog, whole, and
nothing is counted twice there.
"""

from __future__ import annotations

import gzip
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.delivery.spool import Spool
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.emulator import Emulator, Fault
from otel_posthog.gateway.inbound import PROTOBUF
from otel_posthog.gateway.journal.record import Record, encode
from tests.fixtures.gateway_intake import START_NS, spans, until
from tests.fixtures.ports import free_port

ENTRY = Path(__file__).parent / "gateway_under_fire.py"
TOKEN = "phc_killCanary0123456789"
PER_REQUEST = 50
SENDERS = 4
POINTS = ("write", "sync", "synced", "cursor")


class Gateway:
    """One gateway, one life after the other, on one port and one spool."""

    def __init__(self, url: str, spool: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.options = options
        self.url = url
        self.spool = spool
        self.log = log
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, kill_at: str = "") -> subprocess.Popen[bytes]:
        """A new life; returns once it listens, or has killed itself."""
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_TOKEN": TOKEN,
            "OTEL_POSTHOG_MODE": "direct",
            "KILL_AT": kill_at,
        }
        options = ["--http", f"127.0.0.1:{self.port}", "--grpc", "off", "--admin", "off", "--spool", str(self.spool)]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(ENTRY), *options, "--workers", "1", *self.options],
                env=environment, stdout=log, stderr=log, cwd=Path.cwd(),
            )  # fmt: skip
        self.process = process
        assert until(lambda: process.poll() is not None or self._listens(), 60), self.log.read_text()
        return process

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """The end that nobody hears."""
        process = self.process
        assert process is not None
        process.kill()
        process.wait(30)

    def stop(self) -> int:
        """The end in order; its exit code."""
        process = self.process
        assert process is not None
        process.terminate()
        return process.wait(60)


class Oracle:
    """Sends numbered spans, about 2,000 a second, each until it is acknowledged; remembers what was."""

    def __init__(self, port: int, rate: float = 2_000) -> None:
        self.acknowledged: list[int] = []
        self._url = f"http://127.0.0.1:{port}/v1/traces"
        self._pause = PER_REQUEST * SENDERS / rate
        self._next = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(SENDERS)]
        self.statuses: dict[int, int] = {}

    def start(self) -> None:
        """Begins."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends; what was not acknowledged by then is nobody's obligation."""
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self) -> None:
        http = urllib3.PoolManager(1, retries=False, timeout=urllib3.Timeout(30))
        while not self._over.is_set():
            with self._lock:
                first, self._next = self._next, self._next + PER_REQUEST
            body = spans(first, PER_REQUEST, event="order placed")
            while not self._over.is_set():
                try:
                    status = http.request(
                        "POST", self._url, body=body, headers={"content-type": "application/x-protobuf"}
                    ).status
                except urllib3.exceptions.HTTPError:
                    self._over.wait(0.02)
                    continue
                with self._lock:
                    self.statuses[status] = self.statuses.get(status, 0) + 1
                    if status == 200:
                        self.acknowledged.extend(range(first, first + PER_REQUEST))
                if status == 200:
                    self._over.wait(self._pause)
                    break
                self._over.wait(0.1)
        http.clear()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as running:
        yield running


def check(emulator: Emulator, oracle: Oracle, gateway: Gateway) -> dict[str, Any]:
    """All that was acknowledged is there, once, whole; the spool is empty, and nothing was put aside.

    Returns:
        The books of the server.
    """
    owed = set(oracle.acknowledged)
    assert until(lambda: emulator.stats()["stored"] >= len(owed), 60), gateway.log.read_text()[-3_000:]
    missing: set[int] = set()
    stored: list[dict[str, Any]] = []

    def arrived() -> bool:
        stored[:] = emulator.events()
        missing.clear()
        missing.update(owed - {int(event["distinct_id"].removeprefix("person-")) for event in stored})
        return not missing

    assert until(arrived, 60), f"{len(missing)} of {len(owed)} are lost: {sorted(missing)[:20]}"
    assert gateway.stop() == 0, gateway.log.read_text()[-3_000:]
    keys = [(event["uuid"], event["distinct_id"], event["event"], event["timestamp"][:10]) for event in stored]
    people = {key[1] for key in keys}
    assert len(keys) == len(set(keys)) == len(people)
    for event in stored[:: max(len(stored) // 500, 1)]:
        number = int(event["distinct_id"].removeprefix("person-"))
        assert event["event"] == "order placed"
        assert event["properties"]["$trace_id"] == f"{number + 1:032x}"
        expected = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START_NS // 10**9 + number))
        assert event["timestamp"].startswith(expected)
    assert set(oracle.statuses) <= {200, 503}
    assert list(gateway.spool.rglob("*.log")) == []
    books = emulator.stats()
    assert books["received"] == books["stored"] + books["duplicates"]
    return books


def under_fire(emulator: Emulator, tmp_path: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kills the gateway again and again at random moments; the emulator's books at the end."""
    chance = random.Random(seed)
    gateway = Gateway(emulator.url, tmp_path / "spool", tmp_path / "gateway.log")
    gateway.start()
    oracle = Oracle(gateway.port)
    oracle.start()
    try:
        killed = 0
        # More of them where none has hit anything that was on its way, or a slow machine has acknowledged little.
        while killed < kills or not emulator.stats()["duplicates"] or len(oracle.acknowledged) < 100 * kills:
            assert killed < 5 * kills, (emulator.stats(), len(oracle.acknowledged))
            received = emulator.stats()["received"]
            time.sleep(chance.uniform(0.0, 0.7))  # the moment is what this test is about
            if killed >= kills:
                # A slow machine was killed before it had delivered anything: now in the middle of a delivery.
                assert until(lambda since=received: emulator.stats()["received"] > since, 60)
            gateway.kill()
            gateway.start()
            killed += 1
        oracle.stop()
        return check(emulator, oracle, gateway)
    finally:
        oracle.stop()
        gateway.kill()


@pytest.mark.row(12, 53)
@pytest.mark.timeout(300)
def test_twenty_kills_under_load(emulator: Emulator, tmp_path: Path) -> None:
    """Row 12: 2,000 spans a second, twenty kills at seeded random moments."""
    assert under_fire(emulator, tmp_path, kills=20, seed=12)["duplicates"], "a kill hit what was on its way"


@pytest.mark.row(12)
@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_two_hundred_kills_under_load(emulator: Emulator, tmp_path: Path) -> None:
    """Row 12 at length: two hundred kills, while the server has its own troubles."""
    emulator.script(Fault("status", status=503, probability=0.1), Fault("lose_answer", probability=0.05), seed=3)
    assert under_fire(emulator, tmp_path, kills=200, seed=200)["duplicates"], "a kill hit what was on its way"


@pytest.mark.row(12)
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_start_with_a_full_spool(emulator: Emulator, tmp_path: Path) -> None:
    """Row 12: with 1 GiB in the spool it serves within 5 s, takes further requests, and its memory stays bounded."""
    emulator.script(Fault("status", status=503))
    spool = Spool(str(tmp_path / "spool"), OsFiles(), max_bytes=2 << 30, now_ns=time.time_ns, name="0")
    padding = random.Random(1).randbytes(150_000).hex()
    body = gzip.compress(spans(0, 50, size=1_000) + padding_span(padding), compresslevel=1)
    record = encode(Record("traces", PROTOBUF, body, gzip=True))
    while spool.size < 1 << 30:
        spool.append([record] * max(4 * 1024 * 1024 // len(record), 1))
    spool.close()
    gateway = Gateway(
        emulator.url, tmp_path / "spool", tmp_path / "gateway.log", options=["--config", str(roomy(tmp_path))]
    )
    began = time.monotonic()
    process = gateway.start()
    took = time.monotonic() - began
    try:
        oracle = Oracle(gateway.port)
        oracle.start()
        assert until(lambda: len(oracle.acknowledged) > 5_000, 60)
        oracle.stop()
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
        print(f"served after {took:.2f} s, peak {peak} MiB")
        assert took < 5
        assert peak < 300, f"{peak} MiB"
    finally:
        gateway.kill()


def padding_span(text: str) -> bytes:
    """A request with one untagged span that does not compress."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.name = "padding"
    pair = span.attributes.add()
    pair.key, pair.value.string_value = "padding", text
    return request.SerializeToString()


def roomy(folder: Path) -> Path:
    """A configuration whose spool has room for more than 1 GiB."""
    path = folder / "bridge.yaml"
    path.write_text("spool:\n  max_bytes: 2147483648\n")
    return path


@pytest.mark.row(12)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_named_point(emulator: Emulator, tmp_path: Path, point: str) -> None:
    """Before the write, before the sync, before the acknowledgement, before the cursor moves; early and late."""
    gateway = Gateway(emulator.url, tmp_path / "spool", tmp_path / "gateway.log")
    gateway.start(f"{point}:1")
    oracle = Oracle(gateway.port)
    oracle.start()
    try:
        for count in (2, 5, 0):
            assert gateway.process is not None
            assert gateway.process.wait(60) == -signal.SIGKILL, gateway.log.read_text()
            gateway.start(f"{point}:{count}" if count else "")
        assert until(lambda: len(oracle.acknowledged) > 200)
        oracle.stop()
        check(emulator, oracle, gateway)
    finally:
        oracle.stop()
        gateway.kill()
