"""What a wire codec is: how events become a request, and what an answer means for each of them.

Status tables live in the codecs (`wire_v0`, `wire_v1`, `wire_otlp`); whoever calls them asks for an error's class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from otel_posthog.delivery.protocols import Receipt, Request, Response
from otel_posthog.errors import RetryableError, ThrottledError
from otel_posthog.model import CaptureEvent, LossReason
from otel_posthog.version import __version__

USER_AGENT = f"otel-posthog/{__version__}"

CHECK_KEY = "OTEL_EXPORTER_OTLP_TOKEN (in a gateway the project's `key`)"
CHECK_HOST = "OTEL_EXPORTER_OTLP_ENDPOINT (in a gateway the project's `host`)"
"""What an owner looks at first."""

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


@dataclass(slots=True, eq=False)
class Parcel:
    """One encoded event on its way.

    Args:
        uuid: The event's uuid.
        parts: The wire's own encoded pieces; encoded once, joined for every attempt.
        size: Bytes that it adds to a body, before compression.
        record: The event in the spool's form; b"" without a spool.
        epoch: Which flush it belongs to.
        since: Monotonic seconds when it was submitted.
        position: Where it lies in the spool; `None` where it does not.
        unanswered: Answers that should have named it and did not.
        event: The event itself, where its submitter wants to be told about it.
        receipt: Whom to tell.
    """

    uuid: str
    parts: tuple[bytes, ...]
    size: int
    record: bytes = b""
    epoch: int = 0
    since: float = 0.0
    position: Any = None
    unanswered: int = 0
    event: CaptureEvent | None = None
    receipt: Receipt | None = None


@dataclass(slots=True, eq=False)
class Batch:
    """Parcels that travel together, no two with the same uuid.

    Args:
        parcels: What is still to be delivered.
        request_id: Names the batch; stable over its retries.
        created_ns: When it was formed, nanoseconds since the Unix epoch; stable over its retries.
        attempts: Attempts so far, the present one included.
        first_attempt: Monotonic seconds of the first attempt.
    """

    parcels: list[Parcel]
    request_id: str
    created_ns: int
    attempts: int = 0
    first_attempt: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one answer means for each parcel of a batch.

    Args:
        delivered: Parcels that the server has.
        lost: Parcels that it will never take, with the reason.
        again: Parcels to send again.
        delay: Seconds that the server asks to wait before that; 0 for none.
        at_once: `again` goes out without a pause (another protocol is tried).
        note: What its owner should know, "" for nothing; never payload, never a secret.
    """

    delivered: Sequence[Parcel] = ()
    lost: Sequence[tuple[Parcel, LossReason]] = ()
    again: Sequence[Parcel] = ()
    delay: float = 0.0
    at_once: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a wire sends to, and how.

    Args:
        url: Full URL of the endpoint.
        headers: Sent with every request; values may be secret.
        compress: Gzip, or `None` for plain bodies.
    """

    url: str
    headers: dict[str, str] = field(default_factory=dict[str, str], repr=False)


class Wire(Protocol):
    """One wire protocol towards one endpoint. Driven by one thread at a time."""

    @property
    def name(self) -> str:
        """For people, e.g. `capture v1`."""
        ...

    @property
    def overhead(self) -> int:
        """Bytes that a body has around its parcels, at the most."""
        ...

    def encode(self, event: CaptureEvent, *, record: bool) -> Parcel:
        """As `encode_all`, one event."""
        ...

    def encode_all(self, events: Sequence[CaptureEvent], *, record: bool) -> list[Parcel]:
        """Encodes each of `events` once and for all; all of them or none.

        Args:
            events: What to encode.
            record: Also fill in the spool's form.

        Raises:
            PermanentError: The server can never take one of them.
            ValueError: One has no wire form (or TypeError, RecursionError): a bug upstream.
        """
        ...

    def request(self, batch: Batch, now: float) -> Request:
        """The request for one attempt at `now` seconds since the Unix epoch."""
        ...

    def read(self, batch: Batch, response: Response, now: float) -> Verdicts:
        """What `response` means for each parcel.

        Raises:
            DeliveryError: What it means for the batch as a whole.
        """
        ...


def is_html(response: Response) -> bool:
    """Whether this is a web page (a login, a captive portal, a proxy's error), not an API's answer."""
    kind = response.headers.get("content-type", "").lower()
    return "html" in kind or response.body[:64].lstrip()[:1] == b"<"


def code_of(value: object) -> str:
    """`value` if it is a plain error code such as `event_too_big`, else "".

    A server's free text may echo payload or keys: it never reaches a log.
    """
    return value if isinstance(value, str) and _CODE.match(value) else ""


def retryable(message: str, delay: float = 0.0) -> RetryableError:
    """A retryable failure, with the pause that the server asked for."""
    return ThrottledError(message, delay=delay) if delay else RetryableError(message)
