"""What an OpenTelemetry Collector has to pass on to the gateway, as OTTL conditions.

Everything that the converter may make an event of, and as little else as OTTL can tell: tagged items, exceptions,
feature flag events, finished events of our own lane, and what the rules match. A span is passed on whole: with one of
its events goes the span, since that lends identity and place.

An earlier rule that drops keeps later rules from matching, where OTTL can say for sure that it matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_posthog.rules.engine import RuleSet
from otel_posthog.rules.ottl import FALSE, Compare, Expression, Matches, Path, either, every, negated
from otel_posthog.rules.ottl_condition import ROOTS, Bounds, all_of, of_span_kinds, present, translate
from otel_posthog.rules.rule import Rule
from otel_posthog.semconv import otel, posthog

FLAG_EVENT: Final = "feature_flag"
"""Begins the names of OpenTelemetry's feature flag events, old and new."""
FLAG_KEY: Final = "feature_flag.key"

_EXACT_TAGS: Final = (
    posthog.EVENT,
    posthog.UNSET,
    posthog.ALIAS,
    posthog.ANON_DISTINCT_ID,
    posthog.PROPERTIES_JSON,
    # `capture(…, properties={"$set": …})` of the posthog SDKs' users.
    f"{posthog.PROPERTIES}{posthog.PERSON_SET}",
    f"{posthog.PROPERTIES}{posthog.PERSON_SET_ONCE}",
    f"{posthog.PROPERTIES}{posthog.PERSON_UNSET}",
    FLAG_KEY,
)
_PREFIX_TAGS: Final = (posthog.SET, posthog.SET_ONCE, posthog.GROUP_SET)


def _tag_pattern() -> str:
    exact = "|".join(re.escape(key) for key in _EXACT_TAGS)
    prefixes = "|".join(re.escape(key) for key in _PREFIX_TAGS)
    # A key begins after a bracket or a comma of the list; a quote inside of a key stands behind a backslash.
    return rf'[\[,]"(?:(?:{exact})"|{prefixes})'


@dataclass(frozen=True, slots=True)
class Passage:
    """Why items of one kind are passed on.

    Args:
        reason: For people: what all items of this passage have in common.
        condition: OTTL.
        exact: Whether OTTL says just what is meant; else more may pass.
    """

    reason: str
    condition: Expression
    exact: bool = True


@dataclass(frozen=True, slots=True)
class CollectorFilter:
    """The conditions of some rule sets.

    Args:
        digests: Of the rule sets, without those of no rules.
        span: Any of these: the span is passed on.
        span_event: Any of these on one of its events: the same.
        log: Any of these: the log record is passed on.
    """

    digests: tuple[str, ...]
    span: tuple[Passage, ...]
    span_event: tuple[Passage, ...]
    log: tuple[Passage, ...]

    def of(self, kind: str) -> tuple[Passage, ...]:
        """The passages for `span`, `span_event` or `log`."""
        return {"span": self.span, "span_event": self.span_event, "log": self.log}[kind]

    def condition(self, kind: str) -> Expression:
        """All passages for `kind` in one."""
        return either(*(passage.condition for passage in self.of(kind)))


def collector_filter(rule_sets: Sequence[RuleSet] = ()) -> CollectorFilter:
    """The filter for items that any of `rule_sets` (of several projects, say) may make an event of."""
    passages = {
        kind: (*_built_in(kind), *(passage for rules in rule_sets for passage in _of_rules(rules.rules, kind)))
        for kind in ROOTS
    }
    digests = tuple(dict.fromkeys(rules.digest for rules in rule_sets if rules))
    return CollectorFilter(digests, **{kind: tuple(dict.fromkeys(found)) for kind, found in passages.items()})


def _built_in(kind: str) -> Iterable[Passage]:
    root = ROOTS[kind]
    yield Passage("tagged with posthog.* or a flag", Matches(Path(root, "attributes"), _tag_pattern(), keys=True))
    if kind == "span_event":
        yield Passage("exception", Compare(Path(root, "name"), "==", otel.EXCEPTION_EVENT))
        yield Passage("feature flag event", Matches(Path(root, "name"), rf"\A{FLAG_EVENT}"))
    if kind == "log":
        name = Path(root, "event_name")
        carrier = Compare(Path(root, "attributes", posthog.CARRIER), "==", posthog.CARRIER_LOG)
        yield Passage("finished event of our own lane", carrier)
        described = [
            Compare(Path(root, "attributes", key), "!=", None) for key in (otel.EXCEPTION_TYPE, otel.EXCEPTION_MESSAGE)
        ]
        named = Matches(name, rf"(\A|\.){otel.EXCEPTION_EVENT}\z")
        yield Passage("exception", either(*described, named))
        yield Passage("feature flag event", Matches(name, rf"\A{FLAG_EVENT}"))


def _of_rules(rules: Iterable[Rule], kind: str) -> Iterable[Passage]:
    waiting = [rule for rule in rules if kind in rule.kinds]
    while waiting and not waiting[0].drop:
        rule = waiting.pop(0)
        bounds = _matches(rule, kind)
        yield Passage(f"rule {rule.name!r}", bounds.over, bounds.exact)
    # From the first rule that drops on, they are one: what it surely drops none of the later ones gets.
    condition: Expression = FALSE
    exact = True
    for rule in reversed(waiting):
        bounds = _matches(rule, kind)
        exact = exact and bounds.exact
        condition = every(negated(bounds.under), condition) if rule.drop else either(bounds.over, condition)
    names = ", ".join(repr(rule.name) for rule in waiting if not rule.drop)
    if names:
        yield Passage(f"rules {names}, unless an earlier one drops it", condition, exact)


def _matches(rule: Rule, kind: str) -> Bounds:
    parts = [translate(condition, kind) for condition in rule.conditions]
    if kind == "span" and rule.span_kinds:
        parts.insert(0, of_span_kinds(rule.span_kinds))
    # A rule with a hole in the event's name does not match.
    references = rule.event.references if rule.event else ()
    found = all_of(parts)
    named = every(*(present(reference, kind).over for reference in references))
    # What is there may still have no text: good enough to pass on, not to rely on.
    return Bounds(every(found.over, named), FALSE if references else found.under)
