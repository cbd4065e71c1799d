"""The value of each flag for somebody, and why: the order, the hashes and the reasons of PostHog's flag service."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from otel_posthog.emulator.flags.model import Condition, Dependency, Flag, FlagSet, FlagValue, Membership
from otel_posthog.emulator.flags.operators import meets

_LONG_SCALE: Final = float(0xFFFFFFFFFFFFFFF)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

MATCH: Final = "condition_match"
NO_MATCH: Final = "no_condition_match"
OUT_OF_ROLLOUT: Final = "out_of_rollout_bound"
NO_GROUP: Final = "no_group_type"
# The most telling of the reasons why nothing matched is the one that is given.
_RANK: Final = {NO_GROUP: 1, NO_MATCH: 2, OUT_OF_ROLLOUT: 3, MATCH: 4}
_DESCRIPTIONS: Final = {
    NO_MATCH: "No matching condition set",
    OUT_OF_ROLLOUT: "Out of rollout bound",
    NO_GROUP: "No group type",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom the flags are evaluated for.

    Args:
        distinct_id: The person, and what is hashed for them.
        properties: Of the person.
        groups: Key of the group by its type.
        group_properties: Properties by group type.
        hash_keys: What is hashed in place of `distinct_id`, by flag: experience continuity.
    """

    distinct_id: str
    properties: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType[str, str]({}))
    group_properties: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType[str, Mapping[str, Any]]({})
    )
    hash_keys: Mapping[str, str] = field(default_factory=lambda: MappingProxyType[str, str]({}))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The value of one flag.

    Args:
        flag: The flag.
        value: False, True, or the key of a variant.
        reason: PostHog's code.
        condition_index: The condition that decided, or came closest.
        description: The reason for people.
    """

    flag: Flag
    value: FlagValue
    reason: str
    condition_index: int | None
    description: str

    @property
    def payload(self) -> Any:
        """The payload of this value; None for none, and for a flag that is off."""
        return None if self.value is False else self.flag.payloads.get("true" if self.value is True else self.value)


def bucket(key: str, identifier: str, salt: str = "") -> float:
    """Where somebody stands between 0 and 1 for one flag: PostHog's hash, the same in its service and its SDKs.

    Args:
        key: Of the flag.
        identifier: Distinct id, group key, or hash key.
        salt: `variant` for the choice of the variant.
    """
    digest = hashlib.sha1(f"{key}.{identifier}{salt}".encode("utf-8", "surrogatepass"), usedforsecurity=False)
    return int(digest.hexdigest()[:15], 16) / _LONG_SCALE


def variant_of(flag: Flag, identifier: str) -> str | None:
    """The variant for an identifier; None where the flag has none, or their shares do not reach it."""
    position = bucket(flag.key, identifier, "variant")
    reached = 0.0
    for variant in flag.variants:
        reached += variant.rollout_percentage / 100
        if position < reached:
            return variant.key
    return None


def evaluate(flags: FlagSet, keys: Iterable[str], subject: Subject, now: datetime) -> dict[str, Outcome]:
    """The value of each flag in `keys` that is active.

    Args:
        flags: All flags: what a flag depends on is looked up here.
        keys: Which to evaluate; unknown ones are left out.
        subject: For whom.
        now: Where relative dates start.
    """
    run = _Run(flags, subject, now)
    return {key: run.outcome(flags.flags[key]) for key in keys if key in flags.flags and flags.flags[key].active}


class _Run:
    """One evaluation: what other flags depend on is evaluated once."""

    def __init__(self, flags: FlagSet, subject: Subject, now: datetime) -> None:
        self._flags = flags
        self._subject = subject
        self._now = now
        self._done: dict[str, Outcome] = {}

    def outcome(self, flag: Flag) -> Outcome:
        if flag.key not in self._done:
            self._done[flag.key] = self._evaluate(flag)
        return self._done[flag.key]

    def _evaluate(self, flag: Flag) -> Outcome:
        best, where, skipped = NO_GROUP, None, False
        for index, condition in enumerate(flag.conditions):
            group = condition.group or flag.group
            identifier = self._identifier(flag, group)
            if identifier is None:
                reason, skipped = NO_GROUP, True
            elif not self._meets(condition, group):
                reason = NO_MATCH
            elif bucket(flag.key, identifier) <= condition.rollout_percentage / 100:
                value = condition.variant or variant_of(flag, identifier) or True
                return Outcome(flag, value, MATCH, index, f"Matched condition set {index + 1}")
            else:
                reason = OUT_OF_ROLLOUT
            if _RANK[reason] >= _RANK[best]:
                best, where = reason, index
        description = _DESCRIPTIONS[best]
        if best == NO_MATCH and skipped:
            description += " (group conditions were not evaluated because no group type was provided)"
        return Outcome(flag, False, best, where, description)

    def _identifier(self, flag: Flag, group: str | None) -> str | None:
        if group is None:
            return self._subject.hash_keys.get(flag.key, self._subject.distinct_id)
        return self._subject.groups.get(group) or None

    def _meets(self, condition: Condition, group: str | None) -> bool:
        properties = self._subject.properties if group is None else self._subject.group_properties.get(group, _NOTHING)
        return (
            all(self._has(dependency) for dependency in condition.flags)
            and all(meets(demand, properties, self._now) for demand in condition.properties)
            and all(self._belongs(membership) for membership in condition.cohorts)
        )

    def _has(self, dependency: Dependency) -> bool:
        flag = self._flags.flags[dependency.flag]
        value = self.outcome(flag).value if flag.active else False
        if isinstance(value, str) and isinstance(dependency.value, bool):
            return dependency.value
        return value == dependency.value

    def _belongs(self, membership: Membership) -> bool:
        cohort, subject = membership.cohort, self._subject
        if cohort.members is not None:
            inside = subject.distinct_id in cohort.members
        else:
            inside = any(
                all(meets(demand, subject.properties, self._now) for demand in demands) for demands in cohort.any_of
            )
        return inside == membership.inside
