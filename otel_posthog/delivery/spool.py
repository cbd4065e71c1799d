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

from otel_posthog.delivery.segment_log import Position, SegmentLog, is_segment
from otel_posthog.delivery.spool_files import Files

_LONGEST_NAME = 150
"""File systems take 255 bytes."""

_LOCK_PATIENCE = 2.0
"""Seconds to wait for another thread of ours at the disk; a dead disk must not hold up an exit."""


class Place(NamedTuple):
    """Where a record lies, and in whose log."""

    log: SegmentLog
    position: Position


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
    """

    def __init__(
        self, folder: str, files: Files, *, max_bytes: int, now_ns: Callable[[], int], name: str | None = None
    ) -> None:
        self._folder = folder
        self._files = files
        self._max_bytes = max_bytes
        self._now_ns = now_ns
        self._name = name
        self._own: SegmentLog | None = None
        self._orphans: list[SegmentLog] = []
        self._locks: dict[str, int] = {}
        self._busy = threading.Lock()
        self._closed = False

    @property
    def damaged(self) -> int:
        """Unreadable stretches that were passed over."""
        return sum(log.damaged for log in self._logs())

    @property
    def size(self) -> int:
        """Bytes on disk, those of dead processes included."""
        return sum(log.size for log in self._logs())

    def append(self, records: Sequence[bytes]) -> list[Place]:
        """Writes `records` durably, all or none.

        Raises:
            SpoolFullError: They do not fit.
            OSError: They cannot be written.
        """
        if not records:
            return []
        with self._at_disk():
            own = self._own or self._start()
            return [Place(own, position) for position in own.append(records, time_ns=self._now_ns())]

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
                if path in self._locks:
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
        own.open()
        self._own = own
        return own

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
