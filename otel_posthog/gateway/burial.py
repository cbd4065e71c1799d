"""What a record that has come to its end leaves for the dead letters: of each lost event the item it was made from."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Final

from otel_posthog.delivery.protocols import Clock
from otel_posthog.errors import OtelPosthogError, SignalError
from otel_posthog.gateway.dead_letters import Letter
from otel_posthog.gateway.inflate import Inflate
from otel_posthog.gateway.journal.record import Record, decode
from otel_posthog.gateway.journal.single_item import single_items
from otel_posthog.gateway.parts import Prepare, Projects
from otel_posthog.gateway.work import Work
from otel_posthog.observe.log import Complaints

_MAX_INFLATED: Final = 1 << 30


class Everything:
    """`parts.Wanted` of a record of which nothing may be left out: its rules are not today's."""

    @property
    def everything(self) -> bool:
        """See `parts.Wanted`."""
        return True


def without_body(record: Record, body: bytes = b"") -> Record:
    """`record` with another body, or none; not compressed where there is one.

    Args:
        record: What everything else is taken from.
        body: Its new body.
    """
    return Record(
        kind=record.kind,
        media_type=record.media_type,
        body=body,
        gzip=record.gzip and not body,
        caller=record.caller,
        received_ns=record.received_ns,
        digests=record.digests,
        content=record.content,
        project=record.project,
        origin=record.origin,
    )


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
        read: Reads a record with its body.
        clock: Time.
        complaints: Seldom log lines.
    """

    def __init__(
        self,
        *,
        projects: Projects,
        prepare: Prepare,
        inflate: Inflate,
        read: Callable[[Work], Record],
        clock: Clock,
        complaints: Complaints,
    ) -> None:
        self._projects = projects
        self._prepare = prepare
        self._inflate = inflate
        self._read = read
        self._clock = clock
        self._complaints = complaints

    def letters(self, work: Work, *, sources: bool) -> list[Letter]:
        """The dead letters of a record; none where everything has been delivered.

        Args:
            work: The record.
            sources: Whether to look for the items that lost events were made from.
        """
        letters: list[Letter] = []
        losses = work.tracker.losses
        if work.why_dead is None and not work.unrouted and not losses:
            return letters
        now_ns = int(self._clock.time() * 1e9)
        record = self._whole(work)
        if work.why_dead is not None or work.unrouted:
            reason, note = work.why_dead or ("unrouted", f"{work.unrouted} items belong to no project")
            letters.append(Letter(reason, note, record.project, now_ns, source=record))
        found = self._sources(record, {loss.event.uuid for loss in losses}) if sources and losses else {}
        letters.extend(
            Letter(loss.reason.value, loss.note, loss.project, now_ns, loss.event, found.get(loss.event.uuid))
            for loss in losses
        )
        return letters

    def _whole(self, work: Work) -> Record:
        try:
            return self._read(work)
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
            digest = record.digests.get(project.name, "")
            bridge = self._projects.pinned(project, digest) if digest else project.bridge
            try:
                uuids.update(event.uuid for event in bridge.converter.convert(signal).events)
            except SignalError:
                continue
        return uuids
