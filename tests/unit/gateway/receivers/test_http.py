"""OTLP/HTTP: paths, methods, encodings, framing, and what is said about each that is wrong."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import socket
import sys
import threading
from dataclasses import replace
from typing import Any

import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind
from otel_posthog.gateway.receivers import Credentials, Listen, Receivers
from tests.unit.gateway.receivers.rig import QUICK, FakeIntake, Raw, Start, post, request, tokens

PROTOBUF = "application/x-protobuf"


# --- what may come in ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/traces", "traces"),
        ("/v1/traces/", "traces"),
        ("/v1/logs", "logs"),
        ("/v1/logs/", "logs"),
        ("/v1/logs?team=7", "logs"),
    ],
)
def test_paths_with_and_without_a_slash(start: Start, path: str, kind: str) -> None:
    """Both are served, neither redirects: a redirect is a success for OpenTelemetry's Python exporter."""
    rig = start()
    reply = post(rig.http, path, b"x")
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, PROTOBUF, b"")
    assert [inbound.kind for inbound in rig.intake.seen] == [kind]


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/trace", "/v1/traces//", "/V1/TRACES", "//v1/traces", "/v1/%74races", "/v1development/profiles"],
)
def test_other_paths_are_not_there(start: Start, path: str) -> None:
    """404, permanent, and nothing reaches the intake."""
    rig = start()
    reply = post(rig.http, path, b"x")
    assert (reply.status, Status.FromString(reply.body)) == (404, Status(code=5, message="404 page not found"))
    assert rig.intake.seen == []
    assert rig.books.count("receiver_refused", transport="http", why="path") == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_only_post(start: Start, method: str) -> None:
    """405 in plain text, as the Collector's receiver says it, with what is allowed."""
    reply = post(start().http, method=method, media=None)
    assert (reply.status, reply.headers["allow"], reply.headers["content-type"]) == (
        405,
        "POST",
        "text/plain; charset=utf-8",
    )
    assert reply.body == b"405 method not allowed, supported: [POST]"


@pytest.mark.parametrize(
    "media",
    [PROTOBUF, "Application/X-Protobuf", "application/x-protobuf; charset=utf-8", "application/x-protobuf;v=1"],
)
def test_parameters_of_media_types_are_tolerated(start: Start, media: str) -> None:
    """The answer is of the plain type, which is what clients compare with."""
    rig = start()
    reply = post(rig.http, body=b"x", media=media)
    assert (reply.status, reply.headers["content-type"]) == (200, PROTOBUF)
    assert rig.intake.seen[0].media_type == PROTOBUF


@pytest.mark.parametrize("media", [None, "", "text/plain", "application/protobuf", "application/jsonp", "*/*"])
def test_other_media_types_are_refused(start: Start, media: str | None) -> None:
    """415 in plain text: there is no encoding of the request's to answer in."""
    rig = start()
    reply = post(rig.http, body=b"x", media=media)
    assert (reply.status, reply.headers["content-type"]) == (415, "text/plain; charset=utf-8")
    assert reply.body == b"415 unsupported media type, supported: [application/json, application/x-protobuf]"
    assert rig.intake.seen == []


@pytest.mark.row(29)
@pytest.mark.parametrize("encoding", ["zstd", "br", "deflate", "gzip, gzip", "x-gzip", "gzip;q=1", "snappy"])
def test_other_encodings_are_refused(start: Start, encoding: str) -> None:
    """415 in the request's own encoding, and what would do."""
    rig = start()
    reply = post(rig.http, body=b"x" * 3000, content_encoding=encoding)
    assert (reply.status, reply.headers["accept-encoding"]) == (415, "gzip")
    assert Status.FromString(reply.body).code == 3
    assert rig.intake.seen == []


@pytest.mark.row(29)
@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"\0" * 50_000_000),
        gzip.compress(b"\x12\0" * 2_000_000),
        gzip.compress(gzip.compress(b"\0" * 5_000_000)),
        gzip.compress(b"") * 100_000,
        gzip.compress(b"x" * 5000)[:-9],
        gzip.compress(b"x") + b"junk",
        b"not gzip at all",
    ],
    ids=["bomb", "spans", "nested", "members", "truncated", "junk", "mislabelled"],
)
def test_what_is_in_gzip_is_the_intakes_affair(start: Start, body: bytes) -> None:
    """The bytes go on unread, in a thread: the loop is free while it is looked at."""
    rig = start()
    free = threading.Event()

    def look(inbound: Any) -> Answer:
        # Only a loop that runs can serve the neighbour.
        assert free.wait(60)
        return Answer(AnswerKind.TOO_LARGE)

    rig.intake.answer = look
    with Raw(rig.http) as client:
        client.send(request(body=body, content_encoding="gzip"))
        assert post(rig.http, "/v1/nowhere").status == 404
        free.set()
        assert client.reply().status == 413
    assert [(inbound.body, inbound.gzip) for inbound in rig.intake.seen] == [(body, True)]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " gzip "])
def test_gzip_is_known_by_any_spelling(start: Start, encoding: str) -> None:
    """Encodings are compared without case."""
    rig = start()
    assert post(rig.http, body=b"x", content_encoding=encoding).status == 200
    assert rig.intake.seen[0].gzip is True


def test_identity_is_no_encoding(start: Start) -> None:
    """As if it were not said."""
    rig = start()
    assert post(rig.http, body=b"x", content_encoding="identity").status == 200
    assert rig.intake.seen[0].gzip is False


# --- what failures say ---------------------------------------------------------------------------------------------


def test_bad_data_has_a_detail(start: Start) -> None:
    """`BadRequest`, as the specification would have it, in both encodings."""
    rig = start(FakeIntake(Answer(AnswerKind.BAD_DATA, message="not OTLP")))
    status = Status.FromString(post(rig.http, body=b"x").body)
    detail = BadRequest()
    assert status.details[0].Unpack(detail)
    assert (status.code, status.message, detail.field_violations[0].description) == (3, "not OTLP", "not OTLP")
    reply = post(rig.http, body=b"x", media="application/json")
    assert json.loads(reply.body) == {
        "code": 3,
        "message": "not OTLP",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"description": "not OTLP"}],
            }
        ],
    }


def test_retries_are_said_twice(start: Start) -> None:
    """In `Retry-After`, whole seconds, and in the status."""
    rig = start(FakeIntake(Answer(AnswerKind.RETRY, message="disk full", retry_after=12)))
    reply = post(rig.http, body=b"x")
    status, info = Status.FromString(reply.body), RetryInfo()
    assert status.details[0].Unpack(info)
    assert (reply.status, reply.headers["retry-after"], info.retry_delay.seconds) == (503, "12", 12)


def test_counts_in_json_are_strings(start: Start) -> None:
    """64-bit integers are, in protobuf's JSON."""
    rig = start(FakeIntake(Answer(AnswerKind.OK, rejected=3, message="three")))
    reply = post(rig.http, "/v1/logs", b"{}", media="application/json")
    assert json.loads(reply.body) == {"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "three"}}


def test_the_answer_has_a_date(start: Start) -> None:
    """As of any server with a clock."""
    assert post(start().http).headers["date"].endswith("GMT")


# --- who may send --------------------------------------------------------------------------------------------------


@pytest.mark.row(39)
@pytest.mark.parametrize(
    "lines",
    [
        "Authorization: Basic s3cret",
        "Authorization: s3cret",
        "Authorization: Bearer",
        "Authorization: Bearer ",
        "Authorization: Bearer s3cret,",
        "Authorization: Bearer s3cret\r\nAuthorization: Bearer s3cret",
        "Authorization: Bearer wrong\r\nauthorization: Bearer s3cret",
        "Authorization: Bearer s3cr\u00e9t",
        "X-Authorization: Bearer s3cret",
    ],
)
def test_what_is_no_credential(start: Start, lines: str) -> None:
    """401 with the scheme and without a reason, for any path, before anything else is judged."""
    rig = start(None, tokens(ada="s3cret"))
    for path in ("/v1/traces", "/nowhere"):
        with Raw(rig.http) as client:
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\ncontent-length: 3\r\n\r\nabc"
            client.send(head.encode("latin-1"))
            reply = client.reply()
            assert (reply.status, reply.headers["www-authenticate"], reply.body) == (401, "Bearer", b"unauthenticated")
    assert rig.intake.seen == []


@pytest.mark.row(39)
@pytest.mark.parametrize("bad", ["\0", "\r", "\r\nX-Evil: 1", "\n X: 1"])
def test_control_characters_in_a_token_are_no_request(start: Start, bad: str) -> None:
    """400 or 401: never a caller, never a header that was smuggled in."""
    rig = start(None, tokens(ada="s3cret"))
    with Raw(rig.http) as client:
        client.send(f"POST /v1/traces HTTP/1.1\r\nAuthorization: Bearer s3{bad}cret\r\n\r\n".encode("latin-1"))
        assert client.reply().status in {400, 401}
    assert rig.intake.seen == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_schemes_have_no_case(start: Start, scheme: str) -> None:
    """And may be followed by more than one space."""
    rig = start(None, tokens(ada="s3cret"))
    assert post(rig.http, authorization=f"{scheme}   s3cret").status == 200


# --- framing -------------------------------------------------------------------------------------------------------


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A request in chunks."""
    head = request(content_length="", transfer_encoding="chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def test_chunks_make_one_body(start: Start) -> None:
    """Of any size, with extensions and trailers, which decide nothing."""
    rig = start(None, tokens(ada="s3cret"), max_body=5000)
    with Raw(rig.http) as client:
        client.send(chunked(b"a", end=b"0\r\nAuthorization: Bearer s3cret\r\n\r\n"))
        assert client.reply().status == 401
    rig = start(max_body=5000)
    with Raw(rig.http) as client:
        for chunks in ((b"a",) * 500, (b"x" * 3000, b"y" * 2000), ()):
            client.send(chunked(*chunks))
            assert client.reply().status == 200
            assert rig.intake.seen[-1].body == b"".join(chunks)
        client.send(chunked(b"abc", end=b"0;ext=1\r\nContent-Encoding: gzip\r\n\r\n"))
        assert client.reply().status == 200
        assert (rig.intake.seen[-1].body, rig.intake.seen[-1].gzip) == (b"abc", False)


@pytest.mark.row(28)
@pytest.mark.parametrize("size", [5000, 5001, 1_000_000])
def test_chunks_have_the_same_limit(start: Start, size: int) -> None:
    """413 as soon as it is passed, heard by a client that goes on sending; then the connection ends."""
    rig = start(max_body=5000)
    with Raw(rig.http) as client:
        client.send(
            chunked(*(b"x" * 1000,) * (size // 1000), b"x" * (size % 1000)) if size % 1000 else chunked(b"x" * size)
        )
        reply = client.reply()
        if size == 5000:
            assert reply.status == 200
            return
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert Status.FromString(reply.body).code == 8
        assert client.closed()
    assert rig.intake.seen == []


@pytest.mark.row(28)
def test_a_size_that_is_announced_is_refused_at_once(start: Start) -> None:
    """Before a byte of it was sent, and without asking for room."""
    rig = start(max_body=5000)
    with Raw(rig.http) as client:
        client.send(request(content_length="5001"))
        assert client.reply().status == 413
    assert rig.intake.asked == []


@pytest.mark.row(28)
@pytest.mark.parametrize(
    "headers",
    [
        "content-length: -1",
        "content-length: 1e3",
        "content-length: 3\r\ncontent-length: 4",
        "content-length: 3\r\ntransfer-encoding: chunked",
        "content-length: 99999999999999999999999999",
        "transfer-encoding: chunked, identity",
        "content-length : 3",
    ],
)
def test_false_lengths_are_no_request(start: Start, headers: str) -> None:
    """400 or 413, and the connection ends: nobody can say where the next request would begin."""
    rig = start()
    with Raw(rig.http) as client:
        client.send(f"POST /v1/traces HTTP/1.1\r\n{headers}\r\ncontent-type: {PROTOBUF}\r\n\r\nabc".encode())
        reply = client.reply()
        assert (reply.status in {400, 413}, reply.headers["connection"]) == (True, "close")
    assert rig.intake.seen == []


@pytest.mark.row(28)
def test_a_length_that_is_too_short_spoils_only_its_own_connection(start: Start) -> None:
    """The rest is no request; what was complete is answered first."""
    rig = start()
    with Raw(rig.http) as client:
        client.send(request(body=b"abcdefgh", content_length="3"))
        assert [client.reply().status, client.reply().status] == [200, 400]
    assert [inbound.body for inbound in rig.intake.seen] == [b"abc"]


def test_connections_are_kept(start: Start) -> None:
    """Request after request, after refusals too, whose bodies are read and forgotten."""
    rig = start()
    with Raw(rig.http) as client:
        for path, status in (("/v1/traces", 200), ("/nowhere", 404), ("/v1/logs", 200)):
            client.send(request(path, b"x" * 300_000))
            assert client.reply().status == status
    assert len(rig.intake.seen) == 2


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    """Also where the answers come in another one."""
    rig = start(FakeIntake(None))
    with Raw(rig.http) as client:
        client.send(b"".join(request(body=b"x" * number) for number in range(1, 30)) + request("/nowhere"))
        for _ in range(29):
            assert rig.intake.arrived.acquire(timeout=60)
        for number, done in reversed(list(enumerate(rig.intake.unanswered, 1))):
            done(Answer(AnswerKind.RETRY, retry_after=number))
        replies = [client.reply() for _ in range(30)]
    assert [reply.headers.get("retry-after") for reply in replies] == [*map(str, range(1, 30)), None]


def test_a_client_may_ask_first(start: Start) -> None:
    """`Expect: 100-continue` is answered before the body, by leave or by what is wrong."""
    rig = start(max_body=5000)
    with Raw(rig.http) as client:
        client.send(request(content_length="3", expect="100-continue"))
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"abc")
        assert client.reply().status == 200
        client.send(request("/nowhere", content_length="3", expect="100-continue"))
        reply = client.reply()
        assert (reply.status, reply.headers["connection"]) == (404, "close")


def test_http_1_0_and_close(start: Start) -> None:
    """One answer, then the end."""
    rig = start()
    for head in (request().replace(b"HTTP/1.1", b"HTTP/1.0"), request(connection="close")):
        with Raw(rig.http) as client:
            client.send(head)
            reply = client.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert client.closed()


def test_a_client_that_has_said_all_still_hears(start: Start) -> None:
    """A half-closed connection is answered."""
    rig = start(FakeIntake(None))
    with Raw(rig.http) as client:
        client.send(request(body=b"abc"))
        client.socket.shutdown(socket.SHUT_WR)
        assert rig.intake.arrived.acquire(timeout=60)
        rig.intake.unanswered[0](OK)
        assert client.reply().status == 200
        assert client.closed()


@pytest.mark.parametrize("upgrade", ["h2c", "websocket"])
def test_upgrades_are_not_offered(start: Start, upgrade: str) -> None:
    """The request is answered as what it is in HTTP/1.1, and is the last."""
    rig = start()
    with Raw(rig.http) as client:
        client.send(request(body=b"abc", upgrade=upgrade, connection="upgrade"))
        assert client.reply().status == 200
        assert client.closed()


@pytest.mark.row(35)
@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"POST /v1/traces HTTP/9.9\r\n\r\n",
        b"POST /v1/tr\xffaces HTTP/1.1\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nbad header: \x01\r\n\r\n",
    ],
)
def test_what_is_no_http(start: Start, data: bytes) -> None:
    """Answered 400 or 404 and no more; the next client is served."""
    rig = start()
    with Raw(rig.http) as client:
        client.send(data)
        assert client.reply().status in {400, 404, 405, 415}
    assert post(rig.http).status == 200


@pytest.mark.row(35)
@pytest.mark.parametrize("examples", [150, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_no_bytes_make_it_fail(start: Start, examples: int) -> None:
    """Any request line, headers and body: 2xx or 4xx, never another 5xx than 503, and nobody else notices."""
    rig = start(max_body=3000, max_header=3000)
    words = st.one_of(
        st.sampled_from(
            ["/v1/traces", "/v1/logs/", "/v1/metrics", "gzip", PROTOBUF, "chunked", "close", "100-continue"]
        ),
        st.text(st.characters(max_codepoint=255), max_size=20),
    )
    names = st.one_of(
        st.sampled_from(
            ["Content-Type", "Content-Encoding", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade"]
        ),
        st.text("abc-:", max_size=10),
    )

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(["POST", "GET", "PUT", "post", ""]),
        words,
        st.lists(st.tuples(names, words), max_size=5),
        st.binary(max_size=4000),
        st.booleans(),
    )
    def check(method: str, path: str, headers: list[tuple[str, str]], body: bytes, honest: bool) -> None:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        if honest:
            lines.append(f"Content-Length: {len(body)}")
        with Raw(rig.http) as client:
            client.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            client.socket.shutdown(socket.SHUT_WR)
            # Closed without an answer: half a request, by its own headers.
            with contextlib.suppress(ConnectionResetError):
                assert client.reply().status in {100, 200, 400, 404, 405, 413, 415, 431}

    check()
    assert post(rig.http).status == 200
    assert rig.books.count("receiver_faults") == 0


# --- log lines -----------------------------------------------------------------------------------------------------


@pytest.mark.row(42)
def test_log_lines_cannot_be_forged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What a stranger sent is escaped and cut; one line each."""
    caplog.set_level(logging.DEBUG)
    rig = start()
    for path in (b"/%0d%0aERROR", b"/\x1b[31mred", "/\u202eabc".encode(), b"/" + b"x" * 5000):
        with Raw(rig.http) as client:
            client.send(b"POST " + path + b" HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
            assert client.reply().status in {400, 404}
    messages = [record.getMessage() for record in caplog.records]
    assert messages
    assert all(message.isprintable() and message.isascii() and len(message) < 250 for message in messages)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("x: y", "no token"),
        ("Authorization: s3cret", "an `authorization` that is no `Bearer …`"),
        ("Authorization: Bearer wrong-s3cret", "no token that is known here"),
    ],
)
def test_a_refused_caller_is_in_the_log_without_what_it_showed(
    start: Start, caplog: pytest.LogCaptureFixture, line: str, shown: str
) -> None:
    """The answer gives no reason; the operator, whose Collector may drop data for it, gets one."""
    rig = start(None, tokens(ada="the-s3cret"))
    with Raw(rig.http) as client:
        client.send(f"POST /v1/traces HTTP/1.1\r\nhost: x\r\n{line}\r\ncontent-length: 0\r\n\r\n".encode())
        assert client.reply().status == 401
    assert [record.getMessage() for record in caplog.records] == [
        f"somebody shows {shown} over http, and is refused",
    ]


# --- where it listens ----------------------------------------------------------------------------------------------


def test_localhost_is_every_address_of_it(start: Start) -> None:
    """Whichever a client tries first."""
    rig = start(http=Listen("localhost", 0), grpc=None)
    addresses = socket.getaddrinfo("localhost", rig.http, type=socket.SOCK_STREAM)
    for family, *_, name in addresses:
        with socket.socket(family) as client:
            client.settimeout(60)
            client.connect(name)
            client.sendall(request(body=b"x"))
            assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert len(rig.intake.seen) == len(addresses) > 0


def test_several_processes_may_share_a_port(start: Start) -> None:
    """With `reuse_port`, for workers; both receivers."""
    first = start(reuse_port=True)
    second = start(reuse_port=True, http=Listen("127.0.0.1", first.http), grpc=Listen("127.0.0.1", first.grpc))
    assert (second.http, second.grpc) == (first.http, first.grpc)


@pytest.mark.parametrize("package", ["httptools", "grpc", "opentelemetry.proto", "google.rpc"])
def test_a_package_that_is_missing_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to get it; one that is not needed is not asked for."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"needs the package .*pip install 'otel-posthog\[gateway\]'"):
        Receivers(QUICK, FakeIntake(), Credentials(), Books())
    if package == "grpc":
        Receivers(replace(QUICK, grpc=None), FakeIntake(), Credentials(), Books()).stop()
