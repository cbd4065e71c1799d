"""Capture v1, one row for each rule of PostHog's protocol; the section of posthog-wire is named in each id."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from dirty_equals import IsStr

UUID = "0190a0b0-0000-7000-8000-000000000001"

HEADS = [
    ("1.4 no authorization", {"Authorization": None}, 401, "missing_authorization"),
    ("1.4 basic", {"Authorization": "Basic abc"}, 400, "invalid_header_value"),
    ("1.4 personal key", {"Authorization": "Bearer phx_abc"}, 401, "invalid_api_token"),
    ("1.4 empty token", {"Authorization": "Bearer  "}, 401, "invalid_api_token"),
    ("1.6 no sdk info", {"PostHog-Sdk-Info": None}, 400, "missing_required_headers"),
    ("1.6 no attempt", {"PostHog-Attempt": None}, 400, "missing_required_headers"),
    ("1.6 no request id", {"PostHog-Request-Id": None}, 400, "missing_required_headers"),
    ("1.6 no request timestamp", {"PostHog-Request-Timestamp": None}, 400, "missing_required_headers"),
    ("1.6 no user agent", {"User-Agent": None}, 400, "missing_required_headers"),
    ("1.6 attempt zero", {"PostHog-Attempt": "0"}, 400, "invalid_header_value"),
    ("1.6 attempt text", {"PostHog-Attempt": "first"}, 400, "invalid_header_value"),
    ("1.6 request id no uuid", {"PostHog-Request-Id": "17"}, 400, "invalid_header_value"),
    ("1.6 request timestamp naive", {"PostHog-Request-Timestamp": "2026-11-20T12:00:00"}, 400, "invalid_header_value"),
    ("1.6 content type", {"Content-Type": "text/plain"}, 415, "unsupported_content_type"),
    ("1.3 lz4", {"Content-Encoding": "lz4"}, 415, "unsupported_encoding"),
    ("1.3 br is not emulated", {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
    ("1.3 zstd is not emulated", {"Content-Encoding": "zstd"}, 415, "unsupported_encoding"),
    ("1.3 says gzip, is not", {"Content-Encoding": "gzip"}, 400, "request_decoding_error"),
    ("1.3 says deflate, is not", {"Content-Encoding": "deflate"}, 400, "request_decoding_error"),
]


@pytest.mark.parametrize(("headers", "status", "tag"), [row[1:] for row in HEADS], ids=[row[0] for row in HEADS])
def test_headers(client: Any, emulator: Any, kit: Any, headers: dict[str, str | None], status: int, tag: str) -> None:
    """A missing or wrong header refuses the batch with an error object."""
    answer = client.v1(kit.v1_event(), headers=headers)

    assert (answer.status, answer.json()) == (
        status,
        {"error": tag, "error_description": IsStr(min_length=5), "error_uri": "https://posthog.com/docs/api"},
    )
    assert emulator.events() == []


BATCHES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("1.6 empty batch", [], {}, "empty_batch"),
    ("1.6 created_at missing", [{}], {"created_at": None}, "request_parsing_error"),
    ("1.6 created_at naive", [{}], {"created_at": "2026-11-20"}, "invalid_batch"),
    ("1.6 historical no boolean", [{}], {"historical_migration": "yes"}, "request_parsing_error"),
    ("1.6 capture_internal no boolean", [{}], {"capture_internal": 1}, "request_parsing_error"),
    ("1.6 uuid missing", [{"uuid": ...}], {}, "request_parsing_error"),
    ("1.6 uuid empty", [{"uuid": " "}], {}, "missing_event_uuid"),
    ("1.6 uuid invalid", [{"uuid": "17"}], {}, "invalid_event_uuid"),
    ("1.8 uuid twice", [{"uuid": UUID}, {"uuid": UUID.upper()}], {}, "duplicate_event_uuid"),
    ("1.6 distinct_id a number", [{"distinct_id": 5}], {}, "request_parsing_error"),
    ("1.6 event missing", [{"event": ...}], {}, "request_parsing_error"),
    ("1.6 timestamp missing", [{"timestamp": ...}], {}, "request_parsing_error"),
    ("1.6 session_id a number", [{"session_id": 5}], {}, "request_parsing_error"),
]


@pytest.mark.parametrize(("events", "root", "tag"), [row[1:] for row in BATCHES], ids=[row[0] for row in BATCHES])
def test_whole_batch_is_refused(
    client: Any, emulator: Any, kit: Any, events: list[Any], root: dict[str, Any], tag: str
) -> None:
    """A batch that cannot be taken as a whole is a 400, and its good events go with it."""
    good = [kit.v1_event()] if events else []

    answer = client.v1(*good, *[kit.v1_event(**{"name": "e", **_named(more)}) for more in events], **root)

    assert (answer.status, answer.json()["error"]) == (400, tag)
    assert emulator.events() == []


def _named(more: dict[str, Any]) -> dict[str, Any]:
    return {("name" if key == "event" else key): value for key, value in more.items()}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"batch": [NaN]}', b'"x"', b"\xff"])
def test_body_that_is_no_batch(client: Any, body: bytes) -> None:
    """1.6: an unreadable body is a 400."""
    headers = {
        "Authorization": "Bearer phc_x",
        "PostHog-Sdk-Info": "a/1",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": UUID,
        "PostHog-Request-Timestamp": "2026-11-20T12:00:00Z",
    }

    assert client.post("/i/v1/analytics/events", body, headers).status == 400


VERDICTS = [
    ("1.6 good", {}, {"result": "ok"}, 1),
    ("1.7 name of 200 bytes", {"name": "é" * 100}, {"result": "ok"}, 1),
    ("1.7 name of 201 bytes", {"name": "é" * 100 + "x"}, {"result": "drop", "details": "event_name_too_long"}, 0),
    ("1.6 name empty", {"name": ""}, {"result": "drop", "details": "missing_event_name"}, 0),
    ("1.6 distinct_id blank", {"distinct_id": "  "}, {"result": "drop", "details": "missing_distinct_id"}, 0),
    ("1.7 distinct_id of 201", {"distinct_id": "d" * 201}, {"result": "drop", "details": "distinct_id_too_large"}, 0),
    (
        "1.6 naive time",
        {"timestamp": "2026-11-20T12:00:00"},
        {"result": "drop", "details": "invalid_event_timestamp"},
        0,
    ),
    ("1.6 properties a list", {"properties": []}, {"result": "drop", "details": "malformed_event_properties"}, 0),
    (
        "1.6 option unreadable",
        {"options": {"process_person_profile": "maybe"}},
        {"result": "drop", "details": "invalid_options"},
        0,
    ),
    ("1.6 options a list", {"options": []}, {"result": "drop", "details": "invalid_options"}, 0),
    ("1.6 option unknown", {"options": {"colour": 5}}, {"result": "ok"}, 1),
    ("1.7 event too big", {"properties": {"a": "x" * 11_000}}, {"result": "drop", "details": "event_too_big"}, 0),
    (
        "2.1 illegal distinct id",
        {"distinct_id": " Null "},
        {"result": "ok", "details": "person_processing_disabled"},
        1,
    ),
]


@pytest.mark.parametrize(("more", "verdict", "stored"), [row[1:] for row in VERDICTS], ids=[row[0] for row in VERDICTS])
def test_verdict(
    client: Any, emulator: Any, kit: Any, more: dict[str, Any], verdict: dict[str, str], stored: int
) -> None:
    """A bad event gets its verdict, and its neighbour is stored."""
    good, judged = kit.v1_event("good"), kit.v1_event(**{"name": "judged", **more}, uuid=UUID.upper())

    answer = client.v1(good, judged)

    assert (answer.status, answer.json()) == (200, {"results": {good["uuid"]: {"result": "ok"}, UUID: verdict}})
    assert len(emulator.events()) == 1 + stored
    assert emulator.stats()["dropped"] == ({} if stored else {verdict["details"]: 1})


def test_illegal_distinct_id_makes_no_person(client: Any, emulator: Any, kit: Any) -> None:
    """2.1: the event is kept, person processing is off."""
    client.v1(kit.v1_event(distinct_id="undefined", properties={"$set": {"a": 1}}))

    [stored] = emulator.events()
    assert (stored["person_mode"], stored["person_id"], stored["warnings"]) == (
        "propertyless",
        None,
        ["illegal_distinct_id"],
    )
    assert stored["properties"] == {"$process_person_profile": False, "$lib": "tests", "$lib_version": "1.2.3"}
    assert emulator.persons() == []


def test_lifted_fields_return_to_properties(client: Any, emulator: Any, kit: Any) -> None:
    """1.6: session, window, options and the library of the header become properties again."""
    client.v1(
        kit.v1_event(
            session_id="s",
            window_id="w",
            options={
                "cookieless_mode": "false",
                "disable_skew_adjustment": 1,
                "product_tour_id": 7,
                "process_person_profile": False,
            },
            properties={"a": 1, "$lib": "forged"},
        ),
        historical_migration=True,
    )

    [stored] = emulator.events()
    assert stored["properties"] == {
        "a": 1,
        "$session_id": "s",
        "$window_id": "w",
        "$cookieless_mode": False,
        "$ignore_sent_at": True,
        "$product_tour_id": "7",
        "$process_person_profile": False,
        "$lib": "tests",
        "$lib_version": "1.2.3",
    }
    assert (stored["historical"], stored["version"]) == (True, "v1")


TIMES = [
    ("1.8 skew", "2026-11-20T00:30:00Z", {}, "2026-11-20T13:00:00Z", "2026-11-19T23:30:00.000000Z"),
    (
        "1.8 no skew",
        "2026-11-20T00:30:00Z",
        {"disable_skew_correction": True},
        "2026-11-20T13:00:00Z",
        "2026-11-20T00:30:00.000000Z",
    ),
    ("1.9 clamp", "2026-11-21T11:30:00Z", {}, "2026-11-20T12:00:00Z", "2026-11-20T12:00:00.000000Z"),
    (
        "1.9 no clamp without correction",
        "2026-12-24T00:00:00Z",
        {"disable_skew_correction": True},
        "2026-11-20T12:00:00Z",
        "2026-12-24T00:00:00.000000Z",
    ),
]


@pytest.mark.parametrize(
    ("timestamp", "options", "sent", "stored"), [row[1:] for row in TIMES], ids=[r[0] for r in TIMES]
)
def test_time(
    client: Any, emulator: Any, kit: Any, timestamp: str, options: dict[str, Any], sent: str, stored: str
) -> None:
    """The event time that PostHog would store."""
    client.v1(kit.v1_event(timestamp=timestamp, options=options), headers={"PostHog-Request-Timestamp": sent})

    assert [e["timestamp"] for e in emulator.events()] == [stored]


@pytest.mark.parametrize("path", ["/i/v1/analytics/events", "/i/v1/analytics/events/"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_encodings(client: Any, emulator: Any, kit: Any, encoding: str, path: str) -> None:
    """1.3: gzip and zlib-wrapped deflate are read, raw deflate is refused."""
    body = json.dumps({"created_at": kit.NOW.isoformat(), "batch": [kit.v1_event()]}).encode()
    headers = {
        "Authorization": f"bearer {kit.TOKEN}",
        "PostHog-Sdk-Info": "a/1",
        "PostHog-Attempt": "2",
        "PostHog-Request-Id": UUID,
        "PostHog-Request-Timestamp": "2026-11-20T12:00:00Z",
        "Content-Encoding": encoding,
    }
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    raw = zlib.compressobj(wbits=-15)

    assert client.post(path, packed, headers).status == 200
    assert client.post(path, raw.compress(body) + raw.flush(), headers).status == 400
    assert client.post(path, packed[:-6], headers).status == 400
    assert len(emulator.events()) == 1


def test_sizes(client: Any, kit: Any) -> None:
    """1.1: beyond 10 MiB as sent or 50 MiB inflated (here scaled down) is a 413."""
    headers = {
        "Authorization": f"Bearer {kit.TOKEN}",
        "PostHog-Sdk-Info": "a/1",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": UUID,
        "PostHog-Request-Timestamp": "2026-11-20T12:00:00Z",
    }
    path = "/i/v1/analytics/events"

    sent = client.post(path, b" " * 60_001, headers)
    inflated = client.post(path, gzip.compress(b" " * 200_001), {**headers, "Content-Encoding": "gzip"})

    assert [(a.status, a.json()["error"]) for a in (sent, inflated)] == [(413, "payload_too_large")] * 2
