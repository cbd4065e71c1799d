"""A flags file -> `FlagSet`. Everything that is wrong is said at once, each with file, line, key and the way out.

For example:

    group_types: [company]
    cohorts:
      team: {any: [{email: {ends_with: "@example.com"}}]}
      testers: {distinct_ids: [ada, grace]}
    flags:
      new-checkout: {rollout_percentage: 25, payload: {steps: 2}, owner: payments, expires: 2027-01-31}
      dark-mode: true
      button-colour:
        variants: {control: 50, green: 50}
        payloads: {green: {hex: "#0a0"}}
        experiment: Button colour
        conditions:
          - cohorts: [team]
            variant: green
          - properties: {plan: [pro, team], seats: {gte: 5}}
            flags: {new-checkout: true}
            rollout_percentage: 50
      seats-v2:
        group: company
        conditions: [{properties: {plan: enterprise}}]
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from types import MappingProxyType
from typing import Any, Final, cast

from otel_posthog.config.values import shown
from otel_posthog.emulator.flags.chains import MAX_CHAIN, bad_chain
from otel_posthog.emulator.flags.checked import Checked
from otel_posthog.emulator.flags.definitions import definitions
from otel_posthog.emulator.flags.model import (
    MAX_GROUP_TYPES,
    Cohort,
    Condition,
    Dependency,
    Filter,
    Flag,
    FlagSet,
    FlagValue,
    Membership,
    Variant,
)
from otel_posthog.emulator.flags.operands import is_date, operand_problem
from otel_posthog.emulator.flags.operators import OPERATORS, PRESENCE
from otel_posthog.errors import ConfigError
from otel_posthog.rules.at import At
from otel_posthog.rules.document import Entry, Node, parse_document, read_document

ROOT_KEYS: Final = ("flags", "group_types", "cohorts")
FLAG_KEYS: Final = (
    "name", "active", "rollout_percentage", "variants", "payload", "payloads", "conditions", "group",
    "ensure_experience_continuity", "evaluation_runtime", "experiment", "owner", "expires", "id", "version",
)  # fmt: skip
CONDITION_KEYS: Final = (
    "properties", "cohorts", "not_cohorts", "flags", "rollout_percentage", "variant", "group",
)  # fmt: skip
COHORT_KEYS: Final = ("any", "distinct_ids")
RUNTIMES: Final = ("all", "client", "server")

_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,400}\Z")
_WHAT: Final = "flags file"
_EVERYBODY: Final = (Condition(),)


class FlagsError(ConfigError):
    """A flags file cannot be used.

    Args:
        errors: Everything that is wrong with it; not empty.
    """

    def __init__(self, errors: list[ConfigError]) -> None:
        self.errors = tuple(errors)
        Exception.__init__(self, "\n".join(str(error) for error in errors))
        self.key, self.source, self.hint = errors[0].key, errors[0].source, errors[0].hint


def load_flags(path: str) -> FlagSet:
    """The flags of a YAML file.

    Raises:
        FlagsError: It cannot be read, or used.
    """
    try:
        root, _ = read_document(path, what=_WHAT, hint="Mend the path")
    except ConfigError as error:
        raise FlagsError([error]) from None
    return _Reader(path).flags(At(root, "", root.line))


def parse_flags(text: bytes, name: str) -> FlagSet:
    """The flags of YAML or JSON text.

    Args:
        text: UTF-8.
        name: What to call it in messages.

    Raises:
        FlagsError: It cannot be used.
    """
    try:
        root, _ = parse_document(text, name, what=_WHAT)
    except ConfigError as error:
        raise FlagsError([error]) from None
    return _Reader(name).flags(At(root, "", root.line))


def flags_of(document: Mapping[str, Any]) -> FlagSet:
    """The flags of a mapping as the file would hold it.

    Raises:
        FlagsError: It cannot be used.
    """
    try:
        plain = json.loads(json.dumps(document, default=_json_of, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise FlagsError([ConfigError(f"they are not JSON: {error}", source="flags")]) from None
    return _Reader("flags").flags(At(_node(plain), "", 0))


def _json_of(value: object) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    raise TypeError(f"no place for a {type(value).__name__}")


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({key: Entry(0, _node(item)) for key, item in cast("dict[str, Any]", value).items()})
    if isinstance(value, list):
        return Node([_node(item) for item in cast("list[Any]", value)])
    return Node(value)


def _plain(node: Node) -> Any:
    if node.mapping is not None:
        return {key: _plain(entry.node) for key, entry in node.mapping.items()}
    if node.sequence is not None:
        return [_plain(member) for member in node.sequence]
    return node.value


class _Reader(Checked):
    """One file; the complaints are raised at the end."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self._group_types: tuple[str, ...] = ()
        self._cohorts: dict[str, Cohort] = {}

    def flags(self, root: At) -> FlagSet:
        entries = {} if root.node.value is None else self.table(root, ROOT_KEYS, "Write `flags:` with a key for each")
        if "group_types" in entries:
            self._group_types = self.names(entries["group_types"])
            if len(self._group_types) > MAX_GROUP_TYPES:
                self.wrong("PostHog has at most five group types in a project", entries["group_types"], "Remove some")
        if "cohorts" in entries:
            for name, at in self.entries(entries["cohorts"], "Write a name for each cohort").items():
                self._cohorts[name] = self._cohort(name, len(self._cohorts) + 1, at)
        listed = self.entries(entries["flags"], "Write a key for each flag") if "flags" in entries else {}
        flags = {key: self._flag(key, index, at) for index, (key, at) in enumerate(listed.items(), start=1)}
        self._check_dependencies(flags, listed)
        self._check_ids(flags, listed)
        if self.found:
            raise FlagsError(self.found)
        made = FlagSet(MappingProxyType(flags), MappingProxyType(self._cohorts), self._group_types)
        try:
            json.dumps(definitions(made), allow_nan=False)
        except ValueError:
            raise FlagsError([ConfigError("it holds a number beyond JSON's, like 1e999", source=self.file)]) from None
        return made

    # --- one flag --------------------------------------------------------------------------------------------------

    def _flag(self, key: str, index: int, at: At) -> Flag:
        if not _KEY.match(key):
            self.wrong("a flag's key has letters, digits, `-` and `_` alone", at, f"Rename {shown(key)}")
        short: object = at.node.value
        if isinstance(short, bool):
            return Flag(key, index, (Condition(rollout_percentage=100.0 if short else 0.0),))
        if isinstance(short, str):
            return Flag(key, index, _EVERYBODY, variants=(Variant(short, 100.0),))
        hint = "Write `true`, `false`, the name of a variant, or a mapping such as `{rollout_percentage: 25}`"
        entries = self.table(at, FLAG_KEYS, hint)
        variants = self._variants(entries["variants"]) if "variants" in entries else ()
        group = self._group(entries["group"]) if "group" in entries else None
        runtime = self.text(entries, "evaluation_runtime") or "all"
        if runtime not in RUNTIMES:
            self.wrong(f"{shown(runtime)} is no runtime", entries["evaluation_runtime"], "One of all, client, server")
        expires = self.text(entries, "expires")
        if expires and not is_date(expires):
            self.wrong(f"{shown(expires)} is no date", entries["expires"], "Write it as 2027-01-31")
        return Flag(
            key,
            self.whole(entries, "id", index),
            self._conditions(entries, [variant.key for variant in variants], group),
            name=self.text(entries, "name"),
            active=self.switch(entries, "active", default=True),
            variants=variants,
            payloads=MappingProxyType(self._payloads(entries, variants)),
            group=group,
            ensure_experience_continuity=self._continuity(entries, group),
            evaluation_runtime=runtime,
            experiment=self.text(entries, "experiment"),
            owner=self.text(entries, "owner"),
            expires=expires,
            version=self.whole(entries, "version", 1),
        )

    def _variants(self, at: At) -> tuple[Variant, ...]:
        made: list[Variant] = []
        for key, share in self.entries(at, "Write each variant with its share: `{control: 50, test: 50}`").items():
            if not key.strip():
                self.wrong("a variant has no name", share, "Name it")
            made.append(Variant(key, self.percentage(share)))
        total = sum(variant.rollout_percentage for variant in made)
        if made and abs(total - 100) > 0.01:
            self.wrong(f"the shares of the variants make {total:g} %", at, "Make them 100 % together")
        return tuple(made)

    def _payloads(self, entries: dict[str, At], variants: tuple[Variant, ...]) -> dict[str, Any]:
        names = [variant.key for variant in variants]
        made: dict[str, Any] = {}
        if "payload" in entries:
            if names:
                hint = f"Write `payloads:` with {', '.join(names)}"
                self.wrong("this flag has variants, and each has its own payload", entries["payload"], hint)
            made["true"] = _plain(entries["payload"].node)
        if "payloads" in entries and not names:
            self.wrong("this flag has no variants", entries["payloads"], "Write `payload:`, which is for true")
        elif "payloads" in entries:
            for name, at in self.entries(entries["payloads"], "Write the payload of each variant").items():
                if name not in names:
                    self.unknown("variant", name, names, at)
                made[name] = _plain(at.node)
        return made

    def _continuity(self, entries: dict[str, At], group: str | None) -> bool:
        given = self.switch(entries, "ensure_experience_continuity", default=False)
        if given and group is not None:
            at = entries["ensure_experience_continuity"]
            self.wrong("groups do not log in", at, "Remove it, or remove `group`")
        return given

    # --- conditions ------------------------------------------------------------------------------------------------

    def _conditions(self, entries: dict[str, At], variants: list[str], group: str | None) -> tuple[Condition, ...]:
        if "conditions" not in entries:
            everybody = entries.get("rollout_percentage")
            return (Condition(rollout_percentage=self.percentage(everybody)),) if everybody else _EVERYBODY
        if "rollout_percentage" in entries:
            hint = "Write it in each condition"
            self.wrong("stands beside `conditions`", entries["rollout_percentage"], hint)
        at = entries["conditions"]
        members = self.members(at, "Write a list of conditions, each with a `-`")
        if at.node.sequence == []:
            self.wrong("there is none, so that nobody would get the flag", at, "Remove the key for everybody")
        return tuple(self._condition(member, variants, group) for member in members)

    def _condition(self, at: At, variants: list[str], flag_group: str | None) -> Condition:
        entries = self.table(at, CONDITION_KEYS, "Write a mapping such as `{properties: {plan: pro}}`")
        group = self._group(entries["group"]) if "group" in entries else None
        if group is not None and flag_group is not None:
            self.wrong(f"the whole flag is about {shown(flag_group)} already", entries["group"], "Remove one of them")
        variant = self.text(entries, "variant") or None
        if variant is not None and variant not in variants:
            self.unknown("variant", variant, variants, entries["variant"])
        memberships: list[Membership] = []
        for key, inside in (("cohorts", True), ("not_cohorts", False)):
            if key not in entries:
                continue
            if group or flag_group:
                self.wrong("a cohort is of people, this condition about groups", entries[key], "Remove it")
            for member in self.members(entries[key], "Write a list of cohorts"):
                name: object = member.node.value
                if isinstance(name, str) and name in self._cohorts:
                    memberships.append(Membership(self._cohorts[name], inside))
                else:
                    self.unknown("cohort", str(name), list(self._cohorts), member)
        dependencies: list[Dependency] = []
        if "flags" in entries:
            for key, wanted in self.entries(entries["flags"], "Write `{other-flag: true}`").items():
                value: object = wanted.node.value
                if isinstance(value, (bool, str)):
                    dependencies.append(Dependency(key, value))
                else:
                    self.wrong("is no value of a flag", wanted, "Write `true`, `false` or the name of a variant")
        return Condition(
            self._properties(entries["properties"]) if "properties" in entries else (),
            tuple(memberships),
            tuple(dependencies),
            self.percentage(entries["rollout_percentage"]) if "rollout_percentage" in entries else 100.0,
            variant,
            group,
        )

    def _cohort(self, name: str, number: int, at: At) -> Cohort:
        entries = self.table(at, COHORT_KEYS, "Write `any:` with properties, or `distinct_ids:`")
        if len(entries) != 1:
            self.wrong("needs exactly one of `any` and `distinct_ids`", at, "Write people by property, or by id")
        if "distinct_ids" in entries:
            return Cohort(name, number, members=frozenset(self.names(entries["distinct_ids"])))
        alternatives = self.members(entries["any"], "Write a list of property maps") if "any" in entries else []
        return Cohort(name, number, tuple(self._properties(member) for member in alternatives))

    def _properties(self, at: At) -> tuple[Filter, ...]:
        hint = "Write `{plan: pro}`, `{plan: [pro, team]}` or `{seats: {gte: 5}}`"
        return tuple(
            demand
            for key, value in self.entries(at, hint).items()
            for demand in (self._demands(key, value) if value.node.mapping is not None else [self._equal(key, value)])
        )

    def _equal(self, key: str, at: At) -> Filter:
        if at.node.value is None:
            self.wrong("has no value", at, "Write the value, or `{is_set: true}`")
        return Filter(key, "exact", _plain(at.node))

    def _demands(self, key: str, at: At) -> list[Filter]:
        made: list[Filter] = []
        for operator, value in self.entries(at, "Write an operator").items():
            if operator not in OPERATORS:
                self.unknown("operator", operator, list(OPERATORS), value)
            elif operator in PRESENCE:
                if value.node.value is not True:
                    other = PRESENCE[1 - PRESENCE.index(operator)]
                    self.wrong("takes `true`", value, f"Write `{operator}: true`, or `{other}: true`")
                made.append(Filter(key, operator, operator))
            else:
                problem = operand_problem(operator, _plain(value.node))
                if problem:
                    self.wrong(problem[0], value, problem[1])
                made.append(Filter(key, operator, _plain(value.node)))
        if not made and not self.found:
            self.wrong("has no operator", at, f"One of {', '.join(OPERATORS)}")
        return made

    def _group(self, at: At) -> str | None:
        name: object = at.node.value
        if isinstance(name, str) and name in self._group_types:
            return name
        close = f"Known: {', '.join(self._group_types)}. " if self._group_types else ""
        self.wrong(f"unknown group type {shown(name)}", at, f"{close}Add it to `group_types:` at the top of the file")
        return None

    # --- the whole -------------------------------------------------------------------------------------------------

    def _check_dependencies(self, flags: dict[str, Flag], listed: dict[str, At]) -> None:
        needs: dict[str, list[str]] = {}
        for key, flag in flags.items():
            needs[key] = []
            for condition in flag.conditions:
                for dependency in condition.flags:
                    other = flags.get(dependency.flag)
                    if other is None:
                        self.unknown("flag", dependency.flag, [name for name in flags if name != key], listed[key])
                        continue
                    needs[key].append(dependency.flag)
                    value, variants = dependency.value, [variant.key for variant in other.variants]
                    if isinstance(value, str) and value not in variants:
                        self.unknown(f"variant of `{other.key}`", value, variants, listed[key])
        chain = bad_chain(needs)
        if chain and chain[0] == chain[-1]:
            self.wrong(f"these flags depend on each other: {' → '.join(chain)}", listed[chain[0]], "Break the circle")
        elif chain:
            self.wrong(f"rests on more than {MAX_CHAIN} flags in a row", listed[chain[0]], "Shorten the chain")

    def _check_ids(self, flags: dict[str, Flag], listed: dict[str, At]) -> None:
        seen: dict[int, str] = {}
        for key, flag in flags.items():
            if flag.id in seen:
                hint = "Give ids to all flags, or to none"
                self.wrong(f"has the id {flag.id} of `{seen[flag.id]}`", listed[key], hint)
            seen.setdefault(flag.id, key)


__all__ = ["FlagValue", "FlagsError", "flags_of", "load_flags", "parse_flags"]
