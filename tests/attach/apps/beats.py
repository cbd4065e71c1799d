"""A heartbeat for apps on a loop: how often it beat, and how long the loop was away at the most."""

import time


class Beats:
    """Counts; `take` gives what came since the last time."""

    def __init__(self):
        self.take()

    def beat(self):
        now = time.perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._count += 1

    def take(self):
        taken = {"count": getattr(self, "_count", 0), "longest_ms": round(getattr(self, "_longest", 0.0) * 1000, 2)}
        self._count, self._longest, self._last = 0, 0.0, time.perf_counter()
        return taken
