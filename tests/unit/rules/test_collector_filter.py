"""What a Collector passes on is everything that may become an event: never too little, seldom too much."""

from __future__ import annotations

import fnmatch
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.converter import Converter
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.rules.collector_filter import CollectorFilter, collector_filter
from otel_posthog.rules.condition import compile_condition
from otel_posthog.rules.load import builtin_rules, parse_text
from otel_posthog.rules.ottl import FALSE, TRUE, Compare, Matches, Path, either, every, literal, negated
from otel_posthog.rules.ottl_condition import translate
from otel_posthog.rules.ottl_pattern import glob_pattern, narrower, wider
from tests.fixtures.filter_cases import GLOBS, PATTERNS, TEXTS, logs, rule_sets, spans
from tests.fixtures.ottl_reading import OttlError, _re2, evaluate

ITEMS = st.one_of(spans(), logs())
NO_RULES = collector_filter()


def passes(found: CollectorFilter, signals: list[Signal]) -> bool:
    """Whether a Collector with this filter passes the span or log record on."""
    for signal in signals:
        if signal.kind is SignalKind.SPAN_EVENT:
            # Each passage is a statement of its own; one that fails marks nothing.
            if any(_holds(passage.condition, signal, failed=False) for passage in found.span_event):
                return True
        elif _holds(found.condition(signal.kind.value), signal, failed=True):
            return True
    return False


def _holds(condition: object, signal: Signal, *, failed: bool) -> bool:
    try:
        return evaluate(condition, signal)  # type: ignore[arg-type]
    except OttlError:
        return failed


@given(rule_sets(), st.lists(ITEMS, min_size=1, max_size=4))
@settings(max_examples=150)
def test_what_becomes_an_event_is_passed_on(rules: RuleSet, items: list[list[Signal]]) -> None:
    """Whatever the rules and the telemetry: no item that the converter makes an event of stays behind."""
    found = collector_filter([rules])
    converter = Converter(ConvertConfig(), rules)
    for signals in items:
        if any(converter.convert(signal).events for signal in signals):
            assert passes(found, signals), signals


@given(rule_sets(), ITEMS)
@settings(max_examples=150)
def test_bounds_enclose_the_condition(rules: RuleSet, signals: list[Signal]) -> None:
    """What a condition holds for, `over` holds for; what `under` holds for, the condition does. Neither ever fails."""
    for rule in rules.rules:
        for condition in rule.conditions:
            holds = compile_condition(condition)
            for signal in signals:
                bounds = translate(condition, signal.kind.value)
                found = evaluate(bounds.over, signal), holds(signal), evaluate(bounds.under, signal)
                assert sorted(found, reverse=True) == list(found), (condition, str(bounds.over), str(bounds.under))


@given(st.sampled_from([*PATTERNS, *map(glob_pattern, GLOBS)]), st.sampled_from(TEXTS) | st.text(max_size=12))
@settings(max_examples=200)
def test_patterns_enclose_the_pattern(pattern: str, text: str) -> None:
    """A translated pattern is found wherever the original is, and its narrower twin nowhere else."""
    if re.search("[ſKéÉ]", text):
        return  # letters that fold in RE2 as in Python, but not in the reading of it
    found = re.search(pattern, text) is not None
    assert (_re2(wider(pattern).text).search(text) is not None) >= found
    narrow = narrower(pattern)
    assert narrow is None or found >= (_re2(narrow.text).search(text) is not None)


def span(name: str = "span", **attributes: object) -> Signal:
    """A plain span."""
    return Signal(kind=SignalKind.SPAN, name=name, attributes=attributes, resource=Resource(), scope=Scope())


def log(name: str = "", **attributes: object) -> Signal:
    """A plain log record."""
    return Signal(kind=SignalKind.LOG, name=name, attributes=attributes, resource=Resource(), scope=Scope())


def event(name: str, **attributes: object) -> list[Signal]:
    """A plain span with one event."""
    owner = span()
    own = Signal(SignalKind.SPAN_EVENT, name, attributes, owner.resource, owner.scope, span=owner)
    return [owner, own]


@pytest.mark.parametrize(
    "signals",
    [
        [span(**{"posthog.event": "paid"})],
        [span(**{"posthog.set.plan": "pro"})],
        [span(**{"posthog.group_set.company.size": 3})],
        [span(**{"posthog.properties.$set": "{}"})],
        [log(**{"posthog.carrier": "log"})],
        [log(**{"exception.type": "ValueError"})],
        [log(**{"exception.message": "no"})],
        [log("app.exception")],
        [log("feature_flag.evaluation")],
        event("exception"),
        event("feature_flag"),
        event("note", **{"posthog.event": "paid"}),
        event("note", **{"feature_flag.key": "new"}),
    ],
)
def test_without_rules_tags_exceptions_and_flags_pass(signals: list[Signal]) -> None:
    """Each kind of product data is passed on without any rule."""
    assert passes(NO_RULES, signals)


@pytest.mark.parametrize(
    "signals",
    [
        [span(**{"http.method": "GET"})],
        # Identity alone is stamped on every span of a process.
        [span(**{"posthog.distinct_id": "u1", "posthog.session_id": "s", "posthog.groups.company": "c"})],
        [span(**{"posthog.properties.plan": "pro", "posthog.carrier": "bridge:ab"})],
        [span("exception")],
        [span(**{"exposthog.event": "x", "posthog.eventual": "y", 'a"posthog.event': "z"})],
        [log("an exceptional day"), log(severity="error")],
        event("message", **{"message.id": 1}),
    ],
)
def test_without_rules_the_rest_stays(signals: list[Signal]) -> None:
    """Telemetry that nothing asks for is not passed on, and neither is identity that asks for nothing."""
    assert not passes(NO_RULES, signals)


RULES = parse_text(
    """
rules:
  - name: paid
    match: {name: "POST /pay", resource: {service.name: [shop, till]}, status: ok}
    capture: order paid
  - name: noise
    match: {kind: [span, log], attributes: {test: true}}
    drop: true
  - name: slow
    match: {span_kind: server, all: [{field: duration_ms, gte: 1000}, {field: tenant, not_equals: demo}]}
    capture: "slow {http.route}"
  - name: warned
    match: {kind: log, severity: {gte: warn}, body: {regex: "^card \\\\d+ declined$"}}
    capture: declined
"""
)


def test_the_conditions_are_as_written() -> None:
    """The whole filter of a rules file: tags first, each rule's own condition, a drop rule before those behind it."""
    found = collector_filter([RULES])
    assert found.digests == (RULES.digest,)
    assert [(one.reason, one.exact) for one in found.span[1:]] == [
        ("rule 'paid'", True),
        ("rules 'slow', unless an earlier one drops it", False),
    ]
    assert [str(one.condition) for one in found.span[1:]] == [
        (
            'span.name == "POST /pay" and span.status.code == 1 and (resource.attributes["service.name"] == "shop" or '
            'resource.attributes["service.name"] == "till" or (IsList(resource.attributes["service.name"]) and '
            '(ContainsValue(resource.attributes["service.name"], "shop") or '
            'ContainsValue(resource.attributes["service.name"], "till"))))'
        ),
        (
            '(not (span.attributes["test"] == true or span.attributes["test"] == "true" or '
            '(IsList(span.attributes["test"]) and (ContainsValue(span.attributes["test"], true) or '
            'ContainsValue(span.attributes["test"], "true"))))) and span.kind == 2 and '
            "span.start_time_unix_nano != 0 and "
            "(span.end_time_unix_nano - span.start_time_unix_nano >= 999999000 or "
            "span.end_time_unix_nano - span.start_time_unix_nano < 0) and "
            '((span.attributes["tenant"] != nil and (not (span.attributes["tenant"] == "demo" or '
            '(IsList(span.attributes["tenant"]) and ContainsValue(span.attributes["tenant"], "demo"))))) or '
            'span.attributes["tenant"] == nil) and span.attributes["http.route"] != nil'
        ),
    ]
    assert found.span_event == NO_RULES.span_event


def test_a_dropped_item_stays_behind_unless_it_is_tagged() -> None:
    """What a rule surely drops is not passed on for a later rule, but is for its tag, which comes before all rules."""
    found = collector_filter([RULES])
    slow = {"http.route": "/x"}
    server = {"span_kind": "server", "start_time_ns": 1, "time_ns": 2_000_000_001}

    def item(**attributes: object) -> list[Signal]:
        return [Signal(SignalKind.SPAN, "x", attributes, Resource(), Scope(), **server)]  # type: ignore[arg-type]

    assert passes(found, item(**slow))
    assert not passes(found, item(**slow, test=True))
    assert passes(found, item(**slow, test=True, **{"posthog.event": "paid"}))


def test_several_rule_sets_are_one_filter() -> None:
    """The rules of several projects behind one gateway: what any of them asks for passes, each condition once."""
    other = parse_text("rules: [{name: other, match: {name: other}, capture: other}]")
    found = collector_filter([RULES, other, RULES])
    assert found.digests == (RULES.digest, other.digest)
    assert [one.reason for one in found.span] == [
        "tagged with posthog.* or a flag",
        "rule 'paid'",
        "rules 'slow', unless an earlier one drops it",
        "rule 'other'",
    ]


def test_the_default_rules_are_told_nearly_exactly() -> None:
    """Server spans that the default set drops or is not about stay behind; pages and API requests pass."""
    found = collector_filter([RuleSet(builtin_rules())])

    def request(path: str, **more: object) -> list[Signal]:
        attributes = {"http.request.method": "GET", "url.path": path, "http.response.status_code": 200, **more}
        return [Signal(SignalKind.SPAN, "GET", attributes, Resource(), Scope(), span_kind="server")]

    kept = [path for path in ("/", "/pricing", "/api/orders", "/health", "/static/app.js", "/favicon.ico", "/livez")
            if passes(found, request(path))]  # fmt: skip
    assert kept == ["/", "/pricing", "/api/orders"]
    assert not passes(found, request("/", **{"user_agent.original": "kube-probe/1.30"}))
    assert not passes(found, request("/", **{"http.request.method": "HEAD"}))
    assert not passes(found, [span(**{"url.path": "/", "http.request.method": "GET"})])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", '"plain"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("line\nbreak\ttab\x00", '"line\\nbreak\\ttab\\x00"'),
        ("ü$", '"ü$"'),
        (200, "200"),
        (-1.5, "-1.5"),
        (1e16, "1.0e+16"),
        (1e-7, "1.0e-07"),
        (True, "true"),
        (None, "nil"),
    ],
)
def test_literals(value: object, written: str) -> None:
    """Values are written as OTTL reads them."""
    assert literal(value) == written


def test_a_value_without_a_literal_is_refused() -> None:
    """An integer beyond 64 bits has no literal, and is never written as something else."""
    with pytest.raises(ValueError, match="OTTL has no literal for"):
        literal(2**64)


def test_expressions_are_simplified() -> None:
    """Constants vanish, equal operands are one, double negation is none."""
    one = Compare(Path("span", "name"), "==", "a")
    two = Matches(Path("span", "name"), "b")
    assert every(TRUE, one, every(one, two)) == every(one, two)
    assert either(FALSE, one) == one
    assert every(one, FALSE) == FALSE
    assert either(one, TRUE) == TRUE
    assert negated(negated(two)) == two
    assert str(negated(one)) == 'span.name != "a"'
    assert str(either(every(one, two), negated(two))) == (
        '(span.name == "a" and IsMatch(span.name, "b")) or (not IsMatch(span.name, "b"))'
    )


@given(st.text(alphabet="ab*?[]!-\\.\n|", max_size=8), st.text(alphabet="ab*?[]!-\\.\n|", max_size=6))
def test_globs_are_those_of_fnmatch(glob: str, text: str) -> None:
    """Our way to write a glob as a pattern finds just what fnmatch's does."""
    expected = re.compile(fnmatch.translate(glob)).match(text) is not None
    assert (re.search(glob_pattern(glob), text) is not None) is expected
