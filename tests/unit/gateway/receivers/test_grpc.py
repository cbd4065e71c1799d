"""OTLP/gRPC: what is answered where grpc's own answer would lose data, and peers that are slow, many or mean."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind
from otel_posthog.gateway.receivers import Credentials, Listen, Receivers, ReceiverSettings
from tests.unit.gateway.receivers import http2
from tests.unit.gateway.receivers.http2 import Http2
from tests.unit.gateway.receivers.rig import METHODS, TIMEOUT, FakeIntake, Outcome, Raw, Rig, Start, failed, tokens
from tests.unit.gateway.receivers.test_slow_http import until


@pytest.fixture
def channels() -> Iterator[list[Any]]:
    """Channels that end with the test."""
    opened: list[Any] = []
    yield opened
    for channel in opened:
        channel.close()


Opened = list[Any]


def channel_to(rig: Rig, channels: Opened, *options: tuple[str, Any], **more: Any) -> Any:
    """A channel of its own connection."""
    own = [("grpc.use_local_subchannel_pool", 1), *options]
    channels.append(grpc.insecure_channel(f"127.0.0.1:{rig.grpc}", own, **more))
    return channels[-1]


def export(channel: Any, body: bytes = b"", *, method: str = METHODS["traces"], **options: Any) -> Outcome:
    """One call."""
    try:
        answered = channel.unary_unary(method)(body, timeout=TIMEOUT, **options)
    except grpc.RpcError as error:
        return failed(error)
    return Outcome("OK" if answered == b"" else repr(answered))


# --- answers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method",
    [
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/opentelemetry.proto.collector.trace.v1.TraceService/export",
        "/grpc.health.v1.Health/Check",
        "/",
    ],
)
def test_other_methods_are_not_there(
    start: Start, channels: Opened, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    """UNIMPLEMENTED is permanent: it is counted and said."""
    rig = start()
    assert export(channel_to(rig, channels), method=method).code == "UNIMPLEMENTED"
    assert rig.books.count("receiver_refused", transport="grpc", why="path") == 1
    assert "no OTLP method" in caplog.text


@pytest.mark.row(29)
def test_messages_are_not_inflated_here(start: Start) -> None:
    """A bomb and a broken gzip reach the intake as they are; grpc's core would answer INTERNAL to the latter."""
    rig = start(FakeIntake(Answer(AnswerKind.BAD_DATA)))
    bomb, broken = gzip.compress(b"\0" * 100_000_000)[:40_000], gzip.compress(b"x" * 5000)[:-9]
    with Http2(rig.grpc) as client:
        for stream, body in ((1, bomb), (3, broken)):
            client.send(http2.call(stream, ("grpc-encoding", "gzip")) + http2.message(stream, body, compressed=True))
            assert rig.intake.arrived.acquire(timeout=60)
    assert [(inbound.body, inbound.gzip) for inbound in rig.intake.seen] == [(bomb, True), (broken, True)]


@pytest.mark.row(29)
def test_other_compressions_are_refused(start: Start, channels: Opened) -> None:
    """With what grpc answers itself, which is permanent and says what is accepted."""
    rig = start()
    channel = channel_to(rig, channels, compression=grpc.Compression.Deflate)
    assert export(channel, b"x" * 5000).code == "UNIMPLEMENTED"
    assert rig.intake.seen == []
    assert export(channel_to(rig, channels, compression=grpc.Compression.Gzip), b"x" * 5000) == Outcome("OK")


def test_a_call_has_one_message(start: Start, channels: Opened) -> None:
    """The first; a call without any is hopeless."""
    rig = start()
    call = channel_to(rig, channels).stream_unary(METHODS["logs"])
    assert call(iter([b"a", b"b"]), timeout=TIMEOUT) == b""
    with pytest.raises(grpc.RpcError) as caught:
        call(iter(()), timeout=TIMEOUT)
    assert failed(caught.value) == Outcome("INVALID_ARGUMENT", "the request has no message")
    assert [inbound.body for inbound in rig.intake.seen] == [b"a"]


@pytest.mark.row(39)
@pytest.mark.parametrize(
    "metadata",
    [
        [("authorization", "Basic s3cret")],
        [("authorization", "s3cret")],
        [("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")],
        [("authorization-bin", b"Bearer s3cret")],
        [("x-authorization", "Bearer s3cret")],
    ],
)
def test_what_is_no_credential(start: Start, channels: Opened, metadata: Any) -> None:
    """Refused before the message is read."""
    rig = start(None, tokens(ada="s3cret"))
    refused = export(channel_to(rig, channels), b"x", metadata=metadata)
    assert refused == Outcome("UNAUTHENTICATED", "unauthenticated")
    assert (rig.intake.seen, rig.intake.asked) == ([], [])


def test_keys_of_metadata_have_no_case(start: Start) -> None:
    """As HTTP/2 has it: they are lower-case on the wire, whatever a client wrote."""
    rig = start(None, tokens(ada="s3cret"))
    with Http2(rig.grpc) as client:
        client.send(http2.call(1, ("authorization", "bearer s3cret")) + http2.message(1, b"abc"))
        assert rig.intake.arrived.acquire(timeout=60)
    assert rig.intake.seen[0].caller == "ada"


# --- slow, many and mean -------------------------------------------------------------------------------------------


@pytest.mark.row(38)
def test_slow_messages_are_cancelled(start: Start, channels: Opened) -> None:
    """They hold a thread each, so they have a deadline; honest clients are served after it at the latest."""
    rig = start(body_timeout=1.0, grpc_threads=2)
    release = threading.Event()

    def never() -> Iterator[bytes]:
        release.wait(TIMEOUT)
        yield b""

    slow = [channel_to(rig, channels).stream_unary(METHODS["traces"]).future(never()) for _ in range(2)]
    assert [export(channel_to(rig, channels), b"x") for _ in range(5)] == [Outcome("OK")] * 5
    # Retryable, by the specification: a client that was only slow comes again.
    assert [call.exception().code().name for call in slow] == ["CANCELLED"] * 2
    release.set()
    until(lambda: rig.books.count("receiver_refused", why="deadline_body") == 2)


@pytest.mark.row(38)
@pytest.mark.parametrize("sent", [b"", http2.PREFACE, b"GET / HTTP/1.1\r\n\r\n"])
def test_silent_peers_are_closed(start: Start, sent: bytes) -> None:
    """A connection that does not get as far as its settings."""
    rig = start(header_timeout=0.3)
    with Raw(rig.grpc) as client:
        client.send(sent)
        received = http2.until_closed(client.socket)
    assert len(received) < 1000, "at most settings, and a farewell"
    assert rig.intake.seen == []


@pytest.mark.row(38)
def test_rapid_reset(start: Start, channels: Opened) -> None:
    """Thousands of calls that are reset as soon as they begin; others are served, and nothing is left."""
    rig = start(grpc_threads=4)
    with Http2(rig.grpc) as client:
        sent = b"".join(
            http2.call(stream) + http2.frame(http2.RST_STREAM, 0, stream, b"\0\0\0\x08")
            for stream in range(1, 10_001, 2)
        )
        sender = threading.Thread(target=quietly, args=(client, sent))
        sender.start()
        channel = channel_to(rig, channels)
        assert [export(channel, b"x") for _ in range(20)] == [Outcome("OK")] * 20
        sender.join()
    assert export(channel, b"x") == Outcome("OK")
    assert len(rig.intake.seen) == 21


@pytest.mark.row(38)
@pytest.mark.parametrize("kind", [http2.PING, http2.SETTINGS])
def test_floods_of_frames(start: Start, channels: Opened, kind: int) -> None:
    """Pings and settings without end disturb nobody else."""
    rig = start()
    with Http2(rig.grpc) as client:
        payload = b"12345678" if kind == http2.PING else b""
        sender = threading.Thread(target=quietly, args=(client, http2.frame(kind, 0, 0, payload) * 20_000))
        sender.start()
        channel = channel_to(rig, channels)
        assert [export(channel, b"x") for _ in range(20)] == [Outcome("OK")] * 20
        client.socket.close()
        sender.join()


@pytest.mark.parametrize(("interval", "sent_away"), [(0.01, False), (60.0, True)])
def test_pings_of_quiet_clients(
    start: Start, interval: float, sent_away: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that keep to the interval may ping for ever; a Collector does with keepalive configured."""
    monkeypatch.setattr("otel_posthog.gateway.receivers.grpc_server._MIN_PING", interval)
    with Http2(start().grpc) as client:
        received = b""
        for number in range(10):
            payload = b"ping %03d" % number
            client.send(http2.frame(http2.PING, 0, 0, payload))
            while payload not in received and b"too_many_pings" not in received:
                piece = client.socket.recv(65536)
                if not piece:
                    break
                received += piece
            if b"too_many_pings" in received:
                break
            # Its pace, which is what counts here.
            time.sleep(0.03)
    assert (b"too_many_pings" in received) is sent_away


@pytest.mark.row(38)
def test_oversized_metadata_is_refused(start: Start, channels: Opened) -> None:
    """For good, by grpc itself."""
    rig = start(max_header=8192)
    outcome = export(channel_to(rig, channels), b"x", metadata=[("x-a", "y" * 20_000)])
    assert (outcome.code, outcome.retry) == ("RESOURCE_EXHAUSTED", None)
    assert rig.intake.seen == []


@pytest.mark.row(27)
def test_more_calls_than_threads_wait(start: Start, channels: Opened) -> None:
    """None is refused for it: grpc's own limit would answer a permanent code."""
    rig = start(grpc_threads=2, grpc_streams=1000)
    rig.intake.from_thread = True
    call = channel_to(rig, channels).unary_unary(METHODS["traces"])
    futures = [call.future(b"x" * number, timeout=TIMEOUT) for number in range(300)]
    assert [future.result() for future in futures] == [b""] * 300
    assert sorted(len(inbound.body) for inbound in rig.intake.seen) == list(range(300))


@pytest.mark.row(27)
def test_more_calls_than_a_connection_may_have_come_again(start: Start, channels: Opened) -> None:
    """A client that does not keep to the number it was told hears UNAVAILABLE."""
    rig = start(grpc_threads=2, grpc_streams=10)
    call = channel_to(rig, channels).unary_unary(METHODS["traces"])
    futures = [call.future(b"x", timeout=TIMEOUT) for _ in range(300)]
    failures = [future.exception() for future in futures]
    assert {error.code().name for error in failures if error is not None} <= {"UNAVAILABLE"}
    assert len(rig.intake.seen) == failures.count(None) > 10


@pytest.mark.row(27)
def test_too_many_connections_are_retryable(start: Start, channels: Opened) -> None:
    """Those beyond the limit hear UNAVAILABLE; when the others have gone, there is room."""
    rig = start(FakeIntake(None), max_connections=5)
    busy = [channel_to(rig, channels) for _ in range(5)]
    calls = [channel.unary_unary(METHODS["traces"]).future(b"x", timeout=TIMEOUT) for channel in busy]
    for _ in calls:
        assert rig.intake.arrived.acquire(timeout=60)
    refused = channel_to(rig, channels)
    assert export(refused, b"x").code == "UNAVAILABLE"
    # By itself it would connect again after a second, and take the place that becomes free.
    refused.close()
    for done in rig.intake.unanswered:
        done(OK)
    assert [call.result() for call in calls] == [b""] * 5
    busy[0].close()
    rig.intake.answer = OK
    assert export(channel_to(rig, channels), b"x", wait_for_ready=True) == Outcome("OK")


def test_a_client_that_leaves_frees_its_thread(start: Start, channels: Opened) -> None:
    """At once, not when the answer would have been late."""
    rig = start(FakeIntake(None), grpc_threads=1)
    channel = channel_to(rig, channels)
    call = channel.unary_unary(METHODS["traces"]).future(b"x", timeout=TIMEOUT)
    assert rig.intake.arrived.acquire(timeout=60)
    call.cancel()
    rig.intake.answer = OK
    assert export(channel, b"y") == Outcome("OK")
    assert rig.books.count("receiver_requests", answer="gone") == 1


def test_a_clients_own_deadline_ends_the_wait(start: Start, channels: Opened) -> None:
    """There is no use in waiting longer than the client does."""
    rig = start(FakeIntake(None))
    with pytest.raises(grpc.RpcError) as caught:
        channel_to(rig, channels).unary_unary(METHODS["traces"])(b"x", timeout=0.2)
    assert caught.value.code().name in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    until(lambda: not rig.receivers._grpc._waiting._queues)  # type: ignore[union-attr]


# --- the end, and where it listens ---------------------------------------------------------------------------------


def test_stopping_refuses_new_calls(start: Start, channels: Opened) -> None:
    """On old connections and new ones, with codes that are retryable; on an old one, grpc may be the one to say it."""
    rig = start(FakeIntake(None))
    old = channel_to(rig, channels)
    waiting = old.unary_unary(METHODS["traces"]).future(b"x", timeout=TIMEOUT)
    assert rig.intake.arrived.acquire(timeout=60)
    rig.receivers.stop_accepting()
    assert export(old, b"y").code in {"UNAVAILABLE", "CANCELLED"}
    assert export(channel_to(rig, channels), b"y").code == "UNAVAILABLE"
    rig.intake.unanswered[0](OK)
    assert waiting.result() == b""


@pytest.mark.parametrize("which", ["http", "grpc"])
def test_a_port_in_use_is_said(start: Start, which: str) -> None:
    """With the address and the way out; what was begun beside it is ended."""
    taken = start()
    address = Listen("127.0.0.1", taken.http if which == "http" else taken.grpc)
    other = Listen("127.0.0.1", 0)
    settings = ReceiverSettings(http=address if which == "http" else other, grpc=address if which == "grpc" else other)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{address.port}.*cannot listen.*port 0"):
        Receivers(settings, FakeIntake(), Credentials(), Books())


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid", "not a host", "::zz"])
@pytest.mark.parametrize("which", ["http", "grpc"])
def test_an_address_that_is_not_ours_is_said(host: str, which: str) -> None:
    """At start, as what it is: a setting that is wrong."""
    address = Listen(host, 0)
    settings = ReceiverSettings(http=address if which == "http" else None, grpc=address if which == "grpc" else None)
    with pytest.raises(ConfigError, match="cannot listen"):
        Receivers(settings, FakeIntake(), Credentials(), Books())


def quietly(client: Raw, data: bytes) -> None:
    """Sends until the other side has had enough."""
    with contextlib.suppress(OSError):
        client.send(data)
