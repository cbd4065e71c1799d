"""What receivers and the intake say to each other: one OTLP request in, one answer out.

    receivers (HTTP, gRPC) ── Inbound ─► Intake ── Answer ─► the transport's own status, headers and body

A receiver knows transports: paths, credentials, connections, status codes. The intake knows requests: what is in
them, when they are safe, what of them can never be used. Every answer is a decision about somebody's data (a Collector
drops for good what it reads as permanent), so there are few of them, and each receiver maps each of them on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Literal, Protocol

from otel_posthog.model.frozen import frozen

Kind = Literal["traces", "logs"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

MAX_RETRY_AFTER = 30
"""Seconds. A Collector drops a batch at once where the pause would end after its `max_elapsed_time`."""


@frozen
class Inbound:
    """One OTLP request whose caller may send it, not yet looked into.

    Args:
        kind: `traces` or `logs`.
        media_type: `PROTOBUF` or `JSON`.
        body: As it arrived, compressed or not.
        gzip: Whether `body` is gzip.
        caller: Name of the credential that the caller showed (never the credential); "" where none is asked for.
        transport: `http` or `grpc`, for the books.
    """

    kind: Kind
    media_type: str
    body: bytes
    gzip: bool = False
    caller: str = ""
    transport: str = "http"


class AnswerKind(str, Enum):
    """What a request came to. HTTP status and gRPC code in brackets."""

    OK = "ok"
    """Durable, or delivered, or nothing in it to keep [200, OK]; `rejected` items can never be used."""
    BAD_DATA = "bad_data"
    """No OTLP request at all: nothing of it could be saved [400, INVALID_ARGUMENT]."""
    TOO_LARGE = "too_large"
    """Over the limit, inflated or not [413, RESOURCE_EXHAUSTED without RetryInfo]."""
    FORBIDDEN = "forbidden"
    """The caller may send nothing: its credential belongs to no project [403, PERMISSION_DENIED]."""
    RETRY = "retry"
    """Not now: no room, no disk, a fault of ours, shutting down [503, UNAVAILABLE with RetryInfo]."""


@frozen
class Answer:
    """What the caller is told.

    Args:
        kind: See `AnswerKind`.
        rejected: Spans or log records that can never be used; exact.
        message: In English, for people; never payload, never a secret; at most 1 KiB.
        retry_after: Seconds to wait, for `RETRY`; at most `MAX_RETRY_AFTER`.
    """

    kind: AnswerKind
    rejected: int = 0
    message: str = ""
    retry_after: int = 1


OK = Answer(AnswerKind.OK)


class Intake(Protocol):
    """Takes requests. Safe in any thread."""

    def receive(self, inbound: Inbound, done: Callable[[Answer], None]) -> None:
        """Inflates, looks into and keeps one request; never raises, never waits for disk or network.

        Args:
            inbound: The request.
            done: Called exactly once, from within the call or from another thread.
        """
        ...

    def admits(self, size: int) -> bool:
        """Whether a body of `size` bytes may be read now; a receiver that hears no answers `RETRY` without reading.

        Args:
            size: As announced; 0 where unknown.
        """
        ...
