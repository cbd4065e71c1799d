"""The real PostHog SDK, in both capture protocols, compared as a whole."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from dirty_equals import IsPartialDict, IsStr
from posthog import Posthog

AT = datetime(2026, 11, 20, 11, 0, 0, tzinfo=timezone.utc)
UUID = "0190a0b0-0000-7000-8000-00000000000"
TOKEN = "phc_the_real_sdk"


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_sdk(emulator: Any, monkeypatch: pytest.MonkeyPatch, mode: str, gzip: bool) -> None:
    """capture, set, alias, group_identify and capture_exception arrive as PostHog would show them."""
    monkeypatch.setenv("POSTHOG_CAPTURE_MODE", mode)
    failures: list[Any] = []
    sdk = Posthog(TOKEN, host=emulator.url, gzip=gzip, on_error=lambda error, batch: failures.append(error))

    sdk.capture(
        "order paid",
        distinct_id="ada",
        properties={"total": 12.5, "items": ["a", None], "$session_id": "s-1"},
        groups={"company": "acme"},
        timestamp=AT,
        uuid=UUID + "1",
    )
    sdk.set(distinct_id="ada", properties={"plan": "pro"}, timestamp=AT, uuid=UUID + "2")
    sdk.set_once(distinct_id="ada", properties={"plan": "free", "first": 1}, timestamp=AT, uuid=UUID + "3")
    sdk.alias("anon-1", "ada", timestamp=AT, uuid=UUID + "4")
    sdk.group_identify("company", "acme", {"seats": 3}, timestamp=AT, uuid=UUID + "5", distinct_id="ada")
    sdk.capture("personless", timestamp=AT, uuid=UUID + "6")
    try:
        raise LookupError("no such order")
    except LookupError as error:
        sdk.capture_exception(error, distinct_id="ada", timestamp=AT, uuid=UUID + "7")
    flags = sdk.get_all_flags("ada")
    sdk.flush()
    sdk.shutdown()

    stored = emulator.events()
    lib = {"$lib": "posthog-python", "$lib_version": IsStr()}
    assert (failures, flags, emulator.stats()["refused"], emulator.stats()["dropped"]) == ([], {}, {}, {})
    assert [(e["event"], e["distinct_id"], e["uuid"], e["version"], e["arrivals"]) for e in stored] == [
        ("order paid", "ada", UUID + "1", mode, 1),
        ("$set", "ada", UUID + "2", mode, 1),
        ("$set_once", "ada", UUID + "3", mode, 1),
        ("$create_alias", "anon-1", UUID + "4", mode, 1),
        ("$groupidentify", "ada", UUID + "5", mode, 1),
        ("personless", IsStr(), UUID + "6", mode, 1),
        ("$exception", "ada", UUID + "7", mode, 1),
    ]
    assert stored[0]["properties"] == IsPartialDict(
        {"total": 12.5, "items": ["a", None], "$session_id": "s-1", "$groups": {"company": "acme"}, **lib}
    )
    assert stored[5]["person_mode"] == "propertyless"
    assert [(sorted(p["distinct_ids"]), p["properties"], p["identified"], p["events"]) for p in emulator.persons()] == [
        (["ada", "anon-1"], {"plan": "pro", "first": 1}, True, 6)
    ]
    assert [(g["type"], g["key"], g["properties"]) for g in emulator.groups()] == [("company", "acme", {"seats": 3})]
    [issue] = emulator.issues()
    assert (issue["type"], issue["value"], issue["count"], issue["level"]) == (
        "LookupError",
        "no such order",
        1,
        "error",
    )
    assert issue["exceptions"][0]["stacktrace"]["frames"][-1]["function"] == "test_sdk"


@pytest.mark.parametrize("mode", ["v0", "v1"])
def test_sdk_retries_what_was_lost(emulator: Any, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """A lost answer makes the SDK send again: two arrivals, one event."""
    from otel_posthog.emulator import Fault

    monkeypatch.setenv("POSTHOG_CAPTURE_MODE", mode)
    emulator.script(Fault("lose_answer", count=1, path="/[bi]*"))
    sdk = Posthog(TOKEN, host=emulator.url, flush_at=1)
    sdk.capture("once", distinct_id="ada", timestamp=AT, uuid=UUID + "1")
    sdk.flush()
    sdk.shutdown()

    assert [(e["event"], e["arrivals"]) for e in emulator.events()] == [("once", 2)]
