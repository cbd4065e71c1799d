"""Bodies out of gzip, never more than a limit: a bomb costs its limit and no more.

What is bounded, and against what:

- bytes that come out, by the receiver's limit (OTLP specification: the limit holds after decompression too);
- their ratio to what came in, above a floor: the sum over many connections is the real exposure (CVE-2024-36129);
- members: each has its own head, tail and call, so that 100,000 empty ones cost quadratic time elsewhere.

Intel's ISA-L, where the extra `fast` is installed, inflates in half the time of zlib. The size that the trailer
promises is not used: the sender writes it, and reading with a limit is as fast without it (docs/decisions/0075).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from otel_posthog.errors import SignalError

MAX_RATIO: Final = 100
"""Telemetry compresses to a seventh or a twentieth; deflate reaches 1:1,030."""
RATIO_FLOOR: Final = 4 * 1024 * 1024
"""Bytes that come out whatever the ratio: small repetitive bodies are no bombs."""
MAX_MEMBERS: Final = 16

_GZIP: Final = zlib.MAX_WBITS | 16

Inflate = Callable[[bytes, int], bytes]
"""(gzip, most bytes that may come out) -> the bytes; raises as `inflate`."""


class BadDataError(SignalError):
    """The body is not what it says it is; the same bytes will never be read [400, INVALID_ARGUMENT]."""


class TooLargeError(SignalError):
    """The body passes a limit [413, RESOURCE_EXHAUSTED without RetryInfo]."""


def inflate(body: bytes, limit: int, ratio: int = MAX_RATIO, *, library: Any = zlib) -> bytes:
    """The bytes in a gzip body.

    Args:
        body: One gzip member or several; empty for an empty request.
        limit: Bytes that may come out at the most.
        ratio: How many times as large as `body` the result may be, where it is above `RATIO_FLOOR`.
        library: `zlib`, or what has its interface.

    Raises:
        BadDataError: It is no gzip, is corrupt or truncated, has too many members, or something follows it.
        TooLargeError: More than `limit` bytes would come out, or the ratio is beyond all telemetry.
    """
    if not body:
        return b""
    most = allowed = min(limit, max(RATIO_FLOOR, ratio * len(body)))
    pieces: list[bytes] = []
    rest = body
    for _ in range(MAX_MEMBERS):
        member = library.decompressobj(_GZIP)
        try:
            # One byte of room beyond what is allowed tells "exactly the limit" from "more".
            piece: bytes = member.decompress(rest, allowed + 1)
        except (zlib.error, library.error, ValueError) as error:
            raise BadDataError(f"the body is not gzip, though it says so: {error}") from None
        if len(piece) > allowed:
            if most < limit:
                raise TooLargeError(f"the body inflates to more than {ratio} times its size, as no telemetry does")
            raise TooLargeError(f"the body inflates to more than {limit} bytes")
        if not member.eof:
            raise BadDataError("the gzip body ends too early")
        pieces.append(piece)
        allowed -= len(piece)
        # Zeros after a member are padding; gzip readers pass over them.
        rest = member.unused_data.lstrip(b"\0")
        if not rest:
            return piece if len(pieces) == 1 else b"".join(pieces)
    raise BadDataError(f"the gzip body has more than {MAX_MEMBERS} members")


def choose_inflate(*, fast: bool = True) -> Inflate:
    """The best there is: ISA-L where installed (and `fast`), else zlib. The first call imports."""
    library: Any = zlib
    if fast:
        with suppress(ImportError):
            library = importlib.import_module("isal.isal_zlib")  # without types of its own
    return lambda body, limit: inflate(body, limit, library=library)
