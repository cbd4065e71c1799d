"""What PostHog's ingestion makes of an accepted event before it is stored (posthog-wire §2, §3).

Pure: from a received event to what is stored and how people are touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from otel_posthog.emulator.issues import Grouping, group
from otel_posthog.emulator.received import ReceivedEvent

FULL = "full"
PERSONLESS = "propertyless"
_NEEDS_PERSON = frozenset({"$identify", "$create_alias", "$merge_dangerously", "$groupidentify"})
_NO_PERSON_UPDATE = frozenset({"$exception", "$$heatmap"})
_PERSON_KEYS = ("$set", "$set_once", "$unset")


@dataclass(frozen=True, slots=True)
class PersonChange:
    """What an event asks of its person."""

    set: dict[str, Any]
    set_once: dict[str, Any]
    unset: tuple[str, ...]
    merge: str = ""
    """Another distinct id of the same person, "" for none."""
    dangerous: bool = False
    """`$merge_dangerously`: also where the other person is identified."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event ready to be stored.

    Args:
        received: As the edge took it.
        properties: As they are stored.
        mode: `full` or `propertyless`.
        person: What happens to the person; None where person processing is off.
        grouping: For `$exception`.
        warnings: Ingestion warnings.
    """

    received: ReceivedEvent
    properties: dict[str, Any]
    mode: str
    person: PersonChange | None
    grouping: Grouping
    warnings: tuple[str, ...]


def prepare(received: ReceivedEvent) -> Prepared | str:
    """The stored form of `received`, or the reason why the pipeline drops it."""
    properties = dict(received.properties)
    warnings = list(received.warnings)
    flag = properties.get("$process_person_profile")
    if flag is False and not received.person_disabled and received.event in _NEEDS_PERSON:
        return "invalid_event_when_process_person_profile_is_false"
    if flag is not None and not isinstance(flag, bool):
        warnings.append("invalid_process_person_profile")
    personless = received.person_disabled or flag is False
    if personless:
        for key in _PERSON_KEYS:
            properties.pop(key, None)
        properties["$process_person_profile"] = False
    else:
        # `true` is the default and is not stored.
        properties.pop("$process_person_profile", None)
    grouping = Grouping()
    if received.event == "$exception":
        grouping = group(properties)
        if grouping.errors:
            properties["$cymbal_errors"] = list(grouping.errors)
        if "$set" in properties or "$set_once" in properties:
            warnings.append("set_on_exception")
    if received.event == "$groupidentify" and not _valid_group(properties):
        warnings.append("group_identify_without_type_or_key")
    person = None if personless else _change(received, properties, warnings)
    return Prepared(received, properties, PERSONLESS if personless else FULL, person, grouping, tuple(warnings))


def groups_of(properties: dict[str, Any]) -> dict[str, str]:
    """`$groups` with its keys as text; what is not an object of scalars counts as none."""
    given = properties.get("$groups")
    if not isinstance(given, dict):
        return {}
    return {
        kind: key if isinstance(key, str) else str(key)
        for kind, key in cast("dict[str, Any]", given).items()
        if kind and isinstance(key, (str, int, float)) and key != ""
    }


def identified_group(properties: dict[str, Any]) -> tuple[str, str, dict[str, Any]] | None:
    """Type, key and properties that a `$groupidentify` sets."""
    if not _valid_group(properties):
        return None
    given = properties.get("$group_set")
    return (
        str(properties["$group_type"]),
        str(properties["$group_key"]),
        cast("dict[str, Any]", given) if isinstance(given, dict) else {},
    )


def _valid_group(properties: dict[str, Any]) -> bool:
    return all(
        isinstance(properties.get(key), (str, int, float)) and properties[key] != ""
        for key in ("$group_type", "$group_key")
    )


def _change(received: ReceivedEvent, properties: dict[str, Any], warnings: list[str]) -> PersonChange:
    merge = ""
    if received.event in {"$create_alias", "$merge_dangerously"} and properties.get("alias"):
        merge = str(properties["alias"])
    elif received.event == "$identify" and "$anon_distinct_id" in properties:
        merge = str(properties["$anon_distinct_id"])
    if received.event in _NO_PERSON_UPDATE:
        return PersonChange({}, {}, (), merge)
    unset = properties.get("$unset")
    return PersonChange(
        set=_map(properties, "$set", warnings),
        set_once=_map(properties, "$set_once", warnings),
        unset=tuple(str(key) for key in cast("list[Any]", unset)) if isinstance(unset, (list, dict)) else (),
        merge=merge,
        dangerous=received.event == "$merge_dangerously",
    )


def _map(properties: dict[str, Any], key: str, warnings: list[str]) -> dict[str, Any]:
    value = properties.get(key)
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    if value is not None:
        warnings.append(f"invalid_{key[1:]}")
    return {}
