"""The scripts behind the `make` targets: what is there is not built again, what is missing is named."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.collector import CACHE, ROOT, find_binary

SCRIPTS = [
    (["collector/build.sh", "collector/builder-config.yaml"], "install Go 1.25 or newer"),
    (["collector/kubernetes/build.sh"], "install Go 1.25 or newer"),
    (["collector/kafka/fetch.sh"], "install Maven and Java 17"),
]


@pytest.mark.parametrize(("script", "message"), SCRIPTS, ids=[script[0] for script, _ in SCRIPTS])
def test_a_missing_tool_is_named(script: list[str], message: str, tmp_path: Path) -> None:
    """Without Go or Maven the script ends with 1 and says what to install."""
    done = subprocess.run(
        [ROOT / script[0], *script[1:], tmp_path / "cache"],
        cwd=ROOT,
        env={"PATH": _tools(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert message in done.stderr


def _tools(folder: Path) -> str:
    """A PATH with what any machine has, and neither Go nor Maven."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("sh", "sed", "sort", "head", "mkdir", "dirname", "basename", "cksum", "tr", "cat", "rm", "printf"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    return str(tools)


def test_a_built_collector_is_not_built_again(collector_binary: Path) -> None:
    """The same manifest gives the same binary at once; the cache holds nothing half-made."""
    if shutil.which("go") is None:
        pytest.skip("no Go here, and the script asks it for the platform")
    before = collector_binary.stat().st_mtime_ns
    done = subprocess.run(
        [ROOT / "collector/build.sh", "collector/builder-config.yaml", CACHE / "collector"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, str(CACHE.resolve() / "collector" / "otelcol-bridge"))
    assert find_binary().stat().st_mtime_ns == before
