"""More than a gateway may hold: it says so in ways that every sender understands, keeps its memory, and recovers."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otel_posthog.emulator import Emulator, Fault
from tests.fixtures.gateway import GatewayProcess
from tests.rig.oracle import Sender, check, memory, metric, request, until

pytestmark = pytest.mark.timeout(300)

QUICK = {"delivery": {"flush_interval": 0.02, "retry_initial": 0.02, "retry_max": 0.2}}


def bulky(numbers: Sequence[int], size: int) -> bytes:
    """A request whose spans have `size` characters each that no compression makes small."""
    return request(numbers, padding=size).replace(b"x" * size, secrets.token_hex(size // 2).encode())


@pytest.mark.row(16)
def test_the_spool_is_full_while_a_sender_goes_on(tmp_path: Path) -> None:
    """PostHog is away: at its cap the gateway says "come again", keeps what it has, and takes the rest when it can."""
    with Emulator() as posthog:
        posthog.script(Fault("status", status=503))
        settings = {"spool": {"dir": str(tmp_path / "spool"), "max_bytes": "1MiB"}}
        with GatewayProcess(tmp_path, posthog.url, settings=settings, project=QUICK) as gateway:
            sender = Sender(gateway.http_url, gateway.token)

            def push() -> None:
                for number in range(200):
                    assert sender.send([number], body=bulky([number], 20_000), tries=10_000)

            thread = threading.Thread(target=push)
            thread.start()
            assert until(lambda: sender.answers[503] >= 10)
            full = len(sender.acknowledged)
            assert 20 <= full < 200
            assert metric(gateway, "otel_posthog_spool_size_bytes") <= 1.1 * 2**20
            assert all(pause.isdigit() and 1 <= int(pause) <= 30 for pause in sender.retry_after)
            assert "spool" in gateway.get("/readyz?verbose")[1]
            posthog.script()
            thread.join(120)
            assert sender.acknowledged == list(range(200))
            assert set(sender.answers) == {200, 503}
            check(posthog, sender.acknowledged)
            assert until(gateway.ready)


@pytest.mark.row(27)
def test_a_burst(tmp_path: Path) -> None:
    """Forty senders at once, far beyond memory and connections: only retryable answers, and nothing is lost."""
    settings = {"limits": {"inflight_bytes": "1MiB", "request_bytes": "1MiB", "connections": 30}}
    with Emulator() as posthog, GatewayProcess(tmp_path, posthog.url, settings=settings, project=QUICK) as gateway:
        before = memory(gateway)
        senders = [Sender(gateway.http_url, gateway.token) for _ in range(40)]

        def burst(which: int) -> None:
            for step in range(5):
                number = 5 * which + step
                assert senders[which].send([number], body=bulky([number], 300_000), tries=10_000)
            senders[which].close()

        with ThreadPoolExecutor(len(senders)) as pool:
            list(pool.map(burst, range(len(senders))))
        answers = sum((sender.answers for sender in senders), Counter[int]())
        assert set(answers) <= {0, 200, 503}  # 0: the connection was refused or cut, which is sent again
        assert answers[0] + answers[503] > 0
        check(posthog, range(200), timeout=120)
        assert memory(gateway) - before < 192 * 1024
        late = Sender(gateway.http_url, gateway.token)
        assert late.send([200])
        check(posthog, range(201))
