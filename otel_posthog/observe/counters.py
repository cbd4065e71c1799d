"""The books of the bridge: signals in, by outcome."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import field
from types import MappingProxyType
from typing import Final

from otel_posthog.model import AcceptResult, Decision, DropReason, Notice, Signal, SignalKind
from otel_posthog.model.frozen import frozen

_CAPTURED = "captured"
_REFUSED = "refused"


@frozen
class SignalStats:
    """received = captured + dropped + refused.

    Args:
        received: Signals handed in.
        captured: Signals whose events delivery took.
        refused: Signals whose events delivery had no room for.
        dropped: Signals that are final without an event, by reason.
        by_rule: Signals captured or dropped by a rule, by its name.
        notices: What was mended on captured signals.
        captured_by_kind: `captured`, split.
        refused_by_kind: `refused`, split.
        dropped_by_kind: `dropped`, split.
        events_captured: Events that delivery took.
        events_refused: Events that it had no room for.
    """

    received: int = 0
    captured: int = 0
    refused: int = 0
    dropped: dict[DropReason, int] = field(default_factory=dict[DropReason, int])
    by_rule: dict[str, int] = field(default_factory=dict[str, int])
    notices: dict[Notice, int] = field(default_factory=dict[Notice, int])
    captured_by_kind: dict[SignalKind, int] = field(default_factory=dict[SignalKind, int])
    refused_by_kind: dict[SignalKind, int] = field(default_factory=dict[SignalKind, int])
    dropped_by_kind: dict[SignalKind, dict[DropReason, int]] = field(
        default_factory=dict[SignalKind, dict[DropReason, int]]
    )
    events_captured: int = 0
    events_refused: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every received signal has exactly one outcome."""
        return self.received == self.captured + sum(self.dropped.values()) + self.refused


class Tally:
    """What became of one batch of signals, before it is entered into the books. Not for several threads.

    Args:
        received: Signals in the batch, counted when it comes in, so that the balance is a check and not a definition.
    """

    __slots__ = ("by_rule", "events_captured", "events_refused", "notices", "outcomes", "received")

    def __init__(self, received: int) -> None:
        self.received = received
        # Keyed by the enums' values: an Enum's own hash is a Python call, made twice for each count.
        self.outcomes: dict[tuple[str, str], int] = {}
        self.events_captured = 0
        self.events_refused = 0
        self.by_rule: dict[str, int] | None = None
        self.notices: dict[str, int] | None = None

    def captured(self, kind: SignalKind, events: int = 1, rule: str = "", notices: tuple[Notice, ...] = ()) -> None:
        """One signal became `events` events that delivery took."""
        key = (kind._value_, _CAPTURED)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.events_captured += events
        if rule:
            self._ruled(rule)
        if notices:
            found = self.notices = self.notices or {}
            for notice in notices:
                found[notice._value_] = found.get(notice._value_, 0) + 1

    def captured_together(self, decided: Iterable[tuple[Signal, Decision]]) -> None:
        """Each of these signals became one event that delivery took."""
        outcomes = self.outcomes
        for signal, decision in decided:
            if decision.rule or decision.notices:
                self.captured(signal.kind, 1, decision.rule, decision.notices)
            else:
                key = (signal.kind._value_, _CAPTURED)
                outcomes[key] = outcomes.get(key, 0) + 1
                self.events_captured += 1

    def dropped(self, kind: SignalKind, reason: DropReason, rule: str = "") -> None:
        """One signal is final without an event."""
        key = (kind._value_, reason._value_)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        if rule:
            self._ruled(rule)

    def refused(self, kind: SignalKind, events: int = 1) -> None:
        """Delivery had no room for the `events` events of one signal."""
        key = (kind._value_, _REFUSED)
        self.outcomes[key] = self.outcomes.get(key, 0) + 1
        self.events_refused += events

    def result(self) -> AcceptResult:
        """The answer to whoever handed the batch in."""
        captured = refused = 0
        dropped: dict[DropReason, int] = {}
        if self.received == 1 == self.events_captured:
            return _ONE_CAPTURED  # making a frozen object costs a third of all this
        for (_, outcome), count in self.outcomes.items():
            if outcome == _CAPTURED:
                captured += count
            elif outcome == _REFUSED:
                refused += count
            else:
                reason = DropReason(outcome)
                dropped[reason] = dropped.get(reason, 0) + count
        return AcceptResult(self.received, captured, dropped, refused)

    def _ruled(self, rule: str) -> None:
        found = self.by_rule = self.by_rule or {}
        found[rule] = found.get(rule, 0) + 1


_ONE_CAPTURED: Final = AcceptResult(1, 1, MappingProxyType({}), 0)


class SignalCounters:
    """The thread-safe books behind `SignalStats`. A batch is entered as a whole, so they balance at every moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._received = 0
        self._events_captured = 0
        self._events_refused = 0
        self._outcomes: dict[tuple[str, str], int] = {}
        self._by_rule: dict[str, int] = {}
        self._notices: dict[str, int] = {}

    def add(self, tally: Tally) -> None:
        """Enters one batch."""
        with self._lock:
            self._received += tally.received
            self._events_captured += tally.events_captured
            self._events_refused += tally.events_refused
            outcomes = self._outcomes
            for key, count in tally.outcomes.items():
                outcomes[key] = outcomes.get(key, 0) + count
            if tally.by_rule:
                for rule, count in tally.by_rule.items():
                    self._by_rule[rule] = self._by_rule.get(rule, 0) + count
            if tally.notices:
                for notice, count in tally.notices.items():
                    self._notices[notice] = self._notices.get(notice, 0) + count

    def stats(self) -> SignalStats:
        """The counters at one moment."""
        with self._lock:
            received, events_captured, events_refused = self._received, self._events_captured, self._events_refused
            outcomes = dict(self._outcomes)
            by_rule = dict(self._by_rule)
            notices = dict(self._notices)
        captured: dict[SignalKind, int] = {}
        refused: dict[SignalKind, int] = {}
        dropped: dict[DropReason, int] = {}
        dropped_by_kind: dict[SignalKind, dict[DropReason, int]] = {}
        for (kind_value, outcome), count in outcomes.items():
            kind = SignalKind(kind_value)
            if outcome == _CAPTURED:
                captured[kind] = count
            elif outcome == _REFUSED:
                refused[kind] = count
            else:
                reason = DropReason(outcome)
                dropped[reason] = dropped.get(reason, 0) + count
                dropped_by_kind.setdefault(kind, {})[reason] = count
        return SignalStats(
            received=received,
            captured=sum(captured.values()),
            refused=sum(refused.values()),
            dropped=dropped,
            by_rule=by_rule,
            notices={Notice(name): count for name, count in notices.items()},
            captured_by_kind=captured,
            refused_by_kind=refused,
            dropped_by_kind=dropped_by_kind,
            events_captured=events_captured,
            events_refused=events_refused,
        )

    def after_fork(self) -> None:
        """To be called in the child of a fork: a fresh lock, and books of its own (the parent keeps its own)."""
        self._lock = threading.Lock()
        self._clear()
