"""Which spans a rule may be about, asked for every span of the app.

The rules' prefilter goes rule by rule. Span names repeat, so what it says about a name is remembered, and the rules
that are left are asked together first: most spans cost a look into a dict and two set operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from otel_posthog.lane.internals import attributes_of
from otel_posthog.rules.prefilter import Narrow

_SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")
"""By `SpanKind` value: hashing an enum member costs more than the look itself."""
_STATUSES: Final = ("unset", "ok", "error")
"""By `StatusCode` value."""
_MAX_NAMES: Final = 2_048
"""Names remembered for each kind; names made of data (`GET /order/17`) must not fill the memory."""
_NOTHING: Final[Mapping[str, Any]] = {}


class _Left:
    """The needs that a name leaves, each in one group that is ruled out as a whole."""

    __slots__ = ("by_key", "by_status", "keys_missing", "others", "statuses")

    def __init__(self, needs: Iterable[Narrow]) -> None:
        by_key: list[Narrow] = []
        by_status: list[Narrow] = []
        others: list[Narrow] = []
        keys: set[str] = set()
        statuses: set[str] = set()
        for need in needs:
            if need.any_key is not None:
                by_key.append(need)
                keys |= need.any_key
            elif need.statuses is not None:
                by_status.append(need)
                statuses |= need.statuses
            else:
                others.append(need)
        self.by_key = tuple(by_key)
        self.keys_missing: Callable[[Iterable[str]], bool] = frozenset(keys).isdisjoint
        self.by_status = tuple(by_status)
        self.statuses = frozenset(statuses)
        self.others = tuple(others)

    def __bool__(self) -> bool:
        return bool(self.by_key or self.by_status or self.others)


class Candidates:
    """The prefilter of one end of spans.

    Args:
        by_span_kind: Span kind -> what each rule about it needs.
    """

    __slots__ = ("_any", "_known", "_needs")

    def __init__(self, by_span_kind: Mapping[str, tuple[Narrow, ...]]) -> None:
        # Each need with the part of it that only the name decides.
        self._needs = tuple(
            tuple((need, _by_name_alone(need)) for need in by_span_kind.get(kind, ())) for kind in _SPAN_KINDS
        )
        self._known: tuple[dict[str, _Left | None], ...] = tuple({} for _ in _SPAN_KINDS)
        self._any = any(self._needs)

    def __bool__(self) -> bool:
        return self._any

    def admit(self, span: Any) -> bool:
        """Whether a rule may match `span`."""
        if not self._any:
            return False
        try:
            kind: int = span._kind._value_
            name: Any = span._name
            attributes: Mapping[str, Any] = span._attributes._dict
            number: int = span._status._status_code._value_
            left = self._known[kind][name]
        except (AttributeError, KeyError, TypeError):
            kind, name, attributes = getattr(span.kind, "value", 0), span.name, attributes_of(span)
            number = getattr(getattr(getattr(span, "status", None), "status_code", None), "value", 0)
            left = self._learn(kind, name)
        if left is None:
            return False
        status = _STATUSES[number]
        if left.by_key and not left.keys_missing(attributes) and _any_of(left.by_key, span, attributes, status):
            return True
        if left.by_status and status in left.statuses and _any_of(left.by_status, span, attributes, status):
            return True
        return bool(left.others) and _any_of(left.others, span, attributes, status)

    def _learn(self, kind: int, name: Any) -> _Left | None:
        needs = _Left(need for need, by_name in self._needs[kind] if by_name.admits(name, "", _NOTHING))
        left = needs or None
        if type(name) is str:
            known = self._known[kind]
            if len(known) >= _MAX_NAMES:
                known.clear()
            known[name] = left
        return left


def _by_name_alone(need: Narrow) -> Narrow:
    return replace(need, scopes=None, any_key=None, statuses=None)


def _any_of(needs: tuple[Narrow, ...], span: Any, attributes: Mapping[str, Any], status: str) -> bool:
    name, scope = span.name, getattr(getattr(span, "instrumentation_scope", None), "name", "")
    for need in needs:  # noqa: SIM110 - any() costs a generator on the request thread
        if need.admits(name, scope, attributes, status):
            return True
    return False
