"""Services that use the posthog package: by themselves, straight through us, through a gateway with no key in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from tests.fixtures.gateway import TOKEN, GatewayProcess

APP = Path(__file__).parent / "apps" / "posthog_calls.py"
FORKS = APP.with_name("posthog_forks.py")
KEY = "phc_gatewayTestKey"
ANEW = ("$ignore_sent_at", "$lib", "$lib_version", "$feature_flag_request_id", "$feature_flag_evaluated_at")

pytestmark = pytest.mark.timeout(180)


def run(emulator: Emulator, app: Path = APP, **more: str) -> str:
    """Runs the service under the standard launcher; what it said."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    env.update(
        SHOP_POSTHOG_HOST=emulator.url,
        OTEL_SERVICE_NAME="shop",
        OTEL_TRACES_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_POSTHOG_EXIT_TIMEOUT="60",
        **more,
    )
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run([launcher, sys.executable, str(app)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def stored(emulator: Emulator) -> list[tuple[str, str, str, dict[str, Any]]]:
    """What arrived, without what is made anew by each run; then nothing is there any more."""
    events = []
    for event in emulator.events():
        assert event["arrivals"] == 1
        properties = {name: value for name, value in event["properties"].items() if name not in ANEW}
        uuid = event["uuid"] if event["uuid"].startswith("0190a0b0") else ""
        events.append((event["event"], event["distinct_id"], uuid, properties))
    emulator.reset()
    emulator.flags = {"flags": {"new-checkout": True}}
    return sorted(events, key=repr)


def through_gateway(folder: Path, emulator: Emulator, count: int, **more: str) -> list[Any]:
    """What `count` events became on their way through a gateway that has seen nothing yet."""
    with GatewayProcess(folder, emulator.url) as gateway:
        run(emulator, OTEL_EXPORTER_OTLP_ENDPOINT=gateway.http_url, OTEL_EXPORTER_OTLP_TOKEN=TOKEN, **more)
        gateway.wait_for("all events", lambda: len(emulator.events()) >= count)
    return stored(emulator)


def test_the_same_events_on_every_way(tmp_path: Path) -> None:
    """Whoever carries them, they are the same whole events, once each."""
    with Emulator(flags={"flags": {"new-checkout": True}}) as emulator:
        direct = {"OTEL_EXPORTER_OTLP_ENDPOINT": emulator.url, "OTEL_EXPORTER_OTLP_TOKEN": KEY}
        direct["OTEL_POSTHOG_MODE"] = "direct"

        run(emulator, SHOP_POSTHOG_KEY=KEY)
        alone = stored(emulator)
        run(emulator, SHOP_POSTHOG_KEY=KEY, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="posthog_sdk", **direct)
        switched_off = stored(emulator)
        run(emulator, SHOP_POSTHOG_KEY=KEY, **direct)
        straight = stored(emulator)
        through = through_gateway(tmp_path / "one", emulator, len(alone), SHOP_POSTHOG_KEY=KEY)
        keyless = through_gateway(tmp_path / "two", emulator, len(alone) - 1)

    assert [event[0] for event in alone] == [
        "$create_alias",
        "$exception",
        "$feature_flag_called",
        "$groupidentify",
        "$set",
        "$set_once",
        "in context",
        "order paid",
    ]
    assert switched_off == alone
    assert straight == alone
    assert through == alone
    # Without a key the SDK asks for no flags.
    assert keyless == [event for event in alone if event[0] != "$feature_flag_called"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("ours", [True, False], ids=["through us", "by itself"])
def test_a_client_from_before_a_fork(ours: bool) -> None:
    """Each event of parent and children arrives once, as without us; what waited at the fork stays the parent's."""
    more = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "" if ours else "posthog_sdk"}
    with Emulator() as emulator:
        direct = {"OTEL_EXPORTER_OTLP_ENDPOINT": emulator.url, "OTEL_EXPORTER_OTLP_TOKEN": KEY}
        run(emulator, FORKS, SHOP_POSTHOG_KEY=KEY, OTEL_POSTHOG_MODE="direct", **direct, **more)
        events = emulator.events()

    assert sorted(event["event"] for event in events) == sorted([
        "before the fork", "parent 0", "parent 1", "after the children",
        *(f"child {number}, {count}" for number in range(2) for count in range(3)),
    ])  # fmt: skip
    assert {event["arrivals"] for event in events} == {1}
    # By whom they came: the SDK names itself.
    assert {event["properties"]["$lib"] for event in events} == {"otel-posthog" if ours else "posthog-python"}
