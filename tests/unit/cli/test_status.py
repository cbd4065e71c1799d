"""`otel-posthog status`."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_posthog.cli import status
from otel_posthog.cli.installed import Entry, Installed, look_around
from otel_posthog.cli.status_text import render
from otel_posthog.cli.terminal import Page, colours_wanted

PACKAGES = Installed(
    {"opentelemetry-api": "1.45.1", "opentelemetry-sdk": "1.45.1"},
    {"opentelemetry_distro": (Entry("distro", "opentelemetry-distro"),)},
)
ON = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.posthog.com",
    "OTEL_EXPORTER_OTLP_TOKEN": "phc_status",
    "OTEL_POSTHOG_CONFIG": "rules.yaml",
    "OTEL_POSTHOG_RECORD_UNSAMPLED": "off",
    "OTEL_LOGS_EXPORTER": "none",
}


@pytest.fixture(autouse=True)
def _rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.yaml").write_text("rules: [{name: paid, match: {name: pay}, capture: paid}]\n")
    monkeypatch.chdir(tmp_path)


def text(environ: dict[str, str], modules: dict[str, ModuleType] | None = None) -> str:
    """The status as people see it."""
    return render(status.collect(environ, PACKAGES, modules or {}), Page(width=100)).replace(status.__version__, "X")


def test_on() -> None:
    """What is on and off, why, and by which source."""
    assert text(ON) == snapshot("""\
otel-posthog X: on, direct mode

Gate
  ✓ sdk              the OpenTelemetry SDK is not disabled
  ✓ switch           not switched off
  ✓ instrumentation  not among the disabled instrumentations
  ✓ endpoint         OTEL_EXPORTER_OTLP_ENDPOINT is set
  ✓ token            OTEL_EXPORTER_OTLP_TOKEN is set
  ✓ token shape      it can be a project API key  [OTEL_EXPORTER_OTLP_TOKEN]

Features
  ✓ product data      to PostHog's capture API at https://eu.i.posthog.com (auto, gzip)
                      [OTEL_EXPORTER_OTLP_ENDPOINT]
  ✓ standard traces   to PostHog at https://eu.i.posthog.com/i/v1/traces (http/protobuf, token
                      added)  [OTEL_EXPORTER_OTLP_ENDPOINT]
  – standard logs     no OTLP exporter is configured
  ✓ rules             1 rule of rules.yaml  [OTEL_POSTHOG_CONFIG]
  – default rules     not chosen  [default]
  ✓ exceptions        become $exception  [default]
  – feature flags     the posthog package is not installed: pip install 'otel-posthog[flags]'
  ✓ flag evaluations  become $feature_flag_called  [default]
  – record unsampled  sampled spans only  [OTEL_POSTHOG_RECORD_UNSAMPLED]
  ✓ request context   $current_url, $browser …, queries removed  [default]
  – client address    not sent  [default]
  ✓ header identity   x-posthog-* is believed  [default]
  ✓ baggage identity  posthog.distinct_id, posthog.anonymous_id, posthog.session_id, posthog.groups,
                      posthog.flags, user.id, session.id are believed from anybody  [default]
  ✓ identity travels  to internal  [default]
  ✓ late identity     tagged items wait up to 2 s for who it was  [default]
  – spool             no directory: what an outage outlasts is counted as lost  [default]
  – further sinks     none  [default]
  – posthog SDK       not installed, and not needed

Versions
  · otel-posthog         X
  · opentelemetry-api    1.45.1
  · opentelemetry-sdk    1.45.1
  · distribution in use  distro

This process
  This command sees the environment, not your running service: what is attached there, its log says
  at level INFO (logger otel_posthog).

Worth knowing
  ! OTEL_EXPORTER_OTLP_ENDPOINT names PostHog's app host eu.posthog.com; using its ingestion host
  eu.i.posthog.com.
""")


def test_off() -> None:
    """Off, with every condition answered."""
    assert text({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.honeycomb.io"}) == snapshot("""\
otel-posthog X: off, because OTEL_EXPORTER_OTLP_TOKEN is not set

Gate
  ✓ sdk              the OpenTelemetry SDK is not disabled
  ✓ switch           not switched off
  ✓ instrumentation  not among the disabled instrumentations
  ✓ endpoint         OTEL_EXPORTER_OTLP_ENDPOINT is set
  ✗ token            OTEL_EXPORTER_OTLP_TOKEN is not set

Features
  All off: the gate is shut.

Versions
  · otel-posthog         X
  · opentelemetry-api    1.45.1
  · opentelemetry-sdk    1.45.1
  · distribution in use  distro

This process
  This command sees the environment, not your running service: what is attached there, its log says
  at level INFO (logger otel_posthog).
""")


def test_json_has_everything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """--json gives programs every feature with its source."""
    for name, value in ON.items():
        monkeypatch.setenv(name, value)

    assert status.run(argparse.Namespace(json=True)) == 0

    document = json.loads(capsys.readouterr().out)
    features = {each["name"]: (each["on"], each["source"]) for each in document["features"]}
    assert (document["enabled"], document["mode"], document["error"]) == (True, "direct", "")
    assert features["rules"] == (True, "OTEL_POSTHOG_CONFIG")
    assert features["record unsampled"] == (False, "OTEL_POSTHOG_RECORD_UNSAMPLED")
    assert features["product data"] == (True, "OTEL_EXPORTER_OTLP_ENDPOINT")
    assert features["standard logs"] == (False, "")
    assert features["spool"] == (False, "default")


class Ours(SpanProcessor):
    """Stands for the bridge's processor."""


Ours.__module__ = "otel_posthog.sdk.processor"


def modules_with(tracers: Any, loggers: Any) -> dict[str, ModuleType]:
    """OpenTelemetry's API modules with these providers set."""
    trace, logs = ModuleType("opentelemetry.trace"), ModuleType("opentelemetry._logs._internal")
    trace._TRACER_PROVIDER = tracers  # type: ignore[attr-defined]
    logs._LOGGER_PROVIDER = loggers  # type: ignore[attr-defined]
    return {module.__name__: module for module in (trace, logs)}


def test_processors_of_this_process() -> None:
    """In a process with SDK providers their processors are listed, and whether ours is among them."""
    provider, loggers = TracerProvider(), LoggerProvider()
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))

    without = status.collect(ON, PACKAGES, modules_with(provider, loggers))
    provider.add_span_processor(Ours())
    with_ours = status.collect(ON, PACKAGES, modules_with(provider, loggers))
    shown = text(ON, modules_with(provider, loggers))
    provider.shutdown()
    loggers.shutdown()

    assert (without.attached, with_ours.attached) == (False, True)
    assert without.processors == {"traces": ("opentelemetry.sdk.trace.export.SimpleSpanProcessor",), "logs": ()}
    assert with_ours.processors["traces"][1] == "otel_posthog.sdk.processor.Ours"
    assert "✓ traces" in shown
    assert "no processors" in shown


def test_proxies_and_foreign_providers_are_no_error() -> None:
    """Nothing set, or a provider of somebody else's making: nothing is listed, nothing is created."""
    assert status.collect(ON, PACKAGES, modules_with(None, None)).attached is None
    assert status.collect(ON, PACKAGES, modules_with(object(), None)).processors == {"traces": ()}


SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="%,;\"'`\\"), min_size=8, max_size=50
).map(lambda text: f"zq~{text}")


@given(token=SECRETS, header=SECRETS, scheme=st.sampled_from(["", "Bearer ", "ApiKey "]), wrong=st.booleans())
def test_no_secret_is_shown(token: str, header: str, scheme: str, wrong: bool) -> None:
    """Whatever the tokens are and wherever they stand, neither the text nor the JSON holds one."""
    environments = [
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"https://me:{quote(header, safe='')}@{host}?token={quote(token, safe='')}",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://c:4318/v1/logs?key={quote(header, safe='')}",
            "OTEL_EXPORTER_OTLP_TOKEN": scheme + token,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={quote(header, safe='')},authorization={quote(header, safe='')}",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": f"authorization=Bearer {header}",
            "OTEL_POSTHOG_SINK": sink,
            "OTEL_POSTHOG_FLAGS_HOST": f"https://me:{quote(header, safe='')}@flags.test?key={quote(token, safe='')}",
            "OTEL_POSTHOG_FLAGS_TOKEN": token,
            "OTEL_POSTHOG_FLAGS_SECRET_KEY": header,
            "OTEL_POSTHOG_QUEUE_SIZE": f"phc_{token}" if wrong else "",
        }
        for host in ("eu.i.posthog.com/i", "127.0.0.1:1/i", "c:4317")
        for sink in ("", "both")
    ]
    for environ in environments:
        found = status.collect(environ, PACKAGES, {})
        shown = repr(found) + render(found, Page(width=10_000))
        for secret in (token, header, quote(token, safe=""), quote(header, safe="")):
            assert secret not in shown


def test_wrong_rules_are_off_as_in_the_service(tmp_path: Path) -> None:
    """Rules that do not load keep the bridge off in process: the status says so, and what is wrong with them."""
    (tmp_path / "rules.yaml").write_text("rules: [{name: paid, match: {name: pay}, captur: paid}]\n")
    found = status.collect(ON, PACKAGES, {})

    assert (found.enabled, found.mode, [check.name for check in found.checks if not check.passed]) == (
        False,
        "",
        ["rules"],
    )
    assert found.reason == found.error
    assert found.error.startswith("`rules[0].captur` (rules.yaml:1): unknown key `captur`. Did you mean `capture`?")
    assert {feature.why for feature in found.features} == {"the rules are wrong"}


def test_default_rules_chosen_in_the_file_are_on(tmp_path: Path) -> None:
    """`default_rules: true` counts wherever it stands, and is not counted among one's own rules."""
    (tmp_path / "rules.yaml").write_text("default_rules: true\n")
    features = {feature.name: feature for feature in status.collect(ON, PACKAGES, {}).features}

    assert (features["rules"].why, features["default rules"].on, features["default rules"].source) == (
        "0 rules of rules.yaml",
        True,
        "OTEL_POSTHOG_CONFIG",
    )


def test_colours_only_where_they_are_seen() -> None:
    """A terminal gets colours; a pipe, NO_COLOR and a dumb terminal do not."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert colours_wanted(Terminal(), {})
    assert not colours_wanted(io.StringIO(), {})
    assert not colours_wanted(Terminal(), {"NO_COLOR": "1"})
    assert not colours_wanted(Terminal(), {"TERM": "dumb"})
    assert "\x1b[32m✓\x1b[0m" in render(status.collect(ON, PACKAGES, {}), Page(colour=True))


def test_what_is_installed_here() -> None:
    """The real metadata: our hook, the SDK, and a distribution that wins."""
    found = look_around()

    assert "posthog" in found.names("opentelemetry_pre_instrument")
    assert found.version("opentelemetry-sdk").startswith("1.")
    assert found.chosen("opentelemetry_distro", {}) == found.names("opentelemetry_distro")[0]
    assert found.chosen("opentelemetry_distro", {"OTEL_PYTHON_DISTRO": "nobody"}) == ""
    assert "opentelemetry.trace" not in sys.modules or status.attached_processors({}) == {}


def test_frameworks() -> None:
    """Each framework that is installed, and whether the standard variable leaves it on; others are not mentioned."""
    installed = Installed({**PACKAGES.packages, "flask": "3.1.3", "celery": "5.7.0"}, PACKAGES.entries)
    environ = {**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "posthog_celery, redis"}

    found = {feature.name: (feature.on, feature.source) for feature in status.collect(environ, installed, {}).features}

    assert {name: found[name] for name in ("flask", "celery")} == {
        "flask": (True, ""),
        "celery": (False, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"),
    }
    assert "django" not in found


def test_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """How each of them stands: looked for from the current folder, and in this process where we run in it."""
    Path("stated.py").write_text("raise SystemExit\n\ndef charge(): pass\n")
    Path("rules.yaml").write_text("functions: {'stated:charge': [a, b], 'stated:chrage': c, 'q_x_j_z:charge': d}")

    class Running:
        patches = True

        def state(self, target: str) -> str | None:
            return {"stated:charge": "", "stated:chrage": "there is no chrage"}.get(target)

    def stands(modules: dict[str, Any]) -> list[tuple[str, bool, str]]:
        found = status.collect(ON, PACKAGES, modules).features
        return [(each.name, each.on, each.why) for each in found if ":" in each.name]

    assert stands({}) == [
        ("stated:charge", True, "there; wrapped when its module is imported"),
        ("stated:chrage", False, "there is no chrage; did you mean charge?"),
        ("q_x_j_z:charge", False, "there is no module q_x_j_z in sys.path"),
    ]
    here: Any = ModuleType("functions")
    here.PostHogFunctionsInstrumentor = Running
    assert stands({"otel_posthog.instrumentation.functions": here})[:2] == [
        ("stated:charge", True, "wrapped"),
        ("stated:chrage", False, "there is no chrage"),
    ]
    off = {**ON, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "posthog_functions"}
    assert [each.name for each in status.collect(off, PACKAGES, {}).features if ":" in each.name] == []
