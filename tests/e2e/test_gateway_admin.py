"""What an operator sees of a real gateway, with one worker and with two: numbers that balance, live events, health."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_posthog.emulator import Emulator, Fault
from otel_posthog.gateway.admin import names
from otel_posthog.observe.metrics import METRICS
from tests.fixtures.gateway import KEY, TOKEN, GatewayProcess

Start = Callable[..., GatewayProcess]
Labels = frozenset[tuple[str, str]]


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def start(tmp_path: Path, posthog: Emulator) -> Iterator[Start]:
    """Starts gateways; all are ended after the test."""
    running: list[GatewayProcess] = []

    def begin(workers: int = 1, **more: Any) -> GatewayProcess:
        running.append(GatewayProcess(tmp_path / "gateway", posthog.url, args=("--workers", str(workers)), **more))
        return running[-1].start()

    yield begin
    for process in running:
        process.kill()


def span(name: str, number: int, **attributes: str) -> dict[str, Any]:
    """One span as OTLP/JSON has it."""
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": name,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000100000000",
        "attributes": [{"key": key, "value": {"stringValue": text}} for key, text in attributes.items()],
    }


def send(gateway: GatewayProcess, spans: list[dict[str, Any]], token: str = TOKEN) -> int:
    """Sends spans over a connection of their own; the status."""
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{gateway.http_url}/v1/traces", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def tagged(number: int, who: str = "ada") -> dict[str, Any]:
    """A span that becomes an event."""
    return span("checkout", number, **{"posthog.event": "order", "posthog.distinct_id": who})


def scrape(gateway: GatewayProcess) -> dict[str, dict[Labels, float]]:
    """Every sample of `/metrics`, by name and labels."""
    found: dict[str, dict[Labels, float]] = {}
    status, text = gateway.get("/metrics")
    assert status == 200
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def total(metrics: dict[str, dict[Labels, float]], name: str, **labels: str) -> float:
    """Sum over everything that has these labels."""
    return sum(value for having, value in metrics[name].items() if set(labels.items()) <= having)


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns when it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.05)


@pytest.mark.row(53)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_books_balance_from_the_sender_to_posthog(start: Start, posthog: Emulator, workers: int) -> None:
    """Sent = wanted + skipped + rejected; received = captured + dropped; captured = delivered = what PostHog has."""
    gateway = start(workers)
    drop = span("quiet", 0, **{"posthog.event": "x", "posthog.ignore": "true"})
    drop["attributes"][1]["value"] = {"boolValue": True}
    batches = [
        [*(tagged(10 * batch + n) for n in range(3)), *(span("db", 500 + n) for n in range(5)), drop]
        for batch in range(12)
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda spans: send(gateway, spans), batches)) == {200}
    assert send(gateway, [], token="wrong") == 401
    posthog.wait_for(lambda each: len(each.events()) >= 36)
    wait_until(lambda: total(scrape(gateway), "otel_posthog_events_delivered_total") >= 36)
    metrics = scrape(gateway)

    outcomes = {
        outcome: total(metrics, "otel_posthog_intake_items_total", kind="traces", outcome=outcome)
        for outcome in ("wanted", "skipped", "rejected")
    }
    assert outcomes == {"wanted": 48, "skipped": 60, "rejected": 0}
    received = total(metrics, "otel_posthog_signals_received_total", project="shop")
    captured = total(metrics, "otel_posthog_signals_captured_total", project="shop")
    assert (received, captured) == (48, 36)
    assert total(metrics, "otel_posthog_signals_dropped_total", reason="ignored") == 12
    assert total(metrics, "otel_posthog_events_captured_total") == 36
    assert total(metrics, "otel_posthog_events_delivered_total") == 36
    assert total(metrics, "otel_posthog_receiver_requests_total", answer="ok", transport="http") == 12
    assert total(metrics, "otel_posthog_receiver_ack_duration_seconds_count") == 12
    assert total(metrics, "otel_posthog_receiver_refused_total", why="unauthenticated") == 1
    assert total(metrics, "otel_posthog_events_lost_total") == 0
    assert len(posthog.events()) == 36
    assert {dict(labels)["worker"] for labels in metrics["otel_posthog_worker_up"]} == {str(n) for n in range(workers)}
    assert total(metrics, "otel_posthog_worker_up") == workers


def test_every_name_of_the_table_is_shown_by_a_real_gateway(start: Start, posthog: Emulator) -> None:
    """What docs, alerts and dashboard speak of is there; what has no value yet has its line all the same."""
    gateway = start()
    assert send(gateway, [tagged(1)]) == 200
    posthog.wait_for(lambda each: each.events())
    shown = {line.split()[2] for line in gateway.get("/metrics")[1].splitlines() if line.startswith("# TYPE ")}
    counters = {name.removesuffix("_total") for name in shown}

    missing = {
        metric.name for metric in (*METRICS, *names.GATEWAY_METRICS) if names.prometheus_name(metric) not in counters
    }
    assert missing == {names.WORKER_RESTARTS.name}  # of a supervisor alone
    assert {name for name in shown if "brand" in name or not name.startswith(("otel_posthog_", "process_"))} == set()
    assert "Not described." not in gateway.get("/metrics")[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_live_view_of_a_running_gateway(start: Start, posthog: Emulator, workers: int) -> None:
    """`otel-posthog tail` beside it: events with who and what, drops with why, whichever worker got them."""
    gateway = start(workers)
    command = [sys.executable, "-m", "otel_posthog.cli", "tail", "--url", gateway.admin_url]
    with subprocess.Popen(
        [*command, "--drops", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as tail:
        try:
            assert tail.stdout is not None
            wait_until(lambda: total(scrape(gateway), "otel_posthog_tail_viewers") == workers)
            for number in range(8):
                assert send(gateway, [tagged(number, who=f"user-{number}")]) == 200
            ignored = span("quiet", 90, **{"posthog.event": "x"})
            ignored["attributes"].append({"key": "posthog.ignore", "value": {"boolValue": True}})
            assert send(gateway, [ignored]) == 200
            seen = [json.loads(tail.stdout.readline()) for _ in range(9)]
        finally:
            tail.kill()

    assert sorted(each["distinct_id"] for each in seen if each["type"] == "event") == [f"user-{n}" for n in range(8)]
    assert [(each["reason"], each["signal"]["name"]) for each in seen if each["type"] == "drop"] == [
        ("ignored", "quiet")
    ]


@pytest.mark.row(4)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_revoked_key_is_red_until_it_is_good_again(start: Start, posthog: Emulator, workers: int) -> None:
    """Readiness and metrics name the project, callers still get 200, and everything arrives once the key is good."""
    gateway = start(workers)
    posthog.script(Fault("status", status=401))
    for number in range(6):
        assert send(gateway, [tagged(number)]) == 200
    reasons: list[dict[str, str]] = []

    def blocked() -> bool:
        # A worker that a busy machine keeps from answering in time is a reason of its own, for a moment.
        reasons[:] = json.loads(gateway.get("/readyz?verbose")[1])["reasons"]
        return {reason["check"] for reason in reasons} == {"delivery"}

    wait_until(blocked)
    assert all(reason["subject"].endswith("shop") for reason in reasons)
    wait_until(lambda: gateway.get("/readyz")[0] == 503)
    assert total(scrape(gateway), "otel_posthog_project_blocked", project="shop") >= 1
    wait_until(lambda: gateway.get("/livez")[0] == 200)
    wait_until(lambda: gateway.get("/readyz?exclude=delivery")[0] == 200)
    assert send(gateway, [tagged(6)]) == 200

    posthog.script()
    posthog.wait_for(lambda each: len(each.events()) == 7, timeout=60)
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    assert total(scrape(gateway), "otel_posthog_project_blocked") == 0


@pytest.mark.row(41)
def test_no_secret_is_shown(start: Start, posthog: Emulator) -> None:
    """Neither the key, nor a token, nor what events hold is in metrics, reasons or the log."""
    gateway = start()
    canary = "canary-4f1c9a"
    posthog.script(Fault("status", status=401, body=f"the key {KEY} is unknown"))
    secret = span(canary, 1, **{"posthog.event": canary, "posthog.distinct_id": canary, "password": canary})
    assert send(gateway, [secret]) == 200
    assert send(gateway, [secret], token=f"wrong-{canary}") == 401
    wait_until(lambda: gateway.get("/readyz")[0] == 503)

    everything = "\n".join(gateway.get(path)[1] for path in ("/metrics", "/readyz?verbose", "/livez?verbose", "/"))
    for text in (everything, gateway.text):
        assert KEY not in text
        assert TOKEN not in text
        assert canary not in text
