"""The intake: one request in, one honest answer out, and nothing acknowledged that is not safe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind
from tests.fixtures.gateway_intake import Rig, logs, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


@pytest.mark.parametrize("compress", [False, True])
def test_a_request_is_acknowledged_and_delivered(rig: Rig, compress: bool) -> None:
    """Spans and log records become events; the spool is empty afterwards."""
    intake = rig.start()
    assert send(intake, spans(0, 3), compress=compress).answer() == OK
    assert send(intake, logs(3, 2), kind="logs", compress=compress).answer() == OK
    assert until(lambda: len(rig.delivery.delivered) == 5)
    assert sorted(people(rig.delivery.delivered)) == [0, 1, 2, 3, 4]
    assert until(lambda: intake.status().waiting_records == 0)
    assert intake.stop(60)
    assert list(Path(rig.folder).rglob("*.log")) == []


def test_what_is_acknowledged_is_on_disk(rig: Rig) -> None:
    """PostHog takes nothing: the answer is OK all the same, and the next life delivers, with the same uuids."""
    rig.delivery.automatic = False
    intake = rig.start()
    for number in range(5):
        assert send(intake, spans(10 * number, 10)).answer() == OK
    assert until(lambda: len(rig.delivery.pending) == 50)
    first = {event.uuid for event, _ in rig.delivery.pending}
    assert not intake.stop(0.1)
    rig.delivery.pending.clear()
    rig.delivery.automatic = True
    rig.delivery.submitted.clear()
    again = rig.start()
    assert until(lambda: len(rig.delivery.delivered) == 50)
    assert {event.uuid for event in rig.delivery.delivered} == first
    assert rig.books.count("recovered_records") == 5
    assert again.stop(60)
    rig.projects.projects[0].bridge.shutdown(0)


@pytest.mark.row(17)
def test_a_second_process_is_refused(rig: Rig) -> None:
    """Two gateways never share a folder: the second says so, and which one."""
    rig.start()
    with pytest.raises(ConfigError, match=r"is in use by another process.*Two gateways never share a spool"):
        rig.start()


def test_nothing_wanted_touches_no_disk(rig: Rig) -> None:
    """Untagged telemetry is answered at once and counted, and nothing is written."""
    intake = rig.start()
    assert send(intake, spans(0, 7, tagged=False)).answer() == OK
    assert rig.books.count("intake_items", outcome="skipped") == 7
    assert list(Path(rig.folder).rglob("*.log")) == []


def test_strangers_and_rubbish(rig: Rig) -> None:
    """A caller of no project is forbidden; what is no request at all is bad data; neither is an internal fault."""
    intake = rig.start()
    assert send(intake, spans(0), caller="stranger").answer().kind is AnswerKind.FORBIDDEN
    assert send(intake, b"\xff\xff\xff").answer().kind is AnswerKind.BAD_DATA
    assert send(intake, b"").answer() == OK


def test_too_large_before_and_after_inflation(rig: Rig) -> None:
    """The limit holds for what arrives and for what comes out of it."""
    intake = rig.start(request_bytes=10_000)
    assert send(intake, spans(0, 1, size=11_000)).answer().kind is AnswerKind.TOO_LARGE
    assert send(intake, spans(0, 1, size=11_000), compress=True).answer().kind is AnswerKind.TOO_LARGE
    assert send(intake, spans(0, 1, size=5_000), compress=True).answer() == OK
    assert intake.status().inflight_bytes == 0


def test_after_the_end_everything_is_to_come_again(rig: Rig) -> None:
    """A stopped intake answers RETRY with a pause, and admits nothing."""
    intake = rig.start()
    assert intake.stop(60)
    assert send(intake, spans(0)).answer() == Answer(AnswerKind.RETRY, message="it is shutting down", retry_after=2)
    assert not intake.admits(1)


class Faults:
    """A guard that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def failed(self, where: str, error: BaseException) -> None:
        """Notes it."""
        self.told.append((where, str(error)))


@pytest.mark.row(37)
@pytest.mark.parametrize("size", [10, 200_000], ids=["small", "large"])
@pytest.mark.parametrize(
    ("mode", "stage"),
    [
        *itertools.product(["spool", "forward"], ["_projects.wanted", "_inflate", "_prepare", "_record"]),
        ("spool", "_journal.put"),
        ("forward", "_processing.add"),
    ],
)
def test_a_fault_of_ours_at_any_stage_is_to_come_again(rig: Rig, stage: str, size: int, mode: str) -> None:
    """The caller hears RETRY, once; sent again it is delivered, and no memory stays taken."""
    faults = Faults()
    intake = rig.start(guard=faults, mode=mode)
    owner, _, name = f"intake.{stage}".rpartition(".")
    broken: object = intake
    for part in owner.split(".")[1:]:
        broken = getattr(broken, part)
    body = spans(0, 2, size=size)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broken, name, fail)
        assert send(intake, body, compress=True).answer().kind is AnswerKind.RETRY
        assert until(lambda: faults.told == [("intake", "a bug")])
    assert send(intake, body, compress=True).answer() == OK
    assert until(lambda: sorted(people(rig.delivery.delivered)) == [0, 1])
    assert intake.status().inflight_bytes == 0
