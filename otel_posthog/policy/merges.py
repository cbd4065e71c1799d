"""Merges once: an anonymous id becomes one person's, and once.

A browser keeps its anonymous id after the login, and other services send it along, so the same `$identify` would come
with each request. And on a shared computer the next person logs in with the same id: PostHog refuses to make one person
of two who are identified (`cannot_merge_already_identified`), and so do we, before it is asked.

What such a `$identify` sets on the person still goes out, as a `$set`.
"""

from __future__ import annotations

from dataclasses import replace

from otel_posthog.model import CaptureEvent, DropReason, Signal
from otel_posthog.policy.recent import Recent
from otel_posthog.semconv import posthog

ANON: str = "$anon_distinct_id"
_SETS = (posthog.PERSON_SET, posthog.PERSON_SET_ONCE, posthog.PERSON_UNSET)


class MergesOnce:
    """Removes a `$identify` that merges what is merged already, or what must not be merged.

    Args:
        capacity: Ids remembered at the most.
        window: Seconds after which the same merge is sent again.
    """

    events = frozenset({posthog.EVENT_IDENTIFY})
    reason = DropReason.DUPLICATE

    def __init__(self, *, capacity: int, window: float) -> None:
        # Id -> (whom it became, uuid of the event that said so); a person is its own. Hashes, as in `flags.py`.
        self._became: Recent[int, tuple[int, str]] = Recent(capacity, window)

    def admit(self, signal: Signal, event: CaptureEvent, now: float) -> CaptureEvent | None:  # noqa: ARG002 - Step
        """`None`, or a `$set` of the rest, where the anonymous id is somebody's already."""
        anonymous = event.properties.get(ANON)
        if anonymous is None:
            return event
        known = self._became.get(hash(str(anonymous)), now)
        if known is None or known[1] == event.uuid:
            return event
        if not any(name in event.properties for name in _SETS):
            return None
        rest = {name: value for name, value in event.properties.items() if name != ANON}
        return replace(event, event=posthog.EVENT_SET, properties=rest)  # pyright: ignore[reportArgumentType]

    def commit(self, signal: Signal, event: CaptureEvent, now: float) -> None:  # noqa: ARG002 - Step
        """Remembers whose the anonymous id is, and that the person is one."""
        person, anonymous = hash(event.distinct_id), event.properties.get(ANON)
        if anonymous is not None:
            self._became.put(hash(str(anonymous)), (person, event.uuid), now)
        known = self._became.get(person, now)
        self._became.put(person, known or (person, ""), now)
