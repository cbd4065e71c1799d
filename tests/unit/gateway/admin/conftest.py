"""A gateway as the operator's door sees it: real bridges and books, an injected life."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from otel_posthog.bridge import Bridge
from otel_posthog.delivery import DeliveryStats
from otel_posthog.gateway.admin.door import Door, WorkerDoor
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.admin.sources import AdminSources, Phase, Reason
from otel_posthog.gateway.admin.tail import Tail
from otel_posthog.gateway.books import Books, Labels
from otel_posthog.model import CaptureEvent, Decision, DropReason, Resource, Scope, Signal, SignalKind
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy

UUID = "0198f000-0000-7000-8000-000000000001"


class NamedConverter:
    """Signals named `drop…` are dropped by a rule, `plain` is not tagged, all others become an event of their name."""

    def convert(self, signal: Signal) -> Decision:
        if signal.name.startswith("drop"):
            return Decision(reason=DropReason.RULE, rule="silence")
        if signal.name == "plain":
            return Decision(reason=DropReason.NOT_TAGGED)
        who = str(signal.attributes.get("who", "ada"))
        properties = {key: value for key, value in signal.attributes.items() if key != "who"}
        return Decision(events=(CaptureEvent(signal.name, who, UUID, 1_700_000_000_123_456_789, properties),))


class StubDelivery:
    """Keeps what it takes; `full` refuses, `own` answers for the books."""

    def __init__(self) -> None:
        self.full = False
        self.blocked = ""
        self.taken: list[CaptureEvent] = []

    def submit(self, events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        if self.full:
            return False
        self.taken += events
        return True

    def stats(self) -> DeliveryStats:
        return DeliveryStats(captured=len(self.taken), delivered=len(self.taken), blocked=self.blocked)

    def resume(self) -> None:
        pass

    def flush(self, timeout: float) -> bool:
        return True

    def shutdown(self, timeout: float) -> bool:
        return True


@dataclass
class FakeProject:
    """One project with a real bridge."""

    name: str
    bridge: Bridge
    delivery: StubDelivery
    digest: str = "d"


@dataclass
class FakeGateway:
    """What an `AdminSources` reads, to be changed by tests."""

    phase: Phase = Phase.SERVING
    books: Books = field(default_factory=Books)
    tail: Tail = field(default_factory=Tail)
    projects: dict[str, FakeProject] = field(default_factory=dict[str, Any])
    gauges: dict[tuple[str, Labels], float] = field(default_factory=dict[Any, float])
    spool_error: str = ""
    dead: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def project(self, name: str) -> FakeProject:
        """A new project."""
        delivery = StubDelivery()
        made: Any = NamedConverter()
        bridge = Bridge(made, Policy(), delivery, guard=Guard(), tap=self.tail.of(name))
        self.projects[name] = FakeProject(name, bridge, delivery)
        return self.projects[name]

    def sources(self, worker: int = 0) -> AdminSources:
        """The seam."""
        return AdminSources(
            phase=lambda: self.phase,
            books=self.books.snapshot,
            projects=lambda: tuple(self.projects.values()),
            tail=self.tail,
            worker=worker,
            spool_error=lambda: self.spool_error,
            gauges=lambda: self.gauges,
            dead_threads=lambda: self.dead,
            not_ready=lambda: self.reasons,
        )


def signal(name: str, kind: SignalKind = SignalKind.SPAN, **attributes: Any) -> Signal:
    """One signal; its attributes become properties."""
    return Signal(kind, name, attributes, Resource(), Scope(), trace_id="0af7651916cd43dd8448eb211c80319c")


@pytest.fixture
def gateway() -> FakeGateway:
    """A gateway with one project, `shop`."""
    made = FakeGateway()
    made.project("shop")
    return made


@pytest.fixture
def make_signal() -> Callable[..., Signal]:
    """Makes signals."""
    return signal


@pytest.fixture
def serve() -> Iterator[Callable[..., AdminServer]]:
    """Starts admin servers, and stops them after the test."""
    running: list[AdminServer] = []

    def start(what: FakeGateway | Door, **options: Any) -> AdminServer:
        door = WorkerDoor(what.sources()) if isinstance(what, FakeGateway) else what
        server = AdminServer(door, **options).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.close()
        assert not server.running
