"""A request of few bytes that is millions of things is refused before it keeps a core busy."""

from __future__ import annotations

import gzip
from collections.abc import Callable

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.gateway.decode.decoded import MAX_PARTS
from otel_posthog.gateway.inbound import JSON, PROTOBUF
from otel_posthog.gateway.inflate import TooLargeError, inflate
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import EVERYTHING, wanted_of
from otel_posthog.rules import RuleSet

WANTED = wanted_of([RuleSet()], [ConvertConfig()])
MANY = MAX_PARTS + 1


def field(number: int, *bodies: bytes) -> bytes:
    """Length-delimited fields of one number."""
    return b"".join(bytes([number << 3 | 2]) + varint(len(body)) + body for body in bodies)


def varint(number: int) -> bytes:
    """As protobuf writes it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


TAG = field(9, field(1, b"posthog.event") + field(2, field(1, b"x")))
EMPTY = field(2, b"")


def in_scope(items: bytes) -> bytes:
    """A request with these items."""
    return field(1, field(2, items))


BODIES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "spans": lambda: (PROTOBUF, in_scope(EMPTY * MANY)),
    "spans, one of them tagged": lambda: (PROTOBUF, in_scope(EMPTY * MANY + field(2, TAG))),
    "span events": lambda: (PROTOBUF, in_scope(field(2, TAG + field(11, b"") * MANY))),
    "scopes": lambda: (PROTOBUF, field(1, EMPTY * MANY)),
    "scopes beside a tagged span": lambda: (PROTOBUF, in_scope(field(2, TAG)) + field(1, EMPTY * MANY)),
    "resources": lambda: (PROTOBUF, field(1, b"") * MANY),
    "resources beside a tagged span": lambda: (PROTOBUF, in_scope(field(2, TAG)) + field(1, b"") * MANY),
    "spans of a request that is broken at its end": lambda: (
        PROTOBUF,
        in_scope(field(2, TAG)) + field(1, field(2, EMPTY * MANY)) + field(1, field(2, field(2, b"\x0a\xff"))),
    ),
    "JSON spans": lambda: (
        JSON,
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([b"{}"] * MANY) + b"]}]}]}",
    ),
    "JSON resources": lambda: (JSON, b'{"resourceSpans":[' + b",".join([b"{}"] * MANY) + b"]}"),
}


@pytest.mark.row(29, 32)
@pytest.mark.parametrize("wanted", [WANTED, EVERYTHING], ids=["by the tags", "everything"])
@pytest.mark.parametrize("body", list(BODIES.values()), ids=list(BODIES))
def test_it_is_too_large(body: Callable[[], tuple[str, bytes]], wanted: object) -> None:
    """Whichever parts they are, and whatever is wanted of them."""
    media_type, raw = body()
    with pytest.raises(TooLargeError, match="more than 250000 items; send smaller batches"):
        prepare("traces", media_type, raw, wanted)  # type: ignore[arg-type]


def test_the_largest_ordinary_request_passes() -> None:
    """As many as may be, from a few KiB of gzip: counted, and one of them converted."""
    packed = gzip.compress(in_scope(EMPTY * (MAX_PARTS - 10) + field(2, TAG)))
    prepared = prepare("traces", PROTOBUF, inflate(packed, 1 << 26), WANTED)
    assert (prepared.received, prepared.skipped, prepared.candidates) == (MAX_PARTS - 9, MAX_PARTS - 10, 1)
