"""Recorded OTLP: what the Collector's file exporter and other tools leave in files, found out by looking at it.

- OTLP/JSON, one request or one per line (JSONL, the file exporter's default);
- protobuf, one request or many, each after its length in 4 bytes, big-endian (the file exporter with `format: proto`);
- any of these in gzip.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Decoded
from otel_posthog.gateway.decode.request import JSON, PROTOBUF, Kind, decode
from otel_posthog.gateway.decode.wire import I64, LEN, VARINT, BrokenWireError, children, wire_fields

MAX_INFLATED: Final = 1024 * 1024 * 1024
_JSON_KEYS: Final = (("traces", b'"resourceSpans"'), ("logs", b'"resourceLogs"'), ("metrics", b'"resourceMetrics"'))


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request of a file.

    Args:
        place: Where in the file: "" for the only one, else `line 3` or `request 3`.
        kind: `traces`, `logs`, or `metrics` (which are never decoded).
        decoded: What became of it; empty for metrics and where `error` is set.
        error: Why it could not be read; "" where it could.
    """

    place: str
    kind: str
    decoded: Decoded = field(default_factory=Decoded)
    error: str = ""


def read_recorded(raw: bytes) -> Iterator[Recorded]:
    """Every request in the bytes of a file.

    Raises:
        SignalError: It is none of the forms above.
    """
    body = _inflated(raw)
    start = body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not start:
        return
    if start == b"{":
        yield from _json(body)
    elif body[:1] == b"\0":
        yield from _framed(body)
    else:
        yield _one("", _protobuf_kind(body), body, PROTOBUF)


def _inflated(raw: bytes) -> bytes:
    if raw[:4] == b"\x28\xb5\x2f\xfd":
        raise SignalError("the file is compressed with zstd: decompress it first, e.g. with `zstd -d`")
    if raw[:2] != b"\x1f\x8b":
        return raw
    inflate = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    left = MAX_INFLATED
    try:
        # A rotated log may be several gzip members one after the other.
        while raw:
            parts.append(inflate.decompress(raw, left))
            left -= len(parts[-1])
            if left <= 0:
                raise SignalError(f"the file is larger than {MAX_INFLATED // 1024**2} MiB when decompressed")
            if not inflate.eof:
                raise SignalError("the gzip file ends in the middle")
            raw, inflate = inflate.unused_data, zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise SignalError(f"the gzip file is damaged: {error}") from None
    return b"".join(parts)


def _one(place: str, kind: str, body: bytes, content_type: str) -> Recorded:
    if kind == "metrics":
        return Recorded(place, kind)
    which: Kind = "logs" if kind == "logs" else "traces"
    try:
        return Recorded(place, kind, decode(which, body, content_type=content_type))
    except SignalError as error:
        return Recorded(place, kind, error=str(error))


# --- JSON ----------------------------------------------------------------------------------------------------------


def _json(body: bytes) -> Iterator[Recorded]:
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 1) if line.strip()]
    if len(lines) == 1 or not _is_json(lines[0][1]):
        yield from _json_request("", body)
        return
    for number, line in lines:
        yield from _json_request(f"line {number}", line)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True


def _json_request(place: str, body: bytes) -> Iterator[Recorded]:
    kinds = [kind for kind, key in _JSON_KEYS if key in body]
    if not kinds:
        yield Recorded(place, "", error="no resourceSpans or resourceLogs in it: this is not OTLP/JSON")
    for kind in kinds:
        yield _one(place, kind, body, JSON)


# --- protobuf ------------------------------------------------------------------------------------------------------


def _framed(body: bytes) -> Iterator[Recorded]:
    position = number = 0
    while position < len(body):
        number += 1
        place = f"request {number}"
        if position + 4 > len(body):
            yield Recorded(place, "", error="the file ends in the middle of a length")
            return
        (size,) = struct.unpack_from(">I", body, position)
        request = body[position + 4 : position + 4 + size]
        position += 4 + size
        if len(request) < size:
            yield Recorded(place, "", error="the file ends in the middle of a request")
            return
        try:
            kind = _protobuf_kind(request)
        except SignalError as error:
            yield Recorded(place, "", error=str(error))
        else:
            yield _one(place, kind, request, PROTOBUF)


def _protobuf_kind(body: bytes) -> str:
    """Traces, logs and metrics have the same envelope: the first item's own fields tell them apart.

    Raises:
        SignalError: These bytes are no such thing.
    """
    try:
        for resource_items in children(body, 1):
            for scope_items in children(resource_items, 2):
                for item in children(scope_items, 2):
                    kind = _item_kind(item)
                    if kind:
                        return kind
        return "traces"
    except BrokenWireError:
        raise SignalError("the file is neither OTLP/JSON nor OTLP protobuf") from None


def _item_kind(item: bytes) -> str:
    """The kind that an item's fields betray; "" where they do not."""
    first: bytes = b""
    for number, wire, value in wire_fields(item):
        # LogRecord: 1 time, 2 severity, 11 observed time.
        if (number, wire) in ((1, I64), (2, VARINT), (11, I64)):
            return "logs"
        # Span: 1 trace id, 6 kind, 7 start time, 8 end time.
        if (number, wire) in ((6, VARINT), (7, I64), (8, I64)):
            return "traces"
        if (number, wire) == (1, LEN):
            first = value
    # Metric: 1 name, and nothing of the above. A span without kind and times still has a trace id of 16 bytes.
    return "metrics" if first and len(first) != 16 else ""
