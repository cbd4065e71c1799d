"""Where every event of a lane is at any moment, and the moves between these places.

    submit ─► queue ─► encoding ─► ready ─► in flight ─┬─► delivered | lost
                           │         ▲         │       │
                       (journal)     │         └───────┴─► parked until it is due, then in flight again
                           └──► on disk only

All of it changes under one lock, together with the books: at every moment each captured event is in exactly one place.
The lock is held for moves only, never for encoding, I/O or waiting.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.ledger import Ledger
from otel_posthog.delivery.parts import Parts
from otel_posthog.delivery.protocols import Receipt
from otel_posthog.delivery.wire import Batch, Parcel, Wire
from otel_posthog.model import CaptureEvent, LossReason

Entry: TypeAlias = tuple[CaptureEvent, int, int, float, "Receipt | None"]
"""An event in the queue: itself, its weight, epoch, monotonic time of submission, receipt. A plain tuple, since each
event makes one: anything with names costs five times as much.
"""


class State:
    """The places and the books; `lock` guards all that is not said to be the driver's own.

    Args:
        config: Limits.
        parts: What the engine is made of.
    """

    def __init__(self, config: DeliveryConfig, parts: Parts) -> None:
        self.parts = parts
        # Half of a queue that is smaller than a batch: it must not overflow while it waits for its age.
        self.enough = max(1, min(config.batch_size, config.queue_size // 2))
        """Events that need not wait for their age."""
        self.enough_bytes = config.batch_bytes
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        """Notified when an epoch is settled, or the end is decided."""
        self.gate = threading.Lock()
        """Held while modules are imported (see `lane.py`: forks)."""
        self.ledger = Ledger()
        self.queue: deque[Entry] = deque()
        self.queued_bytes = 0
        self.encoding: Sequence[Entry] = ()
        self.ready: deque[Parcel] = deque()
        self.parked: list[tuple[float, Batch]] = []
        self.inflight: Batch | None = None
        self.on_disk: deque[list[int]] = deque()
        """Runs of [epoch, events] that are on disk only, in order."""
        # Epochs let a flush wait for what came before it and for nothing else.
        self.epoch = 0
        self.open: dict[int, int] = {}
        """Epoch -> events of it without an outcome."""
        self.hold_until = 0.0
        self.floor_until = 0.0
        self.failures = 0
        """Attempts in a row that failed as a whole; the driver's own."""
        self.flushers = 0
        self.closed = False
        self.deadline: float | None = None
        self.last_try = False
        self.gave_up = False
        self.abandoned = False
        self._wire: Wire | None = None

    # --- asked by the driver, without the lock ----------------------------------------------------------------------

    @property
    def wire(self) -> Wire:
        """How events are written; the first time, all that is imported late is imported."""
        if self._wire is None:
            with self.gate:
                self._wire = self._wire or self.parts.load()
        return self._wire

    @property
    def loaded(self) -> bool:
        """Whether everything that is imported late has been imported."""
        return self._wire is not None

    def complain(self, note: str) -> None:
        """A log line, with the books of the moment."""
        with self.lock:
            stats = self.ledger.stats()
        self.parts.complain(note, stats)

    # --- with the lock held -----------------------------------------------------------------------------------------

    def held(self) -> int:
        """Events that are somewhere in here, counted where they are."""
        return (
            len(self.queue)
            + len(self.encoding)
            + len(self.ready)
            + sum(len(batch.parcels) for _, batch in self.parked)
            + (len(self.inflight.parcels) if self.inflight else 0)
            + sum(count for _, count in self.on_disk)
        )

    def full(self) -> bool:
        """Whether there is enough for a batch."""
        return len(self.queue) + len(self.ready) >= self.enough or self.queued_bytes >= self.enough_bytes

    def pressed(self) -> bool:
        """Whether somebody waits for all that is there to leave."""
        return self.flushers > 0 or self.closed or self.deadline is not None

    def over(self, now: float) -> bool:
        """Whether nothing is to be attempted any more."""
        return self.gave_up or (self.deadline is not None and now >= self.deadline)

    def waiting_since(self) -> float | None:
        """Since when the oldest event waits that was never attempted; `None` where there is none."""
        if self.ready:
            return self.ready[0].since
        return self.queue[0][3] if self.queue else None

    def hurry(self, until: float) -> None:
        """Pauses of our own choice end at `until`."""
        self.hold_until = min(self.hold_until, max(until, 0.0))
        self.parked = [(min(due, max(until, 0.0)), batch) for due, batch in self.parked]

    def take(self, limit: int, most_bytes: int) -> Sequence[Entry]:
        """Queue -> encoding: up to `limit` events, and the first that exceeds `most_bytes`."""
        queue = self.queue
        entries: list[Entry] = []
        weight = 0
        while queue and len(entries) < limit and weight < most_bytes:
            entry = queue.popleft()
            weight += entry[1]
            entries.append(entry)
        self.queued_bytes -= weight
        self.encoding = entries
        return entries

    def park(self, batch: Batch, due: float) -> None:
        """In flight -> parked."""
        if self.abandoned:
            return
        self.inflight = None
        if batch.parcels:
            self.parked.append((due, batch))

    def settled(self, epoch: int) -> bool:
        """Whether everything up to `epoch` has its outcome."""
        return all(open_epoch > epoch for open_epoch in self.open)

    def closed_out(self, epoch: int, count: int = 1) -> None:
        """`count` events of `epoch` have their outcome."""
        left = self.open.get(epoch, 0) - count
        if left > 0:
            self.open[epoch] = left
        else:
            self.open.pop(epoch, None)
            self.changed.notify_all()

    def close_out_all(self, parcels: Sequence[Parcel]) -> None:
        """The same for each of `parcels`."""
        for epoch, count in Counter([parcel.epoch for parcel in parcels]).items():
            self.closed_out(epoch, count)


def tell(
    receipt: Receipt,
    event: CaptureEvent,
    lost: LossReason | None,
    note: str,
    guard: Callable[[str, BaseException], None],
) -> None:
    """Tells a submitter what became of its event."""
    try:
        receipt.ended(event, lost, note)
    except Exception as error:  # noqa: BLE001 - an edge: its keeper still has the event, and sends it again
        guard("delivery.receipt", error)
