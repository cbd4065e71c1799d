"""Receipts: whoever keeps a durable copy hears of every event's end once, and nothing of theirs is ever given up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_posthog.delivery.protocols import DeliveryStats, Request, Response
from otel_posthog.delivery.spool import Spool
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.errors import PermanentError, RetryableError
from otel_posthog.model import CaptureEvent, LossReason
from tests.unit.delivery.loopback import event
from tests.unit.delivery.stepped import CONFIG, JSON, Bench

REFUSED_KEY = Response(401, {}, b"")
AWAY = RetryableError("away")


class Keeper:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.taken_count = 0
        self.told: list[tuple[str, LossReason | None, str]] = []

    def taken(self, count: int) -> None:
        """Notes the number."""
        self.taken_count += count

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """Notes the end."""
        self.told.append((event.uuid, lost, note))

    @property
    def ends(self) -> dict[str, LossReason | None]:
        """Uuid -> end; fails where one was told twice."""
        assert len(self.told) == len({uuid for uuid, _, _ in self.told})
        return {uuid: lost for uuid, lost, _ in self.told}


def uuids(*numbers: int) -> list[str]:
    """The uuids of some events."""
    return [event(number).uuid for number in numbers]


def spool(folder: Path) -> Spool:
    """A spool in `folder`."""
    return Spool(str(folder), OsFiles(), max_bytes=100_000, now_ns=lambda: 0)


@pytest.mark.parametrize("wire", ["v0", "v1"])
def test_a_delivered_event_is_told_once(wire: str) -> None:
    """Its submitter gets back the very object; what was submitted without a receipt is nobody's affair."""
    bench, keeper = Bench(wire=wire), Keeper()
    mine = [event(1), event(2)]
    assert bench.engine.submit(mine, keeper)
    assert (keeper.taken_count, keeper.told) == (2, [])
    assert bench.engine.submit([event(3)])
    bench.run(2)
    assert keeper.told == [(uuid, None, "") for uuid in uuids(1, 2)]
    assert bench.engine.stats().delivered == 3


def test_taken_comes_before_any_end() -> None:
    """A keeper that counts down never sees zero too early: it hears of the number while nothing can have ended."""
    bench = Bench()

    class Order(Keeper):
        def taken(self, count: int) -> None:
            super().taken(count)
            assert bench.engine._state.ledger.pending == 0

    keeper = Order()
    bench.engine.submit([event(number) for number in range(25)], keeper)
    bench.run(2)
    assert keeper.taken_count == len(keeper.ends) == 25


def test_a_refused_submit_says_nothing() -> None:
    """Neither with a full queue nor after the end."""
    bench, keeper = Bench(), Keeper()
    assert bench.engine.submit([event(0)])
    assert not bench.engine.submit([event(number) for number in range(1, 61)], keeper)
    bench.engine.finishing(bench.clock.now, closed=True)
    assert not bench.engine.submit([event(1)], keeper)
    assert (keeper.taken_count, keeper.told) == (0, [])


def test_each_end_by_its_verdict() -> None:
    """Delivered, dropped with the server's code, sent again until it is one of both."""
    bench, keeper = Bench(wire="v1"), Keeper()
    ok, again, drop = uuids(1, 2, 3)

    def mixed(_: Request) -> Response:
        verdicts = {
            ok: {"result": "ok"},
            again: {"result": "retry"},
            drop: {"result": "drop", "details": "event_too_big"},
        }
        return Response(200, JSON, json.dumps({"results": verdicts}).encode())

    bench.answers = [mixed]
    bench.engine.submit([event(1), event(2), event(3)], keeper)
    bench.run(1.0)
    assert keeper.ends == {ok: None, drop: LossReason.DROPPED_BY_SERVER}
    assert keeper.told[1][2] == "PostHog dropped an event (event_too_big)"
    bench.run(60)
    assert keeper.ends == {ok: None, drop: LossReason.DROPPED_BY_SERVER, again: None}


@pytest.mark.parametrize(
    ("made", "reason", "note"),
    [
        (event(1, uuid="nonsense"), LossReason.REJECTED, "event without a valid uuid"),
        (event(1, properties={"x": object()}), LossReason.ENCODE, "an event has no JSON form (TypeError)"),
    ],
)
def test_an_impossible_event_is_told_with_its_reason(made: CaptureEvent, reason: LossReason, note: str) -> None:
    """It would block its keeper's log for ever otherwise; its neighbours are told of their own ends."""
    bench, keeper = Bench(), Keeper()
    bench.engine.submit([event(5), made, event(6)], keeper)
    bench.run(2)
    assert keeper.told == [(made.uuid, reason, note), *((uuid, None, "") for uuid in uuids(5, 6))]


def test_the_one_bad_event_of_a_refused_batch_is_told() -> None:
    """400 is about the data: the batch is halved until the guilty one is alone, which is lost; no other is."""
    bench, keeper = Bench(), Keeper()

    def refuse(request: Request) -> Response:
        return Response(400 if uuids(3)[0].encode() in request.body else 200, JSON, b"{}")

    bench.answers = [refuse] * 20
    bench.engine.submit([event(number) for number in range(8)], keeper)
    bench.run(10)
    assert keeper.ends == {uuid: None if uuid != uuids(3)[0] else LossReason.REJECTED for uuid in uuids(*range(8))}


def test_a_kept_batch_is_never_given_up() -> None:
    """A day of outage: nothing is told, nothing lost; then all is delivered. Without a receipt it is over sooner."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [AWAY] * 100_000
    bench.engine.submit([event(1)], keeper)
    bench.run(86_400)
    assert (keeper.told, bench.engine.stats().lost, bench.engine.stats().pending) == ([], {}, 1)
    bench.answers = []
    bench.run(60)
    assert keeper.ends == {event(1).uuid: None}


@pytest.mark.parametrize(
    ("failure", "lost"),
    [
        (AWAY, LossReason.RETRIES_EXHAUSTED),
        (REFUSED_KEY, LossReason.REJECTED),
        (PermanentError("no way"), LossReason.REJECTED),
    ],
)
def test_only_what_nobody_keeps_is_given_up(failure: Any, lost: LossReason) -> None:
    """In one batch with another's: that one is lost and counted, ours waits and arrives."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [failure] * 100
    bench.engine.submit([event(1)], keeper)
    bench.engine.submit([event(2)])
    bench.run(CONFIG.retry_elapsed + 100)
    assert keeper.told == []
    assert (bench.engine.stats().lost, bench.engine.stats().pending) == ({lost: 1}, 1)
    bench.answers = []
    bench.run(60)
    assert keeper.ends == {event(1).uuid: None}
    assert bench.batches[-1] == [event(1).uuid]


def test_a_revoked_key_keeps_the_data() -> None:
    """Everything waits, `blocked` says why, retries are rare; a mended key clears it and delivers."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [REFUSED_KEY] * 10_000
    bench.engine.submit([event(1)], keeper)
    bench.run(3600)
    stats = bench.engine.stats()
    assert stats.blocked == stats.last_error
    assert stats.blocked.startswith("PostHog refused the project API key (401)")
    assert (keeper.told, stats.lost, stats.pending) == ([], {}, 1)
    assert len(bench.transport.requests) <= 3600 / CONFIG.retry_max + 2
    bench.answers = []
    bench.run(60)
    assert keeper.ends == {event(1).uuid: None}
    assert bench.engine.stats().blocked == ""


def test_a_passing_failure_neither_blocks_nor_unblocks() -> None:
    """An outage is no refusal; and after a refusal only an answer that takes data says that it is over."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [AWAY]
    bench.engine.submit([event(1)], keeper)
    bench.run(1.0)
    assert bench.engine.stats().blocked == ""
    bench.answers = [REFUSED_KEY, *[AWAY] * 1000]
    bench.run(300)
    assert bench.engine.stats().blocked != ""
    bench.answers = []
    bench.run(60)
    assert (bench.engine.stats().blocked, keeper.ends) == ("", {event(1).uuid: None})


def test_without_a_receipt_a_revoked_key_loses() -> None:
    """Nobody keeps a copy, so it is booked; that is no reason to call the lane blocked."""
    bench = Bench()
    bench.answers = [REFUSED_KEY]
    bench.engine.submit([event(1)])
    bench.run(2)
    stats = bench.engine.stats()
    assert (stats.lost, stats.blocked) == ({LossReason.REJECTED: 1}, "")


def test_a_permanent_failure_of_the_way_waits() -> None:
    """A URL that is none, a proxy that is misspelt: an operator mends it, and the data was never at fault."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [PermanentError("not an HTTP URL")] * 3
    bench.engine.submit([event(1)], keeper)
    bench.run(1.0)
    assert (keeper.told, bench.engine.stats().blocked) == ([], "not an HTTP URL")
    bench.run(300)
    assert keeper.ends == {event(1).uuid: None}
    assert bench.engine.stats().blocked == ""


def test_abandoned_is_with_its_keeper() -> None:
    """At the end nobody is told; the books call it spooled wherever it was: queue, ready, parked, in flight."""
    bench, keeper = Bench(), Keeper()
    bench.answers = [AWAY] * 10
    bench.engine.submit([event(number) for number in range(10)], keeper)
    bench.run(0.01)
    assert bench.engine._state.parked
    bench.engine.submit([event(number) for number in range(10, 15)], keeper)
    bench.engine.submit([event(20)])
    bench.engine.finishing(bench.clock.now, closed=True)
    assert bench.engine.abandon() == 1
    assert keeper.told == []
    stats = bench.engine.stats()
    assert (stats.spooled, stats.lost, stats.pending) == (15, {LossReason.SHUTDOWN: 1}, 0)
    assert stats.balanced


def test_a_late_answer_after_the_end_tells_nobody() -> None:
    """The end came while the request was out: booked as kept, so it comes again; not told as delivered as well."""
    bench, keeper = Bench(), Keeper()

    def late(request: Request) -> Response:
        bench.engine.finishing(bench.clock.now, closed=True)
        bench.engine.abandon()
        return Response(200, JSON, b"{}")

    bench.answers = [late]
    bench.engine.submit([event(1)], keeper)
    bench.run(2)
    assert (keeper.told, bench.engine.stats().spooled, bench.engine.stats().delivered) == ([], 1, 0)


def test_a_keeper_that_fails_harms_nobody_else() -> None:
    """It still has the event and sends it again; the guard is told, the neighbours hear of their ends."""
    bench, other = Bench(), Keeper()
    guarded: list[str] = []
    bench.engine._state.parts = replace(bench.engine._state.parts, guard=lambda where, _: guarded.append(where))

    class Failing(Keeper):
        def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
            raise OSError("disk")

    bench.engine.submit([event(1)], Failing())
    bench.engine.submit([event(2)], other)
    bench.run(2)
    assert guarded == ["delivery.receipt"]
    assert other.ends == {event(2).uuid: None}
    assert bench.engine.stats().delivered == 2


def test_with_a_spool_as_well(tmp_path: Path) -> None:
    """Receipts are told all the same, once each."""
    bench, keeper = Bench(journal=spool(tmp_path)), Keeper()
    bench.answers = [AWAY, REFUSED_KEY]
    bench.engine.submit([event(number) for number in range(5)], keeper)
    bench.run(300)
    assert keeper.ends == dict.fromkeys(uuids(*range(5)))


class ReceiptMachine(RuleBasedStateMachine):
    """Submits with and without receipts, any answers, time and the end."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(wire="auto")
        self.keepers: list[tuple[Keeper, list[str]]] = []
        self.number = 0
        self.over = False

    @rule(count=st.integers(1, 15), kept=st.booleans(), bad=st.booleans())
    def submit(self, count: int, kept: bool, bad: bool) -> None:
        """Some events."""
        events = [event(self.number + index) for index in range(count)]
        if bad:
            events[-1] = replace(events[-1], properties={"x": object()})
        self.number += count
        keeper = Keeper() if kept else None
        if self.bench.engine.submit(events, keeper):
            assert keeper is None or keeper.taken_count == count
            if keeper is not None:
                self.keepers.append((keeper, [made.uuid for made in events]))
        elif keeper is not None:
            assert keeper.taken_count == 0

    @rule(
        answers=st.lists(
            st.sampled_from([Response(code, {}, b"") for code in (200, 400, 401, 404, 429, 503)] + [AWAY]), max_size=5
        )
    )
    def answer(self, answers: list[Any]) -> None:
        """What the server says next."""
        self.bench.answers.extend(answers)

    @rule(seconds=st.floats(0, 900))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.bench.run(seconds)

    @rule()
    def end(self) -> None:
        """The end."""
        self.bench.engine.finishing(self.bench.clock.now, closed=True)
        self.bench.run(1)
        self.bench.engine.abandon()
        self.over = True

    @invariant()
    def told_once_and_only_theirs(self) -> None:
        """No end twice, none of somebody else's; what is not told is pending, or at the end spooled."""
        stats = self.bench.engine.stats()
        assert stats.balanced
        untold = 0
        for keeper, mine in self.keepers:
            assert set(keeper.ends) <= set(mine)
            untold += len(mine) - len(keeper.ends)
        assert untold <= (stats.spooled if self.over else stats.pending)


ReceiptMachine.TestCase.settings = settings(
    max_examples=80, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestReceiptMachine = ReceiptMachine.TestCase


def test_the_books_say_blocked() -> None:
    """`blocked` is part of what a health page reads, and empty in a new lane."""
    assert DeliveryStats().blocked == ""


@pytest.mark.row(53)
def test_the_books_tell_what_is_kept_from_what_is_lost() -> None:
    """Refused for good: a dead letter where somebody keeps a copy, lost where nobody does, and never both."""
    bench, keeper = Bench(wire="v1"), Keeper()
    results = {event(number).uuid: {"result": "drop"} for number in range(3)}
    bench.answers = [Response(200, JSON, json.dumps({"results": results}).encode())]
    bench.engine.submit([event(0), event(1)], keeper)
    bench.engine.submit([event(2)])
    bench.engine.submit([event(3, uuid="")], keeper)
    bench.run(5)
    stats = bench.engine.stats()
    assert stats.dead_lettered == {LossReason.DROPPED_BY_SERVER: 2, LossReason.REJECTED: 1}
    assert stats.lost == {LossReason.DROPPED_BY_SERVER: 1}
    assert stats.balanced
