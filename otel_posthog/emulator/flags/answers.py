"""The forms in which SDKs of all ages read evaluated flags, and what posthog-js wants to know besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_posthog.emulator.flags.definitions import payload_text
from otel_posthog.emulator.flags.rules import Outcome


def form_of(text: str | None, *, decide: bool, config: bool) -> int:
    """The form: 1 a list, 2 a map of what is on (both only `/decide`), 3 legacy, 4 records, 5 typed records."""
    try:
        given = int(text) if text is not None else 1 if decide or config else 2
    except ValueError:
        given = 1
    if decide:
        return min(given, 4) if given > 0 else 1
    return 3 if given < 2 else 4 if given == 2 else 5


def records(outcomes: Mapping[str, Outcome], failed: set[str], form: int) -> dict[str, Any]:
    """The part of an answer that holds the flags.

    Args:
        outcomes: Evaluated flags.
        failed: Keys of those that are to look as if their evaluation had failed.
        form: As `form_of` gives it.
    """
    if form >= 4:
        made = {key: _record(outcome, key in failed, typed=form > 4) for key, outcome in outcomes.items()}
        return {"flags": made}
    values = {key: outcome.value for key, outcome in outcomes.items() if key not in failed}
    on = {key: value for key, value in values.items() if value is not False}
    if form < 3:
        return {"featureFlags": list(on) if form == 1 else on}
    payloads = {key: payload_text(outcomes[key].payload) for key in values if outcomes[key].payload is not None}
    return {"featureFlags": values | dict.fromkeys(failed, False), "featureFlagPayloads": payloads}


def _record(outcome: Outcome, failed: bool, *, typed: bool) -> dict[str, Any]:
    flag = outcome.flag
    value = False if failed else outcome.value
    variant = value if isinstance(value, str) else None
    reason = {"code": outcome.reason, "condition_index": outcome.condition_index, "description": outcome.description}
    if failed:
        reason = {"code": "unknown_error", "condition_index": None, "description": "scripted fault"}
    metadata: dict[str, Any] = {
        "id": flag.id,
        "version": flag.version,
        "description": None,
        "payload": None if failed else payload_text(outcome.payload),
        "has_experiment": bool(flag.experiment),
    }
    if typed:
        metadata["config_version"] = 1
        if variant is not None:
            metadata["variant_key"] = variant
    shape = {"value": None if failed else value} if typed else {"enabled": value is not False, "variant": variant}
    return {
        "key": flag.key,
        **shape,
        **({"failed": True} if failed else {}),
        "reason": reason,
        "metadata": metadata,
    }


def browser_settings(*, has_flags: bool, recording: bool = False) -> dict[str, Any]:
    """What posthog-js wants to know besides: everything that PostHog could switch on is off, but for `recording`."""
    return {
        "supportedCompression": ["gzip", "gzip-js"],
        "hasFeatureFlags": has_flags,
        "sessionRecording": {"endpoint": "/s/", "recorderVersion": "v2"} if recording else False,
        "surveys": False,
        "heatmaps": False,
        "capturePerformance": False,
        "autocaptureExceptions": False,
        "autocapture_opt_out": False,  # without this word posthog-js captures no click
        "isAuthenticated": False,
        "toolbarParams": {},
        "config": {"enable_collect_everything": True},
    }
