"""Person, alias and group updates of an item, each in the shape that PostHog wants of it.

- `$set`, `$set_once` and `$unset` travel inside of the item's event. PostHog ignores them on `$exception`, and an item
  may have no event at all: then they ride on the `$identify`, or become a `$set` event.
- `$identify` (the anonymous id that this person had), `$create_alias` (another id of the same person) and
  `$groupidentify` (one for each group type) are events of their own.

What a resource says about persons and groups are defaults: they go along with an event, but never make one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from otel_posthog.convert.item import Item
from otel_posthog.convert.person import person_id
from otel_posthog.convert.text import cut_bytes
from otel_posthog.model import AttributeValue, JsonValue, Notice
from otel_posthog.semconv import posthog

_NOTHING: Mapping[str, AttributeValue] = {}
_NO_GROUPS: Mapping[str, Mapping[str, AttributeValue]] = {}


class Updates:
    """What is to change about the person and the groups of one item; cleaned.

    Attributes:
        person: `$set`, `$set_once` and `$unset`, those that are not empty.
        own: The item (or its rule) asks for it itself, not only its resource.
        alias: Another id of the same person, "" for none.
        anon_distinct_id: The anonymous id that this person had, "" for none.
        groups: (type, key, properties, whether only the resource says so).
    """

    __slots__ = ("alias", "anon_distinct_id", "groups", "own", "person")

    def __init__(self) -> None:
        self.person: dict[str, JsonValue] = {}
        self.own = False
        self.alias = ""
        self.anon_distinct_id = ""
        self.groups: list[tuple[str, str, dict[str, JsonValue], bool]] = []

    @property
    def any(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.person or self.alias or self.anon_distinct_id or self.groups)


def read_updates(item: Item) -> Updates:
    """The updates that `item` asks for."""
    tags, match, resource = item.tags, item.match, item.resource.tags
    updates = Updates()
    if match is None and not tags.updates and not resource.updates:
        return updates
    if tags.updates or resource.set or resource.set_once or resource.unset or match is not None:
        _read_person(item, updates)
    alias = tags.alias if tags.alias is not None else match.alias if match else None
    anonymous = (
        tags.anon_distinct_id if tags.anon_distinct_id is not None else match.anon_distinct_id if match else None
    )
    for name, value in (("alias", alias), ("anon_distinct_id", anonymous)):
        if value is not None and value != "":
            found = person_id(value, item.cleaner)
            # An id is not another name of itself.
            if found and found != item.subject.distinct_id:
                setattr(updates, name, found)
            updates.own = True
    if tags.group_set or resource.group_set or (match is not None and match.group_set):
        _read_groups(item, updates)
    return updates


def _read_person(item: Item, updates: Updates) -> None:
    tags, match, resource = item.tags, item.match, item.resource.tags
    own = bool(tags.set or tags.set_once or tags.unset or (match and (match.set or match.set_once or match.unset)))
    values: dict[str, JsonValue] = {}
    once: dict[str, JsonValue] = {}
    ruled, ruled_once = (match.set, match.set_once) if match is not None else (_NOTHING, _NOTHING)
    for target, layers in (
        (values, (resource.set, ruled, tags.set)),
        (once, (resource.set_once, ruled_once, tags.set_once)),
    ):
        for layer in layers:
            if layer:
                item.cleaner.properties(layer, target)
    unset = dict.fromkeys(
        name
        for layer in (_names(resource.unset), match.unset if match else (), _names(tags.unset))
        for raw in layer
        if (name := item.cleaner.key(raw)) and name not in values
    )
    for key, value in (
        (posthog.PERSON_SET, values),
        (posthog.PERSON_SET_ONCE, once),
        (posthog.PERSON_UNSET, list(unset)),
    ):
        if value:
            updates.person[key] = value
    updates.own = own


def _names(value: AttributeValue) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, (list, tuple)):
        return tuple(name for name in cast("list[object]", value) if isinstance(name, str))
    return ()


def _read_groups(item: Item, updates: Updates) -> None:
    tags, match, resource = item.tags, item.match, item.resource.tags
    own: dict[str, Mapping[str, AttributeValue]] = {}
    ruled = match.group_set if match is not None else _NO_GROUPS
    for layer in (ruled, tags.group_set):
        for group_type, values in layer.items():
            own[group_type] = {**own.get(group_type, {}), **values}
    for group_type in sorted({*own, *resource.group_set}):
        is_own = group_type in own
        key = item.groups.get(item.cleaner.key(group_type).strip(), "")
        properties: dict[str, JsonValue] = {}
        item.cleaner.properties({**resource.group_set.get(group_type, {}), **own.get(group_type, {})}, properties)
        if key and properties:
            updates.groups.append((group_type, key, properties, not is_own))
        elif is_own:
            item.cleaner.note(Notice.NO_SUBJECT)
        updates.own |= is_own


def group_subject(group_type: str, key: str) -> str:
    """The distinct id of a group's update that no person asked for.

    `$groupidentify` always makes a person. This spelling is that of PostHog's own older SDKs: one for each group, never
    one for each call.
    """
    return person_id(cut_bytes(f"${group_type}_{key}", 4_096))
