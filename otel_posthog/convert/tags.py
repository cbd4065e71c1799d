"""`posthog.*` attributes -> `Tags`: what an item, its span or its resource says about itself (DESIGN §3).

Only spelling is handled here: keys are sorted into fields, nothing is cleaned and nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from otel_posthog.convert.layout import Layout
from otel_posthog.convert.values import plain_text
from otel_posthog.model import Attributes, AttributeValue
from otel_posthog.semconv import posthog

_SET_AT: Final = len(posthog.SET)
_SET_ONCE_AT: Final = len(posthog.SET_ONCE)
_GROUPS_AT: Final = len(posthog.GROUPS)
_GROUP_SET_AT: Final = len(posthog.GROUP_SET)


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Tags:
    """The `posthog.*` attributes of one carrier, sorted into fields; raw values.

    Attributes:
        has_event: `posthog.event` is there, be it empty or illegal.
        event: Its value.
        properties: Name -> value, `posthog.properties_json` included (flat attributes win).
        group_set: Type -> name -> value.
        ignore: Where it is a switch, else `None`; `person_profile` likewise.
        bad_json: `posthog.properties_json` is there, but is no JSON object.
    """

    # Defaults on the class, and an instance `dict`: making one costs a third of filling 21 slots, and it is made for
    # every tagged item.
    has_event = False
    event: AttributeValue = None
    distinct_id: AttributeValue = None
    properties: Mapping[str, AttributeValue] = _NONE
    set: Mapping[str, AttributeValue] = _NONE
    set_once: Mapping[str, AttributeValue] = _NONE
    unset: AttributeValue = None
    groups: Mapping[str, AttributeValue] = _NONE
    group_set: Mapping[str, Mapping[str, AttributeValue]] = _NONE
    alias: AttributeValue = None
    anon_distinct_id: AttributeValue = None
    session_id: AttributeValue = None
    window_id: AttributeValue = None
    person_profile: bool | None = None
    ignore: bool | None = None
    on: AttributeValue = None
    tier: AttributeValue = None
    uuid: AttributeValue = None
    carrier: AttributeValue = None
    sampled: AttributeValue = None
    bad_json = False

    @property
    def updates(self) -> bool:
        """Whether a person, a group or an alias is to be changed, event or not."""
        return bool(
            self.set
            or self.set_once
            or self.unset
            or self.group_set
            or self.alias is not None
            or self.anon_distinct_id is not None
        )

    @property
    def acts(self) -> bool:
        """Whether the item is tagged: it names an event or an update (identity or properties alone do not count)."""
        return self.has_event or self.updates


NO_TAGS: Final = Tags()
"""For items without any `posthog.*` attribute."""


def read_tags(attributes: Attributes, layout: Layout) -> Tags:
    """The tags among `attributes`, which have `layout`; `NO_TAGS` where there are none."""
    if not layout.tagged:
        return NO_TAGS
    tags = Tags()
    if layout.event:
        tags.has_event, tags.event = True, attributes[posthog.EVENT]
    if layout.person:
        tags.distinct_id = attributes[posthog.DISTINCT_ID]
    if layout.uuid:
        tags.uuid = attributes[posthog.UUID]
    for key in layout.others:
        _read(tags, key, attributes[key])
    if layout.properties:
        properties = {name: attributes[key] for key, name in layout.properties}
        # Whichever order the attributes come in, a flat attribute says it more plainly than the packed rest.
        tags.properties = {**tags.properties, **properties} if tags.properties else properties
    return tags


_STRUCTURAL: Final = {
    posthog.PERSON_SET: "set",
    posthog.PERSON_SET_ONCE: "set_once",
    posthog.GROUPS_PROPERTY: "groups",
    posthog.PERSON_UNSET: "unset",
    posthog.SESSION_PROPERTY: "session_id",
    posthog.WINDOW_PROPERTY: "window_id",
    posthog.PERSON_PROFILE_PROPERTY: "person_profile",
}
_NAMES: Final = frozenset(_STRUCTURAL)


def promoted(tags: Tags) -> Tags:
    """`tags` with properties such as `$set` and `$groups` where they belong.

    `capture(…, properties={"$set": {…}})` is how the posthog SDKs' users write a person update. The tag of the same
    meaning wins. Not for finished events: those keep each property as it is.
    """
    if _NAMES.isdisjoint(tags.properties):
        return tags
    properties = dict(tags.properties)
    for name, field in _STRUCTURAL.items():
        value = properties.pop(name, None)
        said = getattr(tags, field)
        if field in ("set", "set_once", "groups"):
            packed = parse_object(value) if isinstance(value, Mapping) else None
            if packed:
                setattr(tags, field, {**packed, **said})
        elif value is not None and said is None:
            setattr(tags, field, truth(value) if field == "person_profile" else value)
    tags.properties = properties
    return tags


def joined_keys(attributes: Attributes) -> str:
    """All keys in one string, to search them in C at once: nearly every item has none of the wanted ones."""
    try:
        return "\n".join(attributes)
    except TypeError:
        # Not the normal form, but an instrumentation may well write it.
        return "\n".join(key for key in attributes if isinstance(key, str))  # pyright: ignore[reportUnnecessaryIsInstance]


def truth(value: AttributeValue) -> bool | None:
    """`value` as a switch: booleans, and the texts `true`/`1` and `false`/`0`; `None` for everything else."""
    if value is True or value is False:
        return value
    if isinstance(value, str):
        text = value.strip().lower()
        if text in {"true", "1"}:
            return True
        if text in {"false", "0"}:
            return False
    return None


def _read(tags: Tags, key: str, value: AttributeValue) -> None:
    if key.startswith(posthog.SET):
        _own(tags, "set")[key[_SET_AT:]] = value
    elif key.startswith(posthog.SET_ONCE):
        _own(tags, "set_once")[key[_SET_ONCE_AT:]] = value
    elif key.startswith(posthog.GROUPS):
        _own(tags, "groups")[key[_GROUPS_AT:]] = value
    elif key.startswith(posthog.GROUP_SET):
        # Group types have no dot, property names may.
        group_type, _, name = key[_GROUP_SET_AT:].partition(".")
        if group_type and name:
            _own(tags, "group_set").setdefault(group_type, {})[name] = value
    elif key == posthog.PROPERTIES_JSON:
        packed = parse_object(value)
        tags.bad_json = packed is None
        tags.properties = packed or {}
    elif key in _SWITCHES:
        setattr(tags, _SWITCHES[key], truth(value))
    elif key in _PLAIN:
        setattr(tags, _PLAIN[key], value)


def _own(tags: Tags, name: str) -> dict[str, Any]:
    """The map `name` of `tags` itself, made at the first write: the class's is shared."""
    return tags.__dict__.setdefault(name, {})


_SWITCHES: Final = {posthog.PROCESS_PERSON_PROFILE: "person_profile", posthog.IGNORE: "ignore"}
_PLAIN: Final = {
    posthog.SESSION_ID: "session_id",
    posthog.WINDOW_ID: "window_id",
    posthog.UNSET: "unset",
    posthog.ALIAS: "alias",
    posthog.ANON_DISTINCT_ID: "anon_distinct_id",
    posthog.ON: "on",
    posthog.TIER: "tier",
    posthog.CARRIER: "carrier",
    posthog.TRACE_SAMPLED: "sampled",
}


def parse_object(value: AttributeValue) -> dict[str, Any] | None:
    """`value` as a JSON object (text, or a map already); `None` where it is none."""
    try:
        parsed = json.loads(value) if isinstance(value, (str, bytes)) else value
        if not isinstance(parsed, Mapping):
            return None
        return {plain_text(key): item for key, item in cast("Mapping[object, Any]", parsed).items()}
    except Exception:  # noqa: BLE001 - no JSON, or a foreign map that raises anything while it is read
        return None
