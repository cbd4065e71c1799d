"""Calls in real processes: at import, with the hook and without, with any sampling, in threads, tasks and children."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from tests.attach.processes import NO_FRAMEWORKS, Environment, Launch, variables
from tests.attach.receiver import Receiver
from tests.fixtures.gateway import GatewayProcess

QUIET = {"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
# The wait for late identity is longer than the test: what needs the end of a request gets it from there.
PATIENT = {"OTEL_POSTHOG_LATE_IDENTITY_WAIT": "50", **QUIET, **NO_FRAMEWORKS}

USERS = Counter(("done", f"user-{number}") for number in range(20))
LIVES: dict[str, Counter[tuple[str, str]]] = {
    "imports": Counter([("imported", ""), ("later", "")]),
    "everything": Counter(
        [
            ("imported", ""),
            ("early", "ada"),
            ("$set", "ada"),
            ("$groupidentify", "ada"),
            ("order paid", "ada"),
            ("report built", "ada"),
            ("$set", "ada"),
            ("$set", "ada"),
            ("$create_alias", "ada"),
            ("$exception", "ada"),
            ("goodbye", ""),
        ]
    ),
    "threads": Counter([("imported", ""), ("last", ""), *[("pooled", "ada")] * 8]),
    "tasks": Counter([("imported", ""), *[("done", "ada")] * 3, *[("done", "bob")] * 3]),
    "forks": Counter(
        [
            ("imported", ""),
            ("parent before", ""),
            *[(f"child {number}", "") for number in range(3)],
            ("of multiprocessing", ""),
            ("parent after", ""),
        ]
    ),
    "gevent": Counter([("imported", "")]) + USERS,
    "gevent_late": Counter([("imported", ""), ("before the patch", "")]) + USERS,
}
# Without the hook nobody records spans: what comes before the login stays a visitor's, and no thread has a context.
BARE = {
    **LIVES,
    "everything": LIVES["everything"] - Counter([("early", "ada")]) + Counter([("early", "")]),
    "threads": Counter([("imported", ""), ("last", ""), *[("pooled", "")] * 8]),
}


def arrived(receiver: Receiver) -> Counter[tuple[str, str]]:
    """Name and person ("" for personless events) of each event."""
    return Counter(
        (event.event, "" if event.properties.get("$process_person_profile") is False else event.distinct_id)
        for event in receiver.events()
    )


@pytest.mark.parametrize("life", LIVES)
def test_under_the_hook(
    life: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Under `opentelemetry-instrument`, with sampling off: all that was captured arrives, once, with its person."""
    where = environment("stock")
    env = variables(receiver, "direct", where, OTEL_TRACES_SAMPLER="always_off", **PATIENT)
    process = launch(where.instrumented("python", "calls.py", life), env)

    assert process.end(90) == 0, process.output
    assert arrived(receiver) == LIVES[life], process.output
    assert len({event.key for event in receiver.events()}) == len(receiver.events())
    # A patch while threads are at work makes Python complain about those, whoever's they are.
    assert life == "gevent_late" or "Traceback" not in process.output


@pytest.mark.parametrize("life", LIVES)
def test_in_plain_python(
    life: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """With two variables and nothing else, no hook, no provider: the first call starts it, the end delivers it."""
    where = environment("stock")
    process = launch([where.python, "calls.py", life], variables(receiver, "direct", where, **PATIENT))

    assert process.end(90) == 0, process.output
    assert arrived(receiver) == BARE[life], process.output
    assert life == "gevent_late" or process.output == ""


@pytest.mark.parametrize(("name", "command"), [("floor", "hook"), ("plain", "run"), ("edot", "hook"), ("adot", "hook")])
def test_in_every_environment(
    name: str, command: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """The oldest OpenTelemetry, no distribution, and those of others."""
    where = environment(name)
    words = ("python", "calls.py", "everything")
    process = launch(
        where.instrumented(*words) if command == "hook" else where.run(*words),
        variables(receiver, "direct", where, **PATIENT),
    )

    assert process.end(90) == 0, process.output
    assert arrived(receiver) == LIVES["everything"], process.output


@pytest.mark.parametrize("hook", [True, False])
def test_off(hook: bool, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver) -> None:
    """Behind a shut gate every call returns, nothing is started, and nothing is said."""
    where = environment("stock")
    env = variables(receiver, "direct", where, OTEL_POSTHOG_ENABLED="false", **QUIET)
    words = ("python", "calls.py", "off")
    process = launch(where.instrumented(*words) if hook else [where.python, *words[1:]], env)

    assert process.end(90) == 0, process.output
    assert receiver.arrivals() == []


def test_the_same_through_a_gateway(
    tmp_path: Path, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """What a gateway rebuilds of the log records equals what the process sends by itself, property for property."""
    where = environment("stock")
    command = where.instrumented("python", "calls.py", "everything")
    with Emulator() as direct, Emulator() as posthog, GatewayProcess(tmp_path, posthog.url) as gateway:
        base = variables(receiver, "direct", where, **PATIENT)
        process = launch(command, {**base, "OTEL_EXPORTER_OTLP_ENDPOINT": direct.endpoint})
        assert process.end(90) == 0, process.output
        collector = {
            **base,
            "OTEL_POSTHOG_MODE": "collector",
            "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.http_url,
            "OTEL_EXPORTER_OTLP_TOKEN": gateway.token,
        }
        process = launch(command, collector)
        assert process.end(90) == 0, process.output
        posthog.wait_for(lambda it: len(it.events()) >= len(direct.events()), timeout=60)

        assert _comparable(posthog) == _comparable(direct)
        assert len(direct.events()) == sum(LIVES["everything"].values())


def _comparable(posthog: Emulator) -> list[str]:
    """Each event without what differs from run to run."""
    return sorted(repr(_steady(event)) for event in posthog.events())


def _steady(event: dict[str, Any]) -> tuple[Any, ...]:
    changing = {"$trace_id", "$span_id", "duration_ms", "$exception_list"}
    own = {name: value for name, value in sorted(event["properties"].items()) if name not in changing}
    person = event["distinct_id"] if event["person_mode"] == "full" else ""
    return event["event"], person, event["groups"], sorted(event["properties"]), own
