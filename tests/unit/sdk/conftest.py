"""A real tracer and logger provider with our processors over a bridge whose delivery only records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.assembly import Runtime
from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import (
    ConvertConfig,
    DeliveryConfig,
    IdentityConfig,
    Lane,
    Mode,
    RulesConfig,
    Secret,
    Settings,
)
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats
from otel_posthog.lane.edge import Edge, edge_of
from otel_posthog.model import CaptureEvent, Decision, Signal
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules.load import load_rules
from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor
from otel_posthog.sdk.processor import PostHogSpanProcessor


class RecordingDelivery:
    """Takes everything while it has room, and remembers it."""

    def __init__(self) -> None:
        self.events: list[CaptureEvent] = []
        self.room = 1_000_000
        self.closed = 0
        self.flushes = 0
        self.answers = True

    def submit(self, events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        """Takes all or none."""
        if len(self.events) + len(events) > self.room:
            return False
        self.events += events
        return True

    def flush(self, timeout: float) -> bool:
        """Counts."""
        self.flushes += 1
        return self.answers

    def shutdown(self, timeout: float) -> bool:
        """Counts."""
        self.closed += 1
        return self.answers

    def stats(self) -> DeliveryStats:
        """All delivered."""
        return DeliveryStats(captured=len(self.events), delivered=len(self.events))


class ManualClock:
    """Seconds that go on when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class App:
    """One app: its providers, our processors, and what arrived."""

    runtime: Runtime
    delivery: RecordingDelivery
    spans: PostHogSpanProcessor
    logs: PostHogLogRecordProcessor
    tracer_provider: TracerProvider
    logger_provider: LoggerProvider
    clock: ManualClock
    outcomes: list[tuple[Signal, Decision, bool]] = field(default_factory=list)

    @property
    def edge(self) -> Edge:
        """What the processors share."""
        return edge_of(self.runtime)

    @property
    def tracer(self) -> Any:
        """A tracer of the app."""
        return self.tracer_provider.get_tracer("shop", "1.0")

    def settle(self) -> list[CaptureEvent]:
        """Everything that arrived once all waiting is over."""
        assert self.edge.worker.settle(60.0)
        assert list(self.edge.worker.failures) == []
        return self.delivery.events

    def arrived(self) -> list[CaptureEvent]:
        """What arrived by now, without ending anybody's wait."""
        with self.edge.worker._sync.work:
            self.edge.worker._step()
        assert list(self.edge.worker.failures) == []
        return self.delivery.events

    @property
    def names(self) -> list[str]:
        """Names of the events that arrived, everything settled."""
        return [event.event for event in self.settle()]

    def reasons(self) -> dict[str, int]:
        """Drop reasons of the signals."""
        return {reason.value: count for reason, count in self.runtime.bridge.signal_stats().dropped.items()}


def make_app(
    *,
    rules: str = "",
    tmp_path: Path | None = None,
    mode: Mode = Mode.DIRECT,
    identity: IdentityConfig | None = None,
    convert: ConvertConfig | None = None,
    resource: dict[str, Any] | None = None,
    capacity: int = 10_000,
    **provider: Any,
) -> App:
    """Builds an app; `rules` is the text of a rules file."""
    identity, convert = identity or IdentityConfig(), convert or ConvertConfig()
    rules_config = RulesConfig()
    if rules:
        assert tmp_path is not None
        path = tmp_path / "posthog.yaml"
        path.write_text(rules)
        rules_config = RulesConfig(path=str(path))
    settings = Settings(
        enabled=True,
        lane=Lane(mode, "http://127.0.0.1:9", Secret("phc_test")),
        identity=identity,
        convert=convert,
        rules=rules_config,
        delivery=DeliveryConfig(exit_timeout=60.0),
    )
    delivery = RecordingDelivery()
    guard = Guard()
    clock = ManualClock()
    outcomes: list[tuple[Signal, Decision, bool]] = []
    loaded = load_rules(rules_config)
    bridge = Bridge(
        Converter(convert, loaded),
        Policy(monotonic=clock),
        delivery,
        guard=guard,
        tap=lambda signal, decision, refused: outcomes.append((signal, decision, refused)),
    )
    runtime = Runtime(settings=settings, rules=loaded, bridge=bridge, guard=guard)
    edge = edge_of(runtime)
    edge.worker._monotonic = clock
    edge.worker._capacity = capacity
    spans = PostHogSpanProcessor(runtime=runtime)
    logs = spans.for_logs()
    made = Resource({"service.name": "shop", **(resource or {})})
    tracer_provider = TracerProvider(resource=made, shutdown_on_exit=False, **provider)
    tracer_provider.add_span_processor(spans)
    logger_provider = LoggerProvider(resource=made, shutdown_on_exit=False)
    logger_provider.add_log_record_processor(logs)
    return App(runtime, delivery, spans, logs, tracer_provider, logger_provider, clock, outcomes)


@pytest.fixture(name="build")
def builder(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Builds apps and closes them."""
    apps: list[App] = []

    def build(**arguments: Any) -> App:
        app = make_app(tmp_path=tmp_path, **arguments)
        apps.append(app)
        return app

    yield build
    for app in apps:
        app.tracer_provider.shutdown()
        app.logger_provider.shutdown()
        assert list(app.edge.worker.failures) == []


@pytest.fixture(name="app")
def default_app(build: Callable[..., App]) -> App:
    """An app with default settings and no rules."""
    return build()
