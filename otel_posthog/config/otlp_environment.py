"""What the environment must say so that the standard OTLP exporters work with the two variables alone; pure.

`opentelemetry-instrument` (through our entry point) and `otel-posthog run` apply it before anything is built. Nothing
that a user set is replaced, save an endpoint at PostHog that could not work as written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from otel_posthog.config import environment as names
from otel_posthog.config.endpoint import SIGNAL_SUFFIX, Endpoint
from otel_posthog.config.headers import Credential, parse_headers, with_authorization
from otel_posthog.config.lanes import Plan, find_credential, headers_variable, plan_lanes, protocol_of
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Mode, Settings
from otel_posthog.config.values import text_of
from otel_posthog.errors import ConfigError
from otel_posthog.semconv.posthog import CARRIER

HTTP = "http/protobuf"
REQUEST_HEADERS = ("x-posthog-distinct-id", "x-posthog-session-id")


def standard_otlp_environment(environ: Mapping[str, str], *, digest: str = "") -> dict[str, str]:
    """Exactly the variables to set, with their whole new values; empty while the gate is shut or the settings are bad.

    Idempotent: with its answer applied it answers with an empty dict.

    Args:
        environ: The environment as it is.
        digest: Digest of the rules that the process will load; in collector mode it becomes the resource attribute
            `posthog.carrier`. "" leaves the attribute alone.
    """
    try:
        settings = load_settings(environ)
    except ConfigError:
        # The hook says so, once, in the process that is concerned.
        return {}
    if not settings.enabled or settings.lane is None:
        return {}
    plan = plan_lanes(environ, chosen=_chosen(settings), both=settings.also is not None)
    credential = find_credential(environ, None, plan)
    wanted: dict[str, str] = {}
    wanted.update(_endpoints(plan))
    if credential:
        wanted.update(_authorization(environ, plan, credential))
    wanted.update(_protocols(environ, plan))
    wanted.update(_carrier(environ, settings, digest))
    if settings.identity.headers:
        wanted.update(_captured_headers(environ))
    return {name: value for name, value in wanted.items() if environ.get(name) != value}


def _chosen(settings: Settings) -> Mode | None:
    named = settings.sources.get("lane.mode") == "OTEL_POSTHOG_MODE"
    return settings.lane.mode if named and settings.lane else None


def _endpoints(plan: Plan) -> dict[str, str]:
    """Mends endpoints at PostHog that exporters could not use: app hosts, plain http, a missing `/i`."""
    wanted: dict[str, str] = {}
    for signal, endpoint in plan.standard.items():
        if plan.mode_of(endpoint) is not Mode.DIRECT:
            continue
        mended = _mended(endpoint)
        if mended:
            wanted[endpoint.source] = f"{mended}/v1/{signal}" if signal else mended
    return wanted


def _mended(endpoint: Endpoint) -> str:
    """The OTLP base behind an endpoint that is wrong as written; "" for one that is right or means something else."""
    bare = SIGNAL_SUFFIX.sub("", endpoint.path)
    if endpoint.on_posthog_host and bare not in ("", "/i"):
        return ""  # for instance PostHog's own AI endpoint
    base_has_suffix = not endpoint.signal and bare != endpoint.path
    own_lacks_suffix = bool(endpoint.signal) and bare == endpoint.path
    moved = endpoint.on_posthog_host and not endpoint.posthog_otlp_base.startswith(f"{endpoint.origin}/")
    if moved or base_has_suffix or own_lacks_suffix or not bare.endswith("/i"):
        return endpoint.posthog_otlp_base
    return ""


def _spread(
    plan: Plan, general: str, own: str, each: Mapping[str, str], unset: Callable[[str], bool]
) -> dict[str, str]:
    """Says one thing for all signals by the general variable where that is the same, else signal by signal.

    Args:
        plan: The endpoints.
        general: The variable of all signals.
        own: Suffix of a signal's own variable.
        each: Signal -> value, for those that need one.
        unset: Whether a signal's own variable is free, so that the general one counts for it.
    """
    followers = [signal for signal in names.SIGNALS if unset(signal)]
    values = {each.get(signal) for signal in followers}
    wanted: dict[str, str] = {}
    # A signal without an endpoint goes to its exporter's default address: nothing general may be said then.
    if "" in plan.standard and len(values) == 1 and None not in values:
        wanted[general] = each[followers[0]]
        followers_done = set(followers)
    else:
        followers_done = set[str]()
    for signal, value in each.items():
        if signal not in followers_done:
            wanted[names.signal_variable(signal, own)] = value
    return wanted


def _authorization(environ: Mapping[str, str], plan: Plan, credential: Credential) -> dict[str, str]:
    each: dict[str, str] = {}
    for signal in names.SIGNALS:
        endpoint = plan.standard_endpoint(signal)
        if endpoint is None or not plan.carries_token(endpoint):
            continue
        text = text_of(environ, headers_variable(environ, signal))
        if parse_headers(text).get("authorization"):
            continue
        direct = plan.mode_of(endpoint) is Mode.DIRECT
        value = f"Bearer {credential.token.reveal()}" if direct else credential.authorization.reveal()
        each[signal] = with_authorization(text, value)
    return _spread(
        plan, names.HEADERS, "HEADERS", each, lambda signal: headers_variable(environ, signal) == names.HEADERS
    )


def _protocols(environ: Mapping[str, str], plan: Plan) -> dict[str, str]:
    each: dict[str, str] = {}
    for signal in names.SIGNALS:
        endpoint = plan.standard_endpoint(signal)
        if endpoint is None or protocol_of(environ, signal):
            continue
        if plan.mode_of(endpoint) is Mode.DIRECT or endpoint.port != 4317:
            each[signal] = HTTP
    return _spread(
        plan,
        names.PROTOCOL,
        "PROTOCOL",
        each,
        lambda signal: not text_of(environ, names.signal_variable(signal, "PROTOCOL")),
    )


def _carrier(environ: Mapping[str, str], settings: Settings, digest: str) -> dict[str, str]:
    if not digest or settings.lane is None or settings.lane.mode is not Mode.COLLECTOR:
        return {}
    text = text_of(environ, names.RESOURCE_ATTRIBUTES)
    # A parent process may have said so already, with other rules.
    kept = [item for item in text.split(",") if item.strip() and item.partition("=")[0].strip() != CARRIER]
    return {names.RESOURCE_ATTRIBUTES: ",".join([*kept, f"{CARRIER}={quote(digest, safe='')}"])}


def _captured_headers(environ: Mapping[str, str]) -> dict[str, str]:
    text = text_of(environ, names.CAPTURE_REQUEST_HEADERS)
    have = {item.strip().lower() for item in text.split(",")}
    missing = [name for name in REQUEST_HEADERS if name not in have and ".*" not in have]
    if not missing:
        return {}
    return {names.CAPTURE_REQUEST_HEADERS: ",".join([*([text.rstrip(", ")] if text else []), *missing])}
