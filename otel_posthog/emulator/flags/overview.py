"""The flags as the page shows them: what each is, and what code was told."""

from __future__ import annotations

from typing import Any

from otel_posthog.emulator import queries
from otel_posthog.emulator.flags.model import Condition, Flag
from otel_posthog.emulator.flags.state import FlagState
from otel_posthog.emulator.store import Store


def flags_page(state: FlagState, store: Store) -> dict[str, Any]:
    """What `/api/flags` answers."""
    flags = state.current().flags
    calls = queries.flag_calls(store)
    return {
        "results": [{**_flag(flag), "calls": calls.pop(flag.key, [])} for flag in flags.values()],
        # Called by code, and not in the file: a typo, or a flag that is gone.
        "unknown": [{"key": key, "calls": rows} for key, rows in calls.items()],
        "file": state.path,
        "problem": state.problem,
    }


def _flag(flag: Flag) -> dict[str, Any]:
    return {
        "key": flag.key,
        "id": flag.id,
        "name": flag.name,
        "active": flag.active,
        "group": flag.group,
        "variants": {variant.key: variant.rollout_percentage for variant in flag.variants},
        "payloads": dict(flag.payloads),
        "conditions": [_condition(condition) for condition in flag.conditions],
        "ensure_experience_continuity": flag.ensure_experience_continuity,
        "evaluation_runtime": flag.evaluation_runtime,
        "experiment": flag.experiment,
        "owner": flag.owner,
        "expires": flag.expires,
        "version": flag.version,
    }


def _condition(condition: Condition) -> dict[str, Any]:
    demands = [
        {"key": demand.key, "operator": demand.operator, "value": demand.value} for demand in condition.properties
    ]
    return {
        "rollout_percentage": condition.rollout_percentage,
        "properties": demands,
        "cohorts": [membership.cohort.name for membership in condition.cohorts if membership.inside],
        "not_cohorts": [membership.cohort.name for membership in condition.cohorts if not membership.inside],
        "flags": {dependency.flag: dependency.value for dependency in condition.flags},
        "variant": condition.variant,
        "group": condition.group,
    }
