"""Sizes: values, properties and events are cut visibly, the largest first, and only as far as needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import (
    CaptureEvent,
    Decision,
    DropReason,
    LocalContext,
    LocalException,
    LocalFrame,
    Notice,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.rules import RuleSet

MIB = 1 << 20
LIMIT = 900 * 1024


def convert(attributes: dict[str, Any], *, resource: dict[str, Any] | None = None, **config: Any) -> Decision:
    """The decision for a tagged log record."""
    signal = Signal(
        SignalKind.LOG,
        "",
        {"posthog.event": "e", "posthog.distinct_id": "u", **attributes},
        Resource(resource or {}),
        Scope(),
        time_ns=1_763_640_000_000_000_000,
    )
    return Converter(ConvertConfig(**config), RuleSet()).convert(signal)


def size(event: CaptureEvent) -> int:
    """Bytes of the serialised properties."""
    return len(json.dumps(event.properties, ensure_ascii=False, separators=(",", ":")).encode())


def test_long_value() -> None:
    """A value of 1 MiB is cut to the limit, ends in the mark, and is listed."""
    decision = convert({"posthog.properties.text": "é" * MIB})
    (event,) = decision.events

    assert len(event.properties["text"].encode()) <= 64 * 1024
    assert event.properties["text"].endswith("é… [cut]")
    assert event.properties["otel_posthog_cut"] == ["text"]
    assert decision.notices == (Notice.CUT_VALUE,)


def test_short_values_are_untouched() -> None:
    """Exactly at the limit nothing is cut."""
    decision = convert({"posthog.properties.text": "é" * 500}, max_value_bytes=1_000)

    assert decision.events[0].properties["text"] == "é" * 500
    assert decision.notices == ()


def test_largest_first() -> None:
    """The event limit shortens the largest values and leaves the small ones alone."""
    attributes = {f"posthog.properties.p{n}": "x" * (20_000 + n) for n in range(60)}
    decision = convert({**attributes, "posthog.properties.small": "kept", "posthog.groups.company": "acme"})
    (event,) = decision.events

    assert LIMIT * 0.8 < size(event) <= LIMIT
    assert event.properties["small"] == "kept"
    assert event.properties["$groups"] == {"company": "acme"}
    assert "p59" in event.properties["otel_posthog_cut"]
    assert event.properties["p0"] == "x" * 20_000
    assert Notice.CUT_PROPERTIES in decision.notices


def test_many_small_properties() -> None:
    """Where nothing is large, properties are left out until the event fits."""
    decision = convert({f"posthog.properties.{n:06}{'k' * 150}": n for n in range(20_000)})
    (event,) = decision.events

    assert size(event) <= LIMIT
    assert event.properties["otel_posthog_cut"][-1] == "… [cut]"


def test_huge_lists_and_maps() -> None:
    """A list of 100,000 values keeps its beginning."""
    decision = convert(
        {"posthog.properties.list": list(range(100_000)), "posthog.properties.map": {str(n): n for n in range(50_000)}}
    )
    (event,) = decision.events

    assert event.properties["list"][:3] == [0, 1, 2]
    assert 1_000 < len(event.properties["list"]) < 100_000
    assert event.properties["otel_posthog_cut"] == ["list", "map"]


def test_person_properties() -> None:
    """Person properties are cut inside of `$set`, which itself stays."""
    decision = convert({f"posthog.set.p{n}": "x" * 60_000 for n in range(30)})
    (event,) = decision.events

    assert size(event) <= LIMIT
    assert len(event.properties["$set"]) == 30
    assert all(name.startswith("$set.") for name in event.properties["otel_posthog_cut"])


def test_resource_properties_count_too() -> None:
    """What the resource gives to every event is part of its size."""
    decision = convert({}, resource={f"posthog.properties.r{n}": "x" * 60_000 for n in range(30)})

    assert size(decision.events[0]) <= LIMIT


def test_nothing_helps() -> None:
    """An event that cannot be made small enough is dropped, with its reason."""
    decision = convert({"posthog.properties.a": "x"}, max_event_bytes=1_100)

    assert (decision.events, decision.reason) == ((), DropReason.TOO_BIG)


def test_long_exception() -> None:
    """Source context and middle frames go before anything that groups the issue."""
    lines = ("y" * 300,) * 5
    frames = tuple(LocalFrame("a.py", "/app/a.py", f"f{n}", n, "a", "z" * 300, lines, lines) for n in range(1_000))
    chain = tuple(LocalException("E", "a", "v" * 60_000, frames, "cause" if n else "", n - 1) for n in range(60))
    signal = Signal(
        SignalKind.SPAN_EVENT, "exception", {}, Resource(), Scope(), "a" * 32, "b" * 16,
        time_ns=1_763_640_000_000_000_000, local=LocalContext(exception=chain),
    )  # fmt: skip
    decision = Converter(ConvertConfig(), RuleSet()).convert(signal)
    (event,) = decision.events
    made = event.properties["$exception_list"]

    assert size(event) <= LIMIT
    assert made[0]["type"] == "E"
    assert made[0]["stacktrace"]["frames"][-1]["function"] == "f999"
    assert made[0]["stacktrace"]["frames"][0]["function"] == "f0"
    assert event.properties["otel_posthog_cut"] == ["$exception_list"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (1, 1),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (1.5, 1.5),
        ("ü", "ü"),
        ("a\x00\ud800b", "a\ufffd\ufffdb"),
        (b"\xff\x00", "/wA="),
        ([1, None, float("nan"), "x"], [1, None, None, "x"]),
        ((1, 2), [1, 2]),
        ({"a": {"b": None}, 1: 2, None: 3}, {"a": {"b": None}, "1": 2, "None": 3}),
        ({3, 1, 2}, [1, 2, 3]),
        ([], []),
        ({}, {}),
        ("", ""),
    ],
)
def test_types(value: object, expected: object) -> None:
    """Every type has one rule."""
    made = convert({"posthog.properties.v": value}).events[0].properties["v"]

    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf")])
def test_left_out(value: object) -> None:
    """None means left out; what JSON cannot say is left out and counted."""
    decision = convert({"posthog.properties.v": value})

    assert "v" not in decision.events[0].properties
    assert decision.notices == (() if value is None else (Notice.DROPPED_VALUE,))


def test_object_without_text() -> None:
    """An object whose `__str__` raises becomes its type's name."""

    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    assert convert({"posthog.properties.v": Silent()}).events[0].properties["v"] == "<Silent>"
