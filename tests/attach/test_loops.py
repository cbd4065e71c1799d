"""Apps on loops: gevent, asyncio, uvloop. PostHog's troubles stay ours, and every event arrives once.

The exporters of OpenTelemetry itself are off: what they do to a loop while PostHog is away is not ours to show.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.attach.processes import Environment, Launch, Process, only, variables
from tests.attach.receiver import BATCH, EVENTS, Fault, Receiver, listening

BURST = 50
QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
SERVERS = {
    "gevent": ("gunicorn", "-k", "gevent", "--bind", "fd://{fd}", "--no-control-socket", "loop_gevent:app"),
    "asyncio": ("uvicorn", "--fd", "{fd}", "--log-level", "warning", "--loop", "asyncio", "loop_asyncio:app"),
    "uvloop": ("uvicorn", "--fd", "{fd}", "--log-level", "warning", "--loop", "uvloop", "loop_asyncio:app"),
}
ENDS = {"gevent": 0, "asyncio": -signal.SIGTERM, "uvloop": -signal.SIGTERM}


class Late(threading.Event):
    """Lets each answer wait for a fifth of a second."""

    def wait(self, timeout: float | None = None) -> bool:
        """One answer's time."""
        return super().wait(0.2)


class Trouble:
    """What PostHog does until `over` is set.

    Args:
        kind: `none`, `slow` (answers late), `hangs` (answers when it is over), `down` (cuts every connection).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.met = threading.Event()
        """Set by the first capture request."""
        self.over = threading.Event()

    def script(self, path: str, _number: int) -> Fault | None:
        """For the receiver."""
        if path not in {BATCH, EVENTS}:
            return None
        self.met.set()
        if self.kind == "none" or self.over.is_set():
            return None
        if self.kind == "down":
            return Fault(status=0)
        return Fault(status=200, wait=Late() if self.kind == "slow" else self.over)


def ask(process: Process, path: str) -> str:
    """The answer's body; any other status than 200 fails."""
    assert process.socket is not None
    connection = http.client.HTTPConnection("127.0.0.1", process.socket.getsockname()[1], timeout=60)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body
    finally:
        connection.close()


def people(*bursts: str) -> Counter[str]:
    """Everybody who did something, once each."""
    return Counter(f"{burst}-{number}" for burst in bursts for number in range(BURST))


def arrived(receiver: Receiver) -> Counter[str]:
    """Whose events arrived, and how often."""
    return Counter(event.distinct_id for event in receiver.events() if event.event == "work done")


@pytest.mark.row(48)
@pytest.mark.parametrize("trouble", ["none", "slow", "hangs", "down"])
@pytest.mark.parametrize("loop", ["gevent", "asyncio", "uvloop"])
def test_a_server_on_a_loop_goes_on_while_posthog_is_in_trouble(
    loop: str,
    trouble: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    record_property: Callable[[str, Any], None],
) -> None:
    """Each request is answered and the loop beats, whatever PostHog does; at SIGTERM all events are there, once."""
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not made for this system")
    where = environment("stock")
    scene = Trouble(trouble)
    with listening(scene.script) as receiver:
        # A request that hangs is answered when the trouble is over: given up before that, it would come twice.
        patient = {"OTEL_POSTHOG_FLUSH_INTERVAL": "0.02", "OTEL_POSTHOG_TIMEOUT": "90", **only("flask", "fastapi")}
        env = variables(receiver, "direct", where, **patient, **QUIET)
        process = launch(where.instrumented(*SERVERS[loop]), env, serve=True)
        first = [f"first{number}" for number in range(4)]
        during = [f"during{number}" for number in range(4)]
        with ThreadPoolExecutor(4) as callers:
            list(callers.map(lambda name: ask(process, f"/burst/{name}"), first))
            assert scene.met.wait(60), "nothing was sent before the end"
            start = json.loads(ask(process, "/beats"))
            list(callers.map(lambda name: ask(process, f"/burst/{name}"), during))
        beats = json.loads(ask(process, "/beats"))
        assert beats["count"] > 0
        assert beats.get("loop", "uvloop") == "uvloop" or loop == "asyncio"
        if trouble in {"hangs", "down"}:
            assert arrived(receiver) == Counter()  # the trouble was there all the time
        scene.over.set()
        ask(process, "/burst/last")
        process.popen.send_signal(signal.SIGTERM)
        assert process.end() == ENDS[loop], process.output
        assert arrived(receiver) == people(*first, *during, "last"), process.output
        assert len({event.key for event in receiver.events()}) == len(receiver.events())
    record_property("longest_gap_ms", beats["longest_ms"])
    print(
        f"{loop}, PostHog {trouble}: longest gap {beats['longest_ms']} ms in {beats['count']} beats;"
        f" with the first request and event, all that is imported late included, {start['longest_ms']} ms"
    )


@pytest.mark.row(48)
@pytest.mark.parametrize("trouble", ["none", "slow"])
@pytest.mark.parametrize("before", ["untouched", "running", "busy", "hub"])
def test_gevent_patches_after_we_are_attached(
    before: str,
    trouble: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    record_property: Callable[[str, Any], None],
    tmp_path: Path,
) -> None:
    """`monkey.patch_all()` far too late: nobody waits for ever, flushes flush, each event arrives once and unasked."""
    where = environment("stock")
    scene = Trouble(trouble)
    everything = tmp_path / "arrived"
    expected = Counter(f"{greenlet}-{number}" for greenlet in range(50) for number in range(40))
    expected["last"] = 1
    if before != "untouched":
        expected.update(f"before-{number}" for number in range(40))
    with listening(scene.script) as receiver:
        env = variables(receiver, "direct", where, OTEL_POSTHOG_FLUSH_INTERVAL="0.02", **QUIET)
        command = where.instrumented("python", "late_patching.py", before, "50", "40", str(everything))
        process = launch(command, env)
        receiver.wait(lambda received: arrived(received) == expected)
        everything.touch()  # only now may it end: its end would have brought what had been forgotten
        assert process.end() == 0, process.output
        assert arrived(receiver) == expected, process.output
    told = json.loads(process.output.splitlines()[-1])
    assert told["flushed"] == [True, True], process.output
    assert told["count"] > 0, process.output
    record_property("longest_gap_ms", told["longest_ms"])
    print(f"late patching, {before}, PostHog {trouble}: longest gap {told['longest_ms']} ms in {told['count']} beats")
