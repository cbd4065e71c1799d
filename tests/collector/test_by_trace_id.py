"""Several gateways: a trace always goes to the same one, and one that dies and returns loses nothing."""

from __future__ import annotations

import http.client
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from tests.fixtures.collector import CONFIGURATIONS, Collector
from tests.fixtures.collector_senders import GATEWAY_TOKEN, SENDER_TOKEN, Oracle
from tests.fixtures.otlp_grpc_receiver import GrpcReceiver

# Addresses instead of a name that resolves to them, and short waits; all else is as shipped.
OVERLAY = """
exporters:
  load_balancing/gateway:
    retry_on_failure: {{initial_interval: 50ms, max_interval: 200ms}}
    sending_queue: {{batch: {{flush_timeout: 50ms, min_size: 1}}}}
    resolver: {{dns: null, static: {{hostnames: [{hosts}]}}}}
"""


def exceptions(traces: set[bytes]) -> bytes:
    """A log record with an exception for each of these traces."""
    records = [
        LogRecord(
            trace_id=trace,
            time_unix_nano=1,
            attributes=[KeyValue(key="exception.type", value=AnyValue(string_value="ValueError"))],
        )
        for trace in sorted(traces)
    ]
    owner = ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])
    return ExportLogsServiceRequest(resource_logs=[owner]).SerializeToString()


def until(condition: object) -> None:
    """Asks until it holds, a minute long."""
    assert callable(condition)
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("not within a minute")


@pytest.mark.row(24)
@pytest.mark.timeout(180)
def test_one_of_three_gateways_dies_and_returns(large_collector_binary: Path, tmp_path: Path) -> None:
    """Spans and log records of one trace are together; an outage of one of three repeats some and loses none."""
    with ExitStack() as stack:
        gateways = [stack.enter_context(GrpcReceiver(GATEWAY_TOKEN)) for _ in range(3)]
        hosts = ", ".join(f"'127.0.0.1:{gateway.port}'" for gateway in gateways)
        (tmp_path / "overlay.yaml").write_text(OVERLAY.format(hosts=hosts))
        files = [
            CONFIGURATIONS / "otelcol-gateway.yaml",
            CONFIGURATIONS / "by-trace-id-gateway.yaml",
            tmp_path / "overlay.yaml",
        ]
        settings = {
            "COLLECTOR_TOKEN": SENDER_TOKEN,
            "GATEWAY_TOKEN": GATEWAY_TOKEN,
            "GATEWAY_INSECURE": "true",
            "QUEUE_DIR": str(tmp_path / "queue"),
            "OBSERVABILITY_ENDPOINT": "http://127.0.0.1:1",
        }
        collector = stack.enter_context(
            Collector(files, settings, binary=large_collector_binary, log=tmp_path / "collector.log")
        )

        def arrived() -> set[str]:
            return {span.name for gateway in gateways for span in gateway.spans}

        oracle = Oracle(collector.ports)
        assert [oracle.send(20) for _ in range(3)] == [200] * 3
        until(lambda: oracle.acknowledged <= arrived())
        homes = [{span.trace_id for span in gateway.spans} for gateway in gateways]
        assert all(homes), "three gateways share the traces"
        assert sum(map(len, homes)) == len(set().union(*homes)) == 60
        # Log records of these traces go where the spans went.
        connection = http.client.HTTPConnection("127.0.0.1", collector.ports.http, timeout=30)
        headers = {"content-type": "application/x-protobuf", "authorization": f"Bearer {SENDER_TOKEN}"}
        connection.request("POST", "/v1/logs", exceptions(set().union(*homes)), headers)
        assert connection.getresponse().status == 200
        connection.close()
        until(lambda: sum(len(gateway.logs) for gateway in gateways) == 60)
        assert [{log.trace_id for log in gateway.logs} for gateway in gateways] == homes
        # One is away. A batch is for all three, so that a part of it arrives again and again until it is back.
        gateways[1].stop()
        assert [oracle.send(20) for _ in range(5)] == [200] * 5
        until(lambda: len(arrived()) > 60)
        assert not oracle.acknowledged <= arrived()
        gateways[1].start()
        until(lambda: oracle.acknowledged <= arrived())
        assert len(oracle.acknowledged) == 160
        after = [{span.trace_id for span in gateway.spans} for gateway in gateways]
        assert sum(map(len, after)) == len(set().union(*after)), "a trace is with one gateway, before and after"
        collector.kill()
