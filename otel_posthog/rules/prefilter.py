"""`Prefilter`: a cheap necessary condition, for the request thread.

`RuleSet.match` wants a whole Signal, which costs microseconds to build. Most spans cannot match any rule, and that can
be told from the live span's kind, name, scope and attribute keys. Necessary, never sufficient: what `match` matches
always passes; what passes need not match.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_posthog.rules.reference import attribute_key
from otel_posthog.rules.rule import Condition, Group, Rule
from otel_posthog.rules.schema import SPAN_KINDS

_FEW = 4


@dataclass(frozen=True, slots=True)
class Narrow:
    """What one rule needs of a span; None where it cannot be narrowed.

    Args:
        names: The span's name is one of these.
        scopes: The scope's name is one of these.
        any_key: At least one of these attribute keys is there.
    """

    names: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    any_key: frozenset[str] | None = None

    def admits(self, name: str, scope: str, attributes: Mapping[str, Any]) -> bool:
        """Whether a span with these may match."""
        if self.names is not None and name not in self.names:
            return False
        if self.scopes is not None and scope not in self.scopes:
            return False
        keys = self.any_key
        if keys is None:
            return True
        if len(keys) > _FEW:
            return not keys.isdisjoint(attributes)
        # A few probes are cheaper than walking all attributes, which is what isdisjoint() does with a mapping.
        for key in keys:  # noqa: SIM110 # any() costs a generator on the request thread
            if key in attributes:
                return True
        return False


@dataclass(frozen=True, slots=True)
class Prefilter:
    """What a rule set needs of an item at the least; None means "cannot be narrowed".

    The flat fields speak of spans and are unions over all rules on spans; `span()` is sharper, since it goes rule by
    rule. A span also has to be handed over when it has span events and `span_events` is set.

    Args:
        spans: Some rule is about spans.
        span_events: Some rule is about span events.
        logs: Some rule is about log records.
        start: Some rule fires at the start of a span.
        span_kinds: Kinds of span that a rule is about.
        names: Names of span that a rule is about.
        scopes: Scope names that a rule is about.
        any_key: Attribute keys of which a span must have at least one.
        by_span_kind: Span kind -> needs of each rule; a kind that no rule is about is not there.
        starts_by_span_kind: The same for rules that fire at the start.
    """

    spans: bool = False
    span_events: bool = False
    logs: bool = False
    start: bool = False
    span_kinds: frozenset[str] | None = frozenset()
    names: frozenset[str] | None = frozenset()
    scopes: frozenset[str] | None = frozenset()
    any_key: frozenset[str] | None = frozenset()
    by_span_kind: Mapping[str, tuple[Narrow, ...]] = field(default_factory=dict[str, tuple[Narrow, ...]])
    starts_by_span_kind: Mapping[str, tuple[Narrow, ...]] = field(default_factory=dict[str, tuple[Narrow, ...]])

    def span(self, span_kind: str, name: str, scope: str, attributes: Mapping[str, Any]) -> bool:
        """Whether an ended span may match a rule. `attributes` is only asked for keys."""
        for narrow in self.by_span_kind.get(span_kind, ()):  # noqa: SIM110 # as in Narrow.admits
            if narrow.admits(name, scope, attributes):
                return True
        return False

    def span_start(self, span_kind: str, name: str, scope: str, attributes: Mapping[str, Any]) -> bool:
        """Whether a span that has just started may match a rule with `on: start`."""
        for narrow in self.starts_by_span_kind.get(span_kind, ()):  # noqa: SIM110 # as in Narrow.admits
            if narrow.admits(name, scope, attributes):
                return True
        return False


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
    names = scopes = keys = None
    # What the event's name refers to has to be there too: a rule with a hole in the name does not match.
    needed: list[frozenset[str] | None] = [_keys(fields) for fields in (rule.event.references if rule.event else ())]
    for condition in _required(rule.conditions):
        if condition.fields == ("name",):
            names = _smaller(names, _texts(condition))
        elif condition.fields == ("scope.name",):
            scopes = _smaller(scopes, _texts(condition))
        elif _needs_value(condition):
            needed.append(_keys(condition.fields))
    for found in needed:
        keys = _smaller(keys, found)
    return Narrow(names, scopes, keys)


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
