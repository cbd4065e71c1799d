"""OTLP/HTTP and peers that are slow, many or mean: each ends by a deadline, and honest clients notice nothing."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from otel_posthog.gateway.inbound import OK
from tests.unit.gateway.receivers.rig import FakeIntake, Raw, Rig, Start, post, request, tokens


@pytest.mark.row(38)
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"POST /v1/traces HTTP/1.1\r\n" + b"X-A: b\r\n" * 5000, "deadline_header"),
        (b"\r\n" * 5000, "deadline_header"),
        (request(body=b"x" * 5000), "deadline_body"),
        (request(content_length="", transfer_encoding="chunked") + b"1\r\nx\r\n" * 5000, "deadline_body"),
    ],
    ids=["headers", "line breaks", "body", "chunks"],
)
def test_slow_senders_are_closed(start: Start, data: bytes, why: str) -> None:
    """However steadily they send; others are served meanwhile, and nothing of theirs is kept."""
    rig = start(header_timeout=1.0, body_timeout=1.0)
    head = data.find(b"\r\n\r\n") + 4 if why == "deadline_body" else 0
    ended: list[bool] = []

    def slow() -> None:
        with Raw(rig.http) as client:
            client.send(data[:head])
            client.socket.settimeout(0.02)
            for byte in data[head:]:
                try:
                    client.send(bytes([byte]))
                    if client.socket.recv(1) == b"":
                        ended.append(True)
                        return
                except TimeoutError:
                    continue
                except (ConnectionResetError, BrokenPipeError):
                    ended.append(True)
                    return

    attackers = [threading.Thread(target=slow) for _ in range(5)]
    for attacker in attackers:
        attacker.start()
    assert [post(rig.http, body=b"x").status for _ in range(50)] == [200] * 50
    for attacker in attackers:
        attacker.join(60)
    assert ended == [True] * 5
    assert rig.books.count("receiver_refused", why=why) == 5
    assert server(rig).held == 0


@pytest.mark.row(38)
@pytest.mark.parametrize("sent", [b"", b"POST", request(content_length="10") + b"abc"])
def test_silent_peers_are_closed(start: Start, sent: bytes) -> None:
    """Half-open sockets look like this."""
    rig = start(header_timeout=0.2, body_timeout=0.2)
    with Raw(rig.http) as client:
        client.send(sent)
        assert client.closed()


@pytest.mark.row(38)
@pytest.mark.parametrize("answer", [OK, None], ids=["answered at once", "answered later"])
def test_half_a_request_behind_a_whole_one(start: Start, answer: Any) -> None:
    """It has the same deadline, though it came with the one before it."""
    rig = start(FakeIntake(answer), header_timeout=1.5)
    with Raw(rig.http) as client:
        client.send(request(body=b"x") + b"POST /v1/tra")
        if answer is None:
            assert rig.intake.arrived.acquire(timeout=60)
            rig.intake.unanswered[0](OK)
        assert client.reply().status == 200
        assert client.closed()
    assert rig.books.count("receiver_refused", why="deadline_header") == 1


@pytest.mark.row(38)
def test_idle_connections_are_closed_after_a_while(start: Start) -> None:
    """Quiet ones are no fault of anybody's: nothing is counted."""
    rig = start(idle_timeout=1.0)
    with Raw(rig.http) as client:
        client.send(request(body=b"x"))
        assert client.reply().status == 200
        assert client.closed()
    assert rig.books.count("receiver_refused") == 0


@pytest.mark.row(38)
def test_whoever_reads_no_answers_is_closed(start: Start) -> None:
    """Requests without end whose responses nobody takes fill no memory."""
    rig = start(header_timeout=1.0, body_timeout=0.3, idle_timeout=0.3)
    with Raw(rig.http) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.settimeout(3)
        many = request("/nowhere", b"") * 1000
        # A reset may not get through to a client whose window is full: it is the server that knows.
        with pytest.raises((ConnectionResetError, BrokenPipeError, TimeoutError)):
            for _ in range(100_000):
                client.send(many)
        until(lambda: not server(rig)._connections)
    assert len(rig.intake.seen) == 0
    assert post(rig.http).status == 200


@pytest.mark.row(38)
@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/traces HTTP/1.1\r\nX-A: " + b"b" * 50_000,
        b"POST /v1/traces HTTP/1.1\r\n" + b"X-A: b\r\n" * 10_000,
        b"POST /" + b"x" * 50_000,
        request(content_length="", transfer_encoding="chunked") + b"1\r\nx\r\n0\r\nX-Trailer: " + b"y" * 50_000,
        request(content_length="", transfer_encoding="chunked") + b"1;" + b"y" * 50_000,
    ],
    ids=["header", "headers", "path", "trailer", "extension"],
)
def test_oversized_heads_are_refused(start: Start, head: bytes) -> None:
    """Before they have ended, and wherever HTTP has room for them."""
    rig = start(max_header=8192)
    with Raw(rig.http) as client:
        client.send(head)
        reply = client.reply()
        assert (reply.status, reply.headers["connection"]) == (431, "close")
    assert rig.intake.seen == []


def test_a_refused_client_may_finish_sending(start: Start) -> None:
    """A reset would hide the 413, and the same bytes would come again."""
    rig = start(max_body=1000)
    with Raw(rig.http) as client:
        client.send(request(content_length=str(8_000_000)))
        client.send(b"x" * 8_000_000)
        assert client.reply().status == 413
        assert client.closed()


def test_a_client_that_leaves_takes_its_bytes_along(start: Start) -> None:
    """Half a body and an unheard answer leave nothing behind."""
    rig = start(FakeIntake(None))
    with Raw(rig.http) as client:
        client.send(request(content_length="3000000") + b"x" * 2_000_000)
        until(lambda: server(rig).held == 2_000_000)
    until(lambda: server(rig).held == 0)
    with Raw(rig.http) as client:
        client.send(request(body=b"abc"))
        assert rig.intake.arrived.acquire(timeout=60)
        # A reset, as of a process that was killed; one that merely says no more may still be listening.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: rig.books.count("receiver_requests", answer="gone") == 1)
    rig.intake.unanswered[0](OK)
    rig.intake.answer = OK
    assert post(rig.http).status == 200


def test_what_is_being_read_counts(start: Start) -> None:
    """The intake is asked with all the bytes that it does not know of yet, again and again while they come."""
    rig = start()
    limit = 3_000_000
    rig.intake.admitting = lambda size: size <= limit
    with Raw(rig.http) as first, Raw(rig.http) as second:
        first.send(request(content_length="3000000") + b"x" * 2_500_000)
        until(lambda: server(rig).held == 2_500_000)
        second.send(request(content_length="600000"))
        assert second.reply().status == 503
        limit = 1_000_000
        first.send(b"x" * 400_000 + b"x" * 100_000)
        # 3,000,000 has been passed: the last full step of 1 MiB is behind, so this one is complete and taken.
        assert first.reply().status == 200
    limit = 1_000_000
    with Raw(rig.http) as third:
        third.send(request(content_length="", transfer_encoding="chunked") + b"2dc6c0\r\n" + b"x" * 3_000_000)
        reply = third.reply()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    until(lambda: server(rig).held == 0)


# --- how many ------------------------------------------------------------------------------------------------------


@pytest.mark.row(27)
def test_too_many_connections_are_told_so(start: Start) -> None:
    """503 for those beyond the limit, silence for those far beyond it, and all is well when they have gone."""
    rig = start(FakeIntake(None), max_connections=20, max_connections_per_peer=0)
    busy = [rig.connect() for _ in range(20)]
    for client in busy:
        client.send(request(body=b"x"))
        assert rig.intake.arrived.acquire(timeout=60)
    refused = [rig.connect() for _ in range(200)]
    told = 0
    for client in refused:
        try:
            client.send(request(body=b"x"))
            reply = client.reply()
            assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
            told += 1
        except (ConnectionResetError, BrokenPipeError):
            pass
        client.socket.close()
    assert told >= 64
    for done in rig.intake.unanswered:
        done(OK)
    assert [client.reply().status for client in busy] == [200] * 20
    rig.intake.answer = OK
    for client in busy:
        client.socket.close()
    assert post(rig.http, body=b"x").status == 200
    assert rig.books.count("receiver_refused", why="connections") == 200


@pytest.mark.row(27)
def test_a_thousand_idle_connections_keep_nobody_out(start: Start) -> None:
    """Those that have been quiet for longest make room."""
    rig = start(max_connections=50, max_connections_per_peer=0)
    idle = []
    for _ in range(200):
        idle.append(rig.connect())
        idle[-1].send(request(body=b"x"))
        assert idle[-1].reply().status == 200
    assert len(server(rig)._connections) == 50
    assert [client.closed() for client in idle[:150]] == [True] * 150
    idle[-1].send(request(body=b"x"))
    assert idle[-1].reply().status == 200
    assert rig.books.count("receiver_refused") == 0


@pytest.mark.row(38)
def test_silent_connections_make_room_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that never sent a thing go before honest clients that wait for their next request."""
    monkeypatch.setattr("otel_posthog.gateway.receivers.http_connection._PATIENCE", 0.0)
    rig = start(max_connections=10, max_connections_per_peer=0)
    honest = [rig.connect() for _ in range(5)]
    for client in honest:
        client.send(request(body=b"x"))
        assert client.reply().status == 200
    silent: list[Raw] = []
    for _ in range(50):
        silent.append(rig.connect())
        until(lambda: here(rig, silent[-1]))
    assert [client.closed() for client in silent[:45]] == [True] * 45
    for client in honest:
        client.send(request(body=b"x"))
        assert client.reply().status == 200


@pytest.mark.row(27)
def test_one_peer_cannot_have_them_all(start: Start) -> None:
    """A limit for each address."""
    rig = start(FakeIntake(None), max_connections_per_peer=5)
    busy = [rig.connect() for _ in range(5)]
    for client in busy:
        client.send(request(body=b"x"))
        assert rig.intake.arrived.acquire(timeout=60)
    assert post(rig.http, body=b"x").status == 503
    with socket.socket() as other:
        other.bind(("127.0.0.2", 0))
        other.settimeout(60)
        other.connect(("127.0.0.1", rig.http))
        other.sendall(request("/nowhere"))
        assert other.recv(100).startswith(b"HTTP/1.1 404")
    for client in busy:
        client.socket.close()


@pytest.mark.row(27)
def test_five_hundred_clients_at_once(start: Start) -> None:
    """All are served, and all is as before when they have gone."""
    rig = start()
    clients = [rig.connect() for _ in range(500)]
    for client in clients:
        client.send(request(body=b"x" * 2000))
    assert [client.reply().status for client in clients] == [200] * 500
    for client in clients:
        client.socket.close()
    until(lambda: not server(rig)._connections)
    assert (server(rig).held, server(rig)._peers) == (0, {})


def test_no_file_descriptor_left(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and a moment later it listens again."""
    rig = start()
    loop = server(rig)._loop
    assert loop is not None
    failing = [True]

    class Listener:
        def __init__(self, real: socket.socket) -> None:
            self._real = real

        def accept(self) -> Any:
            if failing.pop():
                failing.append(False)
                raise OSError(errno.EMFILE, "Too many open files")
            failing.append(False)
            return self._real.accept()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(server(rig), "_sockets", [Listener(each) for each in server(rig)._sockets])
    loop.call_soon_threadsafe(server(rig)._listen_again)
    assert post(rig.http).status == 200
    assert "no file descriptor is left" in caplog.text


@pytest.mark.row(39)
def test_strangers_cost_no_memory(start: Start) -> None:
    """Without a token nothing of a body is kept, however much is sent."""
    rig = start(None, tokens(ada="s3cret"))
    with Raw(rig.http) as client:
        client.send(request(content_length="50000000"))
        assert client.reply().status == 401
        client.send(b"x" * 20_000_000)
        assert (server(rig).held, rig.intake.asked) == (0, [])


# --- the end -------------------------------------------------------------------------------------------------------


def test_stopping_refuses_new_requests_on_old_connections(start: Start) -> None:
    """Those that have begun are served, idle connections are closed, the rest is told to go elsewhere."""
    rig = start()
    with Raw(rig.http) as idle, Raw(rig.http) as begun, Raw(rig.http) as fresh:
        idle.send(request(body=b"x"))
        assert idle.reply().status == 200
        begun.send(request(content_length="3") + b"ab")
        until(lambda: server(rig).held == 2)
        fresh.send(b"POST /v1/tra")
        until(lambda: sum(not each.idle for each in server(rig)._connections) == 2)
        rig.receivers.stop_accepting()
        assert idle.closed()
        begun.send(b"c")
        reply = begun.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        fresh.send(b"ces HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
        reply = fresh.reply()
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        with pytest.raises(ConnectionRefusedError):
            Raw(rig.http)
    rig.receivers.stop(20)
    assert not server(rig)._thread.is_alive()


def server(rig: Rig) -> Any:
    """The HTTP server inside."""
    return rig.receivers._http


def here(rig: Rig, client: Raw) -> bool:
    """Whether a connection has been taken."""
    name = client.socket.getsockname()
    taken = [each._transport for each in tuple(server(rig)._connections)]
    return any(transport is not None and transport.get_extra_info("peername") == name for transport in taken)


def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens on the server's thread, which tells nobody."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)
