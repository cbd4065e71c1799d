"""Several gateways behind one real Collector that spreads traces over them: replicas come and go, events do not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.collector import CONFIGURATIONS, LARGE, Collector, find_binary
from tests.fixtures.gateway import TOKEN, GatewayProcess
from tests.rig.oracle import Sender, check

pytestmark = pytest.mark.timeout(300)


@contextmanager
def tier(folder: Path, count: int) -> Iterator[tuple[Emulator, Sequence[GatewayProcess], Sender]]:
    """A local PostHog, `count` gateways, and the shipped Collector configuration in front of them."""
    binary = find_binary(LARGE)
    with ExitStack() as stack:
        posthog = stack.enter_context(Emulator())
        gateways = [
            stack.enter_context(GatewayProcess(folder / f"gateway-{number}", posthog.url)) for number in range(count)
        ]
        names = ", ".join(f'"{gateway.grpc_target}"' for gateway in gateways)
        shipped = (CONFIGURATIONS / "by-trace-id-gateway.yaml").read_text(encoding="utf-8")
        # Names of hosts cannot be made here: a fixed list in their place, all else as shipped, with short waits.
        overlay, replaced = re.subn(r"dns: \{.*\}", f"static: {{hostnames: [{names}]}}", shipped)
        assert replaced == 1
        for long, short in (("flush_timeout: 1s", "flush_timeout: 50ms"), ("min_size: 1048576", "min_size: 1024")):
            assert long in overlay
            overlay = overlay.replace(long, short)
        (folder / "overlay.yaml").write_text(overlay, encoding="utf-8")
        settings = {
            "COLLECTOR_TOKEN": "collector-token",
            "GATEWAY_TOKEN": TOKEN,
            "GATEWAY_INSECURE": "true",
            "QUEUE_DIR": str(folder / "queue"),
        }
        files = [CONFIGURATIONS / "otelcol-gateway.yaml", folder / "overlay.yaml"]
        collector = stack.enter_context(Collector(files, settings, binary=binary, log=folder / "collector.log"))
        yield posthog, gateways, Sender(collector.ports.http_url, "collector-token")


def load(sender: Sender, numbers: Sequence[int]) -> threading.Thread:
    """Sends `numbers` from another thread."""
    thread = threading.Thread(target=sender.send_all, args=(numbers,), kwargs={"together": 50})
    thread.start()
    return thread


@pytest.mark.row(19)
def test_a_rolling_restart(tmp_path: Path) -> None:
    """Two gateways are stopped in order and started anew, one after the other, under load: nothing is lost."""
    with tier(tmp_path, 2) as (posthog, gateways, sender):
        busy = load(sender, range(10_000))
        for gateway in gateways:
            assert gateway.stop() == 0
            gateway.start()
        busy.join(120)
        assert len(sender.acknowledged) == 10_000
        check(posthog, sender.acknowledged, timeout=120)


@pytest.mark.row(24)
def test_one_of_three_dies_and_returns(tmp_path: Path) -> None:
    """A gateway is killed under load and comes back: what the Collector sends twice is one event each."""
    with tier(tmp_path, 3) as (posthog, gateways, sender):
        busy = load(sender, range(8_000))
        gateways[1].kill()
        gateways[1].start()
        busy.join(120)
        assert len(sender.acknowledged) == 8_000
        check(posthog, sender.acknowledged, timeout=120)
