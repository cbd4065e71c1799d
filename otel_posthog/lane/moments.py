"""Numbers log records of one and the same moment.

The uuid of a log record's event is made from what it says and when. A clock that stands still (15 ms on some Windows,
for ever in a test that freezes it) gives equal records equal times, and PostHog would keep one of three sales.
"""

from __future__ import annotations

from dataclasses import replace

from otel_posthog.model import Signal


class Moments:
    """Remembers the latest moment. Two threads that race for it are two moments apart in any clock that goes on."""

    __slots__ = ("_count", "_latest")

    def __init__(self) -> None:
        self._latest = (0, 0)
        self._count = 0

    def numbered(self, signal: Signal) -> Signal:
        """`signal`, with its number as `index` from the second record of its moment on."""
        moment = (signal.time_ns, signal.observed_time_ns)
        if moment != self._latest:
            self._latest, self._count = moment, 0
            return signal
        self._count += 1
        return replace(signal, index=self._count)
