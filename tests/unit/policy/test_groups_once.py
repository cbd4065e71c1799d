"""A `$groupidentify` that says nothing new is not sent again."""

from __future__ import annotations

from typing import Any

import pytest

from otel_posthog.model import CaptureEvent, Decision, DropReason, LocalContext, Resource, Scope, Signal, SignalKind
from otel_posthog.policy import Policy, PolicyLimits

SIGNAL = Signal(kind=SignalKind.SPAN, name="GET /", attributes={}, resource=Resource(), scope=Scope())
ORDER = CaptureEvent("order", "ada", "1d0dd6e6-0d1a-5a0b-9f31-3f6f3e3a7e11", 1, {})


def group(said: dict[str, Any], *, key: str = "acme", kind: str = "company", at: int = 1) -> CaptureEvent:
    """A `$groupidentify`."""
    properties = {"$group_type": kind, "$group_key": key, "$group_set": said, "$trace_id": f"{at:032x}"}
    return CaptureEvent("$groupidentify", "ada", f"1d0dd6e6-0d1a-5a0b-9f31-{at:012x}", at, properties)


def send(policy: Policy, *events: CaptureEvent, signal: Signal = SIGNAL) -> list[CaptureEvent]:
    """What goes out where delivery has room."""
    decision = policy.admit(signal, Decision(events=events))
    if decision.events:
        policy.commit(signal, decision)
    return list(decision.events)


def test_the_same_content_is_sent_once() -> None:
    """What differs in uuid, time and trace only is the same; the product event beside it goes on."""
    policy = Policy()
    first = group({"plan": "pro", "seats": 3})

    assert send(policy, ORDER, first) == [ORDER, first]
    assert send(policy, ORDER, group({"seats": 3, "plan": "pro"}, at=2)) == [ORDER]
    assert policy.removed() == {DropReason.DUPLICATE: 1}


def test_nothing_left_is_a_duplicate_signal() -> None:
    """A signal that only repeats a group update is dropped, with a reason."""
    policy = Policy()
    send(policy, group({"plan": "pro"}))

    assert policy.admit(SIGNAL, Decision(events=(group({"plan": "pro"}),), rule="plans")) == Decision(
        reason=DropReason.DUPLICATE, rule="plans"
    )


def test_a_value_that_returns_is_news_again() -> None:
    """A, B, A: dropping the second A would leave PostHog with B."""
    policy = Policy()

    assert [len(send(policy, group({"plan": plan}))) for plan in ("a", "b", "a", "a")] == [1, 1, 1, 0]


def test_two_sources_of_different_properties_do_not_undo_each_other() -> None:
    """The resource says the plan and a rule says the region, in turn: each is sent once."""
    policy = Policy()

    sent = [len(send(policy, group(said))) for said in ({"plan": "pro"}, {"region": "eu"}) * 3]

    assert sent == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("other", [True, 1.0, "1", [1], {"a": 1}, None])
def test_values_that_only_look_equal_are_different(other: object) -> None:
    """`1 == True == 1.0` in Python, but not in PostHog."""
    policy = Policy()
    send(policy, group({"seats": 1}))

    assert send(policy, group({"seats": other}))


@pytest.mark.parametrize("other", [group({"plan": "pro"}, key="globex"), group({"plan": "pro"}, kind="team")])
def test_another_group_is_another_group(other: CaptureEvent) -> None:
    """Type and key together name a group."""
    policy = Policy()
    send(policy, group({"plan": "pro"}))

    assert send(policy, other) == [other]


def test_it_is_sent_again_after_the_window() -> None:
    """Each property ages on its own: news of another property does not keep an old one quiet."""
    now = [0.0]
    policy = Policy(monotonic=lambda: now[0], limits=PolicyLimits(groups_window=60))
    send(policy, group({"plan": "pro"}))
    now[0] = 40
    send(policy, group({"region": "eu"}))
    now[0] = 61

    assert send(policy, group({"plan": "pro"}))
    assert not send(policy, group({"region": "eu"}))


def test_a_refused_update_is_sent_again() -> None:
    """Remembered at commit only."""
    policy = Policy()
    policy.admit(SIGNAL, Decision(events=(group({"plan": "pro"}),)))

    assert send(policy, group({"plan": "pro"}))


def test_what_may_not_have_arrived_is_news_again() -> None:
    """After its delivery was replaced an update that was taken is handed in once more, and must pass."""
    policy = Policy()
    update = group({"plan": "pro"})

    assert send(policy, update) == [update]
    policy.doubt()
    assert send(policy, update) == [update]
    assert send(policy, update) == []


def test_groups_beyond_the_capacity_are_forgotten() -> None:
    """The least recently changed first."""
    policy = Policy(limits=PolicyLimits(groups=2))
    for key in ("a", "b", "c"):
        send(policy, group({"plan": "pro"}, key=key))

    assert [len(send(policy, group({"plan": "pro"}, key=key))) for key in ("c", "b", "a")] == [0, 0, 1]


def test_a_group_with_endless_properties_is_not_remembered() -> None:
    """One group cannot fill the memory: it is simply always sent."""
    policy = Policy()
    wide = group({f"p{number}": number for number in range(500)})

    assert send(policy, wide) == [wide]
    assert send(policy, wide) == [wide]


def test_an_update_without_content_is_sent_once() -> None:
    """An empty `$group_set` makes the group exist; that is said once too."""
    policy = Policy()

    assert send(policy, group({}))
    assert not send(policy, group({}))


def test_an_exception_with_a_known_group_is_dropped_for_the_exception() -> None:
    """Where both are removed, the reason is the one that is about the signal."""
    policy = Policy()
    send(policy, group({"plan": "pro"}))
    caught = Signal(
        kind=SignalKind.SPAN_EVENT,
        name="exception",
        attributes={},
        resource=Resource(),
        scope=Scope(),
        local=LocalContext(already_captured=True),
    )
    exception = CaptureEvent("$exception", "ada", ORDER.uuid, 1, {"$exception_list": []})

    decision = policy.admit(caught, Decision(events=(group({"plan": "pro"}), exception)))

    assert decision == Decision(reason=DropReason.DUPLICATE_EXCEPTION)
