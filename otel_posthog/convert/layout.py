"""`Layout`: what the keys of an item say, whatever their values.

The spans of an app come in some hundred sets of keys, however many spans there are. So a set is read once and
remembered: that a span has no `posthog.*` attribute, describes no HTTP request and names no session is then one look
into a dict in place of a look at each key for each question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_posthog.convert.request_context import ALL, Spelled, has_request, spelled_in
from otel_posthog.convert.values import MAX_KEY_BYTES
from otel_posthog.semconv import otel, posthog

SESSIONS: Final = (posthog.POSTHOG_SESSION_ID, *otel.HEADER_SESSION_ID)
"""Keys that name the browser session, beside the tag, and above `session.id`."""

_SESSION_KEYS: Final = frozenset((*SESSIONS, otel.SESSION_ID))
_FIRST: Final = frozenset((posthog.EVENT, posthog.DISTINCT_ID, posthog.UUID))
_PROPERTIES_AT: Final = len(posthog.PROPERTIES)

STRUCTURAL: Final = frozenset(
    {
        posthog.PERSON_SET, posthog.PERSON_SET_ONCE, posthog.PERSON_UNSET, posthog.GROUPS_PROPERTY,
        posthog.SESSION_PROPERTY, posthog.WINDOW_PROPERTY, posthog.PERSON_PROFILE_PROPERTY, posthog.CUT_PROPERTY,
        "$exception_list",
    }
) | posthog.SERVER_DERIVED  # fmt: skip
"""Properties with a meaning of their own: they come from their tags, never from `posthog.properties.<name>`."""

_WHO: Final = (posthog.DISTINCT_ID, posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID)
"""Keys that name the person, strongest first; those of headers come after them."""
_CLAIMS: Final = frozenset(otel.HEADER_DISTINCT_ID)

_SMALL: Final = 12
"""Bytes around a property in JSON, a number or the quotes of a text included."""

_MAX_LAYOUTS: Final = 1_024
_MAX_CHARACTERS: Final = 4_096
"""Remembered at the most, and of a set of keys: keys made of data must not fill the memory."""


class Layout:
    """What a set of attribute keys says.

    Attributes:
        tagged: Some key is one of `posthog.*`.
        event: `posthog.event` is there; `person` and `uuid` likewise for `posthog.distinct_id` and `posthog.uuid`.
        properties: Key and name of each `posthog.properties.<name>`, in their order.
        others: All other `posthog.*` keys, in their order.
        ai: Some key is one of the conventions for generative AI.
        request: They describe an HTTP request.
        spelled: How they spell it; as `ALL` where they do not.
        session: Some key names a session, the tags apart.
        visit: The strongest of these keys, "" for none.
        who: The key that names the person, "" for none (or for that of a header alone).
        names: Some key names the person, one of a header included.
        plain: They are those of one product event and nothing else (`plain.py`).
        lends: As a request around a plain event they lend it their description, and nothing else.
        weight: Bytes of the properties as JSON, the texts among their values apart.
    """

    __slots__ = (
        "ai",
        "event",
        "lends",
        "names",
        "others",
        "person",
        "plain",
        "properties",
        "request",
        "session",
        "spelled",
        "tagged",
        "uuid",
        "visit",
        "weight",
        "who",
    )

    MAX_PLAIN: Final = 48
    """Properties of a plain event, at the most."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        # Anything hashable can be a key, though only text is in normal form.
        texts = [key for key in keys if isinstance(key, str)]  # pyright: ignore[reportUnnecessaryIsInstance]
        ours = [key for key in texts if key.startswith(posthog.PREFIX)]
        self.tagged = bool(ours)
        self.event = posthog.EVENT in ours
        self.person = posthog.DISTINCT_ID in ours
        self.uuid = posthog.UUID in ours
        named = [key for key in ours if key.startswith(posthog.PROPERTIES)]
        self.properties = tuple((key, key[_PROPERTIES_AT:]) for key in named)
        self.others = tuple(key for key in ours if key not in _FIRST and not key.startswith(posthog.PROPERTIES))
        self.ai = any(key.startswith(otel.GEN_AI_PREFIXES) for key in texts)
        self.request = has_request(dict.fromkeys(texts))
        self.spelled: Spelled = spelled_in(frozenset(texts)) if self.request else ALL
        self.session = not _SESSION_KEYS.isdisjoint(texts)
        self.visit = next((key for key in (*SESSIONS, otel.SESSION_ID) if key in texts), "")
        self.who = next((key for key in _WHO if key in texts), "")
        self.names = bool(self.who) or not _CLAIMS.isdisjoint(texts)
        self.lends = not self.tagged and not self.session
        self.weight = sum(len(name) + _SMALL for _, name in self.properties)
        self.plain = (
            self.event
            and not self.others
            and (bool(self.who) or not self.names)
            and len(self.properties) <= self.MAX_PLAIN
            and all(_is_plain_name(name) for _, name in self.properties)
        )


def _is_plain_name(name: str) -> bool:
    """Whether a property of this name is written as it is."""
    return name.isascii() and 0 < len(name) <= MAX_KEY_BYTES and "\x00" not in name and name not in STRUCTURAL


class Layouts:
    """Layouts by their keys. Safe in any thread (single operations on a dict)."""

    __slots__ = ("_known", "_large")

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Layout] = {}
        # The newest that is too large to be kept: the span events of a span ask for that of their span, one by one.
        self._large: tuple[tuple[str, ...], Layout] | None = None

    def of(self, attributes: Mapping[str, Any]) -> Layout:
        """The layout of `attributes`."""
        keys = tuple(attributes)
        found = self._known.get(keys)
        if found is None:
            large = self._large
            if large is not None and large[0] == keys:
                return large[1]
            found = Layout(keys)
            self._keep(keys, found)
        return found

    def _keep(self, keys: tuple[str, ...], layout: Layout) -> None:
        if not all(type(key) is str for key in keys):
            return
        if sum(map(len, keys)) <= _MAX_CHARACTERS:
            if len(self._known) >= _MAX_LAYOUTS:
                # Cleared whole: an app has some hundred; one that makes keys of data gains nothing from LRU.
                self._known = {}
            self._known[keys] = layout
        else:
            self._large = (keys, layout)
