"""UUIDv7 (RFC 9562) for records of our own: made once, when something happens, and kept through every retry."""

from __future__ import annotations

import random

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62


def uuid7(time_ns: int) -> str:
    """A UUIDv7 for this moment.

    Args:
        time_ns: Nanoseconds since the Unix epoch.
    """
    # `random` seeds itself anew in the child of a fork. It is no secret: it only has to be another one each time.
    bits = random.getrandbits(74)
    number = (
        (time_ns // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | _VERSION | bits >> 62 << 64 | _VARIANT | bits & (1 << 62) - 1
    )
    h = f"{number:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
