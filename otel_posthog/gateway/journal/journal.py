"""The disk's own thread: everything that may wait for it happens here, and nobody else does.

    put ─► group commit ─► settled (the caller is answered) ─► taken by the processing, while it has room
    done ─► the record is done with         refill ─► what did not fit into memory, or an earlier life left

One write and one sync serve all requests that came while the last one ran. What is written while the processing has no
room stays on disk only, and is read back in order.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from otel_posthog.delivery.protocols import Clock
from otel_posthog.delivery.segment_log import Record, SpoolFullError
from otel_posthog.delivery.spool import Found, Place, Spool
from otel_posthog.delivery.spool_files import Files
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.observe.log import Complaints

ADOPT_INTERVAL: Final = 10.0
"""Seconds between two looks for folders that nobody holds: of dead workers, and of replays that somebody waits for."""

_HOUSEKEEPING: Final = 2.0
"""Seconds between two calls of `housekeeping`."""

_TIDY_AFTER: Final = 0.05
_TIDY_COUNT: Final = 64
"""Seconds, or records, until what is done is written down: each time costs a small write."""

_PROBE_INTERVAL: Final = 1.0
_PROBE_BYTES: Final = 64 * 1024
_READ_PAUSE: Final = 1.0
_READ_RECORDS: Final = 256

KIND_RECORD: Final = 0
KIND_PROBE: Final = 1
"""A write that only finds out whether the disk takes something again."""

DEAD: Final = "dead"
"""Name of the folder of dead letters beside those of the workers."""

REPLAY: Final = "replay-"
"""How the folder of a replay begins."""

ADOPTABLE: Final = re.compile(rf"\d+|{REPLAY}[\w-]+")
"""Workers and replays; whatever else lies in the spool is not a journal."""

RULES: Final = "rules"
"""Name of the folder of the rules that records were accepted under (`pinned_rules`): no worker's, never adopted."""


@dataclass(slots=True)
class Entry:
    """One record to be written.

    Args:
        data: As it is to lie on disk.
        size: Bytes of memory that `work` holds.
        settled: Called by the disk's thread, with its place, or with `None` and why it is not written.
        work: What the processing takes.
    """

    data: bytes
    size: int
    settled: Callable[[Place | None, str], None]
    work: Any


class Taker(Protocol):
    """The processing, as the journal sees it."""

    def room(self) -> int:
        """Bytes that it takes now."""
        ...

    def take(self, entries: Sequence[tuple[Place, Any]]) -> None:
        """Takes what has just been written."""
        ...

    def take_back(self, found: Sequence[Found]) -> None:
        """Takes what was read back."""
        ...


class Journal:
    """See above. `put`, `done`, `run` and the properties in any thread.

    Args:
        config: Folder and limits.
        files: File operations.
        taker: Who converts.
        books: The gateway's numbers.
        clock: Time.
        complaints: Seldom log lines.
        fault: Told about internal errors.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        files: Files,
        taker: Taker,
        books: Books,
        clock: Clock,
        complaints: Complaints,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self._config = config
        self._files = files
        self._taker = taker
        self._books = books
        self._clock = clock
        self._complaints = complaints
        self._fault = fault
        self._own_name = str(config.worker)
        siblings = {str(number) for number in range(config.workers)} | {DEAD, RULES}
        self._spool = Spool(
            config.folder,
            files,
            max_bytes=config.max_bytes,
            now_ns=lambda: int(clock.time() * 1e9),
            name=self._own_name,
            adoptable=lambda name: ADOPTABLE.fullmatch(name) is not None and name not in siblings,
        )
        self._changed = threading.Condition()
        self._entries: deque[Entry] = deque()
        self._jobs: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.housekeeping: Callable[[], None] = lambda: None
        """Called now and then, on the disk's thread."""
        self._housekeeping_at = 0.0
        self._done: list[Place] = []
        self._done_since = 0.0
        self._stopping = False
        self._news = False
        self._thread: threading.Thread | None = None
        self._together = False
        self._behind = True
        self._orphans_behind = False
        self._turn = False
        self._adopt_at = 0.0
        self._read_from = 0.0
        self._counting = True
        self._probe_at = 0.0
        self._damaged = 0
        self._error = ""
        self._full = False
        self._recovering = True
        self._oldest_ns = 0

    # --- any thread ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Takes this worker's folder; reads no records.

        Raises:
            ConfigError: It cannot be had: another process holds it, or it cannot be made.
        """
        where = f"{self._config.folder}/{self._own_name}"
        try:
            self._spool.claim()
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise ConfigError(
                    f"{where} is in use by another process",
                    key="spool.dir",
                    hint="Two gateways never share a spool: stop the other one, or give this one a folder of its own",
                ) from None
            why = error.strerror or type(error).__name__
            raise ConfigError(
                f"{where} cannot be used: {why}", key="spool.dir", hint="Name a folder that can be written"
            ) from None

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._work, name="otel-posthog-journal", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> bool:
        """Hands over a record; False where nothing is taken any more."""
        with self._changed:
            if self._stopping:
                return False
            self._entries.append(entry)
            self._notify()
        return True

    def done(self, place: Place) -> None:
        """All of the record at `place` has its end."""
        with self._changed:
            self._done.append(place)
            if len(self._done) == 1:
                self._done_since = self._clock.monotonic()
                self._notify()
            elif len(self._done) == _TIDY_COUNT:
                self._notify()

    def run(self, job: Callable[[], None], *, after: float = 0.0) -> None:
        """Runs `job` on the disk's thread, after what was written before; not any more once it stops.

        Args:
            job: What to do.
            after: Seconds to wait.
        """
        with self._changed:
            if after > 0:
                self._later.append((self._clock.monotonic() + after, job))
            else:
                self._jobs.append(job)
            self._notify()

    def fetch(self, place: Place) -> Record | None:
        """The record at `place` once more; `None` where it is gone.

        Raises:
            OSError: It cannot be read now.
        """
        # Without the spool's lock: what is not done stays where it is, and nobody need wait for a sync.
        return place.log.fetch(place.position)

    def wake(self) -> None:
        """There is room for what waits on disk."""
        with self._changed:
            self._notify()

    def settle(self, timeout: float) -> None:
        """Waits up to `timeout` seconds until what was handed over is written, and answered."""
        settled = threading.Event()
        self.run(settled.set)
        settled.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Writes what was handed over, and ends within `timeout` seconds; whether nothing is left on disk."""
        with self._changed:
            self._stopping = True
            self._notify()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                return False  # a dead disk; the daemon thread ends with the process
        empty = self._spool.size == 0 or (self._spool.records == 0 and not self._counting)
        try:
            self._spool.close()
        except OSError as error:
            self._complaints.say("close", "otel-posthog: the spool cannot be closed (%s)", _why(error))
        return empty

    @property
    def error(self) -> str:
        """Why the disk takes nothing now; "" while it does."""
        return self._error

    @property
    def recovering(self) -> bool:
        """Whether it still reads what an earlier life left."""
        return self._recovering

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._spool.size

    @property
    def records(self) -> int:
        """Records on disk that are not done; too few in the first seconds, until they have been counted."""
        return self._spool.records

    @property
    def orphans(self) -> int:
        """Folders of others that are being drained."""
        return self._spool.orphans

    @property
    def damaged(self) -> int:
        """Damaged stretches that were passed over."""
        return self._spool.damaged

    @property
    def unreadable(self) -> int:
        """Segments that are passed over in this life."""
        return self._spool.unreadable

    def oldest_age(self) -> float:
        """Seconds since the oldest record was written, as of a moment ago; 0 where there is none."""
        oldest = self._oldest_ns
        return max(self._clock.time() - oldest / 1e9, 0.0) if oldest else 0.0

    def alive(self) -> bool:
        """Whether the thread runs, where it should."""
        return self._thread is None or self._thread.is_alive() or self._stopping

    def lives_before(self, place: Place) -> bool:
        """Whether an earlier life wrote the record at `place`."""
        return self._spool.is_older(place)

    def _notify(self) -> None:
        """With the lock held: there is something to do."""
        self._news = True
        self._changed.notify()

    # --- the disk's thread -----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            try:
                wait = self._step()
            except Exception as error:  # noqa: BLE001 - an edge: the thread must survive a bug
                self._fault("journal", error)
                wait = 0.1
            if wait is None:
                return
            with self._changed:
                # A word that was said while nobody waited must not be lost: it may be that there is room again.
                if wait > 0 and not (self._news or self._entries or self._jobs):
                    self._changed.wait(wait)
                self._news = False

    def _step(self) -> float | None:
        """One round; returns seconds to wait, `None` at the end."""
        with self._changed:
            stopping = self._stopping
        self._commit()
        self._run_jobs()
        self._tidy(force=stopping)
        if stopping:
            with self._changed:
                return None if not (self._entries or self._jobs or self._done) else 0.0
        self._keep_house()
        self._adopt()
        refilled = self._refill()
        self._probe()
        more = self._count()
        if refilled or more:
            return 0.0
        return self._pause()

    def _pause(self) -> float:
        now = self._clock.monotonic()
        moments = [self._adopt_at, self._housekeeping_at]
        with self._changed:
            if self._jobs:
                return 0.0
            moments.extend(at for at, _ in self._later)
            if self._done:
                moments.append(self._done_since + _TIDY_AFTER)
        if self._error:
            moments.append(self._probe_at)
        if (self._behind or self._orphans_behind) and self._taker.room() > 0:
            moments.append(self._read_from)
        return min(max(min(moments) - now, 0.001), 1.0)

    def _commit(self) -> None:
        entries = self._next_entries()
        if not entries:
            return
        started = self._clock.monotonic()
        try:
            places = self._spool.append([entry.data for entry in entries])
        except SpoolFullError:
            self._has_failed("the spool is full", full=True)
            if len(entries) > 1:  # some of them may fit
                for entry in entries:
                    self._commit_one(entry)
            else:
                entries[0].settled(None, self._error)
        except OSError as error:
            self._has_failed(f"the spool cannot be written ({_why(error)})", full=False)
            for entry in entries:
                entry.settled(None, self._error)
        except Exception:
            # Whatever it is: who is not answered waits, and holds memory of what may be in flight for good.
            for entry in entries:
                entry.settled(None, "an internal error")
            raise
        else:
            self._written(entries, places)
            self._books.took("commit", self._clock.monotonic() - started)

    def _commit_one(self, entry: Entry) -> None:
        try:
            places = self._spool.append([entry.data])
        except OSError as error:
            entry.settled(None, self._error or _why(error))
        else:
            self._written([entry], places)

    def _next_entries(self) -> list[Entry]:
        with self._changed:
            if self._together and self._entries and not self._stopping:
                # Under load a little patience saves a sync for each request that comes meanwhile.
                self._changed.wait_for(lambda: self._stopping, self._config.commit_linger)
            entries: list[Entry] = []
            size = 0
            while self._entries and size < self._config.commit_bytes:
                entry = self._entries.popleft()
                size += len(entry.data)
                entries.append(entry)
        self._together = len(entries) > 1
        return entries

    def _written(self, entries: Sequence[Entry], places: Sequence[Place]) -> None:
        self._works_again()
        for entry, place in zip(entries, places, strict=True):
            entry.settled(place, "")
        if not self._behind and self._taker.room() >= sum(entry.size for entry in entries):
            self._spool.kept()
            self._taker.take([(place, entry.work) for entry, place in zip(entries, places, strict=True)])
        else:
            self._behind = True

    def _has_failed(self, text: str, *, full: bool) -> None:
        self._error = text
        self._full = full
        self._probe_at = self._clock.monotonic() + _PROBE_INTERVAL
        self._books.add("commit_failures", reason="full" if full else "disk")
        self._complaints.say(
            f"disk {text}", "otel-posthog: %s: callers are told to come again; nothing acknowledged is lost", text
        )

    def _works_again(self) -> None:
        if self._error and not self._full:
            self._complaints.say("works again", "otel-posthog: the spool can be written again")
            self._error = ""

    def _probe(self) -> None:
        """Finds out by itself whether the disk works again: a gateway that is not ready is asked by nobody."""
        now = self._clock.monotonic()
        if not self._error or now < self._probe_at:
            return
        self._probe_at = now + _PROBE_INTERVAL
        if self._full:
            if self._spool.size <= self._config.max_bytes * 9 // 10:
                self._full, self._error = False, ""
            return
        try:
            places = self._spool.append([bytes(_PROBE_BYTES)], kind=KIND_PROBE)
            if not self._behind:
                self._spool.kept()
            self._spool.ack(places)
        except OSError as error:
            self._error = f"the spool cannot be written ({_why(error)})"
        else:
            self._works_again()

    def _keep_house(self) -> None:
        now = self._clock.monotonic()
        with self._changed:
            self._jobs.extend(job for at, job in self._later if at <= now)
            self._later = [(at, job) for at, job in self._later if at > now]
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + _HOUSEKEEPING
            with contextlib.suppress(OSError):
                self._oldest_ns = self._spool.oldest_ns
            self.run(self.housekeeping)

    def _run_jobs(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception as error:  # noqa: BLE001 - an edge: one job, not the thread
                self._fault("journal.job", error)

    def _tidy(self, *, force: bool) -> None:
        with self._changed:
            count = len(self._done)
            due = self._clock.monotonic() >= self._done_since + _TIDY_AFTER
            if not count or not (force or due or count >= _TIDY_COUNT):
                return
            done, self._done = self._done, []
        try:
            self._spool.ack(done)
        except OSError as error:
            # They would be sent again by a later life: the same events, so nothing is counted twice.
            self._complaints.say("tidy", "otel-posthog: the spool cannot be tidied (%s)", _why(error))

    def _adopt(self) -> None:
        now = self._clock.monotonic()
        if now < self._adopt_at:
            return
        self._adopt_at = now + ADOPT_INTERVAL
        try:
            if self._spool.adopt():
                self._orphans_behind = True
                self._counting = True
        except OSError as error:
            self._complaints.say("adopt", "otel-posthog: the spool cannot be searched (%s)", _why(error))

    def _refill(self) -> bool:
        """Disk -> processing; whether something was read."""
        if not (self._behind or self._orphans_behind) or self._clock.monotonic() < self._read_from:
            return False
        room = self._taker.room()
        if room <= 0:
            return False
        # By turns: what others left must not hold up what comes in, nor the other way round.
        self._turn = not self._turn
        own = self._behind and (self._turn or not self._orphans_behind)
        read = self._spool.read_own if own else self._spool.read_orphans
        try:
            found = read(_READ_RECORDS, room)
        except OSError as error:
            self._read_from = self._clock.monotonic() + _READ_PAUSE
            self._complaints.say("read", "otel-posthog: the spool cannot be read (%s)", _why(error))
            return False
        damaged = self._spool.damaged
        if damaged != self._damaged:
            self._books.add("spool_damaged", damaged - self._damaged)
            self._complaints.say("damaged", "otel-posthog: damage in the spool was passed over: %d", damaged)
            self._damaged = damaged
        if not found:
            if own:
                self._behind = False
                self._recovering = False
            else:
                self._orphans_behind = False
            return False
        if own and self._recovering and not self._spool.is_older(found[-1].place):
            self._recovering = False
        probes = [each.place for each in found if each.record.kind == KIND_PROBE]
        for place in probes:
            self.done(place)
        older = sum(self._spool.is_older(each.place) for each in found) - len(probes)
        if older > 0:
            self._books.add("recovered_records", older)
        self._taker.take_back([each for each in found if each.record.kind != KIND_PROBE])
        return True

    def _count(self) -> bool:
        """Counts records that an earlier life left, a segment at a time: a status wants the number, nobody waits."""
        if not self._counting:
            return False
        with contextlib.suppress(OSError):
            self._counting = self._spool.count_one()
        return self._counting


def _why(error: OSError) -> str:
    return error.strerror or (errno.errorcode.get(error.errno, "") if error.errno else "") or type(error).__name__
