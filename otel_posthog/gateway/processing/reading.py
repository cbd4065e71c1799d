"""A record as signals: from what is at hand, else from disk, out of gzip, and read as little as can be."""

from __future__ import annotations

from collections.abc import Iterable

from otel_posthog.errors import OtelPosthogError
from otel_posthog.gateway.inflate import Inflate
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.journal.journal import Journal
from otel_posthog.gateway.journal.record import Record, decode
from otel_posthog.gateway.parts import Prepare, Prepared, Projects
from otel_posthog.gateway.processing.work import Work
from otel_posthog.model import Signal


class Everything:
    """`parts.Wanted` of a record of which nothing may be left out: its rules are not today's."""

    @property
    def everything(self) -> bool:
        """See `parts.Wanted`."""
        return True


def without_body(record: Record, body: bytes = b"") -> Record:
    """`record` with another body, or none, and without its origin; not compressed where there is one.

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
    )


class GoneError(OtelPosthogError):
    """A record is no longer on disk."""


class Reader:
    """For one thread.

    Args:
        config: Limits.
        projects: Whose data is whose.
        prepare: Looks into requests.
        inflate: Out of gzip.
    """

    def __init__(self, config: IntakeConfig, *, projects: Projects, prepare: Prepare, inflate: Inflate) -> None:
        self._config = config
        self._projects = projects
        self._prepare = prepare
        self._inflate = inflate
        self.journal: Journal | None = None
        """Where records are read from."""

    def record(self, work: Work) -> Record:
        """The record with its body, from disk where it is not at hand.

        Raises:
            GoneError: It is not there any more.
            OSError: It cannot be read now.
        """
        if work.record.body or work.place is None or self.journal is None:
            return work.record
        raw = self.journal.fetch(work.place)
        if raw is None:
            raise GoneError("a record is no longer in the spool")
        return decode(raw.payload)

    def signals(self, work: Work) -> Iterable[Signal]:
        """Its signals, from the beginning.

        Raises:
            GoneError: As `record`.
            OSError: As `record`.
            SignalError: It cannot be read as a request.
        """
        prepared = work.prepared
        if prepared is None:
            prepared = self._prepared(work)
            if work.place is None:
                work.prepared = prepared
            else:
                work.record = without_body(work.record)
        return prepared.signals()

    def _prepared(self, work: Work) -> Prepared:
        record = self.record(work)
        body = self._inflate(record.body, self._config.request_bytes) if record.gzip else record.body
        if work.wanted is None:
            wanted = self._projects.wanted(record.caller)
            work.wanted = Everything() if wanted is None or not self._by_rules_of_today(record) else wanted
        return self._prepare(record.kind, record.media_type, body, work.wanted)

    def _by_rules_of_today(self, record: Record) -> bool:
        digests = record.digests
        return all(digests.get(project.name, project.digest) == project.digest for project in self._projects.all())
