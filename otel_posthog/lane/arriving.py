"""What is believed of the baggage that a request brought.

Without a secret the allow-list decides, as for every identity from the wire. With one, only what a service signed that
has it, too: everything else counts as absent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.semconv import posthog

_MEMBERS: Final = (
    posthog.DISTINCT_ID,
    "posthog.anonymous_id",
    posthog.SESSION_ID,
    "posthog.groups",
    "posthog.flags",
    "posthog.properties",
)
_SIGNATURE: Final = "posthog.signature"
_KEPT: Final = 1_024
"""Baggages remembered at the most: each is asked for once for each span of its request."""
_NONE: Final[Mapping[str, Any]] = {}


class Arriving:
    """Reads baggage. Safe in any thread.

    Args:
        config: What is believed.
        now: Seconds since the Unix epoch; injected by tests.
    """

    def __init__(self, config: IdentityConfig, *, now: Callable[[], float] = time.time) -> None:
        self._secrets = config.baggage_secrets
        self._max_age = config.baggage_max_age
        self._now = now
        self._allowed = frozenset(config.baggage_keys)
        self._properties = frozenset(config.baggage_properties)
        self._ambients: dict[tuple[Any, ...], Ambient] = {}
        self._signed: dict[tuple[Any, ...], int | None] = {}

    def believed(self, baggage: Mapping[str, Any]) -> Mapping[str, Any]:
        """What may name a person or a session: all of it where the allow-list decides, else what is signed."""
        if not self._secrets or not baggage:
            return baggage
        if not self._is_signed(baggage):
            return _NONE
        return {name: baggage[name] for name in (posthog.DISTINCT_ID, posthog.SESSION_ID) if name in baggage}

    def ambient(self, baggage: Mapping[str, Any]) -> Ambient:
        """Groups, flags, properties and the anonymous id that are believed; `NOTHING` where there are none.

        Person and session come by the stamps of spans (`identity.py`), in their place among all the other sources.
        """
        if not any(name in baggage for name in _MEMBERS):
            return NOTHING
        if self._secrets and not self._is_signed(baggage):
            return NOTHING
        key = tuple(baggage.get(name) for name in _MEMBERS)
        try:
            known = self._ambients.get(key)
        except TypeError:  # the app's own baggage may hold anything
            return NOTHING
        if known is None:
            known = self._read(baggage)
            if len(self._ambients) >= _KEPT:
                self._ambients.clear()
            self._ambients[key] = known
        return known

    def _read(self, baggage: Mapping[str, Any]) -> Ambient:
        from otel_posthog.context.baggage import FLAGS, GROUPS, decode  # only where there is some
        from otel_posthog.convert.person import claimed_id

        said = decode(baggage)
        signed = bool(self._secrets)
        found = Ambient(
            # Whoever logs in becomes one person with it. What a stranger sends only names a visitor, by a stamp: else
            # anybody could have anybody's id, and all that was done under it, merged into his own.
            anonymous_id=claimed_id(said.anonymous_id) if signed else "",
            groups=said.groups if signed or GROUPS in self._allowed else {},
            flags=said.flags if signed or FLAGS in self._allowed else {},
            properties=said.properties
            if signed
            else {name: value for name, value in said.properties.items() if name in self._properties},
        )
        return NOTHING if found == NOTHING else found

    def _is_signed(self, baggage: Mapping[str, Any]) -> bool:
        if _SIGNATURE not in baggage:
            return False
        from otel_posthog.context.signature import is_fresh, signed_at

        key = (baggage[_SIGNATURE], *(baggage.get(name) for name in _MEMBERS))
        try:
            if key in self._signed:
                moment = self._signed[key]
            else:
                moment = signed_at(baggage, self._secrets)
                if len(self._signed) >= _KEPT:
                    self._signed.clear()
                self._signed[key] = moment
        except TypeError:
            return False
        return moment is not None and is_fresh(moment, self._now(), self._max_age)


__all__ = ["Arriving"]
