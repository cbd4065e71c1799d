"""Rules' conditions -> OTTL, with both bounds: what surely matches, and what may.

OTTL cannot say all that a rule can (lookahead, numbers in text, elements of lists by pattern). What decides which
telemetry reaches the gateway must then err on one side: `Bounds.over` holds for every item that the condition holds
for. Negation needs the other side: `Bounds.under` holds for none that it does not hold for.

The property tests (`tests/unit/rules/test_collector_filter.py`) hold both against the conditions themselves, and a real
Collector against the reading of OTTL that those tests use (`tests/collector/test_filter.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from otel_posthog.rules.condition import value_test
from otel_posthog.rules.ottl import (
    FALSE,
    MAX_EXACT,
    TRUE,
    Compare,
    Contains,
    Difference,
    Expression,
    Is,
    Matches,
    Path,
    Size,
    either,
    every,
    negated,
    writable,
)
from otel_posthog.rules.ottl_pattern import glob_pattern, narrower, wider
from otel_posthog.rules.pattern import MAX_TEXT, to_search
from otel_posthog.rules.reference import attribute_key
from otel_posthog.rules.rule import Check, Condition, Group, operands_of
from otel_posthog.rules.schema import OPERATOR_BY_NAME, SEVERITIES, SPAN_KINDS, STATUSES
from otel_posthog.rules.template import text_of


@dataclass(frozen=True, slots=True)
class Bounds:
    """A condition from above and from below.

    Args:
        over: Holds wherever the condition does.
        under: Holds nowhere where the condition does not.
    """

    over: Expression
    under: Expression

    @property
    def exact(self) -> bool:
        """Whether OTTL says just what the condition says."""
        return self.over == self.under


ALWAYS: Final = Bounds(TRUE, TRUE)
NEVER: Final = Bounds(FALSE, FALSE)
UNKNOWN: Final = Bounds(TRUE, FALSE)
ROOTS: Final = {"span": "span", "span_event": "spanevent", "log": "log"}

_NUMBER: Final = "(?i)[0-9]|inf|nan|[^\\x00-\\x7F]"
"""In every text that Python reads as a number."""
_ORDER: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def all_of(members: Iterable[Bounds]) -> Bounds:
    """All of them."""
    found = tuple(members)
    return Bounds(every(*(one.over for one in found)), every(*(one.under for one in found)))


def any_of(members: Iterable[Bounds]) -> Bounds:
    """One of them at least."""
    found = tuple(members)
    return Bounds(either(*(one.over for one in found)), either(*(one.under for one in found)))


def none_of(members: Iterable[Bounds]) -> Bounds:
    """None of them."""
    found = any_of(members)
    return Bounds(negated(found.under), negated(found.over))


def translate(condition: Condition | Group, kind: str) -> Bounds:
    """`condition` for items of `kind` (`span`, `span_event` or `log`)."""
    if isinstance(condition, Group):
        members = [translate(member, kind) for member in condition.members]
        return {"all": all_of, "any": any_of, "none": none_of}[condition.how](members)
    if condition.fields == ("severity",):
        return all_of(_severity(check) for check in condition.checks) if kind == "log" else _absent(condition.checks)
    return _first([field(reference, kind) for reference in condition.fields], condition.checks)


def present(references: tuple[str, ...], kind: str) -> Bounds:
    """Whether one of `references` at least is there."""
    return any_of(field(reference, kind).present for reference in references)


def of_span_kinds(kinds: Iterable[str]) -> Bounds:
    """Whether a span is of one of `kinds`."""
    wanted = set(kinds)
    return _kinds("span", lambda kind: kind in wanted)


# --- fields --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """What a reference reads, in OTTL.

    Args:
        present: It is there.
        test: What a check says of its value, where it is there; free to say anything where it is not.
        strict: Operators that negate nothing are false where it is not there.
    """

    present: Bounds
    test: Callable[[Check], Bounds]
    strict: bool = False


def _first(fields: list[Field], checks: tuple[Check, ...]) -> Bounds:
    """All of `checks` on the first of `fields` that is there, or on nothing where none is."""
    result = _absent(checks)
    demanding = any(check.operator != "exists" and not OPERATOR_BY_NAME[check.operator].negates for check in checks)
    for one in reversed(fields):
        value = all_of(one.test(check) for check in checks)
        if value == ALWAYS:
            # It is enough that it is there: what comes after need not be told that it was not.
            result = any_of([one.present, result])
            continue
        if not (one.strict and demanding):
            value = all_of([one.present, value])
        result = any_of([value, all_of([none_of([one.present]), result])])
    return result


def _absent(checks: Iterable[Check]) -> Bounds:
    return ALWAYS if all(value_test(check)(None) for check in checks) else NEVER


def field(reference: str, kind: str) -> Field:
    """The field that `reference` reads of items of `kind`."""
    root = ROOTS[kind]
    key = attribute_key(reference)
    if key is not None:
        return _any_type(Path(root, "attributes", key))
    where, _, rest = reference.partition(".")
    if reference in ("scope.name", "scope.version"):
        return _text(Path("scope", rest))
    if where in ("resource", "scope"):
        return _any_type(Path(where, "attributes", rest))
    if where == "span":
        return _of_owner(rest) if kind == "span_event" else _MISSING
    if where == "body":
        return (_member(rest) if rest else _any_type(Path("log", "body"))) if kind == "log" else _MISSING
    if reference == "kind":
        return _constant(kind)
    return _FIELDS.get((reference, kind), _MISSING)


def _of_owner(rest: str) -> Field:
    """Of a span event: `span.name`, `span.kind` or an attribute of the span that holds it."""
    if rest == "name":
        return _text(Path("span", "name"))
    if rest == "kind":
        return _span_kind("span")
    return _any_type(Path("span", "attributes", rest))


def _any_type(path: Path) -> Field:
    if not writable(path.key or ""):
        return Field(UNKNOWN, lambda _: UNKNOWN)
    there = Compare(path, "!=", None)
    return Field(Bounds(there, there), lambda check: _with_negation(check, path, _value), strict=True)


def _text(path: Path, nothing: str = "") -> Field:
    """A field that is text by its nature, and `nothing` where it is absent."""
    there = Compare(path, "!=", nothing)

    def positive(name: str, operand: Any, at: Path) -> Bounds:
        return _text_value(name, operand, at, nothing)

    return Field(Bounds(there, there), lambda check: _with_negation(check, path, positive), strict=True)


def _id(root: str, name: str) -> Field:
    """An id, as hex; all zeros where it is absent."""
    return _text(Path(root, f"{name}.string"), "0" * (32 if name == "trace_id" else 16))


def _number(left: Path | Difference, there: Bounds, shift: int = 0) -> Field:
    def test(check: Check) -> Bounds:
        return _with_negation(check, left, lambda name, operand, at: _number_value(name, operand, at, shift))

    return Field(there, test)


def _constant(value: str) -> Field:
    return Field(ALWAYS, lambda check: ALWAYS if value_test(check)(value) else NEVER)


def _enumerated(words: Iterable[tuple[str, Expression]]) -> Field:
    """A field of a few known values, each with the condition for it; one of them always holds."""
    known = tuple(words)

    def test(check: Check) -> Bounds:
        passes = value_test(check)
        taken = [passes(word) for word, _ in known]
        found = TRUE if all(taken) else either(*(says for (_, says), one in zip(known, taken, strict=True) if one))
        return Bounds(found, found)

    return Field(ALWAYS, test)


def _span_kind(root: str) -> Field:
    return _enumerated((kind, _kinds(root, kind.__eq__).over) for kind in SPAN_KINDS)


def _kinds(root: str, wanted: Callable[[str], bool]) -> Bounds:
    path = Path(root, "kind")
    taken = [kind for kind in SPAN_KINDS if wanted(kind)]
    if len(taken) == len(SPAN_KINDS):
        return ALWAYS
    # What OTLP leaves unspecified, and numbers of a later version, are read as internal.
    says = [
        either(Compare(path, "<=", 1), Compare(path, ">", 5))
        if kind == "internal"
        else Compare(path, "==", SPAN_KINDS.index(kind) + 1)
        for kind in taken
    ]
    found = either(*says)
    return Bounds(found, found)


def _member(rest: str) -> Field:
    """A member of a body that is a map; anything else has none."""
    body = Path("log", "body")
    is_map = Is("Map", body)
    if "." in rest or not writable(rest):
        # `a.b` is one key, or a key in a map in a map, where asking fails unless that is one.
        return Field(Bounds(is_map, FALSE), lambda _: UNKNOWN)
    inner = _any_type(Path("log", "body", rest))

    def test(check: Check) -> Bounds:
        return all_of([Bounds(is_map, is_map), inner.test(check)])

    return Field(all_of([Bounds(is_map, is_map), inner.present]), test, strict=True)


_MISSING: Final = Field(NEVER, lambda _: UNKNOWN)
_CODE: Final = Path("span", "status.code")
_START: Final = Path("span", "start_time_unix_nano")
_DURATION: Final = Difference(Path("span", "end_time_unix_nano"), _START)
_SEVERITY: Final = Path("log", "severity_number")
_SEVERITY_TEXT: Final = Path("log", "severity_text")


def _severity_text() -> Field:
    """The text, or a name for the number: told apart only as far as that one of them is there."""
    there = either(Compare(_SEVERITY_TEXT, "!=", ""), Compare(_SEVERITY, ">", 0))
    return Field(Bounds(there, Compare(_SEVERITY_TEXT, "!=", "")), lambda _: UNKNOWN)


def _severity_number() -> Field:
    there = Compare(_SEVERITY, "!=", 0)
    return _number(_SEVERITY, Bounds(there, there))


def _duration() -> Field:
    # Missing where there is no start, or the end is before it. Times beyond 63 bits are negative here.
    started = every(Compare(_START, ">", 0), Compare(_DURATION, ">=", 0))
    return _number(_DURATION, Bounds(Compare(_START, "!=", 0), started), shift=6)


_FIELDS: Final = {
    **{("name", kind): _text(Path(root, "event_name" if kind == "log" else "name")) for kind, root in ROOTS.items()},
    ("span_kind", "span"): _span_kind("span"),
    ("status", "span"): _enumerated(
        [
            (STATUSES[0], every(Compare(_CODE, "!=", 1), Compare(_CODE, "!=", 2))),
            (STATUSES[1], Compare(_CODE, "==", 1)),
            (STATUSES[2], Compare(_CODE, "==", 2)),
        ]
    ),
    ("status_description", "span"): _text(Path("span", "status.message")),
    ("duration_ms", "span"): _duration(),
    ("severity", "log"): _severity_text(),
    ("severity_number", "log"): _severity_number(),
    **{
        (name, kind): _id("log" if kind == "log" else "span", name)
        for name in ("trace_id", "span_id")
        for kind in ROOTS
    },
    ("parent_span_id", "span"): _id("span", "parent_span_id"),
}
"""What is no attribute, by reference and kind; what is not here is always missing."""


# --- values --------------------------------------------------------------------------------------------------------

_Positive = Callable[[str, Any, Any], Bounds]


def _with_negation(check: Check, left: Any, positive: _Positive) -> Bounds:
    if check.operator == "exists":
        # `test` is asked only where the field is there.
        return ALWAYS if check.operand else NEVER
    opposite = OPERATOR_BY_NAME[check.operator].negates
    found = positive(opposite or check.operator, check.operand, left)
    return none_of([found]) if opposite else found


def _value(name: str, operand: Any, path: Path) -> Bounds:
    """An attribute: text, number, switch, or a list, of which one element is enough."""
    a_list = Is("List", path)
    if name in ("equals", "one_of"):
        operands: tuple[Any, ...] = operand if name == "one_of" else (operand,)
        bounds = [_equals(path, [value for one in operands for value in spell(one)]) for spell in (_spelled, _surely)]
        return Bounds(bounds[0], bounds[1])
    if name in _ORDER:
        number = _number_value(name, operand, path, 0)
        text = every(Is("String", path), Matches(path, _NUMBER))
        return Bounds(either(number.over, a_list, text), number.under)
    # Doubles are spelled in another way here, and IsMatch sees a list or a map as its JSON.
    found = _patterns(name, operand, path, nothing=None)
    over = either(Is("Double", path), a_list, every(negated(Is("Map", path)), found.over))
    return Bounds(over, every(Is("String", path), found.under))


def _text_value(name: str, operand: Any, path: Path, nothing: str) -> Bounds:
    if name in ("equals", "one_of"):
        operands: tuple[Any, ...] = operand if name == "one_of" else (operand,)
        texts = [text for one in operands if (text := text_of(one)) not in (None, nothing) and writable(text)]
        found = either(*(Compare(path, "==", text) for text in texts))
        return Bounds(found, found)
    if name in _ORDER:
        there = () if re.search(_NUMBER, nothing) is None else (Compare(path, "!=", nothing),)
        return Bounds(every(*there, Matches(path, _NUMBER)), FALSE)
    return _patterns(name, operand, path, nothing)


def _number_value(name: str, operand: Any, left: Path | Difference, shift: int) -> Bounds:
    """A number, which stands here `shift` decimal places to the left of what the rule says (nanoseconds)."""
    if name in ("equals", "one_of") and not shift:
        operands: tuple[Any, ...] = operand if name == "one_of" else (operand,)
        bounds = [
            either(*(Compare(left, "==", value) for one in operands for value in spell(one) if _is_number(value)))
            for spell in (_spelled, _surely)
        ]
        return Bounds(bounds[0], bounds[1])
    if name not in _ORDER:
        # Of a duration to the nanosecond, and of the text of a number, nobody asks that.
        return UNKNOWN
    if not _is_number(operand) or not writable(operand) or abs(operand) * 10**shift >= MAX_EXACT:
        return UNKNOWN
    sign = _ORDER[name]
    if not shift:
        found = Compare(left, sign, operand)
        return Bounds(found, found)
    # Rounded to the third decimal by the rule; a microsecond of room for that, and for what doubles are off by.
    up = 1 if sign[0] == ">" else -1
    exact = round(operand * 10**shift)
    over = Compare(left, sign, exact - up * 1000)
    if up > 0:
        over = either(over, Compare(left, "<", 0))
    return Bounds(over, Compare(left, sign, exact + up * 1000))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equals(path: Path, values: list[Any]) -> Expression:
    values = list(dict.fromkeys((type(value), value) for value in values))
    plain = either(*(Compare(path, "==", value) for _, value in values))
    listed = either(*(Contains(path, value) for _, value in values))
    # ContainsValue fails on what is no list.
    return either(plain, every(Is("List", path), listed))


def _spelled(operand: Any) -> list[Any]:
    """Every value that may be the same as `operand`: 200 and "200", true and "true"."""
    found = [operand]
    text = text_of(operand)
    if text is not None:
        found.append(text)
    if isinstance(operand, str):
        found.extend({"true": [True], "false": [False]}.get(operand, []))
        for number in (int, float):
            try:
                value = number(operand)
            except (ValueError, OverflowError):
                continue
            if text_of(value) == operand:
                found.append(value)
    return [value for value in found if writable(value)]


def _surely(operand: Any) -> list[Any]:
    """Values that are the same as `operand` in OTTL only where they are for the rule."""
    if _is_number(operand) and abs(operand) >= MAX_EXACT:
        return []
    # Not the number that a text spells: 200.0 is 200 for OTTL, and not "200" for the rule.
    return [value for value in (operand, text_of(operand)) if value is not None and writable(value)]


def _patterns(name: str, operand: Any, path: Path, nothing: str | None) -> Bounds:
    sources = [to_search(operand)] if name == "regex" else [glob_pattern(glob) for glob in _globs(operand)]
    return any_of(_pattern(source, path, nothing) for source in sources)


def _globs(operand: Any) -> tuple[str, ...]:
    return (operand,) if isinstance(operand, str) else operand


def _pattern(source: str, path: Path, nothing: str | None) -> Bounds:
    """`source` is found in what `path` holds; `nothing` is what it holds where it is missing."""
    wide, narrow = wider(source), narrower(source)
    there: Expression = Compare(path, "!=", nothing)
    is_text = Is("String", path) if nothing is None else TRUE
    over: Expression = Matches(path, wide.text) if wide.text else there
    if nothing is not None and wide.text and re.search(source, nothing):
        over = every(there, over)
    # The rule looks at the first characters alone, so that the end of a longer text is not where it seems.
    if wide.anchored:
        over = either(over, every(is_text, Compare(Size(path), ">", MAX_TEXT)))
    if narrow is None:
        return Bounds(over, FALSE)
    under: Expression = every(is_text, Compare(Size(path), "<=", MAX_TEXT))
    if nothing is not None:
        under = every(there, under)
    return Bounds(over, every(under, Matches(path, narrow.text)) if narrow.text else under)


# --- severity ------------------------------------------------------------------------------------------------------


def _severity(check: Check) -> Bounds:
    """A name stands for its four numbers; where there is no number, the text decides, which is not looked at here."""
    numbered = Compare(_SEVERITY, "!=", 0)
    texted = every(Compare(_SEVERITY, "==", 0), Compare(_SEVERITY_TEXT, "!=", ""))
    if check.operator == "exists":
        found = Bounds(either(numbered, texted), numbered)
        return found if check.operand else none_of([found])
    opposite = OPERATOR_BY_NAME[check.operator].negates
    name = opposite or check.operator
    core = every(numbered, _in_ranges(name, [_range(one) for one in operands_of(check)]))
    found = Bounds(either(core, texted), core)
    return none_of([found]) if opposite else found


def _in_ranges(name: str, ranges: list[tuple[float, float]]) -> Expression:
    low, high = ranges[0]
    if name in ("equals", "one_of"):
        return either(
            *(every(Compare(_SEVERITY, ">=", first), Compare(_SEVERITY, "<=", last)) for first, last in ranges)
        )
    return Compare(_SEVERITY, _ORDER[name], high if name in ("gt", "lte") else low)


def _range(operand: str | float) -> tuple[float, float]:
    if isinstance(operand, str):
        first = 4 * SEVERITIES.index(operand) + 1
        return first, first + 3
    return operand, operand
