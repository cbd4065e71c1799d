"""Dead letters are bounded, what came first stays, and an operator's wish is followed exactly once."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_posthog.delivery.clock import SystemClock
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letters import Letters, discard, read_letters
from otel_posthog.gateway.inbound import OK, PROTOBUF
from otel_posthog.gateway.journal.record import Record
from otel_posthog.model import LossReason
from otel_posthog.observe import Complaints
from tests.fixtures.gateway_intake import Rig, people, send, spans, until


@pytest.fixture
def books() -> Books:
    """The gateway's numbers."""
    return Books()


@pytest.fixture
def letters(tmp_path: Path, books: Books) -> Iterator[Letters]:
    """The store of worker 0, of 100 kB."""
    made = store(tmp_path, books)
    yield made
    made.close()


def store(folder: Path, books: Books, files: OsFiles | None = None) -> Letters:
    """A store as a new process has it."""
    return Letters(
        str(folder), "0", max_bytes=100_000, files=files or OsFiles(), books=books, clock=SystemClock(),
        complaints=Complaints(),
    )  # fmt: skip


def letter(number: int, reason: str = "rejected", size: int = 1_000) -> Letter:
    """One of about `size` bytes."""
    return Letter(reason, f"number {number}", "shop", number, source=Record("traces", PROTOBUF, b"x" * size))


def notes(folder: Path) -> list[str]:
    """What is kept, in order."""
    return [kept.letter.note for kept in read_letters(str(folder), OsFiles()) if kept.letter is not None]


def test_what_came_first_stays(tmp_path: Path, letters: Letters, books: Books) -> None:
    """A flood of one reason uses half of the store; another reason still has room; nothing old is overwritten."""
    assert all(letters.write([letter(number)]) for number in range(100))
    kept = len(notes(tmp_path))
    assert 35 < kept < 50
    assert notes(tmp_path) == [f"number {number}" for number in range(kept)]
    assert letters.full
    assert books.count("dead_letters", reason="rejected") == kept
    assert books.count("dead_letters_not_kept", reason="rejected") == 100 - kept
    assert letters.write([letter(0, "unrouted")])
    assert letters.counts == {"rejected": kept, "unrouted": 1}
    assert letters.size <= 100_000


def test_a_letter_larger_than_the_store_is_counted(letters: Letters, books: Books) -> None:
    """It can never be kept, and holds up nothing."""
    assert letters.write([letter(0, size=200_000), letter(1)])
    assert books.count("dead_letters_not_kept", reason="rejected") == 1
    assert letters.counts == {"rejected": 1}


def test_a_new_life_knows_what_is_there(tmp_path: Path, letters: Letters, books: Books) -> None:
    """Counts and bounds go on after a restart."""
    letters.write([letter(number) for number in range(60)])
    kept = len(notes(tmp_path))
    letters.close()
    again = store(tmp_path, books)
    again.open()
    assert again.counts == {"rejected": kept}
    again.write([letter(number) for number in range(60)])
    assert again.size <= 100_000
    again.close()


def test_a_second_owner_is_refused(tmp_path: Path, letters: Letters, books: Books) -> None:
    """One folder has one writer; the other one keeps its letters until it may write."""
    letters.open()
    second = store(tmp_path, books)
    assert not second.write([letter(1)])
    letters.close()
    assert second.write([letter(1)])
    second.close()


def test_discarding_makes_room_for_what_comes_next(tmp_path: Path, letters: Letters) -> None:
    """Lines in `discarded` are followed by the owner; a letter that comes later is never taken for a discarded one."""
    letters.write([letter(number) for number in range(40)])
    ids = [kept.id for kept in read_letters(str(tmp_path), OsFiles())]
    discard(str(tmp_path), ids[:20], OsFiles())
    assert notes(tmp_path) == [f"number {number}" for number in range(20, 40)]
    letters.follow()
    assert letters.counts == {"rejected": 20}
    discard(str(tmp_path), ids[20:], OsFiles())
    letters.follow()
    assert (letters.counts, letters.size) == ({}, 0)
    letters.write([letter(number) for number in range(50, 53)])
    assert notes(tmp_path) == ["number 50", "number 51", "number 52"]
    letters.close()


def test_a_crash_between_the_removals_discards_nothing_else(tmp_path: Path, letters: Letters, books: Books) -> None:
    """The segments are gone, the lines are still there: what is written next is not what they mean."""
    letters.write([letter(number) for number in range(3)])
    ids = [kept.id for kept in read_letters(str(tmp_path), OsFiles())]
    letters.close()
    path = tmp_path / "dead" / "0"
    for segment in path.glob("*.log"):
        segment.unlink()
    (path / "discarded").write_text("".join(f"{each.removeprefix('dead/0/')}\n" for each in ids) + "rubbish\n1/\n")
    again = store(tmp_path, books)
    again.write([letter(7)])
    again.follow()
    assert notes(tmp_path) == ["number 7"]
    again.close()


class FullDisk(OsFiles):
    """No room, while the test says so."""

    full = False

    def append(self, handle: int, data: bytes) -> None:
        """See `OsFiles`."""
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(handle, data)


def test_a_letter_that_cannot_be_written_keeps_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk when PostHog refuses an event: the record stays until the letter is written, and then goes."""
    monkeypatch.setattr("otel_posthog.gateway.processing.burial.LETTER_PAUSE", 0.02)
    rig = Rig(str(tmp_path / "spool"))
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    rig.delivery.automatic = False
    files = FullDisk()
    intake = rig.start(files=files)
    assert send(intake, spans(0, 2, event="bad")).answer() == OK
    assert until(lambda: len(rig.delivery.pending) == 2)
    files.full = True
    rig.delivery.settle()
    assert until(lambda: intake.status().waiting_records == 0)
    assert list((Path(rig.folder) / "0").glob("*.log"))
    assert intake.status().dead_letters == {}
    files.full = False
    assert until(lambda: intake.status().dead_letters == {"rejected": 2})
    found = [kept.letter for kept in read_letters(rig.folder, OsFiles()) if kept.letter is not None]
    assert people([each.event for each in found if each.event is not None]) == [0, 1]
    assert intake.stop(60)
    assert list((Path(rig.folder) / "0").glob("*.log")) == []


@pytest.mark.row(41)
def test_no_secret_and_no_key_is_in_any_file(tmp_path: Path) -> None:
    """What a record says of its caller is the name of the credential; the key is in the project's configuration."""
    rig = Rig(str(tmp_path / "spool"))
    rig.delivery.lost = {"bad": LossReason.REJECTED}
    intake = rig.start()
    assert send(intake, spans(0, 2, event="bad"), caller="team-a").answer() == OK
    assert until(lambda: intake.status().dead_letters == {"rejected": 2})
    files = [path for path in Path(rig.folder).rglob("*") if path.is_file()]
    assert any(b"team-a" in path.read_bytes() for path in files)
    assert not any(b"phc_" in path.read_bytes() or b"Bearer" in path.read_bytes() for path in files)
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in Path(rig.folder).rglob("*") if path.is_dir()} == {0o700}
    intake.stop(5)
