"""Several senders: each person's events in order, all limits and ends together."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_lane, build_senders
from otel_posthog.delivery.lane import LaneDelivery
from otel_posthog.delivery.spread import Spread, lane_of
from otel_posthog.errors import ConfigError
from otel_posthog.model import CaptureEvent, LossReason
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import QUICK, TOKEN, Handler, Seen, Server, Workshop, event, key, raise_it, until

PEOPLE = {number: next(f"p{n}" for n in range(1000) if lane_of(event(0, distinct_id=f"p{n}"), 4) == number)
          for number in range(4)}  # fmt: skip
"""One for each of four lanes."""


def spread(deliver: Workshop, server: Server, *, senders: int = 4, **changes: Any) -> Spread:
    """A delivery by several senders to the scripted server."""
    lane = Lane(Mode.DIRECT, server.url, Secret(TOKEN))
    settings = Settings(enabled=True, lane=lane, delivery=replace(QUICK, **changes))
    made = deliver.build(settings, senders=senders)
    assert isinstance(made, Spread)
    return made


def of(person: str, *numbers: int) -> list[CaptureEvent]:
    """Events of one person."""
    return [event(number, distinct_id=person) for number in numbers]


def test_one_sender_is_a_lane(server: Server, deliver: Workshop) -> None:
    """Nothing is added where nothing is asked for; less than one is a mistake."""
    settings = Settings(enabled=True, lane=Lane(Mode.DIRECT, server.url, Secret(TOKEN)), delivery=QUICK)
    assert isinstance(deliver.build(settings), LaneDelivery)
    with pytest.raises(ConfigError, match="senders"):
        deliver.build(settings, senders=0)


def test_a_person_keeps_to_a_lane() -> None:
    """In every process and version the same one: a restart must not let an event overtake another."""
    people = ("ada", "grace", "ümlaut", "half \ud83e", "")
    assert [lane_of(event(0, distinct_id=who), 4) for who in people] == [0, 3, 0, 3, 0]


def test_a_group_keeps_to_a_lane() -> None:
    """`$groupidentify` goes by its group, whoever sent it: the newer value must come later."""

    def update(who: str, company: str) -> CaptureEvent:
        return event(0, event="$groupidentify", distinct_id=who,
                     properties={"$group_type": "company", "$group_key": company, "$group_set": {}})  # fmt: skip

    assert {lane_of(update(f"p{number}", "acme"), 8) for number in range(50)} == {lane_of(update("x", "acme"), 8)}
    assert len({lane_of(update("x", f"company-{number}"), 8) for number in range(100)}) == 8


def test_each_persons_events_arrive_in_order(server: Server, deliver: Workshop) -> None:
    """Through retries too; every event once, by more than one connection."""
    ports: set[int] = set()
    keep = server.default

    def note(handler: Handler, seen: Seen) -> None:
        ports.add(handler.client_address[1])
        keep(handler, seen)

    server.default = note
    server.script = [loopback.status(503)] * 3
    delivery = spread(deliver, server, batch_size=7)
    events = [event(number, distinct_id=f"user-{number % 11}") for number in range(400)]
    for start in range(0, 400, 16):
        assert delivery.submit(events[start : start + 16])
    assert delivery.flush(30)
    assert server.store == dict.fromkeys(map(key, events), 1)
    assert len(ports) > 1
    order: dict[str, list[str]] = {}
    for seen in server.seen[3:]:
        for made in seen.json["batch"]:
            order.setdefault(made["distinct_id"], []).append(made["uuid"])
    assert all(uuids == sorted(uuids) for uuids in order.values())
    stats = delivery.stats()
    assert (stats.captured, stats.delivered, stats.pending, stats.lost) == (400, 400, 0, {})
    assert stats.retries == 3


def test_several_are_on_their_way_at_a_time(server: Server, deliver: Workshop) -> None:
    """Four requests meet at the server: none gets an answer before all are there."""
    together = threading.Barrier(4, timeout=60)
    keep = server.default

    def meet(handler: Handler, seen: Seen) -> None:
        together.wait()
        keep(handler, seen)

    server.default = meet
    delivery = spread(deliver, server)
    assert delivery.submit([made for number, who in PEOPLE.items() for made in of(who, number)])
    assert delivery.flush(30)
    assert delivery.stats().delivered == 4


def waiting(deliver: Workshop, server: Server, **limits: int) -> Spread:
    """Four lanes whose batches never fill, under limits of their own."""
    lane, config = Lane(Mode.DIRECT, server.url, Secret(TOKEN)), replace(QUICK, flush_interval=60.0)
    made = Spread([build_lane(lane, config, guard=raise_it) for _ in range(4)], **limits)
    deliver.made.append(made)
    return made


def test_the_limits_are_those_of_all_together(server: Server, deliver: Workshop) -> None:
    """All of a submit or none of it, whatever room single lanes have; one busy person may have all of the room."""
    delivery = waiting(deliver, server, queue_size=100, queue_bytes=1_000_000)

    def each(first: int, count: int) -> list[CaptureEvent]:
        return [made for n, who in PEOPLE.items() for made in of(who, *range(first + n * 20, first + n * 20 + count))]

    assert delivery.submit(each(0, 15))
    assert not delivery.submit(each(100, 11))
    assert delivery.stats().captured == 60
    assert delivery.submit(each(200, 10))
    assert (delivery.stats().captured, delivery.stats().pending) == (100, 100)
    assert not delivery.submit(of("one more", 400))
    assert delivery.flush(30)
    assert delivery.submit(of(PEOPLE[0], *range(500, 600)))


def test_a_queue_smaller_than_all_batches_leaves_half_full(server: Server, deliver: Workshop) -> None:
    """With the server at hand no event may be refused because four part-filled batches wait for their age."""
    delivery = spread(deliver, server, queue_size=100, batch_size=1000, flush_interval=60.0)
    events = [event(number, distinct_id=f"p{number}") for number in range(1_000)]
    assert all(until(lambda made=made: delivery.submit([made])) for made in events)
    big = spread(deliver, server, queue_bytes=100_000, batch_bytes=1_000_000, flush_interval=60.0)
    events = [event(number, distinct_id=f"p{number}", properties={"x": "y" * 5_000}) for number in range(100)]
    assert all(until(lambda made=made: big.submit([made])) for made in events)


def test_bytes_are_limited_together(server: Server, deliver: Workshop) -> None:
    """Large events over several lanes are no more than those of one."""
    delivery = waiting(deliver, server, queue_size=1_000, queue_bytes=30_000)
    big = {"x": "y" * 9_000}
    taken = [delivery.submit([replace(event(n, properties=big), distinct_id=who)]) for n, who in PEOPLE.items()]
    assert taken == [True, True, True, False]


def test_all_lanes_end_together(server: Server, deliver: Workshop) -> None:
    """Eight requests hang: a flush and a shutdown take the time of one, and all is accounted for."""
    server.default = loopback.hang
    delivery = spread(deliver, server, senders=8, timeout=60.0)
    assert delivery.submit([event(number) for number in range(64)])
    assert until(lambda: len(server.seen) == 8)
    begun = time.monotonic()
    assert not delivery.flush(1.0)
    assert not delivery.shutdown(1.0)
    assert not delivery.shutdown(1.0)
    assert time.monotonic() - begun < 15
    stats = delivery.stats()
    assert (stats.lost, stats.pending, stats.balanced) == ({LossReason.SHUTDOWN: 64}, 0, True)
    assert not delivery.submit(of("late", 100))


def test_the_exit_is_one_for_all_lanes(server: Server, deliver: Workshop) -> None:
    """The first lane's exit callback hurries all of them to the same moment; the others add nothing to it."""
    server.default = loopback.hang
    delivery = spread(deliver, server, timeout=60.0, exit_timeout=0.3)
    assert delivery.submit([made for number, who in PEOPLE.items() for made in of(who, number)])
    assert until(lambda: len(server.seen) == 4)
    first, *others = delivery.lanes
    first._at_exit()
    deadlines = {lane._engine._state.deadline for lane in others if lane._engine}
    assert deadlines == {first._exit.by}
    for lane in others:
        lane._at_exit()
    assert {lane._exit.by for lane in delivery.lanes} == deadlines


class Keeper:
    """A receipt that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def taken(self, count: int) -> None:
        """Notes."""
        self.told.append(count)

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """Notes."""
        self.told.append((event.uuid, lost))


def test_a_receipt_hears_of_the_whole_first(server: Server, deliver: Workshop) -> None:
    """A quick lane's end must not look like the end of all; a refused submit says nothing."""
    delivery = spread(deliver, server, queue_size=50)
    events = [event(number) for number in range(40)]
    keeper, refused = Keeper(), Keeper()
    assert delivery.submit(events, keeper)
    assert not delivery.submit([event(number) for number in range(100, 151)], refused)
    assert delivery.flush(30)
    assert keeper.told[0] == 40
    assert sorted(keeper.told[1:]) == sorted((made.uuid, None) for made in events)
    assert refused.told == []


def test_what_the_dead_left_leaves_by_one_of_the_lanes(server: Server, deliver: Workshop, tmp_path: Any) -> None:
    """Each lane has a spool of its own; what one process could not send, another does."""
    server.default = loopback.status(503)
    first = spread(deliver, server, spool_dir=str(tmp_path))
    events = [event(number) for number in range(30)]
    assert first.submit(events)
    assert until(lambda: first.stats().retries > 0)
    assert first.shutdown(0.2)
    assert first.stats().spooled == 30
    server.default = loopback.accept
    second = spread(deliver, server, spool_dir=str(tmp_path))
    second.resume()
    assert until(lambda: set(server.store) == set(map(key, events)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_child_has_locks_of_its_own(server: Server, deliver: Workshop) -> None:
    """A fork while another thread submits: the child's submit does not wait for it."""
    delivery = spread(deliver, server)
    with delivery._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if not delivery._lock.locked() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_building_starts_nothing(server: Server) -> None:
    """Eight senders at rest are no thread and no connection."""
    before = set(threading.enumerate())
    lane = Lane(Mode.DIRECT, server.url, Secret(TOKEN))
    delivery = build_senders(lane, QUICK, 8, guard=raise_it)
    assert delivery.flush(1)
    assert delivery.stats().balanced
    assert delivery.shutdown(1)
    assert set(threading.enumerate()) <= before
    assert server.seen == []
