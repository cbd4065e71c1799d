"""Regular expressions that could hang a process are refused at load.

Python's engine backtracks. Where a repeat can read one and the same text in two ways, as in `(a+)+b`, `(a|a)*` or
`(a?a?)*`, it tries all combinations: time exponential in the length of a hostile attribute value, on a thread that
other telemetry waits for.

The pattern is made a graph of its positions (the places that take one character, and which can follow which, in how
many ways). It is exponential if some position can be reached from itself by two different ways over equal text: two
walkers that start together, part, and meet again. The graph of both walkers shows it.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Final, cast

MAX_TEXT: Final = 4096
"""Characters of a value that a pattern sees. What is not refused is polynomial: `a.*b.*c` is quadratic in it."""

_MAX_COPIES: Final = 8
"""A limited repeat is written out so often at the most; beyond it counts as unlimited: 2 to the 30th is for ever."""
_MAX_PAIRS: Final = 200_000

Symbols = frozenset[str]
_Graph = dict[int, dict[int, int]]


def to_search(pattern: str) -> str:
    """`pattern` for `re.search`, without a leading `.*`, which says nothing there and costs one degree of time."""
    for useless in (".*?", ".*"):
        rest = pattern[len(useless) :]
        if pattern.startswith(useless) and not rest.startswith(("+", "?", "*", "{")):
            return rest
    return pattern


def slow_part(pattern: str) -> str:
    """Describes what makes a valid `pattern` exponential, "" where nothing does."""
    with warnings.catch_warnings():
        # 3.10 calls it `sre_parse`, later versions `re._parser`; same function, same tree.
        warnings.simplefilter("ignore", DeprecationWarning)
        parser: Any = getattr(re, "_parser", None)
        if parser is None:
            import sre_parse as parser
        tree = parser.parse(pattern)
    positions = _Positions(_alphabet(tree), ignore_case=bool(tree.state.flags & re.IGNORECASE))
    positions.read(tree)
    found = _ambiguous(positions.symbols, positions.followers)
    return "a repeat can read the same text in several ways" if found else ""


class _Positions:
    """The positions of a pattern: what each takes, and which follow it in how many ways (2 for any number above 1)."""

    def __init__(self, alphabet: frozenset[str], *, ignore_case: bool) -> None:
        self._alphabet = alphabet
        self._flags = re.IGNORECASE if ignore_case else 0
        self.symbols: list[Symbols] = []
        self.followers: _Graph = {}

    def read(self, tree: Any) -> tuple[dict[int, int], dict[int, int], int]:
        """(first positions, last positions, ways to take nothing) of a sequence; each position with its ways."""
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        empty = 1
        for operation, argument in cast("list[tuple[Any, Any]]", list(tree)):
            part = self._part(str(operation), operation, argument)
            self._follow(last, part[0])
            _add(first, part[0], empty)
            last = _add(dict(part[1]), last, part[2])
            empty = min(2, empty * part[2])
        return first, last, empty

    def _part(self, name: str, operation: Any, argument: Any) -> tuple[dict[int, int], dict[int, int], int]:
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            position = len(self.symbols)
            self.symbols.append(self._taken(name, operation, argument))
            self.followers[position] = {}
            return {position: 1}, {position: 1}, 0
        if name == "SUBPATTERN":
            return self.read(argument[-1])
        if name == "BRANCH":
            first: dict[int, int] = {}
            last: dict[int, int] = {}
            empty = 0
            for branch in argument[1]:
                one = self.read(branch)
                _add(first, one[0], 1)
                _add(last, one[1], 1)
                empty = min(2, empty + one[2])
            return first, last, empty
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            return self._repeat(*argument)
        if name in ("ASSERT", "ASSERT_NOT"):
            self.read(argument[1])  # looked at by itself: it takes nothing
        elif name == "ATOMIC_GROUP":
            self.read(argument)
        elif name == "POSSESSIVE_REPEAT":
            self.read(argument[2])
        # Anchors and back references too: nothing that could be read in two ways.
        return {}, {}, 1

    def _repeat(self, least: int, most: Any, body: Any) -> tuple[dict[int, int], dict[int, int], int]:
        if str(most) == "MAXREPEAT" or most > _MAX_COPIES:
            one = self.read(body)
            self._follow(one[1], one[0])
            # The engine stops repeating nothing by itself.
            return one[0], one[1], one[2] if least else 1
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        empty = 1
        for copy in range(int(most)):
            one = self.read(body)
            self._follow(last, one[0])
            _add(first, one[0], empty)
            skipped = copy >= least
            last = _add(dict(one[1]), last, 1 if skipped else one[2])
            empty = empty if skipped else min(2, empty * one[2])
        return first, last, empty

    def _follow(self, last: dict[int, int], first: dict[int, int]) -> None:
        for position, ways in last.items():
            _add(self.followers[position], first, ways)

    def _taken(self, name: str, operation: Any, argument: Any) -> Symbols:
        if name == "ANY":
            return self._alphabet
        items = argument if name == "IN" else [(operation, argument)]
        negated = name == "NOT_LITERAL" or str(items[0][0]) == "NEGATE"
        taken: set[str] = set()
        for kind, what in items:
            taken |= {character for character in self._alphabet if _takes(str(kind), what, character, self._flags)}
        return self._alphabet - taken if negated else frozenset(taken)


def _takes(kind: str, what: Any, character: str, flags: int) -> bool:
    forms = {character, character.lower(), character.upper()} if flags else {character}
    if kind in ("LITERAL", "NOT_LITERAL"):
        return chr(what) in forms
    if kind == "RANGE":
        return any(len(form) == 1 and what[0] <= ord(form) <= what[1] for form in forms)
    if kind == "CATEGORY":
        escape = _CATEGORIES.get(str(what))
        return escape is not None and re.match(escape, character) is not None
    return False


_CATEGORIES: Final = {
    "CATEGORY_DIGIT": r"\d", "CATEGORY_NOT_DIGIT": r"\D", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w", "CATEGORY_NOT_WORD": r"\W",
}  # fmt: skip


def _alphabet(tree: Any) -> frozenset[str]:
    """Characters that stand for all: those that the pattern names, their neighbours, and one or more of each class."""
    named: set[int] = set()

    def gather(part: object) -> None:
        if isinstance(part, int) and not isinstance(part, bool):
            named.update((part - 1, part, part + 1))
        elif isinstance(part, (list, tuple)) or type(part).__name__ == "SubPattern":
            for inner in list(cast("list[Any]", part)):
                gather(inner)

    gather(tree)
    return frozenset({chr(code) for code in named if 0 <= code <= 0x10FFFF} | set("0aZ_ \n-é\u0660€"))


def _add(into: dict[int, int], what: dict[int, int], ways: int) -> dict[int, int]:
    if ways:
        for position, count in what.items():
            into[position] = min(2, into.get(position, 0) + count * ways)
    return into


def _ambiguous(symbols: list[Symbols], followers: _Graph) -> bool:
    component = _components({node: tuple(edges) for node, edges in followers.items()})
    inside = {
        node: {after: ways for after, ways in edges.items() if component[after] == component[node]}
        for node, edges in followers.items()
    }
    if any(ways > 1 for edges in inside.values() for ways in edges.values()):
        return True
    pairs: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    waiting = [(node, node) for node, edges in inside.items() if edges]
    while waiting:
        pair = waiting.pop()
        if pair in pairs:
            continue
        pairs[pair] = tuple(
            (left, right)
            for left in inside[pair[0]]
            for right in inside[pair[1]]
            if not symbols[left].isdisjoint(symbols[right])
        )
        waiting.extend(pairs[pair])
        if len(pairs) > _MAX_PAIRS:
            return True  # nobody can say, and nobody needs such a pattern
    together = _components(pairs)
    meeting = {together[pair] for pair in pairs if pair[0] == pair[1]}
    return any(pair[0] != pair[1] and together[pair] in meeting for pair in pairs)


def _components(graph: Any) -> dict[Any, int]:
    """The strongly connected component of each node (Tarjan, without recursion)."""
    order: dict[Any, int] = {}
    low: dict[Any, int] = {}
    found: dict[Any, int] = {}
    stack: list[Any] = []
    for start in graph:
        if start in order:
            continue
        order[start] = low[start] = len(order)
        stack.append(start)
        work = [(start, iter(graph[start]))]
        while work:
            node, edges = work[-1]
            for after in edges:
                if after not in order:
                    order[after] = low[after] = len(order)
                    stack.append(after)
                    work.append((after, iter(graph[after])))
                    break
                if after not in found:
                    low[node] = min(low[node], order[after])
            else:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == order[node]:
                    number = len(found)
                    while True:
                        member = stack.pop()
                        found[member] = number
                        if member == node:
                            break
    return found
