"""What costs money: a reload in the middle of a record, a decision that no queue holds, names without end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, Secret
from otel_posthog.convert import Converter, layout
from otel_posthog.delivery.build import build_senders
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.emulator import Emulator
from otel_posthog.gateway.dead_letters.letters import read_letters
from otel_posthog.gateway.inbound import OK, PROTOBUF, Answer, AnswerKind
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import EVERYTHING, WantedItems
from otel_posthog.model import Notice
from otel_posthog.rules.engine import RuleSet
from tests.fixtures.gateway_intake import FixedProject, Rig, merged, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


def blocked(rig: Rig, intake: Any, name: str, count: int) -> bool:
    """Whether so many records wait for a project."""
    return until(lambda: intake.status().blocked == {name: count})


def test_a_reload_that_wants_less_skips_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a record is handed out, then a reload makes fewer items worth reading: the other part is still sent."""
    rig.delivery.capacity, rig.delivery.automatic = 5, False
    monkeypatch.setattr(rig.projects, "wanted", everything)
    intake = rig.start()
    assert send(intake, merged(spans(1_000, 300, tagged=False), spans(0, 200))).answer() == OK
    assert blocked(rig, intake, "default", 1)
    monkeypatch.undo()
    read_again(intake)
    rig.delivery.capacity, rig.delivery.automatic = 1_000, True
    rig.delivery.settle()
    assert until(lambda: intake.status().waiting_records == 0)
    assert people(rig.delivery.delivered) == list(range(200))


def test_a_reload_that_routes_otherwise_skips_nothing(rig: Rig) -> None:
    """A part of a record is handed out, then its resources belong to others: what had begun is ended as it began."""
    rig.projects.projects.clear()
    one, two = rig.project("one", capacity=5), rig.project("two")
    one.automatic = False
    intake = rig.start()
    body = merged(spans(0, 300, team="one"), spans(300, 300, team="two"), spans(600, 300, team="one"))
    assert send(intake, body).answer() == OK
    assert blocked(rig, intake, "one", 1)
    first, second = rig.projects.projects

    def route(caller: str, resource: Any) -> Any:
        return second if resource.get("team") == "one" else first

    rig.projects.route = route  # type: ignore[method-assign]
    read_again(intake)
    one.capacity, one.automatic = 1_000, True
    one.settle()
    assert until(lambda: intake.status().waiting_records == 0)
    assert people(one.delivered) == [*range(300), *range(600, 900)]
    assert people(two.delivered) == list(range(300, 600))


def test_a_project_that_got_another_name_loses_nothing(rig: Rig) -> None:
    """A backlog of a project that a reload takes out goes where the new configuration says, as after a restart."""
    rig.projects.projects.clear()
    old = rig.project("old", capacity=0)
    rig.project("other")
    intake = rig.start()
    for number in range(20):
        assert send(intake, spans(10 * number, 10, team="old")).answer() == OK
    assert blocked(rig, intake, "old", 20)
    new = rig.project("new")
    new_project = rig.projects.projects.pop()
    rig.projects.projects[0] = new_project
    other = type(rig.projects).route

    def route(caller: str, resource: Any) -> Any:
        return new_project if resource.get("team") == "old" else other(rig.projects, caller, resource)

    rig.projects.route = route  # type: ignore[method-assign]
    intake.redeliver("old")
    assert until(lambda: intake.status().waiting_records == 0)
    assert old.delivered == []
    assert people(new.delivered) == list(range(200))
    assert list(read_letters(rig.folder, OsFiles())) == []


@pytest.mark.parametrize("senders", [1, 3])
def test_a_decision_larger_than_the_queue_holds_up_nobody(rig: Rig, senders: int) -> None:
    """One item that becomes more events than a queue may hold goes out alone; it would block its project for good."""
    with Emulator() as posthog:
        lane = Lane(Mode.DIRECT, posthog.url, Secret("phc_attack"))
        config = DeliveryConfig(queue_size=2, flush_interval=0.01)
        delivery = build_senders(lane, config, senders, guard=raise_it)
        rig.projects.projects[:] = [FixedProject("default", delivery)]
        intake = rig.start()
        try:
            assert send(intake, tagged([f"name {number}" for number in range(5)])).answer() == OK
            assert send(intake, spans(10, 3, event="behind")).answer() == OK
            assert until(lambda: intake.status().waiting_records == 0), intake.status()
            assert intake.stop(60)
        finally:
            delivery.shutdown(5)
        names = Counter(event["event"] for event in posthog.events())
    assert names == {**{f"name {number}": 1 for number in range(5)}, "behind": 3}


def raise_it(where: str, error: BaseException) -> None:
    """Nothing of ours may fail here."""
    raise error


def test_names_without_end() -> None:
    """One item names a hundred thousand events: the first hundred are made, and that is said; nobody waits for it."""
    (signal,) = prepare("traces", PROTOBUF, tagged([f"n{number}" for number in range(100_000)]), EVERYTHING).signals()
    decision = Converter(ConvertConfig(), RuleSet()).convert(signal)
    assert [event.event for event in decision.events] == [f"n{number}" for number in range(100)]
    assert decision.notices == (Notice.CUT_NAME,)


def test_the_layout_of_a_large_owner_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A span with two thousand attributes and a hundred exceptions: its keys are looked through once, not a hundred
    times.
    """
    made: list[int] = []
    before = layout.Layout.__init__

    def count(self: layout.Layout, keys: tuple[str, ...]) -> None:
        made.append(len(keys))
        before(self, keys)

    monkeypatch.setattr(layout.Layout, "__init__", count)
    request = ExportTraceServiceRequest.FromString(tagged(["order placed"]))
    (span,) = request.resource_spans[0].scope_spans[0].spans
    for number in range(2_000):
        pair = span.attributes.add()
        pair.key, pair.value.string_value = f"a rather long key that nobody ever asks for {number}", "x"
    for _ in range(100):
        event = span.events.add()
        event.name = "exception"
        pair = event.attributes.add()
        pair.key, pair.value.string_value = "exception.type", "Boom"
    converter = Converter(ConvertConfig(), RuleSet())
    signals = list(prepare("traces", PROTOBUF, request.SerializeToString(), EVERYTHING).signals())
    assert sum(len(converter.convert(signal).events) for signal in signals) == 101
    assert [size for size in made if size > 1_000] == [2_002]


def test_forward_does_not_thank_for_what_made_us_fail(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a disk for dead letters nothing is left of it: its caller keeps it, and may come again."""
    monkeypatch.setattr("otel_posthog.gateway.processing.hand_out._FAILURE_PAUSE", 0.001)
    failing = True

    def faulty(*args: Any) -> Prepared:
        found = prepare(*args)

        def signals() -> Any:
            if failing:
                raise RuntimeError("a bug")
            return found.signals()

        return replace(found, signals=signals)  # type: ignore[type-var]

    rig.folder = ""
    intake = rig.start(mode="forward", prepare=faulty)
    assert send(intake, spans(0, 3)).answer().kind is AnswerKind.RETRY
    failing = False
    assert send(intake, spans(0, 3)).answer() == OK
    assert people(rig.delivery.delivered) == [0, 1, 2]


def test_forward_names_what_belongs_to_nobody(rig: Rig) -> None:
    """Without a disk for dead letters the caller is the only one who can know."""
    rig.projects.projects.clear()
    rig.project("one")
    rig.project("two")
    rig.folder = ""
    intake = rig.start(mode="forward")
    answer = send(intake, merged(spans(0, 2, team="one"), spans(2, 3, team="nobody"))).answer()
    assert answer == Answer(AnswerKind.OK, message="3 items belong to no project")


def test_a_fault_at_the_disk_leaves_no_debt(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for a write: the caller hears of it at once, and what it held of the memory in flight is free again."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")

    class Short(OsFiles):
        """A disk with one write for which there is no memory."""

        failures = 1

        def append(self, handle: int, data: bytes) -> None:
            if self.failures:
                self.failures -= 1
                raise MemoryError
            super().append(handle, data)

    intake = rig.start(files=Short())
    assert send(intake, spans(0)).answer(5).kind is AnswerKind.RETRY
    assert intake.status().inflight_bytes == 0
    assert send(intake, spans(0)).answer() == OK
    assert until(lambda: people(rig.delivery.delivered) == [0])


def tagged(names: list[str]) -> bytes:
    """A request with one span that names these events."""
    request = ExportTraceServiceRequest.FromString(spans(0))
    (span,) = request.resource_spans[0].scope_spans[0].spans
    (event,) = (pair for pair in span.attributes if pair.key == "posthog.event")
    for name in names:
        event.value.array_value.values.add().string_value = name
    return request.SerializeToString()


def everything(caller: str) -> WantedItems:
    """As a record of other rules is read, or with a rule that names nothing: all of it."""
    return EVERYTHING


def read_again(intake: GatewayIntake) -> None:
    """What is at hand of waiting records is let go, as when another one came first: the rest is read from disk."""
    for waiting in intake._processing._hand_out.portions._waiting.values():  # pyright: ignore[reportPrivateUsage]
        for portion in waiting:
            portion.stream = None
