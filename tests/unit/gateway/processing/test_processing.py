"""The processing: every record comes to its end, whatever the projects, the data or we ourselves do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.errors import SignalError
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letters import Kept, read_letters
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind, Inbound
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.model import LossReason
from tests.fixtures.gateway_intake import FixedProjects, Rig, Waiter, inbound, merged, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


def letters(rig: Rig) -> list[Letter]:
    """The dead letters of the rig's spool."""
    return [kept.letter for kept in kept_letters(rig) if kept.letter is not None]


def kept_letters(rig: Rig) -> list[Kept]:
    """The same with their ids."""
    return list(read_letters(rig.folder, OsFiles()))


def idle(intake: GatewayIntake) -> bool:
    """Whether nothing is left to do, on disk neither."""
    return until(lambda: intake.status().waiting_records == 0)


def test_a_queue_without_room_is_waited_for(rig: Rig) -> None:
    """Far more events than delivery has room for: all of them go out, each once, in order."""
    rig.delivery.capacity = 7
    rig.delivery.automatic = False
    intake = rig.start()
    for number in range(20):
        assert send(intake, spans(10 * number, 10)).answer() == OK
    while len(rig.delivery.delivered) < 200:
        assert until(lambda: rig.delivery.pending)
        rig.delivery.settle(5)
    assert people(rig.delivery.delivered) == list(range(200))
    assert idle(intake)


def test_a_project_that_takes_nothing_holds_up_nobody_else(rig: Rig) -> None:
    """One revoked key: the others' events go out, those of mixed requests too, and its own when it is mended."""
    rig.projects.projects.clear()
    sick, well = rig.project("sick", capacity=3), rig.project("well")
    sick.automatic = False
    intake = rig.start(waiting_bytes=20_000)
    for number in range(100):
        body = merged(spans(20 * number, 10, team="sick"), spans(20 * number + 10, 10, team="well"))
        assert send(intake, body).answer() == OK
    assert until(lambda: len(well.delivered) == 1_000)
    assert len(sick.submitted) == 3
    assert intake.status().blocked == {"sick": 100}
    sick.capacity, sick.automatic = 1_000_000, True
    sick.settle()
    assert until(lambda: len(sick.delivered) == 1_000)
    assert people(sick.delivered) == [20 * number + each for number in range(100) for each in range(10)]
    assert idle(intake)
    assert intake.stop(60)
    assert list(Path(rig.folder).rglob("*.log")) == []


def test_more_than_memory_holds_waits_on_disk(rig: Rig) -> None:
    """With room for a few requests in memory the others are read back from disk, and none is missing."""
    rig.delivery.automatic = False
    rig.delivery.capacity = 50
    intake = rig.start(waiting_bytes=8_000)
    for number in range(300):
        assert send(intake, spans(number, 1, size=200)).answer() == OK
    assert intake.status().waiting_bytes < 20_000
    rig.delivery.capacity, rig.delivery.automatic = 1_000_000, True
    rig.delivery.settle()
    assert until(lambda: len(rig.delivery.delivered) == 300)
    assert sorted(people(rig.delivery.delivered)) == list(range(300))
    assert idle(intake)
    assert intake.stop(60)


def test_what_posthog_refuses_is_kept_with_its_reason_and_its_source(rig: Rig) -> None:
    """One event of a request is refused: it is a dead letter with the very item it was made from; the rest is done."""
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    intake = rig.start()
    body = merged(spans(0, 3), spans(3, 1, event="bad"), spans(4, 3))
    assert send(intake, body, compress=True).answer() == OK
    assert until(lambda: intake.status().dead_letters == {"rejected": 1})
    assert idle(intake)
    (letter,) = letters(rig)
    assert letter.event == rig.delivery.failed[0]
    assert (letter.reason, letter.note, letter.project) == ("rejected", "no such thing", "default")
    assert letter.source is not None
    (signal,) = prepare("traces", letter.source.media_type, letter.source.body, rig.projects.wanted("")).signals()  # type: ignore[arg-type]
    assert (signal.name, signal.resource.attributes) == ("span 3", {"service.name": "shop"})
    assert rig.books.count("dead_letters", reason="rejected") == 1


def test_items_of_no_project_are_dead_letters(rig: Rig) -> None:
    """A resource that the configuration does not know: counted and kept as it came, the neighbours are delivered."""
    rig.projects.projects.clear()
    ours, _ = rig.project("ours"), rig.project("theirs")
    intake = rig.start()
    body = merged(spans(0, 2, team="ours"), spans(2, 3, team="nobody"))
    assert send(intake, body).answer() == OK
    assert until(lambda: intake.status().dead_letters == {"unrouted": 1})
    assert people(ours.delivered) == [0, 1]
    (letter,) = letters(rig)
    assert (letter.note, letter.event) == ("3 items belong to no project", None)
    assert letter.source is not None
    assert idle(intake)


class Faulty:
    """`Prepare` that fails when a span has a certain name, from the second look on."""

    def __init__(self, name: bytes, failures: int, error: Exception) -> None:
        self.name = name
        self.failures = failures
        self.error = error
        self.seen = 0

    def __call__(self, *args: Any) -> Any:
        """Fails where it should."""
        found = prepare(*args)
        if self.name not in args[2]:
            return found

        def signals() -> Any:
            self.seen += 1
            if self.seen <= self.failures:
                raise self.error
            return found.signals()

        return type(found)(
            found.received, found.skipped, found.rejected, found.messages, found.candidates, found.size, signals
        )


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No half seconds between attempts."""
    monkeypatch.setattr("otel_posthog.gateway.processing.hand_out._FAILURE_PAUSE", 0.001)


def test_a_record_that_makes_us_fail_is_tried_again(rig: Rig, quick_retries: None) -> None:
    """A fault that passes costs nothing."""
    intake = rig.start(prepare=Faulty(b"span 5", 4, RuntimeError("a bug")))
    for number in range(8):
        assert send(intake, spans(number)).answer() == OK
    assert until(lambda: len(rig.delivery.delivered) == 8)
    assert sorted(people(rig.delivery.delivered)) == list(range(8))
    assert rig.books.count("processing_failures") == 4
    assert letters(rig) == []


@pytest.mark.parametrize(
    ("error", "reason", "attempts"),
    [
        (RuntimeError("a bug with ada@example.com in it"), "failed", 5),
        (SignalError("nobody can read it"), "unreadable", 0),
    ],
)
def test_a_record_that_always_makes_us_fail_is_a_dead_letter(
    rig: Rig, quick_retries: None, error: Exception, reason: str, attempts: int
) -> None:
    """After a few attempts it is put aside with the reason, whole; its neighbours never notice."""
    intake = rig.start(prepare=Faulty(b"span 5", 1_000, error))
    for number in range(8):
        assert send(intake, spans(number)).answer() == OK
    assert until(lambda: intake.status().dead_letters == {reason: 1})
    assert until(lambda: len(rig.delivery.delivered) == 7)
    assert sorted(people(rig.delivery.delivered)) == [0, 1, 2, 3, 4, 6, 7]
    assert rig.books.count("processing_failures") == attempts
    (letter,) = letters(rig)
    assert letter.source is not None
    assert "ada@example.com" not in letter.note
    assert idle(intake)
    assert intake.stop(60)


def test_a_record_that_kills_us_is_put_aside_after_a_few_lives(rig: Rig) -> None:
    """The process dies each time it converts this record: after five deaths it is a dead letter, not a sixth."""
    rig.delivery.automatic = False
    first = rig.start()
    assert send(first, spans(0)).answer() == OK
    assert until(lambda: rig.delivery.pending)
    first.stop(0.0)
    rig.projects.projects[0].bridge.shutdown(0)
    folder = Path(rig.folder) / "0"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    rig.delivery.automatic = True
    rig.delivery.pending.clear()
    rig.delivery.submitted.clear()

    from otel_posthog.gateway.journal.strikes import Strikes

    ends = Strikes.end
    for life in range(5):
        # A life that dies in the middle: what it noted stays, what it delivered or finished does not count.
        Strikes.end = lambda self, place: None  # type: ignore[method-assign]
        try:
            intake = rig.start()
            assert until(lambda life=life: len(rig.delivery.delivered) == life + 1)
            note = (folder / "trying").read_bytes()
            intake.stop(5)
        finally:
            Strikes.end = ends  # type: ignore[method-assign]
        folder.mkdir(exist_ok=True)
        for name, content in {**kept, "trying": note}.items():
            (folder / name).write_bytes(content)
        (folder / "cursor").unlink(missing_ok=True)
    intake = rig.start()
    assert until(lambda: intake.status().dead_letters == {"crashed": 1})
    assert len(rig.delivery.delivered) == 5
    (letter,) = letters(rig)
    assert letter.note == "5 lives ended while it was being converted"
    assert idle(intake)


def test_a_replaced_delivery_loses_nothing(rig: Rig) -> None:
    """A new key means a new delivery: what the old one had not got rid of is handed out once more."""
    project = rig.projects.projects[0]
    old = rig.delivery
    old.automatic = False
    intake = rig.start()
    for number in range(5):
        assert send(intake, spans(10 * number, 10)).answer() == OK
    assert until(lambda: len(old.pending) == 50)
    old.settle(12)
    new = Rig(rig.folder).delivery
    project.bridge.replace(project.bridge.converter, new)
    new.automatic = False
    assert send(intake, spans(50, 5)).answer() == OK
    assert until(lambda: len(new.pending) == 5)
    intake.redeliver("default")
    assert until(lambda: len(new.pending) == 5 + 40)
    assert [number for number in people(new.submitted) if number >= 50] == list(range(50, 55))
    new.settle()
    assert {event.uuid for event in new.delivered} | {event.uuid for event in old.delivered} == {
        event.uuid for event in [*old.submitted, *new.submitted]
    }
    assert idle(intake)
    old.settle()  # too late: nobody waits for it
    assert intake.stop(60)


def test_a_stop_leaves_in_the_spool_what_has_not_ended(rig: Rig) -> None:
    """Stopped while PostHog is away: it says that something is left, and the next life has it."""
    rig.delivery.capacity = 0
    intake = rig.start()
    for number in range(30):
        assert send(intake, spans(number)).answer() == OK
    assert not intake.stop(0.2)
    rig.delivery.capacity = 1_000_000
    again = rig.start()
    assert until(lambda: len(rig.delivery.delivered) == 30)
    assert again.stop(60)
    assert sorted(people(rig.delivery.delivered)) == list(range(30))


class Forwarded:
    """A rig that forwards."""

    def __init__(self, rig: Rig, **changes: Any) -> None:
        self.rig = rig
        self.intake = rig.start(mode="forward", **changes)

    def send(self, body: bytes) -> Waiter:
        """Hands a request over."""
        return send(self.intake, body)


def test_forward_answers_after_the_verdict(rig: Rig) -> None:
    """No answer before PostHog's; then OK; nothing is on disk."""
    rig.delivery.automatic = False
    forwarded = Forwarded(rig)
    waiter = forwarded.send(spans(0, 3))
    assert until(lambda: len(rig.delivery.pending) == 3)
    rig.delivery.settle(2)
    assert not waiter.answered
    rig.delivery.settle()
    assert waiter.answer() == OK
    assert list(Path(rig.folder).rglob("*.log")) == []


@pytest.mark.row(2)
def test_forward_says_come_again_where_posthog_is_away(rig: Rig) -> None:
    """After the timeout the caller is told to retry; its retry, once PostHog is back, is the same events."""
    rig.delivery.capacity = 0
    forwarded = Forwarded(rig, forward_timeout=0.05)
    waiters = [forwarded.send(spans(number, 2)) for number in (0, 2, 4)]
    assert {waiter.answer() for waiter in waiters} == {
        Answer(AnswerKind.RETRY, message="PostHog has not answered yet", retry_after=5)
    }
    status = forwarded.intake.status()
    assert (status.waiting_bytes, status.inflight_bytes) == (0, 0)
    rig.delivery.capacity = 1_000_000
    retries = [forwarded.send(spans(number, 2)) for number in (0, 2, 4)]
    assert [waiter.answer() for waiter in retries] == [OK, OK, OK]
    assert set(people(rig.delivery.delivered)) == set(range(6))
    assert len({event.uuid for event in rig.delivery.delivered}) == 6


def test_a_retry_waits_for_its_first_attempt(rig: Rig) -> None:
    """PostHog is slow and the first answer is RETRY: the same bytes again wait for the same events, none is doubled."""
    rig.delivery.automatic = False
    forwarded = Forwarded(rig, forward_timeout=0.05)
    assert forwarded.send(spans(0, 3)).answer().kind is AnswerKind.RETRY
    forwarded.intake._processing.forwarding._timeout = 20.0
    retry = forwarded.send(spans(0, 3))
    assert not retry.answered
    rig.delivery.settle()
    assert retry.answer() == OK
    assert people(rig.delivery.submitted) == [0, 1, 2]
    assert idle(forwarded.intake)


def test_retries_are_attached_while_events_are_on_their_way(rig: Rig) -> None:
    """However often the caller comes again, its events are submitted once."""
    rig.delivery.automatic = False
    forwarded = Forwarded(rig)
    waiters = [forwarded.send(spans(0, 3)) for _ in range(5)]
    assert until(lambda: len(rig.delivery.pending) == 3)
    rig.delivery.settle()
    assert [waiter.answer() for waiter in waiters] == [OK] * 5
    assert people(rig.delivery.submitted) == [0, 1, 2]
    rig.delivery.automatic = True
    assert forwarded.send(spans(0, 3)).answer() == OK  # a later one is another attempt
    assert len(rig.delivery.submitted) == 6


def test_forward_without_a_disk_still_forwards(rig: Rig) -> None:
    """A folder that cannot be had costs the dead letters, and is no reason not to start."""
    Path(rig.folder).write_text("not a folder")
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    intake = rig.start(mode="forward")
    assert send(intake, spans(0, 2)).answer() == OK
    assert send(intake, spans(2, 1, event="bad")).answer().kind is AnswerKind.OK
    assert rig.books.count("dead_letters_not_kept", reason="rejected") == 1


def test_forward_delivers_what_was_spooled_before(rig: Rig) -> None:
    """After a change from `spool` to `forward` nothing that was acknowledged is left behind."""
    rig.delivery.capacity = 0
    intake = rig.start()
    assert send(intake, spans(0, 5)).answer() == OK
    intake.stop(0.0)
    rig.delivery.capacity = 1_000
    intake = rig.start(mode="forward")
    assert until(lambda: people(rig.delivery.delivered) == list(range(5)))


def test_forward_names_what_posthog_refused(rig: Rig) -> None:
    """A final verdict is no reason to send again: OK with a message, and a dead letter."""
    rig.delivery.lost = {"bad": LossReason.DROPPED_BY_SERVER}
    forwarded = Forwarded(rig)
    answer = forwarded.send(merged(spans(0, 2), spans(2, 1, event="bad"))).answer()
    assert answer == Answer(AnswerKind.OK, message="PostHog refused 1 events for good")
    assert until(lambda: [letter.reason for letter in letters(rig)] == ["dropped_by_server"])


def test_forward_needs_no_disk() -> None:
    """Without a folder there is no journal and there are no dead letters; what is lost is counted."""
    rig = Rig("")
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    intake = rig.start(mode="forward")
    assert send(intake, spans(0, 2)).answer() == OK
    assert send(intake, spans(2, 1, event="bad")).answer().kind is AnswerKind.OK
    assert rig.books.count("dead_letters_not_kept", reason="rejected") == 1
    assert intake.status().mode == "forward"
    assert intake.stop(60)


def test_rubbish_within_a_request_is_told_and_kept(rig: Rig) -> None:
    """One span that nobody can read: the others are delivered, it is counted exactly, and its bytes are kept."""
    body = spans(0, 3)
    broken = body.replace(b"span 1", b"\xff\xfe\xff\xfe\xff\xfe")
    assert broken != body
    intake = rig.start()
    answer = send(intake, broken).answer()
    assert answer.kind is AnswerKind.OK
    found = prepare("traces", "application/x-protobuf", broken, rig.projects.wanted(""))  # type: ignore[arg-type]
    assert answer.rejected == found.rejected
    assert until(lambda: len(rig.delivery.delivered) == 3 - found.rejected)


def test_json_goes_the_same_way(rig: Rig) -> None:
    """A request in JSON becomes the same events, and one that is refused the same kind of letter."""
    span = {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "checkout",
        "endTimeUnixNano": "1763600000000000000",
        "attributes": [
            {"key": "posthog.event", "value": {"stringValue": "bad"}},
            {"key": "posthog.distinct_id", "value": {"stringValue": "person-1"}},
        ],
    }
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, {**span, "spanId": "e" * 16}]}]}]}).encode()
    intake = rig.start()
    waiter = Waiter()
    intake.receive(Inbound("traces", "application/json", body), waiter)
    assert waiter.answer() == OK
    assert until(lambda: intake.status().dead_letters == {"rejected": 2})
    sources = {letter.source.body for letter in letters(rig) if letter.source is not None}
    assert [len(json.loads(source)["resourceSpans"][0]["scopeSpans"][0]["spans"]) for source in sources] == [1, 1]


def test_every_answer_comes_once_whatever_the_receiver_does(rig: Rig) -> None:
    """A receiver whose connection is gone raises: that is its affair."""
    rig.projects = FixedProjects(rig.projects.projects[0])
    intake = rig.start()
    seen: list[Answer] = []

    def gone(answer: Answer) -> None:
        seen.append(answer)

    intake.receive(inbound(spans(0)), gone)
    assert until(lambda: len(rig.delivery.delivered) == 1)
    assert seen == [OK]


class Pinning(FixedProjects):
    """Remembers by which rules it was asked to convert."""

    asked: list[str]

    def pinned(self, project: Any, digest: str) -> Any:
        """The one of today, noted."""
        self.asked.append(digest)
        return project.bridge


def test_a_record_is_converted_by_the_rules_that_it_came_with(rig: Rig) -> None:
    """Spooled under one set of rules, even under none, and converted after a reload: by those of then."""
    rig.projects = Pinning(*rig.projects.projects)
    rig.projects.asked = []
    rig.delivery.capacity = 0
    intake = rig.start()
    assert send(intake, spans(0, 2)).answer() == OK
    intake.stop(0.0)
    came_with = rig.projects.projects[0].digest
    rig.projects.asked.clear()
    rig.delivery.capacity = 1_000
    intake = rig.start()
    assert until(lambda: len(rig.delivery.delivered) == 2)
    assert set(rig.projects.asked) == {came_with} == {""}
