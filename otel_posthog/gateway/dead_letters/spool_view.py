"""A spool from the outside, for its operator: what waits, what died, and how to have it delivered after all.

Nothing here takes a lock that a gateway needs, so that it works beside a running one and without any. A replay is a new
folder in the spool, which a running gateway adopts within seconds, and the next one at its start.
"""

from __future__ import annotations

import errno
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from otel_posthog.delivery.encoding import choose_dumps
from otel_posthog.delivery.json_event import record_of
from otel_posthog.delivery.segment_log import SegmentLog, is_segment
from otel_posthog.delivery.spool_files import Files
from otel_posthog.gateway.dead_letters.letters import Kept
from otel_posthog.gateway.inbound import PROTOBUF
from otel_posthog.gateway.journal import record as records
from otel_posthog.gateway.journal.journal import ADOPTABLE, KIND_RECORD, REPLAY
from otel_posthog.model.frozen import frozen

_READ_RECORDS: Final = 64
_READ_BYTES: Final = 4 * 1024 * 1024
_WRITE_BYTES: Final = 4 * 1024 * 1024


@frozen
class FolderView:
    """One folder of the spool: a worker's, or a replay's.

    Args:
        name: Its name.
        size: Bytes on disk.
        records: Records that are not done.
        oldest_ns: When the oldest of them was written; 0 for none.
        newest_ns: When the newest of them was written; 0 for none.
        damaged: Damaged stretches among them.
        unreadable: Segments that cannot be read or are of another format.
    """

    name: str
    size: int
    records: int
    oldest_ns: int
    newest_ns: int
    damaged: int
    unreadable: int


class Waiting(NamedTuple):
    """A record that waits."""

    id: str
    """`<folder>/<segment>/<offset>`."""
    record: records.Record | None
    """`None` where this version cannot read it."""
    size: int


def folders(spool: str, files: Files) -> list[str]:
    """Names of the folders with records in them, workers first.

    Raises:
        OSError: The spool cannot be read.
    """
    names = [name for name in files.names(spool) if ADOPTABLE.fullmatch(name)]
    found = [name for name in names if any(is_segment(file) for file in files.names(f"{spool}/{name}"))]
    return sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))


def view(spool: str, name: str, files: Files) -> FolderView:
    """What is in one folder.

    Raises:
        OSError: It cannot be read.
    """
    log = SegmentLog(f"{spool}/{name}", files, max_bytes=1 << 62)
    log.open()
    times = [
        record.time_ns
        for found in iter(lambda: log.read(_READ_RECORDS, _READ_BYTES), [])
        for record in found
        if record.kind == KIND_RECORD
    ]
    return FolderView(
        name, log.size, len(times), min(times, default=0), max(times, default=0), log.damaged, log.unreadable
    )


def waiting(spool: str, name: str, files: Files) -> Iterator[Waiting]:
    """The records of one folder that are not done, oldest first.

    Raises:
        OSError: It cannot be read.
    """
    log = SegmentLog(f"{spool}/{name}", files, max_bytes=1 << 62)
    log.open()
    while found := log.read(_READ_RECORDS, _READ_BYTES):
        for each in found:
            if each.kind != KIND_RECORD:
                continue
            segment, start, end = each.position
            try:
                record = records.decode(each.payload)
            except (records.UnknownVersionError, records.BrokenRecordError):
                record = None
            yield Waiting(f"{name}/{segment}/{start}", record, end - start)


def replayable(kept: Kept, *, convert: bool, now_ns: int) -> records.Record | str:
    """The record that brings a dead letter back; in place of it, why there is none.

    Args:
        kept: The letter.
        convert: Make new events of what it came from, by the rules of the day; else its event goes as it is, with the
            uuid that it has, and a whole request by the rules that it came with.
        now_ns: The time.
    """
    letter = kept.letter
    if letter is None:
        return "another version of otel-posthog wrote it"
    source = letter.source
    if letter.event is not None and not convert:
        return records.Record(
            kind=source.kind if source is not None else "traces",
            media_type=PROTOBUF,
            body=record_of(letter.event, choose_dumps()),
            received_ns=now_ns,
            content="event",
            project=letter.project,
            origin=records.encode(source) if source is not None else b"",
        )
    if source is None:
        return "what it was made from is not known"
    if source.content == "raw":
        return "nobody can read it"
    if convert and source.content == "event":
        if not source.origin:
            return "what it was made from is not known"
        source = records.decode(source.origin)
    return _by_rules_of_the_day(source) if convert else source


def _by_rules_of_the_day(source: records.Record) -> records.Record:
    return records.Record(
        kind=source.kind,
        media_type=source.media_type,
        body=source.body,
        gzip=source.gzip,
        caller=source.caller,
        received_ns=source.received_ns,
    )


def write_replay(spool: str, wanted: Sequence[records.Record], files: Files) -> str:
    """Puts records into a folder of their own, which a gateway will adopt; durable when it returns.

    Args:
        spool: The spool.
        wanted: What to deliver.
        files: File operations.

    Returns:
        The folder's name.

    Raises:
        OSError: It cannot be written.
    """
    for _ in range(5):
        name = f"{REPLAY}{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"
        path = f"{spool}/{name}"
        files.make_folder(path)
        try:
            lock = files.lock(f"{path}/lock")
        except FileNotFoundError:  # a gateway found the empty folder first, and removed it
            continue
        if lock is None:
            continue
        try:
            _fill(path, wanted, files)
        finally:
            files.close(lock)
        return name
    raise OSError(errno.EBUSY, "no folder can be made in the spool: something removes it at once")


def _fill(path: str, wanted: Sequence[records.Record], files: Files) -> None:
    log = SegmentLog(path, files, max_bytes=1 << 62)
    batch: list[bytes] = []
    for record in wanted:
        batch.append(records.encode(record))
        if sum(map(len, batch)) >= _WRITE_BYTES:
            log.append(batch, time_ns=time.time_ns())
            batch = []
    if batch:
        log.append(batch, time_ns=time.time_ns())
    log.let_go()
