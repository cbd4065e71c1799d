"""`flags.override`: it wins over everything, nothing is asked, and nothing is counted."""

from __future__ import annotations

import asyncio
import threading

import pytest

from otel_posthog import flags
from otel_posthog.api.capture import capture
from otel_posthog.api.control import flush
from otel_posthog.context import working
from otel_posthog.context.ambient import Ambient
from otel_posthog.emulator import Emulator
from tests.unit.flags.conftest import Calls


def test_it_wins_for_a_block(running: None, emulator: Emulator, calls: Calls) -> None:
    """Inside the value rules; after it PostHog's is back. An inner block wins over an outer one."""
    with flags.override("beta-features"):
        assert flags.enabled("beta-features", "ada") is True
        with flags.override({"beta-features": False, "timer-ui-experiment": "control"}):
            assert flags.enabled("beta-features", "ada", default=True) is False
            assert flags.variant("timer-ui-experiment", "ada") == "control"
        assert flags.enabled("beta-features", "ada") is True
    assert emulator.stats()["flag_requests"]["evaluations"] == 0
    assert calls() == []

    assert flags.enabled("beta-features", "ada") is False


def test_events_of_the_block_are_marked(running: None, emulator: Emulator) -> None:
    """They name the flags, and carry no value that an experiment would count."""
    with working(Ambient(distinct_id="ada")):
        with flags.override("new-dashboard", value=False):
            assert flags.enabled("new-dashboard") is False
            capture("inside")
        capture("outside")

    assert flush(30)
    said = {
        event["event"]: {key: value for key, value in event["properties"].items() if "feature" in key}
        for event in emulator.events()
    }
    assert said == {"inside": {"feature_flags_overridden": ["new-dashboard"]}, "outside": {}}


def test_it_works_where_flags_are_off() -> None:
    """A test of an app needs no PostHog."""
    with flags.override("theme", "dark", payload={"size": 3}):
        assert flags.details("theme") == flags.Answer("theme", "dark", {"size": 3}, "override", "overridden")
        assert flags.details("theme").overridden
        assert flags.config("theme", default={"size": 1}) == {"size": 3}
        assert flags.all() == {"theme": "dark"}
        assert flags.experiments() == {"theme": "dark"}
        assert flags.bootstrap() == {"featureFlags": {"theme": "dark"}}
    assert flags.variant("theme") is None
    assert flags.stats().answered == {"override": 3}


def test_as_a_decorator() -> None:
    """On functions, coroutine functions and generators."""

    @flags.override("theme", "dark")
    def plain() -> object:
        return flags.variant("theme")

    @flags.override("theme", "dark")
    async def coroutine() -> object:
        await asyncio.sleep(0)
        return flags.variant("theme")

    @flags.override("theme", "dark")
    def generator() -> object:
        yield flags.variant("theme")

    assert plain() == "dark"
    assert asyncio.run(coroutine()) == "dark"
    iterator = generator()
    assert next(iterator) == "dark"
    assert flags.variant("theme") is None


def test_an_exception_ends_it() -> None:
    """It goes on unchanged."""
    with pytest.raises(ValueError, match="no"), flags.override("theme", everywhere=True):
        raise ValueError("no")
    assert flags.variant("theme") is None


def test_of_a_block_or_of_the_process() -> None:
    """A server in another thread sees the one that holds everywhere."""

    def seen() -> list[object]:
        found: list[object] = []
        thread = threading.Thread(target=lambda: found.append(flags.variant("theme")))
        thread.start()
        thread.join()
        return found

    with flags.override("theme", "dark"):
        assert seen() == [None]
    with flags.override("theme", "dark", everywhere=True), flags.override("other", everywhere=True):
        assert seen() == ["dark"]
        assert flags.all() == {"theme": "dark", "other": True}
    assert seen() == [None]


@pytest.mark.parametrize("said", ["deployment.environment.name=production", "deployment.environment=Prod"])
def test_never_in_production(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer forgot must not decide for users."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", said)

    with flags.override("theme", "dark"), flags.override("theme", "dark", everywhere=True):
        assert flags.variant("theme") is None
