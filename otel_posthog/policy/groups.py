"""Group properties once: a `$groupidentify` that says nothing new is not sent again.

Group properties usually come from the resource or from a rule, so the same `$groupidentify` would travel with every
single event of a service. What PostHog has already been told is remembered per property, not per event: two sources
that set different properties of one group do not undo each other's memory, and a value that changes from A to B and
back to A is sent each time, because A is then news again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from otel_posthog.model import CaptureEvent, DropReason, JsonValue, Signal
from otel_posthog.policy.recent import Recent
from otel_posthog.semconv import posthog

_Group = tuple[str, str]

_MAX_PROPERTIES = 200
"""A group with more properties than this is not remembered, so that one group cannot fill the memory."""


class GroupsOnce:
    """Removes a `$groupidentify` whose every property was already sent with the same value.

    Args:
        capacity: Groups remembered at the most.
        window: Seconds after which a property is sent again (somebody may have edited it in PostHog, or delivery may
            have lost it after all).
    """

    events = frozenset({posthog.EVENT_GROUP_IDENTIFY})
    reason = DropReason.DUPLICATE

    def __init__(self, *, capacity: int, window: float) -> None:
        self._window = window
        self._sent: Recent[_Group, dict[str, tuple[float, int]]] = Recent(capacity, window)

    def admit(self, signal: Signal, event: CaptureEvent, now: float) -> CaptureEvent | None:  # noqa: ARG002 - Step
        """`None` where PostHog knows all of it."""
        group, said = _read(event)
        known = self._sent.get(group, now)
        if known is None:
            return event
        for name, value in said.items():
            sent = known.get(name)
            if sent is None or sent[1] != _digest(value) or now - sent[0] > self._window:
                return event
        return None

    def commit(self, signal: Signal, event: CaptureEvent, now: float) -> None:  # noqa: ARG002 - Step
        """Remembers what PostHog will know."""
        group, said = _read(event)
        known = {**(self._sent.get(group, now) or {}), **{name: (now, _digest(value)) for name, value in said.items()}}
        if len(known) > _MAX_PROPERTIES:
            self._sent.forget(group)
        else:
            self._sent.put(group, known, now)

    def doubt(self) -> None:
        """What was sent may not have arrived: all of it is news again."""
        self._sent.clear()


def _read(event: CaptureEvent) -> tuple[_Group, Mapping[str, JsonValue]]:
    properties = event.properties
    said = properties.get("$group_set")
    group = (str(properties.get("$group_type")), str(properties.get("$group_key")))
    return group, cast("Mapping[str, JsonValue]", said) if isinstance(said, Mapping) else {}


def _digest(value: JsonValue) -> int:
    # The value itself is not kept: it may be large and personal. Python's own string hash is 64 bits with a seed that
    # nobody outside the process knows, so a collision can neither be expected nor made. JSON tells 1, 1.0 and True
    # apart, which `hash` alone does not.
    return hash(json.dumps(value, sort_keys=True))
