"""The prefilter narrows where it can, and says None where it cannot."""

from otel_posthog.rules.load import parse_text
from otel_posthog.rules.prefilter import Narrow, Prefilter
from otel_posthog.rules.schema import SPAN_KINDS


def test_whole() -> None:
    """Kinds, names, scopes and keys are unions over the rules on spans."""
    rules = parse_text(
        """
        rules:
          - {name: a, match: {span_kind: server, name: [x, y], scope: s, attributes: {k: 1}}, capture: e}
          - {name: b, on: start, match: {span_kind: consumer, name: z, scope: t}, capture: "{l|m}"}
          - {name: c, match: {kind: log}, capture: e}
        """
    )
    server = Narrow(frozenset({"x", "y"}), frozenset({"s"}), frozenset({"k"}))
    consumer = Narrow(frozenset({"z"}), frozenset({"t"}), frozenset({"l", "m"}))

    assert rules.prefilter == Prefilter(
        spans=True,
        span_events=False,
        logs=True,
        start=True,
        span_kinds=frozenset({"server", "consumer"}),
        names=frozenset({"x", "y", "z"}),
        scopes=frozenset({"s", "t"}),
        any_key=frozenset({"k", "l", "m"}),
        by_span_kind={"server": (server,), "consumer": (consumer,)},
        starts_by_span_kind={"consumer": (consumer,)},
    )


def test_what_cannot_be_narrowed() -> None:
    """Negations, alternatives beyond attributes and `any` leave a dimension open."""
    rules = parse_text(
        """
        rules:
          - name: a
            match:
              name: {not_glob: "x*"}
              scope: {not_equals: s}
              attributes: {k: {not_equals: 1}, l: {exists: false}}
              all: [{fields: [m, resource.m], exists: true}]
              any: [{field: n, exists: true}]
            capture: e
        """
    )

    assert rules.prefilter == Prefilter(
        spans=True,
        span_kinds=None,
        names=None,
        scopes=None,
        any_key=None,
        by_span_kind=dict.fromkeys(SPAN_KINDS, (Narrow(),)),
    )


def test_no_rules() -> None:
    """Without rules nothing passes."""
    prefilter = Prefilter()

    assert not prefilter.span("server", "x", "s", {"k": 1})


def test_many_keys() -> None:
    """More than a few alternatives are still found."""
    keys = [f"k{number}" for number in range(9)]
    rules = parse_text(f"rules: [{{name: a, match: {{all: [{{fields: {keys}, exists: true}}]}}, capture: e}}]")

    assert rules.prefilter.span("server", "x", "s", {"k8": 1, "z": 2})
    assert not rules.prefilter.span("server", "x", "s", {"z": 2})
