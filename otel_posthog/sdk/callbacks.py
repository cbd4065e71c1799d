"""What the callbacks of both processors have in common: their life, and the look at a live exception."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from otel_posthog.assembly import Runtime
from otel_posthog.lane.edge import Edge, edge_of
from otel_posthog.lane.exceptions import LiveException, matches, see
from otel_posthog.lane.internals import attributes_of
from otel_posthog.lane.worker import WorkerStats
from otel_posthog.semconv import otel

ON_ITS_WAY_NS: Final = 100_000_000
"""Between an exception that the app recorded and its leaving the span: handlers, clean-up, a line in a log."""

Closed = Callable[[Any], object]
"""Called with a processor when its provider shuts it down."""


class Life:
    """What both processors do the same: belong to a worker, flush it, leave it once."""

    def __init__(self, runtime: Runtime | None, closed: Closed | None, owner: Any) -> None:
        self.edge: Edge | None = edge_of(runtime) if runtime is not None else None
        self._closed = closed
        self._owner = owner
        self._ended = False
        if self.edge is not None:
            self.edge.worker.attach(hosted=closed is not None)

    def flush(self, timeout_millis: int) -> bool:
        """Delivers what was handed over so far."""
        return self.edge is None or self.edge.worker.flush(timeout_millis / 1000)

    def release(self, timeout: float) -> bool:
        """Gives everything that waits to the bridge."""
        return self.edge is None or self.edge.worker.settle(timeout)

    def stats(self) -> WorkerStats:
        """What passed through."""
        return WorkerStats() if self.edge is None else self.edge.worker.stats()

    def shutdown(self) -> None:
        """Leaves the worker, or tells the host that looks after it; once."""
        if self._ended or self.edge is None:
            return
        self._ended = True
        try:
            if self._closed is not None:
                self._closed(self._owner)
            else:
                self.edge.worker.detach()
        except Exception as error:  # noqa: BLE001 - an edge: providers shut their processors down in a row
            self.edge.guard.failed("sdk.shutdown", error)


def is_exception_name(name: Any) -> bool:
    """Whether a span event or an event record of this name describes an exception."""
    return name == otel.EXCEPTION_EVENT or (isinstance(name, str) and name.endswith(".exception"))


def is_event_for_us(name: Any) -> bool:
    """Whether items of this name are converted without a tag: exceptions and flag evaluations."""
    return is_exception_name(name) or (isinstance(name, str) and name.startswith("feature_flag"))


def says_yes(value: Any) -> bool:
    """Whether the value of a switch attribute is on."""
    return value is True or (isinstance(value, str) and value.strip().lower() in {"true", "1"})


def live_event(events: Sequence[Any]) -> tuple[LiveException, tuple[int, ...]] | None:
    """The live exception with the indexes of the span events that describe it.

    That is the newest one; and the one before it where it says the same and is only a moment older. The app recorded
    the exception there by itself and let it go (`span.record_exception(error); raise`), which nothing but time tells
    from an earlier attempt that failed alike: an attempt takes its time.
    """
    error = sys.exc_info()[1]
    if error is None:
        return None
    recorded = tuple(events)
    found: list[int] = []
    for index in range(len(recorded) - 1, -1, -1):
        if is_exception_name(recorded[index].name):
            described = attributes_of(recorded[index])
            if not matches(error, word(described, otel.EXCEPTION_TYPE), word(described, otel.EXCEPTION_MESSAGE)):
                if found:
                    break
                continue
            if found:
                if 0 <= (recorded[found[0]].timestamp or 0) - (recorded[index].timestamp or 0) <= ON_ITS_WAY_NS:
                    found.append(index)
                break
            found.append(index)
    return (see(error), tuple(found)) if found else None


def word(attributes: Mapping[str, Any], key: str) -> str:
    """A text attribute, "" where it is none."""
    value = attributes.get(key)
    return value if isinstance(value, str) else ""
