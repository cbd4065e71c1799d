"""Flags as PostHog serves them to SDKs that evaluate by themselves, and to its own pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_posthog.emulator.flags.model import Condition, Filter, Flag, FlagSet


def definitions(flags: FlagSet) -> dict[str, Any]:
    """The body of `/flags/definitions`: flags, group type mapping, cohorts.

    A static cohort is left out, as PostHog does: an SDK that meets it asks the flag service.
    """
    return {
        "flags": [_flag(flag, flags) for flag in flags.flags.values()],
        "group_type_mapping": {str(index): name for index, name in enumerate(flags.group_types)},
        "cohorts": {
            str(cohort.id): {
                "type": "OR",
                "values": [
                    {"type": "AND", "values": [_property(demand, "person") for demand in demands]}
                    for demands in cohort.any_of
                ],
            }
            for cohort in flags.cohorts.values()
            if cohort.members is None
        },
    }


def payload_text(value: Any) -> str | None:
    """A payload as it travels: JSON in a string."""
    return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _flag(flag: Flag, flags: FlagSet) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "groups": [_condition(condition, flag, flags) for condition in flag.conditions],
        "payloads": {name: payload_text(value) for name, value in flag.payloads.items()},
        "multivariate": {
            "variants": [
                {"key": variant.key, "name": "", "rollout_percentage": variant.rollout_percentage}
                for variant in flag.variants
            ]
        }
        if flag.variants
        else None,
    }
    if flag.group is not None:
        filters["aggregation_group_type_index"] = flags.group_types.index(flag.group)
    return {
        "id": flag.id,
        "key": flag.key,
        "name": flag.name,
        "active": flag.active,
        "deleted": False,
        "ensure_experience_continuity": flag.ensure_experience_continuity,
        "evaluation_runtime": flag.evaluation_runtime,
        "has_experiment": bool(flag.experiment),
        "version": flag.version,
        "filters": filters,
    }


def _condition(condition: Condition, flag: Flag, flags: FlagSet) -> dict[str, Any]:
    group = condition.group or flag.group
    properties = [_property(demand, "person" if group is None else "group") for demand in condition.properties]
    if group is not None:
        properties = [{**item, "group_type_index": flags.group_types.index(group)} for item in properties]
    properties += [
        {
            "key": "id",
            "type": "cohort",
            "value": membership.cohort.id,
            "operator": "in" if membership.inside else "not_in",
            "cohort_name": membership.cohort.name,
        }
        for membership in condition.cohorts
    ]
    properties += [
        {
            "key": dependency.flag,
            "type": "flag",
            "value": dependency.value,
            "operator": "flag_evaluates_to",
            "dependency_chain": [*flags.needed_by(dependency.flag), dependency.flag],
        }
        for dependency in condition.flags
    ]
    made: dict[str, Any] = {
        "properties": properties,
        "rollout_percentage": condition.rollout_percentage,
        "variant": condition.variant,
    }
    if condition.group is not None:
        made["aggregation_group_type_index"] = flags.group_types.index(condition.group)
    return made


def _property(demand: Filter, kind: str) -> Mapping[str, Any]:
    return {"key": demand.key, "value": demand.value, "operator": demand.operator, "type": kind}
