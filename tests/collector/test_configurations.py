"""Every Collector configuration that we ship is one that the real Collector takes and starts (row 51)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.collector import CONFIGURATIONS, Collector


def settings(folder: Path) -> dict[str, str]:
    """What an operator has to set, and folders that the test may write to."""
    return {"COLLECTOR_TOKEN": "in", "GATEWAY_TOKEN": "out", "QUEUE_DIR": str(folder / "queue")}


@pytest.mark.row(51)
@pytest.mark.parametrize("name", ["otelcol-gateway.yaml"])
def test_is_valid_and_starts(name: str, collector_binary: Path, tmp_path: Path) -> None:
    """The shipped configuration passes `otelcol validate`, starts, is healthy and stops in order."""
    collector = Collector(
        CONFIGURATIONS / name, settings(tmp_path), binary=collector_binary, log=tmp_path / "collector.log"
    )
    checked = collector.validate()
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    with collector:
        assert collector.healthy()
        assert collector.stop() == 0
    assert "error" not in {line.split("\t")[1] for line in collector.text.splitlines() if line.count("\t") > 1}


@pytest.mark.parametrize("missing", ["COLLECTOR_TOKEN", "GATEWAY_TOKEN"])
def test_without_a_token_it_is_refused(missing: str, collector_binary: Path, tmp_path: Path) -> None:
    """A gateway Collector whose operator forgot a token is refused rather than open to anybody."""
    without = {name: value for name, value in settings(tmp_path).items() if name != missing}
    for given in (without, without | {missing: ""}):
        checked = Collector(CONFIGURATIONS / "otelcol-gateway.yaml", given, binary=collector_binary).validate()
        assert checked.returncode == 1
        assert "no bearer token provided" in checked.stderr
