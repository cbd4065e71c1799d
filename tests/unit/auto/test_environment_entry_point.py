"""The module that `opentelemetry-instrument` loads first: flags, environment, and no harm."""

from __future__ import annotations

import importlib
import os
import sys

import pytest

import otel_posthog.auto_environment as entry_point
from otel_posthog.auto_environment import apply, carrier_mark, flags

COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_TOKEN": "phc_test_token"}


def test_it_gives_the_standard_exporters_what_they_need_once() -> None:
    """Token as header, HTTP, the carrier mark; a second time changes nothing."""
    environ = dict(COLLECTOR)
    assert apply(environ) == {
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20phc_test_token",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_RESOURCE_ATTRIBUTES": "posthog.carrier=bridge",
    }
    assert apply(environ) == {}


@pytest.mark.parametrize(
    "environ",
    [{}, {**COLLECTOR, "OTEL_SDK_DISABLED": "true"}, {**COLLECTOR, "OTEL_POSTHOG_QUEUE_SIZE": "many"}],
    ids=["nothing set", "disabled", "wrong setting"],
)
def test_a_closed_gate_or_a_wrong_setting_changes_nothing(environ: dict[str, str]) -> None:
    """Neither an error nor a change: the hook speaks about it in the app itself."""
    before = dict(environ)
    assert (apply(environ), environ) == ({}, before)


def test_the_mark_names_the_rules_that_the_process_will_load() -> None:
    """In collector mode a gateway learns which rules the process carries; in direct mode there is no gateway."""
    with_rules = {**COLLECTOR, "OTEL_POSTHOG_DEFAULT_RULES": "true"}
    assert carrier_mark(with_rules).startswith("bridge:")
    assert carrier_mark({**with_rules, "OTEL_POSTHOG_MODE": "direct"}) == ""
    assert carrier_mark({**COLLECTOR, "OTEL_POSTHOG_CONFIG": "/nowhere/rules.yaml"}) == ""


def test_flags_of_the_command_line_count_before_they_are_set() -> None:
    """`opentelemetry-instrument` sets its flags after loading us: they are read from the command line."""
    argv = ["/usr/bin/opentelemetry-instrument", "--exporter_otlp_token", "t", "--posthog_mode=direct", "python", "--x"]
    assert flags(argv) == {
        "OTEL_EXPORTER_OTLP_TOKEN": "t",
        "OTEL_PYTHON_EXPORTER_OTLP_TOKEN": "t",
        "OTEL_POSTHOG_MODE": "direct",
        "OTEL_PYTHON_POSTHOG_MODE": "direct",
    }
    assert flags(["pytest", "--posthog_mode=direct"]) == {}
    assert flags([]) == {}


def test_every_constant_is_a_flag_and_no_more() -> None:
    """A name that another package also offers would break `opentelemetry-instrument`: ours are ours alone."""
    constants = [name for name in dir(entry_point) if name.startswith("OTEL_")]
    assert "OTEL_EXPORTER_OTLP_TOKEN" in constants
    assert {name for name in constants if not name.startswith("OTEL_POSTHOG_")} == {"OTEL_EXPORTER_OTLP_TOKEN"}


def test_importing_it_for_any_other_reason_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing set, an import leaves the environment as it is, even where our own code fails."""
    monkeypatch.setitem(sys.modules, "otel_posthog.config.otlp_environment", None)
    before = dict(os.environ)
    importlib.reload(entry_point)
    assert dict(os.environ) == before
