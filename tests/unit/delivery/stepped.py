"""An engine that is stepped by hand, with a clock that stands still and a server that says what it is told to."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from typing import Any

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.backoff import Backoff
from otel_posthog.delivery.encoding import dumps
from otel_posthog.delivery.engine import Engine
from otel_posthog.delivery.parts import Journal, Parts
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.delivery.wire_auto import AutoWire
from otel_posthog.delivery.wire_v0 import WireV0
from otel_posthog.delivery.wire_v1 import WireV1
from tests.contract.recording import RecordingTransport
from tests.unit.delivery.loopback import DAY, raise_it

JSON = {"content-type": "application/json"}
CONFIG = DeliveryConfig(
    queue_size=60, queue_bytes=30_000, batch_size=10, batch_bytes=4_000, flush_interval=1.0, retry_elapsed=600.0
)


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return DAY / 1e9 + self.now


class Bench:
    """An engine with everything around it injected."""

    def __init__(
        self, *, wire: str = "v0", config: DeliveryConfig = CONFIG, seed: int = 1, journal: Journal | None = None
    ) -> None:
        self.clock = Clock()
        self.answers: list[Any] = []
        self.transport = RecordingTransport(self._answer)
        self.notes: list[str] = []
        v0 = WireV0("http://ph", "phc_x", dumps=dumps, compress=None)
        v1 = WireV1("http://ph", "phc_x", dumps=dumps, compress=None)
        ids = iter(range(1_000_000))
        parts = Parts(
            load=lambda: {"v0": v0, "v1": v1}.get(wire) or AutoWire(v1, v0),
            transport=self.transport,
            clock=self.clock,
            backoff=Backoff(config.retry_initial, config.retry_max, random.Random(seed).random),
            send_guard=nullcontext,
            guard=raise_it,
            complain=lambda note, _: self.notes.append(note),
            new_id=lambda: f"request-{next(ids)}",
            journal=journal,
        )
        self.engine = Engine(config, parts)

    def _answer(self, request: Request) -> Response | BaseException:
        if self.answers:
            answer = self.answers.pop(0)
            return answer(request) if callable(answer) else answer
        results = {made["uuid"]: {"result": "ok"} for made in json.loads(request.body)["batch"]}
        return Response(200, JSON, json.dumps({"results": results}).encode())

    @property
    def batches(self) -> list[list[str]]:
        """The uuids of each request."""
        return [[made["uuid"] for made in json.loads(request.body)["batch"]] for request in self.transport.requests]

    def run(self, seconds: float = 0.0) -> float | None:
        """Steps until nothing is due for `seconds` more."""
        end = self.clock.now + seconds
        while True:
            wait = self.engine.step()
            if wait is None or (wait > 0 and self.clock.now + wait > end):
                self.clock.now = end
                return wait
            self.clock.now += wait
