"""Dead letters: what was accepted and can never be delivered as it is, kept for an operator, with the reason.

    <spool>/dead/<worker>/00000001.log    one record for each letter, see `segment_log`
                         /discarded       places of letters that an operator has discarded or replayed, one per line

The store is bounded. What came first stays: it shows how the trouble began, and a flood of rubbish cannot wash it away
(docs/decisions/0083). One reason may use half of the store, so that no reason leaves the others without room. What has
no room is counted and named in the log.

The owner of a folder is a gateway, or whoever holds its lock while there is none. Everybody else reads, and asks for
removal by a line in `discarded`, which the owner follows.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from otel_posthog.delivery.clock import SystemClock
from otel_posthog.delivery.protocols import Clock
from otel_posthog.delivery.segment_log import Position, Record, SegmentLog, SpoolFullError
from otel_posthog.delivery.spool_files import Files
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letter import Letter, decode, encode
from otel_posthog.gateway.journal import record as records
from otel_posthog.gateway.journal.journal import DEAD
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.log import Complaints

DISCARDED: Final = "discarded"

_REASONS: Final = (
    "",
    "rejected",
    "dropped_by_server",
    "encode",
    "unreadable",
    "unreadable_items",
    "unrouted",
    "failed",
    "crashed",
)
"""The log's own mark of a letter is its place in here, so that a start need not read each letter. Append only."""


@frozen
class Kept:
    """A letter and where it lies.

    Args:
        id: `dead/<worker>/<segment>/<offset>`.
        letter: The letter; `None` where another version wrote it.
        size: Bytes on disk.
    """

    id: str
    letter: Letter | None
    size: int


class Letters:
    """The dead letters of one worker; its owner. For one thread at a time, save `counts` and `full`.

    Args:
        folder: The spool.
        worker: Name of the worker.
        max_bytes: Bytes on disk at the most.
        files: File operations.
        books: Counts.
        clock: Time.
        complaints: Seldom log lines.
    """

    def __init__(
        self,
        folder: str,
        worker: str,
        *,
        max_bytes: int,
        files: Files,
        books: Books,
        clock: Clock,
        complaints: Complaints,
    ) -> None:
        self.folder = f"{folder}/{DEAD}/{worker}"
        self._max_bytes = max_bytes
        self._files = files
        self._books = books
        self._clock = clock
        self._complaints = complaints
        self._log: SegmentLog | None = None
        self._lock: int | None = None
        self._sizes: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._places: dict[tuple[int, int], tuple[Position, str]] = {}
        self._discarded_size = -1
        self.full = False
        """Whether the last letter found no room."""

    @property
    def counts(self) -> dict[str, int]:
        """Letters by reason."""
        return {reason: count for reason, count in list(self._counts.items()) if count}

    @property
    def opened(self) -> bool:
        """Whether the folder is ours."""
        return self._log is not None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._log.size if self._log is not None else 0

    def open(self) -> None:
        """Takes the folder and reads what is in it.

        Raises:
            OSError: It cannot be had; EBUSY where somebody works with it just now.
        """
        self._files.make_folder(self.folder)
        lock = self._files.lock(f"{self.folder}/lock")
        if lock is None:
            raise OSError(errno.EBUSY, "the dead letters are in use by another process")
        log = SegmentLog(self.folder, self._files, max_bytes=self._max_bytes, segment_bytes=1024 * 1024)
        try:
            log.open()
            self._lock, self._log = lock, log
            while found := log.read(256, 8 * 1024 * 1024):
                for record in found:
                    self._note(record.position, _reason_of(record))
        except OSError:
            self._files.close(lock)
            self._lock = self._log = None
            raise
        self.follow()

    def write(self, letters: Sequence[Letter]) -> bool:
        """Keeps letters, as far as there is room; False where the disk takes nothing now."""
        try:
            if self._log is None:
                self.open()
            return self._write(letters)
        except OSError as error:
            self._complaints.say(
                "letters", "otel-posthog: dead letters cannot be written (%s)", error.strerror or type(error).__name__
            )
            return False

    def _write(self, letters: Sequence[Letter]) -> bool:
        log = self._log
        assert log is not None
        kept: list[tuple[Letter, bytes]] = []
        sizes = dict(self._sizes)
        for letter in letters:
            data = encode(letter)
            sizes[letter.reason] = sizes.get(letter.reason, 0) + len(data)
            if sizes[letter.reason] > self._max_bytes // 2:
                sizes[letter.reason] -= len(data)
                self._has_no_room(letter.reason)
            else:
                kept.append((letter, data))
        # Nearly always of one reason: one write for each.
        kept.sort(key=lambda each: each[0].reason)
        for reason, group in groupby(kept, key=lambda each: each[0].reason):
            self._append(log, reason, [data for _, data in group])
        return True

    def _append(self, log: SegmentLog, reason: str, datas: Sequence[bytes]) -> None:
        kind = _REASONS.index(reason) if reason in _REASONS else 0
        try:
            positions = log.append(datas, kind=kind, time_ns=int(self._clock.time() * 1e9))
        except SpoolFullError:
            for _ in datas:
                self._has_no_room(reason)
            return
        self.full = False
        for position in positions:
            self._note(position, reason)
        self._books.add("dead_letters", len(positions), reason=reason)
        self._complaints.say(
            f"letters {reason}", "otel-posthog: dead letters were written (%s): see `otel-posthog spool list`", reason
        )

    def _has_no_room(self, reason: str) -> None:
        self.full = True
        self._books.add("dead_letters_not_kept", reason=reason)
        self._complaints.say(
            "letters full",
            "otel-posthog: there is no room for further dead letters (%s), they are given up: look at the old ones "
            "with `otel-posthog spool list`, then replay or discard them",
            reason,
        )

    def follow(self) -> None:
        """Removes what operators have discarded.

        Raises:
            OSError: The folder cannot be read or written.
        """
        log = self._log
        if log is None:
            return
        path = f"{self.folder}/{DISCARDED}"
        try:
            size = self._files.size(path)
        except OSError:
            return  # nobody has discarded anything
        if size == self._discarded_size:
            return
        gone: list[Position] = []
        for segment, start in _discarded(self._files, self.folder):
            found = self._places.pop((segment, start), None)
            if found is not None:
                position, reason = found
                gone.append(position)
                self._counts[reason] -= 1
                self._sizes[reason] -= position.end - position.start
        if gone:
            log.ack(gone)
            log.tidy()
            self.full = False
        self._discarded_size = size
        if not self._places:
            # Nothing that a line could mean is there any more; numbers of segments are never used twice.
            self._files.remove(path)
            self._discarded_size = -1

    def close(self) -> None:
        """Lets go of the folder."""
        if self._log is not None:
            self._log.let_go()
            self._log = None
        if self._lock is not None:
            self._files.close(self._lock)
            self._lock = None

    def _note(self, position: Position, reason: str) -> None:
        self._places[(position.segment, position.start)] = (position, reason)
        self._counts[reason] = self._counts.get(reason, 0) + 1
        self._sizes[reason] = self._sizes.get(reason, 0) + position.end - position.start


def read_letters(folder: str, files: Files) -> Iterator[Kept]:
    """Every dead letter of a spool that is not discarded, by worker and age; takes no lock, changes nothing.

    Args:
        folder: The spool.
        files: File operations.

    Raises:
        OSError: It cannot be read.
    """
    for worker in files.names(f"{folder}/{DEAD}"):
        path = f"{folder}/{DEAD}/{worker}"
        gone = set(_discarded(files, path))
        log = SegmentLog(path, files, max_bytes=1 << 62)
        log.open()
        while found := log.read(64, 4 * 1024 * 1024):
            for record in found:
                segment, start, end = record.position
                if (segment, start) in gone:
                    continue
                try:
                    letter = decode(record.payload)
                except (records.UnknownVersionError, records.BrokenRecordError):
                    letter = None
                yield Kept(f"{DEAD}/{worker}/{segment}/{start}", letter, end - start)


def discard(folder: str, ids: Sequence[str], files: Files) -> None:
    """Discards letters: by a line for the gateway that owns them, and at once where none does.

    Args:
        folder: The spool.
        ids: Of the letters, as `Kept.id`.
        files: File operations.

    Raises:
        OSError: It cannot be written.
    """
    by_worker: dict[str, list[str]] = {}
    for each in ids:
        _dead, worker, place = each.split("/", 2)
        by_worker.setdefault(worker, []).append(place)
    for worker, places in by_worker.items():
        path = f"{folder}/{DEAD}/{worker}/{DISCARDED}"
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            files.append(handle, "".join(f"{place}\n" for place in places).encode())
            files.sync(handle)
        finally:
            files.close(handle)
        clock = SystemClock()
        letters = Letters(
            folder, worker, max_bytes=1 << 62, files=files, books=Books(), clock=clock, complaints=Complaints()
        )
        try:
            letters.open()  # follows what was written above
        except OSError as error:
            if error.errno != errno.EBUSY:  # a gateway runs, and follows within seconds
                raise
        finally:
            letters.close()


def _discarded(files: Files, path: str) -> Iterator[tuple[int, int]]:
    try:
        data = files.read(f"{path}/{DISCARDED}", 0, 1 << 26)
    except OSError:
        return
    for line in data.split(b"\n"):
        segment, _, start = line.partition(b"/")
        with contextlib.suppress(ValueError):
            yield int(segment), int(start)


def _reason_of(record: Record) -> str:
    if 0 < record.kind < len(_REASONS):
        return _REASONS[record.kind]
    try:
        return decode(record.payload).reason
    except (records.UnknownVersionError, records.BrokenRecordError):
        return "unknown"
