"""The C library's memory allocator, told what a gateway does with memory.

Each request takes some blocks of a megabyte (the body, what it inflates to, the batch that goes out) and frees them a
moment later. By default glibc takes such blocks from the system and gives them back each time, and every page of them
is faulted in and zeroed again: that is 1.6 to 2 times the CPU of a request. With higher thresholds it keeps them.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
"""Numbers of parameters in glibc's `malloc.h`."""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Free memory that an arena keeps at the most, in place of giving it back: the price of the speed, once an arena."""
LARGEST_BLOCK: Final = 32 * 1024 * 1024
"""Blocks up to this size are kept; glibc takes no larger value."""
ARENAS: Final = 2
"""Each thread would get one of its own, and keep free memory in it: threads share two, since one runs at a time."""


def tune_allocator() -> bool:
    """Has glibc keep freed memory; to be called once, before the process makes threads.

    Returns:
        Whether it was done; False with another C library (musl, macOS, Windows), where nothing is changed.
    """
    try:
        libc: Any = ctypes.CDLL(None)
        libc.gnu_get_libc_version.restype = ctypes.c_char_p
        if not libc.gnu_get_libc_version():
            return False
        settings = ((_ARENA_MAX, ARENAS), (_TRIM_THRESHOLD, KEPT_BYTES), (_MMAP_THRESHOLD, LARGEST_BLOCK))
        # Every one of them, also where one is refused: each is worth something by itself.
        return all([libc.mallopt(parameter, value) == 1 for parameter, value in settings])  # noqa: C419
    except (OSError, AttributeError, TypeError):
        return False
