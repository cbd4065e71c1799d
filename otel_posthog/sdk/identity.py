"""Who an item belongs to when it starts: from itself, its local parent, or allow-listed baggage.

What is found is stamped as `posthogDistinctId` and `sessionId`, the keys by which PostHog links traces and logs to
persons and recordings. A stamp is an `InheritedId`, a `str` that remembers that the item did not say so itself: what
the item, or the rest of its trace, states about the person later wins over it (`settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.convert.identity import person_id
from otel_posthog.model import Attributes
from otel_posthog.semconv import otel, posthog

_OWN: Final = (posthog.DISTINCT_ID, posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID)
"""Attributes by which an item states its person, strongest first."""
_OWN_SESSION: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)

STATED: Final = frozenset(_OWN)
"""Keys that may state who an item belongs to."""
WIRE: Final = frozenset(otel.HEADER_DISTINCT_ID)
"""Keys that bring an identity which the client claims."""
LINKING: Final = frozenset((*_OWN, *_OWN_SESSION, *otel.HEADER_DISTINCT_ID, *otel.HEADER_SESSION_ID))
"""Keys of a parent from which a child inherits."""

# Baggage members, strongest first; only those in `IdentityConfig.baggage_keys` are read.
_PERSON_MEMBERS: Final = (posthog.DISTINCT_ID, posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID)
_SESSION_MEMBERS: Final = (posthog.SESSION_ID, posthog.POSTHOG_SESSION_ID, otel.SESSION_ID)


class InheritedId(str):
    """An id that we put on an item; the item did not state it itself."""

    __slots__ = ()


def legal_id(value: Any) -> str:
    """`value` from the wire as a distinct id, "" where it is none, or not fit to name a person.

    Longer ids than PostHog's 200 bytes count as absent: whoever sends one from outside is not believed.
    """
    if isinstance(value, str) and (len(value) > posthog.MAX_DISTINCT_ID_BYTES or not value.isprintable()):
        return ""
    return person_id(value)


class IdentityStamper:
    """Finds the identity that an item inherits.

    Args:
        config: Which sources are believed.
    """

    def __init__(self, config: IdentityConfig) -> None:
        allowed = set(config.baggage_keys)
        self._person_members = tuple(key for key in _PERSON_MEMBERS if key in allowed)
        self._session_members = tuple(key for key in _SESSION_MEMBERS if key in allowed)
        # A key of the user's own choosing names the person, unless it speaks of a session.
        for key in config.baggage_keys:
            if key not in _PERSON_MEMBERS and key not in _SESSION_MEMBERS:
                if "session" in key.lower():
                    self._session_members += (key,)
                else:
                    self._person_members += (key,)
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
        if posthog.POSTHOG_DISTINCT_ID not in own:
            person = self._person(own, parent, baggage)
            if person:
                stamps[posthog.POSTHOG_DISTINCT_ID] = InheritedId(person)
        if posthog.POSTHOG_SESSION_ID not in own:
            session = self._session(own, parent, baggage)
            if session:
                stamps[posthog.POSTHOG_SESSION_ID] = InheritedId(session)
        return stamps

    def _person(self, own: Attributes, parent: Attributes | None, baggage: Mapping[str, Any] | None) -> str:
        return (
            _first(own, self._person_keys)
            or (_first(parent, self._person_keys) if parent else "")
            or (_first(baggage, self._person_members, legal_id) if baggage else "")
        )

    def _session(self, own: Attributes, parent: Attributes | None, baggage: Mapping[str, Any] | None) -> str:
        return (
            _first(own, self._session_keys)
            or (_first(parent, self._session_keys) if parent else "")
            or (_first(baggage, self._session_members, legal_id) if baggage else "")
        )


def _first(source: Mapping[str, Any], keys: tuple[str, ...], legal: Callable[[Any], str] = person_id) -> str:
    below = ""
    for key in keys:
        value = source.get(key)
        if value is None:
            continue
        if type(value) is InheritedId:
            # Checked when it was stamped; weaker than whatever the item states itself.
            below = below or value
        else:
            # Only captured headers are lists, and they come from outside.
            found = legal_id(value[0]) if isinstance(value, (list, tuple)) and value else legal(value)
            if found:
                return found
    return below


def inherited(attributes: Attributes) -> bool:
    """Whether the item's `posthogDistinctId` is a stamp of ours."""
    return type(attributes.get(posthog.POSTHOG_DISTINCT_ID)) is InheritedId
