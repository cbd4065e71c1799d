"""`Bridge.accept`: one outcome for every signal, whatever converter, policy, delivery and tap do."""

from __future__ import annotations

import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_posthog.bridge import Bridge, Tap
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats
from otel_posthog.errors import SignalError
from otel_posthog.model import (
    AcceptResult,
    CaptureEvent,
    Decision,
    DropReason,
    LossReason,
    Notice,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.observe import Guard
from otel_posthog.observe import Tap as Ring
from otel_posthog.policy import Policy


class BugError(RuntimeError):
    """Something that nobody expected."""


def signal(name: str, kind: SignalKind = SignalKind.SPAN) -> Signal:
    """A bare signal."""
    return Signal(kind=kind, name=name, attributes={}, resource=Resource(), scope=Scope())


def events(count: int) -> tuple[CaptureEvent, ...]:
    """Distinct capture events."""
    return tuple(CaptureEvent("order", "ada", f"{n:08x}-0000-4000-8000-000000000000", 1, {}) for n in range(count))


@dataclass
class ScriptedConverter:
    """Signal name -> what to answer: a Decision, or an exception to raise."""

    answers: dict[str, Decision | Exception] = field(default_factory=dict[str, Any])

    def convert(self, signal: Signal) -> Decision:
        answer = self.answers.get(signal.name, Decision(reason=DropReason.NOT_TAGGED))
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class RecordingDelivery:
    """Takes events by the list, until told otherwise; `answers` are consumed, one for each submit."""

    answers: list[bool | Exception] = field(default_factory=list[Any])
    taken: list[CaptureEvent] = field(default_factory=list[CaptureEvent])
    log: list[str] = field(default_factory=list[str])
    own: DeliveryStats | None = None

    def submit(self, events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self.taken += events
        return answer

    def flush(self, timeout: float) -> bool:
        self.log.append(f"flush {timeout}")
        return True

    def shutdown(self, timeout: float) -> bool:
        self.log.append(f"shutdown {timeout}")
        return False

    def stats(self) -> DeliveryStats:
        return self.own or DeliveryStats(captured=len(self.taken), pending=len(self.taken))


class BrokenPolicy(Policy):
    """Raises where it is told to."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.stateful = frozenset({"order"})
        self._where = where

    def admit(self, signal: Signal, decision: Decision) -> Decision:
        if self._where == "admit":
            raise BugError
        return super().admit(signal, decision)

    def commit(self, signal: Signal, decision: Decision) -> None:
        if self._where == "commit":
            raise BugError


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are swallowed and counted, as outside of tests."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")


def build(
    answers: dict[str, Decision | Exception] | None = None,
    *,
    delivery: RecordingDelivery | None = None,
    policy: Policy | None = None,
    tap: Tap | None = None,
) -> tuple[Bridge, RecordingDelivery]:
    """A bridge over scripted parts."""
    delivery = delivery or RecordingDelivery()
    converter = cast("Converter", ScriptedConverter(answers or {}))
    return Bridge(converter, policy or Policy(), delivery, guard=Guard(), tap=tap), delivery


def test_every_outcome_is_answered_and_counted() -> None:
    """Captured, dropped by two reasons and refused, in one batch; kinds, rules, notices and events apart."""
    bridge, delivery = build(
        {
            "paid": Decision(events=events(2), rule="orders", notices=(Notice.CUT_VALUE,)),
            "health": Decision(reason=DropReason.RULE, rule="health"),
            "full": Decision(events=events(3)),
        },
        delivery=RecordingDelivery(answers=[True, False]),
    )

    answer = bridge.accept(
        [signal("paid"), signal("health"), signal("full", SignalKind.LOG), signal("other", SignalKind.SPAN_EVENT)]
    )

    assert answer == AcceptResult(
        received=4, captured=1, dropped={DropReason.RULE: 1, DropReason.NOT_TAGGED: 1}, refused=1
    )
    assert delivery.taken == list(events(2))
    stats = bridge.signal_stats()
    assert (stats.received, stats.captured, stats.refused, stats.dropped) == (4, 1, 1, answer.dropped)
    assert stats.by_rule == {"orders": 1, "health": 1}
    assert stats.notices == {Notice.CUT_VALUE: 1}
    assert stats.captured_by_kind == {SignalKind.SPAN: 1}
    assert stats.refused_by_kind == {SignalKind.LOG: 1}
    assert stats.dropped_by_kind == {
        SignalKind.SPAN: {DropReason.RULE: 1},
        SignalKind.SPAN_EVENT: {DropReason.NOT_TAGGED: 1},
    }
    assert (stats.events_captured, stats.events_refused) == (2, 3)


def test_a_caller_who_keeps_signals_gets_the_refused_ones() -> None:
    """In their order, and no others: neither what was captured around them nor what is final."""
    bridge, delivery = build(
        {"full": Decision(events=events(1)), "paid": Decision(events=events(2))},
        delivery=RecordingDelivery(answers=[False, True, False]),
    )
    first, last = signal("full"), signal("full")
    left: list[Signal] = []

    answer = bridge.accept([first, signal("paid"), signal("other"), last], left)

    assert answer == AcceptResult(received=4, captured=1, dropped={DropReason.NOT_TAGGED: 1}, refused=2)
    assert left == [first, last]
    assert delivery.taken == list(events(2))


def test_nothing_in_nothing_out() -> None:
    """An empty batch is fine."""
    bridge, _ = build()

    assert bridge.accept([]) == AcceptResult()


def test_a_malformed_signal_is_an_outcome_not_a_failure() -> None:
    """`SignalError` is the converter's verdict on hostile input: INVALID, quiet, also under pytest."""
    bridge, _ = build({"bad": SignalError("no")})

    assert bridge.accept([signal("bad")]) == AcceptResult(received=1, dropped={DropReason.INVALID: 1})
    assert bridge.metrics()["otel_posthog.internal.errors"] == {}


def test_a_bug_costs_one_signal_and_surfaces_under_pytest() -> None:
    """Its neighbours are captured and the books balance, before the test run is told."""
    bridge, delivery = build({"bug": BugError("oops"), "ok": Decision(events=events(1))})

    with pytest.raises(BugError, match="oops"):
        bridge.accept([signal("bug"), signal("ok")])

    assert delivery.taken == list(events(1))
    assert bridge.signal_stats().dropped == {DropReason.INVALID: 1}


@pytest.mark.usefixtures("production")
def test_a_bug_is_swallowed_counted_and_told_in_production(caplog: pytest.LogCaptureFixture) -> None:
    """One line that says the app is fine, however many signals it hits."""
    bridge, _ = build({"bug": BugError("oops")})

    with caplog.at_level(logging.WARNING, logger="otel_posthog"):
        answer = bridge.accept([signal("bug")] * 50)

    assert answer == AcceptResult(received=50, dropped={DropReason.INVALID: 50})
    assert bridge.metrics()["otel_posthog.internal.errors"] == {"convert": 50}
    assert len(caplog.records) == 1
    assert "your app is fine" in caplog.text


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize(
    ("where", "answer", "place"),
    [
        ("admit", AcceptResult(received=1, dropped={DropReason.INVALID: 1}), "policy"),
        ("commit", AcceptResult(received=1, captured=1), "commit"),
    ],
)
def test_a_failing_policy_is_contained(where: str, answer: AcceptResult, place: str) -> None:
    """Before submit the signal is invalid; after it the events are on their way, so it is captured."""
    bridge, _ = build({"a": Decision(events=events(1))}, policy=BrokenPolicy(where))

    assert bridge.accept([signal("a")]) == answer
    assert bridge.metrics()["otel_posthog.internal.errors"] == {place: 1}


@pytest.mark.usefixtures("production")
def test_a_failing_delivery_refuses() -> None:
    """Nothing is known about the events, so the sender may try again; the uuid keeps that from counting twice."""
    # Both together, then each alone.
    failing = RecordingDelivery(answers=[BugError(), BugError()])
    bridge, _ = build({"a": Decision(events=events(1))}, delivery=failing)

    assert bridge.accept([signal("a"), signal("a")]) == AcceptResult(received=2, captured=1, refused=1)
    assert bridge.metrics()["otel_posthog.internal.errors"] == {"submit": 2}


@dataclass
class NarrowDelivery(RecordingDelivery):
    """Has room for `room` events, and remembers what came together."""

    room: int = 0
    together: list[list[str]] = field(default_factory=list[list[str]])

    def submit(self, events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        if len(self.taken) + len(events) > self.room:
            return False
        self.taken += events
        self.together.append([event.event for event in events])
        return True


def named(name: str) -> Decision:
    """One event of this name."""
    return Decision(events=(CaptureEvent(name, "ada", "00000000-0000-4000-8000-000000000000", 1, {}),))


@pytest.mark.parametrize("room", [0, 1, 3, 70, 99, 100])
def test_what_has_no_room_together_goes_one_by_one(room: int) -> None:
    """As much is taken as there is room for, in order; the rest is left in order, and the books balance."""
    narrow = NarrowDelivery(room=room)
    names = [str(number) for number in range(100)]
    bridge, _ = build({name: named(name) for name in names}, delivery=narrow)
    left: list[Signal] = []

    answer = bridge.accept([signal(name) for name in names], left)

    assert answer == AcceptResult(received=100, captured=room, refused=100 - room)
    assert [event.event for event in narrow.taken] == names[:room]
    assert [one.name for one in left] == names[room:]
    assert bridge.signal_stats().balanced


def test_what_policy_looks_at_goes_alone_and_in_its_turn() -> None:
    """What came before it is on its way when policy is asked, and so is it before what comes after."""
    delivery = NarrowDelivery(room=100)
    answers = {name: named(name) for name in ("a", "b", "$groupidentify", "c")}
    bridge, _ = build({**answers, "two": Decision(events=events(2))}, delivery=delivery)

    bridge.accept([signal(name) for name in ("a", "b", "x", "$groupidentify", "c", "two", "a")])

    assert delivery.together == [["a", "b"], ["$groupidentify"], ["c"], ["order", "order"], ["a"]]


@pytest.mark.usefixtures("production")
def test_a_failing_tap_changes_nothing() -> None:
    """Whoever looks must not disturb."""

    def tap(signal: Signal, decision: Decision, refused: bool) -> None:
        raise BugError

    bridge, delivery = build({"a": Decision(events=events(1))}, tap=tap)

    assert bridge.accept([signal("a"), signal("a")]) == AcceptResult(received=2, captured=2)
    assert len(delivery.taken) == 2


def test_the_tap_sees_every_outcome() -> None:
    """With the decision after policy, and whether delivery refused."""
    ring = Ring()
    bridge, _ = build(
        {"a": Decision(events=events(1)), "bad": SignalError("no")},
        delivery=RecordingDelivery(answers=[True, False]),
        tap=ring,
    )

    bridge.accept([signal("a"), signal("a"), signal("bad"), signal("x")])

    assert [(o.number, o.signal.name, o.verdict) for o in ring.latest()] == [
        (1, "a", "captured"),
        (2, "a", "refused"),
        (3, "bad", "invalid"),
        (4, "x", "not_tagged"),
    ]


def test_a_converter_that_gives_no_reason_counts_as_invalid() -> None:
    """A decision without events and without a reason is a bug, but it has an outcome."""
    bridge, _ = build({"a": Decision()})

    assert bridge.accept([signal("a")]) == AcceptResult(received=1, dropped={DropReason.INVALID: 1})


def test_flush_and_shutdown_are_the_deliverys() -> None:
    """With the caller's deadline and the delivery's answer."""
    bridge, delivery = build()

    assert (bridge.flush(1.5), bridge.shutdown(2.5)) == (True, False)
    assert delivery.log == ["flush 1.5", "shutdown 2.5"]


def test_replacing_converter_and_delivery_keeps_the_books() -> None:
    """A reload goes on counting; the old delivery is handed back."""
    bridge, first = build({"a": Decision(events=events(1))})
    bridge.accept([signal("a")])
    second = RecordingDelivery()

    assert bridge.replace(cast("Converter", ScriptedConverter({"b": Decision(events=events(2))})), second) is first
    bridge.accept([signal("a"), signal("b")])

    assert len(second.taken) == 2
    assert (bridge.signal_stats().received, bridge.signal_stats().captured) == (3, 2)


def test_metrics_of_a_bridge() -> None:
    """One dictionary, ready for JSON, with the edge's own counters."""
    bridge, _ = build(
        {"a": Decision(events=events(1), rule="r")},
        delivery=RecordingDelivery(
            own=DeliveryStats(captured=1, lost={LossReason.REJECTED: 1}, retries=2, batches=3),
        ),
    )
    bridge.accept([signal("a"), signal("b")])

    assert {name: value for name, value in bridge.metrics(edge={"queue_full": 4}).items() if value} == {
        "otel_posthog.signals.received": 2,
        "otel_posthog.signals.captured": {"span": 1},
        "otel_posthog.signals.dropped": {"span": {"not_tagged": 1}},
        "otel_posthog.signals.by_rule": {"r": 1},
        "otel_posthog.events.captured": 1,
        "otel_posthog.events.lost": {"rejected": 1},
        "otel_posthog.delivery.retries": 2,
        "otel_posthog.delivery.batches": 3,
        "otel_posthog.edge": {"queue_full": 4},
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_books_and_locks_of_its_own() -> None:
    """Even where a thread of the parent held every lock at the moment of the fork."""
    bridge, _ = build({"a": Decision(events=events(1))})
    bridge.accept([signal("a")])
    for lock in (bridge.load().counters._lock, bridge.load().policy._lock, bridge._guard._lock):
        lock.acquire()

    child = os.fork()
    if child == 0:
        status = 1
        try:
            bridge.accept([signal("x")])
            status = (
                0 if (bridge.signal_stats().received, bridge.metrics()["otel_posthog.events.removed"]) == (1, {}) else 2
            )
        finally:
            os._exit(status)
    for lock in (bridge.load().counters._lock, bridge.load().policy._lock, bridge._guard._lock):
        lock.release()
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert bridge.signal_stats().received == 1


def test_the_fork_hook_keeps_no_bridge_alive(books: Any) -> None:
    """A registration with the interpreter cannot be taken back."""
    bridge, _ = build()
    gone = weakref.ref(bridge)
    books.bridges.clear()
    del bridge
    gc.collect()

    assert gone() is None


_decisions = st.one_of(
    st.builds(
        lambda count, rule: Decision(events=events(count), rule=rule), st.integers(1, 3), st.sampled_from(["", "r"])
    ),
    st.sampled_from(DropReason).map(lambda reason: Decision(reason=reason)),
    st.just(Decision()),
    st.just(SignalError("no")),
    st.just(BugError("bug")),
)


@given(
    plan=st.lists(st.tuples(_decisions, st.sampled_from(SignalKind)), max_size=12),
    answers=st.lists(st.sampled_from([True, True, False, BugError("full")]), max_size=12),
    tap_raises=st.booleans(),
    policy=st.sampled_from([Policy, lambda: BrokenPolicy("admit"), lambda: BrokenPolicy("commit")]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@pytest.mark.usefixtures("production")
def test_the_books_balance_whatever_happens(
    plan: list[tuple[Decision | Exception, SignalKind]],
    answers: list[bool | Exception],
    tap_raises: bool,
    policy: Callable[[], Policy],
) -> None:
    """Random converters, deliveries that refuse and raise, broken policies and taps: one outcome for each signal."""
    seen: list[bool] = []

    def tap(signal: Signal, decision: Decision, refused: bool) -> None:
        seen.append(refused)
        if tap_raises:
            raise BugError

    bridge, delivery = build(
        {str(number): decision for number, (decision, _) in enumerate(plan)},
        delivery=RecordingDelivery(answers=list(answers)),
        policy=policy(),
        tap=tap,
    )

    answer = bridge.accept([signal(str(number), kind) for number, (_, kind) in enumerate(plan)])

    stats = bridge.signal_stats()
    assert stats.balanced
    assert answer.received == len(plan) == answer.captured + sum(answer.dropped.values()) + answer.refused
    assert (stats.received, stats.captured, stats.refused, stats.dropped) == (
        answer.received,
        answer.captured,
        answer.refused,
        answer.dropped,
    )
    assert stats.events_captured == len(delivery.taken)
    assert len(seen) == len(plan)
    assert sum(seen) == answer.refused


def test_a_late_bridge_makes_its_parts_when_they_are_needed() -> None:
    """Not for a flush; once for all threads; and for good. Who waits for it is told once."""
    made: list[RecordingDelivery] = []

    def make() -> tuple[Converter, Policy, RecordingDelivery]:
        made.append(RecordingDelivery())
        return cast("Converter", ScriptedConverter({})), Policy(), made[-1]

    bridge = Bridge.late(make, guard=Guard())
    told: list[str] = []
    bridge.on_loaded(lambda: told.append("later"))
    assert (bridge.flush(1), bridge.loaded, made, told) == (True, False, [], [])

    threads = [threading.Thread(target=bridge.accept, args=([signal("a")],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), bridge.signal_stats().received) == (1, 8)
    bridge.on_loaded(lambda: told.append("at once"))
    assert told == ["later", "at once"]


class ModuleLock:
    """Stands in for the lock of a module that is being imported."""


def test_an_import_that_gevent_broke_leaves_nothing_locked() -> None:
    """Who loads next finds no lock of it any more: the frames of the failure are gone, those in cycles, too."""
    left: list[weakref.ref[ModuleLock]] = []

    def make() -> Any:
        lock = ModuleLock()
        lock.itself = lock  # type: ignore[attr-defined]
        left.append(weakref.ref(lock))
        raise RuntimeError("cannot release un-acquired lock")

    bridge = Bridge.late(make, guard=Guard())
    gc.disable()
    try:
        with pytest.raises(RuntimeError, match=r"^cannot release un-acquired lock$") as raised:
            bridge.load()
    finally:
        gc.enable()

    assert left[0]() is None
    assert raised.value.__context__ is None


def test_a_late_bridge_that_was_shut_down_closes_what_it_makes() -> None:
    """What comes after the end finds a closed delivery, as in a bridge that was complete from the start."""
    delivery = RecordingDelivery()
    bridge = Bridge.late(lambda: (cast("Converter", ScriptedConverter({})), Policy(), delivery), guard=Guard())
    assert bridge.shutdown(1)
    assert delivery.log == []
    bridge.load()
    assert delivery.log == ["shutdown 0.0"]
