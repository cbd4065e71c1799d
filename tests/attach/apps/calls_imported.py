"""A module that captures while it is imported."""

import otel_posthog

AT_IMPORT = otel_posthog.capture("imported")
