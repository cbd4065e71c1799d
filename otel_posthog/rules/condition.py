"""Conditions -> closures of a Signal. They never raise, whatever the attributes hold."""

from __future__ import annotations

import fnmatch
import operator as compare
import re
from collections.abc import Callable
from typing import Any, Final, cast

from otel_posthog.model import AttributeValue, Signal
from otel_posthog.rules.pattern import MAX_TEXT, to_search
from otel_posthog.rules.reference import Getter, getter, severity_number
from otel_posthog.rules.rule import Check, Condition, Group, operands_of
from otel_posthog.rules.schema import OPERATOR_BY_NAME, SEVERITIES
from otel_posthog.rules.template import text_of

Predicate = Callable[[Signal], bool]
ValueTest = Callable[[AttributeValue], bool]

_ORDER: Final = {"gt": compare.gt, "gte": compare.ge, "lt": compare.lt, "lte": compare.le}


def compile_condition(condition: Condition | Group) -> Predicate:
    """A function that says whether a signal meets `condition`."""
    if isinstance(condition, Group):
        members = tuple(compile_condition(member) for member in condition.members)
        if condition.how == "all":
            return lambda signal: all(member(signal) for member in members)
        if condition.how == "any":
            return lambda signal: any(member(signal) for member in members)
        return lambda signal: not any(member(signal) for member in members)
    get, tests = _parts(condition)
    if len(tests) == 1:
        test = tests[0]
        return lambda signal: test(get(signal))

    def every(signal: Signal) -> bool:
        value = get(signal)
        return all(test(value) for test in tests)

    return every


def compile_flag(condition: Condition) -> Callable[[Signal], bool | None]:
    """A function that gives true or false, and None where the field is missing (unless `exists` asks just that)."""
    get, tests = _parts(condition)
    asks_existence = any(check.operator == "exists" for check in condition.checks)

    def flag(signal: Signal) -> bool | None:
        value = get(signal)
        if value is None and not asks_existence:
            return None
        return all(test(value) for test in tests)

    return flag


def _parts(condition: Condition) -> tuple[Getter, tuple[ValueTest, ...]]:
    if condition.fields == ("severity",):
        return severity_number, tuple(_severity_test(check) for check in condition.checks)
    return getter(condition.fields), tuple(value_test(check) for check in condition.checks)


def value_test(check: Check) -> ValueTest:
    """A function that says whether a value (None where the field is missing) passes `check`."""
    if check.operator == "exists":
        return (lambda value: value is not None) if check.operand else (lambda value: value is None)
    negated = OPERATOR_BY_NAME[check.operator].negates
    test = _positive(negated or check.operator, check.operand)
    return (lambda value: not test(value)) if negated else test


def _positive(name: str, operand: Any) -> ValueTest:
    if name == "equals":
        return _equals_test(operand)
    if name == "one_of":
        return _one_of_test(operand)
    if name == "glob":
        # translate() anchors at both ends; "|" joins the alternatives into one scan.
        return _text_test(re.compile("|".join(fnmatch.translate(pattern) for pattern in operand)).match)
    if name == "regex":
        return _text_test(re.compile(to_search(operand)).search)
    order = _ORDER[name]
    return _any_element(lambda value: (number := _number(value)) is not None and order(number, operand))


def _equals_test(operand: Any) -> ValueTest:
    loose = _any_element(lambda value: _same(value, operand))
    if isinstance(operand, str):
        # Text against text is the common case by far.
        return lambda value: value == operand if type(value) is str else loose(value)
    return loose


def _one_of_test(operand: tuple[Any, ...]) -> ValueTest:
    texts = frozenset(item for item in operand if isinstance(item, str))
    loose = _any_element(lambda value: any(_same(value, item) for item in operand))
    return lambda value: (type(value) is str and value in texts) or loose(value)


def _text_test(match: Callable[[str], Any]) -> ValueTest:
    def test(value: AttributeValue) -> bool:
        text = value if isinstance(value, str) else text_of(value)
        return text is not None and match(text[:MAX_TEXT]) is not None

    return _any_element(test)


def _any_element(test: ValueTest) -> ValueTest:
    """A list passes if one of its elements does: captured headers and tags are lists."""

    def either(value: AttributeValue) -> bool:
        if isinstance(value, (list, tuple)):
            return any(test(item) for item in cast("list[AttributeValue]", value))
        return test(value)

    return either


def _same(value: AttributeValue, operand: Any) -> bool:
    """Equality across spellings: 200 and "200", true and "true"; but never true and 1."""
    if isinstance(value, str) or isinstance(operand, str):
        return text_of(value) == text_of(operand) if isinstance(value, (str, int, float)) else False
    if isinstance(value, bool) or isinstance(operand, bool):
        return value is operand
    return isinstance(value, (int, float)) and value == operand


def _number(value: AttributeValue) -> float | None:
    """The number in `value`: a number, or text that is one (some SDKs send status codes as text)."""
    if isinstance(value, str):
        try:
            return float(value) if len(value) <= 32 else None
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


# --- severity ------------------------------------------------------------------------------------------------------


def _severity_test(check: Check) -> ValueTest:
    """A name stands for its four numbers: `equals: error` is 17 to 20, `gt: error` is 21 and more."""
    if check.operator == "exists":
        return (lambda value: value is not None) if check.operand else (lambda value: value is None)
    negated = OPERATOR_BY_NAME[check.operator].negates
    name = negated or check.operator
    ranges = tuple(_severity_range(item) for item in operands_of(check))
    low, high = ranges[0]

    def test(value: AttributeValue) -> bool:
        if value is None:
            return False
        if name in ("equals", "one_of"):
            return any(first <= value <= last for first, last in ranges)
        return {"gt": value > high, "gte": value >= low, "lt": value < low, "lte": value <= high}[name]

    return (lambda value: not test(value)) if negated else test


def _severity_range(operand: str | float) -> tuple[float, float]:
    if isinstance(operand, str):
        first = 4 * SEVERITIES.index(operand) + 1
        return first, first + 3
    return operand, operand
