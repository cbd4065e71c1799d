"""The same answer of a flag for the same person is one `$feature_flag_called`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from otel_posthog.model import CaptureEvent, Decision, DropReason, Resource, Scope, Signal, SignalKind
from otel_posthog.policy import Policy, PolicyLimits

SIGNAL = Signal(kind=SignalKind.LOG, name="feature_flag.evaluation", attributes={}, resource=Resource(), scope=Scope())
UUID = "1d0dd6e6-0d1a-5a0b-9f31-"


class Clock:
    """Seconds by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(response: Any = True, *, person: str = "ada", flag: str = "new", at: int = 1, **more: Any) -> CaptureEvent:
    """A `$feature_flag_called`."""
    properties = {"$feature_flag": flag, "$feature_flag_response": response, "$trace_id": f"{at:032x}", **more}
    return CaptureEvent("$feature_flag_called", person, f"{UUID}{at:012x}", at, properties)


def send(policy: Policy, *events: CaptureEvent) -> list[CaptureEvent]:
    """What goes out where delivery has room."""
    decision = policy.admit(SIGNAL, Decision(events=events))
    if decision.events:
        policy.commit(SIGNAL, decision)
    return list(decision.events)


def test_the_same_answer_is_sent_once() -> None:
    """Whatever request, moment and reason: what PostHog counts is the value that somebody was given."""
    policy = Policy()
    first = call()

    assert send(policy, first) == [first]
    assert send(policy, call(at=2, **{"$feature_flag_reason": "other"})) == []
    assert policy.removed() == {DropReason.DUPLICATE: 1}


@pytest.mark.parametrize(
    "other",
    [
        call(False, at=2),
        call("True", at=2),
        call(1, at=2),
        call(None, at=2),
        call(person="grace", at=2),
        call(flag="old", at=2),
        call(at=2, **{"$groups": {"company": "acme"}}),
        call(at=2, **{"$feature_flag_rule_id": "7d3e"}),
        call(at=2, **{"$feature_flag_variant_key": "b"}),
    ],
)
def test_another_answer_is_another_event(other: CaptureEvent) -> None:
    """Another value, person, flag, group, or arm of an experiment."""
    policy = Policy()
    send(policy, call())

    assert send(policy, other) == [other]


def test_the_order_of_groups_says_nothing() -> None:
    """`{a, b}` and `{b, a}` are one."""
    policy = Policy()
    send(policy, call(**{"$groups": {"a": "1", "b": "2"}}))

    assert send(policy, call(at=2, **{"$groups": {"b": "2", "a": "1"}})) == []


def test_an_exposure_is_once_for_each_arm() -> None:
    """However the flag was read, and beside its `$feature_flag_called`."""
    policy = Policy()
    first = replace(call("a", **{"$feature_flag_variant_key": "a"}), event="$experiment_exposure")
    again = replace(call(True, at=2, **{"$feature_flag_variant_key": "a"}), event="$experiment_exposure")

    assert send(policy, first, call("a", at=3)) == [first, call("a", at=3)]
    assert send(policy, again) == []


def test_what_delivery_refused_is_not_told() -> None:
    """It comes again, and passes."""
    policy = Policy()

    assert policy.admit(SIGNAL, Decision(events=(call(),))).events
    assert send(policy, call(at=2))


def test_the_event_itself_passes_again() -> None:
    """A Collector that sends it a second time may have a reason; PostHog merges the two by their uuid."""
    policy = Policy()

    assert [len(send(policy, event)) for event in (call(), call(at=2), call())] == [1, 0, 1]


def test_it_is_forgotten_after_a_while_and_when_there_are_too_many() -> None:
    """Memory is bounded; a process that runs for weeks tells each day."""
    clock = Clock()
    policy = Policy(monotonic=clock, limits=PolicyLimits(flags=2, flags_window=100))
    send(policy, call(flag="a"), call(flag="b"))
    clock.now = 100.0
    assert send(policy, call(flag="a", at=2)) == []
    clock.now = 101.0
    assert len(send(policy, call(flag="a", at=3))) == 1
    send(policy, call(flag="c"), call(flag="d"))
    assert len(send(policy, call(flag="a", at=4))) == 1
