"""Clocks that jump while records wait for a project that takes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.gateway.inbound import OK
from tests.fixtures.gateway_intake import SECOND_NS, START_NS, Rig, merged, people, send, spans, until

HOUR = 3_600.0


class JumpingClock:
    """Monotonic time that moves when it is told to; wall time that jumps at every look."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.jump = HOUR

    def monotonic(self) -> float:
        """See `Clock`."""
        return self.now

    def time(self) -> float:
        """See `Clock`."""
        self.jump = -self.jump
        return time.time() + self.jump


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


@pytest.mark.row(49)
def test_clocks_that_jump_while_a_project_is_full(rig: Rig) -> None:
    """Asleep for an hour: the full project is asked once and not for all that was missed; nobody else waits for it."""
    rig.projects.projects.clear()
    sick, well = rig.project("sick", capacity=3), rig.project("well")
    sick.automatic = False
    asked: list[int] = []
    submit = sick.submit

    def counted(events: Any, receipt: Any = None) -> bool:
        asked.append(len(events))
        return submit(events, receipt)

    sick.submit = counted  # type: ignore[method-assign]
    clock = JumpingClock()
    intake = rig.start(clock=clock)
    assert send(intake, merged(spans(0, 10, team="sick"), spans(10, 10, team="well"))).answer() == OK
    assert until(lambda: len(well.delivered) == 10)
    assert until(lambda: intake.status().blocked == {"sick": 1})
    before = len(asked)
    for number in (1, 2):
        clock.now += HOUR
        assert until(lambda number=number: len(asked) > before + number - 1)
        assert send(intake, spans(10 + 10 * number, 10, team="well")).answer() == OK
        assert until(lambda number=number: len(well.delivered) == 10 + 10 * number)
        assert len(asked) == before + number
    sick.capacity, sick.automatic = 1_000_000, True
    sick.settle()
    clock.now += HOUR
    assert until(lambda: len(sick.delivered) == 10)
    assert people(sick.delivered) == list(range(10))
    assert people(well.delivered) == list(range(10, 40))
    moments = {event.distinct_id: event.timestamp_ns // SECOND_NS for event in (*sick.delivered, *well.delivered)}
    assert moments == {f"person-{number}": START_NS // SECOND_NS + number for number in range(40)}
