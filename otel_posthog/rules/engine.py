"""First match wins: `RuleSet.match(signal)`.

Rules are compiled once into closures and indexed by what a signal is, so that a signal of a kind that no rule is about
costs one dictionary lookup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from otel_posthog.rules.prefilter import Prefilter

if TYPE_CHECKING:
    # The compiler brings `re`, `fnmatch`, `hashlib` and friends: processes without rules do not load it.
    from otel_posthog.model import Signal
    from otel_posthog.rules.compiled import CompiledRule
    from otel_posthog.rules.match import Match
    from otel_posthog.rules.rule import Rule

_NO_RULES = Prefilter()


class RuleSet:
    """An ordered, compiled set of rules; immutable.

    Args:
        rules: In order of precedence.
    """

    __slots__ = ("_by_kind", "_by_span_kind", "_digest", "_prefilter", "_rules")

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules = tuple(rules)
        self._by_kind: dict[str, tuple[CompiledRule, ...]] = {}
        self._by_span_kind: dict[str, tuple[CompiledRule, ...]] = {}
        self._prefilter = _NO_RULES
        self._digest = ""
        if self._rules:
            from otel_posthog.rules.compiled import digest_of, index_by_kind, index_by_span_kind
            from otel_posthog.rules.narrowing import prefilter_of

            self._by_kind = index_by_kind(self._rules)
            self._by_span_kind = index_by_span_kind(self._rules)
            self._prefilter = prefilter_of(self._rules)
            self._digest = digest_of(self._rules)

    def match(self, signal: Signal) -> Match | None:
        """The filled-in action of the first rule that matches `signal`, or `None`. Never raises."""
        if not self._rules:
            return None
        kind = signal.kind._value_  # hashing an enum member is a Python call
        for rule in self._by_span_kind.get(signal.span_kind, ()) if kind == "span" else self._by_kind.get(kind, ()):
            found = rule.apply(signal)
            if found is not None:
                return found
        return None

    @property
    def digest(self) -> str:
        """Hex digest of the rules' meaning, equal in every process that loaded the same rules; "" for none.

        Comments, order of keys and shorthands make no difference; order and names of rules do.
        """
        return self._digest

    @property
    def prefilter(self) -> Prefilter:
        """The cheap necessary condition for the request thread."""
        return self._prefilter

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the rules, in order."""
        return tuple(rule.name for rule in self._rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules as data, in order."""
        return self._rules

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __len__(self) -> int:
        return len(self._rules)
