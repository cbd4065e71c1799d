"""Capture v0, one row for each rule of PostHog's protocol; the section of posthog-wire is named in each id."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

TOKEN = "phc_project_token_for_tests"
GOOD = {"event": "good", "distinct_id": "ada"}


def batch(*events: Any, **root: Any) -> dict[str, Any]:
    """A batch body."""
    return {"api_key": TOKEN, "batch": list(events), **root}


REFUSED = [
    ("1.5 bad JSON", "/batch/", b"{nope", 400, "invalid_json"),
    ("1.5 not UTF-8", "/batch/", b'{"api_key": "\xff"}', 400, "invalid_json"),
    (
        "1.2 NaN is no JSON",
        "/batch/",
        b'{"api_key": "phc_x", "batch": [{"event": "e", "distinct_id": NaN}]}',
        400,
        None,
    ),
    (
        "1.2 nested too deep",
        "/batch/",
        batch({**GOOD, "properties": {"a": json.loads("[" * 125 + "]" * 125)}}),
        400,
        "invalid_json",
    ),
    ("1.2 number out of range", "/e/", b'{"event": "e", "distinct_id": "a", "properties": {"a": 1e999}}', 400, None),
    ("1.5 empty batch", "/batch/", batch(), 400, "empty_batch"),
    ("1.5 batch no list", "/batch/", {"api_key": TOKEN, "batch": {}}, 400, "invalid_field"),
    ("1.5 a bare string", "/batch/", b'"hello"', 400, "invalid_json"),
    ("1.5 event no object", "/batch/", batch("hello"), 400, "invalid_field"),
    ("1.5 event name missing", "/batch/", batch({"distinct_id": "ada"}), 400, "missing_event_name"),
    ("1.5 event name empty", "/batch/", batch({"event": "", "distinct_id": "ada"}), 400, "missing_event_name"),
    ("1.5 event name a number", "/batch/", batch({"event": 5, "distinct_id": "ada"}), 400, "invalid_field"),
    ("1.5 distinct_id missing", "/batch/", batch({"event": "e"}), 400, "missing_distinct_id"),
    ("1.5 distinct_id null", "/batch/", batch({"event": "e", "distinct_id": None}), 400, "missing_distinct_id"),
    ("1.5 distinct_id blank", "/batch/", batch({"event": "e", "distinct_id": " \t"}), 400, "missing_distinct_id"),
    ("1.5 timestamp a number", "/batch/", batch({**GOOD, "timestamp": 1700000000}), 400, "invalid_field"),
    ("1.5 offset a text", "/batch/", batch({**GOOD, "offset": "5"}), 400, "invalid_field"),
    ("1.5 properties a list", "/batch/", batch({**GOOD, "properties": []}), 400, "invalid_field"),
    ("1.5 properties null", "/batch/", batch({**GOOD, "properties": None}), 400, "invalid_field"),
    ("1.5 $set a list", "/batch/", batch({**GOOD, "$set": []}), 400, "invalid_field"),
    ("1.5 cookieless no boolean", "/batch/", batch({**GOOD, "properties": {"$cookieless_mode": 1}}), 400, None),
    ("1.4 no token", "/batch/", {"batch": [GOOD]}, 401, "missing_token"),
    ("1.4 empty token", "/batch/", {"api_key": " ", "batch": [GOOD]}, 401, "invalid_token"),
    ("1.4 personal key", "/batch/", {"api_key": "phx_secret", "batch": [GOOD]}, 401, "invalid_token"),
    ("1.4 65 bytes", "/batch/", {"api_key": "p" * 65, "batch": [GOOD]}, 401, "invalid_token"),
    ("1.4 not ASCII", "/batch/", {"api_key": "phc_ä", "batch": [GOOD]}, 401, "invalid_token"),
    ("1.4 NUL", "/batch/", {"api_key": "phc_\0x", "batch": [GOOD]}, 401, "invalid_token"),
    ("1.2 two tokens", "/e/", [{**GOOD, "token": "phc_a"}, {**GOOD, "token": "phc_b"}], 401, "inconsistent_tokens"),
    ("1.3 bad gzip", "/batch/", b"\x1f\x8b\x08 broken", 400, "undecodable_body"),
    ("1.7 event too big", "/batch/", batch({**GOOD, "properties": {"a": "x" * 11_000}}), 413, "event_too_big"),
    ("1.1 batch body too big", "/batch/", b" " * 60_001, 413, "payload_too_large"),
    ("1.1 single body too big", "/capture/", b" " * 20_001, 413, "payload_too_large"),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"), [row[1:] for row in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_whole_request_is_refused(
    client: Any, emulator: Any, path: str, body: Any, status: int, reason: str | None
) -> None:
    """A broken rule refuses the whole request with PostHog's status in plain text, and nothing is stored."""
    answer = client.post(path, body)

    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert emulator.events() == []
    assert sum(emulator.stats()["refused"].values()) == 1
    if reason:
        assert emulator.stats()["refused"] == {reason: 1}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_bad_event_fails_the_batch(client: Any, emulator: Any, position: int) -> None:
    """1.5: wherever the bad event stands, its neighbours are refused with it."""
    events = [GOOD, GOOD]
    events.insert(position, {"event": "bad"})

    assert client.v0(*events).status == 400
    assert emulator.events() == []


PATHS = ["/batch", "/e", "/capture", "/track", "/engage", "/i/v0/e"]


@pytest.mark.parametrize("path", [*PATHS, *(f"{path}/" for path in PATHS)])
def test_every_path_takes_single_array_and_batch(client: Any, emulator: Any, path: str) -> None:
    """1.1: each route, with and without a slash, takes the three shapes."""
    single = {"api_key": TOKEN, **GOOD}

    answers = [client.post(path, body) for body in (single, [{"token": TOKEN, **GOOD}], batch(GOOD))]

    assert [(a.status, a.json()) for a in answers] == [(200, {"status": "Ok"})] * 3
    assert [e["event"] for e in emulator.events()] == ["good"] * 3


BODIES = {
    "1.3 gzip with header": lambda kit: (kit.gzipped(batch(GOOD)), {"Content-Encoding": "gzip"}),
    "1.3 gzip sniffed": lambda kit: (kit.gzipped(batch(GOOD)), {}),
    "1.3 base64": lambda kit: (base64.b64encode(json.dumps(batch(GOOD)).encode()), {}),
    "1.3 form": lambda kit: (b"data=" + quote(base64.b64encode(json.dumps(batch(GOOD)).encode())).encode(), {}),
    "1.4 padded token": lambda kit: (json.dumps({**batch(GOOD), "api_key": f" {TOKEN} "}).encode(), {}),
    "1.2 token alias": lambda kit: (json.dumps({"token": TOKEN, "batch": [GOOD]}).encode(), {}),
    "1.2 token of the event": lambda kit: (json.dumps({"batch": [{**GOOD, "api_key": TOKEN}]}).encode(), {}),
    "1.2 token in properties": lambda kit: (json.dumps([{**GOOD, "properties": {"token": TOKEN}}]).encode(), {}),
}


@pytest.mark.parametrize("name", BODIES)
def test_forms_of_a_body(client: Any, emulator: Any, kit: Any, name: str) -> None:
    """Encodings and places of the token that PostHog takes."""
    body, headers = BODIES[name](kit)

    assert client.post("/batch/", body, headers).status == 200
    assert [(e["event"], e["token"]) for e in emulator.events()] == [("good", TOKEN)]


def test_data_by_get_and_beacon(client: Any, emulator: Any) -> None:
    """1.3, 1.5: a GET carries `data`; `beacon=1` is answered 204 without a body."""
    data = quote(json.dumps({"api_key": TOKEN, **GOOD}))

    answer = client.get(f"/e/?data={data}&beacon=1")

    assert (answer.status, answer.data, len(emulator.events())) == (204, b"", 1)


def test_gzip_bomb_is_cut_at_the_limit(client: Any, kit: Any) -> None:
    """1.3: a small body that would inflate beyond five times the limit is a 413."""
    assert client.post("/batch/", kit.gzipped("x" * 400_000)).status == 413


def test_unknown_token_is_accepted(client: Any) -> None:
    """1.4: only the shape of a token is checked at the edge."""
    assert client.v0(GOOD, token="anything-at-all").status == 200


DISTINCT_IDS = [
    ("1.7 a number", 23, "23"),
    ("1.7 a fraction", 23.5, "23.5"),
    ("1.7 a boolean", True, "true"),
    ("1.7 a list", ["a", "b"], '["a","b"]'),
    ("1.7 an object", {"a": 1}, '{"a":1}'),
    ("1.7 longer than 200 characters", "é" * 250, "é" * 200),
    ("1.7 NUL", "a\0b", "a\ufffdb"),
    ("1.7 outer blanks stay", " ada ", " ada "),
    ("1.2 a lone surrogate", "a\ud800b", "a\ufffdb"),
]


@pytest.mark.parametrize(("given", "stored"), [row[1:] for row in DISTINCT_IDS], ids=[row[0] for row in DISTINCT_IDS])
def test_distinct_id_is_made_text(client: Any, emulator: Any, given: Any, stored: str) -> None:
    """v0 stringifies, truncates and mends a distinct id."""
    assert client.v0({"event": "e", "distinct_id": given}).status == 200
    assert [e["distinct_id"] for e in emulator.events()] == [stored]


def test_distinct_id_from_elsewhere(client: Any, emulator: Any) -> None:
    """1.2: `$distinct_id` and `properties.distinct_id` stand in for a missing one."""
    client.v0({"event": "a", "$distinct_id": "x"}, {"event": "b", "properties": {"distinct_id": "y"}})

    assert [e["distinct_id"] for e in emulator.events()] == ["x", "y"]


UUIDS = [
    ("absent", ..., 1),
    ("empty", "", 1),
    ("upper case", "0190A0B0-0000-7000-8000-000000000001", 1),
    ("without dashes", "0190a0b0000070008000000000000001", 1),
    ("not a uuid", "order-17", 0),
    ("a number", 17, 0),
]


@pytest.mark.parametrize(("uuid", "stored"), [row[1:] for row in UUIDS], ids=[f"1.8 {row[0]}" for row in UUIDS])
def test_uuid(client: Any, emulator: Any, uuid: Any, stored: int) -> None:
    """1.8: a missing uuid is made; an invalid one drops that event alone, answered 200."""
    bad = {"event": "e", "distinct_id": "ada", **({} if uuid is ... else {"uuid": uuid})}

    assert client.v0(GOOD, bad).status == 200
    assert len(emulator.events()) == 1 + stored
    assert emulator.stats()["dropped"] == ({} if stored else {"invalid_uuid": 1})


TIMES = [
    ("1.9 none is server time", {}, {}, "2026-11-20T12:00:00.000000Z"),
    ("1.9 its own", {"timestamp": "2026-11-19T23:00:00+02:00"}, {}, "2026-11-19T21:00:00.000000Z"),
    ("1.9 nanoseconds are cut", {"timestamp": "2026-11-19T23:00:00.123456789Z"}, {}, "2026-11-19T23:00:00.123456Z"),
    ("1.9 no zone is UTC", {"timestamp": "2026-11-19T23:00:00"}, {}, "2026-11-19T23:00:00.000000Z"),
    ("1.9 a date", {"timestamp": "2026-11-19"}, {}, "2026-11-19T00:00:00.000000Z"),
    ("1.9 a short zone", {"timestamp": "2026-11-19T23:00:00+02"}, {}, "2026-11-19T21:00:00.000000Z"),
    ("1.9 RFC 2822", {"timestamp": "Thu, 19 Nov 2026 23:00:00 +0200"}, {}, "2026-11-19T21:00:00.000000Z"),
    ("1.9 epoch milliseconds", {"timestamp": "1763596800000"}, {}, "2025-11-20T00:00:00.000000Z"),
    ("1.9 unreadable is server time", {"timestamp": "yesterday"}, {}, "2026-11-20T12:00:00.000000Z"),
    ("1.9 22 h ahead stays", {"timestamp": "2026-11-21T10:00:00Z"}, {}, "2026-11-21T10:00:00.000000Z"),
    ("1.9 24 h ahead is clamped", {"timestamp": "2026-11-21T12:00:00Z"}, {}, "2026-11-20T12:00:00.000000Z"),
    ("1.9 offset wins", {"timestamp": "2026-11-19", "offset": 60_000}, {}, "2026-11-20T11:59:00.000000Z"),
    (
        "1.8 skew is corrected",
        {"timestamp": "2026-11-20T00:30:00Z"},
        {"sent_at": "2026-11-20T13:00:00Z"},
        "2026-11-19T23:30:00.000000Z",
    ),
    (
        "1.8 $ignore_sent_at",
        {"timestamp": "2026-11-20T00:30:00Z", "properties": {"$ignore_sent_at": True}},
        {"sent_at": "2026-11-20T13:00:00Z"},
        "2026-11-20T00:30:00.000000Z",
    ),
    (
        "1.8 unreadable sent_at counts as none",
        {"timestamp": "2026-11-20T00:30:00Z"},
        {"sent_at": "soon"},
        "2026-11-20T00:30:00.000000Z",
    ),
]


@pytest.mark.parametrize(("more", "root", "stored"), [row[1:] for row in TIMES], ids=[row[0] for row in TIMES])
def test_time(client: Any, emulator: Any, more: dict[str, Any], root: dict[str, Any], stored: str) -> None:
    """The event time that PostHog would store."""
    assert client.v0({**GOOD, **more}, **root).status == 200
    assert [e["timestamp"] for e in emulator.events()] == [stored]


def test_whole_event_as_stored(client: Any, emulator: Any, kit: Any) -> None:
    """Top-level `$set` and `$set_once` join those in the properties; long names are cut; the wire form is kept."""
    sent = {
        "event": "n" * 250,
        "distinct_id": "ada",
        "uuid": "0190A0B0-0000-7000-8000-000000000001",
        "$set": {"plan": "pro"},
        "$set_once": {"first": 1},
        "properties": {
            "$set": {"plan": "free", "seats": 2},
            "nested": {"a": [1, None]},
            "$process_person_profile": True,
        },
    }
    client.v0(sent, historical_migration=True)

    [stored] = emulator.events()
    assert stored == {
        "id": stored["id"],
        "token": TOKEN,
        "uuid": "0190a0b0-0000-7000-8000-000000000001",
        "event": "n" * 200,
        "distinct_id": "ada",
        "timestamp": "2026-11-20T12:00:00.000000Z",
        "day": "2026-11-20",
        "properties": {
            "$set": {"plan": "pro", "seats": 2},
            "$set_once": {"first": 1},
            "nested": {"a": [1, None]},
        },
        "groups": {},
        "person_id": emulator.person("ada")["id"],
        "person_mode": "full",
        "issue": None,
        "errors": [],
        "warnings": [],
        "arrivals": 1,
        "version": "v0",
        "historical": True,
        "received_at": "2026-11-20T12:00:00.000000Z",
        "first_received_at": "2026-11-20T12:00:00.000000Z",
        "sent": sent,
    }


def test_engage_without_a_name_identifies(client: Any, emulator: Any) -> None:
    """1.1: `/engage` fills in `$identify`."""
    client.post("/engage/", {"api_key": TOKEN, "distinct_id": "ada", "$set": {"a": 1}})

    assert [e["event"] for e in emulator.events()] == ["$identify"]
