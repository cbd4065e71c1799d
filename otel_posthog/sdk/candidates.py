"""Which spans a rule may be about, asked for every span of the app.

The rules' prefilter goes rule by rule. Span names repeat, so what it says about a name is remembered: most spans cost
one look into a dict, and only names that a rule is about are looked at further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from otel_posthog.rules.prefilter import Narrow
from otel_posthog.sdk.internals import attributes_of

_SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")
"""By `SpanKind` value: hashing an enum member costs more than the look itself."""
_MAX_NAMES: Final = 2_048
"""Names remembered for each kind; names made of data (`GET /order/17`) must not fill the memory."""


class Candidates:
    """The prefilter of one end of spans.

    Args:
        by_span_kind: Span kind -> what each rule about it needs.
    """

    __slots__ = ("_any", "_known", "_needs")

    def __init__(self, by_span_kind: Mapping[str, tuple[Narrow, ...]]) -> None:
        # Each need with the part of it that only the name decides.
        self._needs = tuple(
            tuple((need, replace(need, scopes=None, any_key=None)) for need in by_span_kind.get(kind, ()))
            for kind in _SPAN_KINDS
        )
        self._known: tuple[dict[str, tuple[Narrow, ...]], ...] = tuple({} for _ in _SPAN_KINDS)
        self._any = any(self._needs)

    def __bool__(self) -> bool:
        return self._any

    def admit(self, span: Any) -> bool:
        """Whether a rule may match `span`."""
        try:
            kind: int = span._kind._value_
            name = span._name
            needs = self._known[kind].get(name)
        except (AttributeError, TypeError):
            kind, name = getattr(span.kind, "value", 0), span.name
            needs = None
        if needs is None:
            needs = self._learn(kind, name)
        if not needs:
            return False
        scope = getattr(span, "instrumentation_scope", None)
        scope_name = scope.name if scope is not None else ""
        attributes = attributes_of(span)
        return any(need.admits(name, scope_name, attributes) for need in needs)

    def _learn(self, kind: int, name: Any) -> tuple[Narrow, ...]:
        found = tuple(need for need, by_name in self._needs[kind] if by_name.admits(name, "", _NOTHING))
        if type(name) is str:
            known = self._known[kind]
            if len(known) >= _MAX_NAMES:
                known.clear()
            known[name] = found
        return found


_NOTHING: Mapping[str, Any] = {}
