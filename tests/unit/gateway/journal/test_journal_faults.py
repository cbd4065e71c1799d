"""The journal on bad disks: what cannot be kept is never acknowledged, and what was acknowledged is never lost."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.delivery.spool import Spool
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.inbound import OK, AnswerKind
from otel_posthog.gateway.journal import record as records
from otel_posthog.gateway.prepare.request import prepare
from tests.fixtures.faulty_disk import Disk
from tests.fixtures.gateway_intake import Rig, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No whole seconds between two looks whether the disk works again."""
    monkeypatch.setattr("otel_posthog.gateway.journal.journal._PROBE_INTERVAL", 0.01)


class SickFiles(OsFiles):
    """The system's files, of which some operations fail while the test says so."""

    def __init__(self) -> None:
        self.sick: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.read_bytes = 0

    def _may_fail(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.sick:
            raise OSError(self.sick[name], os.strerror(self.sick[name]))

    def create(self, path: str) -> int:
        """See `OsFiles`."""
        self._may_fail("create")
        return super().create(path)

    def append(self, handle: int, data: bytes) -> None:
        """Half of it is written before it fails."""
        if "append" in self.sick:
            super().append(handle, data[: len(data) // 2])
        self._may_fail("append")
        super().append(handle, data)

    def cut(self, handle: int, size: int) -> None:
        """See `OsFiles`."""
        self._may_fail("cut")
        super().cut(handle, size)

    def sync(self, handle: int) -> None:
        """See `OsFiles`."""
        self._may_fail("sync")
        super().sync(handle)

    def sync_folder(self, path: str) -> None:
        """See `OsFiles`."""
        self._may_fail("sync_folder")
        super().sync_folder(path)

    def write_small(self, path: str, data: bytes) -> None:
        """See `OsFiles`."""
        self._may_fail("write_small")
        super().write_small(path, data)

    def remove(self, path: str) -> None:
        """See `OsFiles`."""
        self._may_fail("remove")
        super().remove(path)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Counts what is read."""
        self._may_fail("read")
        data = super().read(path, offset, size)
        self.read_bytes += len(data)
        return data


FULL = {"create": errno.ENOSPC, "append": errno.ENOSPC, "write_small": errno.ENOSPC}
READ_ONLY = dict.fromkeys(["create", "append", "cut", "sync", "sync_folder", "write_small", "remove"], errno.EROFS)


@pytest.mark.row(15)
@pytest.mark.parametrize(
    "sick",
    [
        FULL,
        READ_ONLY,
        {"sync": errno.EIO},
        {"sync": errno.EIO, "cut": errno.EIO},
        {"append": errno.EDQUOT},
        {"create": errno.EMFILE, "append": errno.EIO},
        {"sync_folder": errno.EIO, "sync": errno.EIO},
    ],
    ids=["full", "read-only", "failed sync", "failed sync and cut", "quota", "no inodes", "folder not synced"],
)
def test_a_sick_disk_stops_acknowledgements_and_recovers_by_itself(rig: Rig, sick: dict[str, int]) -> None:
    """RETRY while it lasts, ready again without a restart or a request, and every acknowledged request is there."""
    files = SickFiles()
    rig.delivery.automatic = False
    intake = rig.start(files=files)
    assert send(intake, spans(0, 2)).answer() == OK
    files.sick = sick
    for number in range(5):
        answer = send(intake, spans(10 + number)).answer()
        assert (answer.kind, answer.retry_after) == (AnswerKind.RETRY, 5)
    assert "cannot be written" in intake.status().disk_error
    assert os.strerror(next(iter(sick.values()))) in intake.status().disk_error or len(sick) > 1
    files.sick = {}
    assert until(lambda: not intake.status().disk_error)
    assert send(intake, spans(2, 2)).answer() == OK
    intake.stop(0.0)
    delivered = {event.distinct_id for event, _ in rig.delivery.pending}
    rig.delivery.pending.clear()
    rig.delivery.submitted.clear()
    rig.delivery.automatic = True
    again = rig.start()
    acknowledged = {f"person-{number}" for number in range(4)}
    assert until(lambda: acknowledged <= {event.distinct_id for event in rig.delivery.delivered} | delivered)
    assert until(lambda: again.status().waiting_records == 0)
    # A write that failed may be there all the same: its caller sends it again, and it is the same event.
    assert {number for number in people(rig.delivery.delivered) if number >= 10} <= set(range(10, 15))


@pytest.mark.row(15)
def test_a_disk_that_is_sick_while_records_end_costs_nothing(rig: Rig) -> None:
    """Neither the cursor nor a removal can be written: the records come twice, as the same events."""
    files = SickFiles()
    intake = rig.start(files=files, max_bytes=200_000)
    files.sick = {"write_small": errno.EROFS, "remove": errno.EROFS}
    for number in range(20):
        assert send(intake, spans(number, 1, size=3_000)).answer() == OK
    assert until(lambda: len(rig.delivery.delivered) == 20)
    assert until(lambda: intake.status().waiting_records == 0)
    files.sick = {}
    assert send(intake, spans(20)).answer() == OK
    assert until(lambda: len(rig.delivery.delivered) == 21)
    assert intake.stop(60)
    assert list(Path(rig.folder).rglob("*.log")) == []


@pytest.mark.row(16)
def test_a_full_spool_keeps_the_oldest(rig: Rig) -> None:
    """At its cap it answers RETRY; nothing that was acknowledged is overwritten; room makes it ready again."""
    rig.delivery.capacity = 0
    intake = rig.start(max_bytes=200_000)
    acknowledged = 0
    for number in range(200):
        answer = send(intake, spans(number, 1, size=30_000)).answer()
        if answer.kind is not AnswerKind.OK:
            break
        acknowledged += 1
    else:
        # Incompressible padding is not needed: each record still takes some hundred bytes.
        for number in range(200, 5_000):
            if send(intake, spans(number, 1)).answer().kind is not AnswerKind.OK:
                break
            acknowledged += 1
    assert acknowledged > 100
    assert intake.status().disk_error == "the spool is full"
    rig.delivery.capacity = 1_000_000
    assert until(lambda: not intake.status().disk_error)
    assert until(lambda: len(rig.delivery.delivered) == acknowledged)
    assert people(rig.delivery.delivered) == list(range(acknowledged))
    assert send(intake, spans(9_999)).answer() == OK
    assert rig.books.count("commit_failures", reason="full") >= 1


def vanish(rig: Rig) -> None:
    """Removes the spool, once nothing is being made in it any more."""
    assert until((Path(rig.folder) / "dead" / "0" / "lock").exists)
    shutil.rmtree(rig.folder)


@pytest.mark.row(52)
def test_a_spool_that_vanishes_is_made_again(rig: Rig) -> None:
    """The folder is removed at run time: nothing is promised into the void, and it goes on where it can."""
    rig.delivery.automatic = False
    intake = rig.start()
    assert send(intake, spans(0)).answer() == OK
    vanish(rig)
    assert send(intake, spans(1)).answer() == OK
    intake.stop(0.0)
    rig.delivery.pending.clear()
    rig.delivery.submitted.clear()
    rig.delivery.automatic = True
    rig.start()
    assert until(lambda: people(rig.delivery.delivered) == [1])


@pytest.mark.row(52)
def test_a_spool_that_vanishes_and_cannot_be_made_again(rig: Rig, tmp_path: Path) -> None:
    """A file where the folder was: RETRY, until the folder can be made."""
    rig.delivery.automatic = False
    intake = rig.start()
    assert send(intake, spans(0)).answer() == OK
    vanish(rig)
    Path(rig.folder).write_text("not a folder")
    assert send(intake, spans(1)).answer().kind is AnswerKind.RETRY
    assert intake.status().disk_error
    Path(rig.folder).unlink()
    assert until(lambda: not intake.status().disk_error)
    assert send(intake, spans(2)).answer() == OK


@pytest.mark.parametrize("what", ["file", "forbidden"])
def test_a_folder_that_cannot_be_used_is_a_configuration_error(rig: Rig, what: str) -> None:
    """The message names the folder and the way out."""
    if what == "file":
        Path(rig.folder).write_text("not a folder")
    else:
        rig.folder = "/proc/otel-posthog"
    with pytest.raises(ConfigError, match=r"cannot be used: .*Name a folder that can be written"):
        rig.start()


def test_a_start_does_not_read_the_spool(rig: Rig) -> None:
    """However much there is, a start looks at names, sizes and heads only."""
    rig.delivery.capacity = 0
    intake = rig.start()
    for number in range(40):
        assert send(intake, os.urandom(0) + spans(number, 20, size=2_000)).answer() == OK
    intake.stop(0.0)
    size = sum(path.stat().st_size for path in Path(rig.folder).rglob("*.log"))
    files = SickFiles()
    spool = Spool(rig.folder, files, max_bytes=1 << 30, now_ns=lambda: 1, name="0")
    spool.claim()
    assert files.read_bytes < 200 < size
    spool.close()


def test_the_spool_of_a_dead_worker_is_adopted(rig: Rig) -> None:
    """Fewer workers than before, or a replay: what nobody holds is drained and removed; a sibling's is left alone."""
    rig.delivery.capacity = 0
    for worker in (0, 1, 2):
        intake = rig.start(worker=worker, workers=3)
        assert send(intake, spans(10 * worker, 3)).answer() == OK
        intake.stop(0.0)
    rig.delivery.capacity = 1_000_000
    intake = rig.start(worker=0, workers=2)
    assert until(lambda: sorted(people(rig.delivery.delivered)) == [0, 1, 2, 20, 21, 22])
    assert until(lambda: intake.status().orphans == 0)
    assert intake.stop(60)
    assert sorted(path.name for path in Path(rig.folder).iterdir()) == ["1", "dead"]


def ids_on(disk: Disk) -> set[str]:
    """Who is in the records of a spool that a new process finds on `disk`."""
    spool = Spool("/spool", disk, max_bytes=1 << 20, now_ns=lambda: 1, name="0")
    spool.claim()
    found: set[str] = set()
    while read := spool.read_own(100, 1 << 20):
        for each in read:
            if each.record.kind == 0:
                record = records.decode(each.record.payload)
                body = _inflated(record)
                found.update(s.attributes["posthog.distinct_id"] for s in _signals(body))
    return found


def _inflated(record: records.Record) -> bytes:
    from otel_posthog.gateway.inflate import inflate

    return inflate(record.body, 1 << 20) if record.gzip else record.body


def _signals(body: bytes) -> Any:
    from otel_posthog.gateway.processing.reading import Everything

    return prepare("traces", "application/x-protobuf", body, Everything()).signals()


class PhotographedDisk(Disk):
    """After each step a copy is made of what a power cut would leave, with what had been acknowledged by then."""

    def __init__(self, acknowledged: Callable[[], set[str]]) -> None:
        super().__init__()
        self.acknowledged = acknowledged
        self.photographs: list[tuple[Disk, set[str]]] = []
        self.lock_of_all = threading.RLock()

    def _step(self) -> None:
        with self.lock_of_all:
            owed = self.acknowledged()
            left = Disk()
            for path, file in self.files.items():
                if file.name_synced:
                    copy = type(file)(bytearray(file.content[: file.synced]), file.synced, True)
                    left.files[path] = copy
            self.photographs.append((left, owed))
        super()._step()


@pytest.mark.row(13)
def test_a_power_cut_after_any_step_loses_nothing_acknowledged(rig: Rig) -> None:
    """Whatever was not synced is gone: after each single operation, all that was acknowledged is there or delivered."""
    acknowledged: set[str] = set()

    def owed() -> set[str]:
        return set(acknowledged) - {event.distinct_id for event in list(rig.delivery.delivered)}

    disk = PhotographedDisk(owed)
    rig.folder = "/spool"
    rig.delivery.automatic = False
    intake = rig.start(files=disk, max_bytes=40_000)

    def sender(first: int) -> None:
        for number in range(first, first + 100, 2):
            while send(intake, spans(number, 2)).answer() != OK:
                rig.delivery.settle(10)
            acknowledged.update({f"person-{number}", f"person-{number + 1}"})
            if number % 10 == 8:
                rig.delivery.settle(9)

    threads = [threading.Thread(target=sender, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(acknowledged) == 300
    intake.stop(0.0)
    checked = [(left, due) for left, due in disk.photographs if due]
    assert len(checked) > 100
    for left, due in checked[:: max(len(checked) // 200, 1)]:
        assert due <= ids_on(left)
    rig.delivery.settle()
