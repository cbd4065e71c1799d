"""What a flag is: PostHog's own model, with names in place of its numeric ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

FlagValue = bool | str

MAX_GROUP_TYPES = 5


@dataclass(frozen=True, slots=True)
class Filter:
    """One demand on one property.

    Args:
        key: Name of the property.
        operator: One of `operators.OPERATORS`.
        value: What it is compared with; a list for "any of these" where the operator is `exact` or `is_not`.
    """

    key: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Cohort:
    """A named set of people.

    Args:
        name: Its name in the file.
        id: The number under which it is served.
        any_of: Somebody belongs to it whose properties meet all demands of one of these.
        members: Distinct ids of a static cohort, None for one by properties.
    """

    name: str
    id: int
    any_of: tuple[tuple[Filter, ...], ...] = ()
    members: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """The demand to be in a cohort, or not to be."""

    cohort: Cohort
    inside: bool = True


@dataclass(frozen=True, slots=True)
class Dependency:
    """The demand that another flag has a value; True is met by any variant."""

    flag: str
    value: FlagValue


@dataclass(frozen=True, slots=True)
class Condition:
    """One release condition: everybody who meets all demands, up to a percentage.

    Args:
        properties: Demands on the person, or on the group.
        cohorts: Demands on membership.
        flags: Demands on other flags.
        rollout_percentage: Of those who meet them, 0 to 100.
        variant: Served in place of the one that the hash gives.
        group: The condition is about groups of this type; None for people.
    """

    properties: tuple[Filter, ...] = ()
    cohorts: tuple[Membership, ...] = ()
    flags: tuple[Dependency, ...] = ()
    rollout_percentage: float = 100.0
    variant: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant and its share, 0 to 100."""

    key: str
    rollout_percentage: float


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Args:
        key: What code asks for.
        id: Number under which it is served.
        conditions: The first that is met decides.
        name: A description for people.
        active: PostHog leaves a flag that is not out of its answers.
        variants: Empty for a flag that is only on or off.
        payloads: JSON by variant, or by `true`.
        group: The whole flag is about groups of this type.
        ensure_experience_continuity: A visitor keeps the value after the log-in.
        evaluation_runtime: `all`, `client` or `server`.
        experiment: Name of the experiment that it belongs to; "" for none.
        owner: Who looks after it.
        expires: When it should be gone, an ISO date.
        version: Served as it is.
    """

    key: str
    id: int
    conditions: tuple[Condition, ...]
    name: str = ""
    active: bool = True
    variants: tuple[Variant, ...] = ()
    payloads: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType[str, Any]({}))
    group: str | None = None
    ensure_experience_continuity: bool = False
    evaluation_runtime: str = "all"
    experiment: str = ""
    owner: str = ""
    expires: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class FlagSet:
    """All flags of a project.

    Args:
        flags: By key, in the order of the file.
        cohorts: By name.
        group_types: The position is PostHog's group type index.
    """

    flags: Mapping[str, Flag] = field(default_factory=lambda: MappingProxyType[str, Flag]({}))
    cohorts: Mapping[str, Cohort] = field(default_factory=lambda: MappingProxyType[str, Cohort]({}))
    group_types: tuple[str, ...] = ()

    def needed_by(self, key: str) -> tuple[str, ...]:
        """The flags that the value of `key` rests on, each after those that it rests on itself; without `key`."""
        chain: dict[str, None] = {}

        def walk(name: str) -> None:
            for condition in self.flags[name].conditions:
                for dependency in condition.flags:
                    if dependency.flag not in chain:
                        walk(dependency.flag)
                        chain[dependency.flag] = None

        walk(key)
        return tuple(chain)
