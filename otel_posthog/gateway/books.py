"""The gateway's own numbers: what arrived, what it came to, how long it took. The bridges count what follows.

Names are those of the OpenTelemetry Collector's own telemetry where it has the same thing; `admin` renders them for
Prometheus and OTLP.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from typing import Final

from otel_posthog.model.frozen import frozen

Labels = tuple[tuple[str, str], ...]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""


@frozen
class Histogram:
    """Durations in seconds by bucket.

    Args:
        counts: One for each of `BUCKETS`, and one beyond the last; not cumulative.
        total: Their sum in seconds.
    """

    counts: tuple[int, ...]
    total: float


@frozen
class BooksSnapshot:
    """All numbers at one moment, by name and labels."""

    counters: Mapping[tuple[str, Labels], int]
    durations: Mapping[tuple[str, Labels], Histogram]


class Books:
    """Counters and durations. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[tuple[str, Labels], int] = {}
        self._durations: dict[tuple[str, Labels], tuple[list[int], list[float]]] = {}

    def add(self, name: str, count: int = 1, **labels: str) -> None:
        """Counts `count` more of `name`; label values come from small fixed sets, never from telemetry."""
        key = (name, tuple(labels.items()))
        with self._lock:
            self._counters[key] = self._counters.get(key, 0) + count

    def took(self, name: str, seconds: float, **labels: str) -> None:
        """One more duration of `name`."""
        key = (name, tuple(labels.items()))
        with self._lock:
            counts, total = self._durations.setdefault(key, ([0] * (len(BUCKETS) + 1), [0.0]))
            counts[bisect.bisect_left(BUCKETS, seconds)] += 1
            total[0] += seconds

    def count(self, name: str, **labels: str) -> int:
        """The sum of `name` over everything that has at least these labels."""
        wanted = set(labels.items())
        with self._lock:
            return sum(
                count for (found, having), count in self._counters.items() if found == name and wanted <= set(having)
            )

    def snapshot(self) -> BooksSnapshot:
        """The numbers at this moment."""
        with self._lock:
            return BooksSnapshot(
                dict(self._counters),
                {key: Histogram(tuple(counts), total[0]) for key, (counts, total) in self._durations.items()},
            )
