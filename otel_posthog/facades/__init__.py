"""The calls that apps wrote around PostHog's older SDKs, on today's: such code moves by changing its imports.

    from otel_posthog.facades import get_feature_flag, identify_user, track_event

Each is one call of `otel_posthog` or of `otel_posthog.flags`, with the arguments that such helpers have, and gives what
they promised. New code calls those. docs/compatibility.md has the pairs, and what was wrong before.
"""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.facades.analytics import group_identify, identify_user, track_event
    from otel_posthog.facades.features import (
        feature_flag_required,
        get_active_experiments,
        get_all_feature_flags,
        get_feature_flag,
        get_feature_flag_payload,
        inject_feature_flags_to_frontend,
        is_feature_enabled,
        track_feature_flag_interaction,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            **dict.fromkeys(("group_identify", "identify_user", "track_event"), "analytics"),
            **dict.fromkeys(
                (
                    "feature_flag_required",
                    "get_active_experiments",
                    "get_all_feature_flags",
                    "get_feature_flag",
                    "get_feature_flag_payload",
                    "inject_feature_flags_to_frontend",
                    "is_feature_enabled",
                    "track_feature_flag_interaction",
                ),
                "features",
            ),
        },
    )

__all__ = [
    "feature_flag_required",
    "get_active_experiments",
    "get_all_feature_flags",
    "get_feature_flag",
    "get_feature_flag_payload",
    "group_identify",
    "identify_user",
    "inject_feature_flags_to_frontend",
    "is_feature_enabled",
    "track_event",
    "track_feature_flag_interaction",
]
