"""One `$exception` for one raised exception, whichever carriers brought it (DESIGN §5)."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.model import (
    CaptureEvent,
    Decision,
    DropReason,
    LocalContext,
    LocalException,
    Notice,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.policy import Policy, PolicyLimits
from otel_posthog.policy.exceptions import exception_place

TRACE = "0af7651916cd43dd8448eb211c80319c"
LIVE = LocalContext(exception=(LocalException(type="Boom", module="shop", value="no"),), exception_id="1")
TEXT = LocalContext()
SEEN = LocalContext(exception=LIVE.exception, already_captured=True, exception_id="1")
UUID = "1d0dd6e6-0d1a-5a0b-9f31-3f6f3e3a7e10"


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def signal(local: LocalContext | None, *, trace_id: str = TRACE, kind: SignalKind = SignalKind.SPAN_EVENT) -> Signal:
    """A carrier of an exception."""
    return Signal(
        kind=kind, name="exception", attributes={}, resource=Resource(), scope=Scope(), trace_id=trace_id, local=local
    )


def exception(
    *, kind: str = "Boom", file: str = "/app/shop.py", line: int = 7, uuid: str = UUID, frames: bool = True
) -> CaptureEvent:
    """What the converter makes of it."""
    frame = {"filename": file, "abs_path": file, "lineno": line, "function": "pay", "platform": "python"}
    item: dict[str, object] = {"type": kind, "value": "no"}
    if frames:
        item["stacktrace"] = {"type": "raw", "frames": [{"filename": "main.py", "function": "outer"}, frame]}
    return CaptureEvent("$exception", "ada", uuid, 1, {"$exception_list": [item]})


def take(policy: Policy, what: Signal, *events: CaptureEvent) -> Decision:
    """What a bridge with an endless delivery does."""
    decision = policy.admit(what, Decision(events=events))
    if decision.events:
        policy.commit(what, decision)
    return decision


def captured(policy: Policy, *carriers: tuple[Signal, CaptureEvent]) -> int:
    """How many events go out for these carriers, in this order."""
    return sum(len(take(policy, what, event).events) for what, event in carriers)


DUPLICATE = Decision(reason=DropReason.DUPLICATE_EXCEPTION)


def test_an_exception_that_was_captured_before_is_a_duplicate() -> None:
    """The mark on the live exception object decides, without any memory of ours."""
    assert take(Policy(), signal(SEEN), exception()) == DUPLICATE


def test_one_flask_500_is_one() -> None:
    """Nested spans, server span and framework log carry one object: the first carrier is captured."""
    policy = Policy()

    total = captured(
        policy,
        (signal(LIVE), exception()),
        (signal(SEEN), exception()),
        (signal(SEEN), exception()),
        (signal(SEEN, kind=SignalKind.LOG), exception(kind="Boom")),
    )

    assert total == 1


def test_log_and_span_event_of_a_handled_exception_are_one() -> None:
    """The log was live, the span event is text when its span ends: it consumes the log's credit."""
    policy = Policy()

    assert captured(policy, (signal(LIVE, kind=SignalKind.LOG), exception()), (signal(TEXT), exception())) == 1


def test_three_retries_logged_and_recorded_are_three() -> None:
    """Each live capture gives one credit, in whichever order the carriers come."""
    live, text = (signal(LIVE, kind=SignalKind.LOG), exception()), (signal(TEXT), exception())

    assert captured(Policy(), live, text, live, text, live, text) == 3
    assert captured(Policy(), live, live, live, text, text, text) == 3


def test_three_retries_recorded_as_text_only_are_three_with_uuids_of_their_own() -> None:
    """PostHog merges equal uuids: the first keeps the gateway's, the others get their own, the same on every run."""

    def run() -> list[str]:
        policy = Policy()
        return [take(policy, signal(TEXT), exception()).events[0].uuid for _ in range(3)]

    first, second, third = run()

    assert first == UUID
    assert len({first, second, third}) == 3
    assert run() == [first, second, third]


def test_a_renumbered_exception_keeps_everything_but_its_uuid() -> None:
    """Name, person, time and properties are the converter's."""
    policy = Policy()
    take(policy, signal(LIVE), exception())

    (second,) = take(policy, signal(LIVE), exception()).events

    assert replace(second, uuid=UUID) == exception()


@pytest.mark.parametrize(
    ("carrier", "why"),
    [
        (exception(kind="Other"), "another type"),
        (exception(line=8), "another line"),
        (exception(file="/app/cart.py"), "another file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_text_carrier_of_another_exception_is_captured(carrier: CaptureEvent, why: str) -> None:
    """A credit counts for the same place only."""
    policy = Policy()

    assert captured(policy, (signal(LIVE), exception()), (signal(TEXT), carrier)) == 2, why


def test_a_credit_is_worth_nothing_in_another_trace() -> None:
    """The same bug in two requests is two exceptions."""
    policy = Policy()

    assert captured(policy, (signal(LIVE), exception()), (signal(TEXT, trace_id="b" * 32), exception())) == 2


def test_without_a_trace_there_is_no_credit() -> None:
    """Two traceless carriers can be hours and workers apart: nothing links them."""
    policy = Policy()

    assert captured(policy, (signal(LIVE, trace_id=""), exception()), (signal(TEXT, trace_id=""), exception())) == 2


def test_type_and_file_match_across_spellings() -> None:
    """`shop.Boom` in a span event is `Boom` in a log; a path may be shortened in one of them."""
    policy = Policy()
    text = exception(kind="shop.errors.Boom", file="shop.py")

    assert captured(policy, (signal(LIVE), exception()), (signal(TEXT), text)) == 1


def test_a_carrier_without_a_stack_is_told_by_its_type() -> None:
    """A log with `exception.type` alone is still the exception that was captured live in this trace."""
    policy = Policy()

    assert captured(policy, (signal(LIVE), exception()), (signal(TEXT), exception(frames=False))) == 1


def test_a_refused_capture_leaves_no_credit() -> None:
    """What delivery had no room for was not captured, so its text carrier is the capture."""
    policy = Policy()
    policy.admit(signal(LIVE), Decision(events=(exception(),)))

    assert take(policy, signal(TEXT), exception()).events


def test_the_gateway_drops_an_exception_that_it_took() -> None:
    """Without local knowledge the uuid (made from trace, type and place) tells the carriers of one exception."""
    policy = Policy()

    assert take(policy, signal(None), exception()).events
    assert take(policy, signal(None, kind=SignalKind.LOG), exception()) == DUPLICATE


def test_the_gateway_takes_the_same_carrier_again() -> None:
    """A retry of its sender, or a record processed again: the first may have come to nothing, and PostHog merges."""
    policy = Policy()

    assert take(policy, signal(None), exception()).events == (exception(),)
    assert take(policy, signal(None, kind=SignalKind.LOG), exception()) == DUPLICATE
    assert take(policy, signal(None), exception()).events == (exception(),)


def test_the_gateway_takes_again_what_delivery_refused() -> None:
    """The seen-set is written at commit: after a 503 the sender's retry is not a duplicate."""
    policy = Policy()
    policy.admit(signal(None), Decision(events=(exception(),)))

    assert take(policy, signal(None), exception()).events == (exception(),)


def test_only_the_exception_is_dropped_from_a_mixed_decision() -> None:
    """A tagged span that failed keeps its product event; what was removed is counted."""
    policy = Policy()
    order = CaptureEvent("order failed", "ada", "1d0dd6e6-0d1a-5a0b-9f31-3f6f3e3a7e11", 1, {})
    mixed = Decision(events=(order, exception()), rule="orders", notices=(Notice.CUT_VALUE,))

    assert policy.admit(signal(SEEN), mixed) == replace(mixed, events=(order,))
    assert policy.removed() == {DropReason.DUPLICATE_EXCEPTION: 1}


def test_a_decision_without_exceptions_is_returned_as_it_is() -> None:
    """The usual case costs nothing and changes nothing, marks of the process included."""
    decision = Decision(events=(CaptureEvent("order", "ada", UUID, 1, {}),))

    assert Policy().admit(signal(SEEN), decision) is decision


def test_rule_and_notices_survive_the_drop() -> None:
    """The outcome still says which rule had decided."""
    decision = Decision(events=(exception(),), rule="errors", notices=(Notice.UNPARSED_STACK,))

    assert Policy().admit(signal(SEEN), decision) == Decision(
        reason=DropReason.DUPLICATE_EXCEPTION, rule="errors", notices=(Notice.UNPARSED_STACK,)
    )


def test_credits_and_uuids_are_forgotten_after_the_window() -> None:
    """Memory is bounded in time."""
    clock = Clock()
    policy = Policy(monotonic=clock, limits=PolicyLimits(exceptions_window=60))
    captured(policy, (signal(LIVE), exception()), (signal(None), exception()))
    clock.now += 61

    assert captured(policy, (signal(TEXT), exception()), (signal(None), exception())) == 2


def test_memory_is_bounded_in_number() -> None:
    """A million distinct exceptions do not fill the process; the oldest is forgotten first."""
    policy = Policy(limits=PolicyLimits(exceptions=2))
    ids = [f"1d0dd6e6-0d1a-5a0b-9f31-{number:012x}" for number in range(3)]
    for uuid in ids:
        take(policy, signal(None), exception(uuid=uuid))

    log = signal(None, kind=SignalKind.LOG)
    assert [bool(take(policy, log, exception(uuid=uuid)).events) for uuid in (ids[2], ids[0])] == [False, True]


def test_a_hot_loop_in_one_trace_keeps_few_credits() -> None:
    """Ten thousand live exceptions of one place leave 64 credits, not ten thousand."""
    policy = Policy()
    for _ in range(10_000):
        take(policy, signal(LIVE), exception())

    assert captured(policy, *[(signal(TEXT), exception())] * 100) == 100 - 64


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"$exception_list": None},
        {"$exception_list": []},
        {"$exception_list": ["text"]},
        {"$exception_list": [{"type": None, "stacktrace": 3}]},
        {"$exception_list": [{"stacktrace": {"frames": "no"}}]},
        {"$exception_list": [{"stacktrace": {"frames": [None]}}]},
    ],
)
def test_an_odd_exception_list_has_a_place_too(properties: dict[str, object]) -> None:
    """Policy never raises over what a sender put there."""
    kind, place = exception_place(CaptureEvent("$exception", "ada", UUID, 1, properties))

    assert kind == ""
    assert place in {"", "::"}


@given(order=st.permutations(["live", "text"] * 3))
@settings(max_examples=20)
def test_a_text_carrier_after_its_live_one_never_counts_twice(order: list[str]) -> None:
    """In any order: captures = live ones + text ones that no earlier live one vouches for."""
    policy, expected, credit = Policy(), 0, 0
    for carrier in order:
        if carrier == "live":
            expected, credit = expected + 1, credit + 1
        elif credit:
            credit -= 1
        else:
            expected += 1

    assert captured(policy, *[(signal(LIVE if carrier == "live" else TEXT), exception()) for carrier in order]) == (
        expected
    )


def test_threads_share_the_credits_without_losing_or_inventing_one() -> None:
    """400 live captures give exactly 400 credits, taken by eight threads."""
    policy = Policy()
    for number in range(400):
        take(policy, signal(LIVE), exception(kind=f"E{number}"))
    numbers = itertools.count()
    results: list[int] = []

    def work() -> None:
        while (number := next(numbers)) < 800:
            results.append(captured(policy, (signal(TEXT), exception(kind=f"E{number % 400}"))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(results) == 400


def test_a_forked_child_does_not_wait_for_a_lock_of_the_parent() -> None:
    """Another thread may hold the lock at the moment of the fork; the memory itself is kept."""
    policy = Policy()
    take(policy, signal(LIVE), exception())
    policy._lock.acquire()  # the thread that holds it does not exist in the child

    policy.after_fork()

    assert captured(policy, (signal(TEXT), exception())) == 0
    assert policy.removed() == {DropReason.DUPLICATE_EXCEPTION: 1}
