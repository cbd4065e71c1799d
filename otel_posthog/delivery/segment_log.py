"""An append-only log of opaque records in segment files: the disk half of the spool, here and at the gateway.

    <folder>/00000007.log        ┌──────────┬────────┬────────┬────────┬───
                                 │ OTPHLOG1 │ record │ record │ record │ …      grows at the end only
    <folder>/00000008.log        └──────────┴────────┴────────┴────────┴───
    <folder>/cursor              segment, offset, crc: everything before it is done

    record   ┌──────┬────────┬───────┬──────┬─────────┬─────────┐
             │ mark │ length │ crc32 │ kind │ time    │ payload │    crc over everything but mark and crc
             │ 4    │ 4      │ 4     │ 4    │ 8 (ns)  │ length  │    little-endian
             └──────┴────────┴───────┴──────┴─────────┴─────────┘

- `append` returns after one write and one fdatasync for all of its records (group commit). A new segment's name is made
  durable before anything in it counts as written.
- A torn tail, a flipped bit and zeroes cost the damaged record: reading looks for the next mark with a right checksum.
- The cursor is written in place without a sync. Where it is lost, stale or garbage, records are read once more; what
  they hold must not mind that (events are de-duplicated by their key).
- A segment is removed when all its records are done. When the bytes are used up, `append` refuses the new records; the
  oldest are never overwritten. Numbers are never used twice, so that a cursor never means another segment.
- A segment of another format (`OTPHLOG2`, whose records have another mark) is left alone: neither read nor removed. One
  that cannot be read (a bad block) is passed over in this life and kept; one that is gone is damage.
- After a failed write or sync the segment takes nothing more: a second fdatasync may claim success for pages that the
  kernel has dropped. The records go into a new segment. The same where its file is no longer the one that has its name:
  a write into a removed file would be promised and gone.
"""

from __future__ import annotations

import contextlib
import errno
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_posthog.delivery.spool_files import Files

MAGIC: Final = b"OTPHLOG1"
_FAMILY: Final = MAGIC[:-1]
MARK: Final = b"\xc7rec"
_HEAD: Final = struct.Struct("<4sIIIQ")
_CHECKED: Final = struct.Struct("<IIQ")
_CURSOR: Final = struct.Struct("<QQI")


class SpoolFullError(OSError):
    """The spool has used up its bytes; nothing was written."""

    def __init__(self) -> None:
        super().__init__(errno.EDQUOT, "the spool is full")


class Position(NamedTuple):
    """Where a record lies; `start` includes what was damaged before it."""

    segment: int
    start: int
    end: int


class Record(NamedTuple):
    """One record as read."""

    position: Position
    payload: bytes
    kind: int
    time_ns: int


_READ_ATTEMPTS: Final = 3

OWN_NAMES: Final = ("cursor", "trying", "lock")
"""Files beside the segments: the cursor, and those that belong to a folder's owner."""


@dataclass(slots=True)
class _Segment:
    """What is known of one segment file."""

    number: int
    size: int
    done_to: int = len(MAGIC)
    done: dict[int, int] = field(default_factory=dict[int, int])
    foreign: bool = False
    """Of another format: not ours to read or to remove."""
    failures: int = 0
    """Readings that failed."""
    finished: int = 0
    """Records that are done."""
    records: int | None = None
    """Records in it, where they have been counted."""

    @property
    def is_done(self) -> bool:
        return not self.foreign and self.done_to >= self.size


def _crc(length: int, kind: int, time_ns: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(length, kind, time_ns)))


def pack(payload: bytes, kind: int, time_ns: int) -> bytes:
    """One record as it lies on disk."""
    crc = _crc(len(payload), kind, time_ns, payload)
    return _HEAD.pack(MARK, len(payload), crc, kind, time_ns) + payload


class SegmentLog:
    """One folder of segments with one writer. Not locked: one thread at a time.

    Args:
        folder: Its folder; made at the first append.
        files: File operations.
        max_bytes: Bytes on disk at the most.
        segment_bytes: Bytes after which a new segment begins.
    """

    def __init__(self, folder: str, files: Files, *, max_bytes: int, segment_bytes: int = 8 * 1024 * 1024) -> None:
        self.folder = folder
        self.damaged = 0
        """Stretches of unreadable bytes that were passed over."""
        self.unreadable = 0
        """Segments passed over in this life, because they could not be read or are of another format."""
        self._files = files
        self._max_bytes = max_bytes
        # Small limits need small segments, or nothing could be given back before all is full.
        self._segment_bytes = max(min(segment_bytes, max_bytes // 4), 4096)
        self._segments: dict[int, _Segment] = {}
        self._handle: int | None = None  # of the newest segment, while it takes records
        self._next_number = 1
        self._read_at = (0, len(MAGIC))
        self._loaded: tuple[int, int, bytes] = (0, 0, b"")

    def open(self) -> None:
        """Finds what an earlier process left; reads no records yet.

        Raises:
            OSError: The folder cannot be read.
        """
        numbers = [int(name[:-4]) for name in self._files.names(self.folder) if is_segment(name)]
        for number in sorted(numbers):
            try:
                segment = _Segment(number, self._files.size(self._path(number)))
                segment.foreign = self._is_foreign(number)
            except FileNotFoundError:  # somebody who only looks is overtaken by the owner
                continue
            self._segments[number] = segment
            self.unreadable += segment.foreign
            self._next_number = number + 1
        self._use_cursor()
        self._read_at = next(((s.number, s.done_to) for s in self._segments.values()), (0, len(MAGIC)))

    def _is_foreign(self, number: int) -> bool:
        """Whether a segment is of another format: its name says so, and its first record is none of ours."""
        try:
            start = self._files.read(self._path(number), 0, len(MAGIC) + len(MARK))
        except FileNotFoundError:
            raise
        except OSError:
            return False  # reading it will tell
        magic, mark = start[: len(MAGIC)], start[len(MAGIC) :]
        return magic != MAGIC and magic[:-1] == _FAMILY and magic[-1:].isdigit() and mark != MARK

    @property
    def next_number(self) -> int:
        """Number of the segment that is made next."""
        return self._next_number

    @property
    def size(self) -> int:
        """Bytes on disk."""
        # A copy, which is made in one go: other threads ask, too.
        return sum(segment.size for segment in list(self._segments.values()))

    @property
    def empty(self) -> bool:
        """Whether every record is done."""
        return all(segment.is_done for segment in self._segments.values())

    def append(self, payloads: Sequence[bytes], *, kind: int = 0, time_ns: int = 0) -> list[Position]:
        """Writes records durably, all or none.

        Args:
            payloads: What to keep.
            kind: The caller's own mark for them.
            time_ns: The caller's own time for them.

        Raises:
            SpoolFullError: They do not fit.
            OSError: They cannot be written.
        """
        records = [pack(payload, kind, time_ns) for payload in payloads]
        data = b"".join(records)
        if self.size + len(data) + len(MAGIC) > self._max_bytes:
            self._tidy(everything=True)
            if self.size + len(data) + len(MAGIC) > self._max_bytes:
                raise SpoolFullError
        segment = self._writable()
        try:
            self._commit(segment, data)
        except OSError:
            # Once more in a new segment: a bad block or a failed sync says nothing about the next file.
            segment = self._writable()
            self._commit(segment, data)
        positions: list[Position] = []
        at = segment.size - len(data)
        for record in records:
            positions.append(Position(segment.number, at, at + len(record)))
            at += len(record)
        if segment.records is not None:
            segment.records += len(records)
        return positions

    def _writable(self) -> _Segment:
        newest = self._segments.get(self._next_number - 1)
        if self._handle is not None and newest is not None and newest.size < self._segment_bytes:
            return newest
        self._seal()
        self._files.make_folder(self.folder)
        number = self._next_number
        self._next_number += 1
        path = self._path(number)
        handle = self._files.create(path)
        try:
            self._files.append(handle, MAGIC)
            self._files.sync_folder(self.folder)
        except OSError:
            self._files.close(handle)
            with contextlib.suppress(OSError):
                self._files.remove(path)
            raise
        self._handle = handle
        segment = self._segments[number] = _Segment(number, len(MAGIC), records=0)
        return segment

    def _commit(self, segment: _Segment, data: bytes) -> None:
        handle = self._handle
        assert handle is not None
        try:
            if not self._files.same(handle, self._path(segment.number)):
                raise OSError(errno.ENOENT, "a segment of the spool is no longer in its folder")
            self._files.append(handle, data)
            self._files.sync(handle)
        except OSError:
            # Where even that fails, it is read as damage or as records that are sent twice: both are harmless.
            with contextlib.suppress(OSError):
                self._files.cut(handle, segment.size)
            self._seal()
            raise
        segment.size += len(data)

    def _seal(self) -> None:
        if self._handle is not None:
            self._files.close(self._handle)
            self._handle = None

    # --- reading ---------------------------------------------------------------------------------------------------

    def kept(self) -> None:
        """Everything so far is known to the caller: reading goes on behind it."""
        newest = self._segments.get(self._next_number - 1)
        if newest is not None:
            self._read_at = (newest.number, newest.size)

    def read(self, limit: int, max_bytes: int = 1 << 62) -> list[Record]:
        """Up to `limit` records from where reading stopped, in order; empty at the end.

        Args:
            limit: Records at the most.
            max_bytes: Bytes of payload after which no more is read; the record that crosses it is still given.

        Raises:
            OSError: A segment cannot be read; after a few attempts it is passed over.
        """
        records: list[Record] = []
        room = max_bytes
        while len(records) < limit and room > 0:
            segment = self._reading()
            if segment is None:
                break
            before = len(records)
            try:
                self._read_segment(segment, limit, room, records)
            except FileNotFoundError:
                self._is_gone(segment)
            except OSError:
                if records:
                    break  # first what there is
                segment.failures += 1
                if segment.failures < _READ_ATTEMPTS:
                    raise
                self.unreadable += 1
                self._read_at = (segment.number, segment.size)
            room -= sum(len(record.payload) for record in records[before:])
        return records

    def _is_gone(self, segment: _Segment) -> None:
        """Somebody has removed the file of a segment."""
        self.damaged += 1
        if self._handle is not None and segment.number == self._next_number - 1:
            self._seal()
        self._segments.pop(segment.number, None)
        self._loaded = (0, 0, b"")

    def fetch(self, position: Position) -> Record | None:
        """The record at `position` once more; `None` where it cannot be read any more.

        Raises:
            OSError: Its segment cannot be read.
        """
        path = self._path(position.segment)
        try:
            data = self._files.read(path, position.start, position.end - position.start)
        except FileNotFoundError:
            return None
        # Damage before a record belongs to its position.
        at = 0
        while at >= 0:
            found = _parse(data, at)
            if found is not None:
                return Record(position, *found)
            at = data.find(MARK, at + 1)
        return None

    @property
    def oldest_ns(self) -> int:
        """The caller's time of the oldest record that is not done; 0 where there is none or it cannot be told.

        Raises:
            OSError: A segment cannot be read.
        """
        for _, segment in sorted(self._segments.items()):
            if segment.is_done or segment.foreign:
                continue
            head = self._files.read(self._path(segment.number), segment.done_to, _HEAD.size)
            if len(head) < _HEAD.size:
                return 0
            mark, _length, _crc, _kind, time_ns = _HEAD.unpack(head)
            return time_ns if mark == MARK else 0
        return 0

    @property
    def records(self) -> int:
        """Records that are not done, of the segments that have been counted."""
        segments = list(self._segments.values())
        return sum(segment.records - segment.finished for segment in segments if segment.records)

    def count_one(self) -> bool:
        """Counts the records of one more segment; whether there are further ones to count.

        Raises:
            OSError: A segment cannot be read.
        """
        for segment in self._segments.values():
            if segment.records is None:
                segment.records = 0  # also where it cannot be read: once is enough
                if not segment.foreign:
                    segment.records = segment.finished + self._count(segment)
                return True
        return False

    def _count(self, segment: _Segment) -> int:
        """Records that are not done, without their payload; damage ends the count."""
        data = self._files.read(self._path(segment.number), segment.done_to, segment.size - segment.done_to)
        count = at = 0
        while at + _HEAD.size <= len(data):
            mark, length, *_ = _HEAD.unpack_from(data, at)
            if mark != MARK:
                break
            count += 1
            at += _HEAD.size + length
        return max(count - len(segment.done), 0)

    def _reading(self) -> _Segment | None:
        """The segment to read from; goes on to the next one at an end."""
        number, at = self._read_at
        segment = self._segments.get(number)
        if segment is not None and not segment.foreign and at < segment.size:
            return segment
        later = next((s for n, s in sorted(self._segments.items()) if n > number), None)
        if later is None:
            return None
        self._read_at = (later.number, later.done_to)
        return self._reading()

    def _read_segment(self, segment: _Segment, limit: int, room: int, records: list[Record]) -> None:
        base, data = self._load(segment)
        start = self._read_at[1]  # where the next position starts: damage before a record belongs to it
        at = start - base
        while len(records) < limit and room > 0 and at < len(data):
            found = _parse(data, at)
            if found is None:
                at = data.find(MARK, at + 1)
                if at >= 0:
                    continue
                # Nothing readable up to the end: done with.
                self.damaged += 1
                segment.done[start] = segment.size
                self._advance(segment)
                start = segment.size
                break
            payload, kind, time_ns = found
            end = base + at + _HEAD.size + len(payload)
            self.damaged += start < base + at
            room -= len(payload)
            records.append(Record(Position(segment.number, start, end), payload, kind, time_ns))
            start = end
            at = end - base
        self._read_at = (segment.number, start)
        if start >= segment.size:
            self._loaded = (0, 0, b"")

    def _load(self, segment: _Segment) -> tuple[int, bytes]:
        """The unread rest of `segment` as it is now; read at once, because a segment is small."""
        number, base, data = self._loaded
        at = self._read_at[1]
        if number != segment.number or not base <= at < base + len(data):
            data = self._files.read(self._path(segment.number), at, segment.size - at)
            base = at
            if not data:
                raise OSError(errno.EIO, "a segment of the spool is shorter than it was")
            self._loaded = (segment.number, base, data)
        return base, data

    # --- done ------------------------------------------------------------------------------------------------------

    def ack(self, positions: Sequence[Position]) -> None:
        """These records are done.

        Raises:
            OSError: A segment or the cursor cannot be written; nothing but a second reading comes of it.
        """
        for position in positions:
            segment = self._segments.get(position.segment)
            if segment is not None:
                segment.done[position.start] = position.end
                segment.finished += 1
                self._advance(segment)
        self._tidy(everything=False)
        self._save_cursor()

    def tidy(self) -> None:
        """Removes every segment that is done, the one that takes records too.

        Raises:
            OSError: One cannot be removed.
        """
        self._tidy(everything=True)
        self._save_cursor()

    def _advance(self, segment: _Segment) -> None:
        while segment.done_to in segment.done:
            segment.done_to = segment.done.pop(segment.done_to)

    def _tidy(self, *, everything: bool) -> None:
        """Removes segments that are done; `everything`: the one that takes records, too."""
        for number, segment in list(self._segments.items()):
            writing = self._handle is not None and number == self._next_number - 1
            if not segment.is_done or (writing and not everything):
                continue
            if writing:
                self._seal()
            self._files.remove(self._path(number))
            del self._segments[number]

    def close(self) -> None:
        """Closes its files, and removes them all where every record is done."""
        self._seal()
        if self.empty:
            self._tidy(everything=True)
            # By name: whatever else lies there is somebody's, and keeps the folder.
            for name in OWN_NAMES:
                self._files.remove(f"{self.folder}/{name}")
            with contextlib.suppress(OSError):
                self._files.remove_folder(self.folder)

    def let_go(self) -> None:
        """Closes its files and leaves everything as it is (the child of a fork)."""
        self._seal()

    # --- the cursor ------------------------------------------------------------------------------------------------

    def _save_cursor(self) -> None:
        oldest = next(iter(sorted(self._segments.items())), None)
        if oldest is None:
            return
        number, segment = oldest
        head = struct.pack("<QQ", number, segment.done_to)
        self._files.write_small(f"{self.folder}/cursor", head + struct.pack("<I", zlib.crc32(head)))

    def _use_cursor(self) -> None:
        try:
            data = self._files.read(f"{self.folder}/cursor", 0, _CURSOR.size)
            number, done_to, crc = _CURSOR.unpack(data)
        except (OSError, struct.error):
            return
        if crc != zlib.crc32(data[:16]):
            return
        # A number that is used twice would make a cursor that outlived its segment skip what nobody has read.
        self._next_number = max(self._next_number, number + 1)
        segment = self._segments.get(number)
        if segment is not None and not segment.foreign and len(MAGIC) <= done_to <= segment.size:
            segment.done_to = done_to

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.log"


def is_segment(name: str) -> bool:
    """Whether a file of that name is a segment."""
    return name.endswith(".log") and name[:-4].isdigit()


def _parse(data: bytes, at: int) -> tuple[bytes, int, int] | None:
    """Payload, kind and time of the record at `at`; `None` where there is none, or a damaged one."""
    if len(data) - at < _HEAD.size:
        return None
    mark, length, crc, kind, time_ns = _HEAD.unpack_from(data, at)
    if mark != MARK or length > len(data) - at - _HEAD.size:
        return None
    payload = data[at + _HEAD.size : at + _HEAD.size + length]
    return (payload, kind, time_ns) if _crc(length, kind, time_ns, payload) == crc else None
