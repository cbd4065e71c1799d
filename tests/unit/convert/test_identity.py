"""Who an event belongs to: the order of DESIGN §3, illegal ids, late identity, and those who are nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import DropReason, LocalContext, Notice, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text
from otel_posthog.semconv import posthog

NOW = 1_763_640_000_000_000_000
CONVERTER = Converter(ConvertConfig(), RuleSet())


def span(attributes: dict[str, Any], resource: dict[str, Any] | None = None, **more: Any) -> Signal:
    """A tagged span."""
    return Signal(
        SignalKind.SPAN,
        "work",
        {"posthog.event": "worked", **attributes},
        Resource(resource or {"service.name": "shop"}),
        Scope("shop"),
        **{
            "span_kind": "internal",
            "trace_id": "a" * 32,
            "span_id": "b" * 16,
            "start_time_ns": NOW,
            "time_ns": NOW + 1,
            **more,
        },
    )


def event(signal: Signal) -> tuple[str, bool | None]:
    """Distinct id and person processing of the first event."""
    first = CONVERTER.convert(signal).events[0]
    return first.distinct_id, first.properties.get("$process_person_profile")


ORDER = [
    ("posthog.distinct_id", "p1"),
    ("posthogDistinctId", "p2"),
    ("user.id", "p3"),
    ("enduser.id", "p4"),
    ("http.request.header.x_posthog_distinct_id", ["p5"]),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_order(first: int) -> None:
    """Of several sources the first of the order wins, whichever comes first among the attributes."""
    attributes = dict(reversed([*ORDER[first:], ("enduser.pseudo.id", "weak")]))

    assert event(span(attributes)) == (f"p{first + 1}", None)
    assert CONVERTER.identify(span(attributes)) == f"p{first + 1}"


def test_weak_sources() -> None:
    """Late identity comes before the pseudonym, the pseudonym before the resource's default."""
    local = LocalContext(distinct_id="late")
    weak, resource = {"enduser.pseudo.id": "weak"}, {"posthog.distinct_id": "installation"}

    assert event(span(weak, resource, local=local)) == ("late", None)
    assert event(span(weak, resource)) == ("weak", None)
    assert event(span({}, resource)) == ("installation", None)
    assert CONVERTER.identify(span(weak, resource, local=local)) == ""


def test_a_rule_names_the_person() -> None:
    """The rule's distinct id yields only to the item's own tag."""
    rules = parse_text('version: 1\nrules: [{name: r, match: {name: work}, capture: {event: e}, distinct_id: "{who}"}]')
    converter = Converter(ConvertConfig(), rules)
    signal = replace(span({}), attributes={"who": "ruled", "user.id": "u"})
    tagged = replace(signal, attributes={**signal.attributes, "posthog.distinct_id": "own"})

    assert [converter.convert(s).events[0].distinct_id for s in (signal, tagged)] == ["ruled", "own"]
    assert [converter.identify(s) for s in (signal, tagged)] == ["ruled", "own"]


def test_span_events_borrow() -> None:
    """A span event without identity, groups or session has those of its span."""
    owner = span(
        {"user.id": "u1", "posthog.groups.company": "acme", "sessionId": "018f3f5a-7b1c-7def-8abc-0123456789ab"}
    )
    child = replace(owner, kind=SignalKind.SPAN_EVENT, attributes={"posthog.event": "step"}, span=owner)

    (made,) = CONVERTER.convert(child).events

    assert made.distinct_id == "u1"
    assert made.properties["$groups"] == {"company": "acme"}
    assert made.properties["$session_id"] == "018f3f5a-7b1c-7def-8abc-0123456789ab"


@pytest.mark.parametrize("illegal", sorted(posthog.ILLEGAL_DISTINCT_IDS))
def test_illegal_ids_are_absent(illegal: str) -> None:
    """PostHog's illegal ids, in any case and with blanks around, give way to the next source and are counted."""
    signal = span({"posthog.distinct_id": f" {illegal.upper()} ", "user.id": "u1"})

    assert event(signal) == ("u1", None)
    assert Notice.ILLEGAL_DISTINCT_ID in CONVERTER.convert(signal).notices


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (42, "42"),
        (42.0, "42"),
        (1.5, "1.5"),
        (["u1"], "u1"),
        ("  u1\n", "u1"),
        ("a\x00b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("x\ud800", "x\ufffd"),
        ("x" * 200, "x" * 200),
    ],
)
def test_forms(value: object, expected: str) -> None:
    """Numbers and lists of one are ids; text is made valid."""
    assert event(span({"user.id": value}))[0] == expected


@pytest.mark.parametrize("value", [True, False, None, "", "  ", [], [[]], {"a": 1}, b"x", float("nan"), 0])
def test_not_an_id(value: object) -> None:
    """What names nobody makes a personless event."""
    assert event(span({"user.id": value}))[1] is False


def test_long_ids_stay_apart() -> None:
    """Two ids that differ after 200 bytes remain two people."""
    one, other = (event(span({"user.id": "é" * 150 + tail}))[0] for tail in "ab")

    assert one != other
    assert max(len(one.encode()), len(other.encode())) <= 200


def test_nobody_is_stable() -> None:
    """Without identity: one id for a session, else for a trace, else for a service; never the raw id itself."""
    log = replace(span({}), kind=SignalKind.LOG)
    in_session = span({"session.id": "s-1"})
    other_trace = span({"session.id": "s-1"}, trace_id="c" * 32)
    bare = [replace(log, trace_id="", span_id="", time_ns=NOW + n) for n in range(2)]

    assert event(in_session) == event(other_trace) == (event(in_session)[0], False)
    assert event(span({})) == event(log)
    assert event(bare[0]) == event(bare[1])
    assert len({event(in_session)[0], event(log)[0], event(bare[0])[0], "s-1", "a" * 32}) == 5


def test_personless_by_tag() -> None:
    """A known person can be counted without a profile; a person update on the item asks for one again."""
    off = {"posthog.distinct_id": "u1", "posthog.process_person_profile": False, "posthog.set.a": 1}
    quiet = CONVERTER.convert(span(off))
    default = CONVERTER.convert(
        span({"posthog.distinct_id": "u1", "posthog.set.a": 1}, {"posthog.process_person_profile": False})
    )

    assert quiet.events[0].properties["$process_person_profile"] is False
    assert "$set" not in quiet.events[0].properties
    assert Notice.NO_SUBJECT in quiet.notices
    assert default.events[0].properties["$set"] == {"a": 1}
    assert "$process_person_profile" not in default.events[0].properties


def test_updates_without_a_subject() -> None:
    """A person update alone needs somebody."""
    log = replace(span({}), kind=SignalKind.LOG, attributes={"posthog.set.plan": "pro"})

    assert CONVERTER.convert(log).reason is DropReason.NO_SUBJECT


def test_sessions() -> None:
    """Only a UUIDv7 is `$session_id`; another id has its own name, and a notice where PostHog's name promised one."""
    v7 = "018F3F5A-7B1C-7DEF-8ABC-0123456789AB"
    good = CONVERTER.convert(span({"posthog.session_id": v7}))
    plain = CONVERTER.convert(span({"session.id": "s-1"}))
    bad = CONVERTER.convert(span({"sessionId": "3f1c1c1e-8d7a-4f0e-9a51-0123456789ab", "posthog.window_id": "w"}))

    assert good.events[0].properties["$session_id"] == v7.lower()
    assert plain.events[0].properties["session_id"] == "s-1"
    assert (plain.notices, bad.notices) == ((), (Notice.BAD_SESSION_ID,))
    assert "$session_id" not in bad.events[0].properties
    assert bad.events[0].properties["$window_id"] == "w"
