"""The doctor's checks of flags, posthog-js and a gateway: with the emulator, a real gateway, and scripted servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from otel_posthog.cli import doctor, service_checks
from otel_posthog.cli.findings import Finding
from otel_posthog.cli.installed import Installed
from tests.unit.cli.conftest import Answer, Asked, Scripted

Serve = Callable[[Callable[[Asked], Answer]], Scripted]
E = "OTEL_EXPORTER_OTLP_"
KEY, SECRET = "phc_of_the_doctor", "phx_of_the_doctor"
FLAGS = Answer(200, b'{"flags": {"a": {"key": "a"}, "b": {"key": "b"}}}')
SCRIPT = Answer(200, b"!function(){}", {"content-type": "text/javascript"})
HTML = {"content-type": "text/html; charset=utf-8"}
NOBODY = "http://127.0.0.1:9"


def direct(url: str, **more: str) -> dict[str, str]:
    """A process in direct mode; further variables by their names after OTEL_POSTHOG_."""
    named = {f"OTEL_POSTHOG_{name.upper()}": value for name, value in more.items()}
    return {f"{E}ENDPOINT": f"{url}/i", f"{E}TOKEN": KEY, "OTEL_POSTHOG_MODE": "direct", **named}


def found(environ: dict[str, str], *checks: str) -> list[Finding]:
    """What the whole doctor says under these names."""
    every = list(doctor.examine(environ, Installed(), timeout=60.0))
    assert not [each for each in every if KEY in repr(each) or SECRET in repr(each)]
    return [each for each in every if each.check in checks]


def one(environ: dict[str, str], check: str) -> Finding:
    """The one finding of that name."""
    (finding,) = found(environ, check)
    return finding


def posthog(**answers: Answer) -> Callable[[Asked], Answer]:
    """A PostHog that answers flags, definitions and scripts so."""

    def respond(asked: Asked) -> Answer:
        path = asked.path.partition("?")[0]
        names = {"/flags/": "flags", "/flags/definitions": "definitions", "/static/array.js": "script"}
        usual = {"flags": FLAGS, "definitions": Answer(200, b'{"flags": [{}]}'), "script": SCRIPT}
        name = names.get(path, "")
        return answers.get(name) or usual.get(name) or Answer(400, b'{"error": "empty batch"}')

    return respond


def test_all_is_well(serve: Serve) -> None:
    """Each is asked as it would be in earnest, with its own key in the right place."""
    server = serve(posthog())

    findings = found(direct(server.url, flags_secret_key=SECRET), "flags", "browser", "gateway")

    assert [(each.level, each.check, each.what) for each in findings] == [
        ("ok", "flags", f"{server.url} knows the project key, and answers 2 flags"),
        ("ok", "flags", f"{server.url} takes the key for local evaluation, 1 flag"),
        ("ok", "browser", f"{server.url}/static/array.js answers"),
    ]
    asked = {each.path: each for each in server.asked}
    assert json.loads(asked["/flags/?v=4"].body) == {"token": KEY, "distinct_id": "otel-posthog-doctor"}
    definitions = asked[f"/flags/definitions?token={KEY}&send_cohorts"]
    assert (definitions.method, definitions.headers["authorization"]) == ("GET", f"Bearer {SECRET}")
    assert (asked["/static/array.js"].method, "authorization" in asked["/static/array.js"].headers) == ("GET", False)


def test_a_project_with_many_flags(serve: Serve) -> None:
    """All of the answer is read: what is cut off would look like no answer for flags."""
    many = {f"flag-{number}": {"key": f"flag-{number}", "payload": "x" * 2_000} for number in range(2_000)}
    server = serve(posthog(flags=Answer(200, json.dumps({"flags": many}).encode())))

    assert one(direct(server.url), "flags").what == f"{server.url} knows the project key, and answers 2000 flags"


DENIED = Answer(401, b'{"detail": "no"}')
QUOTA = Answer(200, b'{"flags": {}, "quotaLimited": ["feature_flags"]}')
PAGE = Answer(200, b"<html>", HTML)


@pytest.mark.parametrize(
    ("answers", "check", "levels", "words", "mend"),
    [
        (
            {"flags": DENIED},
            "flags",
            "problem problem",
            "answers 401: it does not know the project key",
            "mind the region",
        ),
        ({"flags": QUOTA}, "flags", "warn problem", "the project's quota is used up", "billing limit"),
        ({"flags": Answer(404)}, "flags", "warn problem", "answers 404: there is nobody", "OTEL_POSTHOG_FLAGS_HOST"),
        ({"flags": PAGE}, "flags", "warn problem", "answers 200 with a web page", "OTEL_POSTHOG_FLAGS_HOST"),
        (
            {"flags": Answer(200, b"[1]")},
            "flags",
            "warn problem",
            "answers 200: there is nobody",
            "OTEL_POSTHOG_FLAGS_HOST",
        ),
        ({"flags": Answer(503)}, "flags", "warn problem", "answers 503", "run this again"),
        (
            {"flags": Answer(302, headers={"location": "https://me:pw@other.example/x?token=y"})},
            "flags",
            "warn problem",
            "a redirect to https://other.example/x?…",
            "OTEL_POSTHOG_FLAGS_HOST",
        ),
        (
            {"script": Answer(404)},
            "browser",
            "warn problem",
            "answers 404: there is no posthog-js",
            "--posthog-js",
        ),
        (
            {"script": PAGE},
            "browser",
            "warn problem",
            "with a web page: there is no posthog-js",
            "OTEL_POSTHOG_BROWSER_HOST",
        ),
        ({"script": Answer(500)}, "browser", "warn problem", "answers 500", "run this again"),
    ],
)
def test_answers_that_are_not_well(
    serve: Serve, answers: dict[str, Answer], check: str, levels: str, words: str, mend: str
) -> None:
    """A warning where nobody knows whether the app uses it, a problem where its settings say so; a wrong key always."""
    server = serve(posthog(**answers))
    setting = {"flags": {"flags_token": KEY}, "browser": {"browser_relay": "/relay"}}[check]

    for level, more in zip(levels.split(), ({}, setting), strict=True):
        finding = one(direct(server.url, **more), check)
        assert (finding.level, words in finding.what, mend in finding.mend) == (level, True, True), finding


@pytest.mark.parametrize(
    ("answer", "words", "mend"),
    [
        (DENIED, "it does not take the key for local evaluation", "a personal key (phx_…) that may read feature flags"),
        (Answer(403), "it does not take the key for local evaluation", "of the project whose API key it stands beside"),
        (Answer(402), "the project's quota is used up", "OTEL_POSTHOG_FLAGS_POLL_INTERVAL"),
        (PAGE, "there are no definitions of flags", "OTEL_POSTHOG_FLAGS_HOST"),
        (Answer(404), "there are no definitions of flags", "OTEL_POSTHOG_FLAGS_HOST"),
        (Answer(502), "answers 502", "run this again"),
    ],
)
def test_a_secret_key_that_is_not_taken(serve: Serve, answer: Answer, words: str, mend: str) -> None:
    """Whoever sets it wants it: a problem, beside a project key that is well."""
    server = serve(posthog(definitions=answer))

    well, wrong = found(direct(server.url, flags_secret_key=SECRET), "flags")

    assert (well.level, wrong.level) == ("ok", "problem")
    assert (words in wrong.what, mend in wrong.mend) == (True, True), wrong


def test_a_key_of_the_other_region(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked there, and the mend is the exact endpoint."""
    here, there = serve(posthog(flags=DENIED)), serve(posthog())
    monkeypatch.setattr(service_checks, "OTHER_REGION", {here.url: there.url})

    finding = one(direct(here.url), "flags")

    assert finding.what == f"{here.url} answers 401: it does not know the project key, but {there.url} does"
    assert finding.mend == f"The key is of the other region: set the endpoint to {there.url}/i."

    monkeypatch.setattr(service_checks, "OTHER_REGION", {here.url: NOBODY})
    assert "mind the region" in one(direct(here.url), "flags").mend


def test_hosts_that_cannot_be_reached(serve: Serve) -> None:
    """Said once for each host; those of flags and pages have mends of their own."""
    findings = found(direct(NOBODY), "network", "flags", "browser")
    assert [(each.level, each.check) for each in findings] == [("problem", "network")]

    server = serve(posthog())
    environ = direct(
        server.url, flags_host=NOBODY, flags_token=KEY, flags_secret_key=SECRET, browser_host=NOBODY, browser_token=KEY
    )
    findings = found(environ, "flags", "browser")
    assert [(each.level, each.check, "refuses" in each.what) for each in findings] == [
        ("problem", "flags", True),
        ("problem", "flags", True),
        ("problem", "browser", True),
    ]


def test_what_is_set_by_halves() -> None:
    """Behind a Collector flags and pages need a host and a key; nothing is said where neither has a setting."""
    environ = {f"{E}ENDPOINT": NOBODY, f"{E}TOKEN": "gate"}
    assert found(environ, "flags", "browser") == []

    environ |= {"OTEL_POSTHOG_FLAGS_SECRET_KEY": SECRET, "OTEL_POSTHOG_BROWSER_RELAY": "/relay"}
    assert [(each.level, each.what, each.mend) for each in found(environ, "flags", "browser")] == [
        (
            "problem",
            "product data goes to a Collector",
            "Set OTEL_POSTHOG_FLAGS_HOST and OTEL_POSTHOG_FLAGS_TOKEN.",
        ),
        (
            "problem",
            "product data goes to a Collector",
            "Set OTEL_POSTHOG_BROWSER_HOST and OTEL_POSTHOG_BROWSER_TOKEN.",
        ),
    ]
    off = {**environ, "OTEL_POSTHOG_FLAGS": "false", "OTEL_POSTHOG_BROWSER": "false"}
    assert found(off, "flags", "browser") == []


def test_a_key_of_another_kind_is_a_wrong_setting() -> None:
    """It is said before anybody is asked with it."""
    environ = direct(NOBODY, flags_host=NOBODY, flags_token=SECRET)
    assert "personal or secret key" in one(environ, "settings").what
    environ = direct(NOBODY, flags_secret_key=KEY)
    assert "project API key" in one(environ, "settings").what


def test_posthog_js_from_elsewhere(serve: Serve) -> None:
    """A script of one's own is looked at where it is; a path on the app's own origin is not known here."""
    server, own = serve(posthog()), serve(lambda asked: SCRIPT if asked.path == "/own.js" else Answer(404))

    assert one(direct(server.url, browser_script=f"{own.url}/own.js"), "browser").what == f"{own.url}/own.js answers"
    assert found(direct(server.url, browser_script="/static/own.js"), "browser") == []


def test_the_emulator() -> None:
    """A real flag service: the keys are taken, and one that may not load definitions is not."""
    pytest.importorskip("starlette")
    from otel_posthog.emulator import Emulator

    with Emulator(flags={"flags": {"new-ui": True}}) as emulator:
        well = found(direct(emulator.url, flags_secret_key=SECRET), "flags")
    assert [(each.level, each.what) for each in well] == [
        ("ok", f"{emulator.url} knows the project key, and answers 1 flag"),
        ("ok", f"{emulator.url} takes the key for local evaluation, 1 flag"),
    ]


@pytest.fixture
def gateway(tmp_path: Path, serve: Serve) -> Iterator[Any]:
    """A real gateway in front of a PostHog that refuses everything."""
    for package in ("grpc", "httptools", "prometheus_client"):
        pytest.importorskip(package)  # extras, which the environment of the floor does without
    from otel_posthog.gateway.process.service import GatewayService
    from tests.unit.gateway.gateway_world import project, settings_of

    server = serve(lambda asked: Answer(401))
    document = {"tokens": {"shop": {"env": "TOKEN"}}, "projects": {"shop": project(server.url)}}
    service = GatewayService(settings_of(tmp_path, document))
    service.start()
    yield service
    service.stop(1.0)


def test_a_gateway_is_recognised(gateway: Any) -> None:
    """By what it answers to metrics; its readiness is asked for where its admin address is reached."""
    base, door = f"http://127.0.0.1:{gateway.receivers.http_port}", urlsplit(gateway.admin.url).netloc
    environ = {f"{E}ENDPOINT": base, f"{E}TOKEN": "world-token-one"}
    recognised = ("ok", f"{base} is an otel-posthog gateway, and takes the token")

    ready = found({**environ, "OTEL_POSTHOG_GATEWAY_ADMIN": door}, "network", "token", "gateway")
    assert [(each.level, each.what) for each in ready] == [
        ("ok", f"{base}/v1/logs answers"),
        recognised,
        ("ok", f"{door} says that it is ready"),
    ]
    hidden = found({**environ, "OTEL_POSTHOG_GATEWAY_ADMIN": "127.0.0.1:9"}, "gateway")
    assert [(each.level, each.what) for each in hidden] == [
        recognised,
        ("ok", f"its health is not seen from here: `otel-posthog gateway --healthcheck` beside {base}"),
    ]
    assert len(found({**environ, "OTEL_POSTHOG_GATEWAY_ADMIN": "off"}, "gateway")) == 1

    # Its PostHog takes no key: with the first event it knows.
    from tests.unit.gateway.gateway_world import admin

    sent = list(doctor.examine(environ, Installed(), send=True, timeout=30.0))
    assert [each.level for each in sent if each.check == "test event"] == ["ok"]
    deadline = time.monotonic() + 60.0
    while admin(gateway.admin.url, "/readyz")[0] != 503:
        assert time.monotonic() < deadline, "the gateway believes in its key"
        time.sleep(0.02)
    (_, health) = found({**environ, "OTEL_POSTHOG_GATEWAY_ADMIN": door}, "gateway")
    assert (health.level, "shop" in health.what, "PostHog takes nothing" in health.what) == ("problem", True, True)
    assert "phc_world" not in health.what

    refused = found({**environ, f"{E}TOKEN": "another-token"}, "network", "token", "gateway")
    assert [(each.level, each.check) for each in refused] == [("problem", "token")]
    assert "the gateway, expects" in refused[0].mend


def test_a_gateway_that_is_not_ready(serve: Serve) -> None:
    """Why not, in its own words; and a Collector, or whoever else takes metrics, is no gateway."""
    message = {"partialSuccess": {"errorMessage": "no product data: this gateway takes traces and logs; …"}}

    def ours(asked: Asked) -> Answer:
        return Answer(200, json.dumps(message).encode()) if asked.path == "/v1/metrics" else Answer(200, b"")

    server = serve(ours)
    door = serve(lambda asked: Answer(503, b"[-] delivery shop: PostHog takes nothing: the key was refused\n"))
    environ = {f"{E}ENDPOINT": server.url, "OTEL_POSTHOG_GATEWAY_ADMIN": urlsplit(door.url).netloc, f"{E}TOKEN": "gate"}

    _, health = found(environ, "gateway")
    assert (health.level, health.mend) == ("problem", "Mend what it names; docs/gateway.md has every reason.")
    assert health.what.endswith("not ready: [-] delivery shop: PostHog takes nothing: the key was refused")
    assert [asked.path for asked in door.asked] == ["/readyz?verbose"]

    collector = serve(lambda asked: Answer(200, b"{}" if asked.path == "/v1/metrics" else b""))
    assert found({**environ, f"{E}ENDPOINT": collector.url}, "gateway") == []
    without = serve(lambda asked: Answer(404 if asked.path == "/v1/metrics" else 200, b""))
    assert found({**environ, f"{E}ENDPOINT": without.url}, "gateway") == []
