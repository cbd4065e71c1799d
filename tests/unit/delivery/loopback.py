"""A server on loopback that does what a script says, a PostHog that keeps the books, and deliveries whose books must
balance after every test.
"""

from __future__ import annotations

import gzip
import io
import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_delivery
from otel_posthog.delivery.protocols import Delivery, DeliveryStats
from otel_posthog.model import CaptureEvent

TOKEN = "phc_canary0123456789"
DAY = 1_763_600_000_000_000_000


@dataclass
class Seen:
    """One request as the server got it."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> bytes:
        """The body without gzip."""
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def uuids(self) -> list[str]:
        """The uuids of its batch."""
        return [event["uuid"] for event in self.json["batch"]]


Action = Callable[["Handler", Seen], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's script."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        """Reads the request and acts."""
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        seen = Seen(self.path, {name.lower(): value for name, value in self.headers.items()}, raw)
        with self.server.lock:
            self.server.seen.append(seen)
            action = self.server.script.pop(0) if self.server.script else self.server.default
        try:
            action(self, seen)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; underscores in header names become dashes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        self.wfile = io.BytesIO()  # http.server flushes it once more


class Server(ThreadingHTTPServer):
    """A loopback server: `script` for the next requests, `default` for all others."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.seen: list[Seen] = []
        self.script: list[Action] = []
        self.default: Action = accept
        self.over = threading.Event()
        self.store: dict[tuple[str, str, str, str], int] = {}
        """PostHog's de-duplication key -> how often it came."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """Clients of these tests hang up at will."""

    def keep(self, seen: Seen, only: Sequence[str] | None = None) -> None:
        """Stores a request's events by the de-duplication key."""
        with self.lock:
            for event in seen.json["batch"]:
                if only is None or event["uuid"] in only:
                    day = event["timestamp"][:10]
                    key = (event["uuid"], event["event"], event["distinct_id"], day)
                    self.store[key] = self.store.get(key, 0) + 1


def results(seen: Seen, **verdicts: str) -> bytes:
    """A v1 answer: `ok` for each event, but for those whose distinct_id is named."""
    answer = {event["uuid"]: {"result": verdicts.get(event["distinct_id"], "ok")} for event in seen.json["batch"]}
    return json.dumps({"results": answer}).encode()


def accept(handler: Handler, seen: Seen) -> None:
    """What PostHog does."""
    handler.server.keep(seen)
    if seen.path == "/batch/":
        handler.reply(200, b'{"status":"Ok"}', Content_Type="application/json")
    else:
        handler.reply(200, results(seen), Content_Type="application/json")


def status(code: int, body: bytes = b"", **headers: str) -> Action:
    """Answers with a status."""
    return lambda handler, _: handler.reply(code, body, **headers)


def hang(handler: Handler, _: Seen) -> None:
    """Never answers."""
    handler.server.over.wait(100)
    handler.close_connection = True


def lost_answer(handler: Handler, seen: Seen) -> None:
    """Takes the batch, and hangs up before the answer."""
    handler.server.keep(seen)
    handler.reset()


def drip_head(handler: Handler, _: Seen) -> None:
    """Sends the head of an answer byte by byte, for ever."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 10_000:
        handler.connection.sendall(bytes([byte]))
        if handler.server.over.wait(0.05):
            break
    handler.close_connection = True


def drip_body(handler: Handler, _: Seen) -> None:
    """Sends a quick head and a body byte by byte, for ever."""
    handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n")
    for _byte in range(90_000):
        handler.connection.sendall(b" ")
        if handler.server.over.wait(0.05):
            break
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    """A scripted server."""
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.over.set()
    made.shutdown()
    made.server_close()
    thread.join(30)


def event(number: int = 0, **changes: Any) -> CaptureEvent:
    """An event of its own."""
    made = CaptureEvent(
        event="order placed",
        distinct_id=f"user-{number}",
        uuid=str(uuid.UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number)),
        timestamp_ns=DAY + number * 1_000_000,
        properties={"number": number, "$lib": "otel-posthog"},
    )
    return replace(made, **changes)


def key(made: CaptureEvent) -> tuple[str, str, str, str]:
    """PostHog's de-duplication key of an event."""
    day = datetime.fromtimestamp(made.timestamp_ns / 1e9, tz=timezone.utc).date().isoformat()
    return (made.uuid, made.event, made.distinct_id, day)


QUICK = DeliveryConfig(
    flush_interval=0.02,
    retry_initial=0.01,
    retry_max=0.05,
    timeout=30.0,
    exit_timeout=30.0,
    retry_elapsed=60.0,
    wire="v0",
)


def balanced(stats: DeliveryStats) -> None:
    """The books are right, whatever happened."""
    assert stats.balanced, stats
    assert stats.pending >= 0, stats
    assert min([*stats.lost.values(), stats.delivered, stats.spooled, 0]) >= 0, stats


@dataclass
class Workshop:
    """Makes deliveries to the scripted server, ends them, and looks at their books."""

    server: Server
    made: list[Delivery] = field(default_factory=list)

    def __call__(self, *, url: str = "", mode: Mode = Mode.DIRECT, token: str = TOKEN, **changes: Any) -> Delivery:
        """A delivery with quick limits and `changes` to them."""
        lane = Lane(mode, url or self.server.url, Secret(token))
        settings = Settings(enabled=True, lane=lane, delivery=replace(QUICK, **changes))
        return self.build(settings)

    def build(self, settings: Settings, **arguments: Any) -> Delivery:
        """The delivery of any settings."""
        made = build_delivery(settings, guard=raise_it, **arguments)
        self.made.append(made)
        return made


def raise_it(where: str, error: BaseException) -> None:
    """Internal errors fail the test."""
    raise AssertionError(where) from error


@pytest.fixture
def deliver(server: Server) -> Iterator[Workshop]:
    """Makes deliveries; afterwards every one is shut down, has nothing pending, and its books balance."""
    workshop = Workshop(server)
    yield workshop
    server.over.set()
    for made in workshop.made:
        balanced(made.stats())
        made.shutdown(1.0)
        balanced(made.stats())
        assert made.stats().pending == 0, made.stats()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Waits for what another thread is about to do; a bound, not a measure."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
