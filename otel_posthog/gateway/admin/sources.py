"""`AdminSources`: all that the operator's door reads of a gateway; `service` fills it in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from otel_posthog.gateway.admin.tail import Tail
from otel_posthog.gateway.books import BooksSnapshot, Labels
from otel_posthog.gateway.parts import Project
from otel_posthog.model.frozen import frozen


class Phase(str, Enum):
    """Where a gateway is in its life."""

    STARTING = "starting"
    RECOVERING = "recovering"
    """It reads what its spool holds from before; nothing is accepted yet."""
    SERVING = "serving"
    STOPPING = "stopping"
    """It accepts nothing any more and delivers what it can."""


@frozen
class Reason:
    """One reason for not being ready, or not alive.

    Args:
        check: Which check failed, from a small fixed set: `phase`, `spool`, `delivery`, `threads`, `workers`.
        text: In English, for an operator; never payload, never a secret.
        subject: The project, thread or worker that it is about; "" for the process.
    """

    check: str
    text: str
    subject: str = ""


Gauges = Mapping[tuple[str, Labels], float]
"""Momentary values by name and labels; the names that are known are in `names`."""


def _nothing() -> str:
    return ""


def _no_gauges() -> Gauges:
    return {}


def _no_threads() -> Sequence[str]:
    return ()


def _no_reasons() -> Sequence[Reason]:
    return ()


@dataclass(frozen=True, slots=True)
class AdminSources:
    """What the operator's door reads. Each callable is called for each request, from the door's own thread.

    Args:
        phase: Where the process is in its life.
        books: The gateway's own numbers: `Books.snapshot`.
        projects: Every project; its bridge gives the numbers of its signals and events.
        tail: Sees what becomes of every signal: each bridge is built with `tap=tail.of(project name)`.
        worker: Number of this worker; a label of every metric, so that workers add up.
        spool_error: Why the spool takes nothing now; "" while it does.
        gauges: Momentary values: sizes of spool and queues, the state of the last reload.
        dead_threads: Names of threads that should run and do not.
        not_ready: Further reasons for not being ready.
    """

    phase: Callable[[], Phase]
    books: Callable[[], BooksSnapshot]
    projects: Callable[[], Iterable[Project]]
    tail: Tail
    worker: int = 0
    spool_error: Callable[[], str] = field(default=_nothing)
    gauges: Callable[[], Gauges] = field(default=_no_gauges)
    dead_threads: Callable[[], Sequence[str]] = field(default=_no_threads)
    not_ready: Callable[[], Sequence[Reason]] = field(default=_no_reasons)
