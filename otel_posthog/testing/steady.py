"""Ids and time that are the same in every run of a test: of events, spans and log records."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from otel_posthog.lane import now
from otel_posthog.testing.clock import Clock

_CLOCKS: Final = (
    "otel_posthog.lane.now",
    "opentelemetry.sdk.trace",
    "opentelemetry.sdk._logs._internal",
    "opentelemetry.instrumentation.logging.handler",
)
"""Modules whose `time_ns` says when something happened."""
_SPAN_IDS: Final = 1 << 64
_MISSING: Final = object()


def replace(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Sets an attribute until `undo`; nothing where `owner` has no such attribute (another version of a library)."""
    before = getattr(owner, name, _MISSING)
    if before is _MISSING:
        return

    def back() -> None:
        # Somebody else may have put something over it since, which is theirs to take away.
        if getattr(owner, name, None) is value:
            setattr(owner, name, before)

    setattr(owner, name, value)
    undo.callback(back)


def stop_time(undo: ExitStack, clock: Clock) -> None:
    """Has everything happen when `clock` says so."""
    for module in _CLOCKS:
        if module in sys.modules:
            replace(undo, sys.modules[module], "time_ns", clock.time_ns)
    # Durations of `timed` and of functions by configuration.
    replace(undo, now, "perf_counter_ns", clock.time_ns)


def count_ids(undo: ExitStack, seed: str) -> None:
    """Counts uuids, trace and span ids instead of drawing them.

    Args:
        undo: When it ends.
        seed: Of the trace ids: other tests must have others, since whatever remembers a trace may outlive its test.
    """
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    from otel_posthog.lane import exceptions, uuids

    # Hashed: samplers by ratio read the lower half, and expect any number there.
    def trace_id(number: int) -> int:
        return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=16).digest(), "big")

    # On the class: every provider that has not been given ids of its own uses it, also one that is there already.
    replace(undo, RandomIdGenerator, "generate_trace_id", _method(_counted(trace_id)))
    replace(undo, RandomIdGenerator, "generate_span_id", _method(_counted(lambda number: number % _SPAN_IDS)))
    next_token = _counted(lambda number: number)
    replace(undo, exceptions, "_new_token", lambda: f"{seed}/{next_token()}")
    next_uuid = _counted(lambda number: number)
    replace(undo, uuids, "getrandbits", lambda _bits: next_uuid())  # pyright: ignore[reportUnknownLambdaType]


def _counted(make: Callable[[int], int]) -> Callable[[], int]:
    numbers = itertools.count(1)  # a step of it is atomic
    return lambda: make(next(numbers))


def _method(function: Callable[[], int]) -> Callable[[Any], int]:
    return lambda _self: function()


__all__ = ["count_ids", "replace", "stop_time"]
