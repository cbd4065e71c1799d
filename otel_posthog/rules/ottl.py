"""OTTL conditions as data: built, simplified, written as text.

OTTL is the language of the OpenTelemetry Collector's filter, transform and routing components
(https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/main/pkg/ottl/LANGUAGE.md). Only what the
collector filter needs is here. Semantics that the translation relies on, read from pkg/ottl v0.159:

- a missing attribute and one of no value are `nil`, and so are bytes of length 0, which exist for a rule: the one case
  where a condition falls short; `nil` equals only `nil`, and no order holds for it;
- values of different types are never equal, except ints and doubles, which are compared as numbers;
- `and` and `or` stop at the first operand that decides, so that a guard may stand before what would fail;
- `IsMatch` searches (it is not anchored), turns scalars into text, and is false for `nil`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MAX_EXACT: Final = 1 << 53
"""Beyond it, a double is no exact integer."""


@dataclass(frozen=True, slots=True)
class Path:
    """A field of telemetry.

    Args:
        root: `resource`, `scope`, `span`, `spanevent` or `log`.
        field: With dots, e.g. `attributes` or `status.code`.
        key: Key inside a map, or None for the field itself.
    """

    root: str
    field: str
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.root}.{self.field}" + (f"[{literal(self.key)}]" if self.key is not None else "")


@dataclass(frozen=True, slots=True)
class Difference:
    """`left - right`, of two integer fields."""

    left: Path
    right: Path

    def __str__(self) -> str:
        return f"{self.left} - {self.right}"


@dataclass(frozen=True, slots=True)
class Size:
    """`Len(path)`: bytes of a text."""

    path: Path

    def __str__(self) -> str:
        return f"Len({self.path})"


@dataclass(frozen=True, slots=True)
class Compare:
    """`left operator value`; a value of None is `nil`."""

    left: Path | Difference | Size
    operator: str
    value: str | int | float | bool | None

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {literal(self.value)}"


@dataclass(frozen=True, slots=True)
class Is:
    """`IsString(path)` and its like: `String`, `Double`, `List`, `Map`."""

    type: str
    path: Path

    def __str__(self) -> str:
        return f"Is{self.type}({self.path})"


@dataclass(frozen=True, slots=True)
class Matches:
    """`IsMatch(path, pattern)`; with `keys`, on the JSON list of the keys of a map."""

    path: Path
    pattern: str
    keys: bool = False

    def __str__(self) -> str:
        return f"IsMatch({f'Keys({self.path})' if self.keys else self.path}, {literal(self.pattern)})"


@dataclass(frozen=True, slots=True)
class Contains:
    """`ContainsValue(path, value)`: an element of a list equals the value."""

    path: Path
    value: str | int | float | bool

    def __str__(self) -> str:
        return f"ContainsValue({self.path}, {literal(self.value)})"


@dataclass(frozen=True, slots=True)
class Joined:
    """Operands joined by `and` or by `or`; made by `every` and `either`."""

    how: str
    members: tuple[Expression, ...]

    def __str__(self) -> str:
        return f" {self.how} ".join(_operand(member) for member in self.members)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; made by `negated`."""

    member: Expression

    def __str__(self) -> str:
        return f"not {_operand(self.member)}"


@dataclass(frozen=True, slots=True)
class Constant:
    """`true` or `false`."""

    value: bool

    def __str__(self) -> str:
        return "true" if self.value else "false"


Expression = Compare | Is | Matches | Contains | Joined | Not | Constant

TRUE: Final = Constant(True)
FALSE: Final = Constant(False)


def every(*members: Expression) -> Expression:
    """All of `members`, simplified."""
    return _joined("and", members, neutral=TRUE, final=FALSE)


def either(*members: Expression) -> Expression:
    """One of `members` at least, simplified."""
    return _joined("or", members, neutral=FALSE, final=TRUE)


def negated(member: Expression) -> Expression:
    """The opposite of `member`, simplified."""
    if isinstance(member, Constant):
        return FALSE if member.value else TRUE
    if isinstance(member, Not):
        return member.member
    if isinstance(member, Compare) and member.operator in ("==", "!="):
        return Compare(member.left, "!=" if member.operator == "==" else "==", member.value)
    return Not(member)


def _joined(how: str, members: tuple[Expression, ...], *, neutral: Constant, final: Constant) -> Expression:
    kept: dict[Expression, None] = {}
    for member in members:
        if member == final:
            return final
        for part in member.members if isinstance(member, Joined) and member.how == how else (member,):
            if part != neutral:
                kept[part] = None
    if not kept:
        return neutral
    return Joined(how, tuple(kept)) if len(kept) > 1 else next(iter(kept))


def _operand(member: Expression) -> str:
    return f"({member})" if isinstance(member, (Joined, Not)) else str(member)


def literal(value: Any) -> str:
    """`value` as OTTL writes it.

    Raises:
        ValueError: It has no literal (`writable` tells before).
    """
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{"".join(_ESCAPES.get(character, character) for character in value)}"'
    if not writable(value):
        raise ValueError(f"OTTL has no literal for {value!r}")
    if isinstance(value, int):
        return str(value)
    text = repr(float(value))
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{e}{exponent}"


def writable(value: str | float | bool) -> bool:
    """Whether OTTL has a literal for `value`: no integer beyond 64 bits, no infinity, no lone surrogate."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return -(1 << 63) < value < 1 << 63
    return value == value and abs(value) != float("inf")


# Go's escapes: OTTL unquotes as Go does, where a raw line break in a text is an error.
_ESCAPES: Final = {chr(code): f"\\x{code:02x}" for code in (*range(32), 127)} | {
    "\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x85": "\\u0085", "\u2028": "\\u2028",
    "\u2029": "\\u2029", "\ufeff": "\\ufeff",
}  # fmt: skip
