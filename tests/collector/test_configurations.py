"""Every Collector configuration that we ship is one that the real Collector takes and starts (row 51)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_posthog.rules.collector_filter import collector_filter
from otel_posthog.rules.collector_yaml import processors_yaml
from tests.fixtures.collector import CONFIGURATIONS, EVERYDAY, LARGE, Collector, find_binary

# Each set of files as an operator gives them, and the Collector that has what they need.
SETS = [
    (("otelcol-gateway.yaml",), EVERYDAY),
    (("otelcol-agent.yaml",), EVERYDAY),
    (("otelcol-gateway.yaml",), LARGE),
    (("otelcol-agent.yaml", "by-trace-id-agent.yaml"), LARGE),
    (("otelcol-gateway.yaml", "by-trace-id-gateway.yaml"), LARGE),
    (("otelcol-gateway.yaml", "otelcol-kafka.yaml"), LARGE),
]


def settings(folder: Path) -> dict[str, str]:
    """What an operator has to set, and folders that the test may write to."""
    return {
        "COLLECTOR_TOKEN": "in",
        "GATEWAY_TOKEN": "out",
        "QUEUE_DIR": str(folder / "queue"),
        "TIER_HOST": "localhost",
        "TIER_INSECURE": "true",
        "GATEWAY_HOST": "localhost",
        "GATEWAY_INSECURE": "true",
        "KAFKA_BROKERS": "127.0.0.1:1",
    }


@pytest.mark.row(51)
@pytest.mark.parametrize(("files", "binary"), SETS, ids=[f"{'+'.join(files)}-{name}" for files, name in SETS])
def test_is_valid_and_starts(files: tuple[str, ...], binary: str, tmp_path: Path) -> None:
    """The shipped configuration passes `otelcol validate`, starts, is healthy, and stops."""
    paths = [CONFIGURATIONS / name for name in files]
    collector = Collector(paths, settings(tmp_path), binary=find_binary(binary), log=tmp_path / "collector.log")
    checked = collector.validate()
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    # Kafka is not there in this test: the Collector is healthy all the same, and goes on asking for it.
    with collector:
        assert collector.healthy()
        if "otelcol-kafka.yaml" not in files:
            assert collector.stop() == 0
            levels = [line.split("\t")[1] for line in collector.text.splitlines() if line.count("\t") > 1]
            assert "error" not in levels, collector.text
            assert not [line for line in collector.text.splitlines() if "deprecated" in line.lower()]


def test_every_configuration_is_in_the_list() -> None:
    """No configuration is shipped that is not started here."""
    shipped = {
        path.name for pattern in ("otelcol-*.yaml", "by-*.yaml", "tls.yaml") for path in CONFIGURATIONS.glob(pattern)
    }
    assert shipped == {name for files, _ in SETS for name in files} | {"tls.yaml"}, "tls.yaml: test_tls.py"


@pytest.mark.parametrize("missing", ["COLLECTOR_TOKEN", "GATEWAY_TOKEN"])
def test_without_a_token_it_is_refused(missing: str, collector_binary: Path, tmp_path: Path) -> None:
    """A gateway Collector whose operator forgot a token is refused rather than open to anybody."""
    without = {name: value for name, value in settings(tmp_path).items() if name != missing}
    for given in (without, without | {missing: ""}):
        checked = Collector(CONFIGURATIONS / "otelcol-gateway.yaml", given, binary=collector_binary).validate()
        assert checked.returncode == 1
        assert "no bearer token provided" in checked.stderr


def loaded(name: str) -> dict[str, Any]:
    """A shipped configuration, parsed."""
    return yaml.safe_load((CONFIGURATIONS / name).read_text())


def test_the_filter_is_the_one_that_the_command_writes() -> None:
    """The conditions in the shipped configuration are those of `rules collector-filter` without rules."""
    written = yaml.safe_load(processors_yaml(collector_filter()))["processors"]
    shipped = loaded("otelcol-gateway.yaml")["processors"]
    assert {name: shipped[name] for name in written} == written


def test_the_overlay_by_trace_id_keeps_every_processor() -> None:
    """The overlay, which has to repeat the processors, leaves none of them out and moves none."""
    shipped = loaded("otelcol-gateway.yaml")["service"]["pipelines"]
    for name, pipeline in loaded("by-trace-id-gateway.yaml")["service"]["pipelines"].items():
        assert pipeline["processors"] == [*shipped[name]["processors"], "transform/trace_key"]


@pytest.mark.parametrize("files", [("otelcol-gateway.yaml",), ("otelcol-agent.yaml",)])
def test_lossless_settings_stand(files: tuple[str, ...]) -> None:
    """The settings that losslessness rests on are there: a synced queue on disk, endless retry, senders that wait."""
    config = loaded(files[0])
    assert config["extensions"]["file_storage/queue"]["fsync"] is True
    exporter = config["exporters"]["otlp_http/gateway" if "gateway" in files[0] else "otlp_http/tier"]
    assert exporter["retry_on_failure"]["max_elapsed_time"] == "0s"
    assert exporter["sending_queue"]["storage"] == "file_storage/queue"
    assert exporter["sending_queue"]["block_on_overflow"] is True
    for pipeline in config["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"
