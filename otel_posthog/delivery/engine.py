"""The engine of one lane: queue -> encode -> batch -> attempt -> settle; no threads of its own.

`step()` does one unit of work and says how long nothing is to be done; whoever has a thread calls it (`lane.py`: a
worker, or at the end of the interpreter the caller). Where an event is at any moment:

    submit ─► queue ─► encoding ─► ready ─► in flight ─┬─► delivered | lost
                           │         ▲         │       │
                       (journal)     │         └───────┴─► parked until it is due, then in flight again
                           └──► on disk only

All of these change under one lock, together with the books: at every moment each captured event is in exactly one
place. The lock is held for moves only, never for encoding, I/O or waiting.

One batch that waits for a retry does not hold up others, unless the failure was the server's as a whole: then
everything waits (`hold`), and the queue fills up to its bounds.

With a journal (spool) events are written to disk before they are sent (decision 0031), and a batch is never given up:
what memory cannot hold is read back from disk when its turn comes.

The size of this module: the states above are one machine, and its transitions are easier to check side by side.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, cast

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.backoff import MAX_RETRY_AFTER, Backoff
from otel_posthog.delivery.json_event import event_of
from otel_posthog.delivery.ledger import Ledger
from otel_posthog.delivery.protocols import Clock, DeliveryStats, Receipt, Transport
from otel_posthog.delivery.wire import Batch, Parcel, Verdicts, Wire
from otel_posthog.errors import (
    BatchRefusedError,
    CredentialError,
    DeliveryError,
    PermanentError,
    ProtocolAbsentError,
    ThrottledError,
)
from otel_posthog.model import CaptureEvent, LossReason

IDLE = 3600.0
"""Seconds to wait where nothing is to be done; a submit wakes the worker earlier."""

SLICE = 32
"""Events encoded between two chances for other threads to run (performance.md §1: tails are GIL hand-overs).

About a fifth of a millisecond with the standard library's encoder; each pause costs as much as three events do.
"""

MAX_PARKED = 8
"""Batches waiting for a retry of their own; with more, fresh ones wait too, so that memory stays bounded."""

JOURNAL_INTERVAL = 0.05
"""Seconds that an event may wait before it is on disk."""

JOURNAL_PAUSE = 5.0
"""Seconds without a journal after it failed (full disk, full spool); memory alone holds the events meanwhile."""

ADOPT_INTERVAL = 60.0
"""Seconds between two looks for what dead processes left."""

_YIELD = 0.00002
"""A real pause, not 0: a thread that waits for the GIL must get it before we take it again."""

_CLOSING = (0.1, 1.0)
"""First and longest pause while closing: the server's weather may change within a second, the exit will not wait."""


class Journal(Protocol):
    """Events on disk; see `spool.Spool`."""

    def append(self, records: Sequence[bytes], /) -> Sequence[Any]:
        """Writes durably and returns positions; raises OSError (SpoolFullError is one) with nothing written."""
        ...

    def read(self, limit: int, /) -> Sequence[tuple[Any, bytes, bool]]:
        """Up to `limit` records not in memory: position, record, whether this process wrote it."""
        ...

    def kept(self) -> None:
        """All that this process wrote so far is in memory: `read` need not give it."""
        ...

    def ack(self, positions: Sequence[Any], /) -> None:
        """These need not survive any longer."""
        ...

    def adopt(self) -> bool:
        """Takes over what dead processes left; whether there is something to read."""
        ...

    def close(self) -> None:
        """Releases the folder, and removes it where nothing is left in it."""
        ...


class _Entry(NamedTuple):
    """An event in the queue."""

    event: CaptureEvent
    weight: int
    epoch: int
    since: float
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Parts:
    """What an engine is made of.

    Args:
        load: Imports what is imported late, and makes the wire; called once, by the first driver.
        transport: How requests leave.
        clock: Time.
        backoff: Pauses between attempts.
        send_guard: Entered around every request.
        guard: Told about internal errors.
        complain: Told about failures worth a log line.
        new_id: Makes request ids.
        journal: The spool, or `None`.
    """

    load: Callable[[], Wire]
    transport: Transport
    clock: Clock
    backoff: Backoff
    send_guard: Callable[[], AbstractContextManager[object]]
    guard: Callable[[str, BaseException], None]
    complain: Callable[[str, DeliveryStats], None]
    new_id: Callable[[], str]
    journal: Journal | None = None


def weigh(event: CaptureEvent) -> int:
    """About how many bytes `event` has as JSON; cheap enough for a request's thread, and never far too low."""
    return 160 + len(event.event) + len(event.distinct_id) + _weigh_members(event.properties)


def _weigh_members(members: Mapping[str, Any]) -> int:
    # Names are counted in C, and of the values only what can be long is looked at.
    total = 2 + sum(map(len, members)) + 10 * len(members)
    for value in members.values():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - a `cast` is a call, for each value
        if kind is str:
            total += len(value)
        elif kind is dict or kind is list:
            total += _weigh(value)
    return total


def _weigh(value: Any) -> int:
    # A stack of its own: hostile nesting must not raise RecursionError in a request.
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = cast("type[object]", type(item))
        if kind is str:
            total += len(item) + 3
        elif kind is dict:
            for key, member in item.items():
                total += len(key) + 4
                waiting.append(member)
        elif kind is list:
            total += 2
            waiting.extend(item)
        else:
            total += 8
    return total


def _is_kept(batch: Batch) -> bool:
    """Whether somebody keeps a durable copy until told otherwise, so that waiting costs nothing but time."""
    return all(parcel.receipt is not None for parcel in batch.parcels)


class Engine:
    """Queue, batches and retries of one lane. `submit`, `stats` and `flushed` in any thread; one driver at a time.

    Args:
        config: Limits.
        parts: What it is made of.
    """

    def __init__(self, config: DeliveryConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._made_wire: Wire | None = None
        self._clock = parts.clock
        self._journal = parts.journal
        self.driver = threading.Lock()
        """Held by whoever calls `step`."""
        self.gate = threading.Lock()
        """Held while modules are imported (see `lane.py`: forks)."""
        self.wake = threading.Event()
        """Set when there may be something to do earlier than `step` said."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._ledger = Ledger()
        # Half of a queue that is smaller than a batch: it must not overflow while it waits for its age.
        self._enough = max(1, min(config.batch_size, config.queue_size // 2))
        self._queue: deque[_Entry] = deque()
        self._queued_bytes = 0
        self._encoding: list[_Entry] = []
        self._ready: deque[Parcel] = deque()
        self._parked: list[tuple[float, Batch]] = []
        self._inflight: Batch | None = None
        # Epochs let a flush wait for what came before it and for nothing else.
        self._epoch = 0
        self._open: dict[int, int] = {}
        self._disk_epochs: deque[list[int]] = deque()  # runs of [epoch, events] on disk only, in order
        self._behind = False
        self._journal_from = 0.0
        self._adopt_at = 0.0
        self._hold_until = 0.0
        self._floor_until = 0.0
        self._failures = 0
        self._flushers = 0
        self._closed = False
        self._deadline: float | None = None
        self._last_try = False
        self._gave_up = False
        self._abandoned = False

    # --- any thread -----------------------------------------------------------------------------------------------

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """Takes all or none; never blocks."""
        count = len(events)
        weights = [event.weight or weigh(event) for event in events]
        total = sum(weights)
        now = self._clock.monotonic()
        with self._lock:
            before = len(self._queue)
            if (
                self._closed
                or before + count > self._config.queue_size
                or self._queued_bytes + total > self._config.queue_bytes
            ):
                return False
            if receipt is not None:
                receipt.taken(count)
            epoch = self._epoch
            for index, event in enumerate(events):
                self._queue.append(_Entry(event, weights[index], epoch, now, receipt))
            self._queued_bytes += total
            self._open[epoch] = self._open.get(epoch, 0) + count
            self._ledger.captured(count)
            enough = self._enough
            filled = before < enough <= before + count
            filled = filled or self._queued_bytes - total < self._config.batch_bytes <= self._queued_bytes
        if before == 0 or filled:
            self.wake.set()
        return True

    def stats(self) -> DeliveryStats:
        """The books at this moment."""
        with self._lock:
            return self._ledger.stats()

    def waiting(self) -> tuple[int, int]:
        """How many events are in the queue, and about how many bytes they have."""
        with self._lock:
            return len(self._queue), self._queued_bytes

    def held(self) -> int:
        """Events that are somewhere in here, counted where they are (for checks of the books)."""
        with self._lock:
            return (
                len(self._queue)
                + len(self._encoding)
                + len(self._ready)
                + sum(len(batch.parcels) for _, batch in self._parked)
                + (len(self._inflight.parcels) if self._inflight else 0)
                + sum(count for _, count in self._disk_epochs)
            )

    def begin_flush(self) -> int:
        """Makes everything due now; returns the epoch to ask `flushed` about. Pair with `end_flush`."""
        with self._lock:
            epoch = self._epoch
            self._epoch += 1
            self._flushers += 1
            # A pause of our own choice ends here; one that the server asked for stays.
            self._hurry(self._floor_until)
        self.wake.set()
        return epoch

    def flushed(self, epoch: int, wait: float = 0.0) -> bool:
        """Whether everything up to `epoch` has its outcome; waits up to `wait` seconds for a change."""
        with self._changed:
            if self._settled(epoch):
                return True
            if wait > 0:
                self._changed.wait(wait)
            return self._settled(epoch)

    def end_flush(self) -> None:
        """Ends what `begin_flush` began."""
        with self._lock:
            self._flushers -= 1

    def _settled(self, epoch: int) -> bool:
        return all(open_epoch > epoch for open_epoch in self._open)

    def finishing(self, deadline: float, *, closed: bool) -> None:
        """From now on there are no long pauses, and all attempts end by `deadline` (monotonic).

        Args:
            deadline: The end.
            closed: Whether admission ends too.
        """
        with self._lock:
            self._closed = self._closed or closed
            self._deadline = deadline
            # In a known outage the exit waits for one attempt, not for the whole of its time.
            self._last_try = self._failures >= 3
            self._gave_up = False
            self._hurry(0.0)
        self.wake.set()

    def _hurry(self, until: float) -> None:
        self._hold_until = min(self._hold_until, max(until, 0.0))
        self._parked = [(min(due, max(until, 0.0)), batch) for due, batch in self._parked]

    def linger(self) -> None:
        """After the flush at exit: no more deadline, but whatever still comes leaves at once."""
        with self._lock:
            if not self._closed:
                self._deadline = None
                self._gave_up = False
                self._flushers += 1
        self.wake.set()

    @property
    def gave_up(self) -> bool:
        """Whether it finished early because the server is known to be away."""
        return self._gave_up

    # --- the driver -----------------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """One unit of work, by the driver.

        Returns:
            Seconds until there is more to do, 0 for at once, `None` when all is done and admission is closed.
        """
        now = self._clock.monotonic()
        if self._journal is not None:
            self._keep_journal(self._journal, now)
        batch = self._next(now)
        if batch is not None:
            self._attempt(batch)
            return 0.0
        return self._pause(now)

    @property
    def _wire(self) -> Wire:
        if self._made_wire is None:
            with self.gate:
                self._made_wire = self._made_wire or self._parts.load()
        return self._made_wire

    @property
    def loaded(self) -> bool:
        """Whether everything that is imported late has been imported."""
        return self._made_wire is not None

    def _pause(self, now: float) -> float | None:
        with self._lock:
            if self._abandoned:
                return None
            moments: list[float] = [due for due, _ in self._parked]
            if len(self._parked) < MAX_PARKED:
                since = self._waiting_since()
                if since is not None:
                    moments.append(now if self._full() or self._pressed() else since + self._config.flush_interval)
                if self._behind:
                    moments.append(max(now, self._journal_from))
            if not moments or self._over(now):
                # Workers die while this one has nothing to do: somebody must send what they leave.
                return None if self._closed else IDLE if self._journal is None else ADOPT_INTERVAL
            wait = max(min(moments), self._hold_until)
            if self._deadline is not None and wait >= self._deadline:
                # All that is left may only go out after the end: nobody need wait for the end.
                self._gave_up = True
                self._changed.notify_all()
                return None if self._closed else IDLE
            if self._queue and self._journal is not None:
                wait = min(wait, max(self._queue[0].since + JOURNAL_INTERVAL, self._journal_from))
            return max(wait - now, 0.001)

    def _waiting_since(self) -> float | None:
        """Since when the oldest event waits that was never attempted; `None` where there is none."""
        if self._ready:
            return self._ready[0].since
        return self._queue[0].since if self._queue else None

    def _pressed(self) -> bool:
        return self._flushers > 0 or self._closed or self._deadline is not None

    def _full(self) -> bool:
        return len(self._queue) + len(self._ready) >= self._enough or self._queued_bytes >= self._config.batch_bytes

    def _next(self, now: float) -> Batch | None:
        """The batch to attempt now."""
        with self._lock:
            if self._abandoned or now < self._hold_until or self._over(now):
                return None
            due = min(self._parked, key=lambda item: item[0], default=None)
            if due is not None and due[0] <= now:
                self._parked.remove(due)
                self._inflight = due[1]
                return due[1]
            if len(self._parked) >= MAX_PARKED:
                return None
            since = self._waiting_since()
            aged = since is not None and now >= since + self._config.flush_interval
            journal = self._journal if now >= self._journal_from else None
            behind = self._behind and journal is not None
            if not (aged or self._full() or self._pressed() or behind):
                return None
        if behind and journal is not None:
            self._refill(journal)
        if journal is None:
            self._encode_some(self._config.batch_size)
        with self._lock:
            self._inflight = self._form()
            return self._inflight

    def _over(self, now: float) -> bool:
        return self._gave_up or (self._deadline is not None and now >= self._deadline)

    def _encode_some(self, limit: int) -> None:
        """Queue -> ready, up to `limit` parcels or a batch's bytes."""
        size = sum(parcel.size for parcel in self._ready)
        while len(self._ready) < limit and size < self._config.batch_bytes:
            entries = self._take(min(SLICE, limit - len(self._ready)))
            if not entries:
                return
            # Also where the journal is out of order: it may be back when the rest is written at the end.
            parcels = self._encoded(entries, record=self._journal is not None)
            size += sum(parcel.size for parcel in parcels)
            with self._lock:
                self._encoding = []
                if not self._abandoned:
                    self._ready.extend(parcels)

    def _take(self, limit: int) -> list[_Entry]:
        # Where that fails (a deployment replaces files under us) they stay in the queue.
        _ = self._wire
        with self._lock:
            if self._abandoned:
                return []
            entries = [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
            self._queued_bytes -= sum(entry.weight for entry in entries)
            self._encoding = entries
            return entries

    def _encoded(self, entries: Sequence[_Entry], *, record: bool) -> list[Parcel]:
        wire = self._wire
        try:
            parcels = wire.encode_all([entry.event for entry in entries], record=record)
        except Exception:  # noqa: BLE001 - one of them, or a bug: one by one will show
            return self._encoded_singly(entries, record=record)
        for entry, parcel in zip(entries, parcels, strict=True):
            self._address(parcel, entry)
        time.sleep(_YIELD)
        return parcels

    def _encoded_singly(self, entries: Sequence[_Entry], *, record: bool) -> list[Parcel]:
        parcels: list[Parcel] = []
        for entry in entries:
            try:
                parcel = self._wire.encode(entry.event, record=record)
            except PermanentError as error:  # noqa: PERF203 - one bad event costs itself alone
                self._spoiled(entry, LossReason.REJECTED, str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this event alone
                self._spoiled(entry, LossReason.ENCODE, f"an event has no JSON form ({type(error).__name__})")
            else:
                self._address(parcel, entry)
                parcels.append(parcel)
        time.sleep(_YIELD)
        return parcels

    @staticmethod
    def _address(parcel: Parcel, entry: _Entry) -> None:
        parcel.epoch = entry.epoch
        parcel.since = entry.since
        if entry.receipt is not None:
            parcel.event = entry.event
            parcel.receipt = entry.receipt

    def _spoiled(self, entry: _Entry, reason: LossReason, note: str) -> None:
        with self._changed:
            if self._abandoned:
                return
            self._encoding = [other for other in self._encoding if other is not entry]
            self._ledger.lost(1, reason)
            self._ledger.last_error = note
            self._closed_out(entry.epoch)
        if entry.receipt is not None:
            self._tell(entry.receipt, entry.event, reason, note)
        self._complain(note)

    def _form(self) -> Batch | None:
        """Ready parcels for one request: no two of one uuid; called with the lock held."""
        uuids: set[str] = set()
        size = self._wire.overhead
        taken: list[Parcel] = []
        kept: deque[Parcel] = deque()
        full = False
        for parcel in self._ready:
            full = full or len(taken) >= self._config.batch_size
            full = full or (bool(taken) and size + parcel.size + 1 > self._config.batch_bytes)
            if full or parcel.uuid in uuids:
                kept.append(parcel)
                continue
            uuids.add(parcel.uuid)
            size += parcel.size + 1
            taken.append(parcel)
        self._ready = kept
        return Batch(taken, self._parts.new_id(), int(self._clock.time() * 1e9)) if taken else None

    def _attempt(self, batch: Batch) -> None:
        now = self._clock.monotonic()
        if not batch.first_attempt:
            batch.first_attempt = now
        batch.attempts += 1
        if batch.attempts > 1:
            with self._lock:
                self._ledger.retries += 1
        timeout = self._config.timeout
        if self._deadline is not None:
            timeout = max(min(timeout, self._deadline - now), 0.05)
        try:
            request = self._wire.request(batch, self._clock.time())
            with self._parts.send_guard():
                response = self._parts.transport.post(request, timeout=timeout)
            with self._lock:
                self._ledger.batches += 1
            verdicts = self._wire.read(batch, response, self._clock.time())
        except BatchRefusedError as error:
            self._split(batch, str(error))
        except ProtocolAbsentError as error:
            self._again(batch, batch.parcels, 0.0, str(error), whole=True)
        except CredentialError as error:
            if self._journal is not None or _is_kept(batch):
                self._blocked(batch, str(error))
            else:
                self._lose(batch, batch.parcels, LossReason.REJECTED, str(error))
        except PermanentError as error:
            if _is_kept(batch):  # about the way to the server, not about the data: an operator can mend it
                self._blocked(batch, str(error))
            else:
                self._lose(batch, batch.parcels, LossReason.REJECTED, str(error))
        except ThrottledError as error:
            self._again(batch, batch.parcels, error.delay, str(error), whole=True)
        except DeliveryError as error:
            self._again(batch, batch.parcels, 0.0, str(error), whole=True)
        except Exception as error:  # noqa: BLE001 - an edge: a bug here must not lose the batch
            self._again(batch, batch.parcels, 0.0, f"internal error ({type(error).__name__})", whole=True)
            self._parts.guard("delivery", error)
        else:
            self._settle(batch, verdicts)

    def _blocked(self, batch: Batch, note: str) -> None:
        """Nothing will be taken until an operator mends it; `batch` waits."""
        with self._lock:
            self._ledger.blocked = note
        self._again(batch, batch.parcels, self._config.retry_max, note, whole=True)

    def _settle(self, batch: Batch, verdicts: Verdicts) -> None:
        self._failures = 0
        with self._lock:
            self._ledger.blocked = ""
            if verdicts.note:
                self._ledger.last_error = verdicts.note
        self._end(batch, verdicts.delivered, None)
        for reason in {reason for _, reason in verdicts.lost}:
            self._end(batch, [parcel for parcel, why in verdicts.lost if why is reason], reason, verdicts.note)
        if verdicts.at_once:
            batch.parcels = list(verdicts.again)
            with self._lock:
                self._park(batch, 0.0)
        elif verdicts.again:
            self._again(batch, verdicts.again, verdicts.delay, verdicts.note, whole=False)
        else:
            with self._lock:
                self._inflight = None
        if verdicts.note:
            self._complain(verdicts.note)

    def _end(self, batch: Batch, parcels: Sequence[Parcel], lost: LossReason | None, note: str = "") -> None:
        """These parcels have their outcome."""
        if not parcels:
            return
        with self._changed:
            if self._abandoned:
                return  # shutdown ran out of time and booked them already
            if lost is None:
                self._ledger.delivered(len(parcels))
            else:
                self._ledger.lost(len(parcels), lost)
            ended = set(map(id, parcels))
            batch.parcels = [parcel for parcel in batch.parcels if id(parcel) not in ended]
            for parcel in parcels:
                self._closed_out(parcel.epoch)
        positions = [parcel.position for parcel in parcels if parcel.position is not None]
        if positions and self._journal is not None:
            self._tidy(self._journal, positions)
        for parcel in parcels:
            if parcel.receipt is not None and parcel.event is not None:
                self._tell(parcel.receipt, parcel.event, lost, note)

    def _tell(self, receipt: Receipt, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        try:
            receipt.ended(event, lost, note)
        except Exception as error:  # noqa: BLE001 - an edge: its keeper still has the event, and sends it again
            self._parts.guard("delivery.receipt", error)

    def _closed_out(self, epoch: int) -> None:
        left = self._open.get(epoch, 0) - 1
        if left > 0:
            self._open[epoch] = left
        else:
            self._open.pop(epoch, None)
            self._changed.notify_all()

    def _lose(self, batch: Batch, parcels: Sequence[Parcel], reason: LossReason, note: str) -> None:
        self._failures = 0
        with self._lock:
            self._ledger.last_error = note  # before the outcome: whoever waits for it may look at once
        self._end(batch, parcels, reason, note)
        with self._lock:
            self._inflight = None
        self._complain(note)

    def _park(self, batch: Batch, due: float) -> None:
        if self._abandoned:
            return
        self._inflight = None
        if batch.parcels:
            self._parked.append((due, batch))

    def _again(self, batch: Batch, parcels: Sequence[Parcel], delay: float, note: str, *, whole: bool) -> None:
        """Parks what is left of `batch`; `whole`: the failure was not about single events, so everybody waits."""
        now = self._clock.monotonic()
        delay = min(delay, MAX_RETRY_AFTER)
        if self._deadline is None:
            pause = self._parts.backoff.pause(batch.attempts, delay)
        else:
            pause = Backoff(*_CLOSING, self._parts.backoff.rand).pause(batch.attempts, delay)
        due = now + pause
        elapsed = self._config.retry_elapsed
        # Judged by the time that passed, not by the pause to come: the last attempt is never skipped.
        tired = elapsed > 0 and now - batch.first_attempt >= elapsed
        tired = tired and self._journal is None and not _is_kept(batch)
        if whole:
            self._failures += 1
        batch.parcels = list(parcels)
        if tired and self._deadline is None:
            self._lose(batch, batch.parcels, LossReason.RETRIES_EXHAUSTED, note)
            return
        with self._lock:
            self._park(batch, due)
            self._floor_until = max(self._floor_until, now + delay)
            if whole:
                self._hold_until = due
                if self._deadline is not None and (self._last_try or due >= self._deadline):
                    self._gave_up = True
                    self._changed.notify_all()
            self._ledger.last_error = note
        self._complain(note)

    def _split(self, batch: Batch, note: str) -> None:
        """Halves a refused batch, so that the guilty event ends up alone; all others pass."""
        if len(batch.parcels) == 1:
            self._lose(batch, batch.parcels, LossReason.REJECTED, note)
            return
        middle = len(batch.parcels) // 2
        with self._lock:
            for half in (batch.parcels[:middle], batch.parcels[middle:]):
                # A new id: it is another request than the refused one.
                piece = Batch(half, self._parts.new_id(), batch.created_ns, 0, batch.first_attempt)
                self._park(piece, 0.0)
            self._ledger.last_error = note

    def _complain(self, note: str) -> None:
        self._parts.complain(note, self.stats())

    # --- the journal ----------------------------------------------------------------------------------------------

    def _keep_journal(self, journal: Journal, now: float) -> None:
        """Queue -> disk -> ready."""
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_INTERVAL
            try:
                self._behind = journal.adopt() or self._behind
            except Exception as error:  # noqa: BLE001 - as in `_tidy`
                self._complain(f"the spool cannot be searched ({type(error).__name__})")
                self._if_bug(error)
        while now >= self._journal_from and not self._abandoned:
            with self._lock:
                due = bool(self._queue) and (
                    now >= self._queue[0].since + JOURNAL_INTERVAL or self._full() or self._pressed()
                )
            if not due:
                return
            self._write(journal, self._take(max(SLICE, self._config.batch_size)), now)

    def _write(self, journal: Journal, entries: Sequence[_Entry], now: float) -> None:
        parcels: list[Parcel] = []
        for start in range(0, len(entries), SLICE):
            parcels.extend(self._encoded(entries[start : start + SLICE], record=True))
        note = ""
        failed: Exception | None = None
        try:
            positions = journal.append([parcel.record for parcel in parcels])
        except Exception as error:  # noqa: BLE001 - as in `_tidy`
            # Still to be delivered: memory holds them, the queue fills up behind them, and submit refuses then.
            why = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
            note = f"the spool cannot be written ({why}): events are in memory only"
            failed = error
            self._journal_from = now + JOURNAL_PAUSE
        else:
            for parcel, position in zip(parcels, positions, strict=True):
                parcel.position = position
                parcel.record = b""
        with self._lock:
            self._encoding = []
            if self._abandoned:
                return
            room = not self._behind and len(self._ready) < 4 * self._config.batch_size
            if note or room:
                self._ready.extend(parcels)
                if not note:
                    journal.kept()
            else:
                self._behind = True
                for parcel in parcels:
                    if self._disk_epochs and self._disk_epochs[-1][0] == parcel.epoch:
                        self._disk_epochs[-1][1] += 1
                    else:
                        self._disk_epochs.append([parcel.epoch, 1])
            if note:
                self._ledger.last_error = note
        if failed is not None:
            self._complain(note)
            self._if_bug(failed)

    def _tidy(self, journal: Journal, positions: Sequence[Any]) -> None:
        try:
            journal.ack(positions)
        except Exception as error:  # noqa: BLE001 - the spool must not cost an event, a bug in it neither
            # They would be sent again by a later process: the same events, so nothing is counted twice.
            self._complain(f"the spool cannot be tidied ({type(error).__name__})")
            self._if_bug(error)

    def _if_bug(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            self._parts.guard("delivery.spool", error)

    def _refill(self, journal: Journal) -> None:
        """Disk -> ready."""
        if len(self._ready) >= self._config.batch_size:
            return
        wire = self._wire  # before the reading: what is read once is not given again
        try:
            found = journal.read(self._config.batch_size)
        except Exception as error:  # noqa: BLE001 - as in `_tidy`
            self._complain(f"the spool cannot be read ({type(error).__name__})")
            self._journal_from = self._clock.monotonic() + JOURNAL_PAUSE
            self._if_bug(error)
            return
        self._behind = bool(found)
        spoiled: list[Any] = []
        for count, (position, record, own) in enumerate(found, 1):
            parcel: Parcel | None = None
            try:
                parcel = wire.encode(event_of(record), record=False)
            except Exception:  # noqa: BLE001 - as in `_encoded`: another version may have written it
                spoiled.append(position)
            with self._changed:
                if self._abandoned:
                    return
                epoch = self._read_back(own)
                if parcel is None:
                    self._ledger.lost(1, LossReason.ENCODE)
                    self._closed_out(epoch)
                else:
                    parcel.position = position
                    parcel.epoch = epoch
                    self._ready.append(parcel)
            if count % SLICE == 0:
                time.sleep(_YIELD)
        if spoiled:
            self._complain(f"{len(spoiled)} events of the spool cannot be read: another version may have written them")
            self._tidy(journal, spoiled)

    def _read_back(self, own: bool) -> int:
        """The epoch of a record that comes back from disk; another process's is captured here and now."""
        if own and self._disk_epochs:
            run = self._disk_epochs[0]
            run[1] -= 1
            if run[1] == 0:
                self._disk_epochs.popleft()
            return run[0]
        self._ledger.captured(1)
        self._open[self._epoch] = self._open.get(self._epoch, 0) + 1
        return self._epoch

    # --- the end --------------------------------------------------------------------------------------------------

    def abandon(self) -> int:
        """Ends everything: what is on disk stays there, what can be written is written, the rest is lost.

        Returns:
            How many events were lost by it.
        """
        with self._changed:
            already, self._abandoned = self._abandoned, True
            self._closed = True
            if already:
                return 0
            entries = [*self._encoding, *self._queue]
            parcels = [*self._ready]
            for _, batch in self._parked:
                parcels.extend(batch.parcels)
            if self._inflight is not None:
                parcels.extend(self._inflight.parcels)
            on_disk = sum(count for _, count in self._disk_epochs)
            self._queue.clear()
            self._queued_bytes = 0
            self._encoding = []
            self._ready.clear()
            self._parked = []
            self._inflight = None
            self._disk_epochs.clear()
        # What has a receipt is in its submitter's hands as well, and comes again.
        kept = on_disk + sum(entry.receipt is not None for entry in entries)
        kept += sum(parcel.position is not None or parcel.receipt is not None for parcel in parcels)
        entries = [entry for entry in entries if entry.receipt is None]
        records = [parcel.record for parcel in parcels if parcel.position is None and parcel.receipt is None]
        reason = LossReason.SHUTDOWN
        late = spoiled = 0
        if self._journal is not None:
            for entry in entries:
                try:
                    records.append(self._wire.encode(entry.event, record=True).record)
                except Exception:  # noqa: BLE001, PERF203 - the same
                    spoiled += 1
            entries = []
            late = self._write_late(self._journal, records)
            if late < len(records):
                reason = LossReason.SPOOL_FULL
        lost = len(records) - late + len(entries)
        with self._changed:
            self._ledger.spooled(kept + late)
            self._ledger.lost(spoiled, LossReason.ENCODE)
            self._ledger.lost(lost, reason)
            self._open.clear()
            self._changed.notify_all()
        return lost + spoiled

    def _write_late(self, journal: Journal, records: list[bytes]) -> int:
        records = [record for record in records if record]
        try:
            journal.append(records)
        except Exception as error:  # noqa: BLE001 - as in `_tidy`
            self._complain(f"the spool cannot be written ({type(error).__name__})")
            return 0
        return len(records)
