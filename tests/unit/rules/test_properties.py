"""Properties of matching, over generated rules and signals."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import Match
from otel_posthog.rules.load import parse_text
from otel_posthog.rules.schema import SPAN_KINDS, STATUSES

# Few names, so that rules and signals meet.
KEYS = st.sampled_from(
    ["a", "b", "c.d", "name", "attributes.name", "scope.name", "resource.r", "duration_ms", "status"]
)
TEXTS = st.sampled_from(["x", "y", "xy", "200", ""])
SCALARS = st.one_of(TEXTS.filter(bool), st.sampled_from([0, 1, 200, 1.5, True, False]))
OPERATORS: dict[str, st.SearchStrategy[Any]] = {
    "equals": SCALARS,
    "not_equals": SCALARS,
    "one_of": st.lists(SCALARS, min_size=1, max_size=3),
    "glob": st.sampled_from(["x*", "*", "?"]),
    "not_regex": st.sampled_from(["x", "^$"]),
    "gt": st.sampled_from([0, 1, 100]),
    "lte": st.sampled_from([0, 1, 100]),
    "exists": st.booleans(),
}


@st.composite
def checks(draw: st.DrawFn) -> dict[str, Any]:
    """One or two operators. (Filtering a dictionary of all would throw nearly every example away.)"""
    names = draw(st.sets(st.sampled_from(list(OPERATORS)), min_size=1, max_size=2))
    return {name: draw(OPERATORS[name]) for name in sorted(names)}


TESTS = st.one_of(SCALARS, st.lists(SCALARS, min_size=1, max_size=3), checks())


@st.composite
def field_conditions(draw: st.DrawFn) -> dict[str, Any]:
    """A condition on one field or alternatives."""
    return {"fields": draw(st.lists(KEYS, min_size=1, max_size=2)), **draw(checks())}


@st.composite
def groups(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    """A nested `all`, `any` or `none`."""
    return {draw(st.sampled_from(["all", "any", "none"])): draw(st.lists(inner, min_size=1, max_size=2))}


CONDITIONS = st.recursive(field_conditions(), groups, max_leaves=4)


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A rules file's list of rules."""
    found: list[dict[str, Any]] = []
    for index in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from([["span"], ["span"], ["span", "log"], ["log"], ["span_event"]]))
        match: dict[str, Any] = {"kind": kind}
        # One dimension at a time more often than all at once: what never matches proves nothing.
        chosen = draw(st.sets(st.sampled_from(["name", "scope", "all", "any", "span_kind"]), max_size=2))
        if "name" in chosen:
            match["name"] = draw(TESTS)
        if "scope" in chosen:
            match["scope"] = draw(TESTS)
        if "all" in chosen:
            match["all"] = draw(st.lists(CONDITIONS, min_size=1, max_size=2))
        if "any" in chosen:
            match["any"] = draw(st.lists(CONDITIONS, min_size=1, max_size=2))
        if kind == ["span"] and "span_kind" in chosen:
            match["span_kind"] = draw(st.lists(st.sampled_from(SPAN_KINDS), min_size=1, max_size=2))
        rule: dict[str, Any] = {"name": f"r{index}", "match": match}
        rule["capture"] = draw(st.sampled_from(["seen", "seen", "seen {a}", "{a|b}", "{name}"]))
        uses_end = any(word in json.dumps(rule) for word in ("duration_ms", "status"))
        if kind == ["span"] and not uses_end and draw(st.booleans()):
            rule["on"] = "start"
        found.append(rule)
    return found


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, 200, -1]),
        st.integers(),
        st.floats(),
        TEXTS,
        st.text(st.characters(), max_size=5),
        st.binary(max_size=3),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=2)
    ),
    max_leaves=5,
)
ATTRIBUTES = st.dictionaries(st.sampled_from(["a", "b", "c.d", "name", "r", "posthog.x"]), VALUES, max_size=5)


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Any signal."""
    kind = draw(st.sampled_from([SignalKind.SPAN, *SignalKind]))
    is_span = kind is SignalKind.SPAN
    return Signal(
        kind=kind,
        name=draw(TEXTS),
        attributes=draw(ATTRIBUTES),
        resource=Resource(draw(ATTRIBUTES)),
        scope=Scope(draw(TEXTS), "1"),
        span_kind=draw(st.sampled_from(SPAN_KINDS)) if is_span else "",
        start_time_ns=draw(st.integers(0, 10**9)),
        time_ns=draw(st.integers(0, 10**10)),
        status_code=draw(st.sampled_from(STATUSES)) if is_span else "",
        severity_number=draw(st.integers(-1, 30)),
        severity_text=draw(TEXTS),
        body=draw(VALUES),
    )


@settings(max_examples=500)
@given(rules(), signals())
def test_prefilter_is_necessary(drawn: list[dict[str, Any]], signal: Signal) -> None:
    """What `match` matches always passes the prefilter, in its sharp form and in its flat fields."""
    compiled = parse_text(json.dumps({"rules": drawn}))
    found = compiled.match(signal)
    prefilter = compiled.prefilter
    if found is None:
        return
    if signal.kind is not SignalKind.SPAN:
        assert prefilter.logs if signal.kind is SignalKind.LOG else prefilter.span_events
        return

    assert prefilter.spans
    assert prefilter.span(signal.span_kind, signal.name, signal.scope.name, signal.attributes)
    assert prefilter.span_kinds is None or signal.span_kind in prefilter.span_kinds
    assert prefilter.names is None or signal.name in prefilter.names
    assert prefilter.scopes is None or signal.scope.name in prefilter.scopes
    assert prefilter.any_key is None or not prefilter.any_key.isdisjoint(signal.attributes)
    if found.on == "start":
        assert prefilter.start
        starts = prefilter.starts_by_span_kind.get(signal.span_kind, ())
        assert any(narrow.admits(signal.name, signal.scope.name, signal.attributes) for narrow in starts)


@given(rules(), signals())
def test_match_is_pure(drawn: list[dict[str, Any]], signal: Signal) -> None:
    """Matching never raises, gives plain values, and gives the same again, also for rules loaded from other text."""
    text = json.dumps({"rules": drawn})
    compiled = parse_text(text)
    again = parse_text(json.dumps({"rules": drawn}, indent=3, sort_keys=True))
    found = compiled.match(signal)

    assert found is None or (isinstance(found, Match) and found.event.strip() and found.rule in compiled.names)
    assert repr(compiled.match(signal)) == repr(again.match(signal)) == repr(found)
    assert compiled.digest == again.digest


@given(rules(), signals())
def test_first_match_wins(drawn: list[dict[str, Any]], signal: Signal) -> None:
    """A rule decides exactly where it matches alone and none before it does."""
    found = parse_text(json.dumps({"rules": drawn})).match(signal)
    alone = [parse_text(json.dumps({"rules": [rule]})).match(signal) for rule in drawn]

    assert repr(found) == repr(next((match for match in alone if match is not None), None))


OPERANDS = {
    "equals": "x",
    "one_of": ["x", 1],
    "glob": "x*",
    "regex": "x",
    "gt": 0,
    "gte": 0,
    "lt": 9,
    "lte": 9,
    "exists": True,
    "not_equals": "x",
    "not_one_of": ["x"],
    "not_glob": "x*",
    "not_regex": "x",
}


@pytest.mark.parametrize("second", [None, *OPERANDS, "absent"])
@pytest.mark.parametrize("first", [*OPERANDS, "absent"])
@pytest.mark.parametrize("fields", [["a"], ["a", "b"], ["a", "resource.a"], ["name"], ["scope.name"]])
def test_prefilter_for_every_operator(fields: list[str], first: str, second: str | None) -> None:
    """Every pair of operators on every kind of field, against every value that could pass them."""
    condition: dict[str, Any] = {"fields": fields}
    for name in (first, second):
        if name is not None:
            condition |= {"exists": False} if name == "absent" else {name: OPERANDS[name]}
    compiled = parse_text(json.dumps({"rules": [{"name": "r", "match": {"all": [condition]}, "capture": "e"}]}))
    for value in ("x", "y", 1, 5, [1, "x"], None):
        text = value if isinstance(value, str) else ""
        for attributes in ({}, {"a": value}, {"b": value}):
            signal = Signal(
                kind=SignalKind.SPAN,
                name=text,
                attributes=attributes,
                resource=Resource({"a": value}),
                scope=Scope(text),
                span_kind="server",
            )
            if compiled.match(signal) is not None:
                assert compiled.prefilter.span("server", text, text, attributes)
