"""`Prefilter`: a cheap necessary condition, for the request thread.

`RuleSet.match` wants a whole Signal, which costs microseconds to build. Most spans cannot match any rule, and that can
be told from the live span's kind, name, scope and attribute keys. Necessary, never sufficient: what `match` matches
always passes; what passes need not match. `narrowing.py` makes it from the rules; this module alone is loaded by
processes without any.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from otel_posthog.model.frozen import frozen
from otel_posthog.rules.pattern import MAX_TEXT

_FEW = 4


@frozen
class Narrow:
    """What one rule needs of a span; None where it cannot be narrowed.

    Args:
        names: The span's name is one of these.
        scopes: The scope's name is one of these.
        any_key: At least one of these attribute keys is there.
        name_like: This pattern is found in the span's name. Without it, one rule that names spans by a pattern would
            have every span of the app handed over.
        statuses: The span's status is one of these.
    """

    names: frozenset[str] | None = None
    scopes: frozenset[str] | None = None
    any_key: frozenset[str] | None = None
    name_like: re.Pattern[str] | None = None
    statuses: frozenset[str] | None = None

    def admits(self, name: str, scope: str, attributes: Mapping[str, Any], status: str = "") -> bool:
        """Whether a span with these may match; a `status` of "" is not known."""
        if self.statuses is not None and status and status not in self.statuses:
            return False
        if self.names is not None and name not in self.names:
            return False
        if self.scopes is not None and scope not in self.scopes:
            return False
        keys = self.any_key
        if keys is not None:
            if len(keys) > _FEW:
                if keys.isdisjoint(attributes):
                    return False
            else:
                # A few probes are cheaper than walking all attributes, which is what isdisjoint() does with a mapping.
                for key in keys:
                    if key in attributes:
                        break
                else:
                    return False
        like = self.name_like
        # Last, since it costs most. A name that is no text (the SDK does not look) is left to `match`.
        return like is None or type(name) is not str or like.search(name, 0, MAX_TEXT) is not None


@frozen
class Prefilter:
    """What a rule set needs of an item at the least; None means "cannot be narrowed".

    The flat fields speak of spans and are unions over all rules on spans; `span()` is sharper, since it goes rule by
    rule. A span also has to be handed over when it has span events and `span_events` is set.

    Args:
        spans: Some rule is about spans.
        span_events: Some rule is about span events.
        logs: Some rule is about log records.
        start: Some rule fires at the start of a span.
        span_kinds: Kinds of span that a rule is about.
        names: Names of span that a rule is about.
        scopes: Scope names that a rule is about.
        any_key: Attribute keys of which a span must have at least one.
        by_span_kind: Span kind -> needs of each rule; a kind that no rule is about is not there.
        starts_by_span_kind: The same for rules that fire at the start.
    """

    spans: bool = False
    span_events: bool = False
    logs: bool = False
    start: bool = False
    span_kinds: frozenset[str] | None = frozenset()
    names: frozenset[str] | None = frozenset()
    scopes: frozenset[str] | None = frozenset()
    any_key: frozenset[str] | None = frozenset()
    by_span_kind: Mapping[str, tuple[Narrow, ...]] = field(default_factory=dict[str, tuple[Narrow, ...]])
    starts_by_span_kind: Mapping[str, tuple[Narrow, ...]] = field(default_factory=dict[str, tuple[Narrow, ...]])

    def span(self, span_kind: str, name: str, scope: str, attributes: Mapping[str, Any]) -> bool:
        """Whether an ended span may match a rule. `attributes` is only asked for keys."""
        for narrow in self.by_span_kind.get(span_kind, ()):  # noqa: SIM110 # as in Narrow.admits
            if narrow.admits(name, scope, attributes):
                return True
        return False
