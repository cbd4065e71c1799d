"""What takes minutes to hours: load, an hour of faults, an outage seen from inside a process (`make soak`).

`SOAK_MINUTES` shortens or lengthens the hour.
"""

from __future__ import annotations

import gzip
import os
import random
import threading
import time
from pathlib import Path

import grpc
import pytest
import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.emulator import Emulator, Fault
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.fixtures.gateway import TOKEN, GatewayProcess
from tests.rig.oracle import Sender, metric, request, until

# Read here, since a running test sees no setting of ours.
MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
PER_REQUEST = 100
UNTAGGED = 90

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def mixed(first: int) -> bytes:
    """A request of 100 spans of which ten are tagged, the first of them `first`."""
    message = ExportTraceServiceRequest.FromString(request(range(first, first + PER_REQUEST - UNTAGGED)))
    spans = message.resource_spans[0].scope_spans[0].spans
    for number in range(UNTAGGED):
        span = spans.add()
        span.CopyFrom(spans[0])
        span.span_id = (1 << 62 | first << 8 | number).to_bytes(8, "big")
        del span.attributes[:]
    return message.SerializeToString()


def usage(pid: int) -> tuple[float, int, int]:
    """MiB of memory, threads and open files of a process."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return memory / 1024, len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def pace(count: int, each: float, send: object) -> None:
    """Calls `send(number)` `count` times, one every `each` seconds."""
    assert callable(send)
    start = time.monotonic()
    for number in range(count):
        time.sleep(max(start + number * each - time.monotonic(), 0))  # the pace is what is asked for
        send(number)


@pytest.mark.row(25)
@pytest.mark.parametrize("transport", ["http", "grpc"])
def test_ten_thousand_spans_a_second(transport: str, tmp_path: Path) -> None:
    """10,000 spans a second for a minute, one in ten tagged, gzip: no loss, memory below 300 MiB."""
    count = 6_000
    bodies = [gzip.compress(mixed(number * 10), 1) for number in range(count)]
    raws = [gzip.decompress(body) for body in bodies] if transport == "grpc" else []
    waits: list[float] = []
    with Emulator() as posthog, GatewayProcess(tmp_path, posthog.url) as gateway:
        assert gateway.process is not None
        http = urllib3.PoolManager(8, retries=False)
        channel = grpc.insecure_channel(gateway.grpc_target, compression=grpc.Compression.Gzip)
        call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        headers = {
            "content-type": "application/x-protobuf",
            "content-encoding": "gzip",
            "authorization": f"Bearer {TOKEN}",
        }

        def send(number: int) -> None:
            began = time.monotonic()
            if transport == "http":
                answer = http.request("POST", f"{gateway.http_url}/v1/traces", body=bodies[number], headers=headers)
                assert answer.status == 200
            else:
                call(raws[number], metadata=[("authorization", f"Bearer {TOKEN}")])
            waits.append(time.monotonic() - began)

        pace(count, 0.01, send)
        channel.close()
        assert until(lambda: posthog.stats()["stored"] == count * 10, 120), posthog.stats()
        waits.sort()
        memory, _, _ = usage(gateway.process.pid)
        print(f"{transport}: p50 {waits[count // 2]:.4f} s, p99 {waits[count * 99 // 100]:.4f} s, {memory:.0f} MiB")
        assert memory < 300


@pytest.mark.row(26)
def test_an_hour_of_faults(tmp_path: Path) -> None:
    """1,000 spans a second, another fault every two minutes: nothing lost or doubled; memory, threads, files flat."""
    chance = random.Random(26)
    faults = [
        Fault("status", status=503),
        Fault("lose_answer", probability=0.5),
        Fault("hang", probability=0.2),
        Fault("status", status=429, retry_after="2"),
        Fault("cut", probability=0.7),
        Fault("status", status=401),
        Fault("html"),
    ]
    count = int(MINUTES * 60 * 10)
    seen: list[tuple[float, int, int]] = []
    with Emulator() as posthog, GatewayProcess(tmp_path, posthog.url) as gateway:
        assert gateway.process is not None
        pid = gateway.process.pid
        sender = Sender(gateway.http_url, TOKEN)

        def send(number: int) -> None:
            if number % 1200 == 0:
                posthog.script(chance.choice(faults), seed=number)
            elif number % 1200 == 400:
                posthog.script()
            assert sender.send(range(number * 10, number * 10 + 10), body=mixed(number * 10))
            if number % 100 == 99:
                seen.append(usage(pid))

        pace(count, 0.1, send)
        posthog.script()
        assert until(lambda: posthog.stats()["stored"] == count * 10, 300), posthog.stats()
        assert until(lambda: metric(gateway, "otel_posthog_spool_records") == 0)
        books = posthog.stats()
        assert books["received"] == books["stored"] + books["duplicates"]
        quarter = max(len(seen) // 4, 1)
        early, late = seen[quarter : 2 * quarter] or seen, seen[-quarter:]
        print("MiB, threads, files:", seen[0], max(early), max(late))
        assert max(late)[0] < max(early)[0] * 1.25 + 20
        assert max(found[1] for found in late) <= max(found[1] for found in early) + 2
        assert max(found[2] for found in late) <= max(found[2] for found in early) + 8


@pytest.mark.row(43)
def test_everything_is_down_seen_from_inside(tmp_path: Path) -> None:
    """PostHog is gone, 10,000 tagged spans a second for five minutes: no exception, memory bounded, drops counted."""
    with Emulator() as posthog:
        port = int(posthog.url.rpartition(":")[2])
    processor = PostHogSpanProcessor(api_key="phc_test", host=f"http://127.0.0.1:{port}", mode="direct")
    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(processor)
    tracer = traces.get_tracer("soak")
    end = time.monotonic() + min(MINUTES, 5) * 60
    memory: list[float] = []
    while time.monotonic() < end:
        began = time.monotonic()
        for _ in range(1_000):
            with tracer.start_as_current_span("checkout") as span:
                span.set_attributes({"posthog.event": "order placed", "posthog.distinct_id": "ada"})
        memory.append(usage(os.getpid())[0])
        threading.Event().wait(max(0.1 - (time.monotonic() - began), 0))
    third = len(memory) // 3
    print(f"MiB: {memory[third]:.0f} after a third, {memory[-1]:.0f} at the end")
    assert memory[-1] < memory[third] * 1.2 + 10
    traces.shutdown()
