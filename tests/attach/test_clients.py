"""Two real services that call each other by every client: what holds goes along to our own, and nowhere else."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from dirty_equals import IsPartialDict

from otel_posthog.emulator import Emulator
from tests.attach.processes import TOKEN, Environment, Launch, Process, variables
from tests.attach.receiver import Receiver

_MS = int(time.time() * 1000)
SESSION = f"{_MS >> 16:08x}-{_MS & 0xFFFF:04x}-7c3e-8f00-0123456789ab"
ADA = "ada@shop.example"
SECRET = "0123456789abcdef0123456789abcdef"
SHARED = {
    "$session_id": SESSION,
    "$groups": {"company": "acme"},
    "$feature/new-checkout": True,
    "$active_feature_flags": ["new-checkout"],
    "plan": "pro",
}
HTTP = ["aiohttp", "httpx", "httpx async", "requests", "urllib", "urllib3"]
GRPC = ["grpc", "grpc aio", "stream grpc", "stream grpc aio"]
CLIENTS = [*HTTP, *GRPC, "confluent", "kafka-python"]

RUNS = {
    "all": {"OTEL_TRACES_SAMPLER": "always_on"},
    "few": {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
    "none": {
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_POSTHOG_RECORD_UNSAMPLED": "off",
        "OTEL_PYTHON_HTTPX_EXCLUDED_URLS": "//localhost",
    },
}
"""How the first service samples; in the last one nobody asks the propagator about httpx's calls to foreign hosts."""


def ask(process: Process, path: str, **headers: str) -> Any:
    """The JSON, or the text, that a service answers."""
    assert process.socket is not None
    connection = http.client.HTTPConnection("127.0.0.1", process.socket.getsockname()[1], timeout=100)
    try:
        connection.request("GET", path.replace(" ", "%20"), headers={"Connection": "close", **headers})
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, f"{path}: {body}"
    return json.loads(body) if body.startswith("{") else body


@pytest.mark.timeout(300)
def test_every_client(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver, tmp_path: Path
) -> None:
    """Person, session, group, flag and property arrive by every client, whatever is sampled; a foreign host, and one
    that a redirect leads to, learn nothing.
    """
    where = environment("clients")
    with Emulator() as emulator:

        def serve(name: str, **more: str) -> Process:
            env = variables(
                receiver,
                "direct",
                where,
                OTEL_SERVICE_NAME=name,
                OTEL_POSTHOG_BAGGAGE_HOSTS="internal,!localhost",
                OTEL_POSTHOG_BAGGAGE_PROPERTIES="plan",
                OTEL_POSTHOG_BAGGAGE_SECRET=SECRET,
                OTEL_METRICS_EXPORTER="none",
                BROKER=str(tmp_path),
                **more,
            )
            env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{emulator.url}/i"
            return launch(where.instrumented("python", "clients.py", "{fd}"), env, serve=True)

        orders = serve("orders")
        addresses = json.dumps(ask(orders, "/addresses"))
        shops = {run: serve("shop", SECOND=addresses, **sampled) for run, sampled in RUNS.items()}
        headers = {"x-posthog-session-id": SESSION, "baggage": "tier=gold,user.id=mallory"}
        for run, shop in shops.items():
            for way in ("own", "celery", "foreign", "redirect"):
                status = "307" if run == "all" else "302"
                ask(shop, f"/call/{way}?run={run}&status={status}", **headers)
            for way in ("own", "foreign"):
                for name in ("kafka-python", "confluent"):
                    ask(orders, f"/consume?topic={name}-{way}-{run}")
        ask(orders, f"/work?tasks={len(RUNS)}")
        seen = ask(orders, "/seen")
        for process in (*shops.values(), orders):
            ask(process, "/end")
        ends = [process.end() for process in (*shops.values(), orders)]
        output = "\n".join(process.output for process in (*shops.values(), orders))
        assert ends == [0] * 4, output
        events = emulator.events(token=TOKEN, event="order placed")

    by_client = {event["properties"]["client"]: event for event in events}
    for run in RUNS:
        for client in [*CLIENTS, "celery"]:
            event = by_client[f"{client} own {run}" if client != "celery" else f"celery {run}"]
            assert event["distinct_id"] == ADA, (client, run)
            assert event["properties"] == IsPartialDict(SHARED), (client, run)
            # Tasks are the service's own, and have a header of their own, for all of them.
            assert ("secret" in event["properties"]) is (client == "celery"), (client, run)
        for client, way in [*((one, "foreign") for one in CLIENTS), *((one, "redirect") for one in HTTP)]:
            told = seen[f"{client} {way} {run}"]
            # The baggage of the app goes on; ours, and what names people, does not.
            left_out = (run, way) == ("none", "foreign") and client.startswith("httpx")
            assert told.get("baggage") == (None if left_out else "tier=gold"), (client, way, run)
            for secret in (ADA, "acme", SESSION, "mallory", "stays here", "posthog"):
                assert secret not in unquote(str(told)), (client, way, run)
            assert ADA not in str(by_client[f"{client} {way} {run}"])
