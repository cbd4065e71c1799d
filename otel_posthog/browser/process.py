"""What pages and the relay of this process need to know of PostHog; says once why there is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_posthog import assembly
from otel_posthog.api.process import process as api
from otel_posthog.config.browser import BrowserTarget, browser_target

if TYPE_CHECKING:
    from otel_posthog.config.settings import Settings
    from otel_posthog.lane.emitter import Emitter


def at_hand() -> tuple[Emitter, Settings, BrowserTarget] | None:
    """Whom to report to, the settings, and where PostHog is; `None` where nothing is written or relayed."""
    emitter = api.get()
    runtime = assembly.current()
    if emitter is None or runtime is None:
        return None
    target, why = browser_target(runtime.settings)
    if target is None:
        api.complaints.say("browser", "otel-posthog: pages get no script, and nothing is relayed: %s", why)
        return None
    return emitter, runtime.settings, target


__all__ = ["at_hand"]
