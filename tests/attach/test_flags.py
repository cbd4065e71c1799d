"""Feature flags in a real process: an app that only asks, under the standard launcher, and a PostHog that answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from tests.attach.processes import NO_FRAMEWORKS, Environment, Launch, variables
from tests.attach.receiver import Receiver

FLAGS: dict[str, Any] = {
    "flags": {
        "new-checkout": True,
        "off": False,
        "button": {"variants": {"control": 0, "green": 100}, "payloads": {"green": {"colour": "green"}}},
    }
}
FLASK_ALONE = NO_FRAMEWORKS["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"].replace("flask,", "")
GIVEN = {"new checkout": [True] * 3, "button": "green", "off": False, "no such flag": True, "colour": "green"}
PEOPLE = ("ada", "grace")
STAMPS = {
    "$feature/new-checkout": True,
    "$feature/button": "green",
    "$feature/off": False,
    "$active_feature_flags": ["button", "new-checkout"],
}


@pytest.mark.parametrize("evaluated", ["remote", "local"])
def test_flags_of_an_app_that_only_asks(
    evaluated: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """Each answer is one `$feature_flag_called`, and stamped on what its request does next, under any sampling; one
    request asks PostHog once, and a process that evaluates by itself only for what it does not know.
    """
    where = environment("stock")
    with Emulator(flags=FLAGS) as emulator:
        env = variables(
            receiver,
            "direct",
            where,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"{emulator.url}/i",
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=FLASK_ALONE,
            OTEL_TRACES_SAMPLER="always_off",
            OTEL_LOGS_EXPORTER="none",
            OTEL_METRICS_EXPORTER="none",
            OTEL_POSTHOG_FLAGS_TIMEOUT="30",
            **({"OTEL_POSTHOG_FLAGS_SECRET_KEY": "phx_attachTest"} if evaluated == "local" else {}),
        )
        process = launch(where.instrumented("python", "flagged.py", *PEOPLE), env)
        assert process.end(90) == 0, process.output
        events, asked = emulator.events(), emulator.stats()["flag_requests"]

    given = [json.loads(line.removeprefix("GIVEN ")) for line in process.output.splitlines() if "GIVEN" in line]
    assert given == [GIVEN, GIVEN], process.output
    assert "otel-posthog:" not in process.output
    # What a process that evaluates by itself does not know, it asks for, too.
    assert (asked["evaluations"], asked["definitions"] > 0) == (len(PEOPLE), evaluated == "local")
    told = Counter(
        (event["distinct_id"], event["properties"]["$feature_flag"], event["properties"].get("$feature_flag_response"))
        for event in events
        if event["event"] == "$feature_flag_called"
    )
    answers = [("new-checkout", True), ("button", "green"), ("off", False), ("no-such-flag", None)]
    assert told == Counter((person, *answer) for person in PEOPLE for answer in answers)
    by_itself = {
        event["properties"]["locally_evaluated"]
        for event in events
        if event["properties"].get("$feature_flag_response") is not None
    }
    assert by_itself == {evaluated == "local"}
    stamped = {
        (event["event"], event["distinct_id"]): {name: event["properties"].get(name) for name in STAMPS}
        for event in events
        if event["event"] != "$feature_flag_called"
    }
    nothing = dict.fromkeys(STAMPS)
    assert stamped == {
        (name, person): stamps
        for person in PEOPLE
        for name, stamps in (("order paid", STAMPS), ("$exception", STAMPS), ("home seen", nothing))
    }
    assert {event["arrivals"] for event in events} == {1}
