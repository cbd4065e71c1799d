"""One dead letter, and its bytes.

It holds the event as it was refused and the one OTLP item that it was made from, or a whole request: one that nobody
can read, that made us fail, or of which some items belong to no project.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final, cast

from otel_posthog.gateway.journal import record as records
from otel_posthog.model import CaptureEvent
from otel_posthog.model.frozen import frozen

VERSION: Final = 1
MAX_NOTE: Final = 500
_FRAME: Final = struct.Struct("<BI")


@frozen
class Letter:
    """One dead letter.

    Args:
        reason: Why, from a small fixed set: a `LossReason`, or `unreadable`, `failed`, `crashed`, `unrouted`,
            `unreadable_items`.
        note: What was said about it.
        project: Name of the project that refused it; "" where there is none.
        time_ns: When it died.
        event: The event that was refused; `None` for a whole request.
        source: What it was made from; `None` where that could not be found.
    """

    reason: str
    note: str
    project: str
    time_ns: int
    event: CaptureEvent | None = None
    source: records.Record | None = None


def encode(letter: Letter) -> bytes:
    """`letter` as it lies on disk."""
    header: dict[str, Any] = {
        "reason": letter.reason,
        "note": letter.note[:MAX_NOTE],
        "project": letter.project,
        "time_ns": letter.time_ns,
    }
    event = letter.event
    if event is not None:
        header["event"] = {
            "event": event.event,
            "uuid": event.uuid,
            "distinct_id": event.distinct_id,
            "timestamp_ns": event.timestamp_ns,
            "properties": dict(event.properties),
        }
    try:
        text = json.dumps(header, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        # The very event that had no JSON form: its source is still worth keeping.
        header.pop("event", None)
        header["note"] = f"{letter.note[:MAX_NOTE]} (the event has no JSON form)"
        text = json.dumps(header, separators=(",", ":")).encode()
    source = b"" if letter.source is None else records.encode(letter.source)
    return b"".join((_FRAME.pack(VERSION, len(text)), text, source))


def decode(data: bytes) -> Letter:
    """The letter in `data`.

    Raises:
        UnknownVersionError: Another version wrote it.
        BrokenRecordError: Nobody did.
    """
    if len(data) < _FRAME.size:
        raise records.BrokenRecordError("it is shorter than its frame")
    version, length = _FRAME.unpack_from(data)
    if version != VERSION:
        raise records.UnknownVersionError(f"its version is {version}, and this one reads {VERSION}")
    end = _FRAME.size + length
    try:
        header = cast("dict[str, Any]", json.loads(data[_FRAME.size : end]))
        found = header.get("event")
        event = None
        if isinstance(found, dict):
            fields = cast("dict[str, Any]", found)
            event = CaptureEvent(
                event=str(fields["event"]),
                distinct_id=str(fields["distinct_id"]),
                uuid=str(fields["uuid"]),
                timestamp_ns=int(fields["timestamp_ns"]),
                properties=dict(fields["properties"]),
            )
        return Letter(
            reason=str(header["reason"]),
            note=str(header["note"]),
            project=str(header["project"]),
            time_ns=int(header["time_ns"]),
            event=event,
            source=records.decode(data[end:]) if len(data) > end else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise records.BrokenRecordError(f"it cannot be read ({type(error).__name__})") from None
