"""Delivery against our local PostHog in bad weather: whatever happens, each event that was taken is stored once."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import build_delivery
from otel_posthog.delivery.protocols import Delivery
from otel_posthog.emulator import Emulator, Fault
from otel_posthog.model import CaptureEvent, LossReason

TOKEN = "phc_stormCanary0123456789"
EMAIL = "ada.canary@example.com"
DAY = 1_763_596_800_000_000_000
STORM = (
    Fault("status", status=503, probability=0.12),
    Fault("status", status=429, retry_after="0.05", probability=0.05),
    Fault("status", status=500, store=True, probability=0.05),
    Fault("lose_answer", probability=0.1),
    Fault("cut", probability=0.05),
    Fault("truncate", probability=0.05),
    Fault("drip", bytes_per_second=2, probability=0.02),
    Fault("hang", probability=0.02),
    Fault("verdict", result="retry", event="order 1*", probability=0.2),
)
# What only something else than PostHog's v1 answers; the lane goes on with v0, or asks again.
STRANGERS = (
    Fault("html", probability=0.1),
    Fault("redirect", status=302, probability=0.1),
    Fault("garbage", probability=0.1),
    Fault("status", status=404, path="/i/v1/*", probability=0.3),
)
QUICK: dict[str, Any] = {
    "flush_interval": 0.01,
    "retry_initial": 0.01,
    "retry_max": 0.05,
    "timeout": 1.0,
    "retry_elapsed": 0.0,
    "batch_size": 20,
    "queue_size": 200,
}


def event(number: int) -> CaptureEvent:
    """An event of its own; the person is one whom no log may name."""
    return CaptureEvent(
        event=f"order {number % 17}",
        distinct_id=f"{number}-{EMAIL}",
        uuid=f"01900000-0000-7000-8000-{number:012x}",
        timestamp_ns=DAY + number * 1_000_000_000,
        properties={"number": number, "$lib": "otel-posthog"},
    )


def key(made: CaptureEvent) -> tuple[str, str, str, str]:
    """PostHog's de-duplication key."""
    day = datetime.fromtimestamp(made.timestamp_ns / 1e9, tz=timezone.utc).date().isoformat()
    return (made.uuid, made.event, made.distinct_id, day)


def stored(emulator: Emulator) -> list[tuple[str, str, str, str]]:
    """The keys that the server has, each as often as it has it."""
    found = emulator.events()
    return sorted((each["uuid"], each["event"], each["distinct_id"], each["timestamp"][:10]) for each in found)


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as running:
        yield running


@pytest.fixture
def told() -> list[str]:
    """Internal errors of the delivery; every test wants none."""
    return []


def build(emulator: Emulator, told: list[str], **changes: Any) -> Delivery:
    """A lane to the emulator."""
    config = DeliveryConfig(**{**QUICK, **changes})
    lane = Lane(Mode.DIRECT, emulator.url, Secret(TOKEN))
    return build_delivery(
        Settings(enabled=True, lane=lane, delivery=config), guard=lambda where, error: told.append(f"{where} {error!r}")
    )


def submit_all(delivery: Delivery, numbers: Sequence[int]) -> None:
    """Submits each event, again where there is no room: as the worker of the SDK edge does."""
    end = time.monotonic() + 60
    for number in numbers:
        while not delivery.submit([event(number)]):
            assert time.monotonic() < end, delivery.stats()
            time.sleep(0.002)


@pytest.mark.parametrize("wire", ["auto", "v1", "v0"])
def test_a_storm_loses_and_doubles_nothing(
    wire: str, emulator: Emulator, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Four threads, an overflowing queue, failures of every kind, then calm: all there, once, and the books balance."""
    emulator.script(*STORM, *(STRANGERS if wire == "auto" else ()), seed=7)
    delivery = build(emulator, told, wire=wire)
    threads = [threading.Thread(target=submit_all, args=(delivery, range(start, 1_200, 4))) for start in range(4)]
    for thread in threads:
        thread.start()
    balanced_all_along = True
    while any(thread.is_alive() for thread in threads):
        balanced_all_along = balanced_all_along and delivery.stats().balanced
        threads[0].join(0.01)
    emulator.script()
    assert delivery.flush(60)
    stats = delivery.stats()
    assert delivery.shutdown(30)
    assert stored(emulator) == sorted(key(event(number)) for number in range(1_200))
    assert balanced_all_along
    assert (stats.captured, stats.delivered, stats.pending, dict(stats.lost)) == (1_200, 1_200, 0, {})
    assert stats.retries > 10
    assert told == []
    assert TOKEN not in caplog.text
    assert EMAIL not in caplog.text


def test_verdicts_are_final_and_named(emulator: Emulator, told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """What PostHog drops is lost with that reason, an unknown verdict ends the matter, and one line says it."""
    emulator.script(
        Fault("verdict", event="order 3", result="drop", details="billing_limit_exceeded"),
        Fault("status", status=503, count=2),
    )
    delivery = build(emulator, told, wire="v1")
    submit_all(delivery, range(170))
    assert delivery.flush(60)
    stats = delivery.stats()
    assert delivery.shutdown(30)
    assert (stats.delivered, dict(stats.lost)) == (160, {LossReason.DROPPED_BY_SERVER: 10})
    assert stored(emulator) == sorted(key(event(number)) for number in range(170) if number % 17 != 3)
    lines = [record.getMessage() for record in caplog.records if record.name == "otel_posthog"]
    assert len(lines) == 1
    assert "billing_limit_exceeded" in stats.last_error or "billing_limit_exceeded" in lines[0]
    assert told == []


def test_a_refused_key_is_loud_once(emulator: Emulator, told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """401 for everything: counted as lost, one line that says what to check, neither key nor payload in it."""
    emulator.script(Fault("status", status=401, body=f"bad key {TOKEN} of {EMAIL}"))
    delivery = build(emulator, told)
    submit_all(delivery, range(300))
    assert delivery.flush(60)
    stats = delivery.stats()
    assert delivery.shutdown(30)
    assert (stats.delivered, dict(stats.lost)) == (0, {LossReason.REJECTED: 300})
    lines = [record.getMessage() for record in caplog.records if record.name == "otel_posthog"]
    assert len(lines) == 1
    assert "OTEL_EXPORTER_OTLP_TOKEN" in lines[0]
    assert TOKEN not in caplog.text
    assert EMAIL not in caplog.text
    assert told == []


CHILD = """
    import sys, time
    from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
    from otel_posthog.delivery.build import build_delivery
    from tests.e2e.test_delivery_storm import QUICK, TOKEN, event
    url, folder, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    def fail(where, error):
        print(where, repr(error), file=sys.stderr)
    config = DeliveryConfig(**{**QUICK, "spool_dir": folder, "spool_bytes": 4_000_000})
    settings = Settings(enabled=True, lane=Lane(Mode.DIRECT, url, Secret(TOKEN)), delivery=config)
    delivery = build_delivery(settings, guard=fail)
    delivery.resume()
    for number in range(first, first + count):
        while not delivery.submit([event(number)]):
            time.sleep(0.001)
        if number % 20 == 19:
            print(number, flush=True)
        # The load's pace: the sender has its turn between two events.
        time.sleep(0.0003)
    time.sleep(600)
"""


def child(emulator: Emulator, folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    """A process that submits events `first` and following, and stays."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), emulator.url, str(folder), str(first), str(count)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_disk(folder: Path) -> set[int]:
    """Numbers of the events in the spool's files."""
    pattern = re.compile(rb'"number":(\d+)[,}]')
    return {int(found) for file in folder.rglob("*.log") for found in pattern.findall(file.read_bytes())}


@pytest.mark.timeout(300)
def test_killed_again_and_again_beside_another(emulator: Emulator, tmp_path: Path) -> None:
    """Two processes on one spool, killed at any moment in a storm: what was on disk arrives, all of it once."""
    emulator.script(*STORM, seed=3)
    chance = random.Random(11)
    must: set[int] = set()
    errors: list[str] = []
    first = 0
    for _ in range(5):
        pair = [child(emulator, tmp_path, first + 10_000 * side, 400) for side in range(2)]
        first += 400
        for process in pair:
            assert process.stdout is not None
            # Killed in the middle of it, or when all has been submitted.
            for _ in range(20 if chance.random() < 0.5 else chance.randrange(20)):
                assert process.stdout.readline()
            process.kill()
        for process in pair:
            errors.append(process.communicate(timeout=30)[1])
        must |= on_disk(tmp_path)
    emulator.script()
    last = child(emulator, tmp_path, 0, 0)
    try:
        emulator.wait_for(lambda server: must <= {each["properties"]["number"] for each in server.events()}, 60)
        deadline = time.monotonic() + 60
        while on_disk(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        last.kill()
        errors.append(last.communicate(timeout=30)[1])
    arrived = stored(emulator)
    numbers = {each["properties"]["number"] for each in emulator.events()}
    assert len(must) > 500
    assert arrived == sorted(key(event(number)) for number in numbers)
    assert on_disk(tmp_path) == set()
    # The name of a network error is news; a traceback, or a fault of ours, is not.
    never = ("Traceback", "internal error", EMAIL, TOKEN)
    assert [text for text in errors if any(each in text for each in never)] == []
