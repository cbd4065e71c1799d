"""Several senders to one destination: each person's events go by one of them, so that they stay in order.

One lane has one request on its way at a time, which is 1,000 events for each round trip and answer: enough for a
process, not for a gateway in front of many. Here N lanes stand side by side, each with its own queue, thread,
connection and retries, and an event's lane is a checksum of its person (`$groupidentify`: of its group).

- What one person does arrives in order, as with one lane. Between two people, and so between an anonymous id and the
  one that it is merged into, there is no order: PostHog merges them in any.
- The limits of the queue hold for all lanes together: one person who is busier than the rest may have all of it.
- A server that is away is found out by each lane for itself, so it sees N attempts for every pause.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from zlib import crc32

from otel_posthog.delivery.lane import LaneDelivery
from otel_posthog.delivery.protocols import DeliveryStats, Receipt
from otel_posthog.delivery.weight import weigh
from otel_posthog.model import CaptureEvent, LossReason


class Spread:
    """`Delivery` by several lanes. Safe in any thread; never raises.

    Args:
        lanes: Two or more; nobody else submits to them.
        queue_size: Events that may wait in all of them together.
        queue_bytes: About how many bytes those may have.
    """

    def __init__(self, lanes: Sequence[LaneDelivery], *, queue_size: int, queue_bytes: int) -> None:
        self.lanes = tuple(lanes)
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._closed = False
        if hasattr(os, "register_at_fork"):
            unlock = weakref.WeakMethod(self._after_fork)
            os.register_at_fork(after_in_child=lambda: (found := unlock()) and found())

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """See `Delivery.submit`."""
        parts: dict[int, list[CaptureEvent]] = {}
        for event in events:
            parts.setdefault(lane_of(event, len(self.lanes)), []).append(event)
        weight = sum(event.weight or weigh(event) for event in events)
        part_receipt = None if receipt is None else _Part(receipt)
        with self._lock:  # between the look for room and the last lane nobody else may take it
            waiting, size = map(sum, zip(*(lane.waiting() for lane in self.lanes), strict=True))
            over = waiting + len(events) > self._queue_size or size + weight > self._queue_bytes
            if self._closed or (over and waiting):  # what is larger than the whole queue has it for itself
                return False
            if receipt is not None:
                receipt.taken(len(events))  # of all, before a quick lane can have ended its part
            taken = [self.lanes[number].submit(part, part_receipt) for number, part in parts.items()]
        return all(taken)

    def resume(self) -> None:
        """See `Delivery.resume`; one lane sends what dead processes left."""
        self.lanes[0].resume()

    def flush(self, timeout: float) -> bool:
        """See `Delivery.flush`; all lanes at once."""
        deadline = time.monotonic() + timeout
        begun = [(lane, lane.begin_flush()) for lane in self.lanes]
        # Each is waited for, whatever the one before it came to.
        done = [lane.end_flush(flush, max(deadline - time.monotonic(), 0.0)) for lane, flush in begun]
        return all(done)

    def shutdown(self, timeout: float) -> bool:
        """See `Delivery.shutdown`; all lanes at once."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
        for lane in self.lanes:
            lane.begin_shutdown(timeout)
        done = [lane.shutdown(max(deadline - time.monotonic(), 0.0)) for lane in self.lanes]
        return all(done)

    def stats(self) -> DeliveryStats:
        """The books of all lanes together."""
        books = [lane.stats() for lane in self.lanes]
        lost: Counter[LossReason] = Counter()
        dead: Counter[LossReason] = Counter()
        for book in books:
            lost.update(book.lost)
            dead.update(book.dead_lettered)
        return DeliveryStats(
            captured=sum(book.captured for book in books),
            delivered=sum(book.delivered for book in books),
            spooled=sum(book.spooled for book in books),
            dead_lettered=dict(dead),
            lost=dict(lost),
            pending=sum(book.pending for book in books),
            retries=sum(book.retries for book in books),
            batches=sum(book.batches for book in books),
            last_error=next((book.last_error for book in books if book.last_error), ""),
            blocked=next((book.blocked for book in books if book.blocked), ""),
        )

    @property
    def _lock(self) -> threading.Lock:
        # Made when it is needed, like the lanes' own: one from before gevent patches `threading` would block its hub.
        own = vars(self)
        return own.get("_made") or own.setdefault("_made", threading.Lock())

    def _after_fork(self) -> None:
        vars(self).pop("_made", None)  # the parent's may be held by a thread that the child has not got


class _Part:
    """A receipt whose events were announced together."""

    def __init__(self, whole: Receipt) -> None:
        self._whole = whole

    def taken(self, count: int) -> None:
        """Said already."""

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """See `Receipt.ended`."""
        self._whole.ended(event, lost, note)


def lane_of(event: CaptureEvent, lanes: int) -> int:
    """Which of `lanes` lanes an event takes; the same in every process and version."""
    key = event.distinct_id
    if event.event == "$groupidentify":
        key = f"{event.properties.get('$group_type')}:{event.properties.get('$group_key')}"
    return crc32(key.encode(errors="replace")) % lanes
