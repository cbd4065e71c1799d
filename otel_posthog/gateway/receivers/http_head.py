"""The head of an OTLP/HTTP request, and what can be said about it before its body is read."""

from __future__ import annotations

from typing import Final

from otel_posthog.gateway.inbound import JSON, PROTOBUF
from otel_posthog.gateway.receivers.answers import Received
from otel_posthog.model.frozen import frozen

PATHS: Final[dict[bytes, Received]] = {
    b"/v1/traces": "traces",
    b"/v1/traces/": "traces",
    b"/v1/logs": "logs",
    b"/v1/logs/": "logs",
    b"/v1/metrics": "metrics",
    b"/v1/metrics/": "metrics",
}
"""With and without a slash at the end: OpenTelemetry's Python exporter counts a redirect as a success."""

_MEDIA: Final = {b"application/x-protobuf": PROTOBUF, b"application/json": JSON}
_ENCODINGS: Final = {b"": False, b"identity": False, b"gzip": True}

WANTED: Final = frozenset(
    {b"authorization", b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"expect"}
)
"""The headers that decide something; the others are not kept."""


@frozen
class Head:
    """The head of a request.

    Args:
        method: E.g. `POST`.
        path: Without the query, as it came.
        headers: Of `WANTED`, by lower-case name, each as often as it came.
    """

    method: bytes
    path: bytes
    headers: dict[bytes, list[bytes]]

    def only(self, name: bytes) -> bytes | None:
        """The value of a header that came once; `None` where it came twice or not at all."""
        values = self.headers.get(name)
        return values[0] if values is not None and len(values) == 1 else None

    @property
    def kind(self) -> Received | None:
        """What the path takes; `None` where there is nothing at it."""
        return PATHS.get(self.path)

    @property
    def media_type(self) -> str:
        """`PROTOBUF` or `JSON`, "" for anything else; parameters are tolerated."""
        value = self.only(b"content-type")
        return "" if value is None else _MEDIA.get(value.partition(b";")[0].strip().lower(), "")

    @property
    def gzip(self) -> bool | None:
        """Whether the body is gzip; `None` where its encoding is one that we do not read."""
        values = self.headers.get(b"content-encoding")
        if values is None:
            return False
        return _ENCODINGS.get(values[0].strip().lower()) if len(values) == 1 else None

    @property
    def length(self) -> int:
        """The announced size of the body; 0 where unknown. The parser has refused any that is no number."""
        value = self.only(b"content-length")
        return int(value) if value is not None and value.isdigit() else 0

    @property
    def authorization(self) -> str | None:
        """The `Authorization` header; `None` where there is none or more than one."""
        value = self.only(b"authorization")
        return None if value is None else value.decode("latin-1")

    @property
    def expects(self) -> bool:
        """Whether the client waits for leave to send the body."""
        value = self.only(b"expect")
        return value is not None and value.lower() == b"100-continue"
