"""Who an item belongs to when it starts: from itself, its local parent, or allow-listed baggage.

What is found is stamped as `posthogDistinctId` and `sessionId`, the keys by which PostHog links traces and logs to
persons and recordings. A stamp is an `InheritedId`, a `str` that remembers that the item did not say so itself: what
the item, or the rest of its trace, states about the person later wins over it (`settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.convert.person import claimed_id, person_id
from otel_posthog.model import Attributes
from otel_posthog.semconv import otel, posthog

_OWN: Final = (posthog.DISTINCT_ID, posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID)
"""Attributes by which an item states its person, strongest first."""
_OWN_SESSION: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)

STATED: Final = frozenset(_OWN)
"""Keys that may state who an item belongs to."""
WIRE: Final = frozenset(otel.HEADER_DISTINCT_ID)
"""Keys that bring an identity which the client claims."""
CLAIMS: Final = frozenset((*otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID))
"""Keys of captured headers that name a person or a session."""
LINKING: Final = frozenset((*_OWN, *_OWN_SESSION, *otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID))
"""Keys of a parent from which a child inherits."""

_MAX_KNOWN: Final = 1_024

# Baggage members, strongest first; only those in `IdentityConfig.baggage_keys` are read.
_PERSON_MEMBERS: Final = (
    posthog.DISTINCT_ID,
    posthog.POSTHOG_DISTINCT_ID,
    otel.USER_ID,
    otel.ENDUSER_ID,
    "posthog.anonymous_id",
)
_SESSION_MEMBERS: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)
# Read by `arriving.py`.
_OTHER_MEMBERS: Final = ("posthog.groups", "posthog.flags", "posthog.properties")


class InheritedId(str):
    """An id that we put on an item; the item did not state it itself."""

    __slots__ = ()


class IdentityStamper:
    """Finds the identity that an item inherits.

    Args:
        config: Which sources are believed.
        believed: What of a baggage counts at all, where there are secrets.
    """

    def __init__(
        self, config: IdentityConfig, believed: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    ) -> None:
        # With secrets only what is signed is there, whatever else the allow-list would have.
        self._believed = believed if config.baggage_secrets else None
        keys = (posthog.DISTINCT_ID, posthog.SESSION_ID) if config.baggage_secrets else config.baggage_keys
        allowed = set(keys)
        self._person_members = tuple(key for key in _PERSON_MEMBERS if key in allowed)
        self._session_members = tuple(key for key in _SESSION_MEMBERS if key in allowed)
        # A key of the user's own choosing names the person, unless it speaks of a session.
        for key in keys:
            if key not in _PERSON_MEMBERS and key not in _SESSION_MEMBERS and key not in _OTHER_MEMBERS:
                if "session" in key.lower():
                    self._session_members += (key,)
                else:
                    self._person_members += (key,)
        # What was checked before, from inside and from the wire; bounded.
        self._known: dict[str, InheritedId] = {}
        self._claims: dict[str, InheritedId] = {}
        self._person_keys = (*_OWN, *otel.HEADER_DISTINCT_ID) if config.headers else _OWN
        self._session_keys = (*_OWN_SESSION, *otel.HEADER_SESSION_ID) if config.headers else _OWN_SESSION

    def missing(
        self, own: Attributes, parent: Attributes | None, baggage: Mapping[str, Any] | None
    ) -> dict[str, InheritedId]:
        """The stamps that `own` lacks and that its own other keys, its parent or the baggage can give.

        Args:
            own: Attributes of the item.
            parent: Attributes of the local parent span (for a log record: the span that it was emitted in).
            baggage: Baggage of the item's context.
        """
        stamps: dict[str, InheritedId] = {}
        own_says = not LINKING.isdisjoint(own)
        if not own_says or posthog.POSTHOG_DISTINCT_ID not in own:
            person = self._first(own, self._person_keys) if own_says else None
            if person is None and parent:
                person = self._first(parent, self._person_keys)
            if person is None and baggage:
                person = self._claimed(baggage, self._person_members)
            if person is not None:
                stamps[posthog.POSTHOG_DISTINCT_ID] = person
        if not own_says or posthog.POSTHOG_SESSION_ID not in own:
            session = self._first(own, self._session_keys) if own_says else None
            if session is None and parent:
                session = self._first(parent, self._session_keys)
            if session is None and baggage:
                session = self._claimed(baggage, self._session_members)
            if session is not None:
                stamps[posthog.POSTHOG_SESSION_ID] = session
        return stamps

    def _first(self, source: Mapping[str, Any], keys: tuple[str, ...]) -> InheritedId | None:
        below: InheritedId | None = None
        for key in keys:
            if key not in source:
                continue
            value: Any = source[key]
            if type(value) is InheritedId:
                # Checked when it was stamped; weaker than whatever the item states itself.
                below = below or value
                continue
            # All spans of a request inherit one id: it is checked once.
            found = self._known.get(value) if type(value) is str else None
            found = self._checked(value) if found is None else found
            if found:
                return found
        return below

    def _claimed(self, baggage: Mapping[str, Any], members: tuple[str, ...]) -> InheritedId | None:
        if self._believed is not None:
            baggage = self._believed(baggage)
        for member in members:
            if member in baggage:
                value = baggage[member]
                found = self._claims.get(value) if type(value) is str else None
                if found is None:
                    found = InheritedId(claimed_id(value))
                    if type(value) is str:
                        if len(self._claims) >= _MAX_KNOWN:
                            self._claims.clear()
                        self._claims[value] = found
                if found:
                    return found
        return None

    def _checked(self, value: Any) -> InheritedId | None:
        if isinstance(value, (list, tuple)):
            # Only captured headers are lists, and they come from outside.
            values = cast("list[Any] | tuple[Any, ...]", value)
            return InheritedId(claimed_id(values[0]) if values else "") or None
        found = InheritedId(person_id(value))
        if type(value) is str:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[value] = found
        return found or None


def inherited(attributes: Attributes) -> bool:
    """Whether the item's `posthogDistinctId` is a stamp of ours."""
    return type(attributes.get(posthog.POSTHOG_DISTINCT_ID)) is InheritedId


def stated(attributes: Attributes) -> str:
    """Who the item itself states that it belongs to, stamps and claims of clients aside; "" for nobody."""
    for key in _OWN:
        if key in attributes and type(attributes[key]) is not InheritedId and (found := person_id(attributes[key])):
            return found
    return ""


def states(attributes: Attributes) -> bool:
    """Whether the item itself states who it belongs to, stamps and claims of clients aside."""
    return bool(stated(attributes))
