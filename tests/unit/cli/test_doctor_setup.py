"""The doctor's checks that open no connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_posthog.cli.doctor import examine, render
from otel_posthog.cli.findings import Finding, ok, problem, warn
from otel_posthog.cli.installed import Entry, Installed
from otel_posthog.cli.terminal import Page

E = "OTEL_EXPORTER_OTLP_"
DIRECT = {f"{E}ENDPOINT": "https://eu.i.posthog.com/i", f"{E}TOKEN": "phc_doctor"}
COLLECTOR = {f"{E}ENDPOINT": "http://c:4318", f"{E}TOKEN": "t"}

DISTRO = (Entry("distro", "opentelemetry-distro"),)
CONFIGURATOR = (Entry("configurator", "opentelemetry-distro"),)
EXPORTERS = (
    Entry("otlp", "opentelemetry-exporter-otlp"),
    Entry("otlp_proto_http", "opentelemetry-exporter-otlp-proto-http"),
    Entry("otlp_proto_grpc", "opentelemetry-exporter-otlp-proto-grpc"),
    Entry("posthog", "otel-posthog"),
)


def installed(packages: dict[str, str] | None = None, **entries: tuple[Entry, ...]) -> Installed:
    """A sound installation, with changes."""
    groups = {
        "opentelemetry_distro": DISTRO,
        "opentelemetry_configurator": CONFIGURATOR,
        "opentelemetry_pre_instrument": (Entry("posthog", "otel-posthog"),),
        "opentelemetry_instrumentor": (Entry("flask", "opentelemetry-instrumentation-flask"),),
        "opentelemetry_traces_exporter": EXPORTERS,
        "opentelemetry_logs_exporter": EXPORTERS,
    }
    return Installed(
        packages if packages is not None else {"opentelemetry-sdk": "1.45.1", "opentelemetry-api": "1.45.1"},
        groups | {f"opentelemetry_{name}": found for name, found in entries.items()},
    )


def found(environ: dict[str, str], what: Installed | None = None) -> list[Finding]:
    """Everything but what is fine."""
    every = list(examine(environ, what or installed(), offline=True))
    return [finding for finding in every if finding.level != "ok"]


def one(environ: dict[str, str], what: Installed | None = None) -> Finding:
    """The one finding."""
    listed = found(environ, what)
    assert len(listed) == 1, listed
    return listed[0]


@pytest.mark.parametrize("environ", [DIRECT, COLLECTOR, {**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp,console"}])
def test_a_sound_set_up_has_no_findings(environ: dict[str, str]) -> None:
    """What is right is reported as fine, check by check."""
    assert found(environ) == []
    assert {finding.check for finding in examine(environ, installed(), offline=True)} >= {"gate", "attach", "protocol"}


CASES: list[tuple[str, dict[str, str], Installed | None, tuple[str, str, str, str]]] = [
    (
        "off",
        {},
        None,
        ("problem", "gate", "off: OTEL_EXPORTER_OTLP_ENDPOINT is not set", "export OTEL_EXPORTER_OTLP_ENDPOINT="),
    ),
    (
        "sdk",
        {**DIRECT, "OTEL_SDK_DISABLED": "true"},
        None,
        ("problem", "gate", "OTEL_SDK_DISABLED is true", "Unset OTEL_SDK_DISABLED."),
    ),
    (
        "switch",
        {**DIRECT, "OTEL_POSTHOG_ENABLED": "no"},
        None,
        ("problem", "gate", "is false", "Unset OTEL_POSTHOG_ENABLED."),
    ),
    (
        "listed",
        {**DIRECT, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
        None,
        ("problem", "gate", "lists '*'", "Take `posthog`"),
    ),
    (
        "vendor",
        {f"{E}ENDPOINT": "https://api.honeycomb.io", f"{E}HEADERS": "authorization=x"},
        None,
        ("problem", "gate", "does not count", "export OTEL_EXPORTER_OTLP_TOKEN=phc_…"),
    ),
    (
        "personal key",
        {**DIRECT, f"{E}TOKEN": "phx_1"},
        None,
        ("problem", "gate", "personal API key", "export OTEL_EXPORTER_OTLP_TOKEN=phc_…"),
    ),
    ("quotes", {**DIRECT, f"{E}TOKEN": "'phc_1'"}, None, ("problem", "gate", "quotes around it", "without quotes")),
    (
        "secret key",
        {**DIRECT, f"{E}TOKEN": "phs_1"},
        None,
        ("problem", "token", "a secret key for feature flags", "project API key"),
    ),
    ("odd key", {**DIRECT, f"{E}TOKEN": "abc"}, None, ("warn", "token", "does not start with phc_", "Compare it")),
    (
        "app host",
        {**DIRECT, f"{E}ENDPOINT": "https://us.posthog.com/i"},
        None,
        ("warn", "settings", "app host us.posthog.com", "Using its ingestion host us.i.posthog.com."),
    ),
    (
        "gRPC port",
        {**COLLECTOR, f"{E}ENDPOINT": "http://c:4317"},
        None,
        ("warn", "settings", "http://c:4318/v1/logs", "Open the HTTP port"),
    ),
    (
        "bad setting",
        {**DIRECT, "OTEL_POSTHOG_TIMEOUT": "soon"},
        None,
        ("problem", "settings", "`OTEL_POSTHOG_TIMEOUT`", "Use a number of seconds"),
    ),
    ("no hook", DIRECT, installed(pre_instrument=()), ("problem", "attach", "not registered", "pip")),
    (
        "no distro",
        DIRECT,
        installed(distro=(), configurator=()),
        ("warn", "provider race", "no OpenTelemetry distribution", "pip install 'otel-posthog[distro]'"),
    ),
    (
        "two distros",
        DIRECT,
        installed(distro=(*DISTRO, Entry("elastic_distro", "elastic-opentelemetry"))),
        (
            "problem",
            "provider race",
            (
                "several OpenTelemetry distros are installed: distro (opentelemetry-distro), "
                "elastic_distro (elastic-opentelemetry)"
            ),
            "export OTEL_PYTHON_DISTRO=elastic_distro",
        ),
    ),
    (
        "two configurators",
        DIRECT,
        installed(configurator=(*CONFIGURATOR, Entry("aws_configurator", "aws"))),
        (
            "problem",
            "provider race",
            "several OpenTelemetry configurators",
            "export OTEL_PYTHON_CONFIGURATOR=aws_configurator",
        ),
    ),
    (
        "absent distro",
        {**DIRECT, "OTEL_PYTHON_DISTRO": "aws_distro"},
        None,
        (
            "problem",
            "provider race",
            "OTEL_PYTHON_DISTRO=aws_distro, but no installed distro has that name",
            "to one of: distro",
        ),
    ),
    (
        "posthog exporter",
        {**DIRECT, "OTEL_TRACES_EXPORTER": "otlp,posthog"},
        None,
        ("problem", "doubled exporters", "OTEL_TRACES_EXPORTER lists `posthog`", "export OTEL_TRACES_EXPORTER=otlp"),
    ),
    (
        "posthog exporter alone",
        {**DIRECT, "OTEL_LOGS_EXPORTER": "posthog"},
        None,
        ("problem", "doubled exporters", "OTEL_LOGS_EXPORTER lists", "export OTEL_LOGS_EXPORTER=none"),
    ),
    (
        "twice",
        {**COLLECTOR, "OTEL_LOGS_EXPORTER": "otlp,otlp_proto_http"},
        None,
        ("problem", "doubled exporters", "to the same endpoint twice", "export OTEL_LOGS_EXPORTER=otlp"),
    ),
    (
        "twice the same",
        {**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp_proto_http,otlp_proto_http"},
        None,
        ("problem", "doubled exporters", "twice", "export OTEL_TRACES_EXPORTER=otlp_proto_http"),
    ),
    (
        "absent exporter",
        {**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp,zipkin"},
        None,
        ("problem", "exporters", "OTEL_TRACES_EXPORTER names 'zipkin'", "Install what brings it"),
    ),
    (
        "odd protocol",
        {**COLLECTOR, f"{E}LOGS_PROTOCOL": "http/json"},
        None,
        ("problem", "protocol", "'http/json' of the standard logs", "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"),
    ),
    (
        "exporter package",
        {**COLLECTOR, f"{E}TRACES_PROTOCOL": "grpc"},
        installed(traces_exporter=EXPORTERS[:2]),
        (
            "problem",
            "protocol",
            "the exporter of the standard traces for grpc is not installed",
            "pip install opentelemetry-exporter-otlp-proto-grpc",
        ),
    ),
    (
        "old SDK",
        DIRECT,
        installed({"opentelemetry-sdk": "1.30.0"}),
        ("problem", "versions", "opentelemetry-sdk 1.30.0 is too old", "'opentelemetry-sdk>=1.39'"),
    ),
    (
        "mixed core",
        DIRECT,
        installed({"opentelemetry-sdk": "1.45.1", "opentelemetry-api": "1.44.0"}),
        ("warn", "versions", "opentelemetry-api 1.44.0 beside 1.45", "pip install --upgrade opentelemetry-api"),
    ),
    (
        "mixed contrib",
        DIRECT,
        installed({"opentelemetry-instrumentation": "0.66b1", "opentelemetry-instrumentation-flask": "0.60b0"}),
        (
            "warn",
            "versions",
            "opentelemetry-instrumentation-flask 0.60b0 beside 0.66",
            "pip install --upgrade opentelemetry-instrumentation-flask",
        ),
    ),
    (
        "no spool",
        {**DIRECT, "OTEL_POSTHOG_SPOOL_DIR": "/dev/null/spool"},
        None,
        ("problem", "spool", "cannot be written", "mkdir -p /dev/null/spool"),
    ),
    (
        "no rules",
        {**DIRECT, "OTEL_POSTHOG_CONFIG": "/nowhere/rules.yaml"},
        None,
        ("problem", "rules", "/nowhere/rules.yaml", ""),
    ),
]


@pytest.mark.parametrize(("environ", "what", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_findings(environ: dict[str, str], what: Installed | None, expected: tuple[str, str, str, str]) -> None:
    """Each fault is found, alone, with what, why and the exact mend."""
    level, check, words, mend = expected

    finding = one(environ, what)

    assert (finding.level, finding.check) == (level, check)
    assert words in finding.what
    assert mend in finding.mend
    assert finding.why
    assert finding.mend


def test_grpc_towards_posthog() -> None:
    """GRPC to PostHog is a problem of both signals, whether by protocol or by the exporter's own name."""
    by_protocol = found({**DIRECT, f"{E}PROTOCOL": "grpc"})
    by_name = one({**DIRECT, "OTEL_TRACES_EXPORTER": "otlp_proto_grpc"})

    assert [(each.level, each.check, each.mend) for each in by_protocol] == [
        ("problem", "protocol", "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf")
    ] * 2
    assert by_name.mend == "export OTEL_TRACES_EXPORTER=otlp and OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"


def test_frameworks_without_instrumentation() -> None:
    """A framework without its instrumentation, logging without its own, and one that is switched off."""
    packages = {"flask": "3.1", "starlette": "1.0", "fastapi": "0.1", "opentelemetry-instrumentation": "0.66b1"}
    listed = found({**DIRECT, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask"}, installed(packages))

    assert [(each.what, each.mend) for each in listed if each.check == "instrumentation"] == [
        (
            "fastapi 0.1 is installed, its instrumentation is not",
            "pip install opentelemetry-instrumentation-fastapi==0.66b1",
        ),
        (
            "opentelemetry-instrumentation-logging is not installed",
            "pip install opentelemetry-instrumentation-logging==0.66b1",
        ),
        (
            "flask is switched off by OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            "Take flask out of OTEL_PYTHON_DISABLED_INSTRUMENTATIONS.",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file_format: '1.0'\npropagator: {composite_list: 'tracecontext,baggage'}\n", []),
        ("file_format: '1.0'\n", ["has no `propagator` section"]),
        ("- a list\n", ["has no `propagator` section"]),
        ("a: [", ["cannot be read"]),
        (None, ["cannot be read"]),
    ],
)
def test_declarative_configuration(tmp_path: Path, text: str | None, words: list[str]) -> None:
    """The file must be readable and have propagators; that it silences the exporter variables is said."""
    path = tmp_path / "otel.yaml"
    if text is not None:
        path.write_text(text)

    listed = found({**DIRECT, "OTEL_CONFIG_FILE": str(path)})

    assert [word for word in words if word not in listed[0].what] == []
    assert {each.check for each in listed} == {"declarative configuration"}
    assert ("ignores the exporter variables" in listed[-1].what) == ("cannot be read" not in listed[0].what)


def test_rules_and_spool_that_are_right(tmp_path: Path) -> None:
    """A rules file that loads and a spool that can be made are fine, and nothing is left behind."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("version: 1\nrules:\n  - name: r\n    match: {span_kind: server}\n    capture: page\n")
    spool = tmp_path / "a" / "b"
    environ = {**DIRECT, "OTEL_POSTHOG_CONFIG": str(rules), "OTEL_POSTHOG_SPOOL_DIR": str(spool)}

    fine = {each.check: each.what for each in examine(environ, installed(), offline=True) if each.level == "ok"}

    assert fine["spool"] == f"{spool} can be made"
    assert str(rules) in fine["rules"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rules.yaml"]


def test_functions_of_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is looked for from the current folder, without importing; a package that is not here may be elsewhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctored.py").write_text("raise SystemExit\n\ndef charge(): pass\n")
    (tmp_path / "rules.yaml").write_text(
        "functions: {'doctored:charge': a, 'doctored:chrage': b, 'doctored.more:charge': c, 'q_x_j_z:charge': d}"
    )

    listed = found({**DIRECT, "OTEL_POSTHOG_CONFIG": "rules.yaml"})

    where, why = "(rules.yaml, line 1)", "its calls become no events"
    mend = "Mend the name in the rules file."
    assert [each for each in listed if each.check == "functions"] == [
        problem("functions", f"doctored:chrage: there is no chrage; did you mean charge? {where}", why, mend),
        problem("functions", f"doctored.more:charge: doctored is a module, and no package {where}", why, mend),
        warn(
            "functions",
            f"q_x_j_z:charge: there is no module q_x_j_z in sys.path {where}",
            "if the app does not find it either, its calls become no events",
            "Run this in the app's folder and environment, or mend the name.",
        ),
    ]


def test_the_page() -> None:
    """Problems first, then warnings, then what is fine; a mend is never wrapped."""
    long_mend = "export OTEL_EXPORTER_OTLP_ENDPOINT=https://eu.i.posthog.com/i and some more words to be longer"
    findings = [
        ok("gate", "on"),
        warn("token", "it is odd", "it may fail", "Look."),
        problem("network", "no " + "very " * 12 + "long way", "nothing arrives", long_mend),
    ]

    assert render(findings, Page(width=60)).splitlines() == [
        "otel-posthog doctor: 1 problem, 1 warning",
        "",
        "  ✗ network: no very very very very very very very very very",
        "    very very very long way",
        "    Nothing arrives.",
        f"    → {long_mend}",
        "",
        "  ! token: it is odd",
        "    It may fail.",
        "    → Look.",
        "",
        "Fine",
        "  ✓ gate  on",
    ]
    assert render([ok("gate", "on")], Page()).startswith("otel-posthog doctor: all well\n")
