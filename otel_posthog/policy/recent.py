"""`Recent`: what was seen lately, bounded in number and in time.

One insertion-ordered dict is both the index and the age list: an entry that is touched moves to the end, so the oldest
is always first. No lock of its own: `Policy` holds one around every step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A map that forgets: the least recently written entry when full, any entry after `window` seconds.

    Args:
        capacity: Entries at the most.
        window: Seconds after which an entry counts as absent.
    """

    def __init__(self, capacity: int, window: float) -> None:
        self._capacity = capacity
        self._window = window
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K, now: float) -> V | None:
        """The value written under `key` within the window before `now`, or `None`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        written, value = entry
        if now - written > self._window:
            # `pop` with a default: after a fork in mid-operation the entry may be gone already.
            self._entries.pop(key, None)
            return None
        return value

    def put(self, key: K, value: V, now: float) -> None:
        """Writes `value`, and makes room for it by forgetting the oldest."""
        self._entries[key] = (now, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def forget(self, key: K) -> None:
        """Removes `key` if it is there."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forgets everything."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
