"""docs/posthog-sdk.md does what it says: its calls arrive, straight and through a gateway without a key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.gateway import TOKEN, GatewayProcess

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "posthog-sdk.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.timeout(180)


def run(code: str, **variables: str) -> None:
    """Runs code in a process of its own, under the standard launcher."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env.update(OTEL_TRACES_EXPORTER="none", OTEL_LOGS_EXPORTER="none", OTEL_METRICS_EXPORTER="none")
    env.update(OTEL_POSTHOG_EXIT_TIMEOUT="60", **variables)
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run([launcher, sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_block_runs(tmp_path: Path) -> None:
    """The first straight, with the key and host of the gate; the second through a gateway."""
    first, second = BLOCKS
    with Emulator() as emulator:
        host = f"import posthog; posthog.project_api_key, posthog.host = 'phc_test', {emulator.url!r}\n"
        run(host + first, OTEL_EXPORTER_OTLP_ENDPOINT=emulator.endpoint, OTEL_EXPORTER_OTLP_TOKEN="phc_test")
        assert sorted(event["event"] for event in emulator.events()) == ["$groupidentify", "$set", "order paid"]
        with GatewayProcess(tmp_path, emulator.url) as gateway:
            run(
                f"import posthog; posthog.host = {emulator.url!r}\n" + second,
                OTEL_EXPORTER_OTLP_ENDPOINT=gateway.http_url,
                OTEL_EXPORTER_OTLP_TOKEN=TOKEN,
            )
            gateway.wait_for("the refund", lambda: "refund issued" in {each["event"] for each in emulator.events()})
