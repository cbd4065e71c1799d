"""Declarative rules: which untagged signals become which events, or none at all."""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.rules.engine import RuleSet
    from otel_posthog.rules.match import Match
    from otel_posthog.rules.prefilter import Prefilter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "Match": "match",
            "Prefilter": "prefilter",
            "RuleSet": "engine",
        },
    )

__all__ = ["Match", "Prefilter", "RuleSet"]
