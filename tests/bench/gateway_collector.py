"""The row that puts a real gateway beside a real Collector: the same compressed requests, from the same sender.

Both are processes of their own, on one core each (`--workers 1`, `GOMAXPROCS=1`), and what counts is their CPU for
each span: user and system time of the process, from the first request until everything has left it. The gateway runs
as it comes: each request is on disk before it is acknowledged. The Collector keeps its queue in memory, as it comes.
"""

from __future__ import annotations

import gzip
import http.client
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.gateway_payloads import SPANS, failed, tagged, variants
from tests.bench.harness import Row, interleaved
from tests.bench.sink import Sink
from tests.fixtures.collector import CACHE, EVERYDAY, Collector
from tests.fixtures.gateway import TOKEN, GatewayProcess

REQUESTS = 300
CONNECTIONS = 4
_TICKS = os.sysconf("SC_CLK_TCK")

CONFIG = """
extensions:
  health_check: {endpoint: "${env:HEALTH_ENDPOINT}"}
receivers:
  otlp: {protocols: {http: {endpoint: "${env:OTLP_HTTP_ENDPOINT}", max_request_body_size: 67108864}}}
processors:
  filter:
    error_mode: ignore
    traces: {span: ['attributes["posthog.event"] == nil']}
  transform:
    error_mode: ignore
    trace_statements:
      - context: span
        statements:
          - set(attributes["posthog.properties.environment"], resource.attributes["deployment.environment.name"])
          - set(attributes["posthog.properties.service_name"], resource.attributes["service.name"])
          - delete_key(attributes, "net.peer.ip")
exporters:
  otlp_http: {endpoint: "${env:SINK}", compression: gzip, retry_on_failure: {enabled: true}}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], processors: [filter, transform], exporters: [otlp_http]}
"""
"""Receive, filter, transform, export: only tagged spans (exceptions, which the gateway converts too, are left out)."""


def rows(sink: Sink, rounds: int) -> Iterator[Row]:
    """The row, where the Collector has been built."""
    binary = CACHE / "collector" / EVERYDAY
    if not binary.exists():
        print("… the row beside the Collector needs `make collector`", file=sys.stderr)
        return
    numbers = iter(range(1 << 30))
    events = sum(tagged("B", number) + failed("B", number) for number in range(SPANS))
    spans = sum(tagged("B", number) for number in range(SPANS))
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "collector.yaml"
        config.write_text(CONFIG)
        gateway = GatewayProcess(Path(folder) / "gateway", sink.url, args=("--workers", "1"))
        with gateway, Collector(config, {"SINK": sink.url}, binary=binary.resolve()) as collector:
            assert gateway.process is not None
            assert collector.process is not None
            of_gateway, of_collector = gateway.process.pid, collector.process.pid

            def ours() -> float:
                bodies = _bodies(numbers)
                return _cpu_of_span(of_gateway, sink, gateway.http_url, bodies, events)

            def peer() -> float:
                bodies = _bodies(numbers)
                return _cpu_of_span(of_collector, sink, collector.ports.http_url, bodies, spans)

            results = interleaved(ours, peer, rounds)
    yield Row(
        "gateway process, 1 % tagged: CPU of a span",
        "Collector: receive, filter, transform, export",
        *results,
        1.0,
        1 / 3,
        f"{REQUESTS} requests of {SPANS} spans a round, {CONNECTIONS} connections; the gateway spools to disk",
    )


def _bodies(numbers: Iterator[int]) -> list[bytes]:
    number = next(numbers)
    return [gzip.compress(body, 6) for body in variants("B", REQUESTS, number * REQUESTS)]


def _cpu_of_span(pid: int, sink: Sink, url: str, bodies: Sequence[bytes], leaving: int) -> float:
    """CPU seconds of process `pid` for each span, until `leaving` items of each request have reached the sink."""
    before, expected = cpu_seconds(pid), sink.seen() + leaving * len(bodies)
    post_all(url, bodies)
    deadline = time.monotonic() + 60
    while sink.seen() < expected:
        assert time.monotonic() < deadline, f"{expected - sink.seen()} of {leaving * len(bodies)} items never left"
        time.sleep(0.05)
    return (cpu_seconds(pid) - before) / (SPANS * len(bodies))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def post_all(url: str, bodies: Sequence[bytes], done: Callable[[float], None] | None = None) -> None:
    """Posts every body as a Collector would, over a few connections; `done` is told the seconds of each.

    Raises:
        AssertionError: Some answer is not 200.
    """
    local = threading.local()
    host, _, port = url.removeprefix("http://").partition(":")
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "gzip",
        "Authorization": f"Bearer {TOKEN}",
    }
    opened: list[http.client.HTTPConnection] = []

    def post(body: bytes) -> None:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = http.client.HTTPConnection(host, int(port), timeout=30)
            opened.append(connection)
        begun = time.monotonic()
        connection.request("POST", "/v1/traces", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{answer.status} {text[:200]!r}"
        if done is not None:
            done(time.monotonic() - begun)

    try:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(post, bodies))
    finally:
        for connection in opened:
            connection.close()
