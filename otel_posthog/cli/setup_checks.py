"""The doctor's checks of settings and of what is installed: no connection is opened, nothing is loaded."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from otel_posthog.cli import function_checks
from otel_posthog.cli.findings import Finding, ok, problem, warn
from otel_posthog.cli.installed import Installed
from otel_posthog.config import environment as names
from otel_posthog.config.lanes import plan_lanes, protocol_of
from otel_posthog.config.otlp_environment import standard_otlp_environment
from otel_posthog.config.settings import Mode, Settings
from otel_posthog.config.values import text_of
from otel_posthog.errors import ConfigError

PROTOCOL_EXPORTERS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
PROTOCOL_PACKAGES = {
    "grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "http/protobuf": "opentelemetry-exporter-otlp-proto-http",
}
BUILT_IN_EXPORTERS = frozenset({"otlp", "console", "none", ""})

# Framework -> its instrumentation and the entry point that shows it is there.
FRAMEWORKS = {
    "flask": ("opentelemetry-instrumentation-flask", "flask"),
    "django": ("opentelemetry-instrumentation-django", "django"),
    "fastapi": ("opentelemetry-instrumentation-fastapi", "fastapi"),
    "starlette": ("opentelemetry-instrumentation-starlette", "starlette"),
    "aiohttp": ("opentelemetry-instrumentation-aiohttp-server", "aiohttp-server"),
    "tornado": ("opentelemetry-instrumentation-tornado", "tornado"),
    "falcon": ("opentelemetry-instrumentation-falcon", "falcon"),
    "pyramid": ("opentelemetry-instrumentation-pyramid", "pyramid"),
    "celery": ("opentelemetry-instrumentation-celery", "celery"),
}
# Starlette comes along with many packages, our emulator among them: beside another framework it says nothing.
INCIDENTAL = frozenset({"starlette"})

# PostHog's other keys, by what they start with: well-formed at the edge, answered 200, and discarded later.
OTHER_KEYS = {
    "phs_": "a secret key for feature flags",
    "pha_": "an OAuth access token",
    "phr_": "an OAuth refresh token",
}


def gate(settings: Settings) -> Iterator[Finding]:
    """Whether anything runs at all, and what its settings warn about."""
    failed = settings.failed_check
    if failed:
        yield problem(
            "gate",
            f"otel-posthog is off: {failed.reason}",
            "nothing is captured while any condition of the gate fails",
            GATE_MENDS.get(failed.name, "Change the setting that is named."),
        )
    else:
        mode = f", {settings.lane.mode.value} mode" if settings.lane else ""
        yield ok("gate", f"on{mode}: every condition of the gate holds")
    for warning in settings.warnings:
        if "PostHog does not speak" in warning:
            continue  # `exporters` says it, with its mend
        what, _, mend = warning.rpartition("; ")
        yield warn("settings", what or warning, "so it does not do what it seems to say", _sentence(mend))


GATE_MENDS = {
    "sdk": f"Unset {names.SDK_DISABLED}.",
    "switch": "Unset OTEL_POSTHOG_ENABLED.",
    "instrumentation": f"Take `posthog` and `*` out of {names.DISABLED_INSTRUMENTATIONS}.",
    "endpoint": f"export {names.ENDPOINT}=https://eu.i.posthog.com/i  (or https://us.i.posthog.com/i, or a Collector)",
    "token": f"export {names.TOKEN}=phc_…  (the project API key, from PostHog's Settings → Project)",
    "token shape": f"export {names.TOKEN}=phc_…  (the project API key alone, without quotes or blanks)",
}


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".") if text else ""


def without_hint(error: ConfigError) -> str:
    """What is wrong, without the way out: a finding says that on a line of its own."""
    return str(error).removesuffix(f". {error.hint}") if error.hint else str(error)


def token(settings: Settings) -> Iterator[Finding]:
    """Whether the key is of the kind that captures events; PostHog answers 200 to the others too."""
    lane = next((lane for lane in (settings.lane, settings.also) if lane and lane.mode is Mode.DIRECT), None)
    if lane is None:
        return
    key = lane.token.reveal()
    kind = OTHER_KEYS.get(key[:4])
    source = settings.sources.get("lane.token", names.TOKEN)
    if kind:
        yield problem(
            "token",
            f"the key in {source} is {kind} ({key[:4]}…)",
            "PostHog answers 200 to it and discards every event",
            f"export {names.TOKEN}=phc_…  (the project API key, from Settings → Project)",
        )
    elif not key.startswith("phc_"):
        yield warn(
            "token",
            f"the key in {source} does not start with phc_",
            "hosted PostHog's project keys do, and it answers 200 to an unknown key and discards the events",
            "Compare it with the project API key in Settings → Project; a self-hosted or local PostHog may differ.",
        )
    else:
        yield ok("token", "the key has the shape of a project API key")


def distribution(environ: Mapping[str, str], installed: Installed) -> Iterator[Finding]:
    """Who sets up the SDK: with two distributions installed the winner depends on the order of package metadata."""
    for group, variable in (
        ("opentelemetry_distro", names.DISTRO),
        ("opentelemetry_configurator", names.CONFIGURATOR),
    ):
        what = group.partition("_")[2]
        entries = installed.entries.get(group, ())
        listed = ", ".join(f"{entry.name} ({entry.package})" for entry in entries)
        wanted = text_of(environ, variable)
        if wanted and not installed.chosen(group, environ):
            yield problem(
                "provider race",
                f"{variable}={wanted}, but no installed {what} has that name",
                "no SDK is set up, so nothing is recorded",
                f"Install it, or set {variable} to one of: {', '.join(e.name for e in entries) or '(none)'}.",
            )
        elif not wanted and len(entries) > 1:
            yield problem(
                "provider race",
                f"several OpenTelemetry {what}s are installed: {listed}",
                "one of them wins by the order of package metadata, which differs between machines",
                f"export {variable}={_preferred(entries)}  (or uninstall the others)",
            )
        elif not entries and group == "opentelemetry_distro":
            yield warn(
                "provider race",
                "no OpenTelemetry distribution is installed",
                "without one `opentelemetry-instrument` sets up no SDK: no spans and no logs, unless the app does it",
                "pip install 'otel-posthog[distro]', or start with `otel-posthog run`, which needs none.",
            )
        elif entries:
            yield ok("provider race", f"{what}: {installed.chosen(group, environ)}")


def _preferred(entries: tuple[object, ...]) -> str:
    named = [str(getattr(entry, "name", "")) for entry in entries]
    # The stock distribution comes along as a dependency of others: who installed another meant that one.
    others = [name for name in named if name not in ("distro", "configurator")]
    return (others or named)[0]


def hook(installed: Installed) -> Iterator[Finding]:
    """Whether our entry points are there: they are metadata, so a copied folder or a zip has none."""
    if "posthog" in installed.names("opentelemetry_pre_instrument"):
        yield ok("attach", "the hook for opentelemetry-instrument is registered")
    else:
        yield problem(
            "attach",
            "the entry point `opentelemetry_pre_instrument: posthog` is not registered",
            "opentelemetry-instrument finds us by package metadata, and attaches nothing without it",
            "Install the package with pip (pip install otel-posthog) rather than copying its folder.",
        )


def exporters(environ: Mapping[str, str], settings: Settings, installed: Installed) -> Iterator[Finding]:
    """Exporters that double, that are missing, or that speak a protocol nobody answers."""
    after = {**environ, **standard_otlp_environment(environ)}
    for signal in ("traces", "logs"):
        variable = names.exporter_variable(signal)
        listed = [name.strip() for name in text_of(after, variable).split(",") if name.strip()]
        yield from _doubled(signal, variable, listed, after, settings)
        known = set(installed.names(f"opentelemetry_{signal}_exporter")) | BUILT_IN_EXPORTERS
        missing = [name for name in listed if name not in known]
        if missing:
            yield problem(
                "exporters",
                f"{variable} names {missing[0]!r}, which is not installed",
                "OpenTelemetry then gives up: no telemetry at all from this process",
                f"Install what brings it, or take it out of {variable}.",
            )
        yield from _protocol(signal, listed, after, settings, installed)


def _doubled(
    signal: str, variable: str, listed: list[str], environ: Mapping[str, str], settings: Settings
) -> Iterator[Finding]:
    if "posthog" in listed and settings.enabled:
        rest = ",".join(name for name in listed if name != "posthog") or "none"
        yield problem(
            "doubled exporters",
            f"{variable} lists `posthog`, and opentelemetry-instrument attaches us anyway",
            "the exporter is the reduced way for declarative configuration: beside the hook it can only double or "
            "stand idle, and a service without this package would lose all telemetry",
            f"export {variable}={rest}",
        )
    effective = [_resolved(name, protocol_of(environ, signal)) for name in listed if name != "posthog"]
    twice = next((name for name in effective if effective.count(name) > 1), "")
    if twice:
        yield problem(
            "doubled exporters",
            f"{variable}={','.join(listed)} sends the {signal} to the same endpoint twice",
            "every item is stored and billed twice",
            f"export {variable}={','.join(dict.fromkeys(name for name in listed if name == 'otlp')) or twice}",
        )


def _resolved(exporter: str, protocol: str) -> str:
    return PROTOCOL_EXPORTERS.get(protocol or "grpc", exporter) if exporter == "otlp" else exporter


def _protocol(
    signal: str, listed: list[str], environ: Mapping[str, str], settings: Settings, installed: Installed
) -> Iterator[Finding]:
    mode = settings.traces_mode if signal == "traces" else settings.logs_mode
    if mode is None:
        return
    protocol = protocol_of(environ, signal) or "grpc"
    endpoint = plan_lanes(environ).standard_endpoint(signal)
    explicit = next((name for name in listed if name.startswith("otlp_proto_")), "")
    if explicit:
        protocol = {name: spoken for spoken, name in PROTOCOL_EXPORTERS.items()}.get(explicit, protocol)
    if mode is Mode.DIRECT and protocol == "grpc":
        variable = names.exporter_variable(signal) if explicit else names.PROTOCOL
        yield problem(
            "protocol",
            f"the standard {signal} go to PostHog by gRPC" + (f" ({endpoint.shown})" if endpoint else ""),
            "PostHog speaks OTLP over HTTP only, so none of them arrives",
            f"export {variable}={'otlp' if explicit else 'http/protobuf'}"
            + (f" and {names.PROTOCOL}=http/protobuf" if explicit else ""),
        )
    elif protocol not in PROTOCOL_EXPORTERS:
        yield problem(
            "protocol",
            f"the protocol {protocol!r} of the standard {signal} is not known to OpenTelemetry in Python",
            "the SDK refuses to start with it: no telemetry at all",
            f"export {names.PROTOCOL}=http/protobuf",
        )
    elif PROTOCOL_EXPORTERS[protocol] not in installed.names(f"opentelemetry_{signal}_exporter"):
        yield problem(
            "protocol",
            f"the exporter of the standard {signal} for {protocol} is not installed",
            "the SDK refuses to start without it: no telemetry at all",
            f"pip install {PROTOCOL_PACKAGES[protocol]}",
        )
    else:
        yield ok("protocol", f"{signal}: {protocol}")


def instrumentations(environ: Mapping[str, str], installed: Installed) -> Iterator[Finding]:
    """Frameworks without their instrumentation: no server span, hence no request, person or error."""
    present = installed.names("opentelemetry_instrumentor")
    found = [name for name in FRAMEWORKS if installed.version(name)]
    for framework in found:
        package, entry = FRAMEWORKS[framework]
        if entry in present:
            yield ok("instrumentation", f"{framework}: {package} {installed.version(package)}")
        elif framework not in INCIDENTAL or len(found) == 1:
            yield warn(
                "instrumentation",
                f"{framework} {installed.version(framework)} is installed, its instrumentation is not",
                "its requests make no spans, so no events, persons or errors come of them",
                f"pip install {package}=={contrib_version(installed) or '<the version of your others>'}",
            )
    if found and "logging" not in present:
        yield warn(
            "instrumentation",
            "opentelemetry-instrumentation-logging is not installed",
            "log lines make no records, so neither logged events nor logged errors are seen",
            f"pip install opentelemetry-instrumentation-logging=={contrib_version(installed) or '<as your others>'}",
        )
    disabled = {name.strip() for name in text_of(environ, names.DISABLED_INSTRUMENTATIONS).split(",")}
    for framework in found:
        if FRAMEWORKS[framework][1] in disabled:
            yield warn(
                "instrumentation",
                f"{framework} is switched off by {names.DISABLED_INSTRUMENTATIONS}",
                "its requests make no spans",
                f"Take {FRAMEWORKS[framework][1]} out of {names.DISABLED_INSTRUMENTATIONS}.",
            )


def contrib_version(installed: Installed) -> str:
    """Version of OpenTelemetry's beta packages here; they pin each other exactly."""
    return installed.version("opentelemetry-instrumentation")


def versions(installed: Installed) -> Iterator[Finding]:
    """OpenTelemetry's packages come in matching sets; a mixture breaks at import or, worse, later."""
    core = {
        name: installed.version(name) for name in ("opentelemetry-api", "opentelemetry-sdk") if installed.version(name)
    }
    contrib = {
        name: version
        for name, version in installed.packages.items()
        if name.startswith("opentelemetry-instrumentation") and _minor(version)
    }
    for kind, group in (("core", core), ("instrumentation", contrib)):
        minors = {_minor(version) for version in group.values()}
        if len(minors) > 1:
            newest = max(minors, key=lambda minor: tuple(int(part) for part in minor.split(".")))
            behind = sorted(name for name, version in group.items() if _minor(version) != newest)
            yield warn(
                "versions",
                f"OpenTelemetry's {kind} packages are of several versions: "
                + ", ".join(f"{name} {group[name]}" for name in behind)
                + f" beside {newest}",
                "they are made for each other exactly, and a mixture breaks at odd places",
                f"pip install --upgrade {' '.join(behind)}",
            )
    sdk = installed.version("opentelemetry-sdk")
    if _minor(sdk) and tuple(int(part) for part in _minor(sdk).split(".")) < (1, 39):
        yield problem(
            "versions",
            f"opentelemetry-sdk {sdk} is too old",
            "otel-posthog needs 1.39 or newer",
            "pip install --upgrade 'opentelemetry-sdk>=1.39'",
        )


def _minor(version: str) -> str:
    found = re.match(r"\d+\.\d+", version)
    return found.group() if found else ""


def rules(settings: Settings) -> Iterator[Finding]:
    """Whether the rules load, and whether the functions that they name are there."""
    if not settings.enabled or not (settings.rules.path or settings.rules.defaults):
        return
    from otel_posthog.rules.load import load_functions, load_rules

    try:
        loaded, functions = load_rules(settings.rules), load_functions(settings.rules)
    except ConfigError as error:
        yield problem(
            "rules",
            without_hint(error),
            "with wrong rules otel-posthog stays off",
            error.hint or "Mend the line that is named, then run `otel-posthog rules check FILE`.",
        )
    else:
        yield ok("rules", f"{settings.rules.path or 'the default set'} loads, digest {loaded.digest[:12] or 'none'}")
        yield from function_checks.findings(function_checks.function_states(functions, sys.modules))


def spool(settings: Settings) -> Iterator[Finding]:
    """Whether the spool's directory can be written, tried out and left as it was."""
    if not settings.delivery.spool_dir:
        return
    import tempfile

    wanted = Path(settings.delivery.spool_dir)
    place = next((path for path in (wanted, *wanted.absolute().parents) if path.exists()), wanted)
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is not a directory")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"otel-posthog")
            file.flush()
    except OSError as error:
        yield problem(
            "spool",
            f"the spool directory {wanted} cannot be written: {error.strerror or error}",
            "what an outage outlasts would be lost instead of kept",
            f"mkdir -p {wanted} and give the service's user the right to write there, or change "
            "OTEL_POSTHOG_SPOOL_DIR.",
        )
    else:
        yield ok("spool", f"{wanted} can be {'written' if place == wanted else 'made'}")


def config_file(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Declarative configuration: readable, with propagators, and deaf to the exporter variables."""
    path = text_of(environ, names.CONFIG_FILE)
    if not path:
        return
    import yaml

    try:
        document: object = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        yield problem(
            "declarative configuration",
            f"{path} cannot be read: {type(error).__name__}",
            "OpenTelemetry then sets up nothing",
            f"Mend the file, or unset {names.CONFIG_FILE}.",
        )
        return
    if not isinstance(document, dict) or not cast("dict[object, object]", document).get("propagator"):
        yield problem(
            "declarative configuration",
            f"{path} has no `propagator` section",
            "every Flask request then fails in OpenTelemetry's own code",
            'Add: propagator: {composite_list: "tracecontext,baggage"}',
        )
    yield warn(
        "declarative configuration",
        f"{names.CONFIG_FILE} is set, so the SDK ignores the exporter variables",
        "token and protocol of the standard exporters must then stand in that file",
        "Give each otlp_http exporter the header `authorization: Bearer ${OTEL_EXPORTER_OTLP_TOKEN}`.",
    )
