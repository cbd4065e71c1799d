"""The real `posthog` SDK against the local PostHog, by itself and with us in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import context

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Mode
from otel_posthog.emulator import Emulator
from otel_posthog.instrumentation.posthog_sdk import PostHogSdkInstrumentor

TOKEN = "phc_the_shop"


class Bridge:
    """Our runtime over the emulator, and the instrumentor."""

    def __init__(self, **settings: Any) -> None:
        self.runtime = assembly.start(load_settings(**settings))
        self.instrumentor = PostHogSdkInstrumentor()
        self.instrumentor.instrument()

    @property
    def captured(self) -> int:
        """Events that our lane has taken."""
        return self.runtime.bridge.signal_stats().captured

    def flush(self) -> None:
        """Until everything has been delivered."""
        emitter = process.get()
        assert emitter is not None
        assert emitter.edge.worker.flush(60.0)

    def end(self) -> None:
        """As at the end of a process."""
        self.instrumentor.uninstrument()
        emitter = process.get()
        # The Collector of these tests is not there.
        timeout = 0.1 if self.runtime.settings.lane.mode is Mode.COLLECTOR else 60.0
        if emitter is not None:
            assert emitter.edge.worker.shutdown(timeout) or timeout < 1
            assert list(emitter.edge.worker.failures) == []
        assembly.stop(timeout)


@pytest.fixture(scope="module", name="running")
def running_emulator() -> Iterator[Emulator]:
    """One server for a module."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture(name="emulator")
def empty_emulator(running: Emulator) -> Emulator:
    """The server, emptied."""
    running.reset()
    return running


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does with the process's runtime and context, the next begins without."""
    monkeypatch.setattr(assembly._process, "_runtime", None)
    process.forget()
    process.guard.after_fork()
    process.complaints.after_fork()
    token = context.attach(context.Context())
    yield
    context.detach(token)
    process.forget()


@pytest.fixture(name="bridge")
def started_bridge(emulator: Emulator) -> Iterator[Callable[..., Bridge]]:
    """Starts our runtime, by default directly to the emulator, and instruments."""
    made: list[Bridge] = []

    def start(**settings: Any) -> Bridge:
        settings = {"endpoint": emulator.url, "token": TOKEN, "mode": "direct", **settings}
        made.append(Bridge(**settings))
        return made[-1]

    yield start
    for bridge in made:
        bridge.end()
