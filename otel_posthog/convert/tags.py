"""`posthog.*` attributes -> `Tags`: what an item, its span or its resource says about itself (DESIGN §3).

Only spelling is handled here: keys are sorted into fields, nothing is cleaned and nothing is decided.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, cast

from otel_posthog.model import Attributes, AttributeValue
from otel_posthog.semconv import posthog

_PROPERTIES_AT: Final = len(posthog.PROPERTIES)
_SET_AT: Final = len(posthog.SET)
_SET_ONCE_AT: Final = len(posthog.SET_ONCE)
_GROUPS_AT: Final = len(posthog.GROUPS)
_GROUP_SET_AT: Final = len(posthog.GROUP_SET)


class Tags:
    """The `posthog.*` attributes of one carrier, sorted into fields; raw values.

    Attributes:
        has_event: `posthog.event` is there, be it empty or illegal.
        event: Its value.
        properties: Name -> value, `posthog.properties_json` included (flat attributes win).
        group_set: Type -> name -> value.
        flags: `posthog.ignore` and `posthog.process_person_profile` where they say so, else `None`.
    """

    __slots__ = (
        "alias",
        "anon_distinct_id",
        "bad_json",
        "carrier",
        "distinct_id",
        "event",
        "group_set",
        "groups",
        "has_event",
        "ignore",
        "on",
        "person_profile",
        "properties",
        "sampled",
        "session_id",
        "set",
        "set_once",
        "tier",
        "unset",
        "uuid",
        "window_id",
    )

    def __init__(self) -> None:
        self.has_event = False
        self.event: AttributeValue = None
        self.distinct_id: AttributeValue = None
        self.properties: dict[str, AttributeValue] = {}
        self.set: dict[str, AttributeValue] = {}
        self.set_once: dict[str, AttributeValue] = {}
        self.unset: AttributeValue = None
        self.groups: dict[str, AttributeValue] = {}
        self.group_set: dict[str, dict[str, AttributeValue]] = {}
        self.alias: AttributeValue = None
        self.anon_distinct_id: AttributeValue = None
        self.session_id: AttributeValue = None
        self.window_id: AttributeValue = None
        self.person_profile: bool | None = None
        self.ignore: bool | None = None
        self.on: AttributeValue = None
        self.tier: AttributeValue = None
        self.uuid: AttributeValue = None
        self.carrier: AttributeValue = None
        self.sampled: AttributeValue = None
        self.bad_json = False

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
"""For items without any `posthog.*` attribute; never written to."""


def read_tags(attributes: Attributes) -> Tags:
    """The tags among `attributes`; `NO_TAGS` where there are none."""
    tags = NO_TAGS
    prefix = posthog.PREFIX
    for key, value in attributes.items():
        if key.startswith(prefix):
            if tags is NO_TAGS:
                tags = Tags()
            _read(tags, key, value)
    return tags


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


def _read(tags: Tags, key: str, value: AttributeValue) -> None:  # noqa: C901, PLR0912 - one branch for each tag
    if key.startswith(posthog.PROPERTIES):
        tags.properties[key[_PROPERTIES_AT:]] = value
    elif key == posthog.EVENT:
        tags.has_event, tags.event = True, value
    elif key == posthog.DISTINCT_ID:
        tags.distinct_id = value
    elif key == posthog.UUID:
        tags.uuid = value
    elif key.startswith(posthog.SET):
        tags.set[key[_SET_AT:]] = value
    elif key.startswith(posthog.SET_ONCE):
        tags.set_once[key[_SET_ONCE_AT:]] = value
    elif key.startswith(posthog.GROUPS):
        tags.groups[key[_GROUPS_AT:]] = value
    elif key.startswith(posthog.GROUP_SET):
        # Group types have no dot, property names may.
        group_type, _, name = key[_GROUP_SET_AT:].partition(".")
        if group_type and name:
            tags.group_set.setdefault(group_type, {})[name] = value
    elif key == posthog.PROPERTIES_JSON:
        _read_json(tags, value)
    else:
        _read_rare(tags, key, value)


def _read_rare(tags: Tags, key: str, value: AttributeValue) -> None:  # noqa: C901, PLR0912
    if key == posthog.SESSION_ID:
        tags.session_id = value
    elif key == posthog.WINDOW_ID:
        tags.window_id = value
    elif key == posthog.UNSET:
        tags.unset = value
    elif key == posthog.ALIAS:
        tags.alias = value
    elif key == posthog.ANON_DISTINCT_ID:
        tags.anon_distinct_id = value
    elif key == posthog.PROCESS_PERSON_PROFILE:
        tags.person_profile = truth(value)
    elif key == posthog.IGNORE:
        tags.ignore = truth(value)
    elif key == posthog.ON:
        tags.on = value
    elif key == posthog.TIER:
        tags.tier = value
    elif key == posthog.CARRIER:
        tags.carrier = value
    elif key == posthog.TRACE_SAMPLED:
        tags.sampled = value


def _read_json(tags: Tags, value: AttributeValue) -> None:
    packed = parse_object(value)
    if packed is None:
        tags.bad_json = True
        return
    # Whichever order the attributes come in, a flat attribute says it more plainly than the packed rest.
    tags.properties = {**packed, **tags.properties}


def parse_object(value: AttributeValue) -> dict[str, Any] | None:
    """`value` as a JSON object (text, or a map already); `None` where it is none."""
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if not isinstance(value, (str, bytes)):
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None
