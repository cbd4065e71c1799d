"""A queue file that is damaged is neither sent as it is nor thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.collector import CONFIGURATIONS, Collector


def test_a_damaged_queue_stops_the_start(collector_binary: Path, tmp_path: Path) -> None:
    """The Collector does not start, leaves the file as it is, and starts again when an operator has moved it."""
    queue = tmp_path / "queue"
    settings = {"COLLECTOR_TOKEN": "in", "GATEWAY_TOKEN": "out", "QUEUE_DIR": str(queue)}
    collector = Collector(
        CONFIGURATIONS / "otelcol-gateway.yaml", settings, binary=collector_binary, log=tmp_path / "log"
    )
    collector.start().stop()
    traces = queue / "exporter_otlp_http_gateway_traces"
    damaged = b"no queue" * 4_096
    traces.write_bytes(damaged)
    with pytest.raises(AssertionError, match="ended with 1"):
        collector.start()
    assert traces.read_bytes() == damaged
    traces.rename(tmp_path / "set aside")
    collector.start().stop()
