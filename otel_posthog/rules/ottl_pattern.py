r"""Python's regular expressions and globs -> RE2, which the Collector has: never too narrow, or never too wide.

The two dialects differ where it hurts: RE2 has no lookaround and no back references, its `\d`, `\w`, `\s` and `\b` know
ASCII alone, and its `$` does not forgive a last line break. So a pattern is translated from its parse tree, twice:

- `wider(pattern)` is found in every text that the pattern is found in (and perhaps in more): what RE2 cannot say is
  left out, a class takes all that is not ASCII along;
- `narrower(pattern)` is found in no text that the pattern is not found in, or is None where that cannot be promised.
"""

from __future__ import annotations

import fnmatch
import re
import warnings
from dataclasses import dataclass
from typing import Any, Final, cast

_MAX_REPEAT: Final = 1000
"""RE2 refuses more, nested repeats multiplied."""
_REST: Final = r"\x{80}-\x{10FFFF}"
# Name of a class in the parse tree -> (set of at least its characters, set of at most its characters).
_CLASSES: Final = {
    "CATEGORY_DIGIT": (f"0-9{_REST}", "0-9"),
    "CATEGORY_NOT_DIGIT": (rf"\x00-/:-\x7f{_REST}", r"\x00-/:-\x7f"),
    "CATEGORY_SPACE": (rf"\t-\r\x1c-\x20{_REST}", r"\t-\r\x1c-\x20"),
    "CATEGORY_NOT_SPACE": (rf"\x00-\x08\x0e-\x1b!-\x7f{_REST}", r"\x00-\x08\x0e-\x1b!-\x7f"),
    "CATEGORY_WORD": (f"0-9A-Za-z_{_REST}", "0-9A-Za-z_"),
    "CATEGORY_NOT_WORD": (rf"\x00-/:-@\[-\^`\{{-\x7f{_REST}", r"\x00-/:-@\[-\^`\{-\x7f"),
}


@dataclass(frozen=True, slots=True)
class Translated:
    """A pattern for RE2.

    Args:
        text: The pattern.
        anchored: It looks at the end of the text, so that it matters where the text was cut.
    """

    text: str
    anchored: bool


class _CannotError(Exception):
    """The pattern cannot be translated so."""


def wider(pattern: str) -> Translated:
    """An RE2 pattern that is found wherever `pattern` is."""
    try:
        return _Translation(pattern, narrow=False).translated()
    except _CannotError:
        return Translated("", anchored=False)


def narrower(pattern: str) -> Translated | None:
    """An RE2 pattern that is found only where `pattern` is too; None where there is none."""
    try:
        return _Translation(pattern, narrow=True).translated()
    except _CannotError:
        return None


def glob_pattern(glob: str) -> str:
    """`glob` as a regular expression of Python for `search`; without an end where any end will do.

    `fnmatch.translate` gives the same, by means that RE2 does not have: groups that never give back.
    """
    parts: list[str] = []
    position = 0
    while position < len(glob):
        character = glob[position]
        end = position + 1
        if character == "*":
            parts.append("*")
        elif character == "?":
            parts.append(".")
        elif character == "[" and (close := _closing(glob, position)):
            end = close + 1
            parts.append(fnmatch.translate(glob[position:end])[len("(?s:") : -len(r")\Z")])
        else:
            parts.append(re.escape(character))
        position = end
    anything = bool(parts) and parts[-1] == "*"
    while parts and parts[-1] == "*":
        parts.pop()
    if anything and not parts:
        return ""
    return rf"\A(?s:{''.join('.*' if part == '*' else part for part in parts)}){'' if anything else _END}"


def _closing(glob: str, start: int) -> int:
    """Where the set that begins at `start` ends, as fnmatch has it; 0 where it is no set."""
    position = start + 1
    position += glob[position : position + 1] == "!"
    position += glob[position : position + 1] == "]"
    return max(glob.find("]", position), 0)


_END: Final = fnmatch.translate("")[-2:]
"""How this Python ends a pattern: `\\Z`, or `\\z` from 3.14 on."""


_TURKISH: Final = r"\x{130}\x{131}"
"""What `i` without regard to case is for Python too, and not for RE2."""


def _character(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        raise _CannotError
    character = chr(code)
    if code > 127 or not character.isprintable():
        return f"\\x{{{code:X}}}"
    return f"\\{character}" if character in r"\.+*?()|[]{}^$-" else character


class _Translation:
    def __init__(self, pattern: str, *, narrow: bool) -> None:
        self._narrow = narrow
        self._anchored = False
        with warnings.catch_warnings():
            # 3.10 calls it `sre_parse`, later versions `re._parser`; same function, same tree. What it has to warn of
            # was said when the rules were read.
            warnings.simplefilter("ignore")
            parser: Any = getattr(re, "_parser", None)
            if parser is None:
                import sre_parse as parser
            self._tree: Any = parser.parse(pattern)
        flags: int = self._tree.state.flags
        self._ignore_case = bool(flags & re.IGNORECASE)
        self._multiline = bool(flags & re.MULTILINE)
        self._dot_all = bool(flags & re.DOTALL)

    def translated(self) -> Translated:
        text = self._sequence(self._tree, tail=True, budget=_MAX_REPEAT)
        return Translated(f"(?i){text}" if self._ignore_case and text else text, self._anchored)

    def _give_up(self, instead: str = "") -> str:
        """`instead` of what RE2 cannot say, which is right where more may be found."""
        if self._narrow:
            raise _CannotError
        return instead

    def _sequence(self, tree: Any, *, tail: bool, budget: int) -> str:
        parts = cast("list[tuple[Any, Any]]", list(tree))
        return "".join(
            self._part(str(operation), argument, tail=tail and index == len(parts) - 1, budget=budget)
            for index, (operation, argument) in enumerate(parts)
        )

    def _part(self, name: str, argument: Any, *, tail: bool, budget: int) -> str:
        if name == "LITERAL":
            return self._literal(argument)
        if name == "NOT_LITERAL":
            return self._set([("NEGATE", None), ("LITERAL", argument)])
        if name == "ANY":
            return r"[\x00-\x{10FFFF}]" if self._dot_all else r"[^\n]"
        if name == "IN":
            return self._set(argument)
        if name == "BRANCH":
            return f"(?:{'|'.join(self._sequence(branch, tail=tail, budget=budget) for branch in argument[1])})"
        if name == "SUBPATTERN":
            return self._group(*argument[1:], tail=tail, budget=budget)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            return self._repeat(*argument, budget=budget)
        if name == "AT":
            return self._at(str(argument), tail=tail)
        if name in ("ASSERT", "ASSERT_NOT"):
            return self._give_up()
        # What follows never gives back what was taken, in Python; where more may be found, it may as well.
        if name == "ATOMIC_GROUP":
            return self._give_up() or f"(?:{self._sequence(argument, tail=tail, budget=budget)})"
        if name == "POSSESSIVE_REPEAT":
            return self._give_up() or self._repeat(*argument, budget=budget)
        # Back references and what is to come.
        return self._give_up(self._any_text())

    @staticmethod
    def _any_text() -> str:
        return r"[\x00-\x{10FFFF}]*"

    def _group(self, added: int, removed: int, body: Any, *, tail: bool, budget: int) -> str:
        if removed or added & ~(re.DOTALL | re.UNICODE):
            return self._give_up(self._any_text())
        outside = self._dot_all
        self._dot_all = outside or bool(added & re.DOTALL)
        inner = self._sequence(body, tail=tail, budget=budget)
        self._dot_all = outside
        # Alternatives bring a group of their own.
        return inner if len(body) == 1 and str(body[0][0]) == "BRANCH" else f"(?:{inner})"

    def _literal(self, code: int) -> str:
        if self._ignore_case and code > 127:
            # The two dialects fold letters beyond ASCII by different tables.
            return self._give_up(f"[A-Za-z{_REST}]")
        if self._ignore_case and chr(code) in "iI" and not self._narrow:
            return f"[iI{_TURKISH}]"
        return _character(code)

    def _set(self, items: Any) -> str:
        members = cast("list[tuple[Any, Any]]", list(items))
        negative = bool(members) and str(members[0][0]) == "NEGATE"
        # The more a set excludes, the less it takes.
        least = self._narrow is not negative
        parts: list[str] = []
        for kind, what in members[1:] if negative else members:
            name = str(kind)
            if name == "CATEGORY" and str(what) in _CLASSES:
                parts.append(_CLASSES[str(what)][1 if least else 0])
                continue
            if name not in ("LITERAL", "RANGE"):
                raise _CannotError
            first, last = (what, what) if name == "LITERAL" else what
            if self._ignore_case and last > 127:
                raise _CannotError
            parts.append(_character(first) if first == last else f"{_character(first)}-{_character(last)}")
        if self._ignore_case and not least:
            parts.append(_TURKISH)
        return f"[{'^' if negative else ''}{''.join(parts)}]"

    def _repeat(self, least: int, most: Any, body: Any, *, budget: int) -> str:
        unlimited = str(most) == "MAXREPEAT"
        top = int(least) if unlimited else int(most)
        if top > budget:
            # As few as can be said, and any number: more may be found.
            self._give_up()
            least, top, unlimited = min(int(least), 1), min(int(least), 1), True
        inner = self._sequence(body, tail=False, budget=budget // max(top, 1))
        if not inner:
            return ""
        if unlimited:
            count = "*" if not least else "+" if least == 1 else f"{{{least},}}"
        else:
            count = "?" if (least, top) == (0, 1) else f"{{{least},{top}}}"
        # One character, or in brackets already; what was given up in a group need not be.
        one = len(body) == 1 and str(body[0][0]) in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "BRANCH")
        return f"{inner}{count}" if one else f"(?:{inner}){count}"

    def _at(self, where: str, *, tail: bool) -> str:
        if where == "AT_BEGINNING_STRING" or (where == "AT_BEGINNING" and not self._multiline):
            return r"\A"
        if where == "AT_BEGINNING":
            return "(?m:^)"
        if where == "AT_END" and self._multiline:
            self._anchored = True
            return "(?m:$)"
        if where == "AT_END":
            # RE2 cannot look ahead for a last line break: it is taken along, which only the last part may do.
            if not tail:
                return self._give_up()
            self._anchored = True
            return r"\n?\z"
        if where == "AT_END_STRING":
            self._anchored = True
            return r"\z"
        # Word boundaries: RE2 asks for ASCII letters, Python for any.
        return self._give_up()
