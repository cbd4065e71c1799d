"""A PostHog that answers at once, in a process of its own: its CPU is nobody's, and neither side is held up by it.

`python -m tests.bench.sink` prints its port. It reads v0 and v1 bodies, counts events (spans, where a Collector
sends them), and says how many it saw.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = 0
    lock = threading.Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.path == "/v1/traces":
            self._saw(_spans(body))
            self._answer(b"", "application/x-protobuf")
            return
        batch = json.loads(body).get("batch", [])
        self._saw(len(batch))
        if self.path.startswith("/i/v1/"):
            self._answer({"results": {event["uuid"]: {"result": "ok"} for event in batch}})
        else:
            self._answer({"status": "Ok"})

    def _saw(self, count: int) -> None:
        with self.lock:
            type(self).seen += count

    def do_GET(self) -> None:
        self._answer({"seen": type(self).seen})

    def _answer(self, answer: object, content_type: str = "application/json") -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        # One write: two small ones would wait for each other (Nagle, delayed acknowledgement) on either side's account.
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (content_type.encode(), len(body), body)
        )

    def log_message(self, *args: object) -> None:
        pass


def _spans(body: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for owner in request.resource_spans for scope in owner.scope_spans)


class Sink:
    """The running sink, seen from here."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def seen(self) -> int:
        """Events that arrived so far."""
        with urllib.request.urlopen(f"{self.url}/seen", timeout=10) as answer:
            return int(json.load(answer)["seen"])


@contextmanager
def sink() -> Iterator[Sink]:
    """Starts it, and ends it by its own pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.sink"], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    try:
        yield Sink(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _main()
