"""`Decoded`: what became of one OTLP request, and what the two decoders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_posthog.gateway.inflate import TooLargeError
from otel_posthog.model import Signal

SPAN_KINDS: Final = ("internal", "internal", "server", "client", "producer", "consumer")
"""By OTLP number. 0 is UNSPECIFIED, which the specification allows to be read as INTERNAL."""

STATUS_CODES: Final = ("unset", "ok", "error")
"""By OTLP number."""

MAX_MESSAGES: Final = 10
"""Error messages kept for one request: enough to find the fault, bounded whatever arrives."""

MAX_DEPTH: Final = 45
"""Arrays and maps inside one attribute value. protobuf's own parser gives up a little beyond it; JSON follows suit."""


MENDED_TEXT: Final = "invalid UTF-8 was replaced by U+FFFD"
UNREADABLE: Final = {
    "traces": "a span holds a value nested too deep, or broken protobuf",
    "logs": "a log record holds a value nested too deep, or broken protobuf",
}
UNREADABLE_OWNER: Final = "the resource or scope of some items is broken protobuf"


MAX_PARTS: Final = 250_000
"""Resources, scopes, items and span events of one request. 64 MiB of ordinary spans are half as many; 4 KiB of gzip can
be two million empty ones, which would keep a core busy for half a minute."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The signals of one request, and what could not be read.

    Args:
        signals: Every span followed by its span events; every log record. In the order of the request.
        rejected: Spans or log records that can never be read; exact, for `partial_success.rejected_*`.
        error_messages: What was wrong, at most `MAX_MESSAGES`; may be non-empty with nothing rejected (something was
            mended on the way).
    """

    signals: tuple[Signal, ...] = ()
    rejected: int = 0
    error_messages: tuple[str, ...] = ()


class Ration:
    """How much of a request may still be looked at: its bytes are bounded, and two of them can be an item.

    Args:
        limit: Resources, scopes, items and span events at the most.
    """

    def __init__(self, limit: int = MAX_PARTS) -> None:
        self._limit = self._left = limit

    def take(self, count: int = 1) -> None:
        """So many more.

        Raises:
            TooLargeError: That is too many.
        """
        self._left -= count
        if self._left < 0:
            raise TooLargeError(f"the request has more than {self._limit} items; send smaller batches")


class Complaints:
    """Collects at most `MAX_MESSAGES` different messages while a request is decoded."""

    def __init__(self) -> None:
        self.rejected = 0
        self._messages: dict[str, None] = {}

    def reject(self, message: str) -> None:
        """One span or log record is lost for good."""
        self.rejected += 1
        self.note(message)

    def note(self, message: str) -> None:
        """Something was mended."""
        if len(self._messages) < MAX_MESSAGES:
            self._messages[message] = None

    @property
    def any(self) -> bool:
        """Whether anything was said."""
        return bool(self._messages)

    def decoded(self, signals: list[Signal]) -> Decoded:
        """The final account."""
        return Decoded(tuple(signals), self.rejected, tuple(self._messages))


def at(names: tuple[str, ...], number: int) -> str:
    """The name of an enum number; that of 0 for one that this version does not know."""
    return names[number] if 0 <= number < len(names) else names[0]
