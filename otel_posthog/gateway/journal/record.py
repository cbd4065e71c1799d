"""What one record of the journal holds, and its form on disk.

    ┌─────────┬────────┬──────────────┬──────┐
    │ version │ length │ header       │ body │    version 1 byte, length 4 bytes little-endian, header JSON in UTF-8
    └─────────┴────────┴──────────────┴──────┘

The body is the OTLP request, compressed as it came or by us; or one capture event as JSON (`json_event.record_of`),
for a replay of events as they are. The header says what is needed to read it again: never a token or a key, only the
*name* of the caller's credential, and of each project the digest of the rules that it had then.

A later version of this package that needs another form counts `VERSION` up. A record of a version that is not known
here is refused and kept (`UnknownVersionError`): an older gateway leaves to a newer one what it cannot read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Literal, cast

from otel_posthog.errors import OtelPosthogError
from otel_posthog.gateway.inbound import JSON, PROTOBUF, Kind
from otel_posthog.model.frozen import frozen

VERSION: Final = 1
_FRAME: Final = struct.Struct("<BI")

Content = Literal["request", "event", "raw"]
"""`raw`: bytes of a record that nobody could read, among the dead letters only."""


class UnknownVersionError(OtelPosthogError):
    """A record of another version of this package."""


class BrokenRecordError(OtelPosthogError):
    """A record that no version has written."""


@frozen
class Record:
    """One record.

    Args:
        kind: `traces` or `logs`; of an event, whatever it came from.
        media_type: `PROTOBUF` or `JSON`.
        body: The request, or the event.
        gzip: Whether `body` is gzip.
        caller: Name of the credential that sent it.
        received_ns: When, in nanoseconds since the Unix epoch.
        digests: Project name -> digest of its rules then. Empty: by the rules of the day on which it is converted.
        content: `request`, or `event` for one capture event; see `Content`.
        project: Whose event it is; "" for requests, which are routed.
        origin: Of an event, the encoded record that it was made from; empty where that is not known.
    """

    kind: Kind
    media_type: str
    body: bytes
    gzip: bool = False
    caller: str = ""
    received_ns: int = 0
    digests: Mapping[str, str] = field(default_factory=dict[str, str])
    content: Content = "request"
    project: str = ""
    origin: bytes = b""


def encode(record: Record) -> bytes:
    """`record` as it lies on disk."""
    header: dict[str, Any] = {
        "kind": record.kind,
        "json": record.media_type == JSON,
        "gzip": record.gzip,
        "caller": record.caller,
        "received_ns": record.received_ns,
        "digests": dict(record.digests),
    }
    if record.content != "request":
        header["content"] = record.content
        header["project"] = record.project
        header["body"] = len(record.body)
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_FRAME.pack(VERSION, len(text)), text, record.body, record.origin))


def decode(data: bytes) -> Record:
    """The record in `data`.

    Raises:
        UnknownVersionError: Another version wrote it.
        BrokenRecordError: Nobody did.
    """
    if len(data) < _FRAME.size:
        raise BrokenRecordError("it is shorter than its frame")
    version, length = _FRAME.unpack_from(data)
    if version != VERSION:
        raise UnknownVersionError(f"its version is {version}, and this one reads {VERSION}")
    end = _FRAME.size + length
    try:
        header = cast("dict[str, Any]", json.loads(data[_FRAME.size : end]))
        kind: Kind = "logs" if header["kind"] == "logs" else "traces"
        content = cast("Content", header.get("content", "request"))
        if content not in ("request", "event", "raw"):
            raise BrokenRecordError(f"it holds {str(content)[:20]!r}")
        body_end = end + int(header.get("body", len(data) - end))
        return Record(
            kind=kind,
            media_type=JSON if header["json"] else PROTOBUF,
            body=data[end:body_end],
            gzip=bool(header["gzip"]),
            caller=str(header["caller"]),
            received_ns=int(header["received_ns"]),
            digests={str(name): str(digest) for name, digest in dict(header["digests"]).items()},
            content=content,
            project=str(header.get("project", "")),
            origin=data[body_end:],
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenRecordError(f"its header cannot be read ({type(error).__name__})") from None
