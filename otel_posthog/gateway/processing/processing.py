"""Turns durable records into events, and tells the journal when a record has come to its end.

    take (just written) ──┐
                          ├─► queue ─► read, route ─► bridge.accept(signals, left, receipt) ─► … ─► all ended ─► done
    take_back (from disk) ┘                                  │ no room
                                                             └─► portions: they wait by project, on disk

- One thread converts. The queue holds what `waiting_bytes` allow; the rest waits on disk (`journal`).
- A project that takes nothing (an outage, a revoked key) holds up only itself: its share of every record becomes a
  `Portion`, of which nothing but its place is in memory, save the one that is next. It is tried again when the project
  has got rid of something, and every second.
- A record that makes us fail (`hand_out`), events that PostHog refuses and items that belong to no project become dead
  letters.
- An unexpected error costs one record, never the thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from otel_posthog.delivery.protocols import Clock
from otel_posthog.delivery.spool import Found, Place
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letters import Letters
from otel_posthog.gateway.inflate import Inflate
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.journal import record as records
from otel_posthog.gateway.journal.journal import Journal
from otel_posthog.gateway.journal.strikes import Strikes
from otel_posthog.gateway.parts import Prepare, Projects
from otel_posthog.gateway.processing.burial import Burial
from otel_posthog.gateway.processing.forwarding import Forwarding
from otel_posthog.gateway.processing.hand_out import HandOut
from otel_posthog.gateway.processing.portions import RETRY_INTERVAL
from otel_posthog.gateway.processing.reading import Reader
from otel_posthog.gateway.processing.shares import Shares
from otel_posthog.gateway.processing.work import Portion, Tracker, Work
from otel_posthog.observe.log import Complaints


class Processing:
    """See above. `take`, `take_back`, `room`, `add` and the properties in any thread.

    Args:
        config: Limits.
        projects: Whose data is whose.
        prepare: Looks into requests.
        inflate: Out of gzip.
        strikes: Remembers over restarts which record was at work.
        letters: Dead letters; `None` for none (`forward` without a folder).
        books: The gateway's numbers.
        clock: Time.
        complaints: Seldom log lines.
        fault: Told about internal errors.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        projects: Projects,
        prepare: Prepare,
        inflate: Inflate,
        strikes: Strikes | None,
        letters: Letters | None,
        books: Books,
        clock: Clock,
        complaints: Complaints,
        fault: Callable[[str, BaseException], None],
    ) -> None:
        self._config = config
        self._projects = projects
        self._books = books
        self._clock = clock
        self._complaints = complaints
        self._fault = fault
        self._reader = Reader(config, projects=projects, prepare=prepare, inflate=inflate)
        self._burial = Burial(
            projects=projects,
            prepare=prepare,
            inflate=inflate,
            reader=self._reader,
            store=letters,
            books=books,
            clock=clock,
            complaints=complaints,
        )
        self._shares = Shares(projects, self._reader, self._has_moved)
        self._hand_out = HandOut(
            config,
            projects=projects,
            reader=self._reader,
            shares=self._shares,
            strikes=strikes,
            books=books,
            clock=clock,
            complaints=complaints,
        )
        self._changed = threading.Condition()
        self._queue: deque[Work] = deque()
        self._waiting_bytes = 0
        self._ended: deque[Work] = deque()
        self._again: set[str] = set()
        self.forwarding = Forwarding(config.forward_timeout)
        self._alive: set[Work] = set()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def journal(self) -> Journal | None:
        """Set before the start; `None` where there is no folder."""
        return self._reader.journal

    @journal.setter
    def journal(self, journal: Journal | None) -> None:
        self._reader.journal = journal

    # --- any thread ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="otel-posthog-processing", daemon=True)
        self._thread.start()

    def keep_no_letters(self) -> None:
        """There is no folder for dead letters; before the start."""
        self._burial.store = None
        self._hand_out.strikes = None

    def stop(self, timeout: float) -> bool:
        """Ends within `timeout` seconds; True where nothing was at work. What is on disk comes again."""
        end = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(lambda: not self._alive, max(timeout, 0))
            left = len(self._alive)
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(max(end - time.monotonic(), 1.0))
        return left == 0

    def room(self) -> int:
        """See `journal.Taker.room`."""
        if self._stopping or self._stuck():
            return 0
        return self._config.waiting_bytes - self._waiting_bytes

    def take(self, entries: Sequence[tuple[Place, Any]]) -> None:
        """See `journal.Taker.take`."""
        for place, work in entries:
            work.place = place
            self.add(work)

    def add(self, work: Work) -> None:
        """Takes one record."""
        work.tracker = Tracker(lambda: self._has_ended(work))
        with self._changed:
            self._queue.append(work)
            self._alive.add(work)
            self._waiting_bytes += work.size
            self._changed.notify_all()

    def take_back(self, found: Sequence[Found]) -> None:
        """See `journal.Taker.take_back`."""
        journal = self.journal
        assert journal is not None
        now = self._clock.monotonic()
        for place, raw in found:
            record = self._decoded(raw.payload, place)
            if record is not None:
                size = len(raw.payload)
                self.add(Work(size, now, record, place=place, recovered=journal.lives_before(place)))

    def _decoded(self, payload: bytes, place: Place) -> records.Record | None:
        try:
            return records.decode(payload)
        except records.UnknownVersionError as error:
            # Not done with, so that its segment stays: a newer version will read it.
            self._books.add("spool_unknown_version")
            self._complaints.say("version", "otel-posthog: a record of the spool is left alone: %s", error)
        except records.BrokenRecordError as error:
            raw = records.Record("traces", "", payload, content="raw")
            letter = Letter("unreadable", str(error), "", int(self._clock.time() * 1e9), source=raw)
            self._burial.keep([letter], place)
        return None

    def redeliver(self, project: str) -> None:
        """See `GatewayIntake.redeliver`."""
        with self._changed:
            self._again.add(project)
            self._changed.notify_all()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of what waits in memory to be converted."""
        return self._waiting_bytes

    @property
    def waiting(self) -> int:
        """Records that are in memory in one form or another."""
        return len(self._alive)

    @property
    def blocked(self) -> dict[str, int]:
        """Project -> records that wait until it takes something."""
        return dict(self._hand_out.portions.counts())

    def alive(self) -> bool:
        """Whether the thread runs, where it should."""
        return self._thread is None or self._thread.is_alive() or self._stopping

    def _stuck(self) -> bool:
        """Whether nothing new is worth taking: every project has no room, or too many portions wait."""
        if self._hand_out.portions.too_many:
            return True
        blocked = len(self._hand_out.portions)
        return blocked > 0 and blocked >= sum(1 for _ in self._projects.all())

    def _has_ended(self, work: Work) -> None:
        with self._changed:
            self._ended.append(work)
            self._changed.notify_all()

    def _has_moved(self, project: str) -> None:
        if self._hand_out.portions.moved(project):
            with self._changed:
                self._changed.notify_all()

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                wait = self._step()
            except Exception as error:  # noqa: BLE001 - an edge: the thread must survive a bug
                self._fault("processing", error)
                wait = 0.1
            with self._changed:
                if self._stopping:
                    return
                if (
                    wait > 0
                    and not (self._ended or self._hand_out.portions.news or self._again)
                    and (not self._queue or self._stuck())
                ):
                    self._changed.wait(wait)

    def _step(self) -> float:
        """One round; returns seconds to wait."""
        self._settle()
        self._expire()
        self._hand_out_again()
        self._hand_out.retry_later()
        self._hand_out.retry_portions()
        with self._changed:
            work = self._queue.popleft() if self._queue and not self._stuck() else None
        if work is None:
            return self._pause()
        try:
            self._hand_out.begin(work)
        finally:
            with self._changed:
                was_full = self._waiting_bytes >= self._config.waiting_bytes // 2
                self._waiting_bytes -= work.size
        if was_full and self.journal is not None:
            self.journal.wake()
        return 0.0

    def _pause(self) -> float:
        now = self._clock.monotonic()
        moments = [now + RETRY_INTERVAL]
        moments.extend(due for due, _ in self._hand_out.later)
        moments.extend(
            due for due in (self._hand_out.portions.next_due(), self.forwarding.next_deadline()) if due is not None
        )
        return max(min(moments) - now, 0.001)

    def _expire(self) -> None:
        """With `forward`: callers that have waited long enough are told to come again."""
        now = self._clock.monotonic()
        for work in self.forwarding.expire(now):
            work.abandoned = True
            self._forget_queued(work)
            self._hand_out.portions.hurry(now)  # its portions make room for those that are still waited for

    def _forget_queued(self, work: Work) -> None:
        """What its caller will send again need not wait here, too."""
        with self._changed:
            try:
                self._queue.remove(work)  # nearly always the first
            except ValueError:
                return
            self._waiting_bytes -= work.size
        work.tracker.less()

    def _hand_out_again(self) -> None:
        """Whole shares of records: what had been delivered of one comes a second time, and is the same event."""
        with self._changed:
            names, self._again = self._again, set()
            works = list(self._alive) if names else []
        for name in names:
            project = self._shares.project(name)
            now = None if project is None else project.bridge.load().delivery
            for work in works:
                receipts = work.receipts.get(name, [])
                former = [receipt for receipt in receipts if receipt.delivery is not now]
                work.receipts[name] = [receipt for receipt in receipts if receipt.delivery is now]
                open_ends = sum(receipt.void() for receipt in former)
                if open_ends:
                    self._hand_out.wait_for_room(Portion(work, name))
                    work.tracker.less(open_ends)
            self._hand_out.portions.hurry(self._clock.monotonic(), name)

    # --- the end of a record ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        while True:
            with self._changed:
                if not self._ended:
                    return
                work = self._ended.popleft()
            try:
                self._end(work)
            finally:
                with self._changed:
                    self._alive.discard(work)
                    self._changed.notify_all()

    def _end(self, work: Work) -> None:
        now = self._clock.time()
        self._books.took("request_age", max(now - work.record.received_ns / 1e9, 0.0))
        self._burial.bury(work)
        if work.attempt is not None and not work.abandoned:
            self.forwarding.end(work.attempt, self._verdict(work))

    def _verdict(self, work: Work) -> str | None:
        """With `forward`: what its caller is told; `None` where nothing is left of it here, so that it comes again."""
        if work.why_dead is not None and (self.journal is None or self._burial.store is None):
            return None
        said: list[str] = []
        if work.tracker.losses:
            said.append(f"PostHog refused {len(work.tracker.losses)} events for good")
        if work.unrouted:
            said.append(f"{work.unrouted} items belong to no project")
        return "; ".join(said)
