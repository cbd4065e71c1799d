"""The spool of one lane: a log of this process's own, and those that dead processes left.

    <spool_dir>/<lane>/<pid>-<random>/lock           held by its owner as long as it lives
                                     /00000001.log   segments, see `segment_log`
                                     /cursor

Every process writes into a folder of its own, so that workers never wait for each other. A folder whose lock is free
belongs to a process that died: whoever finds it (at the start, and once a minute) takes the lock, sends what is in it
and removes it. Lanes are kept apart by mode, host and `service.name`: what was meant for one PostHog never goes to
another, and services that share a folder never send each other's events with their own keys.

A record is one event as JSON (`json_event`): no key, no header, nothing of the wire. Files are readable by their owner
only. `spool_bytes` bounds each process.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otel_posthog.delivery.segment_log import Position, Record, SegmentLog, is_segment
from otel_posthog.delivery.spool_files import Files

_LONGEST_NAME = 150
"""File systems take 255 bytes."""

_LOCK_PATIENCE = 2.0
"""Seconds to wait for another thread of ours at the disk; a dead disk must not hold up an exit."""


class Place(NamedTuple):
    """Where a record lies, and in whose log."""

    log: SegmentLog
    position: Position


class Found(NamedTuple):
    """A record that was read, and where."""

    place: Place
    record: Record


def folder_name(lane: str) -> str:
    """`lane` as the name of a folder; a checksum keeps those apart that are no longer what they were."""
    name = re.sub(r"[^A-Za-z0-9@._-]", "_", lane).strip(".")[:_LONGEST_NAME]
    return name if name == lane else f"{name}-{zlib.crc32(lane.encode('utf-8', 'replace')):08x}"


class Spool:
    """`Journal` on disk. Opens nothing before the first use. Safe in any thread.

    Args:
        folder: The lane's folder.
        files: File operations.
        max_bytes: Bytes of this process's own log at the most.
        now_ns: Nanoseconds since the Unix epoch.
        name: Name of this process's own folder; a fresh one by default.
        adoptable: Whether a folder of that name may be taken over when nobody holds it.
    """

    def __init__(
        self,
        folder: str,
        files: Files,
        *,
        max_bytes: int,
        now_ns: Callable[[], int],
        name: str | None = None,
        adoptable: Callable[[str], bool] = lambda _name: True,
    ) -> None:
        self._folder = folder
        self._files = files
        self._max_bytes = max_bytes
        self._now_ns = now_ns
        self._name = name
        self._adoptable = adoptable
        self._own: SegmentLog | None = None
        self._orphans: list[SegmentLog] = []
        self._locks: dict[str, int] = {}
        self._busy = threading.Lock()
        self._closed = False
        self._first_new = 0

    @property
    def damaged(self) -> int:
        """Unreadable stretches that were passed over."""
        return sum(log.damaged for log in self._logs())

    @property
    def size(self) -> int:
        """Bytes on disk, those of dead processes included."""
        return sum(log.size for log in self._logs())

    def claim(self) -> None:
        """Takes this process's own folder now, with what an earlier life left in it.

        Raises:
            OSError: It cannot be made or opened; EBUSY: another process holds it.
        """
        with self._at_disk():
            if self._own is None:
                self._start()

    def append(self, records: Sequence[bytes], *, kind: int = 0) -> list[Place]:
        """Writes `records` durably, all or none.

        Args:
            records: What to keep.
            kind: The caller's own mark for them.

        Raises:
            SpoolFullError: They do not fit.
            OSError: They cannot be written.
        """
        if not records:
            return []
        with self._at_disk():
            if self._own is not None and not self._files.same(
                self._locks[self._own.folder], f"{self._own.folder}/lock"
            ):
                # Removed under us: without the lock another process may take the folder that we would make anew.
                self._lose(self._own)
            own = self._own or self._start()
            return [Place(own, position) for position in own.append(records, kind=kind, time_ns=self._now_ns())]

    def kept(self) -> None:
        """See `Journal.kept`."""
        with self._at_disk():
            if self._own is not None:
                self._own.kept()

    def read(self, limit: int) -> list[tuple[Place, bytes, bool]]:
        """See `Journal.read`: what dead processes left comes first, it is older."""
        found: list[tuple[Place, bytes, bool]] = []
        with self._at_disk():
            for log in self._logs():
                if len(found) >= limit:
                    break
                records = log.read(limit - len(found))
                found.extend((Place(log, record.position), record.payload, log is self._own) for record in records)
            self._forget_empty()
        return found

    def read_own(self, limit: int, max_bytes: int) -> list[Found]:
        """As `read`, but only of this process's own log, an earlier life's records included.

        Args:
            limit: Records at the most.
            max_bytes: Bytes of payload after which no more is read.

        Raises:
            OSError: A segment cannot be read.
        """
        with self._at_disk():
            own = self._own
            records = own.read(limit, max_bytes) if own is not None else []
            return [Found(Place(own, record.position), record) for record in records if own is not None]

    def read_orphans(self, limit: int, max_bytes: int) -> list[Found]:
        """As `read_own`, of what dead processes left.

        Raises:
            OSError: A segment cannot be read.
        """
        found: list[Found] = []
        with self._at_disk():
            for log in self._orphans:
                left = max_bytes - sum(len(each.record.payload) for each in found)
                if len(found) >= limit or left <= 0:
                    break
                records = log.read(limit - len(found), left)
                found.extend(Found(Place(log, record.position), record) for record in records)
            self._forget_empty()
        return found

    def fetch(self, place: Place) -> Record | None:
        """The record at `place` once more; `None` where it is gone.

        Raises:
            OSError: It cannot be read now.
        """
        with self._at_disk():
            return place.log.fetch(place.position)

    def is_older(self, place: Place) -> bool:
        """Whether an earlier life, or another process, wrote the record at `place`."""
        return place.log is not self._own or place.position.segment < self._first_new

    @property
    def orphans(self) -> int:
        """Folders of dead processes that are being drained."""
        return len(self._orphans)

    @property
    def unreadable(self) -> int:
        """Segments that are passed over in this life."""
        return sum(log.unreadable for log in self._logs())

    @property
    def records(self) -> int:
        """Records that are not done, of the segments that have been counted."""
        return sum(log.records for log in self._logs())

    def count_one(self) -> bool:
        """Counts the records of one more segment; whether there may be further ones.

        Raises:
            OSError: A segment cannot be read.
        """
        with self._at_disk():
            return any(log.count_one() for log in self._logs())

    @property
    def oldest_ns(self) -> int:
        """When the oldest record was written; 0 where there is none.

        Raises:
            OSError: A segment cannot be read.
        """
        with self._at_disk():
            return min((oldest for log in self._logs() if (oldest := log.oldest_ns)), default=0)

    def ack(self, places: Sequence[Place]) -> None:
        """See `Journal.ack`."""
        with self._at_disk():
            for log in self._logs():
                positions = [place.position for place in places if place.log is log]
                if positions:
                    log.ack(positions)
            self._forget_empty()

    def adopt(self) -> bool:
        """See `Journal.adopt`."""
        adopted = False
        with self._at_disk():
            for name in self._files.names(self._folder):
                path = f"{self._folder}/{name}"
                if path in self._locks or not self._adoptable(name):
                    continue
                lock = self._lock(path)
                if lock is None:
                    continue
                log = SegmentLog(path, self._files, max_bytes=self._max_bytes)
                try:
                    log.open()
                except OSError:
                    self._files.close(lock)
                    continue
                self._locks[path] = lock
                self._orphans.append(log)
                adopted = True
            self._forget_empty()
        return adopted and bool(self._orphans)

    def left_behind(self) -> bool:
        """Whether some folder that nobody holds has segments in it; takes nothing over, leaves no file open."""
        for name in self._files.names(self._folder):
            path = f"{self._folder}/{name}"
            if path in self._locks or not any(is_segment(file) for file in self._files.names(path)):
                continue
            lock = self._lock(path)
            if lock is not None:
                self._files.close(lock)
                return True
        return False

    def close(self) -> None:
        """Releases everything; removes what is empty, leaves what is not to a later process."""
        with self._at_disk():
            if self._closed:
                return
            self._closed = True
            for log in self._logs():
                log.close()
            for lock in self._locks.values():
                self._files.close(lock)
            self._locks.clear()

    def let_go(self) -> None:
        """In the child of a fork: closes the parent's files here, without unlocking or removing anything.

        A lock belongs to the open file that both have: as long as the child kept it open, nobody could take over what
        a dead parent left.
        """
        self._busy = threading.Lock()
        self._closed = True
        for log in self._logs():
            log.let_go()
        for lock in self._locks.values():
            self._files.close(lock)
        self._locks.clear()

    def _logs(self) -> list[SegmentLog]:
        return [*self._orphans, *([self._own] if self._own is not None else [])]

    def _start(self) -> SegmentLog:
        if self._closed:
            raise OSError(errno.ESHUTDOWN, "the spool is closed")
        name = self._name or f"{os.getpid()}-{secrets.token_hex(4)}"
        path = f"{self._folder}/{name}"
        self._files.make_folder(path)
        lock = self._files.lock(f"{path}/lock")
        if lock is None:
            raise OSError(errno.EBUSY, "the spool's folder is in use")
        self._files.sync_folder(self._folder)
        self._locks[path] = lock
        own = SegmentLog(path, self._files, max_bytes=self._max_bytes)
        try:
            own.open()
        except OSError:
            self._files.close(self._locks.pop(path))
            raise
        self._first_new = own.next_number
        self._own = own
        return own

    def _lose(self, log: SegmentLog) -> None:
        log.let_go()
        self._files.close(self._locks.pop(log.folder))
        self._own = None

    def _lock(self, path: str) -> int | None:
        try:
            return self._files.lock(f"{path}/lock")
        except OSError:
            return None  # no folder (any more), not ours to enter, or no way to lock here

    def _forget_empty(self) -> None:
        for log in list(self._orphans):
            if log.empty:
                log.close()
                self._orphans.remove(log)
                lock = self._locks.pop(log.folder, None)
                if lock is not None:
                    self._files.close(lock)

    def _at_disk(self) -> _Busy:
        return _Busy(self._busy)


class _Busy:
    """The lock of a spool, with a limit to patience."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=_LOCK_PATIENCE):
            raise OSError(errno.EBUSY, "the spool's disk does not answer")

    def __exit__(self, *_: object) -> None:
        self._lock.release()
