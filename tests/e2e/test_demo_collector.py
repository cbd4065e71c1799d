"""`make demo-collector ONCE=1`: what an SRE sees first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.collector import find_binary

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(180)
def test_the_shop_through_collector_and_gateway(tmp_path: Path) -> None:
    """The journey's events, and those of a program without any SDK, arrive through real parts; it ends with 0."""
    program = [sys.executable, str(ROOT / "examples/collector/demo.py"), str(find_binary()), "--once"]
    done = subprocess.run(
        program, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, capture_output=True, timeout=160
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    output = done.stdout.decode()
    rows = [
        line.split("  ")[2].strip()
        for line in output.partition("Events\n")[2].partition("People")[0].splitlines()
        if line.startswith("  ") and line[2:3].isdigit()
    ]
    assert sorted(name for name in rows if not name.startswith(("$pageview", "api_request"))) == [
        "$exception",
        "$groupidentify",
        "$groupidentify",
        "$identify",
        "$identify",
        "$identify",
        "order paid",
        "order paid",
        "order paid",
        "sign-in failed",
        "sold at the till",
        "user signed in",
        "user signed up",
        "user signed up",
    ]
    assert "OutOfStock: 10 × tent ordered, 3 left  1      1      shop.py:" in output
