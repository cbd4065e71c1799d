"""The digest stands for the meaning of the rules."""

import pytest

from otel_posthog.rules.load import parse_text

BASE = """
rules:
  - name: paid
    match: {name: pay, attributes: {state: [a, b], total: {gt: 1, lt: 9}}}
    capture: {event: paid, properties: {x: "{x}", y: 1}}
"""

SAME = {
    "comments and layout": """
# A comment.
version: 1
rules:
- capture:
    properties:
      y: 1   # one
      x: '{x}'
    event: "paid"
  name: paid
  match:
    attributes:
      total: {lt: 9, gt: 1}
      state:
        - b
        - a
    name: pay
  on: end
""",
    "long forms": """
rules:
  - name: paid
    match:
      kind: [span]
      all:
        - {fields: [attributes.state], one_of: [b, a]}
        - {field: name, one_of: [pay]}
        - {field: total, gt: 1, lt: 9}
    capture: {event: paid, properties: {x: "{ attributes.x }", y: 1}}
""",
    "anchors": """
x-p: &p {y: 1}
rules:
  - name: paid
    match: {name: pay, attributes: {state: [a, b], total: {gt: 1, lt: 9}}}
    capture: {event: paid, properties: {<<: *p, x: "{x}"}}
""",
}

DIFFERENT = {
    "name": BASE.replace("name: paid", "name: paid2"),
    "event": BASE.replace("event: paid", "event: paid!"),
    "operand": BASE.replace("gt: 1", "gt: 2"),
    "operator": BASE.replace("gt: 1", "gte: 1"),
    "literal type": BASE.replace("y: 1", 'y: "1"'),
    "reference": BASE.replace("{x}", "{z}"),
    "template or text": BASE.replace('"{x}"', '"{{x}}"'),
    "kind": BASE.replace("match: {", "match: {kind: log, "),
    "end": BASE.replace("    match", "    on: start\n    match"),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME.keys())
def test_same_meaning(text: str) -> None:
    """Formatting, comments, order of keys and shorthands make no difference."""
    assert parse_text(BASE).digest == parse_text(text).digest


@pytest.mark.parametrize("text", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_other_meaning(text: str) -> None:
    """What changes an outcome changes the digest."""
    assert parse_text(BASE).digest != parse_text(text).digest


def test_order_of_rules_counts() -> None:
    """First match wins, so that order is meaning."""
    one, two = "{name: a, match: {name: x}, capture: a}", "{name: b, match: {name: x}, capture: b}"

    assert parse_text(f"rules: [{one}, {two}]").digest != parse_text(f"rules: [{two}, {one}]").digest


def test_stable_value() -> None:
    """The digest is the same in every process and version: it travels between them."""
    assert parse_text("rules: [{name: a, match: {name: x}, capture: a}]").digest == "9c12e063101b99ecbc1cfe8b258b6e60"
