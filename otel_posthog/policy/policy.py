"""`Policy`: what needs state between signals; a map from Decision to Decision.

The steps are one visible list in `Policy.__init__`. Each looks only at the capture events that it names, so a decision
without any of them (nearly all) passes without taking the lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from otel_posthog.model import CaptureEvent, Decision, DropReason, Signal
from otel_posthog.model.frozen import frozen
from otel_posthog.policy.exceptions import ExceptionsOnce
from otel_posthog.policy.flags import FlagsOnce
from otel_posthog.policy.groups import GroupsOnce
from otel_posthog.policy.merges import MergesOnce
from otel_posthog.policy.step import Step


@frozen
class PolicyLimits:
    """How much policy remembers, and for how long.

    Args:
        exceptions: Exceptions remembered at the most; about 200 bytes each.
        exceptions_window: Seconds. Longer than a trace lasts, and than a Collector retries (its default is 300 s).
        groups: Groups whose properties are remembered at the most.
        groups_window: Seconds until an unchanged group property is sent again.
        flags: Answers of flags (person, flag, value) remembered at the most; about 200 bytes each.
        flags_window: Seconds until the same answer is sent again: PostHog counts in days.
        merges: Anonymous ids, and people, whose merging is remembered at the most; about 200 bytes each.
        merges_window: Seconds until the same merge is sent again.
    """

    exceptions: int = 20_000
    exceptions_window: float = 3_600.0
    groups: int = 4_096
    groups_window: float = 600.0
    flags: int = 50_000
    flags_window: float = 86_400.0
    merges: int = 50_000
    merges_window: float = 86_400.0


class Policy:
    """Admits, thins or drops the events of a decision. Safe in any thread; memory is bounded.

    Args:
        monotonic: Seconds that never go back.
        limits: How much is remembered; the defaults where `None`.
    """

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic, limits: PolicyLimits | None = None) -> None:
        limits = limits or PolicyLimits()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._removed: dict[DropReason, int] = {}
        self._groups = GroupsOnce(capacity=limits.groups, window=limits.groups_window)
        self._steps: tuple[Step, ...] = (
            ExceptionsOnce(capacity=limits.exceptions, window=limits.exceptions_window),
            self._groups,
            FlagsOnce(capacity=limits.flags, window=limits.flags_window),
            MergesOnce(capacity=limits.merges, window=limits.merges_window),
        )
        self.stateful = frozenset(name for step in self._steps for name in step.events)
        """Names of the events that policy has an opinion on; all others are admitted, and need no commit."""

    def admit(self, signal: Signal, decision: Decision) -> Decision:
        """`decision`, with fewer events where policy forbids some, or with a reason where it forbids all.

        An event that is removed while others of its decision survive is counted in `removed`; the signal itself is
        then captured, not dropped.
        """
        for event in decision.events:
            if event.event in self.stateful:
                return self._thin(signal, decision)
        return decision

    def commit(self, signal: Signal, decision: Decision) -> None:
        """Delivery took `decision`: remember what must not be captured again."""
        for event in decision.events:
            if event.event in self.stateful:
                with self._lock:
                    now = self._monotonic()
                    for step in self._steps:
                        if event.event in step.events:
                            step.commit(signal, event, now)

    def removed(self) -> dict[DropReason, int]:
        """Events that were removed from decisions so far, by reason."""
        with self._lock:
            return dict(self._removed)

    def doubt(self) -> None:
        """What was committed may never arrive: its delivery has ended, and the signals are handed in again.

        Exceptions and flag calls are remembered all the same: of one that was taken its own carrier is admitted again.
        """
        with self._lock:
            self._groups.doubt()

    def after_fork(self) -> None:
        """To be called in the child of a fork: another thread of the parent may have held the lock.

        The memory is kept. What the parent captured was captured; the child inherits its traces.
        """
        self._lock = threading.Lock()
        self._removed = {}

    def _thin(self, signal: Signal, decision: Decision) -> Decision:
        kept: list[CaptureEvent] = []
        reasons: list[DropReason] = []
        changed = False
        with self._lock:
            now = self._monotonic()
            for event in decision.events:
                admitted, reason = self._step_through(signal, event, now)
                if admitted is None:
                    assert reason is not None
                    reasons.append(reason)
                    self._removed[reason] = self._removed.get(reason, 0) + 1
                else:
                    changed |= admitted is not event
                    kept.append(admitted)
        if not reasons and not changed:
            return decision
        return Decision(
            events=tuple(kept),
            # Where several reasons emptied it, the one that is about the signal itself comes first: an exception's
            # group update is a companion.
            reason=None if kept else max(reasons, key=_weight),
            rule=decision.rule,
            notices=decision.notices,
        )

    def _step_through(
        self, signal: Signal, event: CaptureEvent, now: float
    ) -> tuple[CaptureEvent | None, DropReason | None]:
        admitted: CaptureEvent | None = event
        for step in self._steps:
            if event.event not in step.events:
                continue
            admitted = step.admit(signal, event, now)
            if admitted is None:
                return None, step.reason
            event = admitted
        return event, None


def _weight(reason: DropReason) -> bool:
    return reason is not DropReason.DUPLICATE
