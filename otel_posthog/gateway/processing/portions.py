"""`Portions`: what projects without room are still to get, by project and in order, and when to try them again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Final

from otel_posthog.gateway.processing.work import Portion

MAX_PORTIONS: Final = 20_000
"""Portions in memory, some 500 bytes each; with more, everything waits on disk."""

RETRY_INTERVAL: Final = 1.0
"""Seconds between two attempts with a project that has no room and of which nothing is heard."""

_MOVED_PAUSE: Final = 0.01
"""Seconds after which a project that got rid of something is tried: a batch has a thousand events, each with an end."""


class Portions:
    """Changed by one thread; `moved`, `in` and `counts` in any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Portion]] = {}
        self._count = 0
        self._retry_at: dict[str, float] = {}
        self._moved: set[str] = set()

    def __contains__(self, project: str) -> bool:
        """Whether something of `project` waits."""
        return project in self._waiting

    def __len__(self) -> int:
        """Projects of which something waits."""
        return len(self._waiting)

    @property
    def too_many(self) -> bool:
        """Whether no more of them should be made."""
        return self._count >= MAX_PORTIONS

    def counts(self) -> Mapping[str, int]:
        """Portions by project."""
        with self._lock:
            return {name: len(waiting) for name, waiting in self._waiting.items()}

    def moved(self, project: str) -> bool:
        """`project` has got rid of an event; whether that is news to whom it concerns."""
        # Looked at without the lock: nearly always nobody waits, and this is called for each event.
        if project not in self._waiting:
            return False
        with self._lock:
            news = project not in self._moved
            self._moved.add(project)
            return news

    def add(self, portion: Portion, now: float) -> None:
        """Puts `portion` behind those of its project that wait already."""
        with self._lock:
            waiting = self._waiting.get(portion.project)
            if waiting is None:
                waiting = self._waiting[portion.project] = deque()
                self._retry_at[portion.project] = now + RETRY_INTERVAL
            if waiting and portion.work.place is not None:
                portion.stream = None  # memory is for the one that is next
            waiting.append(portion)
            self._count += 1

    def first(self, project: str) -> Portion | None:
        """The one that is next."""
        waiting = self._waiting.get(project)
        return waiting[0] if waiting else None

    def ended(self, project: str) -> None:
        """The first one has been handed out."""
        with self._lock:
            self._waiting[project].popleft()
            self._count -= 1

    def tried(self, project: str, now: float, *, room: bool) -> None:
        """`project` was tried; `room`: it took all that it was offered."""
        with self._lock:
            if not self._waiting[project]:
                del self._waiting[project], self._retry_at[project]
                self._moved.discard(project)
            else:
                self._retry_at[project] = now if room else now + RETRY_INTERVAL

    def hurry(self, now: float, project: str = "") -> None:
        """Tries `project`, or all of them, at once."""
        with self._lock:
            for name in self._retry_at:
                if not project or name == project:
                    self._retry_at[name] = now

    def due(self, now: float) -> list[str]:
        """Projects to be tried now."""
        with self._lock:
            moved, self._moved = self._moved, set()
            for name in moved & self._retry_at.keys():
                self._retry_at[name] = min(self._retry_at[name], now + _MOVED_PAUSE)
            return [name for name, at in self._retry_at.items() if at <= now]

    @property
    def news(self) -> bool:
        """Whether `due` has something to look at."""
        return bool(self._moved)

    def next_due(self) -> float | None:
        """Monotonic seconds at which one is to be tried; `None` where none waits."""
        with self._lock:
            return min(self._retry_at.values(), default=None)
