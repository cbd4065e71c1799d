"""An anonymous id becomes one person's, and once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from otel_posthog.model import CaptureEvent, Decision, DropReason, Resource, Scope, Signal, SignalKind
from otel_posthog.policy import Policy, PolicyLimits

SIGNAL = Signal(kind=SignalKind.LOG, name="", attributes={}, resource=Resource(), scope=Scope())


def identify(anonymous: str, person: str, *, at: int = 1, **properties: Any) -> CaptureEvent:
    """A `$identify`."""
    return CaptureEvent(
        "$identify",
        person,
        f"1d0dd6e6-0d1a-5a0b-9f31-{at:012x}",
        at,
        {"$anon_distinct_id": anonymous, **properties},
    )


def send(policy: Policy, event: CaptureEvent) -> CaptureEvent | None:
    """What goes out where delivery has room."""
    decision = policy.admit(SIGNAL, Decision(events=(event,)))
    if decision.events:
        policy.commit(SIGNAL, decision)
        return decision.events[0]
    assert decision.reason is DropReason.DUPLICATE
    return None


def test_once_for_each_pair() -> None:
    """The second `$identify` of the same two says nothing new; the very same event may come again."""
    policy = Policy()
    first = identify("anon", "ada")
    assert send(policy, first) == first
    assert send(policy, identify("anon", "ada", at=2)) is None
    assert send(policy, first) == first


def test_what_it_sets_still_goes_out() -> None:
    """Person properties of a merge that is not sent again go as a `$set`."""
    policy = Policy()
    send(policy, identify("anon", "ada"))
    again = identify("anon", "ada", at=2, **{"$set": {"plan": "pro"}, "$lib": "x"})
    assert send(policy, again) == replace(again, event="$set", properties={"$set": {"plan": "pro"}, "$lib": "x"})


def test_a_shared_computer() -> None:
    """Who logs in next with the id of somebody else's browser stays a person apart."""
    policy = Policy()
    assert send(policy, identify("anon", "ada")) is not None
    assert send(policy, identify("anon", "bob", at=2)) is None


def test_two_people_are_never_merged() -> None:
    """One who was identified is not anonymous, also where a stale cookie says so."""
    policy = Policy()
    send(policy, identify("anon", "ada"))
    send(policy, identify("other", "bob", at=2))
    assert send(policy, identify("ada", "bob", at=3)) is None
    assert send(policy, identify("bob", "ada", at=4)) is None


def test_one_person_with_several_devices() -> None:
    """Each device's id is merged."""
    policy = Policy()
    assert [send(policy, identify(f"anon-{n}", "ada", at=n)) is not None for n in range(3)] == [True] * 3


def test_memory_is_bounded_and_ends() -> None:
    """Beyond the capacity, and after the window, a merge is sent again: PostHog knows what to do with it."""
    now = 1_000.0
    policy = Policy(monotonic=lambda: now, limits=PolicyLimits(merges=4, merges_window=60.0))
    send(policy, identify("anon", "ada"))
    assert send(policy, identify("anon", "ada", at=2)) is None
    now += 61
    assert send(policy, identify("anon", "ada", at=3)) is not None
    for number in range(4, 10):
        send(policy, identify(f"anon-{number}", f"p{number}", at=number))
    assert send(policy, identify("anon", "ada", at=11)) is not None


def test_what_was_refused_is_not_remembered() -> None:
    """Where delivery had no room, the merge comes again."""
    policy = Policy()
    policy.admit(SIGNAL, Decision(events=(identify("anon", "ada"),)))
    assert send(policy, identify("anon", "ada", at=2)) is not None
