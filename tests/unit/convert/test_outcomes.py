"""Why a signal becomes nothing, and what several names, starts and carriers make of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import DropReason, Notice, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text

START = 1_763_640_000_000_000_000
RULES = parse_text("version: 1\nrules: [{name: r, match: {name: work}, capture: {event: ruled}}]")


def span(attributes: dict[str, Any], resource: dict[str, Any] | None = None, **more: Any) -> Signal:
    """A span that the rule would match."""
    return Signal(
        SignalKind.SPAN, "work", attributes, Resource(resource or {}), Scope(),
        **{"span_kind": "internal", "trace_id": "a" * 32, "span_id": "b" * 16,
           "start_time_ns": START, "time_ns": START + 1_000_000, **more},
    )  # fmt: skip


def outcome(signal: Signal, rules: RuleSet = RULES, **config: bool) -> list[str] | DropReason | None:
    """The names of the events, or the reason."""
    decision = Converter(ConvertConfig(**config), rules).convert(signal)  # type: ignore[arg-type]
    return [event.event for event in decision.events] or decision.reason


@pytest.mark.parametrize(
    ("attributes", "resource", "expected"),
    [
        ({}, {}, ["ruled"]),
        ({"posthog.event": "own"}, {}, ["own"]),
        ({"posthog.event": ["a", "b", "a"]}, {}, ["a", "b"]),
        ({"posthog.event": ""}, {}, DropReason.EMPTY_NAME),
        ({"posthog.event": [7, None]}, {}, DropReason.EMPTY_NAME),
        ({"posthog.event": "", "posthog.set.a": 1, "user.id": "u"}, {}, ["$set"]),
        ({"posthog.set.a": 1, "user.id": "u"}, {}, ["ruled"]),
        ({"posthog.alias": "b", "user.id": "u"}, {}, ["ruled", "$create_alias"]),
        ({"posthog.ignore": True, "posthog.event": "own"}, {}, DropReason.IGNORED),
        ({"posthog.ignore": "true"}, {}, DropReason.IGNORED),
        ({}, {"posthog.ignore": True}, DropReason.IGNORED),
        ({"posthog.ignore": False}, {"posthog.ignore": True}, ["ruled"]),
        ({"gen_ai.system": "x"}, {}, DropReason.AI_SPAN),
        ({"gen_ai.system": "x", "posthog.event": "own"}, {}, ["own"]),
        ({"x.gen_ai.y": 1}, {}, ["ruled"]),
    ],
)
def test_outcome(attributes: dict[str, Any], resource: dict[str, Any], expected: object) -> None:
    """Each tag has its outcome; the nearest `ignore` decides."""
    assert outcome(span(attributes, resource)) == expected


def test_not_tagged() -> None:
    """Properties, groups and identity alone make no event; neither does what the resource says."""
    attributes = {"posthog.properties.a": 1, "posthog.groups.a": "b", "posthog.distinct_id": "u"}
    resource = {"posthog.event": "never", "posthog.set.a": 1, "posthog.group_set.a.b": 1, "posthog.alias": "x"}

    assert outcome(span(attributes, resource), RuleSet()) is DropReason.NOT_TAGGED


@pytest.mark.parametrize(
    ("attributes", "mark", "expected"),
    [
        ({"posthog.event": "own"}, "bridge", DropReason.CARRIED_BY_LOG),
        ({"posthog.set.a": 1, "user.id": "u"}, "bridge", DropReason.CARRIED_BY_LOG),
        ({}, "bridge", ["ruled"]),
        ({}, "bridge:other", ["ruled"]),
        ({}, f"bridge:{RULES.digest}", DropReason.CARRIED_BY_LOG),
        ({"posthog.ignore": True}, "bridge", DropReason.IGNORED),
    ],
)
def test_marked_telemetry(attributes: dict[str, Any], mark: str, expected: object) -> None:
    """What the process carries is not converted again: tags always, rules where they are the same ones."""
    by_resource = span(attributes, {"posthog.carrier": mark})
    by_span = span({**attributes, "posthog.carrier": mark})

    assert outcome(by_resource, honour_carrier=True) == expected
    assert outcome(by_span, honour_carrier=True) == expected


def test_marks_count_at_the_gateway_only() -> None:
    """In the process that sets the mark, everything is converted."""
    assert outcome(span({"posthog.event": "own"}, {"posthog.carrier": "bridge"})) == ["own"]


def test_start() -> None:
    """A started event has the start's time, no duration, and the uuid that the end would give."""
    converter = Converter(ConvertConfig(), RuleSet())
    started = converter.convert(span({"posthog.event": "e", "posthog.on": "start"}, time_ns=0)).events[0]
    ended = converter.convert(span({"posthog.event": "e"})).events[0]

    assert (started.timestamp_ns, ended.timestamp_ns) == (START, START + 1_000_000)
    assert ("duration_ms" in started.properties, ended.properties["duration_ms"]) == (False, 1.0)
    assert started.uuid == ended.uuid


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"time_ns": 0}, START),
        ({"time_ns": -5}, START),
        ({"time_ns": 1 << 70}, START),
        ({"time_ns": 0, "start_time_ns": 7}, 7),
        ({"time_ns": 0, "start_time_ns": 0}, 0),
    ],
)
def test_odd_times(times: dict[str, int], expected: int) -> None:
    """An absent or absurd time gives way to the next best, is counted, and never becomes "now"."""
    decision = Converter(ConvertConfig(), RuleSet()).convert(span({"posthog.event": "e"}, **times))

    assert (decision.events[0].timestamp_ns, decision.notices) == (expected, (Notice.BAD_TIME,))


def test_time_from_the_uuid() -> None:
    """A UUIDv7 holds the time of its emit."""
    log = span(
        {"posthog.event": "e", "posthog.uuid": "018f3f5a-7b1c-7def-8abc-0123456789ab"}, time_ns=0, start_time_ns=0
    )

    assert Converter(ConvertConfig(), RuleSet()).convert(log).events[0].timestamp_ns == 0x018F3F5A7B1C * 1_000_000


def test_uuids() -> None:
    """Own uuid for the first event, derived ones for the others; foreign ones from what Collectors leave alone."""
    converter = Converter(ConvertConfig(), RuleSet())
    own = converter.convert(
        span({"posthog.event": ["a", "b"], "posthog.uuid": "018F3F5A7B1C7DEF8ABC0123456789AB"})
    ).events
    foreign = span({"posthog.event": "a"})
    enriched = span({"posthog.event": "a", "added": 1}, {"k8s.pod.name": "p"})
    other = replace(foreign, span_id="c" * 16)
    log = replace(foreign, kind=SignalKind.LOG, body={"b": [1, float("nan")], "a": "\ud800"})
    later = replace(log, observed_time_ns=5)

    assert own[0].uuid == "018f3f5a-7b1c-7def-8abc-0123456789ab"
    assert converter.convert(foreign).events[0].uuid == converter.convert(enriched).events[0].uuid
    every = {converter.convert(signal).events[0].uuid for signal in (foreign, other, log, later)} | {
        e.uuid for e in own
    }
    assert len(every) == 6
    assert all(uuid[14] in "57" and uuid[19] in "89ab" for uuid in every)


def test_resource_group_updates_are_one_a_day() -> None:
    """The same content from the resource has one uuid and one subject, whoever asks."""
    resource = {"posthog.groups.version": "3", "posthog.group_set.version.number": "3"}
    converter = Converter(ConvertConfig(), RuleSet())
    made = [
        converter.convert(span({"posthog.event": "e", "user.id": user}, resource, span_id=user * 16)).events[1]
        for user in "ab"
    ]

    assert [(event.event, event.distinct_id) for event in made] == [("$groupidentify", "$version_3")] * 2
    assert made[0].uuid == made[1].uuid


@pytest.mark.parametrize(
    "action", ['distinct_id: "{user.id}"', 'group: {company: "{shop.company}"}', 'set: {plan: "{shop.plan}"}']
)
def test_a_rule_without_an_event_says_so(action: str) -> None:
    """Who an item belongs to, or values that are missing, make no event: that is no empty name."""
    rules = parse_text(f"version: 1\nrules: [{{name: who, match: {{name: work}}, {action}}}]")
    decision = Converter(ConvertConfig(), rules).convert(span({"user.id": "u"}))
    assert (decision.reason, decision.rule) == (DropReason.IDENTITY_ONLY, "who")
