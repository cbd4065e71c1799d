"""Flag calls once: the same answer of a flag for the same person is one `$feature_flag_called`.

An app asks for a flag on every request, a template in every row. What PostHog wants to know is which value a person
was given, so its own SDK sends one event for each (person, flag, response, groups), and so do we, for evaluations of
any provider and on both paths.

What came of it is remembered when delivery took it. The very event that was taken passes again when it comes again
(a Collector's retry): PostHog merges the two by their uuid. Its uuid is that of the item, not of the answer: an event
that PostHog merges into a later one would move the moment when a person entered an experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from otel_posthog.model import CaptureEvent, DropReason, Signal
from otel_posthog.policy.recent import Recent
from otel_posthog.semconv import posthog

_TOLD_APART = (
    posthog.FLAG_PROPERTY,
    # Successive rules and arms of one flag may give the same value; the SDK counts each.
    "$feature_flag_rule_id",
    "$feature_flag_variant_key",
    "$feature_flag_reason_code",
)
"""Properties that make another event of it, beside the response."""


class FlagsOnce:
    """Removes a `$feature_flag_called` (or `$experiment_exposure`) that says what was said before.

    Args:
        capacity: Answers remembered at the most.
        window: Seconds after which the same answer is sent again.
    """

    events = frozenset({posthog.EVENT_FLAG_CALLED, posthog.EVENT_EXPERIMENT_EXPOSURE})
    reason = DropReason.DUPLICATE

    def __init__(self, *, capacity: int, window: float) -> None:
        # Answer -> uuid of the event that told it.
        self._told: Recent[int, str] = Recent(capacity, window)

    def admit(self, signal: Signal, event: CaptureEvent, now: float) -> CaptureEvent | None:  # noqa: ARG002 - Step
        """`None` where this answer was told by another event."""
        told = self._told.get(_answer(event), now)
        return event if told is None or told == event.uuid else None

    def commit(self, signal: Signal, event: CaptureEvent, now: float) -> None:  # noqa: ARG002 - Step
        """Remembers the answer."""
        answer = _answer(event)
        if self._told.get(answer, now) is None:
            self._told.put(answer, event.uuid, now)


def _answer(event: CaptureEvent) -> int:
    # A hash in place of the texts: ids are personal and may be long. As in `groups.py`, nobody outside of the process
    # can make two of them meet.
    properties = event.properties
    groups = properties.get(posthog.GROUPS_PROPERTY)
    said = sorted(cast("Mapping[str, object]", groups).items()) if isinstance(groups, Mapping) else ()
    # An exposure says which arm somebody is in, however often and however the flag was read.
    called = event.event == posthog.EVENT_FLAG_CALLED
    response = properties.get(posthog.FLAG_RESPONSE_PROPERTY) if called else None
    apart = [str(properties.get(name)) for name in _TOLD_APART]
    # `repr` tells True, "True" and 1 apart.
    return hash((event.event, event.distinct_id, repr(response), str(said), *apart))
