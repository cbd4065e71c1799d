"""What every `Transport` promises, run over the real one and the recording fake."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from otel_posthog.delivery.protocols import Request, Response, Transport
from otel_posthog.delivery.transport import Urllib3Transport, classify
from otel_posthog.errors import DeliveryError, PermanentError, RetryableError
from tests.contract.recording import RecordingTransport
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import Handler, Seen, Server, status
from tests.unit.delivery.secured import Secured, client_files, encrypt

HEADERS = {"Content-Type": "application/json", "User-Agent": "otel-posthog/test"}


@pytest.fixture(params=["urllib3", "recording"])
def transport(request: pytest.FixtureRequest, server: Server) -> Iterator[Transport]:
    """Each implementation; the fake answers as the scripted server would."""
    made: Transport
    if request.param == "urllib3":
        made = Urllib3Transport(environ={})
    else:

        def answer(asked: Request) -> Response | BaseException:
            replied: list[Response] = []

            class Fake:
                path = asked.url
                server: Any = None

                def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
                    lower = {name.replace("_", "-").lower(): value for name, value in headers.items()}
                    replied.append(Response(code, lower, body))

                def reset(self) -> None:
                    raise ConnectionResetError

            seen = Seen(asked.url, dict(asked.headers), asked.body)
            action = server.script.pop(0) if server.script else server.default
            try:
                action(Fake(), seen)  # type: ignore[arg-type]
            except ConnectionResetError:
                return RetryableError("reset")
            return replied[0]

        made = RecordingTransport(answer)
    yield made
    made.close()


def test_an_answer_comes_back_whole(server: Server, transport: Transport) -> None:
    """Status, lower-case header names, body."""
    server.script = [status(207, b'{"a":1}', Content_Type="application/json", Retry_After="7")]
    answer = transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)
    assert (answer.status, answer.body) == (207, b'{"a":1}')
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("code", [200, 204, 301, 302, 307, 308, 400, 401, 404, 413, 429, 500, 503])
def test_any_status_is_an_answer(server: Server, transport: Transport, code: int) -> None:
    """No status raises, no redirect is followed, nothing is retried."""
    server.default = status(code, Location="/elsewhere") if code < 400 else status(code)
    answer = transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)
    assert answer.status == code
    assert len(server.seen) <= 1


def test_a_broken_connection_is_retryable(server: Server, transport: Transport) -> None:
    """A reset says nothing about the data."""
    server.script = [lambda handler, _: handler.reset()]
    with pytest.raises(RetryableError):
        transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "not a url", "/batch/", "", "file:///etc/passwd", "http://[", "http://"]
)
def test_a_url_that_is_none_is_permanent(transport: Transport, url: str) -> None:
    """No attempt will ever succeed."""
    with pytest.raises(PermanentError):
        transport.post(Request(url, HEADERS, b"{}"), timeout=30)


def test_a_header_with_a_line_break_is_permanent(server: Server, transport: Transport) -> None:
    """Nothing is smuggled into the request."""
    with pytest.raises(PermanentError):
        transport.post(Request(f"{server.url}/x", {"X-A": "b\r\nX-C: d"}, b"{}"), timeout=30)
    assert server.seen == []


def test_a_long_answer_is_cut(server: Server, transport: Transport) -> None:
    """64 KiB are kept."""
    server.script = [status(200, b"x" * 200_000)]
    assert len(transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).body) == 64 * 1024


def test_no_time_is_no_answer(server: Server, transport: Transport) -> None:
    """A deadline that has passed is retryable."""
    with pytest.raises(RetryableError):
        transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=0)


def test_closing_is_not_the_end(server: Server, transport: Transport) -> None:
    """After `close` a post opens a new connection; `close` twice is fine."""
    for _ in range(3):
        server.script = [status(200, b"ok")]
        assert transport.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).body == b"ok"
        transport.close()
        transport.close()


# --- the real one alone --------------------------------------------------------------------------------------------


@pytest.fixture
def real() -> Iterator[Urllib3Transport]:
    """The real client, without the proxies of this machine."""
    made = Urllib3Transport(environ={})
    yield made
    made.close()


def test_connections_are_kept(server: Server, real: Urllib3Transport) -> None:
    """Ten posts, one connection."""
    ports: set[int] = set()

    def note(handler: Handler, _: Seen) -> None:
        ports.add(handler.client_address[1])
        handler.reply(200, b"ok")

    server.default = note
    for _ in range(10):
        real.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30)
    assert len(ports) == 1


def test_an_answer_that_ends_its_connection(server: Server, real: Urllib3Transport) -> None:
    """`Connection: close`, and a body that only the end of the connection ends, are read whole."""

    def closing(handler: Handler, _: Seen) -> None:
        handler.reply(200, b"x" * 50_000, Connection="close")
        handler.close_connection = True

    def unannounced(handler: Handler, _: Seen) -> None:
        handler.connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"y" * 50_000)
        handler.close_connection = True

    def chunked(handler: Handler, _: Seen) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        handler.connection.sendall(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    server.script = [closing, unannounced, chunked, status(200, b"z")]
    bodies = [real.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).body for _ in range(4)]
    assert bodies == [b"x" * 50_000, b"y" * 50_000, b"abcde", b"z"]


def test_a_slow_reader_meets_the_deadline(real: Urllib3Transport) -> None:
    """A server that does not read a large body costs the timeout, not one timeout for each piece."""
    with socket.create_server(("127.0.0.1", 0)) as lazy:
        url = f"http://127.0.0.1:{lazy.getsockname()[1]}/batch/"
        begun = time.monotonic()
        with pytest.raises(RetryableError):
            real.post(Request(url, HEADERS, b"x" * 20_000_000), timeout=0.5)
        assert time.monotonic() - begun < 30


@pytest.mark.parametrize("slow", [loopback.hang, loopback.drip_head])
def test_the_whole_exchange_has_one_deadline(server: Server, real: Urllib3Transport, slow: Any) -> None:
    """Bytes that trickle in do not buy time."""
    server.script = [slow]
    with pytest.raises(RetryableError, match="did not answer in time"):
        real.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=0.4)
    server.script = [status(200, b"ok")]
    assert real.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).body == b"ok"


def test_two_threads_have_deadlines_of_their_own(server: Server, real: Urllib3Transport) -> None:
    """A short deadline of one thread does not end another's exchange."""
    held = threading.Event()

    def patient(handler: Handler, _: Seen) -> None:
        held.wait(100)
        handler.reply(200, b"late")

    server.script = [patient]
    answers: list[Response] = []
    thread = threading.Thread(
        target=lambda: answers.append(real.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=20))
    )
    thread.start()
    assert loopback.until(lambda: len(server.seen) == 1)
    server.script = [loopback.hang]
    with pytest.raises(RetryableError):
        real.post(Request(f"{server.url}/y", HEADERS, b"{}"), timeout=0.2)
    held.set()
    thread.join(30)
    assert [answer.body for answer in answers] == [b"late"]


def test_a_proxy_of_the_environment_is_used(server: Server) -> None:
    """HTTP goes through HTTP_PROXY with its credentials, and past it for NO_PROXY."""
    proxy = server.url.replace("http://", "http://ada:s3cret@")
    through = Urllib3Transport(environ={"HTTP_PROXY": proxy})
    server.default = status(200, b"by proxy")
    assert through.post(Request("http://posthog.test/batch/", HEADERS, b"{}"), timeout=30).body == b"by proxy"
    assert server.seen[0].path == "http://posthog.test/batch/"
    assert server.seen[0].headers["proxy-authorization"].startswith("Basic ")
    past = Urllib3Transport(environ={"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"})
    assert past.post(Request(f"{server.url}/x", HEADERS, b"{}"), timeout=30).status == 200
    through.close()
    past.close()


def test_a_proxy_s_password_is_never_told() -> None:
    """Not when the proxy is away, and not when its address is nonsense."""
    for proxy in ("http://ada:s3cret@127.0.0.1:9", "http://ada:s3cret@[nonsense", "socks5://ada:s3cret@127.0.0.1:9"):
        transport = Urllib3Transport(environ={"HTTPS_PROXY": proxy})
        with pytest.raises(DeliveryError) as failure:
            transport.post(Request("https://posthog.test/batch/", HEADERS, b"{}"), timeout=2)
        assert "s3cret" not in str(failure.value)


def test_certificates_are_verified(secured: Secured, tmp_path: Path) -> None:
    """Unknown roots and a wrong host name are refused, named and retryable; the right CA file passes."""
    url = f"{secured.url}/batch/"
    secured.default = status(200, b"ok")
    unknown = Urllib3Transport(environ={})
    with pytest.raises(RetryableError, match="certificate of localhost cannot be verified"):
        unknown.post(Request(url, HEADERS, b"{}"), timeout=30)
    known = Urllib3Transport(environ={}, ca_file=str(secured.ca_file))
    assert known.post(Request(url, HEADERS, b"x" * 500_000), timeout=30).body == b"ok"
    other = Secured(tmp_path, names=("shop.test",)).start()
    try:
        named = Urllib3Transport(environ={}, ca_file=str(other.ca_file))
        with pytest.raises(RetryableError, match="Hostname mismatch"):
            named.post(Request(other.url, HEADERS, b"{}"), timeout=30)
    finally:
        other.stop()


def test_files_that_cannot_be_used_may_be_there_later(secured: Secured, tmp_path: Path) -> None:
    """They were there when the settings were read: somebody renews them, and the data is not at fault."""
    url = f"{secured.url}/batch/"
    (tmp_path / "broken.pem").write_text("no certificate")
    for options in (
        {"ca_file": str(tmp_path / "broken.pem")},
        {"ca_file": str(tmp_path / "gone.pem")},
        {"client_cert": str(tmp_path / "broken.pem")},
        {"client_cert": str(tmp_path / "gone.pem")},
    ):
        broken = Urllib3Transport(environ={}, **options)
        with pytest.raises(RetryableError, match=r"cannot be used") as failure:
            broken.post(Request(url, HEADERS, b"{}"), timeout=30)
        assert next(iter(options.values())) in str(failure.value)


def test_an_encrypted_key_asks_nobody(secured: Secured, tmp_path: Path) -> None:
    """OpenSSL would ask for the passphrase on the terminal of the app."""
    certificate, key = client_files(trustme.CA(), tmp_path)
    encrypt(key)
    transport = Urllib3Transport(
        environ={}, ca_file=str(secured.ca_file), client_cert=str(certificate), client_key=str(key)
    )
    with pytest.raises(RetryableError, match="client certificate"):
        transport.post(Request(f"{secured.url}/batch/", HEADERS, b"{}"), timeout=30)


def test_every_error_of_urllib3_has_a_class() -> None:
    """Whatever the library raises is one of ours, and its text repeats nothing of the request."""
    from urllib3 import exceptions

    kinds = [
        kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, exceptions.HTTPError)
    ]
    assert len(kinds) > 20
    for kind in kinds:
        error = kind.__new__(kind)
        error.args = ("phc_secret in a message", OSError("inner phc_secret"))
        ours = classify(error, "https://eu.i.posthog.com/batch/?token=phc_secret")
        assert isinstance(ours, (PermanentError, RetryableError))
        assert "phc_secret" not in str(ours)


def test_nothing_heavy_before_the_first_post() -> None:
    """Building a delivery loads no HTTP client and no protobuf."""
    code = (
        "import sys; import otel_posthog.delivery.build; from otel_posthog.delivery.transport import Urllib3Transport;"
        "Urllib3Transport(); heavy = {'urllib3', 'http.client', 'google.protobuf', 'orjson', 'asyncio'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip() == "[]"
    )
