"""The gateway's own metrics over OTLP: the same numbers as `/metrics`, by the standard exporter."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from otel_posthog.config.settings import Secret
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.self_metrics import SelfMetrics
from otel_posthog.gateway.configuration.bridge_file import load_gateway_settings
from otel_posthog.gateway.configuration.settings import SelfMetricsSettings
from otel_posthog.gateway.process.service import GatewayService, secrets_of


class Backend:
    """Takes OTLP metrics; `status` is what it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], ExportMetricsServiceRequest]] = []
        self.status = 200
        self.arrived = threading.Event()
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportMetricsServiceRequest.FromString(body)
                backend.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, request))
                self.send_response_only(backend.status)
                self.send_header("content-length", "0")
                self.end_headers()
                backend.arrived.set()

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A running one."""
    made = Backend()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join(60)


@pytest.fixture(autouse=True)
def exporters_logger() -> Iterator[None]:
    """The exporter's logger stays as it was."""
    logger = logging.getLogger("opentelemetry.exporter.otlp.proto.http")
    level = logger.level
    yield
    logger.setLevel(level)


def points(request: ExportMetricsServiceRequest, name: str) -> list[tuple[dict[str, str], Any]]:
    """Attributes and value of each point of one metric."""
    (resource_metrics,) = request.resource_metrics
    (scope_metrics,) = resource_metrics.scope_metrics
    for metric in scope_metrics.metrics:
        if metric.name == name:
            data = getattr(metric, metric.WhichOneof("data"))
            return [
                (
                    {each.key: each.value.string_value for each in point.attributes},
                    point if metric.WhichOneof("data") == "histogram" else point.as_int,
                )
                for point in data.data_points
            ]
    return []


def test_the_same_numbers_arrive(gateway: Any, make_signal: Any, backend: Backend) -> None:
    """Counters, gauges and histograms of one moment, with the resource of this gateway and the headers."""
    gateway.projects["shop"].bridge.accept([make_signal("order"), make_signal("plain")])
    gateway.books.took("receiver_ack", 0.003, transport="http")
    settings = SelfMetricsSettings(backend.url, {"x-key": Secret("s3cret")}, interval=3_600)
    own = SelfMetrics(gateway.sources(worker=3), settings, time_ns=lambda: 1_700_000_000_000_000_000)
    own.start()
    own.stop()

    ((path, headers, request),) = backend.requests
    assert (path, headers["x-key"]) == ("/v1/metrics", "s3cret")
    resource = {each.key: each.value.string_value for each in request.resource_metrics[0].resource.attributes}
    assert resource["service.name"] == "otel-posthog-gateway"
    assert resource["service.instance.id"].endswith(":3")
    assert points(request, "otel_posthog.signals.received") == [({"project": "shop", "worker": "3"}, 2)]
    assert ({"project": "shop", "kind": "span", "reason": "not_tagged", "worker": "3"}, 1) in points(
        request, "otel_posthog.signals.dropped"
    )
    assert points(request, "otel_posthog.gateway.ready") == [({"worker": "3"}, 1)]
    [(attributes, histogram)] = [
        found
        for scope in request.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.WhichOneof("data") == "histogram"
        for found in points(request, metric.name)
    ]
    assert attributes == {"transport": "http", "worker": "3"}
    assert (histogram.count, histogram.sum, list(histogram.bucket_counts)[:4]) == (1, 0.003, [0, 0, 1, 0])
    assert not histogram.HasField("min")


def test_it_exports_at_each_interval(gateway: Any, backend: Backend) -> None:
    """Again and again, and a last time at the end."""
    own = SelfMetrics(gateway.sources(), SelfMetricsSettings(backend.url, interval=0.01))
    own.start()
    assert backend.arrived.wait(60)
    backend.arrived.clear()
    assert backend.arrived.wait(60)
    own.stop()
    own.stop()

    assert len(backend.requests) >= 3


def test_the_environment_names_the_service(gateway: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for every OpenTelemetry process."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "bridge")
    own = SelfMetrics(gateway.sources(), SelfMetricsSettings(backend.url, interval=3_600))
    own.start()
    own.stop()

    resource = backend.requests[0][2].resource_metrics[0].resource
    assert {each.key: each.value.string_value for each in resource.attributes}["service.name"] == "bridge"


def test_a_backend_that_is_away_costs_a_line(gateway: Any, backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    """Said once; a stop does not wait for it, and says nothing of what is sent."""
    backend.status = 400
    own = SelfMetrics(
        gateway.sources(), SelfMetricsSettings(backend.url, {"authorization": Secret("s3cret")}, interval=0.01)
    )
    own.start()
    assert backend.arrived.wait(60)
    backend.arrived.clear()
    assert backend.arrived.wait(60)
    own.stop()

    assert [record.getMessage() for record in caplog.records] == [
        "the gateway's own metrics could not be sent (the exporter gave up)"
    ]
    assert "s3cret" not in repr(own._settings)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/v1/metrics"),
        ("https://c/otlp/v1/metrics", "https://c/otlp/v1/metrics"),
        ("https://c/otlp?k=v", "https://c/otlp/v1/metrics?k=v"),
    ],
)
def test_the_path_is_added_where_it_is_not_there(endpoint: str, url: str) -> None:
    """A base endpoint, as in `OTEL_EXPORTER_OTLP_ENDPOINT`, or the whole address."""
    assert SelfMetricsSettings(endpoint).url == url


CONFIGURATION = """
listen: {{http: 127.0.0.1:0, grpc: off, admin: 127.0.0.1:0}}
spool: {{dir: {spool}}}
self_metrics:
  endpoint: {url}
  interval: 3600
  headers: {{x-key: {{env: METRICS_KEY}}}}
projects:
  shop: {{host: "http://127.0.0.1:9", key: {{env: KEY}}}}
"""


def test_a_gateway_that_is_told_to_pushes_its_metrics(backend: Backend, tmp_path: Path) -> None:
    """From `bridge.yaml` to the backend, with the header's value from the environment and nowhere else."""
    pytest.importorskip("httptools")  # an extra, which the environment of the floor does without
    path = tmp_path / "bridge.yaml"
    path.write_text(CONFIGURATION.format(spool=tmp_path / "spool", url=backend.url))
    settings = load_gateway_settings(str(path), {"KEY": "phc_key_of_the_shop", "METRICS_KEY": "s3cret"})
    service = GatewayService(settings)
    service.start()
    service.stop()

    ((path_asked, headers, request),) = backend.requests
    assert (path_asked, headers["x-key"]) == ("/v1/metrics", "s3cret")
    assert points(request, "otel_posthog.spool.limit")[0][1] == 1024**3
    assert "s3cret" not in repr(settings)
    assert "s3cret" in secrets_of(settings)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("{interval: 5}", "`endpoint` is missing. Add it: where they go"),
        ("{endpoint: 'ftp://x'}", "the scheme 'ftp' is not known"),
        ("{endpoint: 'http://x', interval: 0}", "`self_metrics.interval`"),
        ("{endpoint: 'http://x', headers: {a: s3cret}}", "a text stands where the source of a secret belongs"),
        ("{endpoint: 'http://x', headers: {a: {env: NOPE}}}", "the variable NOPE is not set"),
        ("{endpoint: 'http://x', headers: {a: {env: BAD}}}", "it is no value that a header can carry"),
    ],
)
def test_a_wrong_setting_is_told(lines: str, message: str, tmp_path: Path) -> None:
    """With the key, and never with what stands there."""
    path = tmp_path / "bridge.yaml"
    project = "projects: {shop: {host: 'http://127.0.0.1:9', key: {env: KEY}}}"
    path.write_text(f"self_metrics: {lines}\n{project}\n")

    with pytest.raises(ConfigError) as raised:
        load_gateway_settings(str(path), {"KEY": "phc_key_of_the_shop", "BAD": "a\nb"})

    assert message in str(raised.value)
    assert "s3cret" not in str(raised.value)
