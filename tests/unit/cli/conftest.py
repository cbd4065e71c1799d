"""A loopback server that answers as a test scripts it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Asked:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What to answer."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


@dataclass
class Scripted:
    """A running server."""

    url: str
    asked: list[Asked]


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Asked], Answer]], Scripted]]:
    """Starts servers on loopback; all are stopped at the end of the test."""
    running: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(respond: Callable[[Asked], Answer]) -> Scripted:
        asked: list[Asked] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                """Records the request and answers it."""
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = Asked(
                    self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body
                )
                asked.append(request)
                found = respond(request)
                self.send_response_only(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                if "date" not in found.headers:
                    self.send_header("date", self.date_time_string())
                self.send_header("content-length", str(len(found.body)))
                self.end_headers()
                self.wfile.write(found.body)

            do_GET = do_POST = do_OPTIONS = answer

            def log_message(self, *args: object) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.append((server, thread))
        return Scripted(f"http://127.0.0.1:{server.server_address[1]}", asked)

    yield start
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join(60)
