"""Programs on the official SDKs tell their story to Collector and gateway: whole events come out, each once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import DirtyEquals, IsPartialDict, IsUUID

from otel_posthog.emulator import Emulator
from tests.fixtures.collector import CACHE, CONFIGURATIONS, Collector, find_binary
from tests.fixtures.gateway import TOKEN, GatewayProcess

HERE = Path(__file__).parent
CLIENTS = CACHE / "clients"

pytestmark = [pytest.mark.row(51), pytest.mark.timeout(300)]


def made(language: str) -> Path:
    """The folder of a client that `make clients` builds."""
    folder = CLIENTS / language
    if not (folder / ".made").exists():
        reason = f"there is no {folder}: run `make clients` first"
        if os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def python(protocol: str) -> Callable[[dict[str, str]], tuple[list[str], dict[str, str]]]:
    """The Python client over one protocol."""

    def command(env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        endpoint = env["GRPC_ENDPOINT"] if protocol == "grpc" else env["OTEL_EXPORTER_OTLP_ENDPOINT"]
        own = {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        return [sys.executable, str(HERE / "python" / "client.py")], {**env, **own}

    return command


def javascript(env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The JavaScript client: JSON for traces, protobuf for logs."""
    return ["node", str(made("javascript") / "client.js")], env


def go(env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The Go client: gRPC for traces, HTTP for logs."""
    http = env["OTEL_EXPORTER_OTLP_ENDPOINT"]
    own = {**env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": env["GRPC_ENDPOINT"], "OTEL_EXPORTER_OTLP_ENDPOINT": http}
    return [str(made("go") / "client")], own


def java(env: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """The Java client under the agent."""
    folder = made("java")
    agent = next(folder.glob("opentelemetry-javaagent-*.jar"))
    own = {"OTEL_SERVICE_NAME": "shop-java", "OTEL_RESOURCE_ATTRIBUTES": "service.version=1.2.3"}
    own["OTEL_METRICS_EXPORTER"] = "none"
    return ["java", f"-javaagent:{agent}", "-cp", f"{folder}/*:{folder}", "Client"], {**env, **own}


CASES = [
    pytest.param("python", python("http/protobuf"), id="python-http"),
    pytest.param("python", python("grpc"), id="python-grpc"),
    pytest.param("javascript", javascript, id="javascript"),
    pytest.param("go", go, id="go"),
    pytest.param("java", java, id="java"),
]

EXCEPTIONS = {
    "python": ("ValueError", "charge"),
    "javascript": ("RangeError", "charge"),
    "go": ("*errors.errorString", "main"),
    "java": ("IllegalStateException", "charge"),
}
"""Type, and function of the innermost frame."""


def tell(command: list[str], env: dict[str, str]) -> dict[str, str]:
    """Runs a client; what it says that it sent."""
    basics = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    done = subprocess.run(command, env={**basics, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


class EndsWith(DirtyEquals[list[Any]]):
    """Equal to a list whose last item is equal to this one."""

    def __init__(self, last: Any) -> None:
        super().__init__(last)
        self.last = last

    def equals(self, other: Any) -> bool:
        return isinstance(other, list) and bool(other) and bool(other[-1] == self.last)


def story(language: str, sent: dict[str, str]) -> list[Any]:
    """The whole events that must come out, by name."""
    ada = f"{language}-ada"
    kind, function = EXCEPTIONS[language]
    crash = IsPartialDict(function=function, in_app=True)
    common = {"$trace_id": sent["trace_id"], "service_name": f"shop-{language}", "app_version": "1.2.3"}
    return [
        {
            "event": "$exception",
            "distinct_id": ada,
            "uuid": IsUUID,
            "properties": IsPartialDict(
                {
                    **common,
                    "$span_id": sent["exception_span_id"],
                    "$exception_list": [
                        IsPartialDict(
                            type=kind, value="card declined", stacktrace=IsPartialDict(frames=EndsWith(crash))
                        )
                    ],
                }
            ),
        },
        {
            "event": "order completed",
            "distinct_id": ada,
            "uuid": IsUUID,
            "properties": IsPartialDict(
                {
                    **common,
                    "$span_id": sent["span_id"],
                    "total": 42,
                    "rate": 0.5,
                    "gift": True,
                    "items": ["tea", "cup"],
                    "$set": {"plan": "pro"},
                    "$groups": {"company": "acme"},
                }
            ),
        },
        {
            "event": "receipt sent",
            "distinct_id": ada,
            "uuid": IsUUID,
            "properties": IsPartialDict({**common, "$span_id": sent["span_id"], "pages": 2}),
        },
    ]


def arrived(posthog: Emulator) -> list[dict[str, Any]]:
    """The events at PostHog, by name; waits for the three that must come."""
    posthog.wait_for(lambda emulator: len(emulator.events()) >= 3, timeout=60)
    found = [{key: event[key] for key in ("event", "distinct_id", "uuid", "properties")} for event in posthog.events()]
    return sorted(found, key=lambda event: event["event"])


@pytest.mark.parametrize(("language", "client"), CASES)
def test_straight_to_the_gateway(language: str, client: Any, tmp_path: Path) -> None:
    """Without a Collector between: annotated span, log record and exception are one event each, nothing else is."""
    with Emulator() as posthog, GatewayProcess(tmp_path, posthog.url) as gateway:
        env = {**gateway.otlp_env(), "GRPC_ENDPOINT": f"http://{gateway.grpc_target}"}
        sent = tell(*client(env))
        assert arrived(posthog) == story(language, sent)
        assert gateway.stop() == 0
        assert len(posthog.events()) == 3


@pytest.mark.parametrize(("language", "client"), CASES)
def test_through_the_collector_that_we_ship(language: str, client: Any, tmp_path: Path) -> None:
    """The same through the real Collector with `collector/otelcol-gateway.yaml`."""
    binary = find_binary()
    with Emulator() as posthog, GatewayProcess(tmp_path / "gateway", posthog.url) as gateway:
        variables = {
            "COLLECTOR_TOKEN": "collector-token",
            "GATEWAY_TOKEN": TOKEN,
            "GATEWAY_ENDPOINT": gateway.http_url,
            "QUEUE_DIR": str(tmp_path / "queue"),
        }
        with Collector(CONFIGURATIONS / "otelcol-gateway.yaml", variables, binary=binary) as collector:
            env = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.ports.http_url,
                "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer collector-token",
                "GRPC_ENDPOINT": f"http://127.0.0.1:{collector.ports.grpc}",
            }
            sent = tell(*client(env))
            assert arrived(posthog) == story(language, sent)
