"""What a page needs to know: whose it is, in which session, groups and flags, and what posthog-js may do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from otel_posthog.api.process import process as api
from otel_posthog.api.values import plain
from otel_posthog.browser.markup import Markup, script_of
from otel_posthog.browser.process import at_hand
from otel_posthog.browser.request import signed_out as nobody_is_logged_in
from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.work import work_in
from otel_posthog.flags.browser import bootstrap
from otel_posthog.flags.who import Who, who
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.config.browser import BrowserTarget
    from otel_posthog.config.settings import BrowserConfig
    from otel_posthog.lane.emitter import Emitter

DEFAULTS: Final = "2026-01-30"
"""Which of posthog-js's sets of defaults: page views on changes of the history, scripts in the head."""
_UUID7: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def write(
    *,
    request: Any = None,
    nonce: str = "",
    consent: bool | None = None,
    flags: Iterable[str] | None = None,
    properties: Mapping[str, Any] | None = None,
    signed_out: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Markup:
    """The elements for the `<head>` of the page that is being made; nothing where the gate is shut. Never raises.

    Args:
        request: Of Flask, Django or Starlette; asked who is logged in, and handed to the function for consent.
        nonce: Of the Content-Security-Policy.
        consent: Whether this visitor agreed; by configuration where `None`.
        flags: Flags that the page begins with, `["*"]` for all; by configuration where `None`.
        properties: Further properties of the page's events.
        signed_out: Nobody is logged in: whoever was so in this browser before is forgotten. By the request's user
            where `None`.
        options: Further options of posthog-js; they win.
    """
    try:
        found = at_hand()
        if found is None:
            return Markup()
        emitter, settings, target = found
        config = settings.browser
        if signed_out is None:
            signed_out = nobody_is_logged_in(request)
        ambient = _ambient()
        told = who(emitter)
        trace_id, span_id, traceparent = _trace()
        if config.page_views == "browser":
            _leave_view_to_browser(emitter)
        agreed = _consent(config, consent, request, emitter)
        page = {
            "token": target.token,
            "script": config.script or f"{config.relay or target.assets}/static/array.js",
            "granted": agreed is True or (agreed is None and config.consent == "granted"),
            "consented": agreed is True,
            "signed_out": bool(signed_out) and not told.identified,
            "groups": dict(told.groups),
            "properties": _properties(config, told, properties, trace_id, span_id, emitter),
            "options": {
                **_merged(_options(config, target), config.options, options or {}),
                "bootstrap": _bootstrap(config, told, ambient, flags),
            },
        }
        return script_of(page, traceparent=traceparent, nonce=nonce)
    except Exception as error:  # noqa: BLE001 - an edge: the page goes on without
        api.guard.failed("browser.script", error)
        return Markup()


def _ambient() -> Ambient:
    from opentelemetry import context, trace

    here = context.get_current()
    work = work_in(here, trace.get_current_span(here).get_span_context().trace_id)
    return NOTHING if work is None else work.ambient


def _options(config: BrowserConfig, target: BrowserTarget) -> dict[str, Any]:
    recording: dict[str, Any] = {"maskAllInputs": True}
    if config.recording == "text":
        recording["maskTextSelector"] = "*"
    return {
        "api_host": config.relay or target.host,
        "ui_host": target.ui,
        "defaults": DEFAULTS,
        "person_profiles": "identified_only",
        # On localhost posthog-js would make a person of each visitor, marked as a test user.
        "internal_or_test_user_hostname": None,
        "autocapture": config.autocapture,
        "capture_pageview": "history_change" if config.page_views == "browser" else False,
        "capture_pageleave": "if_capture_pageview",
        "disable_session_recording": config.recording == "off",
        "session_recording": recording,
        # The server reads this one, too.
        "opt_out_capturing_persistence_type": "cookie",
    }


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The options of all, later ones first; of groups of options each one by itself, so that masking stays on."""
    made: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            before = made.get(name)
            made[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return made


def _bootstrap(config: BrowserConfig, told: Who, ambient: Ambient, flags: Iterable[str] | None) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if told.distinct_id:
        made["distinctID"] = told.distinct_id
        made["isIdentifiedID"] = told.identified
    if _UUID7.fullmatch(ambient.session_id.lower()):
        made["sessionID"] = ambient.session_id
    values: dict[str, Any] = dict(ambient.flags)
    wanted = tuple(config.flags if flags is None else flags)
    if wanted:
        asked = bootstrap(only=None if "*" in wanted else wanted, payloads=True)
        values = {**asked["featureFlags"], **values}
        if asked.get("featureFlagPayloads"):
            made["featureFlagPayloads"] = asked["featureFlagPayloads"]
    made["featureFlags"] = values
    return made


def _properties(
    config: BrowserConfig, told: Who, given: Mapping[str, Any] | None, trace_id: str, span_id: str, emitter: Emitter
) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: told.person_properties[name] for name in config.properties if name in told.person_properties
    }
    if given:
        found.update(plain(given, emitter.edge.guard) or {})
    if trace_id:
        found[posthog.TRACE_PROPERTY] = trace_id
        found[posthog.SPAN_PROPERTY] = span_id
    if config.relay and not config.relay_client_ip:
        # PostHog would look up where the server stands.
        found["$geoip_disable"] = True
    return found


def _consent(config: BrowserConfig, given: bool | None, request: Any, emitter: Emitter) -> bool | None:
    """What is known of the visitor's consent; no, where that could not be found out."""
    if given is not None or ":" not in config.consent:
        return given
    module, _, path = config.consent.partition(":")
    try:
        said = reduce(getattr, path.split("."), cast("Any", import_module(module)))(request)
    except Exception as error:  # noqa: BLE001 - the app's own function
        emitter.edge.guard.misused(
            "consent",
            "otel-posthog: %s failed (%s), which counts as no consent: nothing is loaded into the page",
            config.consent,
            type(error).__name__,
        )
        return False
    return None if said is None else bool(said)


def _trace() -> tuple[str, str, str]:
    """Ids of the current trace and span as text, and both as a `traceparent`; all "" outside of any."""
    from opentelemetry import trace

    here = trace.get_current_span().get_span_context()
    if not here.is_valid:
        return "", "", ""
    trace_id, span_id = f"{here.trace_id:032x}", f"{here.span_id:016x}"
    return trace_id, span_id, f"00-{trace_id}-{span_id}-{here.trace_flags & 0xFF:02x}"


def _leave_view_to_browser(emitter: Emitter) -> None:
    """Says on the request's span that the page captures its view itself: the rule set for page views stands back."""
    from opentelemetry import trace

    span = trace.get_current_span()
    root = emitter.edge.roots.of(span.get_span_context().trace_id)
    for one in (span, root):
        if one is not None and one.is_recording():
            one.set_attribute(posthog.PAGE_VIEW, "browser")


__all__ = ["write"]
