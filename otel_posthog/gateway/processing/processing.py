"""Turns durable records into events, and tells the journal when a record has come to its end.

    take (just written) ──┐
                          ├─► queue ─► read, route ─► bridge.accept(signals, left, receipt) ─► … ─► all ended ─► done
    take_back (from disk) ┘                                  │ no room
                                                             └─► portions: they wait by project, on disk

- One thread converts. The queue holds what `waiting_bytes` allow; the rest waits on disk (`journal`).
- A project that takes nothing (an outage, a revoked key) holds up only itself: its share of every record becomes a
  `Portion`, of which nothing but its place is in memory, save the one that is next. It is tried again when the project
  has got rid of something, and every second.
- A record that makes us fail is tried a few times, over restarts too (`strikes`), and then becomes a dead letter. So
  do events that PostHog refuses and items that belong to no project.
- An unexpected error costs one record, never the thread.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from otel_posthog.delivery.json_event import event_of
from otel_posthog.delivery.protocols import Clock, Delivery
from otel_posthog.delivery.spool import Found, Place
from otel_posthog.errors import SignalError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letters import Letter, Letters
from otel_posthog.gateway.inflate import Inflate
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.journal import record as records
from otel_posthog.gateway.journal.journal import Journal
from otel_posthog.gateway.journal.strikes import Strikes
from otel_posthog.gateway.parts import Prepare, Project, Projects, Routing
from otel_posthog.gateway.processing.burial import Burial, where
from otel_posthog.gateway.processing.forwarding import Forwarding
from otel_posthog.gateway.processing.portions import RETRY_INTERVAL, Portions
from otel_posthog.gateway.processing.reading import GoneError, Reader, without_body
from otel_posthog.gateway.processing.work import EventsReceipt, Portion, Tracker, Work
from otel_posthog.model import Signal
from otel_posthog.observe.log import Complaints

_CHUNK: Final = 128
"""Signals handed to a bridge at once."""

_PORTIONS_AT_ONCE: Final = 32
"""Portions of one project between two looks at what else there is to do."""

_FAILURE_PAUSE: Final = 0.5
"""Seconds until a record that made us fail is tried again."""


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
        self._strikes = strikes
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
        self._changed = threading.Condition()
        self._queue: deque[Work] = deque()
        self._waiting_bytes = 0
        self._later: list[tuple[float, Work]] = []
        self._ended: deque[Work] = deque()
        self._again: set[str] = set()
        self._portions = Portions()
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
        self._strikes = None

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
        return dict(self._portions.counts())

    def alive(self) -> bool:
        """Whether the thread runs, where it should."""
        return self._thread is None or self._thread.is_alive() or self._stopping

    def _stuck(self) -> bool:
        """Whether nothing new is worth taking: every project has no room, or too many portions wait."""
        if self._portions.too_many:
            return True
        blocked = len(self._portions)
        return blocked > 0 and blocked >= sum(1 for _ in self._projects.all())

    def _has_ended(self, work: Work) -> None:
        with self._changed:
            self._ended.append(work)
            self._changed.notify_all()

    def _has_moved(self, project: str) -> None:
        if self._portions.moved(project):
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
                    and not (self._ended or self._portions.news or self._again)
                    and (not self._queue or self._stuck())
                ):
                    self._changed.wait(wait)

    def _step(self) -> float:
        """One round; returns seconds to wait."""
        self._settle()
        self._expire()
        self._hand_out_again()
        self._retry_later()
        self._retry_portions()
        with self._changed:
            work = self._queue.popleft() if self._queue and not self._stuck() else None
        if work is None:
            return self._pause()
        try:
            self._begin(work)
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
        moments.extend(due for due, _ in self._later)
        moments.extend(due for due in (self._portions.next_due(), self.forwarding.next_deadline()) if due is not None)
        return max(min(moments) - now, 0.001)

    def _expire(self) -> None:
        """With `forward`: callers that have waited long enough are told to come again."""
        now = self._clock.monotonic()
        for work in self.forwarding.expire(now):
            work.abandoned = True
            self._forget_queued(work)
            self._portions.hurry(now)  # its portions make room for those that are still waited for

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
            project = self._project(name)
            now = None if project is None else project.bridge.load().delivery
            for work in works:
                receipts = work.receipts.get(name, [])
                former = [receipt for receipt in receipts if receipt.delivery is not now]
                work.receipts[name] = [receipt for receipt in receipts if receipt.delivery is now]
                open_ends = sum(receipt.void() for receipt in former)
                if open_ends:
                    self._wait_for_room(Portion(work, name))
                    work.tracker.less(open_ends)
            self._portions.hurry(self._clock.monotonic(), name)

    def _retry_later(self) -> None:
        now = self._clock.monotonic()
        due = [each for at, each in self._later if at <= now]
        if due:
            self._later = [(at, each) for at, each in self._later if at > now]
            for each in due:
                self._begin(each)

    # --- a record --------------------------------------------------------------------------------------------------

    def _begin(self, work: Work) -> None:
        """Hands out all of a record that can be handed out now."""
        if work.abandoned:
            work.tracker.less()
            return
        if self._struck(work):
            work.tracker.less()
            return
        try:
            self._hand_out(work)
        except GoneError:
            self._books.add("spool_gone")
            work.tracker.less()
        except SignalError as error:
            self._die(work, "unreadable", str(error))
        except OSError as error:
            # The disk, not the record: it is tried for ever.
            self._complaints.say("read", "otel-posthog: the spool cannot be read (%s)", type(error).__name__)
            self._later.append((self._clock.monotonic() + RETRY_INTERVAL, work))
        except Exception as error:  # noqa: BLE001 - an edge: a record that makes us fail costs itself alone
            work.attempts += 1
            self._books.add("processing_failures")
            text = f"{type(error).__name__} in processing"
            self._complaints.say("processing", "otel-posthog: internal error with a record (%s)", where(error))
            if work.attempts >= self._config.attempts:
                self._die(work, "failed", text)
            else:
                self._later.append((self._clock.monotonic() + _FAILURE_PAUSE, work))
        finally:
            self._over(work)

    def _struck(self, work: Work) -> bool:
        """Whether too many lives have ended while this record was being converted; notes that it is."""
        if not work.recovered or work.place is None or self._strikes is None:
            return False
        strikes = self._strikes.begin(work.place)
        if strikes <= self._config.attempts:
            return False
        self._strikes.end(work.place)
        work.why_dead = ("crashed", f"{strikes - 1} lives ended while it was being converted")
        return True

    def _over(self, work: Work) -> None:
        if work.recovered and work.place is not None and self._strikes is not None:
            self._strikes.end(work.place)

    def _die(self, work: Work, reason: str, note: str) -> None:
        work.why_dead = (reason, note)
        work.tracker.less()

    def _hand_out(self, work: Work) -> None:
        record = work.record
        if record.content == "event":
            self._hand_out_event(work)
            work.to_hand_out -= 1
            work.tracker.less()
            return
        # From the beginning, so by today's configuration.
        work.routing = self._projects.routing(record.caller)
        only = work.routing.one
        if only is not None:
            if only.name in self._portions:
                self._wait_for_room(Portion(work, only.name))
            else:
                stream = iter(self._reader.signals(work))
                self._run_portion(Portion(work, only.name, stream=stream, chunk=_CHUNK), only)
        else:
            self._hand_out_routed(work)
        work.prepared = work.prepared if work.place is None else None
        work.to_hand_out -= 1
        work.tracker.less()

    def _hand_out_routed(self, work: Work) -> None:
        """Each resource goes where it belongs."""
        routes: dict[int, Project | None] = {}
        portions: dict[str, Portion] = {}
        counts: dict[str, int] = {}
        unrouted = 0
        stream = iter(self._reader.signals(work))
        while chunk := list(islice(stream, _CHUNK)):
            shares: dict[str, tuple[Project, list[Signal]]] = {}
            for signal in chunk:
                project = self._route(work, signal, routes)
                if project is None:
                    unrouted += 1
                else:
                    shares.setdefault(project.name, (project, []))[1].append(signal)
            for name, (project, share) in shares.items():
                if name in portions:
                    continue
                done = counts.get(name, 0)
                if name in self._portions:
                    portions[name] = Portion(work, name, skip=done)
                    continue
                left = self._accept(work, project, share)
                counts[name] = done + len(share)
                if left:
                    portions[name] = Portion(work, name, skip=counts[name], left=left)
        for portion in portions.values():
            self._wait_for_room(portion)
        work.unrouted = unrouted

    def _hand_out_event(self, work: Work) -> None:
        project = self._project(work.record.project)
        if project is None:
            work.unrouted = 1
        elif project.name in self._portions or not self._submit(work, project):
            self._wait_for_room(Portion(work, project.name))

    def _submit(self, work: Work, project: Project) -> bool:
        """An event of a replay goes out as it is: nothing is converted."""
        event = event_of(self._reader.record(work).body)
        delivery = project.bridge.load().delivery
        return delivery.submit([event], self._receipt(work, project, delivery))

    def _accept(self, work: Work, project: Project, signals: Sequence[Signal]) -> list[Signal]:
        """Hands signals to their project; returns those that it has no room for."""
        digest = work.record.digests.get(project.name)  # "" is that of no rules at all
        bridge = project.bridge if digest is None else self._projects.pinned(project, digest)
        left: list[Signal] = []
        # Asked for before: what is replaced meanwhile is handed out twice rather than never.
        bridge.accept(signals, left, self._receipt(work, project, bridge.load().delivery))
        return left

    def _receipt(self, work: Work, project: Project, delivery: Delivery) -> EventsReceipt:
        receipts = work.receipts.setdefault(project.name, [])
        if not receipts or receipts[-1].delivery is not delivery:
            receipts.append(EventsReceipt(work.tracker, project.name, delivery, self._has_moved))
        return receipts[-1]

    def _route(self, work: Work, signal: Signal, routes: dict[int, Project | None]) -> Project | None:
        key = id(signal.resource)  # one object for all items of a resource, alive as long as its request
        if key not in routes:
            routes[key] = self._routing(work).route(signal.resource.attributes)
        return routes[key]

    def _routing(self, work: Work) -> Routing:
        if work.routing is None:
            work.routing = self._projects.routing(work.record.caller)
        return work.routing

    def _project(self, name: str) -> Project | None:
        return next((project for project in self._projects.all() if project.name == name), None)

    # --- projects without room -------------------------------------------------------------------------------------

    def _wait_for_room(self, portion: Portion) -> None:
        """Puts a portion behind those of its project that wait already."""
        work = portion.work
        work.tracker.more(1)
        work.to_hand_out += 1
        if work.place is not None:
            work.record, work.prepared = without_body(work.record), None  # it is on disk
        self._portions.add(portion, self._clock.monotonic())

    def _retry_portions(self) -> None:
        for name in self._portions.due(self._clock.monotonic()):
            self._retry_project(name)

    def _retry_project(self, name: str) -> None:
        project = self._project(name)
        for _ in range(_PORTIONS_AT_ONCE):
            portion = self._portions.first(name)
            if portion is None:
                break
            if not self._portion_ends(portion, project):
                self._portions.tried(name, self._clock.monotonic(), room=False)
                return
            self._portions.ended(name)
            portion.work.to_hand_out -= 1
            portion.work.tracker.less()
        self._portions.tried(name, self._clock.monotonic(), room=True)
        if self.journal is not None:
            self.journal.wake()

    def _portion_ends(self, portion: Portion, project: Project | None) -> bool:
        """Hands out what there is room for; whether that was all."""
        work = portion.work
        if work.abandoned:
            return True
        if project is None:
            self._has_lost_its_project(work)
            return True
        if self._struck(work):
            return True
        try:
            if work.record.content == "event":
                return self._submit(work, project)
            return self._continue_portion(portion, project)
        except GoneError:
            self._books.add("spool_gone")
            return True
        except OSError as error:
            self._complaints.say("read", "otel-posthog: the spool cannot be read (%s)", type(error).__name__)
            return False
        except Exception as error:  # noqa: BLE001 - an edge: as in `_begin`
            work.attempts += 1
            portion.stream = None  # it may have ended with the error, and not at its end
            self._books.add("processing_failures")
            self._complaints.say("processing", "otel-posthog: internal error with a record (%s)", where(error))
            if work.attempts < self._config.attempts:
                return False
            work.why_dead = ("failed", f"{type(error).__name__} in processing")
            return True
        finally:
            self._over(work)

    def _has_lost_its_project(self, work: Work) -> None:
        """A reload has taken its project out: where today's configuration says, as it would go after a restart."""
        if work.record.content == "event" or work.to_hand_out > 1:
            work.unrouted += 1  # others are at it, each with a part: it is kept whole
            return
        work.tracker.more(1)
        work.to_hand_out += 1
        work.wanted = work.prepared = None
        self._later.append((self._clock.monotonic(), work))

    def _run_portion(self, portion: Portion, project: Project) -> None:
        if not self._continue_portion(portion, project):
            self._wait_for_room(portion)

    def _continue_portion(self, portion: Portion, project: Project) -> bool:
        if portion.left:
            while portion.left:
                share = portion.left[: portion.chunk]
                refused = self._accept(portion.work, project, share)
                portion.left = [*refused, *portion.left[len(share) :]]
                if refused:
                    portion.chunk = 1
                    return False
                portion.chunk = min(2 * portion.chunk, _CHUNK)
        stream = portion.stream
        if stream is None:
            stream = portion.stream = self._share(portion)
        while chunk := list(islice(stream, portion.chunk)):
            portion.skip += len(chunk)
            portion.left = chunk  # until it is known otherwise: what fails is tried again
            portion.left = self._accept(portion.work, project, chunk)
            if portion.left:
                portion.chunk = 1
                return False
            portion.chunk = min(2 * portion.chunk, _CHUNK)
        return True

    def _share(self, portion: Portion) -> Iterator[Signal]:
        """What its project is still to get, read once more."""
        work = portion.work
        stream = iter(self._reader.signals(work))
        if self._routing(work).one is None:
            routes: dict[int, Project | None] = {}

            def mine(signal: Signal) -> bool:
                project = self._route(work, signal, routes)
                return project is not None and project.name == portion.project

            stream = filter(mine, stream)
        return islice(stream, portion.skip, None)

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
