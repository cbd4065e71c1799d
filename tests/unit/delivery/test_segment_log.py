"""The segment log where its folder is not what it left: other formats, missing and unreadable segments, old cursors."""

from __future__ import annotations

import errno
import struct
import zlib
from pathlib import Path

import pytest

from otel_posthog.delivery.segment_log import MAGIC, MARK, Position, SegmentLog
from otel_posthog.delivery.spool import Spool
from otel_posthog.delivery.spool_files import OsFiles

MB = 1024 * 1024


def opened(folder: Path, files: OsFiles | None = None, *, max_bytes: int = MB) -> SegmentLog:
    """A log as a new process opens it."""
    log = SegmentLog(str(folder), files or OsFiles(), max_bytes=max_bytes, segment_bytes=4096)
    log.open()
    return log


def everything(log: SegmentLog) -> list[bytes]:
    """All that it gives."""
    found: list[bytes] = []
    while records := log.read(3):
        found.extend(record.payload for record in records)
    return found


def filled(folder: Path, count: int = 30) -> list[bytes]:
    """A log of several segments, left by a process that is gone."""
    log = opened(folder)
    payloads = [b"%03d" % number * 200 for number in range(count)]
    for payload in payloads:
        log.append([payload], time_ns=5)
    log.let_go()
    return payloads


@pytest.mark.row(50)
def test_a_segment_of_another_format_is_left_alone(tmp_path: Path) -> None:
    """A newer version's segment is neither read nor removed, even where everything else is done."""
    folder = tmp_path / "log"
    payloads = filled(folder, 12)
    foreign = folder / "00000001.log"
    kept = MAGIC[:-1] + b"2" + b"whatever a newer version writes"
    first = foreign.read_bytes()
    foreign.write_bytes(kept)
    log = opened(folder)
    assert log.unreadable == 1
    found = log.read(100)
    assert [record.payload for record in found] == payloads[first.count(MARK) :]
    log.ack([record.position for record in found])
    log.tidy()
    assert not log.empty
    log.close()
    assert foreign.read_bytes() == kept
    assert [path.name for path in folder.glob("*.log")] == ["00000001.log"]


@pytest.mark.row(14)
def test_a_number_is_never_used_twice(tmp_path: Path) -> None:
    """A cursor that outlived its segment (the process died between two removals) never skips what comes later."""
    folder = tmp_path / "log"
    log = opened(folder)
    log.ack(log.append([b"x" * 300]))
    log.let_go()
    (folder / "00000001.log").unlink()
    again = opened(folder)
    again.append([b"a" * 100, b"b" * 300])
    again.let_go()
    assert everything(opened(folder)) == [b"a" * 100, b"b" * 300]
    assert [path.name for path in folder.glob("*.log")] == ["00000002.log"]


@pytest.mark.row(14)
def test_a_cursor_beyond_the_end_is_not_believed(tmp_path: Path) -> None:
    """A power cut shortened the segment below its cursor: what is left is read again."""
    folder = tmp_path / "log"
    log = opened(folder)
    positions = log.append([b"a" * 100, b"b" * 100, b"c" * 100])
    log.ack(positions)
    log.let_go()
    path = folder / "00000001.log"
    path.write_bytes(path.read_bytes()[: positions[1].end])
    assert everything(opened(folder)) == [b"a" * 100, b"b" * 100]
    head = struct.pack("<QQ", 1, 1 << 40)
    (folder / "cursor").write_bytes(head + struct.pack("<I", zlib.crc32(head)))
    assert everything(opened(folder)) == [b"a" * 100, b"b" * 100]


@pytest.mark.row(14)
def test_a_segment_that_is_deleted_costs_itself_alone(tmp_path: Path) -> None:
    """Before the start, or under a reader's hands: it is counted, and reading goes on behind it, once."""
    folder = tmp_path / "log"
    payloads = filled(folder)
    segments = sorted(folder.glob("*.log"))
    assert len(segments) > 4
    segments[0].unlink()
    log = opened(folder)
    first = log.read(1)
    segments[2].unlink()
    rest = everything(log)
    found = [record.payload for record in first] + rest
    assert found == [payload for payload in payloads if payload in found]
    assert 0 < len(payloads) - len(found) <= 2 * 8
    assert log.damaged == 1
    assert log.read(10) == []


class BadBlock(OsFiles):
    """One file cannot be read, for ever or for a while."""

    def __init__(self, name: str, failures: int) -> None:
        self.name = name
        self.failures = failures

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Fails where it should."""
        if path.endswith(self.name) and self.failures:
            self.failures -= 1
            raise OSError(errno.EIO, "Input/output error")
        return super().read(path, offset, size)


@pytest.mark.row(14)
@pytest.mark.parametrize(("failures", "missing"), [(2, False), (1_000, True)])
def test_a_segment_that_cannot_be_read(tmp_path: Path, failures: int, missing: bool) -> None:
    """An error that passes costs nothing; one that stays is passed over after a few attempts, and the file is kept."""
    folder = tmp_path / "log"
    payloads = filled(folder)
    files = BadBlock("00000002.log", 0)
    log = opened(folder, files)
    files.failures = failures
    found: list[bytes] = []
    positions: list[Position] = []
    errors = 0
    for _ in range(100):
        try:
            records = log.read(5)
        except OSError:
            errors += 1
            continue
        if not records:
            break
        found.extend(record.payload for record in records)
        positions.extend(record.position for record in records)
    assert errors <= 2
    assert (found != payloads) == missing
    assert log.unreadable == missing
    log.ack(positions)
    log.tidy()
    assert (folder / "00000002.log").exists() == missing


def test_a_record_is_fetched_again(tmp_path: Path) -> None:
    """By its position, damage before it included; not where it is damaged itself or gone."""
    folder = tmp_path / "log"
    log = opened(folder)
    positions = log.append([b"a" * 50, b"b" * 50, b"c" * 50], kind=7, time_ns=9)
    log.let_go()
    path = folder / "00000001.log"
    data = bytearray(path.read_bytes())
    data[positions[0].start] ^= 1  # the first one's mark: its bytes belong to the second now
    path.write_bytes(bytes(data))
    log = opened(folder)
    (second, third) = log.read(10)
    assert second.position == Position(1, positions[0].start, positions[1].end)
    assert log.fetch(second.position) == second
    assert log.fetch(third.position) == third
    data[positions[2].end - 1] ^= 1
    path.write_bytes(bytes(data))
    assert log.fetch(third.position) is None
    path.unlink()
    assert log.fetch(second.position) is None


def test_how_many_and_how_old(tmp_path: Path) -> None:
    """Records that are not done are counted a segment at a time, and the oldest one's time is known."""
    folder = tmp_path / "log"
    filled(folder)
    log = opened(folder)
    assert (log.records, log.oldest_ns) == (0, 5)
    while log.count_one():
        pass
    assert log.records == 30
    found = log.read(20)
    log.ack([record.position for record in found[:10]])
    log.append([b"new"] * 3, time_ns=8)
    assert log.records == 23
    log.ack([record.position for record in [*found[10:], *log.read(100)]])
    assert log.records == 0
    assert log.oldest_ns == 0


def test_reading_stops_at_its_bytes(tmp_path: Path) -> None:
    """The record that crosses the limit is still given; the next reading goes on behind it."""
    folder = tmp_path / "log"
    payloads = filled(folder, 10)
    log = opened(folder)
    assert [record.payload for record in log.read(100, 601)] == payloads[:2]
    assert [record.payload for record in log.read(100, 1)] == payloads[2:3]
    assert everything(log) == payloads[3:]


def test_a_write_into_a_removed_folder_is_not_promised(tmp_path: Path) -> None:
    """Somebody removes the folder under a living process: it is made anew, with its lock, before the next write."""
    folder = tmp_path / "spool"
    spool = Spool(str(folder), OsFiles(), max_bytes=MB, now_ns=lambda: 1, name="0")
    spool.claim()
    spool.append([b"one"])
    for path in sorted((folder / "0").iterdir()):
        path.unlink()
    (folder / "0").rmdir()
    spool.append([b"two"])
    second = Spool(str(folder), OsFiles(), max_bytes=MB, now_ns=lambda: 1, name="0")
    with pytest.raises(OSError, match="in use"):
        second.claim()
    spool.close()
    second.claim()
    assert [found.record.payload for found in second.read_own(10, MB)] == [b"two"]
    second.close()


def test_what_is_made_is_durable_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new folder is synced into its parent, or a power cut takes the whole spool."""
    synced: list[str] = []
    original = OsFiles.sync_folder

    def sync_folder(self: OsFiles, path: str) -> None:
        synced.append(path)
        original(self, path)

    monkeypatch.setattr(OsFiles, "sync_folder", sync_folder)
    OsFiles().make_folder(str(tmp_path / "a" / "b" / "c"))
    assert synced == [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
