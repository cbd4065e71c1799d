"""docs/testing.md does what it says: its blocks are the tests of a project, and pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog import testing

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_block_runs(tmp_path: Path) -> None:
    """The first block is the shop, each other one a file of tests."""
    pytest.importorskip("posthog")
    shop, *blocks = BLOCK.findall(PAGE)
    (tmp_path / "shop.py").write_text(shop, encoding="utf-8")
    for number, block in enumerate(blocks, 1):
        (tmp_path / f"test_{number}.py").write_text(block, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={
            **kept,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "otel_posthog.testing.plugin",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert "11 passed" in done.stdout, done.stdout + done.stderr


def test_the_page_covers_the_kit() -> None:
    """Every name that tests use is on the page; the classes of what they get are described there by their parts."""
    classes = {"CapturedEvents", "Clock", "Event", "Events", "Folded", "Group", "Person", "Ruling"}

    assert [name for name in testing.__all__ if name not in classes and name not in PAGE] == []
