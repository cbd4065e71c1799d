"""The second request on a connection, which is read and written without urllib3: everything as with the first."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.delivery.deadline import Deadline
from otel_posthog.delivery.exchange import exchange, request_head
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.transport import Urllib3Transport
from otel_posthog.errors import PermanentError, RetryableError
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import Handler, Seen, Server, status
from tests.unit.delivery.secured import Secured

HEADERS = {"Content-Type": "application/json", "User-Agent": "otel-posthog/test", "PostHog-Attempt": "1"}

Post = Callable[..., Response]


@pytest.fixture
def post(server: Server) -> Iterator[Post]:
    """Posts on a connection that has been used once; `post.ports` are the client's ports that the server saw."""
    transport = Urllib3Transport(environ={})

    def again(body: bytes = b"{}", *, timeout: float = 30.0, headers: dict[str, str] = HEADERS) -> Response:
        return transport.post(Request(f"{server.url}/x?a=b", headers, body), timeout=timeout)

    server.script = [status(200, b"warm")]
    assert again().body == b"warm"
    assert len(server.seen) == 1
    yield again
    transport.close()


def says(raw: bytes, *, close: bool = False) -> Any:
    """An answer byte for byte."""

    def act(handler: Handler, _: Seen) -> None:
        handler.connection.sendall(raw)
        handler.close_connection = close

    return act


def ports_of(server: Server) -> list[int]:
    """Notes the client's port of each request from now on."""
    ports: list[int] = []

    def note(handler: Handler, _: Seen) -> None:
        ports.append(handler.client_address[1])
        handler.reply(200, b"ok")

    server.default = note
    return ports


def test_the_same_request_either_way(server: Server, post: Post) -> None:
    """What the server sees of the second request is what it saw of the first."""
    server.default = status(200)
    post()
    first, second = server.seen
    assert (second.path, second.headers, second.raw) == (first.path, first.headers, first.raw)


def test_a_whole_answer(server: Server, post: Post) -> None:
    """Status, lower-case header names, values without blanks around, body."""
    server.script = [says(b"HTTP/1.1 207 \r\nX-One:  1 \r\nRetry-After:7\r\ncontent-LENGTH: 3\r\n\r\nabc")]
    answer = post()
    assert (answer.status, answer.body) == (207, b"abc")
    assert answer.headers == {"x-one": "1", "retry-after": "7", "content-length": "3"}


@pytest.mark.parametrize("code", [200, 204, 301, 304, 307, 400, 401, 404, 413, 429, 500, 503])
def test_any_status_is_an_answer(server: Server, post: Post, code: int) -> None:
    """No status raises, none is followed, and the connection is good for the next."""
    head = b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\n" % code
    server.script = [says(head + (b"\r\n" if code in (204, 304) else b"Content-Length: 2\r\n\r\nno"))]
    assert post().status == code
    server.script = [status(200, b"next")]
    assert post().body == b"next"
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_answers_that_are_not_plain(server: Server, post: Post, raw: bytes, body: bytes) -> None:
    """Chunks, interim answers, folded lines, bare line feeds: read as http.client reads them; the next one is read."""
    server.script = [says(raw)]
    answer = post()
    assert (answer.status, answer.body) == (200, body)
    server.script = [status(200, b"next")]
    assert post().body == b"next"


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 50_000, b"y" * 50_000),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nbroken off", b"broken off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nbroken off", b""),
    ],
)
def test_a_last_answer(server: Server, post: Post, raw: bytes, body: bytes) -> None:
    """Whole or broken off, what came is the answer, and the next request has a connection of its own."""
    server.script = [says(raw, close=True)]
    answer = post()
    assert answer.status == 200
    assert answer.body.startswith(body)
    server.script = [status(200, b"next")]
    assert post().body == b"next"


def test_two_lengths_are_not_believed(server: Server, post: Post) -> None:
    """What the second length leaves over would be read as the next answer."""
    server.script = [says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\nok", close=True)]
    post()
    server.script = [status(200, b"next")]
    assert post().body == b"next"


def test_more_than_was_announced_ends_the_connection(server: Server, post: Post) -> None:
    """The surplus must not become the next answer."""
    ports = ports_of(server)
    post()
    server.script = [
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    ]
    assert post().body == b"ok"
    assert post().body == b"ok"
    assert len(set(ports)) == 2


def test_a_long_answer_is_cut(server: Server, post: Post) -> None:
    """64 KiB are kept, and the rest is not waited for."""
    server.script = [status(200, b"x" * 200_000)]
    assert post().body == b"x" * 64 * 1024
    server.script = [status(200, b"next")]
    assert post().body == b"next"


@pytest.mark.parametrize("raw", [b"garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon"])
def test_garbage_is_retryable(server: Server, post: Post, raw: bytes) -> None:
    """It says nothing about the data."""
    server.script = [says(raw, close=True)]
    with pytest.raises(RetryableError):
        post()
    server.script = [status(200, b"next")]
    assert post().body == b"next"


def test_a_reset_is_retryable(server: Server, post: Post) -> None:
    """And so is a connection that ends without a word."""
    server.script = [lambda handler, _: handler.reset(), says(b"", close=True)]
    with pytest.raises(RetryableError, match=r"the connection to 127.0.0.1 failed \(ConnectionResetError\)"):
        post()
    server.script.insert(0, status(200))
    post()
    with pytest.raises(RetryableError, match="failed"):
        post()


@pytest.mark.parametrize("slow", [loopback.hang, loopback.drip_head])
def test_the_whole_exchange_has_one_deadline(server: Server, post: Post, slow: Any) -> None:
    """Bytes that trickle in do not buy time."""
    server.script = [slow]
    with pytest.raises(RetryableError, match="did not answer in time"):
        post(timeout=0.4)
    server.script = [status(200, b"ok")]
    assert post().body == b"ok"


def test_a_slow_body_is_what_came_of_it(server: Server, post: Post) -> None:
    """The head said what became of the request; the connection is not used again."""
    ports = ports_of(server)
    post()
    server.script = [loopback.drip_body]
    answer = post(timeout=2.0)
    assert answer.status == 200
    assert len(answer.body) < 1_000
    post()
    assert len(set(ports)) == 2


def test_a_slow_reader_meets_the_deadline() -> None:
    """A server that does not read a large body costs the timeout, not one timeout for each piece."""
    with socket.create_server(("127.0.0.1", 0)) as lazy:
        transport = Urllib3Transport(environ={})
        url = f"http://127.0.0.1:{lazy.getsockname()[1]}/batch/"

        def once() -> None:
            accepted, _ = lazy.accept()
            received = b""
            while not received.endswith(b"\r\n\r\nfirst"):
                received += accepted.recv(4096)
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            held.append(accepted)

        held: list[socket.socket] = []
        thread = threading.Thread(target=once)
        thread.start()
        transport.post(Request(url, {}, b"first"), timeout=30)
        thread.join(30)
        begun = time.monotonic()
        with pytest.raises(RetryableError, match="did not answer in time"):
            transport.post(Request(url, {}, b"x" * 20_000_000), timeout=0.5)
        assert time.monotonic() - begun < 30
        transport.close()
        held[0].close()


def test_an_answer_before_the_whole_request_is_an_answer() -> None:
    """A 413 that comes while we still write, and a connection closed behind it: the answer counts, not the pipe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
        theirs.shutdown(socket.SHUT_RDWR)
        theirs.close()
        deadline = Deadline()
        deadline.at = time.monotonic() + 60
        answer = exchange(ours, b"POST / HTTP/1.1\r\n\r\n", b"x" * 5_000_000, deadline, 100)
    assert (answer.status, answer.kept) == (413, False)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used(server: Server) -> None:
    """An idle connection ends: the next request opens another, and nothing fails."""
    ports = ports_of(server)
    server.script = [says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=True)]
    transport = Urllib3Transport(environ={})
    transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)
    (pool,) = transport._pools.values()
    (kept,) = [connection for connection in pool.pool.queue if connection is not None]
    assert loopback.until(lambda: not kept.is_connected)
    for _ in range(2):
        assert transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).body == b"ok"
    assert len(set(ports)) == 1
    transport.close()


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-C: d"}, {"X-A": "b\nX-C: d"}, {"X-A\r\nX-C": "d"}])
def test_nothing_is_smuggled_into_the_request(server: Server, post: Post, headers: dict[str, str]) -> None:
    """A line break in a header is permanent, as on the first request."""
    with pytest.raises(PermanentError):
        post(headers=headers)
    assert len(server.seen) == 1


def test_headers_of_urllib3_s_own_are_left_to_it(server: Server, post: Post) -> None:
    """A Collector behind another name, said by an operator's header: once, and theirs."""
    server.default = status(200)
    post(headers={"Host": "otel.example", "X-A": "ä"})
    assert server.seen[-1].headers["host"] == "otel.example"
    assert request_head("/", "h", {"TRANSFER-ENCODING": "chunked"}, 1) == b""


def test_over_tls(secured: Secured) -> None:
    """Bodies of more than a record, both ways, on one connection."""
    ports: set[int] = set()

    def echo(handler: Handler, seen: Seen) -> None:
        ports.add(handler.client_address[1])
        handler.reply(200, seen.raw[:50_000])

    secured.default = echo
    transport = Urllib3Transport(environ={}, ca_file=str(secured.ca_file))
    for size in (10, 500_000, 20, 50_000):
        body = bytes([size % 251]) * size
        assert transport.post(Request(f"{secured.url}/x", HEADERS, body), timeout=30).body == body[:50_000]
    assert len(ports) == 1
    transport.close()


def test_through_a_tunnel(secured: Secured) -> None:
    """HTTPS by a proxy: CONNECT once, then the second request is the server's alone, with nothing of the proxy's."""
    secured.default = lambda handler, seen: handler.reply(200, seen.raw[:99])
    asked: list[bytes] = []

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def serve(listening: socket.socket) -> None:
        client, _ = listening.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        asked.append(head)
        with client, socket.create_connection(("127.0.0.1", secured.server_port)) as target:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, client))
            back.start()
            pump(client, target)
            back.join(30)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        proxy = threading.Thread(target=serve, args=(listening,))
        proxy.start()
        transport = Urllib3Transport(
            environ={"HTTPS_PROXY": f"http://ada:s3cret@127.0.0.1:{listening.getsockname()[1]}"},
            ca_file=str(secured.ca_file),
        )
        for body in (b"first", b"second" * 20_000, b"third"):
            assert transport.post(Request(f"{secured.url}/batch/", HEADERS, body), timeout=30).body == body[:99]
        transport.close()
        proxy.join(30)
    assert [head.split(b" ")[:2] for head in asked] == [[b"CONNECT", f"localhost:{secured.server_port}".encode()]]
    assert b"proxy-authorization: basic" in asked[0].lower()
    first, second, _ = secured.seen
    assert second.path == "/batch/"
    assert {**second.headers, "content-length": "5"} == first.headers
    assert "proxy-authorization" not in second.headers


def test_a_fork_that_python_did_not_see(server: Server) -> None:
    """As uWSGI does it: the child's first post opens a connection of its own, with all of its time."""
    server.default = status(200)
    transport = Urllib3Transport(environ={})
    transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)
    parents = transport._pools
    transport._pid = -1
    assert transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).status == 200
    assert transport._pools is not parents
    transport.close()
    for pool in parents.values():
        pool.close()


@given(pieces=st.lists(st.integers(1, 40), max_size=30), body=st.binary(max_size=200))
def test_any_cut_of_an_answer_is_the_same_answer(pieces: list[int], body: bytes) -> None:
    """TCP may deliver it in any pieces."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    class Trickling:
        """A socket that gives what it is told to."""

        def __init__(self) -> None:
            self.left = raw
            self.sizes = list(pieces)

        def settimeout(self, _: float) -> None:
            """Nothing."""

        def send(self, data: Any) -> int:
            """Takes all."""
            return len(data)

        def recv(self, size: int) -> bytes:
            """The next piece."""
            wanted = min(self.sizes.pop(0) if self.sizes else size, size)
            piece, self.left = self.left[:wanted], self.left[wanted:]
            return piece

    deadline = Deadline()
    deadline.at = time.monotonic() + 60
    answer = exchange(Trickling(), b"POST", b"", deadline, 1_000)  # type: ignore[arg-type]
    assert (answer.status, answer.body, answer.kept) == (200, body, True)
    assert answer.headers["content-type"] == "text/plain"
