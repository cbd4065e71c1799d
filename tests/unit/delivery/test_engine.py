"""Queue, batcher and retries in every order: the engine stepped by hand, with a clock that stands still."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.backoff import MAX_RETRY_AFTER, Backoff
from otel_posthog.delivery.encoding import dumps
from otel_posthog.delivery.engine import IDLE
from otel_posthog.delivery.journaling import ADOPT_INTERVAL
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.spool import Spool
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.delivery.weight import weigh
from otel_posthog.errors import PermanentError, RetryableError
from otel_posthog.model import CaptureEvent, LossReason
from tests.unit.delivery.loopback import DAY, event
from tests.unit.delivery.stepped import CONFIG, JSON, Bench


def test_a_part_filled_batch_leaves_with_age() -> None:
    """Nothing leaves before the interval, everything after it."""
    bench = Bench()
    assert bench.engine.submit([event(1), event(2)])
    assert bench.run(0.9) == pytest.approx(1.0, abs=0.2)
    assert bench.batches == []
    bench.run(0.2)
    assert bench.batches == [[event(1).uuid, event(2).uuid]]
    assert bench.engine.step() == IDLE


def test_an_idle_process_with_a_spool_looks_for_the_dead_once_a_minute(tmp_path: Path) -> None:
    """A worker that was killed beside a quiet one: the quiet one wakes up for it."""
    bench = Bench(journal=Spool(str(tmp_path), OsFiles(), max_bytes=100_000, now_ns=lambda: 0))
    assert bench.engine.step() == ADOPT_INTERVAL


def test_a_full_batch_leaves_at_once() -> None:
    """Ten of ten are due; the eleventh waits."""
    bench = Bench()
    bench.engine.submit([event(number) for number in range(11)])
    bench.run()
    assert [len(batch) for batch in bench.batches] == [10]
    bench.run(1.1)
    assert [len(batch) for batch in bench.batches] == [10, 1]


def test_a_queue_smaller_than_a_batch_leaves_half_full() -> None:
    """With the server at hand no event may be refused because a batch waits for its age."""
    bench = Bench(config=replace(CONFIG, queue_size=6))
    for number in range(3):
        bench.engine.wake.clear()
        bench.engine.submit([event(number)])
    assert bench.engine.wake.is_set()
    bench.run()
    assert [len(batch) for batch in bench.batches] == [3]


def test_bytes_fill_a_batch_too() -> None:
    """Few and large: what fills a batch leaves at once, since the queue's bytes are bounded as well."""
    bench = Bench()
    bench.engine.submit([event(number, properties={"x": "y" * 1_500}) for number in range(2)])
    bench.engine.wake.clear()
    bench.engine.submit([event(2, properties={"x": "y" * 1_500})])
    assert bench.engine.wake.is_set()
    bench.run()
    assert bench.engine.stats().delivered == 2


def test_bytes_bound_a_batch() -> None:
    """A batch ends before it grows too large; an event larger than a batch goes alone."""
    bench = Bench()
    sizes = [1_500, 1_500, 1_500, 6_000, 100]
    bench.engine.submit([event(number, properties={"x": "y" * size}) for number, size in enumerate(sizes)])
    bench.run(2)
    assert [len(batch) for batch in bench.batches] == [2, 1, 1, 1]


def test_one_uuid_per_batch() -> None:
    """A second event of the same uuid waits for the next batch: v1 refuses a batch with both."""
    bench = Bench(wire="v1")
    twin = event(1, distinct_id="other")
    upper = event(1, uuid=event(1).uuid.upper(), distinct_id="third")
    bench.engine.submit([event(1), twin, event(2), upper])
    bench.run(2)
    lowered = [[uid.lower() for uid in batch] for batch in bench.batches]
    assert lowered == [[event(1).uuid, event(2).uuid], [event(1).uuid], [event(1).uuid]]
    assert bench.engine.stats().delivered == 4


def test_all_or_none() -> None:
    """What does not fit is refused whole, and nothing of it is taken."""
    bench = Bench()
    assert bench.engine.submit([event(number) for number in range(55)])
    assert not bench.engine.submit([event(number) for number in range(100, 106)])
    assert bench.engine.submit([event(number) for number in range(100, 105)])
    assert bench.engine.stats().captured == 60


def test_bytes_bound_the_queue() -> None:
    """Few large events fill it as well."""
    bench = Bench()
    big = {"x": "y" * 14_000}
    assert bench.engine.submit([event(1, properties=big)])
    assert bench.engine.submit([event(2, properties=big)])
    assert not bench.engine.submit([event(3, properties=big)])
    assert bench.engine.submit([event(4)])


@pytest.mark.parametrize("wire", ["v0", "v1"])
def test_a_retry_is_the_same_request(wire: str) -> None:
    """Events, request id and creation time stay; attempt and request time do not."""
    bench = Bench(wire=wire)
    bench.answers = [Response(503, {}, b"")]
    bench.engine.submit([event(1)])
    bench.run(30)
    first, second = bench.transport.requests
    body = json.loads(first.body), json.loads(second.body)
    assert body[0]["batch"] == body[1]["batch"]
    if wire == "v0":
        assert body[0]["sent_at"] != body[1]["sent_at"]
    else:
        assert first.body == second.body
        assert first.headers["PostHog-Request-Id"] == second.headers["PostHog-Request-Id"]
        assert first.headers["PostHog-Request-Timestamp"] != second.headers["PostHog-Request-Timestamp"]


@pytest.mark.row(3)
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7, 7.1),
        ("29.5", 29.5, 29.6),
        ("120", 30, 30.1),
        ("86400", 30, 30.1),
        ("1" + "0" * 300, 30, 30.1),
        (formatdate(DAY / 1e9 + 1_000 + 1 + 12, usegmt=True), 12, 12.1),
        (formatdate(DAY / 1e9 + 1_000 + 86_400, usegmt=True), 30, 30.1),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 30, 30.1),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 1.1),
        ("-5", 0, 1.1),
        ("garbage", 0, 1.1),
    ],
)
def test_retry_after_is_a_floor_and_has_a_cap(header: str, least: float, most: float) -> None:
    """The pause is at least what the server asks for, at most half a minute of that."""
    assert MAX_RETRY_AFTER == 30
    bench = Bench()
    bench.answers = [Response(429, {"retry-after": header}, b"")]
    bench.engine.submit([event(1)])
    bench.run(1.0)
    begun = bench.clock.now
    while len(bench.transport.requests) < 2:
        bench.clock.now += bench.engine.step() or 0.0
    assert least <= bench.clock.now - begun <= most


@pytest.mark.row(3)
def test_a_pause_for_one_event_has_the_same_cap() -> None:
    """`retry` for one event of a batch with a `Retry-After` of a day: it comes again after half a minute."""
    bench = Bench(wire="v1")
    results = {event(1).uuid: {"result": "ok"}, event(2).uuid: {"result": "retry"}}
    bench.answers = [Response(200, {**JSON, "retry-after": "86400"}, json.dumps({"results": results}).encode())]
    bench.engine.submit([event(1), event(2)])
    bench.run(30.9)
    assert len(bench.batches) == 1
    bench.run(0.2)
    assert bench.batches[1:] == [[event(2).uuid]]
    assert bench.engine.stats().delivered == 2


def test_pauses_grow_and_stay_bounded() -> None:
    """Full jitter below a doubling bound; a thousand failures overflow nothing."""
    backoff = Backoff(1.0, 30.0, lambda: 0.999)
    pauses = [backoff.pause(attempt) for attempt in (1, 2, 3, 4, 5, 6, 7, 5000)]
    assert pauses == pytest.approx([0.999, 1.998, 3.996, 7.992, 15.984, 29.97, 29.97, 29.97])
    assert Backoff(1.0, 30.0, lambda: 0.0).pause(9) == 0.0


def test_given_up_after_its_time() -> None:
    """Ten minutes of failures: lost, counted, and the next batch has its own ten minutes."""
    bench = Bench()
    bench.answers = [RetryableError("away")] * 10_000
    bench.engine.submit([event(1)])
    bench.run(700)
    assert bench.engine.stats().lost == {LossReason.RETRIES_EXHAUSTED: 1}
    bench.answers = [RetryableError("away")] * 3
    bench.engine.submit([event(2)])
    bench.run(200)
    assert bench.engine.stats().delivered == 1


@pytest.mark.row(43)
def test_an_outage_costs_little() -> None:
    """An hour without a server: pauses of thirty seconds at the most, some dozens of attempts, not thousands."""
    bench = Bench(config=DeliveryConfig(retry_elapsed=0.0, queue_size=50))
    bench.answers = [RetryableError("away")] * 10_000
    for number in range(1_000):
        bench.engine.submit([event(number)])
    bench.run(3600)
    assert 120 <= len(bench.transport.requests) <= 500
    assert bench.engine.stats().pending == 50


@pytest.mark.row(49)
def test_clock_jumps_change_nothing() -> None:
    """Wall time may jump by hours: pauses are monotonic, event times are their own."""
    bench = Bench()
    bench.answers = [Response(503, {}, b"")]
    bench.engine.submit([event(1)])
    bench.run(1.0)
    bench.clock.time = lambda: 0.0  # type: ignore[method-assign]
    bench.run(30)
    first, second = (json.loads(request.body)["batch"] for request in bench.transport.requests)
    assert first == second


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (event(1, uuid="nonsense"), LossReason.REJECTED),
        (event(1, event=""), LossReason.REJECTED),
        (event(1, properties={"x": object()}), LossReason.ENCODE),
        (event(1, timestamp_ns=-5), LossReason.ENCODE),
        (event(1, properties={"x": "y" * 1_100_000}), LossReason.REJECTED),
    ],
)
def test_an_impossible_event_costs_itself(made: CaptureEvent, reason: LossReason) -> None:
    """Its neighbours leave without it."""
    bench = Bench(config=DeliveryConfig())
    bench.engine.submit([event(5), made, event(6)])
    bench.run(2)
    assert bench.batches == [[event(5).uuid, event(6).uuid]]
    assert bench.engine.stats().lost == {reason: 1}


def test_a_permanent_failure_is_not_repeated() -> None:
    """One attempt, all lost, the next batch goes on."""
    bench = Bench()
    bench.answers = [PermanentError("never")]
    bench.engine.submit([event(number) for number in range(3)])
    bench.run(2)
    bench.engine.submit([event(9)])
    bench.run(2)
    stats = bench.engine.stats()
    assert (stats.lost, stats.delivered, len(bench.transport.requests)) == ({LossReason.REJECTED: 3}, 1, 2)


def test_a_bug_in_the_transport_loses_nothing() -> None:
    """An exception of no known class is told to the guard; the batch is sent again."""
    bench = Bench()
    bench.answers = [ZeroDivisionError("a bug")]
    bench.engine.submit([event(1)])
    with pytest.raises(AssertionError):
        bench.run(2)
    bench.run(60)
    assert bench.engine.stats().delivered == 1


def test_auto_asks_for_v1_again_after_an_hour() -> None:
    """v0 is remembered; a server that was upgraded is found."""
    bench = Bench(wire="auto")
    bench.answers = [Response(404, {}, b"")]
    paths = []
    for hours in (0.0, 0.5, 0.6):
        bench.clock.now += hours * 3600
        bench.engine.submit([event(1)])
        bench.run(2)
        paths = [request.url.removeprefix("http://ph") for request in bench.transport.requests]
    assert paths == ["/i/v1/analytics/events", "/batch/", "/batch/", "/i/v1/analytics/events"]


def test_a_server_that_spoke_v1_is_not_left_for_one_odd_answer() -> None:
    """A proxy's 404 is retried; five in a row are believed."""
    bench = Bench(wire="auto")
    bench.engine.submit([event(1)])
    bench.run(2)
    bench.answers = [Response(404, {}, b"")]
    bench.engine.submit([event(2)])
    bench.run(60)
    assert {request.url for request in bench.transport.requests} == {"http://ph/i/v1/analytics/events"}
    bench.answers = [Response(404, {}, b"")] * 5
    bench.engine.submit([event(3)])
    bench.run(120)
    assert bench.transport.requests[-1].url == "http://ph/batch/"
    assert bench.engine.stats().delivered == 3


def test_weights_are_near_the_truth() -> None:
    """What the queue's bound counts is within a factor of two of the encoded size, for events of any shape."""
    shapes: list[dict[str, Any]] = [
        {},
        {"a": "x" * 5_000},
        {f"key_{number}": number for number in range(50)},
        {"$exception_list": [{"type": "E", "frames": [{"filename": "a.py", "lineno": n} for n in range(50)]}]},
        {"nested": {"a": {"b": {"c": ["d"] * 100}}}},
    ]
    for properties in shapes:
        made = event(1, properties=properties)
        size = len(dumps({"event": made.event, "distinct_id": made.distinct_id, "uuid": made.uuid, "p": properties}))
        assert size / 2 <= weigh(made) <= size * 2


class EngineMachine(RuleBasedStateMachine):
    """Submits, answers, time, flushes and the end, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(wire="auto")
        self.number = 0
        self.taken = 0
        self.over = False

    @rule(count=st.integers(1, 25), twins=st.booleans(), size=st.integers(0, 900))
    def submit(self, count: int, twins: bool, size: int) -> None:
        """Some events, some of one uuid, some impossible ones."""
        events = []
        for _ in range(count):
            self.number += 1
            number = self.number // 2 if twins else self.number
            bad = {"x": object()} if self.number % 17 == 0 else {"x": "y" * size}
            events.append(event(number, properties=bad))
        if self.bench.engine.submit(events):
            assert not self.over
            self.taken += count

    @rule(
        answers=st.lists(
            st.sampled_from(
                [
                    *(Response(code, {}, b"") for code in (200, 204, 301, 400, 401, 402, 404, 408, 413, 429, 500, 503)),
                    Response(503, {"retry-after": "3"}, b""),
                    Response(200, JSON, b'{"results":{}}'),
                    Response(200, JSON, b'{"results'),
                    Response(200, {"content-type": "text/html"}, b"<html>"),
                    RetryableError("away"),
                    PermanentError("never"),
                ]
            ),
            max_size=6,
        )
    )
    def answer(self, answers: list[Any]) -> None:
        """What the server will say next."""
        self.bench.answers.extend(answers)

    @rule(verdicts=st.lists(st.sampled_from(["ok", "warning", "drop", "retry", "odd", None]), min_size=10, max_size=10))
    def verdict(self, verdicts: list[Any]) -> None:
        """The next answer has mixed verdicts."""

        def mixed(request: Request) -> Response:
            made = json.loads(request.body)["batch"]
            results = {one["uuid"]: {"result": result} for one, result in zip(made, verdicts, strict=False)}
            return Response(200, JSON, json.dumps({"results": results}).encode())

        self.bench.answers.append(mixed)

    @rule(seconds=st.floats(0, 700))
    def wait(self, seconds: float) -> None:
        """Time passes, and the driver works."""
        self.bench.run(seconds)

    @rule()
    def flush(self) -> None:
        """A flush settles everything that came before it, once the server is well."""
        engine = self.bench.engine
        epoch = engine.begin_flush()
        for _ in range(50):
            if engine.flushed(epoch):
                break
            self.bench.run(30)
        assert self.over or engine.flushed(epoch) or self.bench.answers
        engine.end_flush()

    @rule(hard=st.booleans())
    def end(self, hard: bool) -> None:
        """Shutdown, with or without time."""
        engine = self.bench.engine
        engine.finishing(self.bench.clock.now + (0 if hard else 5), closed=True)
        self.bench.run(5)
        engine.abandon()
        self.over = True
        assert engine.stats().pending == 0
        assert engine.step() is None

    @invariant()
    def books(self) -> None:
        """Every captured event is in exactly one place, and what is pending is really there."""
        stats = self.bench.engine.stats()
        assert stats.captured == self.taken
        assert stats.balanced
        assert stats.pending == self.bench.engine.held()

    @invariant()
    def batches(self) -> None:
        """No batch has two of one uuid, or more than its limits."""
        for request in self.bench.transport.requests:
            uuids = [made["uuid"] for made in json.loads(request.body)["batch"]]
            assert len(uuids) == len(set(uuids)) <= CONFIG.batch_size
            assert len(request.body) <= CONFIG.batch_bytes or len(uuids) == 1


EngineMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestEngineMachine = EngineMachine.TestCase


class BrokenJournal(Spool):
    """Fails as nobody expects it to."""

    def __init__(self, folder: Path, broken: str) -> None:
        super().__init__(str(folder), OsFiles(), max_bytes=1_000_000, now_ns=lambda: 0)
        self.broken = broken

    def append(self, records: Any) -> Any:
        """Writes, or fails."""
        if self.broken == "append":
            raise RecursionError
        return super().append(records)

    def adopt(self) -> bool:
        """Looks, or fails."""
        if self.broken == "adopt":
            raise KeyError("x")
        return super().adopt()


@pytest.mark.parametrize("broken", ["append", "adopt"])
def test_a_journal_that_fails_in_an_unknown_way_is_no_journal(broken: str, tmp_path: Path) -> None:
    """A bug in the spool must not cost an event: memory holds them, they leave, and it is told."""
    bench = Bench(journal=BrokenJournal(tmp_path, broken))
    told: list[str] = []
    bench.engine._state.parts = replace(
        bench.engine._state.parts, guard=lambda where, error: told.append(f"{where} {error!r}")
    )
    bench.engine.submit([event(number) for number in range(3)])
    bench.run(10.0)
    assert bench.batches == [[event(number).uuid for number in range(3)]]
    stats = bench.engine.stats()
    assert (stats.delivered, stats.pending, bench.engine.held()) == (3, 0, 0)
    assert told


def test_an_encoder_that_fails_in_an_unknown_way_costs_the_event_alone() -> None:
    """Neighbours leave; the books say what became of it."""
    bench = Bench()
    wire = bench.engine._state.wire
    encode_all = wire.encode_all

    def sometimes(events: Sequence[CaptureEvent], *, record: bool) -> Any:
        if event(1) in events:
            raise KeyError("x")
        return encode_all(events, record=record)

    wire.encode_all = sometimes
    wire.encode = lambda made, *, record: sometimes([made], record=record)[0]
    bench.engine.submit([event(number) for number in range(3)])
    bench.run(2.0)
    assert bench.batches == [[event(0).uuid, event(2).uuid]]
    stats = bench.engine.stats()
    assert (stats.delivered, dict(stats.lost), stats.pending) == (2, {LossReason.ENCODE: 1}, 0)
    assert bench.engine.held() == 0


def test_what_cannot_be_loaded_yet_costs_nothing() -> None:
    """An import that fails once (a deployment replaces files): the events wait in the queue."""
    bench = Bench()
    load = bench.engine._state.parts.load
    failing = [ImportError("half-written"), ImportError("half-written")]

    def fragile() -> Any:
        if failing:
            raise failing.pop()
        return load()

    bench.engine._state.parts = replace(bench.engine._state.parts, load=fragile)
    bench.engine.submit([event(number) for number in range(3)])
    bench.clock.now += 5
    for _ in range(2):
        with pytest.raises(ImportError):
            bench.engine.step()
        assert bench.engine.held() == bench.engine.stats().pending == 3
    bench.run(2.0)
    assert bench.engine.stats().delivered == 3
