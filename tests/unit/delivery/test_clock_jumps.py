"""Clocks that jump while a batch waits for its next attempt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.config.settings import DeliveryConfig
from otel_posthog.delivery.protocols import Response
from otel_posthog.model import LossReason
from tests.unit.delivery.loopback import event
from tests.unit.delivery.stepped import Bench

HOUR = 3600.0


def attempts(jump: float) -> tuple[list[float], list[list[Any]]]:
    """Moments (monotonic) and events of all attempts, where the wall clock jumps after each by `jump` seconds."""
    bench = Bench()
    moments: list[float] = []
    wall = bench.clock.time()

    def away(_: Any) -> Response:
        nonlocal wall
        moments.append(bench.clock.now)
        wall += jump
        return Response(503, {}, b"")

    bench.clock.time = lambda: wall  # type: ignore[method-assign]
    bench.answers = [away] * 6
    bench.engine.submit([event(1)])
    bench.run(60)
    bench.engine.submit([event(2)])
    bench.run(300)
    assert bench.engine.stats().delivered == 2
    return moments, [json.loads(request.body)["batch"] for request in bench.transport.requests]


@pytest.mark.row(49)
@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_wall_clock_that_jumps_moves_no_attempt_and_no_event(jump: float) -> None:
    """An hour to and fro: the same attempts at the same moments with the same events, their times included."""
    assert attempts(jump) == attempts(0.0)


@pytest.mark.row(49)
def test_after_a_suspend_one_attempt_is_due_and_not_all_that_were_missed() -> None:
    """The monotonic clock of some systems goes on in their sleep: what was due then is one attempt now."""
    bench = Bench(config=DeliveryConfig(wire="v0", retry_elapsed=0.0))
    bench.answers = [Response(503, {}, b"")] * 6
    bench.engine.submit([event(1)])
    while len(bench.transport.requests) < 3:
        bench.clock.now += bench.engine.step() or 0.0
    before = len(bench.transport.requests)
    bench.clock.now += HOUR
    bench.run(0.0)
    assert len(bench.transport.requests) == before + 1
    bench.run(300.0)
    assert bench.engine.stats().delivered == 1
    assert len(bench.transport.requests) == 7


@pytest.mark.row(49)
@pytest.mark.parametrize("back", [True, False])
def test_a_sleep_longer_than_the_patience_costs_no_event_without_an_attempt(*, back: bool) -> None:
    """The time to give up may pass in a sleep: a last attempt comes before it all the same, and the books say how."""
    bench = Bench(config=DeliveryConfig(wire="v0", retry_elapsed=600.0))
    bench.answers = [Response(503, {}, b"")] * (1 if back else 2)
    bench.engine.submit([event(1)])
    while not bench.transport.requests:
        bench.clock.now += bench.engine.step() or 0.0
    bench.clock.now += HOUR
    bench.run(0.0)
    assert len(bench.transport.requests) == 2
    stats = bench.engine.stats()
    lost = {} if back else {LossReason.RETRIES_EXHAUSTED: 1}
    assert (stats.delivered, stats.lost, stats.pending) == (int(back), lost, 0)
