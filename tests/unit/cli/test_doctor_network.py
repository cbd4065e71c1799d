"""The doctor's checks over the network, against real servers on loopback."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

import pytest

from otel_posthog.cli import doctor, network_checks
from otel_posthog.cli.findings import Finding
from otel_posthog.cli.network_checks import bounded
from tests.unit.cli.conftest import Answer, Asked, Scripted

Serve = Callable[[Callable[[Asked], Answer]], Scripted]
EMPTY = Answer(400, b'{"error": "empty batch"}')
E = "OTEL_EXPORTER_OTLP_"


@dataclass
class Stopped:
    """A clock that stands still."""

    now: float

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


def direct(url: str) -> dict[str, str]:
    """Two variables towards PostHog."""
    return {f"{E}ENDPOINT": f"{url}/i", f"{E}TOKEN": "phc_net"}


def collector(url: str) -> dict[str, str]:
    """Two variables towards a Collector."""
    return {f"{E}ENDPOINT": url, f"{E}TOKEN": "gate", f"{E}HEADERS": "x-tenant=a"}


def network(environ: dict[str, str], **options: object) -> list[Finding]:
    """What the network checks say."""
    settings = doctor.load_settings(environ)
    assert settings.enabled, settings.reason
    send = bool(options.pop("send", False))
    clock = options.pop("clock", None)
    return list(doctor._network(settings, send=send, timeout=60.0, transport=None, clock=clock))  # type: ignore[arg-type]


def levels(findings: list[Finding]) -> list[tuple[str, str]]:
    """Level and check of each."""
    return [(finding.level, finding.check) for finding in findings]


def test_posthog_that_answers(serve: Serve) -> None:
    """Capture v1 is asked for an empty batch, which it has to refuse: nothing is stored, and that is well."""
    server = serve(lambda asked: EMPTY)

    findings = network(direct(server.url))

    assert levels(findings) == [("ok", "network"), ("ok", "clock")]
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == (
        "POST",
        "/i/v1/analytics/events",
        "Bearer phc_net",
    )
    assert json.loads(asked.body)["batch"] == []


def test_an_older_posthog_is_asked_by_v0(serve: Serve) -> None:
    """Where v1 is not there, v0 is asked, with the key in the body."""
    server = serve(lambda asked: EMPTY if asked.path == "/batch/" else Answer(404))

    findings = network(direct(server.url))

    assert levels(findings) == [("ok", "network"), ("ok", "clock")]
    assert json.loads(server.asked[1].body) == {"api_key": "phc_net", "batch": []}


def test_a_collector_that_answers(serve: Serve) -> None:
    """A Collector is sent an empty request with the token and the configured headers."""
    server = serve(lambda asked: Answer(200, b""))

    findings = network(collector(server.url))

    assert levels(findings) == [("ok", "network"), ("ok", "clock")]
    (asked,) = server.asked
    assert (asked.path, asked.body) == ("/v1/logs", b"")
    assert {name: asked.headers[name] for name in ("authorization", "x-tenant", "content-type")} == {
        "authorization": "Bearer gate",
        "x-tenant": "a",
        "content-type": "application/x-protobuf",
    }


HTML = {"content-type": "text/html"}


@pytest.mark.parametrize(
    ("make", "answer", "expected", "words", "mend"),
    [
        (direct, Answer(401), ("problem", "token"), "answers 401", "mind the region"),
        (
            collector,
            Answer(403),
            ("problem", "token"),
            "answers 403",
            "receiver, or the gateway, expects",
        ),
        (
            direct,
            Answer(404),
            ("problem", "network"),
            "there is no PostHog's capture API",
            "https://eu.i.posthog.com/i",
        ),
        (direct, Answer(200, b"<html>", HTML), ("problem", "network"), "with a web page", "https://us.i.posthog.com/i"),
        (collector, Answer(404), ("problem", "network"), "no an OTLP/HTTP receiver", "http://host:4318/v1/logs"),
        (
            direct,
            Answer(301, b"", {"location": "https://me:pw@other.example/x?token=phc_1"}),
            ("problem", "network"),
            "a redirect to https://other.example/x?…",
            "the address that it redirects to",
        ),
        (collector, Answer(302), ("problem", "network"), "a redirect to somewhere else", "redirects to"),
        (direct, Answer(503), ("problem", "network"), "answers 503", "run this again"),
        (direct, Answer(429), ("problem", "network"), "answers 429", "run this again"),
        (direct, Answer(500, b"<html>", HTML), ("problem", "network"), "answers 500", "run this again"),
        (collector, Answer(415), ("warn", "network"), "answers 415 to an empty request", "--send"),
    ],
)
def test_answers_that_are_not_well(
    serve: Serve,
    make: Callable[[str], dict[str, str]],
    answer: Answer,
    expected: tuple[str, str],
    words: str,
    mend: str,
) -> None:
    """Each answer that would keep data from arriving is found, with the mend."""
    server = serve(lambda asked: answer)

    finding = network(make(server.url))[0]

    assert (finding.level, finding.check) == expected
    assert words.replace("no an ", "no ") in finding.what.replace("no an ", "no ")
    assert mend in finding.mend
    assert finding.why
    assert "pw" not in finding.what
    assert "phc_1" not in finding.what


def test_nobody_listens() -> None:
    """A refused connection names host and port, and what that means in a container."""
    # Bound, so that nobody else gets the port; not listening.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (finding,) = network(collector(url))

    assert (finding.level, finding.what) == ("problem", f"{url}/v1/logs: 127.0.0.1 refuses connections")
    assert "in a container `localhost` is that container" in finding.mend
    assert "`http` protocol" in finding.mend


def test_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not resolve is said to be one."""

    def unknown(*_: object, **__: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)

    (finding,) = network(direct("http://posthog.internal.example"))

    assert "posthog.internal.example cannot be resolved" in finding.what
    assert "DNS" in finding.mend


def test_tls_towards_plain_http(serve: Serve) -> None:
    """Https towards a server that speaks plain http is TLS trouble, not a mystery."""
    server = serve(lambda asked: EMPTY)

    (finding,) = network(direct(server.url.replace("http:", "https:")))

    assert "TLS with 127.0.0.1 failed" in finding.what
    assert "https or http" in finding.mend


def test_a_server_that_says_nothing() -> None:
    """A server that accepts and never answers costs the time limit, not more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = doctor.load_settings(direct(f"http://127.0.0.1:{server.getsockname()[1]}"))
        (finding,) = doctor._network(settings, send=False, timeout=0.2, transport=None, clock=None)

    assert "did not answer in time" in finding.what
    assert "firewall" in finding.mend


def test_bounded_gives_up() -> None:
    """What cannot be interrupted is left behind after its time; its errors are passed on."""
    import threading

    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
        bounded(never.wait, 0.05)
    never.set()
    with pytest.raises(ZeroDivisionError):
        bounded(lambda: 1 // 0, 5)


@pytest.mark.parametrize(
    ("skew", "level", "words"),
    [
        (0, "ok", "agrees with"),
        (9, "ok", "agrees with"),
        (-30, "warn", "30 s behind"),
        (3600, "problem", "3,600 s ahead of"),
    ],
)
def test_clock_skew(serve: Serve, skew: int, level: str, words: str) -> None:
    """The server's Date is compared with our clock."""
    server = serve(lambda asked: Answer(400, headers={"date": formatdate(1_800_000_000, usegmt=True)}))

    findings = network(direct(server.url), clock=Stopped(1_800_000_000 + skew))

    assert (findings[1].level, findings[1].check) == (level, "clock")
    assert words in findings[1].what


def test_a_date_that_is_none_is_passed_over(serve: Serve) -> None:
    """A server without a readable Date gives no finding about the clock."""
    server = serve(lambda asked: Answer(400, headers={"date": "soon"}))

    assert levels(network(direct(server.url))) == [("ok", "network")]


def accepting(asked: Asked) -> Answer:
    """Capture v1 that accepts every event."""
    body = gzip.decompress(asked.body) if asked.headers.get("content-encoding") == "gzip" else asked.body
    batch = json.loads(body)["batch"]
    if not batch:
        return EMPTY
    return Answer(200, json.dumps({"results": {event["uuid"]: {"result": "ok"} for event in batch}}).encode())


def test_send_to_posthog(serve: Serve) -> None:
    """--send brings one personless event through the real delivery and sees it accepted."""
    server = serve(accepting)

    findings = network(direct(server.url), send=True)

    assert levels(findings) == [("ok", "network"), ("ok", "clock"), ("ok", "test event")]
    sent = [asked for asked in server.asked if asked.headers.get("content-encoding") == "gzip"]
    (event,) = json.loads(gzip.decompress(sent[-1].body))["batch"]
    assert (event["event"], event["distinct_id"]) == ("otel_posthog_doctor", "otel-posthog-doctor")
    assert event["options"]["process_person_profile"] is False
    assert event["uuid"] in findings[2].what


def test_send_that_is_refused(serve: Serve) -> None:
    """--send tells what the server said about a refused event."""

    def refusing(asked: Asked) -> Answer:
        answer = accepting(asked)
        return Answer(200, answer.body.replace(b'"ok"', b'"drop"')) if answer.status == 200 else answer

    server = serve(refusing)

    finding = network(direct(server.url), send=True)[2]

    assert (finding.level, finding.check) == ("problem", "test event")
    assert "did not accept the test event" in finding.what


def test_send_to_a_collector(serve: Serve) -> None:
    """--send towards a Collector is one OTLP log record with the event's name."""
    server = serve(lambda asked: Answer(200, b"", {"content-type": "application/x-protobuf"}))

    findings = network(collector(server.url), send=True)

    assert levels(findings) == [("ok", "network"), ("ok", "clock"), ("ok", "test event")]
    assert b"otel_posthog_doctor" in gzip.decompress(server.asked[-1].body)


def test_send_while_off(capsys: pytest.CaptureFixture[str]) -> None:
    """--send with the gate shut is a problem of its own: the event was asked for."""
    from otel_posthog.cli.main import main

    assert main(["doctor", "--send", "--json"]) == 1

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [each["check"] for each in findings if each["level"] == "problem"] == ["gate", "test event"]


def cors(server: Scripted, origin: str = "https://app.example") -> Finding:
    """What the CORS check says."""
    (finding,) = network_checks.cors(f"{server.url}/api", origin, 2.0)
    return finding


def allow(origin: str, headers: str, status: int = 204) -> Callable[[Asked], Answer]:
    """A preflight answer."""
    return lambda asked: Answer(
        status, b"", {"access-control-allow-origin": origin, "access-control-allow-headers": headers}
    )


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        ("*", "*"),
        ("https://app.example", "Content-Type, X-PostHog-Distinct-Id,x-posthog-session-id , TraceParent"),
    ],
)
def test_cors_that_lets_through(serve: Serve, origin: str, headers: str) -> None:
    """All three headers allowed, in any case and spacing, for that origin."""
    server = serve(allow(origin, headers))

    assert (cors(server).level, server.asked[0].method, server.asked[0].path) == ("ok", "OPTIONS", "/api")
    assert server.asked[0].headers["access-control-request-headers"] == (
        "traceparent,x-posthog-distinct-id,x-posthog-session-id"
    )


@pytest.mark.parametrize(
    ("origin", "headers", "status", "words"),
    [
        (
            "*",
            "content-type,x-posthog-distinct-id",
            204,
            "the headers x-posthog-session-id, traceparent",
        ),
        ("https://other.example", "*", 204, "does not allow it"),
        ("", "*", 204, "does not allow it"),
        ("*", "*", 405, "answers 405 to a preflight"),
    ],
)
def test_cors_that_blocks(serve: Serve, origin: str, headers: str, status: int, words: str) -> None:
    """Blocked headers or origins are found, with what to allow."""
    finding = cors(serve(allow(origin, headers, status)))

    assert (finding.level, finding.check) == ("problem", "CORS")
    assert words in finding.what
    assert "x-posthog-session-id" in finding.mend


def test_cors_of_an_app_that_is_not_there() -> None:
    """An app that does not answer is a finding too."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        (finding,) = network_checks.cors(url, "https://app.example", 30.0)

    assert (finding.level, finding.what) == ("problem", f"{url}: 127.0.0.1 refuses connections")


def test_the_whole_command(serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`doctor --send --app-url` against sound servers ends with 0 and says nothing is wrong with them."""
    from otel_posthog.cli.main import main

    server, app = serve(accepting), serve(allow("*", "*"))
    for name, value in direct(server.url).items():
        monkeypatch.setenv(name, value)

    code = main(["doctor", "--send", "--app-url", app.url, "--timeout", "2"])
    out = capsys.readouterr().out

    assert (code, "✗" in out) == (0, False), out
    for check in ("gate", "network", "clock", "test event", "CORS"):
        assert f"✓ {check}" in out
    assert "phc_net" not in out
    assert app.asked[0].headers["origin"] == app.url
