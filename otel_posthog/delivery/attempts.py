"""One attempt to send a batch, and what its end means for every parcel: delivered, lost, or parked for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.backoff import MAX_RETRY_AFTER, Backoff
from otel_posthog.delivery.state import State, tell
from otel_posthog.delivery.wire import Batch, Parcel, Verdicts
from otel_posthog.errors import (
    BatchRefusedError,
    CredentialError,
    DeliveryError,
    MisdirectedError,
    PermanentError,
    ProtocolAbsentError,
    ThrottledError,
)
from otel_posthog.model import LossReason

_CLOSING = (0.1, 1.0)
"""First and longest pause while closing: the server's weather may change within a second, the exit will not wait."""


class Attempts:
    """Sends batches, and books what became of them.

    Args:
        config: Limits.
        state: Where the events are.
        done: Told the journal's positions of what has its outcome; `None` without a journal.
    """

    def __init__(
        self, config: DeliveryConfig, state: State, done: Callable[[Sequence[Parcel]], None] | None = None
    ) -> None:
        self._config = config
        self._state = state
        self._done = done

    def attempt(self, batch: Batch) -> None:
        """Sends `batch`, which is in flight, and moves it on."""
        state, parts = self._state, self._state.parts
        now = parts.clock.monotonic()
        if not batch.first_attempt:
            batch.first_attempt = now
        batch.attempts += 1
        if batch.attempts > 1:
            with state.lock:
                state.ledger.retries += 1
        timeout = self._config.timeout
        if state.deadline is not None:
            timeout = max(min(timeout, state.deadline - now), 0.05)
        try:
            request = state.wire.request(batch, parts.clock.time())
            with parts.send_guard():
                response = parts.transport.post(request, timeout=timeout)
            with state.lock:
                state.ledger.batches += 1
            verdicts = state.wire.read(batch, response, parts.clock.time())
        except BatchRefusedError as error:
            self._split(batch, str(error))
        except ProtocolAbsentError as error:
            self._again(batch, batch.parcels, 0.0, str(error), whole=True)
        except CredentialError as error:
            if parts.journal is not None or not self._given_up(batch, LossReason.REJECTED, str(error)):
                self._blocked(batch, str(error))
        except PermanentError as error:
            # About the way to the server, not about the data: an operator can mend it.
            if not self._given_up(batch, LossReason.REJECTED, str(error)):
                self._blocked(batch, str(error))
        except MisdirectedError as error:
            with state.lock:
                state.ledger.blocked = str(error)
            self._again(batch, batch.parcels, 0.0, str(error), whole=True)
        except ThrottledError as error:
            self._again(batch, batch.parcels, error.delay, str(error), whole=True)
        except DeliveryError as error:
            self._again(batch, batch.parcels, 0.0, str(error), whole=True)
        except Exception as error:  # noqa: BLE001 - an edge: a bug here must not lose the batch
            self._again(batch, batch.parcels, 0.0, f"internal error ({type(error).__name__})", whole=True)
            parts.guard("delivery", error)
        else:
            self._settle(batch, verdicts)

    def _blocked(self, batch: Batch, note: str) -> None:
        """Nothing will be taken until an operator mends it; `batch` waits."""
        with self._state.lock:
            self._state.ledger.blocked = note
        self._again(batch, batch.parcels, self._config.retry_max, note, whole=True)

    def _settle(self, batch: Batch, verdicts: Verdicts) -> None:
        state = self._state
        state.failures = 0
        with state.lock:
            state.ledger.blocked = ""
            if verdicts.note:
                state.ledger.last_error = verdicts.note
        self._end(batch, verdicts.delivered, None)
        for reason in {reason for _, reason in verdicts.lost}:
            self._end(batch, [parcel for parcel, why in verdicts.lost if why is reason], reason, verdicts.note)
        if verdicts.at_once:
            batch.parcels = list(verdicts.again)
            with state.lock:
                state.park(batch, 0.0)
        elif verdicts.again:
            self._again(batch, verdicts.again, verdicts.delay, verdicts.note, whole=False)
        else:
            with state.lock:
                state.inflight = None
        if verdicts.note:
            state.complain(verdicts.note)

    def _end(self, batch: Batch, parcels: Sequence[Parcel], lost: LossReason | None, note: str = "") -> None:
        """These parcels have their outcome."""
        if not parcels:
            return
        state = self._state
        with state.changed:
            if state.abandoned:
                return  # shutdown ran out of time and booked them already
            if lost is None:
                state.ledger.delivered(len(parcels))
            else:
                kept = sum(parcel.receipt is not None for parcel in parcels)
                state.ledger.dead_lettered(kept, lost)
                state.ledger.lost(len(parcels) - kept, lost)
            if len(parcels) == len(batch.parcels):
                batch.parcels = []
            else:
                ended = set(map(id, parcels))
                batch.parcels = [parcel for parcel in batch.parcels if id(parcel) not in ended]
            state.close_out_all(parcels)
        if self._done is not None:
            self._done(parcels)
        for parcel in parcels:
            if parcel.receipt is not None and parcel.event is not None:
                tell(parcel.receipt, parcel.event, lost, note, state.parts.guard)

    def _lose(self, batch: Batch, parcels: Sequence[Parcel], reason: LossReason, note: str) -> None:
        state = self._state
        state.failures = 0
        with state.lock:
            state.ledger.last_error = note  # before the outcome: whoever waits for it may look at once
        self._end(batch, parcels, reason, note)
        with state.lock:
            state.inflight = None
        state.complain(note)

    def _given_up(self, batch: Batch, reason: LossReason, note: str) -> bool:
        """Loses what of `batch` is in no other hands; whether that was all of it.

        Who gave a receipt keeps a durable copy until told otherwise, so that waiting costs nothing but time.
        """
        ours = [parcel for parcel in batch.parcels if parcel.receipt is None]
        if len(ours) == len(batch.parcels):
            self._lose(batch, ours, reason, note)
            return True
        self._end(batch, ours, reason, note)
        return False

    def _again(self, batch: Batch, parcels: Sequence[Parcel], delay: float, note: str, *, whole: bool) -> None:
        """Parks what is left of `batch`; `whole`: the failure was not about single events, so everybody waits."""
        state, parts = self._state, self._state.parts
        now = parts.clock.monotonic()
        delay = min(delay, MAX_RETRY_AFTER)
        if state.deadline is None:
            pause = parts.backoff.pause(batch.attempts, delay)
        else:
            pause = Backoff(*_CLOSING, parts.backoff.rand).pause(batch.attempts, delay)
        due = now + pause
        elapsed = self._config.retry_elapsed
        # Judged by the time that passed, not by the pause to come: the last attempt is never skipped.
        tired = elapsed > 0 and now - batch.first_attempt >= elapsed and parts.journal is None
        if whole:
            state.failures += 1
        batch.parcels = list(parcels)
        if tired and state.deadline is None and self._given_up(batch, LossReason.RETRIES_EXHAUSTED, note):
            return
        with state.lock:
            state.park(batch, due)
            state.floor_until = max(state.floor_until, now + delay)
            if whole:
                state.hold_until = due
                if state.deadline is not None and (state.last_try or due >= state.deadline):
                    state.gave_up = True
                    state.changed.notify_all()
            state.ledger.last_error = note
        state.complain(note)

    def _split(self, batch: Batch, note: str) -> None:
        """Halves a refused batch, so that the guilty event ends up alone; all others pass."""
        if len(batch.parcels) == 1:
            self._lose(batch, batch.parcels, LossReason.REJECTED, note)
            return
        state = self._state
        middle = len(batch.parcels) // 2
        with state.lock:
            for half in (batch.parcels[:middle], batch.parcels[middle:]):
                # A new id: it is another request than the refused one.
                piece = Batch(half, state.parts.new_id(), batch.created_ns, 0, batch.first_attempt)
                state.park(piece, 0.0)
            state.ledger.last_error = note
