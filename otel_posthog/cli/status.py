"""`otel-posthog status`: each feature on or off, why, and which source decided. Never a secret."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any

from otel_posthog.cli.installed import Installed, look_around
from otel_posthog.config.endpoint import parse_endpoint
from otel_posthog.config.environment import DISABLED_INSTRUMENTATIONS
from otel_posthog.config.flags import flags_target
from otel_posthog.config.lanes import exports_otlp, headers_variable, plan_lanes, protocol_of
from otel_posthog.config.load import load_settings
from otel_posthog.config.otlp_environment import standard_otlp_environment
from otel_posthog.config.settings import GateCheck, Lane, Mode, Settings
from otel_posthog.errors import ConfigError
from otel_posthog.rules.engine import RuleSet
from otel_posthog.rules.load import BUILTIN_PREFIX, load_rules
from otel_posthog.version import __version__

HELP = "show what is on, what is off, why, and which source decided"
DESCRIPTION = """
Shows each feature with what decided it, the versions in play and, inside a process, the attached processors. It reads
the environment of this command, opens no connection and never prints a secret. Exit code 1 if a setting is wrong.
"""

VERSIONS = (
    "opentelemetry-api",
    "opentelemetry-sdk",
    "opentelemetry-instrumentation",
    "opentelemetry-distro",
    "elastic-opentelemetry",
    "aws-opentelemetry-distro",
    "logfire",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-exporter-otlp-proto-grpc",
    "posthog",
)


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature.

    Args:
        name: Its name.
        on: Whether it works.
        why: What it does, or why it is off.
        source: What decided, "" for a consequence of others.
    """

    name: str
    on: bool
    why: str
    source: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What `status` shows.

    Args:
        enabled: The gate's answer.
        reason: Why, in one sentence.
        mode: `direct` or `collector`, "" when off.
        error: What is wrong with the settings, "" for nothing.
        checks: Conditions of the gate.
        features: Every feature.
        versions: Package -> version.
        distro: The OpenTelemetry distribution that `opentelemetry-instrument` would use, "" for none.
        processors: Processors attached in this process, by signal; empty where it has no SDK provider.
        attached: Ours is among them; `None` where this process has no SDK provider.
        warnings: What works but not as its owner may think.
    """

    enabled: bool
    reason: str
    mode: str
    error: str
    checks: tuple[GateCheck, ...]
    features: tuple[Feature, ...]
    versions: Mapping[str, str]
    distro: str
    processors: Mapping[str, tuple[str, ...]]
    attached: bool | None
    warnings: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `status` to `parser`."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(args: argparse.Namespace) -> int:
    """Prints the status; 1 where a setting is wrong."""
    status = collect(os.environ, look_around(), sys.modules)
    if args.json:
        print(json.dumps(asdict(status), indent=2, ensure_ascii=False))
    else:
        from otel_posthog.cli.status_text import render
        from otel_posthog.cli.terminal import stdout_page

        print(render(status, stdout_page()), end="")
    return 1 if status.error else 0


def collect(environ: Mapping[str, str], installed: Installed, modules: Mapping[str, ModuleType]) -> Status:
    """Gathers everything that is shown.

    Args:
        environ: The environment.
        installed: What is installed.
        modules: Loaded modules: providers are looked for only where OpenTelemetry is already imported.
    """
    error, rules, settings = "", RuleSet(), Settings(enabled=False)
    try:
        settings = load_settings(environ)
        # As in the service, where wrong rules keep the bridge off.
        rules = load_rules(settings.rules) if settings.enabled else rules
    except ConfigError as raised:
        error = str(raised)
        failed = GateCheck("rules" if settings.checks else "settings", False, error, raised.key, mistake=True)
        settings = replace(settings, enabled=False, checks=(*settings.checks, failed))
    processors = attached_processors(modules)
    ours = [name for found in processors.values() for name in found if name.startswith("otel_posthog.")]
    return Status(
        enabled=settings.enabled,
        reason=settings.reason,
        mode=settings.lane.mode.value if settings.enabled and settings.lane else "",
        error=error,
        checks=settings.checks,
        features=tuple(_features(settings, rules, environ, installed, modules)),
        versions={"otel-posthog": __version__}
        | {name: version for name in VERSIONS if (version := installed.version(name))},
        distro=installed.chosen("opentelemetry_distro", environ),
        processors=processors,
        attached=bool(ours) if processors else None,
        warnings=settings.warnings,
    )


def _features(
    settings: Settings,
    rules: RuleSet,
    environ: Mapping[str, str],
    installed: Installed,
    modules: Mapping[str, ModuleType],
) -> list[Feature]:
    features = [
        _lane("product data", settings.lane, settings, "lane.url"),
        *([_lane("second lane", settings.also, settings, "sinks")] if settings.also else []),
        *(_standard(signal, settings, environ) for signal in ("traces", "logs")),
        *_rest(settings, rules, installed),
        *_frameworks(environ, installed),
        *_functions(settings, environ, modules),
        _sdk(environ, installed),
    ]
    if settings.enabled:
        return features
    failed = settings.failed_check
    wrong = {"settings": "a setting is wrong", "rules": "the rules are wrong"}
    why = wrong.get(failed.name if failed else "", "the gate is shut")
    return [Feature(each.name, False, why) for each in features]


def _lane(name: str, lane: Lane | None, settings: Settings, source: str) -> Feature:
    if lane is None:
        return Feature(name, False, "nowhere to send to")
    config = settings.delivery
    if lane.mode is Mode.DIRECT:
        how = f"to PostHog's capture API at {lane.url} ({config.wire}, {config.compression})"
    else:
        how = f"as OTLP logs to the Collector at {without_query(lane.url)} ({config.compression})"
    how += f", trusting {lane.ca_file}" * bool(lane.ca_file)
    how += f", with the certificate {lane.client_cert}" * bool(lane.client_cert)
    return Feature(name, True, how, settings.sources.get(source, ""))


def without_query(url: str) -> str:
    """An address for people; a query may hold a key."""
    return parse_endpoint(url, "lane").shown


def _standard(signal: str, settings: Settings, environ: Mapping[str, str]) -> Feature:
    name = f"standard {signal}"
    after = {**environ, **standard_otlp_environment(environ)}
    plan = plan_lanes(after)
    endpoint = plan.standard_endpoint(signal)
    mode = settings.traces_mode if signal == "traces" else settings.logs_mode
    if mode is None or endpoint is None:
        why = "no OTLP exporter is configured" if not exports_otlp(environ, signal) else "no endpoint is configured"
        return Feature(name, False, why)
    from otel_posthog.config.headers import parse_headers

    own = "authorization" in parse_headers(environ.get(headers_variable(environ, signal)) or "")
    sent = "authorization" in parse_headers(after.get(headers_variable(after, signal)) or "")
    key = "your authorization" if own else "token added" if sent else "without a token"
    protocol = protocol_of(after, signal) or "grpc by default"
    to = "PostHog" if mode is Mode.DIRECT else "the Collector"
    path = "" if endpoint.signal or protocol.startswith("grpc") else f"/v1/{signal}"
    return Feature(name, True, f"to {to} at {endpoint.shown}{path} ({protocol}, {key})", endpoint.source)


def _rest(settings: Settings, rules: RuleSet, installed: Installed) -> list[Feature]:
    sources, convert, identity, delivery = settings.sources, settings.convert, settings.identity, settings.delivery

    def feature(name: str, on: bool, yes: str, no: str, path: str) -> Feature:
        return Feature(name, on, yes if on else no, sources.get(path, ""))

    path, waits = settings.rules.path, identity.late_wait > 0
    defaults = any(rule.name.startswith(BUILTIN_PREFIX) for rule in rules.rules)
    own = sum(not rule.name.startswith(BUILTIN_PREFIX) for rule in rules.rules)
    unsampled = {"all": "every unsampled span is seen for product events", "server": "unsampled server spans are seen"}
    return [
        feature(
            "rules",
            bool(path),
            f"{own} rule{'s' * (own != 1)} of {path}",
            "no rules file: only tagged items and exceptions become events",
            "rules.path",
        ),
        feature(
            "default rules",
            defaults,
            "page views and API requests",
            "not chosen",
            "rules.defaults" if settings.rules.defaults or not defaults else "rules.path",
        ),
        feature("exceptions", convert.exceptions, "become $exception", "left alone", "convert.exceptions"),
        _flags(settings, installed),
        feature(
            "flag evaluations",
            convert.flag_events != "off",
            "become $feature_flag_called" + (", PostHog's own provider's too" * (convert.flag_events == "all")),
            "left alone",
            "convert.flag_events",
        ),
        feature(
            "record unsampled",
            settings.record_unsampled != "off",
            unsampled.get(settings.record_unsampled, ""),
            "sampled spans only",
            "record_unsampled",
        ),
        feature(
            "request context",
            convert.request_context,
            "$current_url, $browser …" + ("" if convert.keep_query else ", queries removed"),
            "not added",
            "convert.request_context",
        ),
        feature("client address", convert.client_ip, "sent as $ip", "not sent", "convert.client_ip"),
        feature("header identity", identity.headers, "x-posthog-* is believed", "not read", "identity.headers"),
        feature(
            "baggage identity",
            bool(identity.baggage_keys or identity.baggage_secrets),
            "only what a service with the secret has signed is believed"
            if identity.baggage_secrets
            else ", ".join(identity.baggage_keys) + " are believed from anybody",
            "no baggage is read",
            "identity.baggage_secrets" if identity.baggage_secrets else "identity.baggage_keys",
        ),
        feature(
            "identity travels",
            identity.baggage,
            ("signed, " if identity.baggage_secrets else "")
            + (
                f"to {', '.join(identity.baggage_hosts)}"
                if identity.baggage_hosts
                else "to no host; taken out of every call"
            ),
            "baggage is left as it is",
            "identity.baggage" if not identity.baggage else "identity.baggage_hosts",
        ),
        feature(
            "late identity",
            waits,
            f"tagged items wait up to {identity.late_wait:g} s for who it was",
            "nothing waits",
            "identity.late_wait",
        ),
        feature(
            "spool",
            bool(delivery.spool_dir),
            f"{delivery.spool_dir}, up to {delivery.spool_bytes / 2**20:,.0f} MiB",
            "no directory: what an outage outlasts is counted as lost",
            "delivery.spool_dir",
        ),
        feature("further sinks", bool(settings.sinks), ", ".join(settings.sinks), "none", "sinks"),
    ]


def _flags(settings: Settings, installed: Installed) -> Feature:
    target, why = flags_target(settings)
    name, sources, config = "feature flags", settings.sources, settings.flags
    if target is None:
        return Feature(name, False, why, sources.get("flags.enabled", "") if not config.enabled else "")
    if not installed.version("posthog"):
        return Feature(name, False, "the posthog package is not installed: pip install 'otel-posthog[flags]'")
    where = f"evaluated in the process, definitions from {target.host} every {config.poll_interval:g} s"
    if not target.secret_key:
        where = f"asked for at {target.host}"
    source = sources.get("flags.host", "") if config.host else sources.get("lane.url", "")
    return Feature(name, True, f"{where}, at most {config.timeout:g} s long", source)


def _frameworks(environ: Mapping[str, str], installed: Installed) -> list[Feature]:
    """The frameworks that are there: whether their users are found."""
    from otel_posthog.instrumentation.frameworks import ALL

    features: list[Feature] = []
    for kind in ALL:
        version = installed.version(kind.framework)
        if not version:
            continue
        features.append(
            _instrumentation(kind.framework, f"posthog_{kind.framework}", f"{version}: {kind.finds}", environ)
        )
    return features


def _instrumentation(feature: str, name: str, why: str, environ: Mapping[str, str]) -> Feature:
    disabled = {one.strip() for one in environ.get(DISABLED_INSTRUMENTATIONS, "").split(",")}
    if not disabled.isdisjoint((name, "*")):
        return Feature(feature, False, f"{name} is among the disabled instrumentations", DISABLED_INSTRUMENTATIONS)
    return Feature(feature, True, why)


def _functions(settings: Settings, environ: Mapping[str, str], modules: Mapping[str, ModuleType]) -> list[Feature]:
    """Functions that become events, where there are any, and how each of them stands."""
    if not settings.enabled or not settings.rules.path:
        return []
    from otel_posthog.cli.function_checks import function_states
    from otel_posthog.rules.load import load_functions

    try:
        events = load_functions(settings.rules)
    except ConfigError:  # said elsewhere
        return []
    if not events:
        return []
    why = f"{len(events)} event{'s' * (len(events) != 1)} of {settings.rules.path}"
    all_of_them = _instrumentation("functions", "posthog_functions", why, environ)
    if not all_of_them.on:
        return [all_of_them]
    return [
        all_of_them,
        *(Feature(each.target, each.level == "ok", each.what) for each in function_states(events, modules)),
    ]


def _sdk(environ: Mapping[str, str], installed: Installed) -> Feature:
    """The posthog package, where it is there."""
    version = installed.version("posthog")
    if not version:
        return Feature("posthog SDK", False, "not installed, and not needed")
    return _instrumentation("posthog SDK", "posthog_sdk", f"{version}: its events travel this way", environ)


def attached_processors(modules: Mapping[str, ModuleType]) -> dict[str, tuple[str, ...]]:
    """Processors of this process's SDK providers, by signal, as dotted class names.

    Only what is already there is looked at: asking the API for a provider could make one.
    """
    found: dict[str, tuple[str, ...]] = {}
    places = (
        ("traces", "opentelemetry.trace", "_TRACER_PROVIDER", ("_active_span_processor", "_span_processors")),
        (
            "logs",
            "opentelemetry._logs._internal",
            "_LOGGER_PROVIDER",
            ("_multi_log_record_processor", "_log_record_processors"),
        ),
    )
    for signal, module, variable, path in places:
        provider: Any = getattr(modules.get(module), variable, None)
        if provider is None:
            continue
        holder: Any = provider
        for attribute in path:
            holder = getattr(holder, attribute, None)
        found[signal] = tuple(f"{type(each).__module__}.{type(each).__qualname__}" for each in holder or ())
    return found
