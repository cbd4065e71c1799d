"""One escaped line for each record, without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from dirty_equals import IsStr
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.gateway.configuration.settings import LogSettings
from otel_posthog.gateway.process.log_lines import MAX_LINE, LineFormatter, configure_logging, escaped

SECRET = "phc_canary_of_the_log"
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def record(message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    """A record of ours."""
    trouble = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("otel_posthog.x", logging.WARNING, "x.py", 1, message, args, trouble)


@pytest.fixture
def loggers() -> Iterator[None]:
    """Puts the loggers back as they were."""
    root, ours = logging.getLogger(), logging.getLogger("otel_posthog")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:], root.level, ours.level = before


def test_text() -> None:
    """Time, level, the worker where there are several, and the message."""
    assert LineFormatter("text").format(record("%d events", 3)) == IsStr(regex=rf"{MOMENT} warning 3 events")
    assert LineFormatter("text", worker=2).format(record("x")) == IsStr(regex=rf"{MOMENT} warning \[2\] x")


def test_json() -> None:
    """The same as an object, in ASCII."""
    line = LineFormatter("json", worker=2).format(record("Ärger\nmit %s", "\u202e"))
    assert line.isascii()
    assert json.loads(line) == {
        "time": IsStr(regex=MOMENT),
        "level": "warning",
        "logger": "otel_posthog.x",
        "message": "Ärger\nmit \u202e",
        "worker": 2,
    }


@pytest.mark.row(42)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ä 日本 ✓", "plain Ä 日本 ✓"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x00", r"\x1b[31mred\x00"),
        ("right\u202eleft\u2028line\x85", r"right\u202eleft\u2028line\x85"),
        ("half \ud800", r"half \ud800"),
    ],
)
def test_nobody_forges_a_line(text: str, shown: str) -> None:
    """Line breaks, escape sequences, marks of direction and lone surrogates are shown, not executed."""
    assert escaped(text) == shown


@pytest.mark.row(42)
@given(st.text(st.characters(codec=None)))
def test_always_one_printable_line(text: str) -> None:
    """Whatever text: the line is printable, and can be written to any terminal that knows UTF-8."""
    line = LineFormatter("text").format(record("%s", text))
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    line.encode()


@pytest.mark.row(41)
@pytest.mark.parametrize("form", ["text", "json"])
def test_secrets_are_taken_out(form: str) -> None:
    """From messages and tracebacks alike."""
    formatter = LineFormatter(form, lambda: [SECRET, "ab"])
    try:
        raise RuntimeError(f"refused: {SECRET}")
    except RuntimeError as error:
        line = formatter.format(record("key %s, about", SECRET, error=error))
    assert SECRET not in line
    assert "about" in line, "what is too short to be a secret is in too many words"
    assert "RuntimeError: refused: " in line
    assert len(line.splitlines()) == 1


def test_arguments_that_have_no_text() -> None:
    """A record whose text cannot be made is still a line."""

    class Mute:
        def __str__(self) -> str:
            raise ValueError

    assert "ValueError in its arguments" in LineFormatter("text").format(record("%s", Mute()))
    assert "TypeError in its arguments" in LineFormatter("text").format(record("%d %d", 1))


def test_a_line_has_an_end() -> None:
    """A huge message is cut."""
    assert len(LineFormatter("text").format(record("x" * 100_000))) < MAX_LINE + 100


def test_what_is_said(loggers: None) -> None:
    """Ours from the chosen level on; libraries only if they warn."""
    stream = io.StringIO()
    configure_logging(LogSettings("text", "info"), stream=stream)
    logging.getLogger("otel_posthog.gateway").info("ours")
    logging.getLogger("otel_posthog.gateway").debug("too much")
    logging.getLogger("uvicorn.access").info("theirs")
    logging.getLogger("grpc").warning("their warning")
    assert [line.split(" ", 2)[2].strip() for line in stream.getvalue().splitlines()] == ["ours", "their warning"]
