"""Decompression that stops at a limit: a bomb costs its limit and no more (posthog-wire §1.3)."""

from __future__ import annotations

import zlib

GZIP_MAGIC = b"\x1f\x8b\x08"
_CHUNK = 256 * 1024


class InflateError(Exception):
    """The bytes are not what their encoding says, or end too early."""


class InflateLimitError(Exception):
    """The decompressed bytes pass the limit."""


def is_gzip(data: bytes) -> bool:
    """Whether `data` starts like a gzip member."""
    return data.startswith(GZIP_MAGIC)


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompresses gzip, several members included.

    Raises:
        InflateError: Corrupt or truncated.
        InflateLimitError: More than `limit` bytes would come out.
    """
    out = bytearray()
    rest = data
    while rest:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        rest = _inflate_one(member, rest, out, limit)
        # Padding with zero bytes after a member is legal and read by nobody.
        rest = rest.lstrip(b"\0")
    return bytes(out)


def inflate_zlib(data: bytes, limit: int) -> bytes:
    """Decompresses a zlib-wrapped deflate stream; a raw one is refused, as PostHog does.

    Raises:
        InflateError: Corrupt, truncated, or raw deflate.
        InflateLimitError: More than `limit` bytes would come out.
    """
    out = bytearray()
    if _inflate_one(zlib.decompressobj(zlib.MAX_WBITS), data, out, limit):
        raise InflateError("bytes follow the end of the stream")
    return bytes(out)


def _inflate_one(stream: zlib._Decompress, data: bytes, out: bytearray, limit: int) -> bytes:
    pending = data
    try:
        while not stream.eof:
            # One byte of room more than allowed tells "exactly the limit" from "beyond it".
            room = limit - len(out) + 1
            out += stream.decompress(pending, min(room, _CHUNK))
            if len(out) > limit:
                raise InflateLimitError
            pending = stream.unconsumed_tail
            if not pending and not stream.eof:
                out += stream.flush()
                break
    except zlib.error as error:
        raise InflateError(str(error)) from error
    if not stream.eof:
        raise InflateError("the stream ends too early")
    if len(out) > limit:
        raise InflateLimitError
    return stream.unused_data
