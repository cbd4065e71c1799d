"""The operator's HTTP server: health, metrics, and who may see the live events."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot

from otel_posthog.cli.main import main
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.admin.sources import Phase, Reason

Serve = Callable[..., AdminServer]


def ask(server: AdminServer, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@contextlib.contextmanager
def looking(server: AdminServer, path: str, **headers: str) -> Iterator[Iterator[Any]]:
    """The documents of a `/tail`, from when it is connected; empty lines left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("content-type")) == (200, "application/x-ndjson")
        yield (json.loads(line) for line in iter(answer.readline, b"") if line.strip())


def test_alive_and_ready(gateway: Any, serve: Serve) -> None:
    """A gateway that serves is both; verbose says so in JSON."""
    server = serve(gateway)

    assert ask(server, "/livez") == (200, "ok\n")
    assert ask(server, "/readyz") == (200, "ok\n")
    assert ask(server, "/readyz?verbose") == snapshot((200, '{\n  "ready": true,\n  "reasons": []\n}\n'))


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RECOVERING, Phase.STOPPING])
def test_not_ready_but_alive_outside_of_serving(gateway: Any, serve: Serve, phase: Phase) -> None:
    """While it starts, recovers or stops, nothing is sent to it, and nobody kills it."""
    gateway.phase = phase
    server = serve(gateway)

    assert ask(server, "/readyz") == (503, "not ready\n")
    assert ask(server, "/livez") == (200, "ok\n")


def test_every_reason_is_told_when_asked_for(gateway: Any, serve: Serve) -> None:
    """A revoked key, a full disk, a dead thread and what the service adds; without `verbose` nothing is told."""
    gateway.project("blog").delivery.blocked = "HTTP 401: the key is not known"
    gateway.spool_error = "No space left on device"
    gateway.dead = ("otel-posthog-sender",)
    gateway.reasons = (Reason("reload", "no"),)
    server = serve(gateway)

    status, body = ask(server, "/readyz?verbose")

    assert (status, json.loads(body)) == snapshot(
        (
            503,
            {
                "ready": False,
                "reasons": [
                    {
                        "check": "threads",
                        "subject": "otel-posthog-sender",
                        "text": "a thread that should run has ended",
                    },
                    {"check": "spool", "text": "the spool takes nothing: No space left on device"},
                    {
                        "check": "delivery",
                        "subject": "blog",
                        "text": "PostHog takes nothing: HTTP 401: the key is not known",
                    },
                    {"check": "reload", "text": "no"},
                ],
            },
        )
    )
    assert ask(server, "/readyz") == (503, "not ready\n")
    assert ask(server, "/livez") == (503, "not alive\n")


def test_a_check_can_be_left_out(gateway: Any, serve: Serve) -> None:
    """With ten projects, one revoked key need not take all of them out of the load balancer."""
    gateway.projects["shop"].delivery.blocked = "HTTP 401"
    server = serve(gateway)

    assert ask(server, "/readyz")[0] == 503
    assert ask(server, "/readyz?exclude=delivery")[0] == 200
    assert ask(server, "/readyz?exclude=spool,delivery")[0] == 200
    assert ask(server, "/readyz?exclude=spool")[0] == 503


def test_threads_that_end_at_a_stop_are_no_reason_to_kill_it(gateway: Any, serve: Serve) -> None:
    """A scheduler must not cut a drain short."""
    gateway.phase, gateway.dead = Phase.STOPPING, ("receiver",)

    assert ask(serve(gateway), "/livez") == (200, "ok\n")


def test_what_it_does_not_do(gateway: Any, serve: Serve) -> None:
    """Only GET and HEAD, only its own paths; nothing is cached."""
    server = serve(gateway)

    assert ask(server, "/livez", "POST") == (405, "only GET\n")
    assert ask(server, "/livez", "HEAD") == (200, "")
    assert ask(server, "/tail", "HEAD") == (200, "")
    assert ask(server, "/etc/passwd")[0] == 404
    assert ask(server, "/")[0] == 200


def test_a_failing_part_is_503_and_a_line_in_the_log(
    gateway: Any, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """A scrape that fails neither ends the server nor shows its inside."""

    def broken() -> Any:
        raise RuntimeError("phc_canary")

    gateway.books.snapshot = broken
    server = serve(gateway)

    assert ask(server, "/metrics") == (503, "not available now\n")
    assert ask(server, "/livez") == (200, "ok\n")
    assert [record.getMessage() for record in caplog.records] == [
        "the admin server could not answer /metrics (RuntimeError)"
    ]


def test_live_events(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """Each event is a line with its properties and where it came from, drops only where asked for."""
    server = serve(gateway)
    bridge = gateway.projects["shop"].bridge

    with looking(server, "/tail") as lines, looking(server, "/tail?drops=1") as with_drops:
        bridge.accept([make_signal("drop_me"), make_signal("plain"), make_signal("order", price=3, who="bob")])

        assert next(lines) == snapshot(
            {
                "type": "event",
                "project": "shop",
                "event": "order",
                "distinct_id": "bob",
                "timestamp": "2023-11-14T22:13:20.123456Z",
                "uuid": "0198f000-0000-7000-8000-000000000001",
                "properties": {"price": 3},
                "signal": {"kind": "span", "name": "order", "trace_id": "0af7651916cd43dd8448eb211c80319c"},
            }
        )
        dropped = [next(with_drops), next(with_drops)]
        assert dropped == snapshot(
            [
                {
                    "type": "drop",
                    "project": "shop",
                    "reason": "rule",
                    "signal": {
                        "kind": "span",
                        "name": "drop_me",
                        "trace_id": "0af7651916cd43dd8448eb211c80319c",
                        "rule": "silence",
                    },
                },
                {
                    "type": "drop",
                    "project": "shop",
                    "reason": "not_tagged",
                    "signal": {"kind": "span", "name": "plain", "trace_id": "0af7651916cd43dd8448eb211c80319c"},
                },
            ]
        )
        assert next(with_drops)["event"] == "order"


def test_filters(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """By event, by person, by project; all that are given must hold."""
    gateway.project("blog")
    server = serve(gateway)
    shop, blog = (gateway.projects[name].bridge for name in ("shop", "blog"))

    with looking(server, "/tail?event=order&distinct_id=bob&project=blog") as lines:
        shop.accept([make_signal("order", who="bob", number=1)])
        blog.accept([make_signal("order", who="ada"), make_signal("visit", who="bob")])
        blog.accept([make_signal("order", who="bob", number=2)])

        assert next(lines)["properties"] == {"number": 2}


def test_what_delivery_refused_is_shown_with_the_drops(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """A refused event comes again: it is no event yet."""
    server = serve(gateway)
    project = gateway.projects["shop"]

    with looking(server, "/tail?drops") as all_lines, looking(server, "/tail") as events:
        project.delivery.full = True
        project.bridge.accept([make_signal("order", number=1)])
        project.delivery.full = False
        project.bridge.accept([make_signal("order", number=2)])

        assert [next(all_lines)["type"], next(all_lines)["type"]] == ["refused", "event"]
        assert next(events)["properties"] == {"number": 2}


@pytest.mark.row(42)
def test_hostile_text_stays_one_escaped_line(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """New lines, escape sequences and marks that turn text around reach no terminal through curl."""
    hostile = "a\nb\x1b[31m\u202e\x00\u009b"
    server = serve(gateway)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/tail")
        answer = connection.getresponse()
        gateway.projects["shop"].bridge.accept([make_signal(hostile, **{hostile: hostile})])
        line = answer.readline()

    assert json.loads(line)["properties"] == {hostile: hostile}
    assert all(0x20 <= byte < 0x7F for byte in line.rstrip(b"\n"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/tail?evnt=x", "`evnt`: is no filter. Filters are event, distinct_id, project, drops, each at most once\n"),
        (
            "/tail?event=x&event=y",
            "`event`: is given twice. Filters are event, distinct_id, project, drops, each at most once\n",
        ),
    ],
)
def test_a_wrong_filter_is_told(gateway: Any, serve: Serve, path: str, message: str) -> None:
    """A mistyped filter must not show everybody's events."""
    assert ask(serve(gateway), path) == (400, message)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "[2001:db8::1]:80", "169.254.169.254"])
def test_a_page_elsewhere_cannot_look(gateway: Any, serve: Serve, host: str) -> None:
    """Without a token the server must be called by a loopback name: no DNS rebinding."""
    server = serve(gateway)

    assert ask(server, "/tail", Host=host)[0] == 403
    for name in ("localhost", "LOCALHOST:1", "127.0.0.1:1", "[::1]:1"):
        with looking(server, "/tail", Host=name):
            pass


def test_beyond_loopback_a_token_is_needed(gateway: Any, serve: Serve) -> None:
    """Where other machines reach the port, people's data is shown to nobody without a token; health still is."""
    server = serve(gateway, host="0.0.0.0")

    assert ask(server, "/tail") == (403, "events are people's data: set an admin token, or listen on 127.0.0.1\n")
    assert ask(server, "/livez") == (200, "ok\n")


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret\xe9"])
def test_a_wrong_token_sees_nothing(gateway: Any, serve: Serve, given: str) -> None:
    """Where a token is set, loopback needs it too."""
    server = serve(gateway, token="s3cret")

    assert ask(server, "/tail", **({"Authorization": given} if given else {})) == (401, "the admin token is needed\n")


def test_the_token_opens(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """From any machine."""
    server = serve(gateway, host="0.0.0.0", token="s3cret")

    with looking(server, "/tail", Authorization="bearer s3cret", Host="gateway.example") as lines:
        gateway.projects["shop"].bridge.accept([make_signal("order")])
        assert next(lines)["event"] == "order"


def test_a_viewer_who_left_is_forgotten_and_the_next_one_gets_in(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """No more than sixteen look at a time, and a closed connection makes room."""
    server = serve(gateway)
    with contextlib.ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(looking(server, "/tail"))
        assert ask(server, "/tail") == (503, "too many look already\n")
    wait_until(lambda: gateway.tail.viewers == 0)

    with looking(server, "/tail") as lines:
        gateway.projects["shop"].bridge.accept([make_signal("order")])
        assert next(lines)["event"] == "order"


def wait_until(condition: Callable[[], bool]) -> None:
    """Asks until it holds."""
    import threading
    import time

    deadline, pause = time.monotonic() + 60, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.005)


def test_a_slow_viewer_loses_lines_and_is_told(gateway: Any, serve: Serve, make_signal: Any) -> None:
    """Who does not read costs the gateway no memory; what it gets, with what it missed, is everything."""
    server = serve(gateway)
    bridge = gateway.projects["shop"].bridge
    sent = 0

    with looking(server, "/tail") as lines:
        batch = [make_signal("order", text="x" * 10_000) for _ in range(1_000)]
        for _ in range(30):  # 300 MB, where sockets hold some
            bridge.accept(batch)
            sent += len(batch)
        got = missed = 0
        while got + missed < sent:
            line = next(lines)
            if line["type"] == "missed":
                missed += line["count"]
            else:
                got += 1

    assert got + missed == sent
    assert missed > 0


def test_closing_ends_the_streams(gateway: Any, serve: Serve) -> None:
    """A stop does not wait for people who look: their stream just ends."""
    server = serve(gateway)
    with looking(server, "/tail") as lines:
        server.close()
        assert list(lines) == []
    assert not server.running


def test_a_taken_port_is_a_config_error(gateway: Any, serve: Serve) -> None:
    """It names the key, the address and the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as raised:
            serve(gateway, port=port)

    assert f"`listen.admin` (127.0.0.1:{port}): " in str(raised.value)
    assert str(raised.value).endswith("Choose another port, or 0 for a free one")


def test_half_a_request_is_ended(gateway: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 38 for this port: who never finishes a request loses the connection, and others are served."""
    monkeypatch.setattr("otel_posthog.gateway.admin.server._HEADER_TIMEOUT", 1.0)
    server = serve(gateway)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
        slow.sendall(b"GET /livez HT")
        assert ask(server, "/livez") == (200, "ok\n")
        assert slow.recv(1) == b""


@pytest.mark.parametrize(("dead", "code"), [((), 0), (("sender",), 1)])
def test_the_containers_health_check(
    gateway: Any, serve: Serve, dead: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """`otel-posthog gateway --healthcheck` asks `/livez`: an image needs no curl and no shell."""
    gateway.dead = dead
    url = f"{serve(gateway).url}/livez"

    assert main(["gateway", "--healthcheck", url]) == code
    assert capsys.readouterr().err == ("" if code == 0 else f"otel-posthog gateway: {url} answers 503\n")


def test_the_containers_health_check_of_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody listens, or that is no address: not alive."""
    # Bound, so that nobody else gets the port; not listening.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        for url in (f"http://127.0.0.1:{silent.getsockname()[1]}/livez", "nonsense", "http://127.0.0.1:99999/"):
            assert main(["gateway", "--healthcheck", url]) == 1
            assert f"{url} does not answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /tail?event=%ff%00%0d%0a&distinct_id=%F0%9F HTTP/1.0\r\nHost: evil\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /readyz?verbose&exclude=" + b"%00," * 500 + b" HTTP/1.0\r\n\r\n",
        b"\x00" * 1_000,
    ],
)
def test_whatever_is_sent_to_it(gateway: Any, serve: Serve, request_bytes: bytes) -> None:
    """Rows 35 and 38 for this port: an answer below 500 or none at all, and the next caller is served."""
    server = serve(gateway)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as odd:
        odd.sendall(request_bytes)
        odd.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            answer = odd.recv(4_096)
            assert not answer or int(answer.split()[1]) < 500

    assert ask(server, "/livez") == (200, "ok\n")
