"""The spool survives crashes at any step, damage at any byte, and gives back exactly what was written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.delivery.segment_log import MAGIC, SegmentLog, SpoolFullError, pack
from otel_posthog.delivery.spool import Spool, folder_name
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.model import LossReason
from tests.fixtures.faulty_disk import CrashError, Disk
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import Server, Workshop, event, key, until

MB = 1024 * 1024


NEVER = st.just(-1)


class SpoolMachine(RuleBasedStateMachine):
    """Processes that write, read, settle, crash and come back: what was written is read until it is settled."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk()
        self.written: set[bytes] = set()
        self.unsure: set[bytes] = set()
        """In a write that crashed: may be there or not."""
        self.settled: set[bytes] = set()
        self.number = 0
        self.life = 0
        self._start()

    def _start(self) -> None:
        self.life += 1
        self.spool = Spool("/spool", self.disk, max_bytes=64 * 1024, now_ns=lambda: 1, name=f"life-{self.life}")
        self.spool.adopt()
        self.read: dict[bytes, Any] = {}

    def _crash(self, *, power_loss: bool) -> None:
        self.disk.kill(power_loss=power_loss)
        self._start()

    @rule(
        count=st.integers(1, 5),
        size=st.integers(1, 3000),
        step=NEVER | st.integers(0, 8),
        torn=st.integers(0, 5000),
        power=st.booleans(),
    )
    def write(self, count: int, size: int, step: int, torn: int, power: bool) -> None:
        """Writes records; may crash at any step of it."""
        records = []
        for _ in range(count):
            self.number += 1
            records.append(b"%d:" % self.number + b"x" * size)
        self.disk.crash_in, self.disk.torn = step, torn
        try:
            self.spool.append(records)
        except SpoolFullError:
            self.disk.crash_in = -1
            assert self.spool.size > 16 * 1024
        except CrashError:
            self.unsure.update(records)
            self._crash(power_loss=power)
        else:
            self.disk.crash_in = -1
            self.written.update(records)

    @rule(step=st.integers(0, 3))
    def failing_write(self, step: int) -> None:
        """One failed operation: the write is done all the same, or refused with nothing promised."""
        self.number += 1
        record = b"%d:" % self.number
        self.disk.fail = OSError(errno.EIO, "broken")
        try:
            self.spool.append([record])
        except OSError:
            self.unsure.add(record)
        else:
            self.written.add(record)
        self.disk.fail = None

    @rule(limit=st.integers(1, 10))
    def look(self, limit: int) -> None:
        """Reads on: nothing unknown, nothing twice in one life."""
        for place, record, _own in self.spool.read(limit):
            assert record in self.written | self.unsure
            assert record not in self.read
            self.read[record] = place

    @precondition(lambda self: self.read)
    @rule(data=st.data(), step=NEVER | st.integers(0, 4), power=st.booleans())
    def settle(self, data: st.DataObject, step: int, power: bool) -> None:
        """Settles some of what was read; may crash at any step of it."""
        known = sorted(self.read, key=lambda record: int(record.partition(b":")[0]))
        some = st.lists(st.sampled_from(known), unique=True, min_size=1)
        records = data.draw(some | st.just(known) | st.just(known[:-1] or known))
        self.disk.crash_in = step
        try:
            self.spool.ack([self.read.pop(record) for record in records])
        except CrashError:
            self._crash(power_loss=power)
        self.disk.crash_in = -1
        self.settled.update(records)

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        """A kill, or a power cut, at rest."""
        self._crash(power_loss=power)

    @rule()
    def restart(self) -> None:
        """An orderly end and a new process."""
        self.spool.close()
        self._start()

    @invariant()
    def bounded(self) -> None:
        """No log grows beyond its bytes."""
        assert all(log.size <= 64 * 1024 for log in self.spool._logs())

    def teardown(self) -> None:
        """Whatever happened: a last process finds everything that was written and not settled."""
        self._crash(power_loss=False)
        found: set[bytes] = set()
        while True:
            records = self.spool.read(50)
            if not records:
                break
            found.update(record for _, record, _ in records)
        assert self.written - self.settled <= found
        assert found <= self.written | self.unsure


SpoolMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolMachine = SpoolMachine.TestCase


def read_all(log: SegmentLog) -> list[bytes]:
    """Everything that a log gives."""
    found: list[bytes] = []
    while records := log.read(7):
        found.extend(record.payload for record in records)
    return found


def fresh(folder: str, max_bytes: int = MB) -> SegmentLog:
    """A log as a new process opens it."""
    log = SegmentLog(folder, OsFiles(), max_bytes=max_bytes)
    log.open()
    return log


PAYLOADS = [b"record-%d-" % number + bytes(range(256)) * (number % 3) for number in range(12)]


@pytest.mark.row(14)
def test_a_tail_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut anywhere, a log gives every record that is whole, and goes on after it."""
    whole = MAGIC + b"".join(pack(payload, 0, 1) for payload in PAYLOADS[:4])
    ends = [len(MAGIC)]
    for payload in PAYLOADS[:4]:
        ends.append(ends[-1] + len(pack(payload, 0, 1)))
    for cut in range(len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "00000001.log").write_bytes(whole[:cut])
        log = fresh(str(folder))
        expected = PAYLOADS[: max(sum(end <= cut for end in ends) - 1, 0)]
        assert read_all(log) == expected
        log.append([b"later"])
        assert read_all(log) == [b"later"]
        log.close()


@pytest.mark.row(14)
@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 4000), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_one_record(at: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Wherever a bit flips, at most the record around it is missing, and that is counted."""
    data = bytearray(MAGIC + b"".join(pack(payload, 3, 1) for payload in PAYLOADS))
    at = at % len(data)
    data[at] ^= 1 << bit
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "00000001.log").write_bytes(bytes(data))
    log = fresh(str(folder))
    found = read_all(log)
    missing = [payload for payload in PAYLOADS if payload not in found]
    assert len(missing) == (at >= len(MAGIC))
    assert [payload for payload in PAYLOADS if payload in found] == found
    assert log.damaged == len(missing)


@pytest.mark.row(14)
@pytest.mark.parametrize("cursor", [b"", b"garbage", b"\0" * 20, b"\xff" * 20, b"x" * 100])
def test_a_cursor_that_is_wrong_means_reading_again(tmp_path: Path, cursor: bytes) -> None:
    """Without a usable cursor everything is read once more; nothing is skipped."""
    log = SegmentLog(str(tmp_path / "log"), OsFiles(), max_bytes=MB)
    positions = log.append(PAYLOADS)
    log.ack(positions[:5])
    log.let_go()
    assert read_all(fresh(str(tmp_path / "log"))) == PAYLOADS[5:]
    (tmp_path / "log" / "cursor").write_bytes(cursor)
    assert read_all(fresh(str(tmp_path / "log"))) == PAYLOADS


def test_damage_is_settled_too(tmp_path: Path) -> None:
    """A folder with nothing but damage left is removed like an empty one."""
    log = SegmentLog(str(tmp_path / "log"), OsFiles(), max_bytes=MB)
    log.append(PAYLOADS[:3])
    log.let_go()
    path = tmp_path / "log" / "00000001.log"
    path.write_bytes(path.read_bytes() + b"\0" * 500)
    again = fresh(str(tmp_path / "log"))
    records = again.read(10)
    again.ack([record.position for record in records])
    assert again.read(10) == []
    again.close()
    assert not (tmp_path / "log").exists()


def test_full_means_refused_and_comes_back(tmp_path: Path) -> None:
    """At its bytes the log refuses the new and keeps the old; what is settled makes room."""
    log = SegmentLog(str(tmp_path / "log"), OsFiles(), max_bytes=20_000)
    positions = []
    with pytest.raises(SpoolFullError):
        for _ in range(1000):
            positions += log.append([b"x" * 500])
    assert log.size <= 20_000
    assert len(positions) > 20
    log.ack(positions[:20])
    log.append([b"x" * 500])


def test_files_are_private(tmp_path: Path) -> None:
    """Folders 0700, files 0600."""
    spool = Spool(str(tmp_path / "spool" / "lane"), OsFiles(), max_bytes=MB, now_ns=lambda: 1)
    spool.ack(spool.append([b"a", b"b"])[:1])
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (tmp_path / "spool").rglob("*")}
    assert modes == {(True, 0o700), (False, 0o600)}
    spool.close()


def test_a_living_process_keeps_its_folder(tmp_path: Path) -> None:
    """Only what dead processes left is adopted, and it goes away once it is settled."""
    folder = str(tmp_path / "lane")
    living = Spool(folder, OsFiles(), max_bytes=MB, now_ns=lambda: 1)
    living.append([b"mine"])
    other = Spool(folder, OsFiles(), max_bytes=MB, now_ns=lambda: 1)
    assert not other.adopt()
    assert other.read(10) == []
    living.close()  # leaves what is not settled
    assert other.adopt()
    ((place, record, own),) = other.read(10)
    assert (record, own) == (b"mine", False)
    other.ack([place])
    other.close()
    assert list(Path(folder).iterdir()) == []


def test_lane_folders_are_plain_names() -> None:
    """Whatever a host is called, its folder is one name below the spool."""
    assert folder_name("direct@eu.i.posthog.com") == "direct@eu.i.posthog.com"
    assert folder_name("../../etc/x") == "_.._etc_x-85e99586"
    assert folder_name("..") == "-9608161c"
    assert folder_name("\u043c\u0430\u0433") != folder_name("\u043a\u043e\u0440")
    assert folder_name("\ud800")
    assert len(folder_name("x" * 1_000)) < 200


KILLED = """
import os, sys, uuid
from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_delivery
from tests.unit.delivery.loopback import event, raise_it, until
import pathlib
url, spool = sys.argv[1:]
lane = Lane(Mode.DIRECT, url, Secret("phc_canary0123456789"))
config = DeliveryConfig(spool_dir=spool, wire="v0", retry_initial=0.05, retry_max=0.1)
delivery = build_delivery(Settings(enabled=True, lane=lane, delivery=config), guard=raise_it)
for number in range(1000):
    assert delivery.submit([event(number)])
def written():
    return sum(path.read_bytes().count(b'"order placed"') for path in pathlib.Path(spool).rglob("*.log"))
assert until(lambda: written() == 1000), written()
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_s_events_arrive_with_the_same_keys(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """Kill -9 in an outage; the next process sends what the dead one had, by the same keys, and tidies up."""
    server.default = loopback.status(503)
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), server.url, str(tmp_path)],
        cwd=Path.cwd(),
        timeout=100,
        check=False,
    )
    assert child.returncode == -9
    text = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert loopback.TOKEN.encode() not in text
    server.default = loopback.accept
    delivery = deliver(spool_dir=str(tmp_path))
    assert delivery.submit([event(5000)])
    assert until(lambda: delivery.stats().delivered == 1001)
    assert set(server.store) == {key(event(number)) for number in [*range(1000), 5000]}
    assert delivery.shutdown(30)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_an_exit_cannot_send_is_spooled(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """Shutdown during an outage loses nothing: the rest is on disk, and the next process has it."""
    server.default = loopback.status(503)
    first = deliver(spool_dir=str(tmp_path), flush_interval=60.0)
    events = [event(number) for number in range(300)]
    assert first.submit(events)
    assert first.shutdown(0.5)
    assert first.stats().spooled == 300
    server.default = loopback.accept
    second = deliver(spool_dir=str(tmp_path))
    second.submit([event(999)])
    assert until(lambda: second.stats().delivered == 301)
    assert set(server.store) == {key(made) for made in [*events, event(999)]}


def test_an_outage_longer_than_memory(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """With a spool the disk is the queue: far more than memory holds is taken, and all of it arrives."""
    server.default = loopback.status(503)
    delivery = deliver(spool_dir=str(tmp_path), queue_size=100, batch_size=20)
    events = [event(number) for number in range(2000)]
    for made in events:
        assert until(lambda made=made: delivery.submit([made]))
    assert until(lambda: delivery.stats().retries > 0)
    server.default = loopback.accept
    assert delivery.flush(30)
    assert set(server.store) == {key(made) for made in events}
    assert delivery.stats().delivered == 2000


@pytest.mark.parametrize("code", [401, 403])
def test_a_revoked_key_loses_nothing_that_is_spooled(
    server: Server, deliver: Workshop, tmp_path: Path, code: int
) -> None:
    """With a spool a refused key keeps the events, until it is mended."""
    server.default = loopback.status(code)
    delivery = deliver(spool_dir=str(tmp_path))
    delivery.submit([event(1)])
    assert until(lambda: "OTEL_EXPORTER_OTLP_TOKEN" in delivery.stats().last_error)
    assert delivery.stats().lost == {}
    server.default = loopback.accept
    assert delivery.flush(30)
    assert delivery.stats().delivered == 1


def test_a_full_spool_refuses_and_says_so(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """Full disk and full memory: submit refuses, shutdown counts what could not be written."""
    server.default = loopback.status(503)
    delivery = deliver(spool_dir=str(tmp_path), spool_bytes=20_000, queue_size=100, batch_size=10)
    taken = 0
    for number in range(600):
        taken += delivery.submit([event(number)])
        if number % 20 == 0:
            until(lambda: False, 0.05)  # some time for the disk, whoever wins
    assert 100 <= taken < 600
    assert until(lambda: "spool" in delivery.stats().last_error or delivery.stats().retries > 0)
    assert not delivery.shutdown(0.3)
    stats = delivery.stats()
    assert stats.lost.keys() <= {LossReason.SPOOL_FULL}
    assert stats.spooled > 20
    assert stats.spooled + stats.lost[LossReason.SPOOL_FULL] == taken


def test_a_spool_that_cannot_be_made_is_no_spool(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """A file where the folder should be: events go out from memory, and the error is told."""
    (tmp_path / "file").write_text("not a folder")
    delivery = deliver(spool_dir=str(tmp_path / "file"))
    delivery.submit([event(1)])
    assert delivery.flush(30)
    assert delivery.stats().delivered == 1
    assert "spool" in delivery.stats().last_error


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_has_a_spool_of_its_own(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """A child of a fork neither keeps the parent's lock nor writes into its folder."""
    server.default = loopback.status(503)
    delivery = deliver(spool_dir=str(tmp_path))
    delivery.submit([event(1)])
    assert until(lambda: any(tmp_path.rglob("*.log")))
    (parents,) = {path.parent for path in tmp_path.rglob("*.log")}
    child = os.fork()
    if child == 0:
        try:
            delivery.submit([event(2)])
            ok = until(lambda: len({path.parent for path in tmp_path.rglob("*.log")}) == 2)
            ok = ok and not any(f"/{parents.name}/lock" in os.readlink(f"/proc/self/fd/{n}") for n in _descriptors())
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0


def _descriptors() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        found.append(name)
    return found


def left_by_a_dead_process(url: str, folder: Path, count: int) -> None:
    """A process that spools `count` events and is killed before it could send one."""
    code = f"""
        import os, sys, time
        from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
        from otel_posthog.delivery.build import build_delivery
        from tests.unit.delivery.loopback import event, raise_it
        config = DeliveryConfig(wire="v0", flush_interval=600.0, spool_dir={str(folder)!r})
        lane = Lane(Mode.DIRECT, {url!r}, Secret("phc_x"))
        delivery = build_delivery(Settings(enabled=True, lane=lane, delivery=config), guard=raise_it)
        delivery.submit([event(number) for number in range({count})])
        found = lambda: sum(
            open(os.path.join(base, name), "rb").read().count(b"order placed")
            for base, _, names in os.walk({str(folder)!r}) for name in names if name.endswith(".log")
        )
        while found() < {count}:
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path.cwd(), timeout=100, check=False)
    assert done.returncode == -9


def test_what_a_dead_process_left_leaves_without_any_new_event(
    server: Server, deliver: Workshop, tmp_path: Path
) -> None:
    """A service that was killed and is quiet after its restart: `resume` alone brings everything, once."""
    left_by_a_dead_process(server.url, tmp_path, 7)
    assert server.store == {}
    delivery = deliver(spool_dir=str(tmp_path))
    delivery.resume()
    assert until(lambda: set(server.store) == {key(event(number)) for number in range(7)})
    assert until(lambda: delivery.stats().delivered == 7)
    delivery.resume()
    assert delivery.shutdown(30)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_resuming_where_nothing_is_left_starts_nothing(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """No spool, an empty one, a living process's, one of another lane: no thread, and no file is made or left open."""
    other = Workshop(server)(mode=Mode.COLLECTOR, spool_dir=str(tmp_path), flush_interval=600.0)
    alive = deliver(spool_dir=str(tmp_path), flush_interval=600.0)
    alive.submit([event(1)])
    other.submit([event(2)])
    assert until(lambda: len(list(tmp_path.rglob("*.log"))) == 2)
    # What an earlier test left may end meanwhile; nothing may be added.
    before, files, handles = set(threading.enumerate()), sorted(tmp_path.rglob("*")), len(os.listdir("/proc/self/fd"))
    for folder in ("", str(tmp_path / "empty"), str(tmp_path)):
        delivery = deliver(spool_dir=folder)
        delivery.resume()
        assert set(threading.enumerate()) <= before
        assert delivery.stats().captured == 0
    assert sorted(tmp_path.rglob("*")) == files
    assert len(os.listdir("/proc/self/fd")) <= handles
    other.shutdown(5)


@pytest.mark.parametrize("folder", ["/proc/otel-posthog/spool", "/proc/self/otel-posthog"])
def test_a_folder_that_cannot_be_made_under_one_that_is_there(folder: str) -> None:
    """Some file systems answer `mkdir` with "no such file" under a folder that exists: an OSError, and no recursion."""
    with pytest.raises(OSError):
        OsFiles().make_folder(folder)


def test_a_relative_folder_in_a_removed_one(tmp_path: Path) -> None:
    """The working directory is gone: an OSError."""
    code = f"""
        import os
        from otel_posthog.delivery.spool_files import OsFiles
        os.mkdir({str(tmp_path / "gone")!r})
        os.chdir({str(tmp_path / "gone")!r})
        os.rmdir({str(tmp_path / "gone")!r})
        try:
            OsFiles().make_folder("a/b")
        except OSError as error:
            print(type(error).__name__)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("FileNotFoundError\n", "", 0)


def test_another_service_never_sends_what_a_dead_one_left(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """Two services share a folder, each with a key of its own: events go by the key of their own service only."""
    left_by_a_dead_process(server.url, tmp_path, 2)
    lane = Lane(Mode.DIRECT, server.url, Secret("phc_billing"))
    config = replace(loopback.QUICK, spool_dir=str(tmp_path))
    settings = Settings(enabled=True, lane=lane, delivery=config)
    other = deliver.build(settings, resource={"service.name": "billing"})
    other.resume()
    other.submit([event(7)])
    assert other.flush(30)
    assert set(server.store) == {key(event(7))}
    same = deliver.build(settings, resource={"telemetry.sdk.name": "opentelemetry"})
    same.resume()
    assert until(lambda: set(server.store) == {key(event(number)) for number in (0, 1, 7)})
