"""Capture v1 where it is spoken, else v0; what was found out is remembered.

v1 is tried first. An answer that only something else than capture v1 gives (no such path, a redirect, a web page, a
200 without verdicts) turns to v0 with the same batch at once: both versions keep uuid, event, distinct_id and time, so
that what v1 may have taken in spite of its answer is the same event. Later batches go to v0 directly; an hour later one
batch asks for v1 again, since servers are upgraded under long-running processes.

A server that has spoken v1 once does: an odd answer of a proxy is then a failure to retry, only several in a row are a
reason to change.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.wire import Batch, Parcel, Verdicts, Wire, retryable
from otel_posthog.errors import ProtocolAbsentError
from otel_posthog.model import CaptureEvent

ASK_AGAIN_AFTER = 3600.0
ODD_ANSWERS = 5


class AutoWire:
    """`first` until it turns out not to be there, then `second`. Both share one encoding.

    Args:
        first: Preferred wire; its `read` raises ProtocolAbsentError where it is not spoken.
        second: The other one.
    """

    def __init__(self, first: Wire, second: Wire) -> None:
        self._first = first
        self._second = second
        self._current = first
        self._spoken = False
        self._odd = 0
        self._ask_again_at = 0.0

    @property
    def name(self) -> str:
        """Name of the wire in use."""
        return self._current.name

    @property
    def overhead(self) -> int:
        """The larger of both."""
        return max(self._first.overhead, self._second.overhead)

    def encode(self, event: CaptureEvent, *, record: bool) -> Parcel:
        """See `Wire.encode`; the parcel serves both."""
        return self._first.encode(event, record=record)

    def encode_all(self, events: Sequence[CaptureEvent], *, record: bool) -> list[Parcel]:
        """See `Wire.encode_all`; the parcels serve both."""
        return self._first.encode_all(events, record=record)

    def request(self, batch: Batch, now: float) -> Request:
        """See `Wire.request`."""
        if self._current is self._second and now >= self._ask_again_at:
            self._current = self._first
        return self._current.request(batch, now)

    def read(self, batch: Batch, response: Response, now: float) -> Verdicts:
        """See `Wire.read`."""
        try:
            verdicts = self._current.read(batch, response, now)
        except ProtocolAbsentError as error:
            self._odd += 1
            if self._current is self._second or (self._spoken and self._odd < ODD_ANSWERS):
                raise retryable(str(error)) from error
            self._odd = 0
            self._current = self._second
            self._ask_again_at = now + ASK_AGAIN_AFTER
            return Verdicts(again=batch.parcels, at_once=True)
        self._odd = 0
        self._spoken = self._spoken or self._current is self._first
        return verdicts
