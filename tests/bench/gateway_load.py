"""The rows of a steady load: 10,000 tagged spans a second, everything on this machine (`--only gateway-load`).

Gateway, sender and PostHog's stand-in are processes of their own that share the cores. What has to hold: every span
that was acknowledged becomes an event, and acknowledgements, each of which follows a sync of the disk, come soon.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.gateway_collector import cpu_seconds
from tests.bench.gateway_sender import SPANS_OF_REQUEST
from tests.bench.harness import Row
from tests.bench.sink import Sink
from tests.fixtures.gateway import TOKEN, GatewayProcess

RATE = 10_000
ROOT = Path(__file__).parents[2]


def rows(sink: Sink, *, seconds: int) -> Iterator[Row]:
    """Loss, acknowledgements and memory, over HTTP and over gRPC."""
    for protocol in ("http", "grpc"):
        with (
            tempfile.TemporaryDirectory() as folder,
            GatewayProcess(Path(folder), sink.url, args=("--workers", "1")) as gateway,
        ):
            assert gateway.process is not None
            pid = gateway.process.pid
            before, seen = cpu_seconds(pid), sink.seen()
            address = gateway.grpc_target if protocol == "grpc" else gateway.http_url.removeprefix("http://")
            result = _send(protocol, address, seconds)
            acknowledged = result["acknowledged"] * SPANS_OF_REQUEST
            lost = _lost(sink, seen + acknowledged)
            name = f"{RATE:,} tagged spans/s for {seconds} s, {protocol}"
            cpu = cpu_seconds(pid) - before
            note = (
                f"{result['acknowledged']} of {result['sent']} requests acknowledged, {result['again']} attempts more; "
                f"median {result['median'] * 1e3:.1f} ms, largest {result['largest'] * 1e3:.0f} ms; CPU of the "
                f"gateway {cpu:.1f} s, of the sender {result['cpu']:.1f} s in {result['seconds']:.1f} s"
            )
            yield Row(f"{name}: acknowledged spans that did not arrive", "", [lost], [], 0, 0, note, "")
            yield Row(f"{name}: p99 of a durable acknowledgement", "", [result["p99"]], [], 0.25, 0.125)
            yield Row(f"{name}: largest memory", "", [_largest_mib(pid)], [], 300, 150, unit="MiB")


def _send(protocol: str, address: str, seconds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.gateway_sender", protocol, address, str(RATE), str(seconds), TOKEN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds * 4 + 240)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _lost(sink: Sink, expected: int) -> int:
    deadline = time.monotonic() + 60
    while (missing := expected - sink.seen()) > 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    return missing


def _largest_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
