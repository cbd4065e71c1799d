"""What an item may be, told from its attribute keys alone.

An app has a few hundred different keys, however many spans. So what a key means is found out once and remembered, which
costs a tenth of looking at each key of each span for a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_posthog.semconv import otel, posthog

ACTS: Final = 1
"""Tagged: the converter makes an event or an update of it."""
STATES: Final = 2
"""States who it belongs to."""
LINKS: Final = 4
"""Has an identity or session of any kind, stamps included."""
MESSAGE: Final = 8
"""Is about a message of a broker, where one trace may serve many people."""
EXCEPTION: Final = 16
"""Describes an exception."""

_EXACT: Final = {
    posthog.EVENT: ACTS,
    posthog.UNSET: ACTS,
    posthog.ALIAS: ACTS,
    posthog.ANON_DISTINCT_ID: ACTS,
    "feature_flag.key": ACTS,
    posthog.DISTINCT_ID: STATES | LINKS,
    posthog.SESSION_ID: LINKS,
    posthog.POSTHOG_DISTINCT_ID: LINKS,
    posthog.POSTHOG_SESSION_ID: LINKS,
    otel.USER_ID: STATES | LINKS,
    otel.ENDUSER_ID: STATES | LINKS,
    otel.SESSION_ID: LINKS,
    otel.EXCEPTION_TYPE: EXCEPTION,
    otel.EXCEPTION_MESSAGE: EXCEPTION,
    **dict.fromkeys((*otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID), LINKS),
}
_MESSAGING: Final = "messaging."
_PREFIXES: Final = (posthog.SET, posthog.SET_ONCE, posthog.GROUP_SET)

_CARES: Final = ACTS | STATES | MESSAGE
_MAX_KEYS: Final = 4_096
"""Keys remembered at the most: keys made of data (`cart.item.17`) must not fill the memory."""


class Shapes:
    """What keys mean, remembered; safe in any thread (single operations on a dict and a set)."""

    __slots__ = ("_known", "quiet")

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        # Keys that make nobody look twice. `quiet.issuperset(attributes)` walks them in C, and is the one question
        # that every span of the app pays for.
        self.quiet: set[str] = set()

    def of(self, attributes: Iterable[str]) -> int:
        """The flags of an item with these attributes."""
        known = self._known
        shape = 0
        for key in tuple(attributes):
            flags = known.get(key)
            shape |= self._learn(key) if flags is None else flags
        return shape

    def _learn(self, key: str) -> int:
        flags = _classify(key)
        if len(self._known) < _MAX_KEYS:
            self._known[key] = flags
            if not flags & _CARES:
                self.quiet.add(key)
        return flags


def _classify(key: str) -> int:
    flags = _EXACT.get(key)
    if flags is None:
        flags = ACTS if key.startswith(_PREFIXES) else MESSAGE if key.startswith(_MESSAGING) else 0
    return flags
