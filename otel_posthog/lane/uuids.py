"""UUIDv7 (RFC 9562) for records of our own: made once, when something happens, and kept through every retry."""

from __future__ import annotations

from random import getrandbits
from typing import Final

_FIXED: Final = 0x7000_8000_0000_0000_0000
"""Version and variant; the other 74 of the lower 80 bits are random."""
_RANDOM: Final = 0x0FFF_3FFF_FFFF_FFFF_FFFF


def uuid7(time_ns: int) -> str:
    """A UUIDv7 for this moment.

    Args:
        time_ns: Nanoseconds since the Unix epoch.
    """
    # `random` seeds itself anew in the child of a fork. It is no secret: it only has to be another one each time.
    h = "%032x" % ((time_ns // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | getrandbits(76) & _RANDOM | _FIXED)
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
