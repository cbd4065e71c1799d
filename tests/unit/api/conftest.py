"""An app whose process has our runtime, as after the hook; and one where the gate is shut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.model import CaptureEvent
from otel_posthog.observe import Guard
from otel_posthog.testing.events import BACKGROUND as COMMON
from tests.unit.sdk.conftest import App, make_app

Said = tuple[str, str, dict[str, Any]]


class Calls:
    """What calls made of it."""

    def __init__(self, app: App) -> None:
        self.app = app

    @property
    def events(self) -> list[CaptureEvent]:
        """Everything, all waiting being over."""
        return self.app.settle()

    @property
    def said(self) -> list[Said]:
        """Name, person ("" for personless events) and what the call had to say, of each event."""
        return [said(event) for event in self.events]

    @property
    def at_once(self) -> list[str]:
        """Names of what has arrived while the request goes on."""
        return [event.event for event in self.app.arrived()]

    @property
    def misused(self) -> dict[str, int]:
        """Wrong calls, by kind."""
        return self.app.runtime.bridge.metrics()["otel_posthog.api.misused"]


def said(event: CaptureEvent) -> Said:
    """Name, person and what the call had to say."""
    own = {name: value for name, value in event.properties.items() if name not in COMMON}
    personless = own.pop("$process_person_profile", True) is False
    return event.event, "" if personless else event.distinct_id, own


@pytest.fixture(autouse=True)
def own_context() -> Iterator[None]:
    """What a test leaves in its context ends with it."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does with the process's runtime, the next begins without."""
    monkeypatch.setattr(assembly._process, "_runtime", None)
    process.forget()
    monkeypatch.setattr(process, "guard", Guard())
    yield
    process.forget()


@pytest.fixture(name="build")
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Calls]]:
    """Makes the runtime of an app that of the process."""
    apps: list[App] = []

    def build(**arguments: Any) -> Calls:
        app = make_app(tmp_path=tmp_path, **arguments)
        apps.append(app)
        monkeypatch.setattr(assembly._process, "_runtime", app.runtime)
        process.forget()
        return Calls(app)

    yield build
    for app in apps:
        app.tracer_provider.shutdown()
        app.logger_provider.shutdown()
        assert list(app.edge.worker.failures) == []
        assert app.runtime.guard.counts() == {}


@pytest.fixture(name="calls")
def default_calls(build: Callable[..., Calls]) -> Calls:
    """An app with default settings."""
    return build()


@pytest.fixture(name="off")
def shut_gate() -> None:
    """No variable is set: the gate is shut."""
