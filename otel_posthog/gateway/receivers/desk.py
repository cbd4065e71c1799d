"""What both receivers do with a request once its transport has let it in: the intake is asked, the books are kept.

Whatever goes wrong in here is a fault of ours, which the caller is told to try again after: an exception that reached
gRPC would become UNKNOWN, and one that reached an HTTP server 500, which both make a Collector drop the batch.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable

from otel_posthog.gateway.books import Books
from otel_posthog.gateway.inbound import Answer, Inbound, Intake
from otel_posthog.gateway.receivers import stray_metrics
from otel_posthog.gateway.receivers.answers import RETRY, Received
from otel_posthog.gateway.receivers.credentials import Credentials
from otel_posthog.observe import Complaints


class Desk:
    """One transport's way to the intake. Safe in any thread.

    Args:
        transport: `http` or `grpc`.
        intake: Takes the requests.
        credentials: Who may send.
        books: Counts.
        complain: Log lines, each seldom.
    """

    def __init__(
        self, transport: str, intake: Intake, credentials: Credentials, books: Books, complain: Complaints
    ) -> None:
        self._transport = transport
        self._intake = intake
        self._credentials = credentials
        self._books = books
        self._complain = complain

    def caller(self, header: str | None) -> str | None:
        """As `Credentials.caller`; who is nobody's caller is told of in the log, seldom and without what it showed."""
        caller = self._credentials.caller(header)
        if caller is None:
            shown = "no token" if not header else "no token that is known here"
            if header and not header.lower().startswith("bearer "):
                shown = "an `authorization` that is no `Bearer …`"
            self.say("unauthenticated", "somebody shows %s over %s, and is refused", shown, self._transport)
        return caller

    def admits(self, size: int) -> bool:
        """Whether there is room for `size` bytes more; no where even that cannot be told."""
        try:
            return self._intake.admits(size)
        except Exception as error:  # noqa: BLE001 - an edge
            self.fault("admission", error)
            return False

    def receive(
        self, kind: Received, media_type: str, body: bytes, gzip: bool, caller: str, done: Callable[[Answer], None]
    ) -> None:
        """Hands a request over; never raises. `done` must bear being called twice, and take the first."""
        try:
            self._books.add("receiver_bytes", len(body), transport=self._transport)
            if kind == "metrics":
                self._complain.say("metrics", "somebody sends metrics, which are rejected: %s", stray_metrics.MESSAGE)
                done(stray_metrics.answer(media_type, body, gzip=gzip))
            else:
                self._intake.receive(Inbound(kind, media_type, body, gzip, caller, self._transport), done)
        except Exception as error:  # noqa: BLE001 - an edge
            self.fault("intake", error)
            done(RETRY)

    def answered(self, kind: str, answer: str, seconds: float | None = None) -> None:
        """Counts a request that got this answer, `seconds` after it had been read."""
        self._books.add("receiver_requests", transport=self._transport, kind=kind, answer=answer)
        if seconds is not None:
            self._books.took("receiver_ack", seconds, transport=self._transport)

    def refused(self, why: str) -> None:
        """Counts what was turned away before the intake saw it; `why` is one of a small fixed set."""
        self._books.add("receiver_refused", transport=self._transport, why=why)

    def fault(self, where: str, error: BaseException | None) -> None:
        """Reports a fault of ours by its type and place: its text may be somebody's data."""
        self._books.add("receiver_faults", transport=self._transport, where=where)
        self._complain.say(
            f"fault {where}",
            "internal error in the %s receiver (%s): %s at %s; the caller was told to try again",
            self._transport,
            where,
            type(error).__name__,
            _place(error),
        )

    def say(self, subject: str, message: str, *args: object) -> None:
        """A log line, seldom; the arguments are ours or escaped."""
        self._complain.say(subject, message, *args)


def _place(error: BaseException | None) -> str:
    frames = tuple(traceback.extract_tb(error.__traceback__ if error is not None else None))
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
