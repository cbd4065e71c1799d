"""otel-posthog: OpenTelemetry spans, logs and exceptions become PostHog events, people, groups and errors.

    import otel_posthog

    otel_posthog.identify("user-42", set={"plan": "pro"})
    otel_posthog.capture("order paid", {"total": 29.0})

Importing this package does no work: parts are imported when they are first used.

PYTEST_DONT_REWRITE: under `opentelemetry-instrument pytest` this is imported before pytest is, which would warn that it
cannot rewrite our asserts. There are none for it to rewrite.
"""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports
from otel_posthog.version import __version__

if TYPE_CHECKING:
    from otel_posthog.api.capture import capture
    from otel_posthog.api.control import flush, reload, shutdown
    from otel_posthog.api.exceptions import capture_exception
    from otel_posthog.api.groups import group
    from otel_posthog.api.held import scope, super_properties
    from otel_posthog.api.people import alias, identify, reset, set_person, unset_person
    from otel_posthog.api.timed import captured, timed

__all__ = [
    "__version__",
    "alias",
    "capture",
    "capture_exception",
    "captured",
    "flush",
    "group",
    "identify",
    "reload",
    "reset",
    "scope",
    "set_person",
    "shutdown",
    "super_properties",
    "timed",
    "unset_person",
]

_HOMES = {
    "alias": "api.people",
    "capture": "api.capture",
    "capture_exception": "api.exceptions",
    "captured": "api.timed",
    "flush": "api.control",
    "group": "api.groups",
    "identify": "api.people",
    "reload": "api.control",
    "reset": "api.people",
    "scope": "api.held",
    "set_person": "api.people",
    "shutdown": "api.control",
    "super_properties": "api.held",
    "timed": "api.timed",
    "unset_person": "api.people",
}
__getattr__ = lazy_exports(__name__, _HOMES)
