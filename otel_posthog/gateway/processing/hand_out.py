"""Hands records out to their projects, and what finds no room, or fails, once more later.

- A project that takes nothing holds up only itself: its share of a record becomes a `Portion` (see `portions`).
- A record that makes us fail is tried a few times, over restarts too (`strikes`), and is then left to the dead letters.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from otel_posthog.delivery.protocols import Clock
from otel_posthog.errors import SignalError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.journal.strikes import Strikes
from otel_posthog.gateway.parts import Project, Projects
from otel_posthog.gateway.processing.burial import where
from otel_posthog.gateway.processing.portions import RETRY_INTERVAL, Portions
from otel_posthog.gateway.processing.reading import GoneError, Reader, without_body
from otel_posthog.gateway.processing.shares import CHUNK, Shares
from otel_posthog.gateway.processing.work import Portion, Work
from otel_posthog.model import Signal
from otel_posthog.observe.log import Complaints

_PORTIONS_AT_ONCE: Final = 32
"""Portions of one project between two looks at what else there is to do."""

_FAILURE_PAUSE: Final = 0.5
"""Seconds until a record that made us fail is tried again."""


class HandOut:
    """For one thread, `portions` apart.

    Args:
        config: Limits.
        projects: Whose data is whose.
        reader: Reads records.
        shares: Gives projects theirs.
        strikes: Remembers over restarts which record was at work; `None` where there is no folder.
        books: The gateway's numbers.
        clock: Time.
        complaints: Seldom log lines.

    Attributes:
        portions: What waits for projects without room.
        later: Records that are begun again, each after its moment in monotonic seconds.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        projects: Projects,
        reader: Reader,
        shares: Shares,
        strikes: Strikes | None,
        books: Books,
        clock: Clock,
        complaints: Complaints,
    ) -> None:
        self._config = config
        self._projects = projects
        self._reader = reader
        self._shares = shares
        self.strikes = strikes
        self._books = books
        self._clock = clock
        self._complaints = complaints
        self.portions = Portions()
        self.later: list[tuple[float, Work]] = []

    def begin(self, work: Work) -> None:
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
            self.later.append((self._clock.monotonic() + RETRY_INTERVAL, work))
        except Exception as error:  # noqa: BLE001 - an edge: a record that makes us fail costs itself alone
            work.attempts += 1
            self._books.add("processing_failures")
            text = f"{type(error).__name__} in processing"
            self._complaints.say("processing", "otel-posthog: internal error with a record (%s)", where(error))
            if work.attempts >= self._config.attempts:
                self._die(work, "failed", text)
            else:
                self.later.append((self._clock.monotonic() + _FAILURE_PAUSE, work))
        finally:
            self._over(work)

    def _struck(self, work: Work) -> bool:
        """Whether too many lives have ended while this record was being converted; notes that it is."""
        if not work.recovered or work.place is None or self.strikes is None:
            return False
        strikes = self.strikes.begin(work.place)
        if strikes <= self._config.attempts:
            return False
        self.strikes.end(work.place)
        work.why_dead = ("crashed", f"{strikes - 1} lives ended while it was being converted")
        return True

    def _over(self, work: Work) -> None:
        if work.recovered and work.place is not None and self.strikes is not None:
            self.strikes.end(work.place)

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
            if only.name in self.portions:
                self.wait_for_room(Portion(work, only.name))
            else:
                stream = iter(self._reader.signals(work))
                portion = Portion(work, only.name, stream=stream, chunk=CHUNK)
                if not self._shares.carry_on(portion, only):
                    self.wait_for_room(portion)
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
        while chunk := list(islice(stream, CHUNK)):
            shares: dict[str, tuple[Project, list[Signal]]] = {}
            for signal in chunk:
                project = self._shares.route(work, signal, routes)
                if project is None:
                    unrouted += 1
                else:
                    shares.setdefault(project.name, (project, []))[1].append(signal)
            for name, (project, share) in shares.items():
                if name in portions:
                    continue
                done = counts.get(name, 0)
                if name in self.portions:
                    portions[name] = Portion(work, name, skip=done)
                    continue
                left = self._shares.accept(work, project, share)
                counts[name] = done + len(share)
                if left:
                    portions[name] = Portion(work, name, skip=counts[name], left=left)
        for portion in portions.values():
            self.wait_for_room(portion)
        work.unrouted = unrouted

    def _hand_out_event(self, work: Work) -> None:
        project = self._shares.project(work.record.project)
        if project is None:
            work.unrouted = 1
        elif project.name in self.portions or not self._shares.submit(work, project):
            self.wait_for_room(Portion(work, project.name))

    def retry_later(self) -> None:
        """Begins again with the records whose pause is over."""
        now = self._clock.monotonic()
        due = [each for at, each in self.later if at <= now]
        if due:
            self.later = [(at, each) for at, each in self.later if at > now]
            for each in due:
                self.begin(each)

    def wait_for_room(self, portion: Portion) -> None:
        """Puts a portion behind those of its project that wait already."""
        work = portion.work
        work.tracker.more(1)
        work.to_hand_out += 1
        if work.place is not None:
            work.record, work.prepared = without_body(work.record), None  # it is on disk
        self.portions.add(portion, self._clock.monotonic())

    def retry_portions(self) -> None:
        """Offers projects that are due what waits for them."""
        for name in self.portions.due(self._clock.monotonic()):
            self._retry_project(name)

    def _retry_project(self, name: str) -> None:
        project = self._shares.project(name)
        for _ in range(_PORTIONS_AT_ONCE):
            portion = self.portions.first(name)
            if portion is None:
                break
            if not self._portion_ends(portion, project):
                self.portions.tried(name, self._clock.monotonic(), room=False)
                return
            self.portions.ended(name)
            portion.work.to_hand_out -= 1
            portion.work.tracker.less()
        self.portions.tried(name, self._clock.monotonic(), room=True)
        if self._reader.journal is not None:
            self._reader.journal.wake()

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
                return self._shares.submit(work, project)
            return self._shares.carry_on(portion, project)
        except GoneError:
            self._books.add("spool_gone")
            return True
        except OSError as error:
            self._complaints.say("read", "otel-posthog: the spool cannot be read (%s)", type(error).__name__)
            return False
        except Exception as error:  # noqa: BLE001 - an edge: as in `begin`
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
        self.later.append((self._clock.monotonic(), work))
