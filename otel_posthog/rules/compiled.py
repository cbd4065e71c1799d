"""One rule as code: its conditions as closures, its action as functions that fill in a `Match`."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable

from otel_posthog.model import Attributes, AttributeValue, Signal, SignalKind
from otel_posthog.rules.condition import Predicate, compile_condition, compile_flag
from otel_posthog.rules.match import Match
from otel_posthog.rules.reference import Getter
from otel_posthog.rules.rule import Condition, ListValue, Literal, Rule, Value, Values, canonical
from otel_posthog.rules.schema import SPAN_KINDS
from otel_posthog.rules.template import Template, text_renderer, value_renderer
from otel_posthog.semconv import posthog

ValuesRenderer = Callable[[Signal], dict[str, AttributeValue]]
TextRenderer = Callable[[Signal], str | None]


class CompiledRule:
    """A rule that can be applied to signals of its kind.

    Args:
        rule: The parsed rule.
    """

    __slots__ = ("_action", "_conditions", "_event", "_rule")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._conditions: tuple[Predicate, ...] = tuple(compile_condition(condition) for condition in rule.conditions)
        self._event = text_renderer(rule.event) if rule.event is not None else None
        self._action = _Action(rule)

    def apply(self, signal: Signal) -> Match | None:
        """The filled-in action if `signal` (whose kind fits) meets every condition, else None."""
        for condition in self._conditions:
            if not condition(signal):
                return None
        event = ""
        if self._event is not None:
            name = self._event(signal)
            if not name or not name.strip():
                # A name with a hole would silently be another event: the rule does not match, a later one may.
                return None
            event = name
        return self._action.fill(signal, event)


class _Action:
    def __init__(self, rule: Rule) -> None:
        self._name = rule.name
        self._on = rule.on
        self._unset = rule.unset
        self._properties = _values_renderer(rule.properties)
        self._include = _include_renderer(rule)
        self._distinct_id = _text(rule.distinct_id)
        self._set = _values_renderer(rule.set)
        self._set_once = _values_renderer(rule.set_once)
        self._groups = tuple((name, text_renderer(template)) for name, template in rule.group)
        self._group_set = tuple((name, _values_renderer(values)) for name, values in rule.group_set)
        self._alias = _text(rule.alias)
        self._anon_distinct_id = _text(rule.anon_distinct_id)
        self._drop = Match(rule=rule.name, drop=True) if rule.drop else None

    def fill(self, signal: Signal, event: str) -> Match:
        if self._drop is not None:
            return self._drop
        properties = self._properties(signal)
        if self._include is not None:
            properties = self._include(signal) | properties
        return Match(
            rule=self._name,
            on=self._on,
            event=event,
            properties=properties,
            distinct_id=self._distinct_id(signal) or "",
            set=self._set(signal),
            set_once=self._set_once(signal),
            unset=self._unset,
            groups={name: key for name, render in self._groups if (key := render(signal))},
            group_set={name: values for name, render in self._group_set if (values := render(signal))},
            alias=self._alias(signal) or "",
            anon_distinct_id=self._anon_distinct_id(signal) or "",
        )


def index_by_kind(rules: Iterable[Rule]) -> dict[str, tuple[CompiledRule, ...]]:
    """The rules for span events and for log records, in order, by the value of the kind."""
    return {
        kind.value: tuple(CompiledRule(rule) for rule in rules if kind.value in rule.kinds)
        for kind in (SignalKind.SPAN_EVENT, SignalKind.LOG)
    }


def index_by_span_kind(rules: Iterable[Rule]) -> dict[str, tuple[CompiledRule, ...]]:
    """The rules for spans of each kind, in order."""
    compiled = [(rule, CompiledRule(rule)) for rule in rules if "span" in rule.kinds]
    return {
        kind: tuple(code for rule, code in compiled if not rule.span_kinds or kind in rule.span_kinds)
        for kind in SPAN_KINDS
    }


def digest_of(rules: Iterable[Rule]) -> str:
    """Hex digest of the meaning of `rules`."""
    digest = hashlib.sha256()
    for rule in rules:
        digest.update(canonical(rule).encode() + b"\n")
    return digest.hexdigest()[:32]


def _nothing(_: Signal) -> None:
    return None


def _text(template: Template | None) -> TextRenderer:
    return text_renderer(template) if template is not None else _nothing


def _values_renderer(values: Values) -> ValuesRenderer:
    if not values:
        return lambda _: {}
    getters = tuple((name, _value_getter(value)) for name, value in values)

    def render(signal: Signal) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        for name, get in getters:
            value = get(signal)
            if value is not None:
                found[name] = value
        return found

    return render


def _value_getter(value: Value) -> Getter:
    if isinstance(value, Literal):
        constant = value.value
        return lambda _: constant
    if isinstance(value, Condition):
        return compile_flag(value)
    if isinstance(value, ListValue):
        members = tuple(_value_getter(member) for member in value.members)
        return lambda signal: [found for member in members if (found := member(signal)) is not None]
    return value_renderer(value)


def _include_renderer(rule: Rule) -> ValuesRenderer | None:
    if not rule.include:
        return None
    wanted = re.compile("|".join(fnmatch.translate(pattern) for pattern in rule.include)).match
    prefix = rule.strip_prefix

    def render(signal: Signal) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        attributes: Attributes = signal.attributes
        for key, value in attributes.items():
            # Our own tags mean something else than a property of this event.
            if value is None or key.startswith(posthog.PREFIX) or not wanted(key):
                continue
            short = key[len(prefix) :] if key.startswith(prefix) else ""
            # An attribute that has the short name itself keeps it, whatever the order.
            found[short if short and short not in attributes else key] = value
        return found

    return render
