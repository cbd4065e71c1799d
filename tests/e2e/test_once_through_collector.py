"""One carrier per item: whoever converts, the process or the gateway, each thing that happened is one event."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.collector import CONFIGURATIONS, Collector, find_binary
from tests.fixtures.gateway import TOKEN, GatewayProcess

APP = Path(__file__).parent / "apps" / "once.py"

RULES = """\
rules:
  - name: newsletters
    match: {name: newsletter}
    capture: newsletter subscribed
"""
SECOND_VERSION = """\
rules:
  - name: newsletters
    match: {name: newsletter}
    capture:
      event: newsletter subscribed
      properties: {list: "{list}"}
"""
OTHER_RULE = """\
rules:
  - name: refunds asked for
    match: {name: refund}
    capture: refund asked for
"""

pytestmark = pytest.mark.timeout(180)


def run_app(folder: Path, collector: Collector, rules: str, *, ours: bool) -> None:
    """Runs the app under the standard launcher; without `ours` our package stands aside."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env.update(
        OTEL_SERVICE_NAME="shop",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.ports.http_url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="otlp",
    )
    if ours:
        env["OTEL_EXPORTER_OTLP_TOKEN"] = "collector-token"
    else:
        env["OTEL_POSTHOG_ENABLED"] = "false"
        env["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=Bearer collector-token"
    if rules and ours:
        path = folder / "process.yaml"
        path.write_text(rules, encoding="utf-8")
        env["OTEL_POSTHOG_CONFIG"] = str(path)
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run(
        [launcher, sys.executable, str(APP)], env=env, capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("ours", [True, False], ids=["with our package", "without it"])
@pytest.mark.parametrize(
    ("process", "gateway_rules", "more"),
    [
        pytest.param("", "", [], id="no rules"),
        pytest.param(RULES, "", ["newsletter subscribed"], id="rules in the process"),
        pytest.param("", RULES, ["newsletter subscribed"], id="rules in the gateway"),
        pytest.param(RULES, RULES, ["newsletter subscribed"], id="the same in both"),
        pytest.param(RULES, SECOND_VERSION, ["newsletter subscribed"], id="two versions"),
        pytest.param(
            RULES, RULES + OTHER_RULE.partition("rules:\n")[2], ["newsletter subscribed"], id="one more there"
        ),
    ],
)
def test_each_thing_is_one_event(process: str, gateway_rules: str, more: list[str], ours: bool, tmp_path: Path) -> None:
    """A tagged span, an exception and a rule match, whoever has the rules, are one event each at PostHog."""
    project: dict[str, object] = {}
    if gateway_rules:
        (tmp_path / "gateway.yaml").write_text(gateway_rules, encoding="utf-8")
        project["rules"] = [str(tmp_path / "gateway.yaml")]
    expected = Counter({"order completed": 1, "$exception": 1})
    if more and (ours or gateway_rules):
        expected.update(more)
    if "refunds asked for" in gateway_rules:
        expected["refund asked for"] = 1
    filters: list[Path] = []
    if gateway_rules:
        filters.append(collector_filter(tmp_path, tmp_path / "gateway.yaml"))
    binary = find_binary()
    with Emulator() as posthog, GatewayProcess(tmp_path / "gateway", posthog.url, project=project) as gateway:
        variables = {
            "COLLECTOR_TOKEN": "collector-token",
            "GATEWAY_TOKEN": TOKEN,
            "GATEWAY_ENDPOINT": gateway.http_url,
            "QUEUE_DIR": str(tmp_path / "queue"),
        }
        with Collector([CONFIGURATIONS / "otelcol-gateway.yaml", *filters], variables, binary=binary) as collector:
            run_app(tmp_path, collector, process, ours=ours)
            posthog.wait_for(lambda emulator: len(emulator.events()) >= sum(expected.values()), timeout=60)
            # In order: the Collector gives away all that it has before it ends, then the gateway does.
            collector.stop()
        assert gateway.stop() == 0
        found = Counter((event["event"], event["distinct_id"]) for event in posthog.events())
        assert found == Counter({(event, "ada"): count for event, count in expected.items()})


def collector_filter(folder: Path, rules: Path) -> Path:
    """What the README says to write for the Collector after a change of the rules."""
    program = [sys.executable, "-m", "otel_posthog.cli.main", "rules", "collector-filter", "--rules", str(rules)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    path = folder / "product-filter.yaml"
    path.write_text(done.stdout, encoding="utf-8")
    return path
