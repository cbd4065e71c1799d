"""`/metrics`: every number of books, gauges and bridges, by names that alerts and dashboards can rely on."""

from __future__ import annotations

import ast
import http.client
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inline_snapshot import snapshot
from prometheus_client.parser import text_string_to_metric_families

from otel_posthog.gateway.admin import names
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.books import BUCKETS
from otel_posthog.model import LossReason
from otel_posthog.observe.metrics import METRICS, Instrument, Metric
from tests.fixtures.built_tools import promtool

__all__ = ["promtool"]

ROOT = Path(__file__).resolve().parents[4]
Serve = Callable[..., AdminServer]


def scrape(server: AdminServer, accept: str = "") -> tuple[str, str]:
    """Content type and text."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept": accept} if accept else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200
    return str(answer.getheader("content-type")), text


def found(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Value by labels other than `worker`, which each sample has."""
    values: dict[tuple[tuple[str, str], ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["worker"] == "2"
            if sample.name == name:
                values[tuple((key, value) for key, value in sample.labels.items() if key != "worker")] = sample.value
    return values


@pytest.fixture
def text(gateway: Any, serve: Serve, make_signal: Any) -> str:
    """An exposition with something of everything."""
    from otel_posthog.gateway.admin.door import WorkerDoor

    blog = gateway.project("blog")
    blog.delivery.blocked = "HTTP 401"
    gateway.projects["shop"].bridge.accept([make_signal("order"), make_signal("drop it"), make_signal("plain")])
    gateway.books.add("receiver_requests", 4, transport="http", kind="traces", answer="ok")
    gateway.books.add("brand_new", 2, why="x")
    gateway.books.took("receiver_ack", 0.001, transport="grpc")
    gateway.books.took("receiver_ack", 0.3, transport="grpc")
    gateway.books.took("receiver_ack", 99.0, transport="grpc")
    gateway.gauges["spool_size", ()] = 4096
    gateway.gauges["spool_oldest_age", ()] = 1.5
    return scrape(serve(WorkerDoor(gateway.sources(worker=2))))[1]


def test_what_bridges_count_is_by_project(text: str) -> None:
    """Each number of the bridge's own table, with the project in front of its attributes."""
    assert found(text, "otel_posthog_signals_received_total") == {(("project", "shop"),): 3, (("project", "blog"),): 0}
    dropped = found(text, "otel_posthog_signals_dropped_total")
    assert {key: value for key, value in dropped.items() if value} == {
        (("kind", "span"), ("project", "shop"), ("reason", "rule")): 1,
        (("kind", "span"), ("project", "shop"), ("reason", "not_tagged")): 1,
    }
    assert found(text, "otel_posthog_signals_by_rule_total") == {(("project", "shop"), ("rule", "silence")): 1}
    assert found(text, "otel_posthog_project_blocked") == {(("project", "shop"),): 0, (("project", "blog"),): 1}
    assert found(text, "otel_posthog_gateway_ready") == {(): 0}


def test_books_and_gauges(text: str) -> None:
    """Names as OpenTelemetry translates them: units in words, `_total` for what only grows."""
    ok = (("transport", "http"), ("kind", "traces"), ("answer", "ok"))
    assert found(text, "otel_posthog_receiver_requests_total")[tuple(sorted(ok))] == 4
    assert found(text, "otel_posthog_spool_size_bytes") == {(): 4096}
    assert found(text, "otel_posthog_spool_oldest_age_seconds") == {(): 1.5}


def test_durations_are_histograms(text: str) -> None:
    """Cumulative buckets in seconds up to +Inf, with sum and count."""
    name = "otel_posthog_receiver_ack_duration_seconds"
    buckets = {float(dict(labels)["le"]): value for labels, value in found(text, f"{name}_bucket").items()}
    assert tuple(buckets) == (*BUCKETS, math.inf)
    assert [buckets[bound] for bound in (0.001, 0.25, 0.5, 10.0, math.inf)] == [1, 1, 2, 2, 3]
    assert found(text, f"{name}_count") == {(("transport", "grpc"),): 3}
    assert found(text, f"{name}_sum") == {(("transport", "grpc"),): pytest.approx(99.301)}


def test_a_name_that_the_table_lacks_is_shown_all_the_same(text: str) -> None:
    """Whatever somebody counts can be seen."""
    assert found(text, "otel_posthog_brand_new_total") == {(("why", "x"),): 2}


def test_what_alerts_ask_for_is_there_from_the_start(gateway: Any, serve: Serve) -> None:
    """A counter that appears with its first count is invisible to `increase()`: the first loss would alarm nobody."""
    from otel_posthog.gateway.admin.door import WorkerDoor

    text = scrape(serve(WorkerDoor(gateway.sources(worker=2))))[1]

    assert found(text, "otel_posthog_events_lost_total") == {
        (("project", "shop"), ("reason", reason.value)): 0 for reason in LossReason
    }
    for book in names.FROM_THE_START:
        (series,) = names.series_names(names.BOOKS[book])
        values = found(text, series)
        assert len(values) == len(names.FROM_THE_START[book])
        assert set(values.values()) == {0}


def test_the_process_itself(text: str) -> None:
    """Memory, CPU and files of the worker, as every Prometheus client shows them."""
    assert found(text, "process_resident_memory_bytes")[()] > 1_000_000
    assert found(text, "process_open_fds")[()] > 3
    assert found(text, "process_cpu_seconds_total")[()] > 0


def test_openmetrics_where_it_is_asked_for(gateway: Any, serve: Serve) -> None:
    """Prometheus asks for it first, and reads the same numbers."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

    gateway.books.took("receiver_ack", 0.3, transport="grpc")
    content_type, text = scrape(serve(gateway), "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    families = {family.name: family.type for family in parse(text)}
    assert families["otel_posthog_signals_received"] == "counter"
    assert families["otel_posthog_receiver_ack_duration_seconds"] == "histogram"


def test_hostile_label_values_are_escaped(gateway: Any, serve: Serve) -> None:
    """Rule and project names are an operator's own, and may hold anything."""
    name = 'a"b\\c\nd'
    gateway.project(name)

    text = scrape(serve(gateway))[1]

    values = {
        sample.labels["project"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "otel_posthog_project_blocked"
    }
    assert values == {"shop", name}


def test_internal_errors_are_counted_once_for_all_projects(gateway: Any, serve: Serve) -> None:
    """One guard serves every project of a gateway: its counts must not add up by project."""
    from otel_posthog.gateway.admin.door import WorkerDoor

    blog = gateway.project("blog")
    for project in gateway.projects.values():
        project.bridge._guard = blog.bridge._guard
        project.bridge.load()._guard = blog.bridge._guard
    blog.bridge._guard._counts["journal"] = 2

    text = scrape(serve(WorkerDoor(gateway.sources(worker=2))))[1]

    errors = found(text, "otel_posthog_internal_errors_total")
    assert {key: value for key, value in errors.items() if value} == {(("place", "journal"),): 2}


def test_promtool_finds_nothing_wrong_with_the_names(text: str, promtool: Path) -> None:
    """Prometheus' own linter reads the exposition."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("metric", [*METRICS, *names.GATEWAY_METRICS], ids=lambda metric: metric.name)
def test_names_follow_opentelemetry(metric: Metric) -> None:
    """Dotted, lower case, in our namespace; counters have no `total` and no unit in their name."""
    parts = metric.name.split(".")
    assert parts[0] == "otel_posthog"
    assert all(part and part.replace("_", "").isalnum() and part == part.lower() for part in parts)
    assert parts[-1] not in {"total", "count", "seconds", "bytes"}
    assert metric.unit in {"s", "By", "1"} or (metric.unit[0], metric.unit[-1]) == ("{", "}")
    assert metric.description.endswith(".")


def test_names_are_unique() -> None:
    """Two metrics never share a series."""
    every = [series for metric in (*METRICS, *names.GATEWAY_METRICS) for series in names.series_names(metric)]

    assert len(every) == len(set(every))
    assert names.series_names(names.BOOKS["receiver_bytes"]) == snapshot(("otel_posthog_receiver_read_bytes_total",))


def written() -> set[tuple[str, Instrument, frozenset[str]]]:
    """Every name that the gateway's code counts or shows, with its labels, as it stands in the source."""
    found: set[tuple[str, Instrument, frozenset[str]]] = set()
    for path in (ROOT / "otel_posthog" / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if not ast.unparse(node.func.value).lower().endswith("books") or node.func.attr not in {"add", "took"}:
                continue
            (name,) = (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))
            kind = Instrument.COUNTER if node.func.attr == "add" else Instrument.HISTOGRAM
            found.add((name, kind, frozenset(str(each.arg) for each in node.keywords)))
    return found


def test_the_table_has_what_the_gateway_counts() -> None:
    """A name, its instrument and its attributes cannot be changed in the code alone; nor stay here when it is gone."""
    counted = {
        (name, metric.instrument, frozenset(metric.attributes))
        for name, metric in names.BOOKS.items()
        if metric.instrument is not Instrument.GAUGE
    }

    assert written() == counted


def test_the_table_has_what_the_service_shows() -> None:
    """The same for gauges: the names that `service` fills in."""
    tree = ast.parse((ROOT / "otel_posthog" / "gateway" / "process" / "service.py").read_text(encoding="utf-8"))
    (function,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "_gauges")
    shown = {
        node.elts[0].value
        for node in ast.walk(function)
        if isinstance(node, ast.Tuple)
        and len(node.elts) == 2
        and isinstance(node.elts[0], ast.Constant)
        and isinstance(node.elts[1], ast.Tuple)
    }

    assert shown == {name for name, metric in names.BOOKS.items() if metric.instrument is Instrument.GAUGE}
