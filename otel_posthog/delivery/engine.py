"""The engine of one lane: queue -> encode -> batch -> attempt -> settle; no threads of its own.

`step()` does one unit of work and says how long nothing is to be done; whoever has a thread calls it (`lane.py`: a
worker, or at the end of the interpreter the caller). What it does is in `forming` (events become batches), `attempts`
(batches become outcomes) and `journaling` (all of it survives the process); where an event is at any moment, and the
one lock around that, is in `state`.

One batch that waits for a retry does not hold up others, unless the failure was the server's as a whole: then
everything waits (`hold`), and the queue fills up to its bounds.

With a journal (spool) events are written to disk before they are sent (decision 0031), and a batch is never given up:
what memory cannot hold is read back from disk when its turn comes.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.attempts import Attempts
from otel_posthog.delivery.forming import Forming
from otel_posthog.delivery.journaling import ADOPT_INTERVAL, Journaling
from otel_posthog.delivery.parts import Parts
from otel_posthog.delivery.protocols import DeliveryStats, Receipt
from otel_posthog.delivery.state import State
from otel_posthog.delivery.weight import weigh
from otel_posthog.delivery.wire import Batch
from otel_posthog.model import CaptureEvent, LossReason

IDLE = 3600.0
"""Seconds to wait where nothing is to be done; a submit wakes the worker earlier."""

MAX_PARKED = 8
"""Batches waiting for a retry of their own; with more, fresh ones wait too, so that memory stays bounded."""


class Engine:
    """Queue, batches and retries of one lane. `submit`, `stats` and `flushed` in any thread; one driver at a time.

    Args:
        config: Limits.
        parts: What it is made of.
    """

    def __init__(self, config: DeliveryConfig, parts: Parts) -> None:
        self._config = config
        self._clock = parts.clock
        self._state = state = State(config, parts)
        self._forming = Forming(config, state)
        self._journaling = journaling = (
            None if parts.journal is None else Journaling(config, state, self._forming, parts.journal)
        )
        self._attempts = Attempts(config, state, None if journaling is None else journaling.done)
        self.driver = threading.Lock()
        """Held by whoever calls `step`."""
        self.wake = threading.Event()
        """Set when there may be something to do earlier than `step` said."""

    # --- any thread -----------------------------------------------------------------------------------------------

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """Takes all or none, an empty queue takes anything; never blocks."""
        count = len(events)
        weights = [event.weight or weigh(event) for event in events]
        total = sum(weights)
        now = self._clock.monotonic()
        state, config = self._state, self._config
        with state.lock:
            before, bytes_before = len(state.queue), state.queued_bytes
            over = before + count > config.queue_size or bytes_before + total > config.queue_bytes
            # What is larger than the whole queue has it for itself: it would be refused for ever, and all behind it.
            if state.closed or (over and before):
                return False
            if receipt is not None:
                receipt.taken(count)
            epoch = state.epoch
            state.queue.extend(
                [(event, weight, epoch, now, receipt) for event, weight in zip(events, weights, strict=True)]
            )
            state.queued_bytes += total
            state.open[epoch] = state.open.get(epoch, 0) + count
            state.ledger.captured(count)
        enough, enough_bytes = state.enough, state.enough_bytes
        if before == 0 or before < enough <= before + count or bytes_before < enough_bytes <= bytes_before + total:
            self.wake.set()
        return True

    def stats(self) -> DeliveryStats:
        """The books at this moment."""
        with self._state.lock:
            return self._state.ledger.stats()

    def waiting(self) -> tuple[int, int]:
        """How many events are in the queue, and about how many bytes they have."""
        with self._state.lock:
            return len(self._state.queue), self._state.queued_bytes

    def held(self) -> int:
        """Events that are somewhere in here, counted where they are (for checks of the books)."""
        with self._state.lock:
            return self._state.held()

    @property
    def gate(self) -> threading.Lock:
        """Held while modules are imported (see `lane.py`: forks)."""
        return self._state.gate

    @property
    def loaded(self) -> bool:
        """Whether everything that is imported late has been imported."""
        return self._state.loaded

    @property
    def gave_up(self) -> bool:
        """Whether it finished early because the server is known to be away."""
        return self._state.gave_up

    def begin_flush(self) -> int:
        """Makes everything due now; returns the epoch to ask `flushed` about. Pair with `end_flush`."""
        state = self._state
        with state.lock:
            epoch = state.epoch
            state.epoch += 1
            state.flushers += 1
            # A pause of our own choice ends here; one that the server asked for stays.
            state.hurry(state.floor_until)
        self.wake.set()
        return epoch

    def flushed(self, epoch: int, wait: float = 0.0) -> bool:
        """Whether everything up to `epoch` has its outcome; waits up to `wait` seconds for a change."""
        state = self._state
        with state.changed:
            if state.settled(epoch):
                return True
            if wait > 0:
                state.changed.wait(wait)
            return state.settled(epoch)

    def end_flush(self) -> None:
        """Ends what `begin_flush` began."""
        with self._state.lock:
            self._state.flushers -= 1

    def finishing(self, deadline: float, *, closed: bool) -> None:
        """From now on there are no long pauses, and all attempts end by `deadline` (monotonic).

        Args:
            deadline: The end.
            closed: Whether admission ends too.
        """
        state = self._state
        with state.lock:
            state.closed = state.closed or closed
            state.deadline = deadline
            # In a known outage the exit waits for one attempt, not for the whole of its time.
            state.last_try = state.failures >= 3
            state.gave_up = False
            state.hurry(0.0)
        self.wake.set()

    def linger(self) -> None:
        """After the flush at exit: no more deadline, but whatever still comes leaves at once."""
        state = self._state
        with state.lock:
            if not state.closed:
                state.deadline = None
                state.gave_up = False
                state.flushers += 1
        self.wake.set()

    # --- the driver -----------------------------------------------------------------------------------------------

    def step(self) -> float | None:
        """One unit of work, by the driver.

        Returns:
            Seconds until there is more to do, 0 for at once, `None` when all is done and admission is closed.
        """
        now = self._clock.monotonic()
        if self._journaling is not None:
            self._journaling.keep(now)
        batch = self._next(now)
        if batch is not None:
            self._attempts.attempt(batch)
            return 0.0
        return self._pause(now)

    def _next(self, now: float) -> Batch | None:
        """The batch to attempt now."""
        state, journaling = self._state, self._journaling
        with state.lock:
            if state.abandoned or now < state.hold_until or state.over(now):
                return None
            due = min(state.parked, key=lambda item: item[0], default=None)
            if due is not None and due[0] <= now:
                state.parked.remove(due)
                state.inflight = due[1]
                return due[1]
            if len(state.parked) >= MAX_PARKED:
                return None
            since = state.waiting_since()
            aged = since is not None and now >= since + self._config.flush_interval
            if journaling is not None and now < journaling.usable_from:
                journaling = None
            behind = journaling is not None and journaling.behind
            if not (aged or state.full() or state.pressed() or behind):
                return None
        if journaling is None:
            # With one out of order, too: it may be back when the rest is written at the end.
            self._forming.fill(self._config.batch_size, record=self._journaling is not None)
        elif behind:
            journaling.refill()
        with state.lock:
            state.inflight = self._forming.batch()
            return state.inflight

    def _pause(self, now: float) -> float | None:
        state, journaling = self._state, self._journaling
        with state.lock:
            if state.abandoned:
                return None
            moments: list[float] = [due for due, _ in state.parked]
            if len(state.parked) < MAX_PARKED:
                since = state.waiting_since()
                if since is not None:
                    moments.append(now if state.full() or state.pressed() else since + self._config.flush_interval)
                if journaling is not None and journaling.behind:
                    moments.append(max(now, journaling.usable_from))
            if not moments or state.over(now):
                # Workers die while this one has nothing to do: somebody must send what they leave.
                return None if state.closed else IDLE if journaling is None else ADOPT_INTERVAL
            wait = max(min(moments), state.hold_until)
            if state.deadline is not None and wait >= state.deadline:
                # All that is left may only go out after the end: nobody need wait for the end.
                state.gave_up = True
                state.changed.notify_all()
                return None if state.closed else IDLE
            write = None if journaling is None else journaling.next_write()
            return max((wait if write is None else min(wait, write)) - now, 0.001)

    # --- the end --------------------------------------------------------------------------------------------------

    def abandon(self) -> int:
        """Ends everything: what is on disk stays there, what can be written is written, the rest is lost.

        Nobody is told: what has a receipt is in its submitter's hands as well, and comes again.

        Returns:
            How many events were lost by it.
        """
        state = self._state
        with state.changed:
            already, state.abandoned = state.abandoned, True
            state.closed = True
            if already:
                return 0
            entries = [*state.encoding, *state.queue]
            parcels = [*state.ready]
            for _, batch in state.parked:
                parcels.extend(batch.parcels)
            if state.inflight is not None:
                parcels.extend(state.inflight.parcels)
            on_disk = sum(count for _, count in state.on_disk)
            state.queue.clear()
            state.queued_bytes = 0
            state.encoding = ()
            state.ready.clear()
            state.parked = []
            state.inflight = None
            state.on_disk.clear()
        events = [event for event, _, _, _, receipt in entries if receipt is None]
        kept = on_disk + len(entries) - len(events)
        kept += sum(parcel.position is not None or parcel.receipt is not None for parcel in parcels)
        records = [parcel.record for parcel in parcels if parcel.position is None and parcel.receipt is None]
        reason = LossReason.SHUTDOWN
        late = spoiled = 0
        if self._journaling is not None:
            for event in events:
                try:
                    records.append(state.wire.encode(event, record=True).record)
                except Exception:  # noqa: BLE001, PERF203 - whatever it is, it costs this event alone
                    spoiled += 1
            events = []
            late = self._journaling.write_late(records)
            if late < len(records):
                reason = LossReason.SPOOL_FULL
        lost = len(records) - late + len(events)
        with state.changed:
            state.ledger.spooled(kept + late)
            state.ledger.lost(spoiled, LossReason.ENCODE)
            state.ledger.lost(lost, reason)
            state.open.clear()
            state.changed.notify_all()
        return lost + spoiled
