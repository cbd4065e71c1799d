"""A sender that keeps its pace: `python -m tests.bench.gateway_sender PROTOCOL ADDRESS RATE SECONDS TOKEN`.

Spans leave in requests of a hundred, all tagged, gzipped, each with ids of its own. A request is due at its time
whatever became of those before it, and its acknowledgement is timed from then on: a receiver that stalls cannot slow
the sender down and look fast. What is refused for the moment is sent again, as a Collector does. Prints JSON.
"""

from __future__ import annotations

import gzip
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench.gateway_payloads import variants
from tests.bench.harness import quantile

SPANS_OF_REQUEST = 100
CONNECTIONS = 16
ATTEMPTS = 20
PAUSE = 0.5

Post = Callable[[bytes], bool]
"""Sends one request; False where it should come again."""


def main() -> None:
    """Sends, and prints what became of it."""
    protocol, address, rate, seconds, token = sys.argv[1:]
    count = int(rate) * int(seconds) // SPANS_OF_REQUEST
    plain = variants("C", count, size=SPANS_OF_REQUEST)
    # With gRPC the client library compresses, on its own account.
    bodies = list(plain) if protocol == "grpc" else [gzip.compress(body, 6) for body in plain]
    post = _grpc(address, token) if protocol == "grpc" else _http(address, token)
    acks: list[float] = []
    again: list[int] = []
    interval = SPANS_OF_REQUEST / int(rate)
    begun, cpu = time.monotonic(), time.process_time()

    def send(number: int) -> None:
        due = begun + number * interval
        time.sleep(max(0.0, due - time.monotonic()))
        for _ in range(ATTEMPTS):
            if post(bodies[number]):
                acks.append(time.monotonic() - due)
                return
            again.append(number)
            time.sleep(PAUSE)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(send, range(count)))
    result: dict[str, Any] = {
        "sent": count,
        "acknowledged": len(acks),
        "again": len(again),
        "median": quantile(acks, 0.5),
        "p99": quantile(acks, 0.99),
        "largest": max(acks),
        "seconds": time.monotonic() - begun,
        "cpu": time.process_time() - cpu,
    }
    print(json.dumps(result))


def _http(address: str, token: str) -> Post:
    local = threading.local()
    host, _, port = address.partition(":")
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "gzip",
        "Authorization": f"Bearer {token}",
    }

    def post(body: bytes) -> bool:
        connection = getattr(local, "connection", None)
        if connection is None:
            connection = local.connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("POST", "/v1/traces", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in (200, 429, 503), f"{answer.status} {text[:200]!r}"
        return answer.status == 200

    return post


def _grpc(address: str, token: str) -> Post:
    import grpc

    channel = grpc.insecure_channel(address)
    call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    metadata = (("authorization", f"Bearer {token}"),)

    def post(body: bytes) -> bool:
        try:
            call(body, metadata=metadata, timeout=30, compression=grpc.Compression.Gzip)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.UNAVAILABLE, str(error)  # type: ignore[attr-defined]
            return False
        return True

    return post


if __name__ == "__main__":
    main()
