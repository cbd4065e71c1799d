"""Rules -> `Prefilter`: what can be told of a matching item before it is read."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from otel_posthog.rules.prefilter import Narrow, Prefilter
from otel_posthog.rules.reference import attribute_key
from otel_posthog.rules.rule import Condition, Group, Rule, operands_of
from otel_posthog.rules.schema import SPAN_KINDS


def prefilter_of(rules: Iterable[Rule]) -> Prefilter:
    """The prefilter of `rules`."""
    rules = tuple(rules)
    span_rules = tuple(rule for rule in rules if "span" in rule.kinds)
    narrows = tuple((rule, _narrow(rule)) for rule in span_rules)
    kinds = [frozenset(rule.span_kinds) if rule.span_kinds else None for rule in span_rules]
    return Prefilter(
        spans=bool(span_rules),
        span_events=any("span_event" in rule.kinds for rule in rules),
        logs=any("log" in rule.kinds for rule in rules),
        start=any(rule.on == "start" for rule in rules),
        span_kinds=_union(kinds),
        names=_union([narrow.names for _, narrow in narrows]),
        scopes=_union([narrow.scopes for _, narrow in narrows]),
        any_key=_union([narrow.any_key for _, narrow in narrows]),
        by_span_kind=_by_kind(narrows),
        starts_by_span_kind=_by_kind([(rule, narrow) for rule, narrow in narrows if rule.on == "start"]),
    )


def _by_kind(narrows: Iterable[tuple[Rule, Narrow]]) -> dict[str, tuple[Narrow, ...]]:
    table: dict[str, dict[Narrow, None]] = {}
    for rule, narrow in narrows:
        for kind in rule.span_kinds or SPAN_KINDS:
            table.setdefault(kind, {})[narrow] = None
    return {kind: tuple(found) for kind, found in table.items()}


def _union(sets: list[frozenset[str] | None]) -> frozenset[str] | None:
    union: frozenset[str] = frozenset()
    for one in sets:
        if one is None:
            return None
        union |= one
    return union


def _narrow(rule: Rule) -> Narrow:
    names = scopes = keys = like = statuses = None
    # What the event's name refers to has to be there too: a rule with a hole in the name does not match.
    needed: list[frozenset[str] | None] = [_keys(fields) for fields in (rule.event.references if rule.event else ())]
    for condition in _required(rule.conditions):
        if condition.fields == ("name",):
            names = _smaller(names, _texts(condition))
            like = like or _pattern(condition)
        elif condition.fields == ("scope.name",):
            scopes = _smaller(scopes, _texts(condition))
        elif condition.fields == ("status",):
            statuses = _smaller(statuses, _texts(condition))
        elif _needs_value(condition):
            needed.append(_keys(condition.fields))
    for found in needed:
        keys = _smaller(keys, found)
    return Narrow(names, scopes, keys, like if names is None else None, statuses)


def _required(conditions: Iterable[Condition | Group]) -> Iterable[Condition]:
    """The conditions that must hold one by one; `any` and `none` say nothing about a single one."""
    for condition in conditions:
        if isinstance(condition, Condition):
            yield condition
        elif condition.how == "all":
            yield from _required(condition.members)


def _texts(condition: Condition) -> frozenset[str] | None:
    """The only texts that the field can have, if the condition names them."""
    for check in condition.checks:
        operands = (check.operand,) if check.operator == "equals" else check.operand
        # An operand that is no text equals the text that spells it (`name: 200`): not worth narrowing.
        if check.operator in ("equals", "one_of") and all(isinstance(operand, str) for operand in operands):
            return frozenset(operands)
    return None


def _pattern(condition: Condition) -> re.Pattern[str] | None:
    """A pattern that is found in every text that the condition takes, if it has one."""
    for check in condition.checks:
        if check.operator == "glob":
            return re.compile(rf"\A(?:{'|'.join(fnmatch.translate(glob) for glob in operands_of(check))})")
        if check.operator == "regex":
            return re.compile(check.operand)
    return None


def _needs_value(condition: Condition) -> bool:
    """Whether some check fails where the field is missing."""
    return any(
        check.operand is True if check.operator == "exists" else not check.operator.startswith("not_")
        for check in condition.checks
    )


def _keys(fields: tuple[str, ...]) -> frozenset[str] | None:
    """The attribute keys of which one must be there, or None where something else may serve as well."""
    keys = [attribute_key(reference) for reference in fields]
    return frozenset(key for key in keys if key is not None) if None not in keys else None


def _smaller(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    if one is None or other is None:
        return other if one is None else one
    return one if len(one) <= len(other) else other
