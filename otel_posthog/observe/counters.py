"""The books of the bridge: signals in, by outcome."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from otel_posthog.model import DropReason, Notice


@dataclass(frozen=True, slots=True)
class SignalStats:
    """received = captured + dropped + refused."""

    received: int = 0
    captured: int = 0
    refused: int = 0
    dropped: dict[DropReason, int] = field(default_factory=dict[DropReason, int])
    by_rule: dict[str, int] = field(default_factory=dict[str, int])
    notices: dict[Notice, int] = field(default_factory=dict[Notice, int])

    @property
    def balanced(self) -> bool:
        """Whether every received signal has exactly one outcome."""
        return self.received == self.captured + sum(self.dropped.values()) + self.refused


class SignalCounters:
    """Thread-safe counters behind `SignalStats`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._captured = 0
        self._refused = 0
        self._dropped: Counter[DropReason] = Counter()
        self._by_rule: Counter[str] = Counter()
        self._notices: Counter[Notice] = Counter()

    def captured(self, rule: str, notices: tuple[Notice, ...]) -> None:
        """One signal became events that delivery took."""
        with self._lock:
            self._received += 1
            self._captured += 1
            if rule:
                self._by_rule[rule] += 1
            for notice in notices:
                self._notices[notice] += 1

    def dropped(self, reason: DropReason, rule: str) -> None:
        """One signal is final without an event."""
        with self._lock:
            self._received += 1
            self._dropped[reason] += 1
            if rule:
                self._by_rule[rule] += 1

    def refused(self) -> None:
        """Delivery had no room for one signal's events."""
        with self._lock:
            self._received += 1
            self._refused += 1

    def stats(self) -> SignalStats:
        """The counters at one moment."""
        with self._lock:
            return SignalStats(
                received=self._received,
                captured=self._captured,
                refused=self._refused,
                dropped=dict(self._dropped),
                by_rule=dict(self._by_rule),
                notices=dict(self._notices),
            )
