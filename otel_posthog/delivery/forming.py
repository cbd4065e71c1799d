"""Queue -> ready -> a batch: events are encoded in slices, and put together for one request."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.state import Entry, State, tell
from otel_posthog.delivery.wire import Batch, Parcel
from otel_posthog.errors import PermanentError
from otel_posthog.model import LossReason

SLICE = 64
"""Events encoded between two chances for other threads to run (performance.md §1: tails are GIL hand-overs).

About a quarter of a millisecond with the standard library's encoder; each pause costs as much as four events do.
"""

SLICE_BYTES = 56 * 1024
"""The same in bytes, for events that are larger than most."""

PAUSE = 0.00002
"""Seconds; a real pause, not 0: a thread that waits for the GIL must get it before we take it again."""


class Forming:
    """Encodes, and makes batches.

    Args:
        config: Limits.
        state: Where the events are.
    """

    def __init__(self, config: DeliveryConfig, state: State) -> None:
        self._config = config
        self._state = state

    def fill(self, limit: int, *, record: bool) -> None:
        """Queue -> ready, up to `limit` parcels or a batch's bytes.

        Args:
            limit: Parcels that are ready then, at the most.
            record: Also make the spool's records.
        """
        state = self._state
        size = sum([parcel.size for parcel in state.ready])
        while len(state.ready) < limit and size < self._config.batch_bytes:
            entries = self.take(min(SLICE, limit - len(state.ready)))
            if not entries:
                return
            parcels = self.encoded(entries, record=record)
            size += sum([parcel.size for parcel in parcels])
            with state.lock:
                state.encoding = ()
                if not state.abandoned:
                    state.ready.extend(parcels)

    def take(self, limit: int, most_bytes: int = SLICE_BYTES) -> Sequence[Entry]:
        """Queue -> encoding; nothing after the end."""
        state = self._state
        # Where that fails (a deployment replaces files under us) they stay in the queue.
        _ = state.wire
        with state.lock:
            return () if state.abandoned else state.take(limit, most_bytes)

    def encoded(self, entries: Sequence[Entry], *, record: bool) -> list[Parcel]:
        """One slice of entries; one that cannot be encoded costs itself alone."""
        try:
            parcels = self._state.wire.encode_all([entry[0] for entry in entries], record=record)
        except Exception:  # noqa: BLE001 - one of them, or a bug: one by one will show
            parcels = self._encoded_singly(entries, record=record)
        else:
            for (event, _, epoch, since, receipt), parcel in zip(entries, parcels, strict=True):
                parcel.epoch = epoch
                parcel.since = since
                if receipt is not None:
                    parcel.event = event
                    parcel.receipt = receipt
        time.sleep(PAUSE)
        return parcels

    def _encoded_singly(self, entries: Sequence[Entry], *, record: bool) -> list[Parcel]:
        parcels: list[Parcel] = []
        for entry in entries:
            event, _, epoch, since, receipt = entry
            try:
                parcel = self._state.wire.encode(event, record=record)
            except PermanentError as error:
                self._spoiled(entry, LossReason.REJECTED, str(error))
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, it costs this event alone
                self._spoiled(entry, LossReason.ENCODE, f"an event has no JSON form ({type(error).__name__})")
                continue
            parcel.epoch = epoch
            parcel.since = since
            if receipt is not None:
                parcel.event = event
                parcel.receipt = receipt
            parcels.append(parcel)
        return parcels

    def _spoiled(self, entry: Entry, reason: LossReason, note: str) -> None:
        state = self._state
        event, _, epoch, _, receipt = entry
        with state.changed:
            if state.abandoned:
                return
            state.encoding = [other for other in state.encoding if other is not entry]
            (state.ledger.lost if receipt is None else state.ledger.dead_lettered)(1, reason)
            state.ledger.last_error = note
            state.closed_out(epoch)
        if receipt is not None:
            tell(receipt, event, reason, note, state.parts.guard)
        state.complain(note)

    def batch(self) -> Batch | None:
        """Ready parcels for one request: no two of one uuid; with the lock held."""
        state = self._state
        ready = state.ready
        most, most_bytes = self._config.batch_size, self._config.batch_bytes
        size = state.wire.overhead + len(ready) + sum([parcel.size for parcel in ready])
        # Nearly always they are one batch.
        if len(ready) <= most and size <= most_bytes and len({parcel.uuid for parcel in ready}) == len(ready):
            taken = list(ready)
            ready.clear()
        else:
            taken, state.ready = _chosen(ready, most, most_bytes - state.wire.overhead)
        if not taken:
            return None
        return Batch(taken, state.parts.new_id(), int(state.parts.clock.time() * 1e9))


def _chosen(ready: deque[Parcel], most: int, most_bytes: int) -> tuple[list[Parcel], deque[Parcel]]:
    """What fits into one batch, and the rest, both in order."""
    uuids: set[str] = set()
    size = 0
    taken: list[Parcel] = []
    kept: deque[Parcel] = deque()
    full = False
    for parcel in ready:
        full = full or len(taken) >= most
        full = full or (bool(taken) and size + parcel.size + 1 > most_bytes)
        if full or parcel.uuid in uuids:
            kept.append(parcel)
            continue
        uuids.add(parcel.uuid)
        size += parcel.size + 1
        taken.append(parcel)
    return taken, kept
