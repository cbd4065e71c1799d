"""The short way for the commonest item: one product event, tagged, with a person and plain properties.

`Converter` asks here first. What the keys of an item say is known from its `Layout`, what its resource gives from its
`ResourceContext`; what is left is to look at each value once and to put it into place, without the tags, the item and
the cleaner between, which cost twice as much as all the rest.

It is the careful way with everything unusual left out, so it makes exactly the same event or none at all: whatever is
not as expected (a value to be cut, an id to be mended, a name with a meaning, a time that is absurd) is left to the
careful way, which begins anew. `tests/unit/convert/test_plain.py` holds the two together.
"""

from __future__ import annotations

from typing import Final

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.exception import is_exception
from otel_posthog.convert.flags import is_flag_evaluation
from otel_posthog.convert.ids import hashed_uuid, is_uuid7, signal_key, valid_uuid
from otel_posthog.convert.item import EARLIEST_NS, LATEST_NS, PLAIN_WEIGHT, ResourceContext, milliseconds
from otel_posthog.convert.layout import Layout
from otel_posthog.convert.limits import CONTEXT_BYTES
from otel_posthog.convert.request_context import request_properties
from otel_posthog.convert.user_agent import UserAgents
from otel_posthog.convert.values import PLAIN_NUMBER
from otel_posthog.model import Attributes, AttributeValue, CaptureEvent, JsonValue, Signal, SignalKind
from otel_posthog.semconv import posthog

_MAX_VALUE: Final = 1_024
"""Characters of a text; longer ones are rare enough for the careful way."""
_HEAVIEST: Final = PLAIN_WEIGHT + Layout.MAX_PLAIN * (_MAX_VALUE + posthog.MAX_NAME_BYTES + 4)
"""The most characters that an event of ours can have, as `Cleaner.weight` counts them."""

_MAX_PERSONS: Final = 1_024
_MAX_SESSIONS: Final = 1_024
"""Ids remembered at the most."""
_MAX_ID: Final = 200
"""Characters of one that is remembered."""
_ENVELOPE: Final = 450
"""Bytes of uuid, time, ids, session, duration and what else every event has, as JSON."""

_LOG: Final = SignalKind.LOG
_SPAN: Final = SignalKind.SPAN


class PlainEvents:
    """Makes the event of a plain item.

    Args:
        config: What may be read and how much may be written.
        user_agents: Reads user agents.
    """

    __slots__ = ("_config", "_limit", "_persons", "_requests", "_sessions", "_user_agents")

    def __init__(self, config: ConvertConfig, user_agents: UserAgents) -> None:
        self._config = config
        self._user_agents = user_agents
        self._requests = config.request_context
        # A visit has many events, each with the same ids; and a person is asked for twice for each of them.
        self._persons: dict[str, str] = {}
        self._sessions: dict[str, str] = {}
        # So small that nothing can be too big altogether; 0 where the limits are set lower.
        fits = min(config.max_event_bytes, posthog.MAX_EVENT_BYTES) >= _HEAVIEST * 6 + CONTEXT_BYTES
        self._limit = min(_MAX_VALUE, config.max_value_bytes // 4) if fits else 0

    def __bool__(self) -> bool:
        """Whether there can be any: the limits leave room for everything that is plain."""
        return self._limit > 0

    def event(
        self, signal: Signal, layout: Layout, around: Layout | None, resource: ResourceContext
    ) -> CaptureEvent | None:
        """The one event of `signal`; `None` where the careful way is needed.

        Args:
            signal: Not a span event; what owns it lends it nothing but its request (`Layout.lends`).
            layout: Of its attributes; `plain`.
            around: Of those of what owns it; it `lends`. `None` where nothing does.
            resource: Of its resource; `plain`.
        """
        attributes, local = signal.attributes, signal.local
        name = _name(attributes[posthog.EVENT])
        person = self.person(attributes[layout.who] if layout.who else local.distinct_id if local is not None else "")
        time_ns, kind = signal.time_ns, signal.kind
        if not name or not person or not EARLIEST_NS <= time_ns <= LATEST_NS:
            return None
        if kind is _LOG and (is_exception(signal) or is_flag_evaluation(signal)):
            return None

        properties: dict[str, JsonValue] = {**resource.base}
        weight = _ENVELOPE + resource.size + len(name) + len(person)
        if layout.visit:
            session = self._session(attributes[layout.visit])
            if not session:
                return None
            properties[posthog.SESSION_PROPERTY] = session
        if self._requests and (layout.request or around is not None):
            request = self._request(signal, layout, around)
            properties.update(request)
            for key, value in request.items():
                weight += len(key) + (len(value) + 12 if type(value) is str else 12)
        trace_id, span_id = signal.trace_id, signal.span_id
        if trace_id:
            properties[posthog.TRACE_PROPERTY] = trace_id
            if local is not None and local.sampled is not None:
                properties["trace_sampled"] = local.sampled
        if span_id:
            properties[posthog.SPAN_PROPERTY] = span_id
        own = _put(attributes, layout, self._limit, properties)
        if own < 0:
            return None
        if "$ip" not in properties:
            properties["$geoip_disable"] = True
        if kind is _SPAN and 0 < signal.start_time_ns < time_ns:
            properties.setdefault("duration_ms", milliseconds(time_ns - signal.start_time_ns))

        if layout.uuid:
            uuid = valid_uuid(attributes[posthog.UUID])
        elif kind is _SPAN and trace_id and span_id:
            uuid = hashed_uuid("span", trace_id, span_id, "", name)  # `signal_key`, without the way there
        else:
            uuid = hashed_uuid(*signal_key(signal), name)
        return CaptureEvent(name, person, uuid, time_ns, properties, weight + own) if uuid else None

    def _request(self, signal: Signal, layout: Layout, around: Layout | None) -> dict[str, JsonValue]:
        """What the item, or else the request around it, says about a request."""
        owner = signal.span
        if layout.request or owner is None or around is None:
            kind = signal.span_kind or (owner.span_kind if owner is not None else "")
            return request_properties(signal.attributes, kind, self._config, self._user_agents, layout.spelled)
        if not around.request:
            return {}
        return request_properties(owner.attributes, owner.span_kind, self._config, self._user_agents, around.spelled)

    def person(self, value: AttributeValue) -> str:
        """`value` as a distinct id, "" where it is none, or has to be mended."""
        if type(value) is not str:
            return ""
        known = self._persons.get(value)
        if known is None:
            known = _person(value)
            if known and len(value) <= _MAX_ID:
                if len(self._persons) >= _MAX_PERSONS:
                    self._persons = {}
                self._persons[value] = known
        return known

    def _session(self, value: AttributeValue) -> str:
        """`value` as PostHog's session id, "" where it is none, or has to be looked at."""
        if type(value) is not str:
            return ""
        known = self._sessions.get(value)
        if known is None:
            text = valid_uuid(value)
            known = text if text and is_uuid7(text) else ""
            if known and len(value) <= _MAX_ID:
                if len(self._sessions) >= _MAX_SESSIONS:
                    self._sessions = {}
                self._sessions[value] = known
        return known


def _put(attributes: Attributes, layout: Layout, limit: int, properties: dict[str, JsonValue]) -> int:
    """Puts the item's own properties among `properties`; their bytes as JSON, -1 where one of them is not plain."""
    weight = layout.weight
    for key, name in layout.properties:
        value = attributes[key]
        kind = type(value)  # pyright: ignore[reportUnknownVariableType] - as in `Cleaner.properties`
        if kind is str:
            if len(value) > limit or not value.isascii() or "\x00" in value:
                return -1
            weight += len(value)
        elif kind is not bool and not ((kind is int or kind is float) and -PLAIN_NUMBER < value < PLAIN_NUMBER):
            return -1
        properties[name] = value
    return weight


def _name(value: AttributeValue) -> str:
    """`value` as the name of the event, "" where it has to be mended or means something."""
    if not (type(value) is str and value.isascii() and len(value) <= posthog.MAX_NAME_BYTES and "\x00" not in value):
        return ""
    name = value.strip()
    return name if name != posthog.EVENT_EXCEPTION else ""


def _person(value: str) -> str:
    if not value.isascii() or "\x00" in value:
        return ""
    text = value.strip()
    legal = len(text) <= posthog.MAX_DISTINCT_ID_BYTES and text.lower() not in posthog.ILLEGAL_DISTINCT_IDS
    return text if legal else ""
