"""Declarative rules: which untagged signals become which events, or none at all."""

from otel_posthog.rules.engine import RuleSet
from otel_posthog.rules.match import Match
from otel_posthog.rules.prefilter import Prefilter

__all__ = ["Match", "Prefilter", "RuleSet"]
