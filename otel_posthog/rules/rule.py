"""Rules as data: parsed, checked, not yet compiled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from otel_posthog.rules.template import Template

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Check:
    """One operator with its operand: a scalar, or a tuple of scalars."""

    operator: str
    operand: Any


def operands_of(check: Check) -> tuple[Any, ...]:
    """The operand, or operands, as a tuple."""
    operand: Any = check.operand
    return cast("tuple[Any, ...]", operand) if isinstance(operand, tuple) else (operand,)


@dataclass(frozen=True, slots=True)
class Condition:
    """All of `checks` on the first of `fields` that is there."""

    fields: tuple[str, ...]
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`all`, `any` or `none` of its members."""

    how: str
    members: tuple[Condition | Group, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is the same for every item."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class ListValue:
    """A list, of what its members give; missing members are left out."""

    members: tuple[Literal | Template, ...]


Value = Literal | Template | ListValue | Condition
"""How a property gets its value; a Condition gives true or false, and nothing where its field is missing."""

Values = tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Names as in the file; `event` is None where nothing is captured."""

    name: str
    kinds: tuple[str, ...]
    span_kinds: tuple[str, ...] = ()
    conditions: tuple[Condition | Group, ...] = ()
    on: str = "end"
    drop: bool = False
    event: Template | None = None
    properties: Values = ()
    include: tuple[str, ...] = ()
    strip_prefix: str = ""
    distinct_id: Template | None = None
    set: Values = ()
    set_once: Values = ()
    unset: tuple[str, ...] = ()
    group: tuple[tuple[str, Template], ...] = ()
    group_set: tuple[tuple[str, Values], ...] = ()
    alias: Template | None = None
    anon_distinct_id: Template | None = None


def canonical(rule: Rule) -> str:
    """The rule's meaning as text: equal for two rules that do the same and have the same name.

    What has no order in the language (conditions, checks, names of a mapping, lists of alternatives to compare with)
    is sorted; what has one (alternative fields, included patterns) is kept.
    """
    shape = {name: _shape(getattr(rule, name), name) for name in Rule.__dataclass_fields__}
    return json.dumps(shape, sort_keys=True, ensure_ascii=True)


_UNORDERED = {"kinds", "span_kinds", "conditions", "checks", "members", "unset", "properties", "set", "set_once"} | {
    "group", "group_set", "operand"
}  # fmt: skip


def _shape(value: Any, name: str = "") -> Any:
    if isinstance(value, (Check, Condition, Group, Literal, ListValue, Template)):
        kind = type(value).__name__
        # A list property keeps its order although its field is called `members` too.
        return {"is": kind} | {
            field: _shape(getattr(value, field), "" if kind == "ListValue" else field)
            for field in value.__dataclass_fields__
        }
    if isinstance(value, tuple):
        shapes: list[Any] = [_shape(item) for item in value]  # pyright: ignore[reportUnknownVariableType] # see Any
        return sorted(shapes, key=_sort_key) if name in _UNORDERED else shapes
    return value


def _sort_key(shape: Any) -> str:
    return json.dumps(shape, sort_keys=True)
