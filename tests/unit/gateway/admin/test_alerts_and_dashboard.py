"""Alert rules and dashboard: every name and label exists, every alert fires when it should and has its section."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_posthog.gateway.admin import names
from otel_posthog.observe.metrics import METRICS
from tests.docs.links import anchors
from tests.fixtures.built_tools import promtool

__all__ = ["promtool"]

ROOT = Path(__file__).resolve().parents[4]
ALERTS = ROOT / "collector" / "alerts.yaml"
DASHBOARD: dict[str, Any] = json.loads((ROOT / "collector" / "dashboard.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")

RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

# What Prometheus and its client add to every series of ours.
ADDED = {"job", "instance", "worker"}
PROCESS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
}

SERIES: dict[str, set[str]] = dict.fromkeys(PROCESS, ADDED) | {"up": ADDED - {"worker"}}
for metric in METRICS:
    for series in names.series_names(metric):
        SERIES[series] = {*metric.attributes, "project", *ADDED}
for metric in names.GATEWAY_METRICS:
    for series in names.series_names(metric):
        SERIES[series] = {*metric.attributes, *ADDED, *(["le"] if series.endswith("_bucket") else [])}

WORD = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
FUNCTIONS = {
    "sum", "max", "min", "count", "by", "rate", "increase", "or", "and", "topk", "vector", "histogram_quantile",
}  # fmt: skip


def looked_at(expression: str) -> tuple[set[str], set[str]]:
    """The series and the labels that an expression names."""
    labels: set[str] = set()
    for listed in re.findall(r"\bby \(([^)]*)\)", expression):
        labels |= set(re.split(r",\s*", listed))
    for matchers in re.findall(r"\{([^}]*)\}", expression):
        labels |= set(re.findall(r"(\w+)\s*(?:=~|!=|=|!~)", matchers))
    bare = re.sub(r"\bby \([^)]*\)|\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", expression)
    return {word for word in WORD.findall(bare) if word not in FUNCTIONS}, labels


def expressions() -> list[Any]:
    """Every expression that is shipped, by where it stands."""
    of_panels = [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ]
    return [*(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES), *of_panels]


@pytest.mark.parametrize("expression", expressions())
def test_every_name_and_label_exists(expression: str) -> None:
    """An alert on a name that nobody shows is silent for ever."""
    series, labels = looked_at(expression)

    assert series
    assert series - set(SERIES) == set()
    for name in series:
        assert labels - ADDED - {"project"} <= set.union(*(SERIES[each] for each in series))
        assert "project" not in labels or "project" in SERIES[name] or name in PROCESS


def test_the_check_finds_what_does_not_exist() -> None:
    """The two tests above would see a mistyped name and label."""
    series, labels = looked_at('sum by (nope) (rate(otel_posthog_nothing_total{why="x"}[5m])) or vector(0)')

    assert (series, labels) == ({"otel_posthog_nothing_total"}, {"nope", "why"})


def test_promtool_accepts_the_rules_and_every_expression_of_the_dashboard(promtool: Path, tmp_path: Path) -> None:
    """Prometheus' own parser, with Grafana's variables filled in."""
    filled = [
        {"record": "checked:expression", "expr": target["expr"].replace("$__rate_interval", "5m")}
        for panel in PANELS
        for target in panel["targets"]
    ]
    dashboard = tmp_path / "dashboard.yaml"
    dashboard.write_text(
        yaml.safe_dump({"groups": [{"name": f"panel {number}", "rules": [rule]} for number, rule in enumerate(filled)]})
    )

    for words in (["check", "rules", ALERTS], ["check", "rules", "--lint=none", dashboard]):
        done = subprocess.run([promtool, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_example_configuration(promtool: Path) -> None:
    """And finds the rules from it."""
    done = subprocess.run(
        [promtool, "check", "config", ROOT / "collector" / "prometheus.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


ONE = 'job="otel-posthog-gateway",instance="g:8887",worker="0"'
GROWS = "0+0x30 1+0x200"
"""A counter that stands at 0 and then, once, at 1."""

# Alert -> series that make it fire, by minute. In the healthy case every counter stands still and all gauges are good.
FIRING: dict[str, dict[str, str]] = {
    "OtelPosthogProjectBlocked": {'otel_posthog_project_blocked{%s,project="p"}': "1+0x200"},
    "OtelPosthogNothingDelivered": {'otel_posthog_queue_size{%s,project="p"}': "7+0x200"},
    "OtelPosthogBehind": {"otel_posthog_spool_oldest_age_seconds{%s}": "0+60x200"},
    "OtelPosthogSpoolFilling": {"otel_posthog_spool_size_bytes{%s}": "70+0x200"},
    "OtelPosthogSpoolFull": {"otel_posthog_spool_size_bytes{%s}": "95+0x200"},
    "OtelPosthogSpoolNotWritten": {'otel_posthog_spool_commit_failures_total{%s,reason="disk"}': "0+1x200"},
    "OtelPosthogSpoolDamaged": {"otel_posthog_spool_damaged_total{%s}": GROWS},
    "OtelPosthogDeadLetters": {'otel_posthog_dead_letters_written_total{%s,reason="rejected"}': GROWS},
    "OtelPosthogDeadLettersNotKept": {'otel_posthog_dead_letters_not_kept_total{%s,reason="rejected"}': GROWS},
    "OtelPosthogCallersTurnedAway": {'otel_posthog_receiver_requests_total{%s,answer="retry"}': "0+10x200"},
    "OtelPosthogCallersRefused": {'otel_posthog_receiver_refused_total{%s,why="unauthenticated"}': "0+1x200"},
    "OtelPosthogItemsRejected": {'otel_posthog_intake_items_total{%s,outcome="rejected"}': GROWS},
    "OtelPosthogAckSlow": {'otel_posthog_receiver_ack_duration_seconds_bucket{%s,le="0.1"}': "0+50x200"},
    "OtelPosthogDown": {"up{%s}": "0+0x200"},
    "OtelPosthogNotReady": {"otel_posthog_gateway_ready{%s}": "0+0x200"},
    "OtelPosthogWorkerDown": {"otel_posthog_worker_up{%s}": "0+0x200"},
    "OtelPosthogWorkerRestarts": {"otel_posthog_worker_restarts_total{%s}": "0+1x200"},
    "OtelPosthogInternalErrors": {'otel_posthog_internal_errors_total{%s,place="journal"}': GROWS},
    "OtelPosthogReloadFailed": {"otel_posthog_config_last_reload_successful{%s}": "0+0x200"},
}  # fmt: skip
HEALTHY = {
    'otel_posthog_project_blocked{%s,project="p"}': "0+0x200",
    'otel_posthog_queue_size{%s,project="p"}': "0+0x200",
    'otel_posthog_events_delivered_total{%s,project="p"}': "5+0x200",
    "otel_posthog_spool_oldest_age_seconds{%s}": "1+0x200",
    "otel_posthog_spool_size_bytes{%s}": "10+0x200",
    "otel_posthog_spool_limit_bytes{%s}": "100+0x200",
    'otel_posthog_spool_commit_failures_total{%s,reason="disk"}': "3+0x200",
    "otel_posthog_spool_damaged_total{%s}": "0+0x200",
    'otel_posthog_dead_letters_written_total{%s,reason="rejected"}': "0+0x200",
    'otel_posthog_dead_letters_not_kept_total{%s,reason="rejected"}': "0+0x200",
    'otel_posthog_receiver_requests_total{%s,answer="ok"}': "0+100x200",
    'otel_posthog_receiver_requests_total{%s,answer="retry"}': "0+1x200",
    'otel_posthog_receiver_refused_total{%s,why="unauthenticated"}': "9+0x200",
    'otel_posthog_intake_items_total{%s,outcome="rejected"}': "0+0x200",
    'otel_posthog_receiver_ack_duration_seconds_bucket{%s,le="0.1"}': "0+100x200",
    'otel_posthog_receiver_ack_duration_seconds_bucket{%s,le="1.0"}': "0+100x200",
    'otel_posthog_receiver_ack_duration_seconds_bucket{%s,le="+Inf"}': "0+100x200",
    "up{%s}": "1+0x200",
    "otel_posthog_gateway_ready{%s}": "1+0x200",
    "otel_posthog_worker_up{%s}": "1+0x200",
    "otel_posthog_worker_restarts_total{%s}": "2+0x200",
    'otel_posthog_internal_errors_total{%s,place="journal"}': "0+0x200",
    "otel_posthog_config_last_reload_successful{%s}": "1+0x200",
}
ALONG = {"OtelPosthogSpoolFull": ["OtelPosthogSpoolFilling"]}
"""Alerts that fire together with another."""


def scenario(series: dict[str, str], firing: list[str]) -> dict[str, Any]:
    """One promtool test: after 40 minutes of `series`, exactly these alerts fire."""
    return {
        "interval": "1m",
        "input_series": [{"series": name % ONE, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "40m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)],
            }
        ],
    }


def test_each_alert_fires_for_its_reason_and_no_other(promtool: Path, tmp_path: Path) -> None:
    """Prometheus itself evaluates the rules: none fires in a healthy gateway, and each one for what it is there for."""
    assert set(FIRING) == {rule["alert"] for rule in RULES}
    tests = [scenario(HEALTHY, [])]
    for name, series in FIRING.items():
        tests.append(scenario({**HEALTHY, **series}, [name, *ALONG.get(name, [])]))
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}))

    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 0, (done.stdout + done.stderr)[-4_000:]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_section(rule: dict[str, Any]) -> None:
    """The link leads to a heading of its own name, with something under it to do."""
    annotations = rule["annotations"]
    page, _, anchor = annotations["runbook"].partition("#")
    heading = f"### {rule['alert']}\n"

    assert set(annotations) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert (page, anchor) == ("docs/observability.md", rule["alert"].lower())
    assert anchor in anchors(PAGE)
    section = PAGE.partition(heading)[2].partition("\n### ")[0]
    assert len(section) > 150


def test_no_section_without_its_alert() -> None:
    """A page that explains alerts that are gone misleads."""
    assert set(re.findall(r"^### (OtelPosthog\w+)$", PAGE, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_the_dashboard_is_one_that_grafana_can_place() -> None:
    """Ids are unique, panels lie within the grid and not on each other, and ask the chosen data source."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + across, place["y"] + down) for across in range(place["w"]) for down in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "instance", "project"}
    for panel in PANELS:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert panel["description"]
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {"job", "instance", "project", "__rate_interval"}


def documented() -> dict[str, tuple[str, str, str, str]]:
    """Instrument, unit, attributes and meaning of each metric in the page's tables."""
    row = re.compile(r"^\| `(otel_posthog\.[^`]+)` \| (\w+) \| `([^`]+)` \| ([^|]*?) \| ([^|]*) \|$", re.MULTILINE)
    return {name: tuple(rest) for name, *rest in row.findall(PAGE)}  # type: ignore[misc]


def test_the_page_lists_every_metric() -> None:
    """As the table in the code has it; if not: python -m tests.docs.gateway_metrics."""
    from tests.docs.gateway_metrics import rows

    expected = dict(rows())
    assert {name: row for name, row in documented().items() if name in expected} == expected
