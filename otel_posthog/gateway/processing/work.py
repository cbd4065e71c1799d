"""One record on its way from the journal to the ends of all its events."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from otel_posthog.delivery.protocols import Delivery
from otel_posthog.delivery.spool import Place
from otel_posthog.gateway.journal.record import Record
from otel_posthog.gateway.parts import Prepared, Routing, Wanted
from otel_posthog.gateway.processing.forwarding import Attempt
from otel_posthog.model import CaptureEvent, LossReason, Signal


class Loss(NamedTuple):
    """An event that will never be delivered."""

    project: str
    event: CaptureEvent
    reason: LossReason
    note: str


class Tracker:
    """How many ends a record still waits for. Safe in any thread: deliveries tell theirs.

    Args:
        ended: Called once, by whichever thread told the last end.
    """

    __slots__ = ("_ended", "_lock", "_open", "losses")

    def __init__(self, ended: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._open = 1  # whoever hands its events out: until that is over it cannot have ended
        self._ended = ended
        self.losses: list[Loss] = []

    @property
    def open(self) -> int:
        """Ends that are still to come."""
        return self._open

    def more(self, count: int) -> None:
        """`count` further ends are to come."""
        with self._lock:
            self._open += count

    def less(self, count: int = 1, loss: Loss | None = None) -> None:
        """`count` ends have come."""
        with self._lock:
            if loss is not None:
                self.losses.append(loss)
            self._open -= count
            over = self._open == 0
        if over:
            self._ended()


class EventsReceipt:
    """`delivery.Receipt` for the events of one record in one project.

    Args:
        tracker: Of the record.
        project: The project's name.
        delivery: The delivery that they were handed to.
        moved: Called with it when the project has got rid of an event.
    """

    __slots__ = ("_lock", "_moved", "_open", "_project", "_tracker", "_void", "delivery")

    def __init__(self, tracker: Tracker, project: str, delivery: Delivery, moved: Callable[[str], None]) -> None:
        self.delivery = delivery
        self._tracker = tracker
        self._project = project
        self._moved = moved
        self._lock = threading.Lock()
        self._open = 0
        self._void = False

    def taken(self, count: int) -> None:
        """See `Receipt.taken`."""
        with self._lock:
            if self._void:
                return
            self._open += count
            self._tracker.more(count)

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """See `Receipt.ended`."""
        with self._lock:
            if self._void:
                return
            self._open -= 1
        self._tracker.less(loss=None if lost is None else Loss(self._project, event, lost, note))
        self._moved(self._project)

    def void(self) -> int:
        """Nothing more is expected from its delivery: how many events have not ended there."""
        with self._lock:
            self._void = True
            return self._open


@dataclass(eq=False, slots=True)
class Work:
    """One record.

    Args:
        size: Bytes of memory that it holds while it waits.
        received: Monotonic seconds when it came, or was read back.
        record: What is known of it; its body is dropped where it lies on disk and in `prepared`.
        prepared: The request as it was looked into; `None` where it has to be read again.
        place: Where it lies; `None` with `forward`.
        recovered: Whether an earlier life wrote it.
        attempt: With `forward`: who waits for its end.
        attempts: How often it made us fail.
    """

    size: int
    received: float
    record: Record
    prepared: Prepared | None = None
    wanted: Wanted | None = None
    """What was worth reading when it was looked into first. How far a portion got is counted in what that found, so it
    is read by the same each time, whatever a reload has changed."""
    routing: Routing | None = None
    """Whose its items are, since it was begun."""
    place: Place | None = None
    recovered: bool = False
    attempt: Attempt | None = None
    attempts: int = 0
    unrouted: int = 0
    """Items that belong to no project."""
    abandoned: bool = False
    """Its caller was told to come again; what has not been handed out need not be."""
    to_hand_out: int = 1
    """Passes over it that are still to come: the first, and each portion."""
    tracker: Tracker = field(default_factory=lambda: Tracker(lambda: None))
    receipts: dict[str, list[EventsReceipt]] = field(default_factory=dict[str, list[EventsReceipt]])
    """By project: one for each delivery that it has had meanwhile."""
    why_dead: tuple[str, str] | None = None
    """Reason and note, where the whole record is a dead letter."""


@dataclass(eq=False, slots=True)
class Portion:
    """What one project is still to get of a record, while it has no room.

    Args:
        work: The record.
        project: The project's name.
        skip: Signals of this project that have been handed out, or are in `left`.
        left: Signals that it refused.
        stream: The rest of its signals, where that is at hand; read again where it is not.
        chunk: Signals to try at once.
    """

    work: Work
    project: str
    skip: int = 0
    left: list[Signal] = field(default_factory=list[Signal])
    stream: Iterator[Signal] | None = None
    chunk: int = 1
