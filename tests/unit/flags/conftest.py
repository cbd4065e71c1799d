"""An emulator that serves flags, and a process that asks it: the real `posthog` SDK, over loopback."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context, trace
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog import assembly
from otel_posthog.api.control import shutdown
from otel_posthog.api.process import process
from otel_posthog.emulator import Emulator
from otel_posthog.flags.process import client
from otel_posthog.flags.registry import Registry
from otel_posthog.observe.log import logger, quiet_logger

FLAGS: dict[str, Any] = {
    "group_types": ["company"],
    "flags": {
        "new-dashboard": True,
        "beta-features": False,
        "enable-exports": False,
        "tenth": {"rollout_percentage": 10},
        "half": {"rollout_percentage": 50},
        "timer-ui-experiment": {
            "variants": {"control": 0, "variant-b": 100},
            "payloads": {"variant-b": {"colour": "blue"}},
            "experiment": "Timer",
        },
        "dashboard-config": {"rollout_percentage": 100, "payload": {"theme": "dark", "widgets": [1, 2]}},
        "a-list": {"rollout_percentage": 100, "payload": [1, 2]},
        "admin-tools": {"conditions": [{"properties": {"is_admin": True}}]},
        "docker-optimizations": {"conditions": [{"properties": {"deployment_method": "docker"}}]},
        "rich-companies": {"group": "company", "conditions": [{"properties": {"plan": "enterprise"}}]},
        "acme-only": {"group": "company", "conditions": [{"properties": {"$group_key": "acme"}}]},
    },
}


@pytest.fixture(scope="session")
def serving() -> Iterator[Emulator]:
    """One emulator for all of them."""
    with Emulator(flags=FLAGS) as emulator:
        yield emulator


@pytest.fixture
def emulator(serving: Emulator) -> Iterator[Emulator]:
    """The emulator, as if it had just been started."""
    serving.reset()
    serving.flags = FLAGS
    yield serving
    serving.reset()


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No runtime, no context and no variables of another test."""
    if Registry.__subclasses__():
        gc.collect()  # classes of a test before
    for name in list(os.environ):
        if name.startswith(("OTEL_", "POSTHOG_")):
            monkeypatch.delenv(name)
    token = context.attach(Context())
    assembly.stop(0)
    process.forget()
    client.forget()
    yield
    client.forget()
    shutdown(30)
    assembly.stop(30)
    process.forget()
    context.detach(token)


Start = Callable[..., None]


@pytest.fixture
def start(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Sets the variables of a process in direct mode; further ones by name without `OTEL_POSTHOG_`."""

    def begin(**more: object) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", emulator.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TOKEN", "phc_test")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
        monkeypatch.setenv("OTEL_POSTHOG_FLUSH_INTERVAL", "0.05")
        # The emulator shares two cores with many others.
        monkeypatch.setenv("OTEL_POSTHOG_FLAGS_TIMEOUT", "30")
        for name, value in more.items():
            monkeypatch.setenv(f"OTEL_POSTHOG_{name.upper()}", str(value))

    return begin


@pytest.fixture
def running(start: Start) -> None:
    """A process in direct mode, which asks PostHog for each flag."""
    start()


@pytest.fixture
def local(start: Start) -> None:
    """A process in direct mode that evaluates by itself."""
    start(flags_secret_key="phx_test")


@pytest.fixture
def tracer() -> Iterator[trace.Tracer]:
    """Of a provider that nobody listens to."""
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider.get_tracer("test")
    provider.shutdown()


def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our log lines reach pytest's `caplog` from now on."""
    quiet_logger()  # which would hold them back when the first runtime starts
    monkeypatch.setattr(logger, "propagate", True)


Calls = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def calls(emulator: Emulator) -> Calls:
    """The `$feature_flag_called` that arrived, oldest first."""

    def arrived() -> list[dict[str, Any]]:
        from otel_posthog.api.control import flush

        assert flush(30)
        return emulator.events(event="$feature_flag_called")

    return arrived
