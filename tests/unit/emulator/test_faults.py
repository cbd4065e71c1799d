"""Scripted faults: each action seen from the client's side, and what was stored."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
import urllib3

from otel_posthog.emulator import ACTIONS, Fault, FaultPlan, parse_script
from otel_posthog.errors import ConfigError

V1_OK = {"result": "ok"}


def names(emulator: Any) -> list[str]:
    """Names of the stored events."""
    return [event["event"] for event in emulator.events()]


def test_status_with_retry_after_then_healthy(client: Any, emulator: Any, kit: Any) -> None:
    """Two turns of 503, nothing stored, then all is well."""
    emulator.script(Fault("status", path="/batch*", status=503, retry_after=2, count=2))

    answers = [client.v0(kit.event()) for _ in range(3)]

    assert [(a.status, a.headers.get("Retry-After")) for a in answers] == [(503, "2"), (503, "2"), (200, None)]
    assert names(emulator) == ["signed_up"]
    assert [fault["applied"] for fault in emulator.faults()] == [2]


def test_stored_but_5xx(client: Any, emulator: Any, kit: Any) -> None:
    """The worst of both: the client must send again, the store must not count twice."""
    emulator.script(Fault("status", status=500, store=True, count=1))
    event = kit.event(uuid="0190a0b0-0000-7000-8000-000000000001")

    assert [client.v0(event).status, client.v0(event).status] == [500, 200]
    assert [(e["event"], e["arrivals"]) for e in emulator.events()] == [("signed_up", 2)]


def test_a_date_as_retry_after(client: Any, emulator: Any, kit: Any) -> None:
    """`Retry-After` may be an HTTP date."""
    emulator.script(Fault("status", status=429, retry_after="Fri, 20 Nov 2026 12:00:05 GMT"))

    assert client.v0(kit.event()).headers["Retry-After"] == "Fri, 20 Nov 2026 12:00:05 GMT"


@pytest.mark.parametrize(("action", "stored"), [("lose_answer", 1), ("cut", 0)])
def test_connection_is_cut(client: Any, emulator: Any, kit: Any, action: str, stored: int) -> None:
    """No byte of an answer comes; only `lose_answer` stored the event."""
    emulator.script(Fault(action, count=1))

    with pytest.raises(urllib3.exceptions.ProtocolError):
        client.v0(kit.event())
    assert len(emulator.events()) == stored
    assert client.v0(kit.event()).status == 200


def test_truncated_body(client: Any, emulator: Any, kit: Any) -> None:
    """Half of the announced body comes."""
    emulator.script(Fault("truncate"))

    with pytest.raises((urllib3.exceptions.ProtocolError, http.client.IncompleteRead)):
        client.v1(kit.v1_event())
    assert len(emulator.events()) == 1


def test_hang(client: Any, emulator: Any, kit: Any) -> None:
    """The server keeps silent until the client gives up, and serves others meanwhile."""
    emulator.script(Fault("hang", count=1))
    body = json.dumps({"api_key": kit.TOKEN, "batch": [kit.event()]}).encode()

    with pytest.raises(urllib3.exceptions.TimeoutError):
        client.pool.request("POST", f"{emulator.url}/batch/", body=body, timeout=0.2)
    assert client.v0(kit.event()).status == 200
    assert len(emulator.events()) == 1


def test_drip(client: Any, emulator: Any, kit: Any) -> None:
    """The whole answer comes, byte by byte."""
    emulator.script(Fault("drip", bytes_per_second=2000))

    answer = client.v0(kit.event())

    assert (answer.status, answer.json()) == (200, {"status": "Ok"})


def test_html_redirect_garbage(client: Any, emulator: Any, kit: Any) -> None:
    """A login page with 200, a redirect, and JSON that means nothing."""
    emulator.script(
        Fault("html", count=1), Fault("redirect", count=1, location="/elsewhere"), Fault("garbage", count=1)
    )

    html, redirect, garbage = (client.v1(kit.v1_event()) for _ in range(3))

    assert (html.status, html.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert (redirect.status, redirect.headers["Location"]) == (302, "/elsewhere")
    assert garbage.status == 200
    with pytest.raises(json.JSONDecodeError):
        garbage.json()
    assert len(emulator.events()) == 1


def test_delay_goes_with_any_action(client: Any, emulator: Any, kit: Any) -> None:
    """`delay` alone answers as usual."""
    emulator.script(Fault("delay", delay=0.01, count=1), Fault("status", status=503, delay=0.01))

    assert [client.v0(kit.event()).status for _ in range(2)] == [200, 503]


def test_quota(client: Any, emulator: Any, kit: Any) -> None:
    """1.5, 1.6: over the quota v0 answers 200 as usual and v1 drops; nothing is stored."""
    emulator.script(Fault("quota"))
    event = kit.v1_event()

    v0, v1 = client.v0(kit.event()), client.v1(event)

    assert (v0.status, v0.json()) == (200, {"status": "Ok"})
    assert v1.json() == {"results": {event["uuid"]: {"result": "drop", "details": "billing_limit_exceeded"}}}
    assert emulator.events() == []
    assert emulator.stats()["dropped"] == {"billing_limit_exceeded": 2}


@pytest.mark.parametrize(
    ("result", "details", "stored"),
    [
        ("retry", "not_persisted", 0),
        ("drop", "event_too_big", 0),
        ("warning", "person_processing_disabled", 1),
        ("later", "", 0),
    ],
)
def test_verdicts(client: Any, emulator: Any, kit: Any, result: str, details: str, stored: int) -> None:
    """1.6: the named event gets the verdict, its neighbour is stored; a retry carries `Retry-After: 1`."""
    emulator.script(Fault("verdict", event="bad*", result=result, details=details, count=1))
    good, bad = kit.v1_event("good"), kit.v1_event("bad one")

    answer = client.v1(good, bad)

    verdict = {"result": result, **({"details": details} if details else {})}
    assert answer.json() == {"results": {good["uuid"]: V1_OK, bad["uuid"]: verdict}}
    assert answer.headers.get("Retry-After") == ("1" if result == "retry" else None)
    assert len(emulator.events()) == 1 + stored
    assert client.v1(bad).json()["results"][bad["uuid"]] == V1_OK


def test_path_skip_count_and_order(client: Any, emulator: Any, kit: Any) -> None:
    """A fault has its turn where its path matches, after `skip`, `count` times; the first that fits wins."""
    emulator.script(
        Fault("status", path="/i/v1/*", status=500),
        Fault("status", path="/batch*", status=503, skip=1, count=1),
        Fault("status", path="/batch*", status=429, skip=2),
    )

    assert [client.v0(kit.event()).status for _ in range(5)] == [200, 503, 200, 429, 429]
    assert client.v1(kit.v1_event()).status == 500
    assert client.get("/api/stats").status == 200


def test_telemetry_and_flags_take_faults_too(client: Any, emulator: Any) -> None:
    """OTLP and flags are ingestion paths."""
    emulator.script(Fault("status", path="/i/v1/*", status=503), Fault("status", path="/flags*", status=504))

    assert [client.post("/i/v1/logs", {}).status, client.post("/flags/?v=4", {}).status] == [503, 504]


def test_probability_is_drawn_from_the_seed() -> None:
    """The same seed gives the same faults."""

    def run(seed: int) -> list[bool]:
        plan = FaultPlan()
        plan.set([Fault("cut", probability=0.3)], seed=seed)
        return [plan.take("/batch/") is not None for _ in range(200)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 30 < sum(run(1)) < 90


def test_script_over_http(client: Any, emulator: Any, kit: Any) -> None:
    """`POST /api/faults` sets the script, `GET` shows it with how often each was applied."""
    script = {"seed": 3, "faults": [{"action": "status", "status": 503, "count": 1}]}

    assert client.post("/api/faults", script).status == 200
    assert client.v0(kit.event()).status == 503
    [shown] = client.get("/api/faults").json()["faults"]
    assert (shown["action"], shown["status"], shown["count"], shown["applied"]) == ("status", 503, 1, 1)


BAD_SCRIPTS = [
    ("x", "`faults`: must be a list of faults"),
    ({"faults": [], "sead": 1}, "`sead`: no such key. Write `seed` and `faults`"),
    ({"faults": [], "seed": "1"}, "`seed`: must be an integer"),
    (["x"], "`faults[0]`: must be an object"),
    ([{"status": 503}], f"`faults[0].action`: is missing. One of {', '.join(ACTIONS)}"),
    ([{"action": "explode"}], f"`faults[0].action`: no such action `explode`. Choose one of {', '.join(ACTIONS)}"),
    ([{"action": "status"}], '`faults[0].status`: must be 200 to 599. Write e.g. "status": 503'),
    ([{"action": "cut", "count": "two"}], "`faults[0].count`: has the wrong type (str)"),
    ([{"action": "cut", "count": True}], "`faults[0].count`: has the wrong type (bool)"),
    ([{"action": "cut", "count": -1}], "`faults[0].count`: must not be negative"),
    ([{"action": "cut", "probability": 2}], "`faults[0].probability`: must be 0 to 1"),
]


@pytest.mark.parametrize(("script", "message"), BAD_SCRIPTS)
def test_bad_script_names_key_and_way_out(client: Any, script: Any, message: str) -> None:
    """A wrong script is refused at load, in the process and over HTTP."""
    with pytest.raises(ConfigError) as raised:
        parse_script(script)

    assert str(raised.value) == message
    answer = client.post("/api/faults", script)
    assert (answer.status, answer.json()) == (400, {"error": message})


def test_every_action_is_tried_here() -> None:
    """A new action without a test in this file, or in that of the flags, fails."""
    from pathlib import Path

    files = (Path(__file__), Path(__file__).with_name("test_flags.py"))
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [action for action in ACTIONS if f'"{action}"' not in source] == []
