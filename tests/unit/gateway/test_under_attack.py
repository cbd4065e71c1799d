"""What costs money: a reload in the middle of a record, a decision that no queue holds, names without end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.gateway.dead_letters import read_letters
from otel_posthog.gateway.inbound import OK
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.gateway.wanted import EVERYTHING
from tests.fixtures.gateway_intake import Rig, merged, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


def blocked(rig: Rig, intake: Any, name: str, count: int) -> bool:
    """Whether so many records wait for a project."""
    return until(lambda: intake.status().blocked == {name: count})


def test_a_reload_that_wants_less_skips_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a record is handed out, then a reload makes fewer items worth reading: the other part is still sent."""
    rig.delivery.capacity, rig.delivery.automatic = 5, False
    # As a record of other rules, or with a rule that names nothing, is read: all of it.
    monkeypatch.setattr(rig.projects, "wanted", lambda caller: EVERYTHING)
    intake = rig.start()
    assert send(intake, merged(spans(1_000, 300, tagged=False), spans(0, 200))).answer() == OK
    assert blocked(rig, intake, "default", 1)
    monkeypatch.undo()
    read_again(intake)
    rig.delivery.capacity, rig.delivery.automatic = 1_000, True
    rig.delivery.settle()
    assert until(lambda: intake.status().waiting_records == 0)
    assert people(rig.delivery.delivered) == list(range(200))


def test_a_reload_that_routes_otherwise_skips_nothing(rig: Rig) -> None:
    """A part of a record is handed out, then its resources belong to others: what had begun is ended as it began."""
    rig.projects.projects.clear()
    one, two = rig.project("one", capacity=5), rig.project("two")
    one.automatic = False
    intake = rig.start()
    body = merged(spans(0, 300, team="one"), spans(300, 300, team="two"), spans(600, 300, team="one"))
    assert send(intake, body).answer() == OK
    assert blocked(rig, intake, "one", 1)
    first, second = rig.projects.projects

    def route(caller: str, resource: Any) -> Any:
        return second if resource.get("team") == "one" else first

    rig.projects.route = route  # type: ignore[method-assign]
    read_again(intake)
    one.capacity, one.automatic = 1_000, True
    one.settle()
    assert until(lambda: intake.status().waiting_records == 0)
    assert people(one.delivered) == [*range(300), *range(600, 900)]
    assert people(two.delivered) == list(range(300, 600))


def test_a_project_that_got_another_name_loses_nothing(rig: Rig) -> None:
    """A backlog of a project that a reload takes out goes where the new configuration says, as after a restart."""
    rig.projects.projects.clear()
    old = rig.project("old", capacity=0)
    rig.project("other")
    intake = rig.start()
    for number in range(20):
        assert send(intake, spans(10 * number, 10, team="old")).answer() == OK
    assert blocked(rig, intake, "old", 20)
    new = rig.project("new")
    new_project = rig.projects.projects.pop()
    rig.projects.projects[0] = new_project
    other = type(rig.projects).route

    def route(caller: str, resource: Any) -> Any:
        return new_project if resource.get("team") == "old" else other(rig.projects, caller, resource)

    rig.projects.route = route  # type: ignore[method-assign]
    intake.redeliver("old")
    assert until(lambda: intake.status().waiting_records == 0)
    assert old.delivered == []
    assert people(new.delivered) == list(range(200))
    assert list(read_letters(rig.folder, OsFiles())) == []


def read_again(intake: GatewayIntake) -> None:
    """What is at hand of waiting records is let go, as when another one came first: the rest is read from disk."""
    for waiting in intake._processing._portions._waiting.values():  # pyright: ignore[reportPrivateUsage]
        for portion in waiting:
            portion.stream = None
