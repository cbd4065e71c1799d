"""Servers that misbehave: each has a clear outcome and a counter, and nothing else in the batch is harmed."""

from __future__ import annotations

import gzip
import json
import random
import socket
import threading
from typing import Any

import pytest

from otel_posthog.model import LossReason
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import Handler, Seen, Server, Workshop, event, key, results, status, until

EVENTS = [event(number) for number in range(20)]
KEYS = {key(made) for made in EVENTS}


@pytest.mark.parametrize("wire", ["v0", "v1", "auto"])
def test_everything_arrives_once(server: Server, deliver: Workshop, wire: str) -> None:
    """A server that behaves gets each event once, by either version."""
    delivery = deliver(wire=wire)
    assert all(delivery.submit([made]) for made in EVENTS)
    assert delivery.flush(30)
    assert server.store == dict.fromkeys(KEYS, 1)
    assert delivery.stats().delivered == 20


def broken_off(handler: Handler, _: Seen) -> None:
    """For v1 a head without its body; v0 would take that for an answer, so it gets nothing."""
    if handler.path == "/batch/":
        handler.reset()
    else:
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        handler.close_connection = True


@pytest.mark.parametrize("wire", ["v0", "v1"])
@pytest.mark.parametrize(
    "odd",
    [
        loopback.status(503),
        loopback.status(500, b"<html>oops</html>", Content_Type="text/html"),
        loopback.status(502),
        loopback.status(504),
        loopback.status(408),
        loopback.status(429),
        loopback.status(429, Retry_After="0"),
        loopback.status(503, Retry_After="garbage"),
        loopback.status(200, b"<!doctype html><html>Sign in</html>", Content_Type="text/html"),
        loopback.status(301, Location="http://127.0.0.1:9/elsewhere"),
        loopback.status(307, Location="/batch/"),
        loopback.status(404),
        loopback.status(405),
        lambda handler, _: handler.reset(),
        lambda handler, _: handler.connection.sendall(b"garbage\r\n\r\n"),
        broken_off,
    ],
)
def test_a_passing_failure_loses_nothing(server: Server, deliver: Workshop, wire: str, odd: Any) -> None:
    """After any answer that says nothing about the data, the same events are sent again and counted once."""
    server.script = [odd, odd]
    delivery = deliver(wire=wire)
    assert delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert set(server.store) == KEYS
    stats = delivery.stats()
    assert (stats.delivered, stats.lost, stats.retries) == (20, {}, 2)
    assert stats.last_error
    assert loopback.TOKEN not in stats.last_error


@pytest.mark.parametrize("wire", ["v0", "v1"])
def test_a_lost_answer_is_one_event(server: Server, deliver: Workshop, wire: str) -> None:
    """Accepted, then cut off: the resend has the same key, so that it is the same event."""
    server.script = [loopback.lost_answer]
    delivery = deliver(wire=wire)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert server.store == dict.fromkeys(KEYS, 2)
    assert delivery.stats().delivered == 20


@pytest.mark.parametrize("slow", [loopback.hang, loopback.drip_head])
def test_a_slow_head_meets_the_deadline(server: Server, deliver: Workshop, slow: Any) -> None:
    """A server that hangs, or trickles its status line and headers, costs one timeout and no event."""
    server.script = [slow]
    delivery = deliver(timeout=4.0)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert set(server.store) == KEYS
    assert delivery.stats().retries == 1


def test_a_slow_body_after_a_good_head_is_an_answer(server: Server, deliver: Workshop) -> None:
    """v0 answers by status: what trickles in after it changes nothing."""
    server.script = [loopback.drip_body]
    delivery = deliver(timeout=4.0)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert (delivery.stats().delivered, delivery.stats().retries) == (20, 0)


def test_a_slow_body_of_verdicts_is_a_lost_answer(server: Server, deliver: Workshop) -> None:
    """v1 answers by body: one that does not arrive is sent for again."""

    def drip_verdicts(handler: Handler, seen: Seen) -> None:
        handler.connection.sendall(
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"res'
        )
        server.over.wait(100)
        handler.close_connection = True

    server.script = [drip_verdicts]
    delivery = deliver(wire="v1", timeout=4.0)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert (delivery.stats().delivered, delivery.stats().retries) == (20, 1)


def test_a_huge_answer_is_cut(server: Server, deliver: Workshop) -> None:
    """A body without end is not read to its end."""

    def flood(handler: Handler, _: Seen) -> None:
        handler.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not server.over.is_set():
            handler.connection.sendall(b"x" * 65536)

    server.script = [flood]
    delivery = deliver()
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert delivery.stats().delivered == 20


def test_redirects_are_never_followed(server: Server, deliver: Workshop) -> None:
    """The key does not travel to where a redirect points."""
    other = Server()
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        server.script = [status(code, Location=f"{other.url}/batch/") for code in (301, 302, 303, 307, 308)]
        delivery = deliver()
        delivery.submit(EVENTS)
        assert delivery.flush(30)
        assert other.seen == []
        assert delivery.stats().delivered == 20
    finally:
        other.shutdown()
        other.server_close()


@pytest.mark.parametrize("wire", ["v0", "v1"])
@pytest.mark.parametrize("code", [400, 413])
def test_one_bad_event_is_found_by_halving(server: Server, deliver: Workshop, wire: str, code: int) -> None:
    """A batch that is refused for one of its events loses that one only."""
    bad = EVENTS[13].uuid

    def picky(handler: Handler, seen: Seen) -> None:
        if bad in seen.uuids:
            handler.reply(code, b"no", Content_Type="text/plain")
        else:
            loopback.accept(handler, seen)

    server.default = picky
    delivery = deliver(wire=wire)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert server.store == dict.fromkeys(KEYS - {key(EVENTS[13])}, 1)
    assert delivery.stats().lost == {LossReason.REJECTED: 1}


@pytest.mark.parametrize(("wire", "code"), [("v0", 401), ("v0", 403), ("v1", 401), ("v1", 403)])
def test_a_refused_key_is_permanent_and_loud(
    server: Server, deliver: Workshop, caplog: pytest.LogCaptureFixture, wire: str, code: int
) -> None:
    """The batch is lost, and the error names the variable to check, never the key."""
    server.default = status(code, b'{"error":"unauthorized"}', Content_Type="application/json")
    delivery = deliver(wire=wire)
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    stats = delivery.stats()
    assert stats.lost == {LossReason.REJECTED: 20}
    assert "OTEL_EXPORTER_OTLP_TOKEN" in stats.last_error
    assert until(lambda: "OTEL_EXPORTER_OTLP_TOKEN" in caplog.text)
    assert loopback.TOKEN not in caplog.text + stats.last_error


def test_the_server_s_words_never_reach_a_log(
    server: Server, deliver: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that echoes payload and key is not repeated."""
    echo = json.dumps({"error": f"bad key {loopback.TOKEN} for ada@example.com"}).encode()
    server.script = [status(400, echo), status(503, echo)]
    delivery = deliver(wire="v1")
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    said = caplog.text + delivery.stats().last_error
    assert "ada@example.com" not in said
    assert loopback.TOKEN not in said


def test_each_verdict_has_its_outcome(server: Server, deliver: Workshop) -> None:
    """`ok`, `warning`, `drop`, an unknown word: settled; `retry`: sent again, alone, with the same request id."""
    mixed = {"user-1": "warning", "user-2": "drop", "user-3": "retry", "user-4": "splendid"}

    def verdicts(handler: Handler, seen: Seen) -> None:
        handler.reply(200, results(seen, **mixed), Content_Type="application/json", Retry_After="0")

    server.script = [verdicts]
    delivery = deliver(wire="v1")
    delivery.submit(EVENTS[:6])
    assert delivery.flush(30)
    first, second = server.seen
    assert second.uuids == [EVENTS[3].uuid]
    assert first.headers["posthog-request-id"] == second.headers["posthog-request-id"]
    assert (first.headers["posthog-attempt"], second.headers["posthog-attempt"]) == ("1", "2")
    assert first.json["created_at"] == second.json["created_at"]
    stats = delivery.stats()
    assert (stats.delivered, stats.lost) == (5, {LossReason.DROPPED_BY_SERVER: 1})


def test_an_event_that_no_answer_names_is_lost_in_the_end(server: Server, deliver: Workshop) -> None:
    """Missing from three answers: counted as lost, the others are not held up."""
    missing = EVENTS[5].uuid

    def forgetful(handler: Handler, seen: Seen) -> None:
        answer = {uid: {"result": "ok"} for uid in seen.uuids if uid != missing}
        handler.reply(200, json.dumps({"results": answer}).encode(), Content_Type="application/json")

    server.default = forgetful
    delivery = deliver(wire="v1")
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert [len(seen.uuids) for seen in server.seen] == [20, 1, 1]
    assert delivery.stats().lost == {LossReason.RETRIES_EXHAUSTED: 1}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"status":1}', b'{"results":[]}', b"Ok", b'"text"', b"\xff\xfe", b"[" * 10_000]
)
def test_a_200_that_is_not_v1_s_falls_back(server: Server, deliver: Workshop, body: bytes) -> None:
    """`auto` turns to v0 with the same batch, and stays there."""
    server.script = [status(200, body, Content_Type="application/json")]
    delivery = deliver()
    auto = deliver(wire="auto")
    auto.submit(EVENTS)
    assert auto.flush(30)
    auto.submit([event(99)])
    assert auto.flush(30)
    assert [seen.path for seen in server.seen] == ["/i/v1/analytics/events", "/batch/", "/batch/"]
    assert server.seen[0].uuids == server.seen[1].uuids
    assert auto.stats().delivered == 21
    assert delivery.stats().captured == 0


@pytest.mark.parametrize(
    "entry", [None, 7, "ok", [], {}, {"result": None}, {"result": ["ok"]}, {"result": {"a": 1}}, {"details": "x"}]
)
def test_odd_verdicts_harm_nobody_else(server: Server, deliver: Workshop, entry: Any) -> None:
    """A verdict of a wrong shape costs at most its own event."""

    def odd(handler: Handler, seen: Seen) -> None:
        answer: dict[str, Any] = {uid: {"result": "ok"} for uid in seen.uuids}
        answer[EVENTS[0].uuid] = entry
        handler.reply(200, json.dumps({"results": answer}).encode(), Content_Type="application/json")

    server.default = odd
    delivery = deliver(wire="v1")
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    stats = delivery.stats()
    assert stats.delivered >= 19
    assert stats.delivered + sum(stats.lost.values()) == 20


def test_answers_in_gzip_and_broken_gzip(server: Server, deliver: Workshop) -> None:
    """A compressed answer is read; a truncated or false one is a lost answer, not a success and not a crash."""

    def squeezed(handler: Handler, seen: Seen) -> None:
        handler.reply(200, gzip.compress(results(seen)), Content_Type="application/json", Content_Encoding="gzip")

    def cut(handler: Handler, seen: Seen) -> None:
        body = gzip.compress(results(seen))
        handler.reply(200, body[: len(body) // 2], Content_Type="application/json", Content_Encoding="gzip")

    server.script = [cut, squeezed]
    delivery = deliver(wire="v1")
    delivery.submit(EVENTS)
    assert delivery.flush(30)
    assert (delivery.stats().delivered, delivery.stats().retries) == (20, 1)


def test_a_storm_of_503_and_lost_answers(server: Server, deliver: Workshop) -> None:
    """A third of the answers fails, some after the events were taken: nothing is lost, every key is there."""
    dice = random.Random(7)

    def stormy(handler: Handler, seen: Seen) -> None:
        roll = dice.random()
        if roll < 0.3:
            handler.reply(503)
        elif roll < 0.4:
            loopback.lost_answer(handler, seen)
        else:
            loopback.accept(handler, seen)

    server.default = stormy
    events = [event(number) for number in range(1000)]
    delivery = deliver(batch_size=20, wire="auto")
    for made in events:
        assert delivery.submit([made])
    assert delivery.flush(30)
    assert set(server.store) == {key(made) for made in events}
    assert delivery.stats().delivered == 1000


def test_a_storm_while_the_process_ends(server: Server, deliver: Workshop) -> None:
    """Shutdown retries within its time: a third of failing answers still loses nothing."""
    dice = random.Random(11)

    def stormy(handler: Handler, seen: Seen) -> None:
        (loopback.status(503) if dice.random() < 0.3 else loopback.accept)(handler, seen)

    server.default = stormy
    events = [event(number) for number in range(1000)]
    delivery = deliver(flush_interval=60.0)
    assert delivery.submit(events)
    assert delivery.shutdown(30)
    assert set(server.store) == {key(made) for made in events}


def test_nobody_listens(server: Server, deliver: Workshop) -> None:
    """Connection refused: kept, retried, given up after `retry_elapsed`, and counted."""
    # Bound, so that nobody else gets the port; not listening.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        delivery = deliver(url=f"http://127.0.0.1:{silent.getsockname()[1]}", retry_elapsed=1.5)
        delivery.submit(EVENTS)
        assert until(lambda: delivery.stats().pending == 0)
    stats = delivery.stats()
    assert stats.lost == {LossReason.RETRIES_EXHAUSTED: 20}
    assert stats.retries > 0
    assert "refuses connections" in stats.last_error


def test_a_server_that_comes_back(server: Server, deliver: Workshop) -> None:
    """While one batch waits the queue fills up to its bound and refuses; afterwards all that was taken arrives."""
    server.default = status(503)
    delivery = deliver(queue_size=50, batch_size=10)
    taken = [made for made in (event(number) for number in range(200)) if delivery.submit([made])]
    assert until(lambda: delivery.stats().retries >= 2)
    assert not delivery.submit([event(number) for number in range(500, 551)])
    assert 50 <= len(taken) <= 70
    server.default = loopback.accept
    assert delivery.flush(30)
    assert set(server.store) == {key(made) for made in taken}


def test_a_retry_after_is_a_floor(server: Server, deliver: Workshop) -> None:
    """Neither the own short pause nor a flush goes below what the server asked for."""
    server.script = [status(429, Retry_After="60")]
    delivery = deliver()
    delivery.submit(EVENTS)
    assert until(lambda: len(server.seen) == 1)
    assert not delivery.flush(0.3)
    assert len(server.seen) == 1
    assert delivery.stats().pending == 20


def test_one_stubborn_event_holds_up_nobody(server: Server, deliver: Workshop) -> None:
    """An event that is asked for again and again waits by itself; others pass it."""

    def stubborn(handler: Handler, seen: Seen) -> None:
        handler.reply(200, results(seen, **{"user-0": "retry"}), Content_Type="application/json", Retry_After="30")

    server.default = stubborn
    delivery = deliver(wire="v1")
    delivery.submit([EVENTS[0]])
    assert until(lambda: len(server.seen) == 1)
    delivery.submit(EVENTS[1:])
    assert until(lambda: delivery.stats().delivered == 19)
    assert delivery.stats().pending == 1


def test_a_tls_client_on_a_plain_server(server: Server, deliver: Workshop) -> None:
    """A failed handshake is retried and named; the events stay."""
    delivery = deliver(url=server.url.replace("http:", "https:"), retry_elapsed=0.3)
    delivery.submit(EVENTS)
    assert until(lambda: delivery.stats().pending == 0)
    stats = delivery.stats()
    assert stats.lost == {LossReason.RETRIES_EXHAUSTED: 20}
    assert "TLS" in stats.last_error
