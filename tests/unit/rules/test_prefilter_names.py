"""A rule that names spans by a pattern does not have every span of the app handed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules.load import parse_text

RULE = "rules: [{{name: r, match: {{name: {test}}}, capture: hit}}]"


@pytest.mark.parametrize(
    ("test", "yes", "no"),
    [
        ('{glob: "search *"}', ["search shoes", "search "], ["research x", "SELECT", ""]),
        ('{glob: ["a*", "*z", "?b"]}', ["apple", "z", "xb"], ["bz1", "xxb", ""]),
        ('{regex: "^POST /check"}', ["POST /checkout"], ["x POST /checkout", "GET /checkout"]),
        ('{regex: "order|cart"}', ["my cart", "orders"], ["shop"]),
        ('{equals: "a", regex: "."}', ["a"], ["b", ""]),
        ('{not_glob: "a*"}', ["b", "a", ""], []),
    ],
)
def test_names_by_pattern(test: str, yes: list[str], no: list[str]) -> None:
    """What cannot match does not pass; negations cannot be narrowed."""
    prefilter = parse_text(RULE.format(test=test)).prefilter

    assert [name for name in [*yes, *no] if prefilter.span("client", name, "", {})] == yes


@given(
    name=st.text(alphabet="abz *?\n", max_size=8) | st.just("x" * 5000 + "a") | st.just("a" + "x" * 5000),
    pattern=st.sampled_from(
        ['{glob: "a*"}', '{glob: ["*b", "z?"]}', '{regex: "a$"}', '{regex: "[ab] z"}', '{regex: "^$"}']
    ),
)
def test_what_matches_always_passes(name: str, pattern: str) -> None:
    """Necessary, never sufficient: also for long names, of which a rule sees the first 4,096 characters."""
    rules = parse_text(RULE.format(test=pattern))
    signal = Signal(
        kind=SignalKind.SPAN, name=name, attributes={}, resource=Resource(), scope=Scope(), span_kind="client"
    )

    if rules.match(signal) is not None:
        assert rules.prefilter.span("client", name, "", {})


def test_a_name_that_is_no_text_is_left_to_the_rule() -> None:
    """The SDK takes any object for a name; the callback must not fail over it."""
    assert parse_text(RULE.format(test='{glob: "a*"}')).prefilter.span("client", 7, "", {})  # type: ignore[arg-type]
