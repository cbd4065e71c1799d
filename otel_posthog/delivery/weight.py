"""About how many bytes an event has: what the bounds of a queue count, found on the thread that submits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from otel_posthog.model import CaptureEvent


def weigh(event: CaptureEvent) -> int:
    """About how many bytes `event` has as JSON; cheap enough for a request's thread, and never far too low."""
    return 160 + len(event.event) + len(event.distinct_id) + _weigh_members(event.properties)


def _weigh_members(members: Mapping[str, Any]) -> int:
    # Names are counted in C (joining them is quicker than asking each), and of the values only what can be long is
    # looked at.
    total = 2 + len("".join(members)) + 10 * len(members)
    for value in members.values():
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - a `cast` is a call, for each value
        if kind is str:
            total += len(value)
        elif kind is dict or kind is list:
            total += _weigh(value)
    return total


def _weigh(value: Any) -> int:
    # A stack of its own: hostile nesting must not raise RecursionError in a request.
    total = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        kind = cast("type[object]", type(item))
        if kind is str:
            total += len(item) + 3
        elif kind is dict:
            for key, member in item.items():
                total += len(key) + 4
                waiting.append(member)
        elif kind is list:
            total += 2
            waiting.extend(item)
        else:
            total += 8
    return total
