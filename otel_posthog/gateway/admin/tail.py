"""`Tail`: what becomes of signals, live, for people who look; it costs nothing while nobody does.

    Bridge ── tap ─► Tail ─► Viewer (bounded) ─► lines of JSON

The bridge's thread only compares and appends; the viewer's thread makes the lines. A viewer that cannot keep up misses
the oldest and is told how many. Neither the signal nor its request is kept: an event and a few words are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from otel_posthog.delivery.encoding import rfc3339
from otel_posthog.model import CaptureEvent, Decision, Signal
from otel_posthog.model.frozen import frozen

CAPACITY = 1_000
MAX_BYTES = 8 * 1024 * 1024
"""Memory of what waits for one viewer, about: an event may have a megabyte."""
MAX_VIEWERS = 16
"""Viewers at a time; each costs every signal a comparison."""


@frozen
class TailFilter:
    """What a viewer wants to see.

    Args:
        event: Name of the capture event, or of a dropped item; "" for all.
        distinct_id: Whose; "" for everybody's. Drops have none.
        project: Of one project; "" for all.
        drops: Also what became no event, and what was refused.
    """

    event: str = ""
    distinct_id: str = ""
    project: str = ""
    drops: bool = False


@frozen
class Seen:
    """One line to be.

    Args:
        project: Name of the project.
        kind: Of the signal.
        name: Of the signal.
        trace_id: Of the signal.
        rule: Which rule decided.
        reason: Why there is no event; "" where there is one.
        event: The event; `None` for a drop.
    """

    project: str
    kind: str
    name: str
    trace_id: str
    rule: str
    reason: str
    event: CaptureEvent | None

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        about = {"kind": self.kind, "name": self.name, "trace_id": self.trace_id, "rule": self.rule}
        shown = {key: value for key, value in about.items() if value}
        event = self.event
        if event is None:
            return {"type": "drop", "project": self.project, "reason": self.reason, "signal": shown}
        return {
            "type": "refused" if self.reason else "event",
            "project": self.project,
            "event": event.event,
            "distinct_id": event.distinct_id,
            "timestamp": _rfc3339(event.timestamp_ns),
            "uuid": event.uuid,
            "properties": dict(event.properties),
            "signal": shown,
        }


class Viewer:
    """One who looks. `take` belongs to one thread."""

    def __init__(self, tail: Tail, wanted: TailFilter, capacity: int, wake: Callable[[], object]) -> None:
        self._tail = tail
        self._wanted = wanted
        self._wake = wake
        self._lock = threading.Lock()
        self._capacity = capacity
        self._waiting: deque[tuple[int, Seen]] = deque()
        self._size = 0
        self._missed = 0

    def offer(self, project: str, signal: Signal, decision: Decision, refused: bool) -> None:
        """Takes what the viewer wants of it; called by the bridge's thread."""
        wanted = self._wanted
        if wanted.project and wanted.project != project:
            return
        if (not decision.events or refused) and not wanted.drops:
            return
        if not decision.events:
            if wanted.distinct_id or (wanted.event and wanted.event != signal.name):
                return
            reason = decision.reason.value if decision.reason is not None else "invalid"
            self._put(Seen(project, signal.kind.value, signal.name, signal.trace_id, decision.rule, reason, None))
            return
        for event in decision.events:
            if wanted.event and wanted.event != event.event:
                continue
            if wanted.distinct_id and wanted.distinct_id != event.distinct_id:
                continue
            reason = "refused" if refused else ""
            self._put(Seen(project, signal.kind.value, signal.name, signal.trace_id, decision.rule, reason, event))

    def _put(self, seen: Seen) -> None:
        size = 0 if seen.event is None else _weight(seen.event.properties)
        with self._lock:
            waiting = self._waiting
            first = not waiting
            while waiting and (len(waiting) >= self._capacity or self._size + size > MAX_BYTES):
                self._size -= waiting.popleft()[0]
                self._missed += 1
            waiting.append((size, seen))
            self._size += size
        if first:
            self._wake()

    def take(self, most: int = 100) -> tuple[int, list[Seen]]:
        """How many were missed since the last call, and the oldest `most` that wait."""
        with self._lock:
            missed, self._missed = self._missed, 0
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._size -= sum(size for size, _ in taken)
        return missed, [seen for _, seen in taken]

    def close(self) -> None:
        """Looks no more; idempotent."""
        self._tail.leave(self)


class Tail:
    """Where viewers come and go. Safe in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._viewers: tuple[Viewer, ...] = ()

    def of(self, project: str) -> Callable[[Signal, Decision, bool], None]:
        """The tap for the bridge of `project`; false, and so not asked, while nobody looks."""
        return _ProjectTap(self, project)

    def offer(self, project: str, signal: Signal, decision: Decision, refused: bool) -> None:
        """Shows everybody what became of `signal`."""
        for viewer in self._viewers:
            viewer.offer(project, signal, decision, refused)

    def view(
        self, wanted: TailFilter, wake: Callable[[], object] = lambda: None, capacity: int = CAPACITY
    ) -> Viewer | None:
        """A new viewer, from now on; `None` where `MAX_VIEWERS` look already.

        Args:
            wanted: What it wants to see.
            wake: Called, from the bridge's thread, when the first line waits; must be quick.
            capacity: Lines that may wait.
        """
        viewer = Viewer(self, wanted, capacity, wake)
        with self._lock:
            if len(self._viewers) >= MAX_VIEWERS:
                return None
            self._viewers = (*self._viewers, viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Shows nothing more to `viewer`."""
        with self._lock:
            self._viewers = tuple(each for each in self._viewers if each is not viewer)

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)


def _weight(value: Any) -> int:
    """About how many bytes of memory a JSON value holds."""
    if isinstance(value, str):
        return 64 + len(value)
    if isinstance(value, Mapping):
        members = cast("Mapping[str, Any]", value)
        return 64 + sum(len(name) + _weight(member) for name, member in members.items())
    if isinstance(value, list):
        return 64 + sum(map(_weight, cast("list[Any]", value)))
    return 32


class _ProjectTap:
    """The tap of one project's bridge."""

    def __init__(self, tail: Tail, project: str) -> None:
        self._tail = tail
        self._project = project

    def __bool__(self) -> bool:
        return bool(self._tail.viewers)

    def __call__(self, signal: Signal, decision: Decision, refused: bool) -> None:
        self._tail.offer(self._project, signal, decision, refused)


def _rfc3339(timestamp_ns: int) -> str:
    try:
        return rfc3339(timestamp_ns)
    except ValueError:
        return f"{timestamp_ns} ns"
