"""What a record that has come to its end leaves for the dead letters: of each lost event the item it was made from."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Final

from otel_posthog.delivery.protocols import Clock
from otel_posthog.delivery.spool import Place
from otel_posthog.errors import OtelPosthogError, SignalError
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letters import Letters
from otel_posthog.gateway.inflate import Inflate
from otel_posthog.gateway.journal.journal import Journal
from otel_posthog.gateway.journal.record import Record, decode
from otel_posthog.gateway.journal.single_item import single_items
from otel_posthog.gateway.parts import Prepare, Projects
from otel_posthog.gateway.processing.reading import Everything, Reader, without_body
from otel_posthog.gateway.processing.work import Work
from otel_posthog.observe.log import Complaints

LETTER_PAUSE: Final = 5.0
"""Seconds until dead letters that could not be written are tried again."""

_MAX_INFLATED: Final = 1 << 30


def where(error: BaseException) -> str:
    """Type and place of an error, for a log line; its text may be somebody's data."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__


class Burial:
    """Makes dead letters. For one thread.

    Args:
        projects: Whose data is whose.
        prepare: Looks into requests.
        inflate: Out of gzip.
        reader: Reads a record with its body.
        store: Where letters are kept; `None` for nowhere.
        books: Counts.
        clock: Time.
        complaints: Seldom log lines.
    """

    def __init__(
        self,
        *,
        projects: Projects,
        prepare: Prepare,
        inflate: Inflate,
        reader: Reader,
        store: Letters | None,
        books: Books,
        clock: Clock,
        complaints: Complaints,
    ) -> None:
        self._projects = projects
        self._prepare = prepare
        self._inflate = inflate
        self._reader = reader
        self.store = store
        self._books = books
        self._clock = clock
        self._complaints = complaints

    def bury(self, work: Work) -> None:
        """Keeps what is left of a record whose events have all ended, and only then is the record done."""
        self.keep(self._letters(work), work.place)

    def keep(self, letters: Sequence[Letter], place: Place | None) -> None:
        """Writes letters, and only then is the record at `place` done.

        Args:
            letters: What to keep; may be none.
            place: Of the record; `None` where it is on no disk.
        """
        journal, store = self._reader.journal, self.store
        if not letters:
            if place is not None and journal is not None:
                journal.done(place)
        elif journal is None or store is None:
            for letter in letters:
                self._books.add("dead_letters_not_kept", reason=letter.reason)
        else:
            journal.run(lambda: _write(journal, store, letters, place))

    def _letters(self, work: Work) -> list[Letter]:
        """The dead letters of a record; none where everything has been delivered."""
        letters: list[Letter] = []
        losses = work.tracker.losses
        if work.why_dead is None and not work.unrouted and not losses:
            return letters
        now_ns = int(self._clock.time() * 1e9)
        record = self._whole(work)
        if work.why_dead is not None or work.unrouted:
            reason, note = work.why_dead or ("unrouted", f"{work.unrouted} items belong to no project")
            letters.append(Letter(reason, note, record.project, now_ns, source=record))
        found: dict[str, Record] = {}
        if losses and self.store is not None and not self.store.full:
            found = self._sources(record, {loss.event.uuid for loss in losses})
        letters.extend(
            Letter(loss.reason.value, loss.note, loss.project, now_ns, loss.event, found.get(loss.event.uuid))
            for loss in losses
        )
        return letters

    def _whole(self, work: Work) -> Record:
        try:
            return self._reader.record(work)
        except (OSError, OtelPosthogError):
            return work.record

    def _sources(self, record: Record, uuids: set[str]) -> dict[str, Record]:
        """By uuid: found by converting the items of the record once more, each by itself."""
        found: dict[str, Record] = {}
        if record.content == "event" and record.origin:
            origin = decode(record.origin)
            return dict.fromkeys(uuids, origin)
        if record.content == "event" or not record.body:
            return found
        try:
            body = self._inflate(record.body, _MAX_INFLATED) if record.gzip else record.body
            for single in single_items(record.kind, record.media_type, body):
                if len(found) == len(uuids):
                    break
                alone = without_body(record, single)
                for uuid in self._uuids(alone) & uuids:
                    found.setdefault(uuid, alone)
        except Exception as error:  # noqa: BLE001 - an edge: a letter without its source is still a letter
            self._complaints.say("source", "otel-posthog: the source of a lost event is not found (%s)", where(error))
        return found

    def _uuids(self, record: Record) -> set[str]:
        uuids: set[str] = set()
        only = self._projects.route_all(record.caller)
        try:
            signals = list(self._prepare(record.kind, record.media_type, record.body, Everything()).signals())
        except SignalError:
            return uuids
        for signal in signals:
            project = only or self._projects.route(record.caller, signal.resource.attributes)
            if project is None:
                continue
            digest = record.digests.get(project.name)
            bridge = project.bridge if digest is None else self._projects.pinned(project, digest)
            try:
                uuids.update(event.uuid for event in bridge.converter.convert(signal).events)
            except SignalError:
                continue
        return uuids


def _write(journal: Journal, store: Letters, letters: Sequence[Letter], place: Place | None) -> None:
    """On the disk's thread."""
    if not store.write(letters):
        # The disk takes nothing now; the record stays in the journal meanwhile.
        journal.run(lambda: _write(journal, store, letters, place), after=LETTER_PAUSE)
    elif place is not None:
        journal.done(place)
