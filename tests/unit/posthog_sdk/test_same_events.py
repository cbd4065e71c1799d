"""What arrives is what the SDK alone would have sent: whole events, in both capture protocols."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import TracerProvider
from posthog import Posthog, identify_context, new_context, set_context_session, tag

TOKEN = "phc_the_shop"
AT = datetime(2026, 11, 20, 11, 0, 0, 123456, tzinfo=timezone.utc)
ID = "0190a0b0-0000-7000-8000-0000000000"
SESSION = "019e2d00-0000-7000-8000-000000000001"
COMPARED = ("event", "distinct_id", "uuid", "timestamp", "properties", "person_mode")
Script = Callable[[Posthog], Any]


@dataclasses.dataclass
class Address:
    """Something that the SDK takes apart."""

    city: str


def _events(sdk: Posthog) -> list[Any]:
    """Every verb that the SDK has."""
    found = [
        sdk.capture(
            "order paid",
            distinct_id="ada",
            properties={"total": 12.5, "items": ["a", None], "nested": {"a": {"b": [1, {"c": None}]}}, "none": None},
            groups={"company": "acme", "team": 5},
            timestamp=AT,
            uuid=ID + "01",
        ),
        sdk.set(distinct_id="ada", properties={"plan": "pro"}, timestamp=AT, uuid=ID + "02"),
        sdk.set_once(distinct_id="ada", properties={"first": 1}, timestamp=AT, uuid=ID + "03"),
        sdk.alias("anon-1", "ada", timestamp=AT, uuid=ID + "04"),
        sdk.group_identify("company", "acme", {"seats": 3}, timestamp=AT, uuid=ID + "05", distinct_id="ada"),
        sdk.capture("own person", distinct_id=7, properties={"$set": {"a": 1}, "$set_once": {"b": 2}}, uuid=ID + "06"),
        sdk.capture("local time", distinct_id="ada", timestamp=AT.astimezone(timezone(timedelta(hours=5)))),
        sdk.capture("no geoip", distinct_id="ada", disable_geoip=False, uuid=UUID(ID + "07")),
        sdk.capture("x" * 200, distinct_id="y" * 200, timestamp="2026-11-20T10:00:00Z"),
    ]
    with new_context():
        identify_context("grace")
        set_context_session(SESSION)
        tag("area", "billing")
        found += [
            sdk.capture("in context", properties={"area": "shop"}, timestamp=AT),
            sdk.set(properties={"seen": True}, timestamp=AT),
            sdk.group_identify("company", "acme2", timestamp=AT),
        ]
    return found


def _odd_values(sdk: Posthog) -> list[Any]:
    """Values that have no JSON of their own."""
    odd = {
        "decimal": Decimal("1.5"),
        "uuid": UUID(ID + "01"),
        "day": date(2026, 1, 2),
        "moment": AT,
        "nan": math.nan,
        "infinite": [math.inf, 1.5],
        "set": {"one"},
        "tuple": (1, 2),
        "bytes": b"abc",
        "dataclass": Address("Paris"),
        "keys": {1: "int", False: "bool", None: "none", 2.5: "float"},
        "text": "é, 😀",
        "": "no name",
        "dotted.name": {"$set": 1},
        "long": "x" * 200_000,
        "$ip": "203.0.113.7",
        "posthog.distinct_id": "not one",
    }
    return [sdk.capture("odd", distinct_id="ada", properties=odd, timestamp=AT, uuid=ID + "01")]


def _exceptions(sdk: Posthog) -> list[Any]:
    """Given, and found."""
    found: list[Any] = []
    try:
        try:
            raise LookupError("no such order")
        except LookupError as error:
            raise ValueError("cannot pay") from error
    except ValueError as error:
        found.append(sdk.capture_exception(error, distinct_id="ada", timestamp=AT, properties={"area": "shop"}))
        found.append(sdk.capture_exception(error, distinct_id="ada", timestamp=AT))
    try:
        raise KeyError("x")
    except KeyError:
        found.append(sdk.capture_exception(None, distinct_id="ada", timestamp=AT))
    found.append(sdk.capture_exception(RuntimeError("never raised"), distinct_id="ada", timestamp=AT))
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("request"):
        found.append(sdk.capture_exception(RuntimeError("in a span"), distinct_id="ada", timestamp=AT))
    return found


def _flags(sdk: Posthog) -> list[Any]:
    """What the SDK itself says about flags; asked twice, said once."""
    found: list[Any] = [sdk.get_feature_flag("new-checkout", "ada"), sdk.get_feature_flag("new-checkout", "ada")]
    found.append(sdk.feature_enabled("not there", "ada"))
    snapshot = sdk.evaluate_flags("grace")
    found.append(snapshot.is_enabled("new-checkout"))
    found.append(sdk.capture("with flags", distinct_id="grace", flags=snapshot, timestamp=AT))
    with pytest.warns(DeprecationWarning):
        found.append(sdk.capture("old way", distinct_id="grace", send_feature_flags=True, timestamp=AT))
    return found


SETTINGS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "super properties": {"super_properties": {"plan": "pro", "total": "stamped"}},
    "with places": {"disable_geoip": False, "is_server": False},
    "with traces": {"capture_trace_context": True},
    "one by one": {"sync_mode": True},
    "changed": {"before_send": lambda message: {**message, "properties": {**message["properties"], "seen": True}}},
    "chosen": {"before_send": lambda message: None if message["event"] in ("order paid", "$set") else message},
    "off": {"disabled": True},
    "not sent": {"send": False},
}


def _stored(emulator: Any, version: str) -> list[dict[str, Any]]:
    """Everything about the events that does not depend on when and how they arrived."""
    events = []
    for event in emulator.events():
        kept = {
            name: event[name] for name in ("event", "distinct_id", "uuid", "timestamp", "properties", "person_mode")
        }
        properties = dict(kept["properties"])
        # Our delivery has PostHog trust the time of an event, which the SDK does not.
        properties.pop("$ignore_sent_at", None)
        if version == "v1":
            # Whose request it was: capture v1 takes it from the header.
            properties.pop("$lib")
            properties.pop("$lib_version")
        # Made anew at each call.
        for name in ("$feature_flag_request_id", "$feature_flag_evaluated_at", "$trace_id", "$span_id"):
            if name in properties:
                properties[name] = "some"
        kept["properties"] = properties
        if not str(kept["uuid"]).startswith(ID):
            kept["uuid"] = "some"
        if kept["person_mode"] == "propertyless" or kept["event"] == "$groupidentify":
            kept["distinct_id"] = "some"
        # PostHog moves the times that the SDK alone sends by what it takes for the error of its clock.
        kept["timestamp"] = kept["timestamp"][:14] if str(kept["timestamp"]).startswith("2026-11-20T1") else "some"
        events.append(kept)
    return sorted(events, key=lambda event: (event["event"], event["uuid"], str(event["properties"])))


@pytest.mark.parametrize("protocol", ["v0", "v1"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_verbs(
    emulator: Any, bridge: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], protocol: str
) -> None:
    """capture, set, set_once, alias, group_identify and contexts, under every setting of a client."""
    _compare(emulator, bridge, monkeypatch, _events, settings, protocol)


@pytest.mark.parametrize("protocol", ["v0", "v1"])
@pytest.mark.parametrize("script", [_odd_values, _exceptions], ids=["odd values", "exceptions"])
def test_contents(emulator: Any, bridge: Any, monkeypatch: pytest.MonkeyPatch, script: Script, protocol: str) -> None:
    """Values of every kind, and exceptions with their stacks."""
    _compare(emulator, bridge, monkeypatch, script, {}, protocol)


def _compare(
    emulator: Any, bridge: Any, monkeypatch: pytest.MonkeyPatch, script: Script, settings: dict[str, Any], protocol: str
) -> None:
    monkeypatch.setenv("POSTHOG_CAPTURE_MODE", protocol)
    monkeypatch.setenv("OTEL_POSTHOG_WIRE", protocol)

    results = []
    for with_us in (False, True):  # on one line of this file, which stacks name
        running = bridge() if with_us else None
        sdk = Posthog(TOKEN, host=emulator.url, **settings)
        returned = [isinstance(value, str) for value in script(sdk)]
        sdk.flush()
        sdk.shutdown()
        assert (emulator.stats()["refused"], emulator.stats()["dropped"]) == ({}, {})
        stored = _stored(emulator, protocol)
        emulator.reset()
        results.append((returned, stored))

    alone, ours = results
    assert ours == alone
    assert running is not None
    assert running.captured == len(alone[1])
    assert running.runtime.bridge.delivery_stats().delivered == len(alone[1])
