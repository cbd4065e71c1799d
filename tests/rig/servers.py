"""Servers that stand where PostHog should: raw bytes, TLS with any certificate, verdicts of its own, nothing at all."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3

from otel_posthog.emulator import Emulator
from tests.fixtures.ports import free_port


class RawServer:
    """Gives each connection to `serve`, in a thread of its own; `with RawServer(serve) as server`.

    Args:
        serve: Called with the connection; what it raises as `OSError` ends the connection.
        port: Port, 0 for a free one.
    """

    def __init__(self, serve: Callable[[socket.socket], None], port: int = 0) -> None:
        self.connections = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> RawServer:  # noqa: PYI034 - `Self` is not in Python 3.10
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends `accept`, which `close` would not
        self._listener.close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(30)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(connection)
            thread = threading.Thread(target=self._one, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _one(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self._serve(connection)
        with self._lock:
            self._open.discard(connection)


def read_request(connection: socket.socket) -> None:
    """Reads one request with a `Content-Length` to its end.

    Raises:
        OSError: The client went away first.
    """
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += _some(connection)
    head, _, body = seen.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(lengths[0]) - len(body)
    while left > 0:
        left -= len(_some(connection))


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(65_536)
    if not piece:
        raise ConnectionResetError
    return piece


def endless(start: bytes, again: bytes) -> Callable[[socket.socket], None]:
    """Answers a request with `start`, and then with `again` for as long as anybody reads, a gigabyte at the most."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(start)
        for _ in range((1 << 30) // len(again)):
            connection.sendall(again)

    return serve


class TlsFront(RawServer):
    """TLS in front of a server; `certificate` may be replaced while it runs.

    Args:
        behind: Port on loopback of what it stands in front of.
        certificate: Configures the context of each handshake.
    """

    def __init__(self, behind: int, certificate: Callable[[ssl.SSLContext], None]) -> None:
        super().__init__(self._through)
        self.certificate = certificate
        self._behind = behind

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://localhost:{self.port}"

    def _through(self, connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.certificate(context)
        with (
            context.wrap_socket(connection, server_side=True) as outside,
            socket.create_connection(("127.0.0.1", self._behind)) as inside,
        ):
            with self._lock:
                self._open.add(outside)  # it has the connection's descriptor now
            back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
            back.start()
            _pump(outside, inside)
            back.join(30)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while piece := source.recv(65_536):
            target.sendall(piece)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that takes the first packets of a connection and never says anything: its queue of connections is full."""
    with socket.socket() as listener:
        port = free_port()
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            yield port
        finally:
            for each in waiting:
                each.close()


Opinion = Callable[[dict[str, Any], int], tuple[Any, bool]]
"""An event and how often it came -> its verdict, or one of the following, and whether it is stored."""

UNNAMED = object()
"""The answer does not name it."""
REFUSE = object()
"""400 for the whole batch, of which nothing is stored."""
UPPER_CASE = object()
"""`ok`, for the uuid in capitals."""


class Opinionated:
    """Capture with verdicts of its own: hands on to a local PostHog what it stores, and answers what it likes.

    Args:
        posthog: What stores.
        opinion: Judges each event.
        more: Further entries of every answer.
    """

    def __init__(self, posthog: Emulator, opinion: Opinion, more: dict[str, Any] | None = None) -> None:
        self.came: Counter[str] = Counter()
        self.refused: list[int] = []
        """How many events each batch had that was refused."""
        http = urllib3.PoolManager(4, retries=False)
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                document = json.loads(body)
                answer: dict[str, Any] = dict(more or {})
                stored: list[dict[str, Any]] = []
                for event in document["batch"]:
                    owner.came[event["uuid"]] += 1
                    verdict, kept = opinion(event, owner.came[event["uuid"]])
                    if verdict is UPPER_CASE:
                        answer[event["uuid"].upper()] = {"result": "ok"}
                    elif verdict is not UNNAMED:
                        answer[event["uuid"]] = verdict
                    if kept:
                        stored.append(event)
                if REFUSE in answer.values():
                    owner.refused.append(len(document["batch"]))
                    self.say(400, {"error": "invalid_event", "error_description": "", "error_uri": ""})
                    return
                if stored:
                    named = {name.lower(): value for name, value in self.headers.items()}
                    kinds = ("authorization", "content-type", "posthog-")
                    headers = {name: value for name, value in named.items() if name.startswith(kinds)}
                    document["batch"] = stored
                    reply = http.request("POST", posthog.url + self.path, body=json.dumps(document), headers=headers)
                    assert reply.status == 200, reply.data
                self.say(200, {"results": answer} if "v1" in self.path else {"status": 1})

            def say(self, status: int, answer: dict[str, Any]) -> None:
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Opinionated:  # noqa: PYI034 - `Self` is not in Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)
