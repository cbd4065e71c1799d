"""Failures are swallowed, counted and told seldom; and what we log never becomes telemetry."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_posthog.errors import InternalErrorWarning
from otel_posthog.observe import Complaints, Guard, quiet_logger
from otel_posthog.observe.guard import raise_in_tests
from tests.fixtures.logging_bridge import LoggingHandler


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class HostileError(Exception):
    """Its text cannot be read."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Lines(logging.Handler):
    """Keeps what it is handed."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are swallowed, as outside of tests."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")


@pytest.fixture(name="tree")
def _tree() -> Iterator[tuple[logging.Logger, logging.Logger]]:
    """A root of its own and our logger below it: the real root belongs to pytest."""
    manager = logging.Manager(root := logging.RootLogger(logging.DEBUG))
    yield root, manager.getLogger("ours")


# --- guard ---------------------------------------------------------------------------------------------------------


def test_a_failure_surfaces_in_our_own_tests_and_is_counted() -> None:
    """An internal error must fail them."""
    guard = Guard()

    with pytest.raises(ZeroDivisionError):
        guard.failed("convert", ZeroDivisionError())
    assert guard.counts() == {"convert": 1}


@pytest.mark.usefixtures("production")
def test_a_failure_is_told_once_a_minute_for_each_place(caplog: pytest.LogCaptureFixture) -> None:
    """A hundred failures are one line, and the next line says how many there were."""
    clock = Clock()
    guard = Guard(clock)

    for _ in range(100):
        guard.failed("convert", ValueError("x"))
    guard.failed("tap", KeyError("y"))
    clock.now = 61
    guard.failed("convert", ValueError("x"))

    assert guard.counts() == {"convert": 101, "tap": 1}
    text = "otel-posthog: internal error in %s (%s); your app is fine, it just sends less to PostHog"
    assert caplog.messages == [
        text % ("convert", "ValueError: x"),
        text % ("tap", "KeyError: 'y'"),
        text % ("convert", "ValueError: x") + " (and 99 more like it before)",
    ]


@pytest.mark.usefixtures("production")
def test_an_error_without_a_readable_text_is_told_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """The app's objects may raise in `__str__`; the guard never does."""
    Guard().failed("convert", HostileError())

    assert "HostileError: its text cannot be read" in caplog.text


@pytest.mark.usefixtures("production")
def test_a_long_text_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """No payload of a megabyte in the app's log."""
    Guard().failed("convert", ValueError("x" * 1_000_000))

    assert len(caplog.text) < 600


def test_a_failure_is_a_warning_in_the_tests_of_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Their pytest shows it, with a readable text or without; `OTEL_POSTHOG_RAISE` may say otherwise."""
    monkeypatch.setattr(Guard, "raises", False)
    guard = Guard()

    with pytest.warns(InternalErrorWarning) as said:
        guard.failed("convert", ValueError("x"))
        guard.failed("tap", HostileError())
    assert [str(one.message) for one in said] == [
        "otel-posthog: internal error in convert (ValueError: x)",
        "otel-posthog: internal error in tap (HostileError: its text cannot be read)",
    ]
    assert len(caplog.messages) == 2

    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "true")
    with pytest.raises(ValueError, match="x"):
        guard.failed("convert", ValueError("x"))
    assert guard.counts() == {"convert": 2, "tap": 1}


@pytest.mark.filterwarnings("error")
def test_where_warnings_are_errors_the_app_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What calls us is code of somebody else's: the line in the log has to do."""
    monkeypatch.setattr(Guard, "raises", False)

    Guard().failed("convert", ValueError("x"))

    assert "internal error in convert (ValueError: x)" in caplog.text


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("TRUE ", True), ("false", False), ("", True)])
def test_the_environment_decides_over_pytest(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    """`OTEL_POSTHOG_RAISE=true` is for those who debug us; unset, pytest decides."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", value)

    assert raise_in_tests() is expected


def test_a_forked_child_counts_for_itself() -> None:
    """With a lock that nobody holds."""
    guard = Guard()
    with pytest.raises(ValueError, match="x"):
        guard.failed("convert", ValueError("x"))
    guard._lock.acquire()

    guard.after_fork()

    assert guard.counts() == {}


# --- complaints ----------------------------------------------------------------------------------------------------


def test_subjects_are_bounded(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """Ten thousand subjects do not fill the memory."""
    complaints = Complaints(target=tree[1])
    for number in range(10_000):
        complaints.say(str(number), "no")

    assert len(complaints._last) == 500


def test_the_level_is_the_callers(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """An error stays an error; the answer says whether a line was written."""
    root, ours = tree
    root.addHandler(heard := Lines(logging.ERROR))
    complaints = Complaints(target=ours)

    assert [complaints.say("a", "lost %d", 3, level=logging.ERROR), complaints.say("a", "lost %d", 4)] == [True, False]
    assert heard.lines == ["lost 3"]


# --- the logger ----------------------------------------------------------------------------------------------------


def test_our_lines_reach_the_apps_handlers_but_never_telemetry(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """OpenTelemetry's own handler sits on the same root: the app's records pass it, ours do not."""
    root, ours = tree
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    root.addHandler(heard := Lines())
    root.addHandler(LoggingHandler(logger_provider=provider))
    quiet_logger(ours)

    ours.warning("from us")
    ours.getChild("delivery").warning("from a child of ours")
    root.warning("from the app")

    assert heard.lines == ["from us", "from a child of ours", "from the app"]
    assert [log.log_record.body for log in exporter.get_finished_logs()] == ["from the app"]


def test_with_telemetry_handlers_alone_a_warning_goes_to_standard_error(
    tree: tuple[logging.Logger, logging.Logger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual case under `opentelemetry-instrument`: nobody configured logging, and the user must still see it."""
    root, ours = tree
    root.addHandler(LoggingHandler(logger_provider=LoggerProvider(shutdown_on_exit=False)))
    quiet_logger(ours)
    monkeypatch.setattr(sys, "stderr", heard := io.StringIO())

    ours.warning("look here")
    ours.info("not this")

    assert heard.getvalue() == "look here\n"


def test_levels_and_propagation_of_the_app_hold(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """A handler's level filters, and a logger between us and the root may stop the way up."""
    root, ours = tree
    root.addHandler(above := Lines())
    ours.addHandler(near := Lines(logging.ERROR))
    ours.propagate = False
    child = ours.getChild("otel_posthog")
    quiet_logger(child)

    child.warning("a")
    child.error("b")

    assert (near.lines, above.lines) == (["b"], [])


def test_it_is_set_up_once(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """A second attach or a reload doubles nothing, and does not undo the user's choice."""
    root, ours = tree
    root.addHandler(heard := Lines())
    quiet_logger(ours)
    ours.propagate = True
    quiet_logger(ours)

    ours.warning("once")

    assert heard.lines == ["once"]
    assert len(ours.handlers) == 1


def test_whoever_wants_them_in_the_telemetry_says_so(tree: tuple[logging.Logger, logging.Logger]) -> None:
    """`propagate = True` after attach: records go the ordinary way, once."""
    root, ours = tree
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    root.addHandler(LoggingHandler(logger_provider=provider))
    quiet_logger(ours)
    ours.propagate = True

    ours.warning("ours too")

    assert [log.log_record.body for log in exporter.get_finished_logs()] == ["ours too"]
