"""Events go to disk before they are sent (decision 0031), and come back from there when memory has room again.

    queue ─► encoded ─► written ─┬─► ready              while memory has room and nothing is behind
                                 └─► on disk only ─► ready, in order, what dead processes left among it

A journal that fails is no journal: memory alone holds the events meanwhile, and the queue's bounds hold.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.forming import PAUSE, SLICE, Forming
from otel_posthog.delivery.json_event import event_of
from otel_posthog.delivery.parts import Journal
from otel_posthog.delivery.state import Entry, State
from otel_posthog.delivery.wire import Parcel
from otel_posthog.model import LossReason

JOURNAL_INTERVAL = 0.05
"""Seconds that an event may wait before it is on disk."""

JOURNAL_PAUSE = 5.0
"""Seconds without a journal after it failed (full disk, full spool)."""

ADOPT_INTERVAL = 60.0
"""Seconds between two looks for what dead processes left."""


class Journaling:
    """Queue -> disk -> ready; by the driver, except where said otherwise.

    Args:
        config: Limits.
        state: Where the events are.
        forming: Encodes them.
        journal: The spool.
    """

    def __init__(self, config: DeliveryConfig, state: State, forming: Forming, journal: Journal) -> None:
        self._config = config
        self._state = state
        self._forming = forming
        self._journal = journal
        self.behind = False
        """Whether there is something on disk that is not in memory."""
        self.usable_from = 0.0
        """Monotonic seconds; earlier the journal is left alone."""
        self._adopt_at = 0.0

    def keep(self, now: float) -> None:
        """Writes what is due."""
        if now >= self._adopt_at:
            self._adopt_at = now + ADOPT_INTERVAL
            try:
                self.behind = self._journal.adopt() or self.behind
            except Exception as error:  # noqa: BLE001 - as in `done`
                self._state.complain(f"the spool cannot be searched ({type(error).__name__})")
                self._if_bug(error)
        while now >= self.usable_from and not self._state.abandoned:
            entries = self._due(now)
            if not entries:
                return
            self._write(entries, now)

    def next_write(self) -> float | None:
        """When the oldest event of the queue is to be on disk; `None` for an empty queue. With the lock held."""
        queue = self._state.queue
        return max(queue[0][3] + JOURNAL_INTERVAL, self.usable_from) if queue else None

    def refill(self) -> None:
        """Disk -> ready."""
        state = self._state
        if len(state.ready) >= self._config.batch_size:
            return
        wire = state.wire  # before the reading: what is read once is not given again
        try:
            found = self._journal.read(self._config.batch_size)
        except Exception as error:  # noqa: BLE001 - as in `done`
            state.complain(f"the spool cannot be read ({type(error).__name__})")
            self.usable_from = state.parts.clock.monotonic() + JOURNAL_PAUSE
            self._if_bug(error)
            return
        self.behind = bool(found)
        spoiled: list[Any] = []
        for count, (position, record, own) in enumerate(found, 1):
            parcel: Parcel | None = None
            try:
                parcel = wire.encode(event_of(record), record=False)
            except Exception:  # noqa: BLE001 - another version may have written it
                spoiled.append(position)
            with state.changed:
                if state.abandoned:
                    return
                epoch = self._read_back(own)
                if parcel is None:
                    state.ledger.lost(1, LossReason.ENCODE)
                    state.closed_out(epoch)
                else:
                    parcel.position = position
                    parcel.epoch = epoch
                    state.ready.append(parcel)
            if count % SLICE == 0:
                time.sleep(PAUSE)
        if spoiled:
            count = len(spoiled)
            state.complain(f"{count} events of the spool cannot be read: another version may have written them")
            self._ack(spoiled)

    def done(self, parcels: Sequence[Parcel]) -> None:
        """These have their outcome, and need not survive any longer."""
        positions = [parcel.position for parcel in parcels if parcel.position is not None]
        if positions:
            self._ack(positions)

    def write_late(self, records: Sequence[bytes]) -> int:
        """Writes what is left at the end, by whoever ends; how many of them are on disk."""
        records = [record for record in records if record]
        try:
            self._journal.append(records)
        except Exception as error:  # noqa: BLE001 - as in `done`
            self._state.complain(f"the spool cannot be written ({type(error).__name__})")
            return 0
        return len(records)

    def _due(self, now: float) -> Sequence[Entry]:
        state = self._state
        with state.lock:
            at = self.next_write()
            if at is None or not (now >= at or state.full() or state.pressed()):
                return ()
        return self._forming.take(max(SLICE, self._config.batch_size), self._config.batch_bytes)

    def _write(self, entries: Sequence[Entry], now: float) -> None:
        state = self._state
        parcels: list[Parcel] = []
        for start in range(0, len(entries), SLICE):
            parcels.extend(self._forming.encoded(entries[start : start + SLICE], record=True))
        note = ""
        failed: Exception | None = None
        try:
            positions = self._journal.append([parcel.record for parcel in parcels])
        except Exception as error:  # noqa: BLE001 - as in `done`
            # Still to be delivered: memory holds them, the queue fills up behind them, and submit refuses then.
            why = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
            note = f"the spool cannot be written ({why}): events are in memory only"
            failed = error
            self.usable_from = now + JOURNAL_PAUSE
        else:
            for parcel, position in zip(parcels, positions, strict=True):
                parcel.position = position
                parcel.record = b""
        with state.lock:
            state.encoding = ()
            if state.abandoned:
                return
            room = not self.behind and len(state.ready) < 4 * self._config.batch_size
            if note or room:
                state.ready.extend(parcels)
                if not note:
                    self._journal.kept()
            else:
                self.behind = True
                for parcel in parcels:
                    if state.on_disk and state.on_disk[-1][0] == parcel.epoch:
                        state.on_disk[-1][1] += 1
                    else:
                        state.on_disk.append([parcel.epoch, 1])
            if note:
                state.ledger.last_error = note
        if failed is not None:
            state.complain(note)
            self._if_bug(failed)

    def _read_back(self, own: bool) -> int:
        """The epoch of a record that comes back from disk; another process's is captured here and now."""
        state = self._state
        if own and state.on_disk:
            run = state.on_disk[0]
            run[1] -= 1
            if run[1] == 0:
                state.on_disk.popleft()
            return run[0]
        state.ledger.captured(1)
        state.open[state.epoch] = state.open.get(state.epoch, 0) + 1
        return state.epoch

    def _ack(self, positions: Sequence[Any]) -> None:
        try:
            self._journal.ack(positions)
        except Exception as error:  # noqa: BLE001 - the spool must not cost an event, a bug in it neither
            # They would be sent again by a later process: the same events, so nothing is counted twice.
            self._state.complain(f"the spool cannot be tidied ({type(error).__name__})")
            self._if_bug(error)

    def _if_bug(self, error: Exception) -> None:
        if not isinstance(error, OSError):
            self._state.parts.guard("delivery.spool", error)
