"""What needs state or a clock: once-only items, exceptions seen, caps. A map from CaptureEvent to CaptureEvent."""

from otel_posthog.policy.policy import Policy, PolicyLimits

__all__ = ["Policy", "PolicyLimits"]
