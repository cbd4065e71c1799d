"""What delivery promises to the bridge, and what its links promise each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Protocol

from otel_posthog.model import CaptureEvent, LossReason
from otel_posthog.model.frozen import frozen


@frozen
class DeliveryStats:
    """The books of one delivery: captured = delivered + spooled + dead_lettered + lost + pending.

    Args:
        captured: Events that `submit` took.
        delivered: Events that the sink acknowledged.
        spooled: Events on disk, waiting for a later process.
        dead_lettered: Events that the server will never take, given back with their receipt, by reason: whoever keeps
            them puts them aside for an operator.
        lost: Events given up, by reason.
        pending: Events in the queue or in flight.
        retries: Attempts beyond the first.
        batches: Requests that were answered.
        last_error: Text of the newest failure, "" for none; never a secret.
        blocked: Why the server takes nothing from us whatever the data is (a refused key, a host that is none), ""
            while it does.
    """

    captured: int = 0
    delivered: int = 0
    spooled: int = 0
    dead_lettered: Mapping[LossReason, int] = field(default_factory=dict[LossReason, int])
    lost: Mapping[LossReason, int] = field(default_factory=dict[LossReason, int])
    pending: int = 0
    retries: int = 0
    batches: int = 0
    last_error: str = ""
    blocked: str = ""

    @property
    def balanced(self) -> bool:
        """Whether every captured event is accounted for."""
        return self.captured == (
            self.delivered + self.spooled + sum(self.dead_lettered.values()) + sum(self.lost.values()) + self.pending
        )


class Receipt(Protocol):
    """What a submitter hands along with events of which somebody else keeps a durable copy: the gateway."""

    def taken(self, count: int) -> None:
        """`count` more events were taken; called by `submit`, before any of them can have ended. As quick as that."""
        ...

    def ended(self, event: CaptureEvent, lost: LossReason | None, note: str) -> None:
        """`event` has its outcome; called once for each, by the delivery's thread. Quick, and never raises.

        What is still pending at a shutdown is not told: its keeper still has it.

        Args:
            event: As submitted.
            lost: `None` where the server has it.
            note: Why it was lost, "" where nobody said.
        """
        ...


class Delivery(Protocol):
    """Takes capture events and brings each to exactly one recorded end. Safe in any thread; never raises."""

    def submit(self, events: Sequence[CaptureEvent], receipt: Receipt | None = None) -> bool:
        """Takes all of `events` or none (False: no room, or shut down). Never blocks, never does I/O.

        Args:
            events: What to deliver.
            receipt: Told what became of each; the events are never given up then, only refused by the server.
        """
        ...

    def resume(self) -> None:
        """Begins to send what dead processes left in the spool, if there is any; starts and opens nothing otherwise."""
        ...

    def flush(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until everything submitted so far has its outcome; True if so."""
        ...

    def shutdown(self, timeout: float) -> bool:
        """Closes admission, flushes once within `timeout` seconds, spools or counts the rest; True if none was lost.

        Idempotent.
        """
        ...

    def stats(self) -> DeliveryStats:
        """The books, taken at one moment."""
        ...


@frozen
class Request:
    """One HTTP POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@frozen
class Response:
    """One HTTP answer; `headers` have lower-case names; `body` is bounded by the transport."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """One HTTP client. Follows no redirect, retries nothing, bounds time and size."""

    def post(self, request: Request, *, timeout: float) -> Response:
        """Sends and returns any answer at all.

        Raises:
            RetryableError: No answer within `timeout` seconds, or the connection failed.
            PermanentError: The request can never be sent (bad URL, bad TLS set-up that no retry mends).
        """
        ...

    def close(self) -> None:
        """Closes kept connections; a later `post` opens new ones."""
        ...


SendGuard = AbstractContextManager[object]
"""Entered around every `post`: suppression of self-instrumentation in process, nothing in the gateway."""


class Clock(Protocol):
    """Time, injected."""

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...
