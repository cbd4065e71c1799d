"""Settings and rules change under a running process; wrong ones do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.attach.processes import Environment, Launch, variables
from tests.attach.receiver import Receiver

FIRST = """
rules:
  - name: checkouts
    match: {name: checkout}
    capture: at first
    distinct_id: ada
"""


def test_reload_takes_good_settings_and_keeps_the_old_ones_otherwise(
    environment: Callable[[str], Environment], launch: Launch, receiver: Receiver, tmp_path: Path
) -> None:
    """New rules count at once, broken or absent ones and a shut gate are one ERROR each, a new lane takes over."""
    where = environment("stock")
    rules = tmp_path / "rules.yaml"
    rules.write_text(FIRST)
    with Receiver() as other:
        env = variables(receiver, "direct", where, OTEL_POSTHOG_CONFIG=str(rules))
        command = where.instrumented("python", "reloads.py", str(rules), f"{other.url}/i")
        process = launch(command, env)
        assert process.end() == 0, process.output
        assert [event.event for event in receiver.events()] == [
            "at first",
            "after reload",
            "after reload",
            "after reload",
        ], process.output
        assert [event.event for event in other.events()] == ["at the other place"]
    said = [line for line in process.output.splitlines() if line.split(" ")[0] in {"good", "broken", "absent", "off"}]
    assert said == ["good True", "broken False", "absent False", "off False"]
    errors = [line for line in process.output.splitlines() if line.startswith("ERROR otel_posthog")]
    assert len(errors) == 3, process.output
    assert "captur" in errors[0] and "rules.yaml" in errors[1] and "OTEL_POSTHOG_ENABLED" in errors[2]
