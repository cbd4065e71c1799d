"""`GatewayIntake`: takes OTLP requests, and answers each of them with what has become of it.

    receive ─► admitted? ─► whose? ─► inflate ─► prepare ─┬─► nothing wanted: OK
                                                          ├─► spool:   journal ─► durable ─► OK ─► processing
                                                          └─► forward: processing ─► all events ended ─► OK

An answer is a promise (see `inbound`): `OK` says that nothing of it can be lost any more, or that there is nothing in
it to keep. Whatever goes wrong on our side is `RETRY`, never anything that a Collector takes for final.

What is counted in the books:

    intake_requests{kind, answer}   intake_items{kind, outcome}: skipped, wanted, rejected
    intake_bytes{kind}: inflated    commit (duration), commit_failures{reason}   request_age (duration)
    recovered_records, spool_damaged, spool_unknown_version, spool_gone
    processing_failures             dead_letters{reason}, dead_letters_not_kept{reason}
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from typing import Final

from otel_posthog.delivery.clock import SystemClock
from otel_posthog.delivery.protocols import Clock
from otel_posthog.delivery.spool import Place
from otel_posthog.delivery.spool_files import Files, OsFiles
from otel_posthog.errors import ConfigError, SignalError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letters import Letters
from otel_posthog.gateway.inbound import OK, Answer, AnswerKind, Inbound
from otel_posthog.gateway.inflate import Inflate, TooLargeError, choose_inflate
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.journal.journal import Entry, Journal
from otel_posthog.gateway.journal.record import Record, encode
from otel_posthog.gateway.journal.strikes import Strikes
from otel_posthog.gateway.parts import Prepare, Prepared, Projects, Wanted
from otel_posthog.gateway.prepare.request import prepare as prepare_request
from otel_posthog.gateway.processing.forwarding import key_of
from otel_posthog.gateway.processing.processing import Processing
from otel_posthog.gateway.processing.reading import without_body
from otel_posthog.gateway.processing.work import Work
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.guard import Guard
from otel_posthog.observe.log import Complaints

MAX_MESSAGE: Final = 1024
"""Characters of a message to a caller."""

_RETRY_BUSY: Final = 1
_RETRY_DISK: Final = 5
_RETRY_STOPPING: Final = 2
"""Seconds; another gateway, or our next life, is there soon."""

_COMPRESS_OVER: Final = 512
"""Bytes of a plain body from which on compressing it is worth the while."""

_LOOKERS: Final = 2


@frozen
class IntakeStatus:
    """What the intake holds at one moment.

    Args:
        mode: `spool` or `forward`.
        spool_bytes: Bytes of the journal on disk, folders of dead workers included.
        spool_records: Records in it that are not done; too few in the first seconds of a life, until counted.
        oldest_age: Seconds since the oldest of them was written; 0 where there is none.
        inflight_bytes: Memory of requests that are not answered yet.
        waiting_bytes: Memory of what is durable and waits to be converted.
        waiting_records: Records that are being worked at.
        blocked: Project -> records that wait until it takes something.
        orphans: Folders of dead workers and of replays that are being drained.
        dead_letters: By reason.
        dead_letter_bytes: Their bytes on disk.
        disk_error: Why the disk takes nothing now, for people; "" while it does.
        recovering: Whether it still reads what an earlier life left. Requests are taken all the same.
        damaged: Damaged stretches of the journal that were passed over in this life.
        unreadable_segments: Segments that were passed over in this life, and are kept.
        dead_threads: Names of threads that should run and do not.
    """

    mode: str
    spool_bytes: int = 0
    spool_records: int = 0
    oldest_age: float = 0.0
    inflight_bytes: int = 0
    waiting_bytes: int = 0
    waiting_records: int = 0
    blocked: Mapping[str, int] = field(default_factory=dict[str, int])
    orphans: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict[str, int])
    dead_letter_bytes: int = 0
    disk_error: str = ""
    recovering: bool = False
    damaged: int = 0
    unreadable_segments: int = 0
    dead_threads: tuple[str, ...] = ()


class GatewayIntake:
    """`inbound.Intake`; see above. Safe in any thread.

    Args:
        config: Folder, mode and limits.
        projects: Whose data is whose.
        prepare: Looks into requests.
        inflate: Out of gzip; the best that is installed by default.
        files: The disk.
        books: Counts.
        clock: Time.
        guard: Told about internal errors.
    """

    def __init__(
        self,
        config: IntakeConfig,
        *,
        projects: Projects,
        prepare: Prepare = prepare_request,
        inflate: Inflate | None = None,
        files: Files | None = None,
        books: Books | None = None,
        clock: Clock | None = None,
        guard: Guard | None = None,
    ) -> None:
        self._config = config
        self._projects = projects
        self._prepare = prepare
        self._inflate = inflate or choose_inflate()
        self._books = books or Books()
        self._clock = clock or SystemClock()
        self._fault = (guard or Guard()).failed
        self._complaints = Complaints(monotonic=self._clock.monotonic)
        files = files or OsFiles()
        self._letters: Letters | None = None
        strikes: Strikes | None = None
        if config.folder:
            strikes = Strikes(files)
            self._letters = Letters(
                config.folder,
                str(config.worker),
                max_bytes=config.dead_letter_bytes,
                files=files,
                books=self._books,
                clock=self._clock,
                complaints=self._complaints,
            )
        self._processing = Processing(
            config,
            projects=projects,
            prepare=prepare,
            inflate=self._inflate,
            strikes=strikes,
            letters=self._letters,
            books=self._books,
            clock=self._clock,
            complaints=self._complaints,
            fault=self._fault,
        )
        self._journal: Journal | None = None
        if config.folder:
            self._journal = Journal(
                config,
                files=files,
                taker=self._processing,
                books=self._books,
                clock=self._clock,
                complaints=self._complaints,
                fault=self._fault,
            )
            self._processing.journal = self._journal
        self._lock = threading.Lock()
        self._inflight = 0
        self._open = False
        self._lookers: ThreadPoolExecutor | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Takes the worker's folder, and begins to take requests and to work at what an earlier life left.

        Raises:
            ConfigError: The folder cannot be had: another process holds it, or it cannot be made.
        """
        if self._journal is not None:
            self._open_journal(self._journal)
        if self._journal is not None:
            letters = self._letters
            if letters is not None:
                self._journal.housekeeping = lambda: self._look_after(letters)
        self._lookers = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="otel-posthog-look")
        self._processing.start()
        if self._journal is not None:
            self._journal.start()
        self._open = True

    def _open_journal(self, journal: Journal) -> None:
        try:
            journal.open()
        except ConfigError as error:
            if self._config.mode != "forward":
                raise
            # It promises nothing that needs a disk: only what an earlier life left, and dead letters, are out of reach.
            self._complaints.say(
                "journal", "otel-posthog: forwarding without a spool, and so without dead letters: %s", error
            )
            self._journal = self._processing.journal = self._letters = None
            self._processing.keep_no_letters()

    def close_door(self) -> None:
        """From now on every request is answered `RETRY`; what was taken goes on."""
        self._open = False

    def stop(self, timeout: float) -> bool:
        """Takes nothing more, and ends within about `timeout` seconds.

        Until then what was taken goes on, so that the bridges should be shut down after this, not before; what has not
        ended by then stays in the spool.

        Returns:
            Whether everything that was taken has come to its end.
        """
        self.close_door()
        end = time.monotonic() + timeout
        if self._lookers is not None:
            self._lookers.shutdown(wait=True)
        if self._journal is not None:
            self._journal.settle(max(end - time.monotonic(), 0.1))
        done = self._processing.stop(max(end - time.monotonic(), 0.0))
        if self._journal is not None:
            done = self._journal.stop(max(end - time.monotonic(), 1.0)) and done
        if self._letters is not None:
            self._letters.close()
        return done

    def redeliver(self, project: str) -> None:
        """Hands out once more what had not ended in a delivery that was replaced (a new key) and is shut down.

        Args:
            project: Name of the project whose bridge has another delivery now.
        """
        self._processing.redeliver(project)

    def _look_after(self, letters: Letters) -> None:
        try:
            if not letters.opened:
                letters.open()
            letters.follow()
        except OSError as error:
            self._complaints.say("letters", "otel-posthog: the dead letters cannot be used (%s)", type(error).__name__)

    def status(self) -> IntakeStatus:
        """What it holds now."""
        journal, letters, processing = self._journal, self._letters, self._processing
        dead = [] if processing.alive() else ["processing"]
        common = IntakeStatus(
            mode=self._config.mode,
            inflight_bytes=self._inflight,
            waiting_bytes=processing.waiting_bytes,
            waiting_records=processing.waiting,
            blocked=processing.blocked,
            dead_threads=tuple(dead),
        )
        if journal is None or letters is None:
            return common
        return IntakeStatus(
            mode=common.mode,
            spool_bytes=journal.size,
            spool_records=journal.records,
            oldest_age=journal.oldest_age(),
            inflight_bytes=common.inflight_bytes,
            waiting_bytes=common.waiting_bytes,
            waiting_records=common.waiting_records,
            blocked=common.blocked,
            orphans=journal.orphans,
            dead_letters=letters.counts,
            dead_letter_bytes=letters.size,
            disk_error=journal.error,
            recovering=journal.recovering,
            damaged=journal.damaged,
            unreadable_segments=journal.unreadable,
            dead_threads=(*dead, *(() if journal.alive() else ("journal",))),
        )

    # --- requests --------------------------------------------------------------------------------------------------

    def admits(self, size: int) -> bool:
        """See `inbound.Intake.admits`."""
        return self._open and self._inflight + size <= self._config.inflight_bytes

    def receive(self, inbound: Inbound, done: Callable[[Answer], None]) -> None:
        """See `inbound.Intake.receive`."""
        request = _Request(self, inbound, done)
        try:
            if not self._open:
                request.answer(Answer(AnswerKind.RETRY, message="it is shutting down", retry_after=_RETRY_STOPPING))
            elif len(inbound.body) > self._config.request_bytes:
                request.answer(_too_large(f"the request has more than {self._config.request_bytes} bytes"))
            elif not request.reserve(len(inbound.body)):
                request.answer(_BUSY)
            elif len(inbound.body) > self._config.inline_bytes and self._lookers is not None:
                self._lookers.submit(self._look_at, request)
            else:
                self._look_at(request)
        except Exception as error:  # noqa: BLE001 - an edge: whatever it is, the caller may come again
            request.answer(_OURS)
            if self._open:  # the executor refuses when we stop
                self._fault("intake", error)

    def _look_at(self, request: _Request) -> None:
        try:
            self._take(request)
        except TooLargeError as error:
            request.answer(_too_large(str(error)))
        except SignalError as error:
            request.answer(Answer(AnswerKind.BAD_DATA, message=str(error)[:MAX_MESSAGE]))
        except MemoryError:
            request.answer(_BUSY)
        except Exception as error:  # noqa: BLE001 - as above
            request.answer(_OURS)
            self._fault("intake", error)

    def _take(self, request: _Request) -> None:
        inbound = request.inbound
        wanted = self._projects.wanted(inbound.caller)
        if wanted is None:
            request.answer(Answer(AnswerKind.FORBIDDEN, message="this credential belongs to no project"))
            return
        body = inbound.body
        if inbound.gzip:
            body = self._inflate(body, self._config.request_bytes)
            if not request.reserve(len(body)):
                request.answer(_BUSY)
                return
        prepared = self._prepare(inbound.kind, inbound.media_type, body, wanted)
        self._books.add("intake_bytes", len(body), kind=inbound.kind)
        request.prepared, request.wanted = prepared, wanted
        if prepared.candidates == 0:
            if prepared.rejected:
                self._keep_unreadable(self._record(inbound), prepared)
            request.answer(request.well())
            return
        record = self._record(inbound)
        if self._config.mode == "forward" or self._journal is None:
            self._forward(request, record, body)
        else:
            self._spool(request, record, self._journal)

    def _record(self, inbound: Inbound) -> Record:
        body, gzip = inbound.body, inbound.gzip
        if not gzip and len(body) > _COMPRESS_OVER and self._config.mode == "spool":
            body, gzip = _compressed(body), True
        only = self._projects.route_all(inbound.caller)
        projects = self._projects.all() if only is None else (only,)
        return Record(
            kind=inbound.kind,
            media_type=inbound.media_type,
            body=body,
            gzip=gzip,
            caller=inbound.caller,
            received_ns=int(self._clock.time() * 1e9),
            digests={project.name: project.digest for project in projects},
        )

    def _forward(self, request: _Request, record: Record, body: bytes) -> None:
        now = self._clock.monotonic()
        prepared = request.prepared

        def ended(said: str | None) -> None:
            request.answer(_NOT_YET if said is None else request.well(said))
            if said is not None and prepared is not None and prepared.rejected:
                self._keep_unreadable(record, prepared)

        attempt = self._processing.forwarding.take(key_of(request.inbound, body), ended, now)
        if attempt is None:
            return
        size = prepared.size if prepared is not None else 0
        work = Work(size, now, record, prepared, request.wanted, attempt=attempt)
        attempt.work = work
        try:
            self._processing.add(work)
        except BaseException:
            self._processing.forwarding.end(attempt, None)  # or every retry would wait for what nobody works at
            raise

    def _spool(self, request: _Request, record: Record, journal: Journal) -> None:
        data = encode(record)
        if len(data) > self._config.max_bytes // 2:
            request.answer(_too_large("the request is larger than the spool can hold"))
            return
        prepared = request.prepared
        assert prepared is not None
        work = Work(prepared.size, self._clock.monotonic(), without_body(record), prepared, request.wanted)

        def settled(place: Place | None, why: str) -> None:
            if place is None:
                request.answer(Answer(AnswerKind.RETRY, message=why, retry_after=_RETRY_DISK))
                return
            request.answer(request.well())
            if prepared.rejected:
                self._keep_unreadable(record, prepared)

        if not journal.put(Entry(data, prepared.size, settled, work)):
            request.answer(Answer(AnswerKind.RETRY, message="it is shutting down", retry_after=_RETRY_STOPPING))

    def _keep_unreadable(self, record: Record, prepared: Prepared) -> None:
        """Items that nobody can read are told to the caller, who will not send them again; their bytes are kept."""
        letters = self._letters
        if letters is None or self._journal is None:
            self._books.add("dead_letters_not_kept", reason="unreadable_items")
            return
        note = f"{prepared.rejected} items: {'; '.join(prepared.messages)}"
        letter = Letter("unreadable_items", note, "", int(self._clock.time() * 1e9), source=record)

        def write() -> None:
            letters.write([letter])

        self._journal.run(write)

    # --- from `_Request` -------------------------------------------------------------------------------------------

    def reserve(self, size: int) -> bool:
        """Takes `size` bytes of what may be in flight, if there are so many."""
        with self._lock:
            if self._inflight and self._inflight + size > self._config.inflight_bytes:
                return False
            self._inflight += size
            return True

    def answered(self, request: _Request, answer: Answer, reserved: int) -> None:
        """A request has its answer."""
        with self._lock:
            self._inflight -= reserved
        kind = request.inbound.kind
        self._books.add("intake_requests", kind=kind, answer=answer.kind.value)
        prepared = request.prepared
        if prepared is not None and answer.kind is AnswerKind.OK:
            # Only what is ours now: what is sent again is counted then.
            for outcome, count in (
                ("skipped", prepared.skipped),
                ("wanted", prepared.candidates),
                ("rejected", prepared.rejected),
            ):
                if count:
                    self._books.add("intake_items", count, kind=kind, outcome=outcome)

    def failed(self, error: BaseException) -> None:
        """A receiver's `done` raised."""
        self._fault("intake.answer", error)


class _Request:
    """One request until its answer, which it gets exactly once."""

    __slots__ = ("_answered", "_done", "_intake", "_reserved", "inbound", "prepared", "wanted")

    def __init__(self, intake: GatewayIntake, inbound: Inbound, done: Callable[[Answer], None]) -> None:
        self._intake = intake
        self._done = done
        self._reserved = 0
        self._answered = threading.Lock()
        self.inbound = inbound
        self.prepared: Prepared | None = None
        self.wanted: Wanted | None = None

    def reserve(self, size: int) -> bool:
        """Room for `size` further bytes, given back with the answer."""
        if not self._intake.reserve(size):
            return False
        self._reserved += size
        return True

    def well(self, said: str = "") -> Answer:
        """`OK`, with what could not be read.

        Args:
            said: What else there is to say.
        """
        prepared = self.prepared
        messages = list(prepared.messages) if prepared is not None else []
        if said:
            messages.append(said)
        if prepared is None or not (prepared.rejected or messages):
            return OK
        return Answer(AnswerKind.OK, rejected=prepared.rejected, message="; ".join(messages)[:MAX_MESSAGE])

    def answer(self, answer: Answer) -> None:
        """Tells the caller; does nothing the second time."""
        if not self._answered.acquire(blocking=False):
            return
        self._intake.answered(self, answer, self._reserved)
        try:
            self._done(answer)
        except Exception as error:  # noqa: BLE001 - an edge: the caller's connection, not our thread
            self._intake.failed(error)


_BUSY: Final = Answer(AnswerKind.RETRY, message="too much at once", retry_after=_RETRY_BUSY)
_NOT_YET: Final = Answer(AnswerKind.RETRY, message="PostHog has not answered yet", retry_after=_RETRY_DISK)
_OURS: Final = Answer(AnswerKind.RETRY, message="an internal error", retry_after=_RETRY_DISK)


def _too_large(message: str) -> Answer:
    return Answer(AnswerKind.TOO_LARGE, message=message)


def _compressed(body: bytes) -> bytes:
    # The fastest level: the disk is the bottleneck, not the space on it.
    squeeze = zlib.compressobj(1, zlib.DEFLATED, 31)
    return squeeze.compress(body) + squeeze.flush()
