"""What an item may be, told from its attribute keys alone, and remembered.

An app has a few dozen different sets of keys, however many spans. So the keys as a tuple are looked up in a dict, which
costs a tenth of looking at each key for a prefix.
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
AT_START: Final = 8
"""Says at which end of the span it fires."""
EXCEPTION: Final = 16
"""Describes an exception."""
IGNORES: Final = 32
"""May say that it is never to be converted."""

_EXACT: Final = {
    posthog.EVENT: ACTS,
    posthog.UNSET: ACTS,
    posthog.ALIAS: ACTS,
    posthog.ANON_DISTINCT_ID: ACTS,
    "feature_flag.key": ACTS,
    posthog.ON: AT_START,
    posthog.IGNORE: IGNORES,
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
_PREFIXES: Final = (posthog.SET, posthog.SET_ONCE, posthog.GROUP_SET)

_MAX_SHAPES: Final = 2_048
"""Beyond it all are forgotten: keys made of data (`cart.item.17`) must not fill the memory."""
_MAX_KEYS: Final = 256


class Shapes:
    """Remembered classifications; safe in any thread (single dict operations)."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[tuple[str, ...], int] = {}

    def learn(self, keys: tuple[str, ...]) -> int:
        """Classifies `keys` and remembers it; called when `known` does not have them."""
        shape = classify(keys)
        if len(keys) <= _MAX_KEYS:
            if len(self.known) >= _MAX_SHAPES:
                self.known.clear()
            self.known[keys] = shape
        return shape


def classify(keys: Iterable[str]) -> int:
    """The flags of this module that hold for an item with `keys`."""
    shape = 0
    for key in keys:
        flags = _EXACT.get(key)
        if flags is not None:
            shape |= flags
        elif isinstance(key, str) and key.startswith(_PREFIXES):  # pyright: ignore[reportUnnecessaryIsInstance]
            shape |= ACTS
    return shape
