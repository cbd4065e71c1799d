"""otel-posthog: OpenTelemetry spans, logs and exceptions become PostHog events, people, groups and errors.

Importing this package does no work: parts are imported when they are first used.
"""

from otel_posthog.version import __version__

__all__ = ["__version__"]
