"""`Item`: one signal with everything that its events need, read once; and what a resource gives to all its items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.deployment import deployment_properties, library_properties
from otel_posthog.convert.identity import NO_SESSION, Session, Subject, find_groups, find_session, find_subject
from otel_posthog.convert.ids import signal_key, uuid7_time_ns, valid_uuid
from otel_posthog.convert.layout import STRUCTURAL, Layout, Layouts
from otel_posthog.convert.limits import json_size
from otel_posthog.convert.request_context import has_request, request_properties
from otel_posthog.convert.tags import NO_TAGS, Tags, promoted, read_tags, truth
from otel_posthog.convert.text import cut_bytes
from otel_posthog.convert.user_agent import UserAgents
from otel_posthog.convert.values import Cleaner, plain_text
from otel_posthog.model import AttributeValue, JsonValue, Notice, Resource, Signal, SignalKind
from otel_posthog.rules import Match
from otel_posthog.semconv import posthog

_MAX_RESOURCES: Final = 256
EARLIEST_NS: Final = 946_684_800_000_000_000
"""2000-01-01: before it a time is a counter or another unit, not a moment."""
LATEST_NS: Final = (1 << 63) - 1
PLAIN_WEIGHT: Final = 16_384
"""Characters of what a resource gives to plain items (`plain.py`), at the most."""
_MARK: Final = {"carrier"}


@dataclass(frozen=True, slots=True)
class ResourceContext:
    """What a resource gives to all its items: its tags as defaults, and the deployment properties."""

    resource: Resource
    tags: Tags
    base: Mapping[str, JsonValue]
    weight: int
    """Characters in `base` (see `Cleaner.weight`)."""
    plain: bool
    """It says nothing about events, persons, groups and sessions: its items may be plain."""
    size: int
    """Bytes of `base` as JSON."""


class ResourceContexts:
    """Contexts by resource object: the SDK and the decoder share one `Resource` among all its items.

    Keyed by identity, with the resource kept alive beside its context, so that an id is never another object's.
    """

    def __init__(self, config: ConvertConfig) -> None:
        self._config = config
        self._known: dict[int, ResourceContext] = {}
        self._newest: ResourceContext | None = None

    def get(self, resource: Resource) -> ResourceContext:
        """The context of `resource`."""
        found = self._newest
        if found is not None and found.resource is resource:
            return found
        found = self._known.get(id(resource))
        if found is not None and found.resource is resource:
            self._newest = found
            return found
        attributes = resource.attributes
        tags = promoted(read_tags(attributes, Layout(tuple(attributes))))
        cleaner = Cleaner(self._config.max_value_bytes)
        base = deployment_properties(attributes, self._config.static_properties, cleaner)
        base.update(library_properties())
        cleaner.properties(user_properties(tags.properties), base)
        said = vars(tags)
        quiet = not said or (said.keys() == _MARK and not self._config.honour_carrier)
        plain = quiet and not cleaner.notices and cleaner.weight <= PLAIN_WEIGHT
        found = ResourceContext(resource, tags, base, cleaner.weight, plain, json_size(base))
        if len(self._known) >= _MAX_RESOURCES:
            self._known = {}
        self._known[id(resource)] = found
        return found


class Item:
    """One signal on its way to events.

    Attributes:
        tags: Of the item itself.
        owner: Of the span that owns it, where it is a span event.
        layout: What the keys of its attributes say.
        resource: What its resource gives.
        match: What a rule said, `None` where none was asked or none matched.
        cleaner: Cleans its values, collects notices.
        session: Its browser session.
        subject: Whom it belongs to.
        groups: Group type -> key.
        key: What its uuids are made from.
    """

    __slots__ = (
        "cleaner",
        "groups",
        "key",
        "layout",
        "match",
        "owner",
        "resource",
        "session",
        "signal",
        "subject",
        "tags",
        "uuid",
    )

    def __init__(
        self,
        signal: Signal,
        layout: Layout,
        tags: Tags,
        owner: Tags,
        resource: ResourceContext,
        match: Match | None,
        cleaner: Cleaner,
    ) -> None:
        self.signal = signal
        self.layout = layout
        self.tags = tags
        self.owner = owner
        self.resource = resource
        self.match = match
        self.cleaner = cleaner
        cleaner.weight += resource.weight
        self.session: Session = _session(signal, layout, tags, owner, resource.tags, cleaner)
        self.subject: Subject = find_subject(
            signal, tags, owner, resource.tags, match.distinct_id if match else "", self.session.session_id, cleaner
        )
        self.groups = self._groups()
        self.key = signal_key(signal)
        self.uuid = valid_uuid(tags.uuid) if tags.uuid is not None else ""
        if tags.uuid is not None and not self.uuid:
            cleaner.note(Notice.BAD_UUID)
        if tags.bad_json or owner.bad_json:
            cleaner.note(Notice.DROPPED_VALUE)

    def _groups(self) -> dict[str, str]:
        match, shared = self.match, self.resource.tags.groups
        if not (self.tags.groups or self.owner.groups or shared or (match is not None and match.groups)):
            return {}
        ruled: Mapping[str, AttributeValue] = match.groups if match is not None else {}
        return find_groups((self.tags.groups, ruled, self.owner.groups, shared), self.cleaner)

    @property
    def person_profile(self) -> bool | None:
        """`posthog.process_person_profile` of the item, else of its span, else of its resource."""
        for tags in (self.tags, self.owner, self.resource.tags):
            if tags.person_profile is not None:
                return tags.person_profile
        return None

    def time_ns(self, *, start: bool = False) -> int:
        """When it happened: from the telemetry alone, never "now".

        An absent or absurd time gives way to the next of: the item's other times, its span's, the one in a UUIDv7,
        any positive one, 0.
        """
        signal = self.signal
        wanted = signal.start_time_ns if start and signal.kind is SignalKind.SPAN else signal.time_ns
        if EARLIEST_NS <= wanted <= LATEST_NS:
            return wanted
        self.cleaner.note(Notice.BAD_TIME)
        candidates = [wanted, signal.time_ns, signal.observed_time_ns, signal.start_time_ns]
        if signal.span is not None:
            candidates += [signal.span.time_ns, signal.span.start_time_ns]
        if self.uuid and self.uuid[14] == "7":
            candidates.append(uuid7_time_ns(self.uuid))
        for candidate in candidates:
            if EARLIEST_NS <= candidate <= LATEST_NS:
                return candidate
        return next((candidate for candidate in candidates if 0 < candidate <= LATEST_NS), 0)

    def common(self) -> dict[str, JsonValue]:
        """The properties that also `$set`, `$identify` and the like carry: sender, session, groups, trace."""
        properties = library_properties()
        properties["$geoip_disable"] = True
        self._add_links(properties)
        return properties

    def properties(self, config: ConvertConfig, user_agents: UserAgents) -> dict[str, JsonValue]:
        """All properties of a product event or an exception, the item's own ones above everything else."""
        signal, tags, match = self.signal, self.tags, self.match
        properties = dict(self.resource.base)
        if config.request_context:
            span = signal.span
            if self.layout.request:
                kind = signal.span_kind or (span.span_kind if span is not None else "")
                properties.update(request_properties(signal.attributes, kind, config, user_agents))
            elif span is not None and has_request(span.attributes):
                properties.update(request_properties(span.attributes, span.span_kind, config, user_agents))
        self._add_links(properties)
        tier = tags.tier if tags.tier is not None else self.owner.tier
        if tier is None:
            tier = self.resource.tags.tier
        if tier is not None and tier != "":
            properties["tracking_tier"] = cut_bytes(plain_text(tier), posthog.MAX_NAME_BYTES)
        if self.owner.properties:
            # A span event, an exception above all, happened under the same values of flags as its span.
            flags = {name: value for name, value in self.owner.properties.items() if _is_of_flags(name)}
            self.cleaner.properties(flags, properties)
        if match is not None and match.properties:
            self.cleaner.properties(user_properties(match.properties), properties)
        if tags.properties:
            self.cleaner.properties(user_properties(tags.properties), properties)
        if "$ip" not in properties:
            # Otherwise PostHog would place everybody where our request comes from.
            properties["$geoip_disable"] = True
        return properties

    def _add_links(self, properties: dict[str, JsonValue]) -> None:
        signal, session = self.signal, self.session
        if signal.trace_id:
            properties[posthog.TRACE_PROPERTY] = signal.trace_id
            sampled = self._sampled()
            if sampled is not None:
                properties["trace_sampled"] = sampled
        if signal.span_id:
            properties[posthog.SPAN_PROPERTY] = signal.span_id
        if session is not NO_SESSION:
            if session.is_posthog:
                properties[posthog.SESSION_PROPERTY] = session.session_id
            elif session.session_id:
                properties[posthog.OTHER_SESSION_PROPERTY] = session.session_id
            if session.window_id:
                properties[posthog.WINDOW_PROPERTY] = session.window_id
        if self.groups:
            properties[posthog.GROUPS_PROPERTY] = dict(self.groups)

    def _sampled(self) -> bool | None:
        for tags in (self.tags, self.owner):
            if tags.sampled is not None:
                return truth(tags.sampled)
        return self.signal.local.sampled if self.signal.local is not None else None


def _is_of_flags(name: str) -> bool:
    return name.startswith(posthog.FEATURE_PREFIX) or name == posthog.ACTIVE_FLAGS_PROPERTY


def milliseconds(nanoseconds: int) -> float:
    """`nanoseconds` as milliseconds, to the microsecond."""
    # Whole numbers until the last step: a third of what `round` costs.
    return (nanoseconds + 500) // 1_000 / 1_000


def user_properties(values: Mapping[str, object]) -> Mapping[str, object]:
    """`values` without the properties that have a meaning of their own."""
    return values if STRUCTURAL.isdisjoint(values) else {k: v for k, v in values.items() if k not in STRUCTURAL}


def _session(signal: Signal, layout: Layout, tags: Tags, owner: Tags, resource: Tags, cleaner: Cleaner) -> Session:
    found = NO_SESSION
    if layout.session or tags.session_id is not None or tags.window_id is not None:
        found = find_session(signal.attributes, tags, cleaner)
    if not found.session_id and signal.span is not None:
        lent = find_session(signal.span.attributes, owner, cleaner)
        found = (
            Session(lent.session_id, lent.is_posthog, found.window_id or lent.window_id)
            if lent is not NO_SESSION
            else found
        )
    if not found.session_id and (resource.session_id is not None or resource.window_id is not None):
        lent = find_session({}, resource, cleaner)
        found = Session(lent.session_id, lent.is_posthog, found.window_id or lent.window_id)
    return found


def owner_tags(signal: Signal, layouts: Layouts) -> Tags:
    """The tags of the span that owns `signal`."""
    if signal.span is None:
        return NO_TAGS
    attributes = signal.span.attributes
    return promoted(read_tags(attributes, layouts.of(attributes)))
