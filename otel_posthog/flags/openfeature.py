"""OpenFeature with PostHog's own provider, whose evaluations and events take our way.

    from openfeature import api
    api.set_provider(flags.openfeature_provider())

Its client sends no events of its own: what it would send leaves by our lane, so that it is counted once, also behind a
Collector. The hook of `openfeature-hooks-opentelemetry` may stand beside it: what that says about this provider is
known already, and dropped (docs/decisions/0120). Providers of other makers need the hook alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from otel_posthog.errors import ConfigError
from otel_posthog.flags.process import client


def openfeature_provider(**options: Any) -> Any:
    """PostHog's OpenFeature provider (`PostHogProvider`) over this process's flag client.

    Args:
        **options: As for `PostHogProvider`: `default_distinct_id`, `send_feature_flag_events`.

    Raises:
        ConfigError: Flags are off, or `openfeature-provider-posthog` is not installed.
    """
    asking, _, why = client.get()
    if asking is None:
        from otel_posthog.flags.answer import REASONS

        raise ConfigError(f"there is no flag client: {REASONS.get(why, why)}", hint="`otel-posthog status` says more")
    try:
        module = import_module("openfeature.contrib.provider.posthog")
    except ModuleNotFoundError:
        raise ConfigError(
            "PostHog's OpenFeature provider is not installed", hint="pip install openfeature-provider-posthog"
        ) from None
    return module.PostHogProvider(asking.sdk, **options)
