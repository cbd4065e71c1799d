"""Feature flags: PostHog's own evaluation, with the person, groups and properties of the request at hand.

    from otel_posthog import flags

    if flags.enabled("new-checkout"):
        ...

The `posthog` SDK evaluates (extra `flags`); what came out leaves as OpenTelemetry's `feature_flag.evaluation` through
our own lane, once for each answer, and is stamped on everything that the request does after it. No call raises, and
none waits long: where there is no answer, the caller's default counts. See docs/flags.md.
"""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.flags.answer import Answer
    from otel_posthog.flags.browser import Bootstrap, bootstrap
    from otel_posthog.flags.calls import all, config, details, enabled, experiments, interaction, payload, variant  # noqa: A004 - read as `flags.all`
    from otel_posthog.flags.guarding import FlagRequiredError, required
    from otel_posthog.flags.openfeature import openfeature_provider
    from otel_posthog.flags.overriding import override
    from otel_posthog.flags.process import FlagStats, stats
    from otel_posthog.flags.registry import Flag, Registry, UnknownFlagError, registered
    from otel_posthog.flags.tidying import Finding, unused
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            **dict.fromkeys(
                ("all", "config", "details", "enabled", "experiments", "interaction", "payload", "variant"), "calls"
            ),
            "Answer": "answer",
            "Bootstrap": "browser",
            "Finding": "tidying",
            "Flag": "registry",
            "FlagRequiredError": "guarding",
            "FlagStats": "process",
            "Registry": "registry",
            "UnknownFlagError": "registry",
            "bootstrap": "browser",
            "openfeature_provider": "openfeature",
            "override": "overriding",
            "registered": "registry",
            "required": "guarding",
            "stats": "process",
            "unused": "tidying",
        },
    )

__all__ = [
    "Answer",
    "Bootstrap",
    "Finding",
    "Flag",
    "FlagRequiredError",
    "FlagStats",
    "Registry",
    "UnknownFlagError",
    "all",
    "bootstrap",
    "config",
    "details",
    "enabled",
    "experiments",
    "interaction",
    "openfeature_provider",
    "override",
    "payload",
    "registered",
    "required",
    "stats",
    "unused",
    "variant",
]
