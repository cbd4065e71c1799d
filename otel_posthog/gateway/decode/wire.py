"""The protobuf wire format, walked without a schema: just enough to find the items of a request.

Specification: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

VARINT: Final = 0
I64: Final = 1
LEN: Final = 2
I32: Final = 5


class BrokenWireError(ValueError):
    """The framing itself is broken: nothing after this point can be trusted."""


def wire_fields(raw: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, value) of a message: bytes for `LEN`, an int for `VARINT`, None for fixed sizes.

    Raises:
        BrokenWireError: The framing is broken.
    """
    position, end = 0, len(raw)
    while position < end:
        tag, position = _varint(raw, position)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise BrokenWireError("a field has number 0")
        if wire == LEN:
            size, position = _varint(raw, position)
            if position + size > end:
                raise BrokenWireError("it ends in the middle of a field")
            yield field, wire, raw[position : position + size]
            position += size
        elif wire == VARINT:
            value, position = _varint(raw, position)
            yield field, wire, value
        elif wire in (I64, I32):
            position += 8 if wire == I64 else 4
            if position > end:
                raise BrokenWireError("it ends in the middle of a field")
            yield field, wire, None
        else:
            raise BrokenWireError(f"wire type {wire} is not in use")


def field_at(raw: bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """The field at `at`: its number, its wire type, where its value starts, and where it ends.

    Raises:
        BrokenWireError: The framing is broken, or the field goes beyond `end`.
        IndexError: `raw` ends within it.
    """
    tag, start = _varint(raw, at)
    field, wire = tag >> 3, tag & 7
    if wire == LEN:
        size, start = _varint(raw, start)
        stop = start + size
    elif wire == VARINT:
        _, stop = _varint(raw, start)
    elif wire in (I64, I32):
        stop = start + (8 if wire == I64 else 4)
    else:
        raise BrokenWireError(f"wire type {wire} is not in use")
    if stop > end:
        raise BrokenWireError("it ends in the middle of a field")
    if field == 0:
        raise BrokenWireError("a field has number 0")
    return field, wire, start, stop


def children(raw: bytes, field: int) -> Iterator[bytes]:
    """The length-delimited values of one field.

    Raises:
        BrokenWireError: The framing is broken.
    """
    return (value for number, wire, value in wire_fields(raw) if number == field and wire == LEN)


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(raw) or shift > 63:
            raise BrokenWireError("it ends in the middle of a number")
        byte = raw[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7
