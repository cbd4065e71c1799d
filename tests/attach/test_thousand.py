"""The acceptance test: a thousand tagged spans are a thousand events, whatever sampling, distribution and lane."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attach.processes import NO_FRAMEWORKS, Environment, Launch, variables
from tests.attach.receiver import Fault, Receiver, Script

COUNT = 1_000
DISTROS = ("stock", "edot", "adot")
MODES = ("direct", "collector")
RATIOS = ("1.0", "0.01", "0.0")
# A PostHog that fails is asked again soon, many times, and the process may take its time to leave.
PATIENT = {
    "OTEL_POSTHOG_BATCH_SIZE": "100",
    "OTEL_POSTHOG_RETRY_INITIAL": "0.05",
    "OTEL_POSTHOG_RETRY_MAX": "0.2",
    "OTEL_POSTHOG_EXIT_TIMEOUT": "60",
    **NO_FRAMEWORKS,
}


def product_path(path: str) -> bool:
    """Whether requests to `path` carry product events (in collector mode the standard logs share it)."""
    return path in {"/batch/", "/i/v1/analytics/events", "/v1/logs"}


def three_in_ten(fault: Fault) -> Script:
    """`fault` for every second, fifth and eighth of ten product requests."""
    return lambda path, number: fault if product_path(path) and number % 10 in {1, 4, 7} else None


def sampled(ratio: str) -> dict[str, str]:
    """The sampler of the user's own traces; EDOT's own understands the same argument."""
    return {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}


def expected() -> set[tuple[str, str]]:
    """(event, distinct_id) of each span."""
    return {(f"order {number % 7}", f"person-{number}") for number in range(COUNT)}


def check(receiver: Receiver) -> None:
    """Exactly a thousand keys, each event once among them, each uuid in one key only."""
    keys = {event.key for event in receiver.events()}
    assert {(event, distinct_id) for _, event, distinct_id, _ in keys} == expected()
    assert len(keys) == COUNT
    assert len({uuid for uuid, *_ in keys}) == COUNT
    assert receiver.unexpected == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distro", DISTROS)
def test_every_tagged_span_is_one_event_under_any_sampling(
    distro: str, mode: str, ratio: str, environment: Callable[[str], Environment], launch: Launch, receiver: Receiver
) -> None:
    """All thousand arrive once each, and the user's own traces are sampled as before."""
    where = environment(distro)
    env = variables(receiver, mode, where, **sampled(ratio), OTEL_POSTHOG_EXIT_TIMEOUT="60")
    process = launch(where.instrumented("python", "thousand.py", str(COUNT)), env)
    assert process.end(120) == 0, process.output
    check(receiver)
    assert len(receiver.events()) == COUNT
    standard = len([span for span in receiver.spans() if span["name"] == "checkout"])
    assert {"1.0": standard == COUNT, "0.01": standard < 100, "0.0": standard == 0}[ratio], standard


FAULTS = {
    "503": Fault(503),
    "lost answer": Fault(0, stored=True),
    # Variants of these two, which do not depend on the distribution.
    "503 stored": Fault(503, stored=True),
    "cut": Fault(0),
}
FAILING = [
    (fault, distro, mode, ratio)
    for fault in FAULTS
    for distro in DISTROS
    for mode in MODES
    for ratio in RATIOS
    if fault in {"503", "lost answer"} or (distro, ratio) == ("stock", "0.0")
]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("kind", "distro", "mode", "ratio"), FAILING)
def test_three_in_ten_failing_answers_lose_and_double_nothing(
    kind: str, distro: str, mode: str, ratio: str, environment: Callable[[str], Environment], launch: Launch
) -> None:
    """Failed requests come again with the same keys, lost answers too: PostHog folds them into one event each."""
    fault = FAULTS[kind]
    where = environment(distro)
    with Receiver(three_in_ten(fault)) as receiver:
        env = variables(receiver, mode, where, **sampled(ratio), **PATIENT)
        process = launch(where.instrumented("python", "thousand.py", str(COUNT)), env)
        assert process.end(120) == 0, process.output
        assert receiver.faults >= 3
        check(receiver)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("distro", DISTROS)
def test_a_killed_process_leaves_its_spool_to_the_next(
    distro: str,
    mode: str,
    ratio: str,
    environment: Callable[[str], Environment],
    launch: Launch,
    tmp_path: Path,
) -> None:
    """`kill -9` after the server took some batches and answered none: the next process replays, keys unchanged."""
    where = environment(distro)
    script: Script = lambda path, number: Fault(0, stored=number < 4) if product_path(path) else None  # noqa: E731
    with Receiver(script) as receiver:
        more = {**sampled(ratio), **PATIENT, "OTEL_POSTHOG_SPOOL_DIR": str(tmp_path / "spool")}
        env = variables(receiver, mode, where, **more)
        first = launch(where.instrumented("python", "thousand.py", str(COUNT), "--stay"), env)
        assert first.popen.stdout is not None
        while (line := first.popen.stdout.readline()) != "done\n":
            assert line, f"ended early: {first.output}"
            first.output += line
        receiver.wait(lambda arrived: len(arrived.events()) >= 200 and len(on_disk(tmp_path / "spool")) == COUNT)
        first.popen.kill()
        first.popen.wait(30)
        receiver.script = None
        # The next process has nothing to say itself.
        second = launch(where.instrumented("python", "thousand.py", "0", "--stay"), env)
        receiver.wait(lambda arrived: len({event.key for event in arrived.events()}) == COUNT)
        second.popen.kill()
        second.popen.wait(30)
        check(receiver)


def on_disk(folder: Path) -> set[bytes]:
    """Whose orders the spool holds."""
    return {
        person for file in folder.rglob("*.log") for person in re.findall(rb"person-[0-9]+(?![0-9])", file.read_bytes())
    }
