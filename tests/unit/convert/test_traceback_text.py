"""Python tracebacks as text, as CPython prints them and as they arrive damaged."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

import pytest

from otel_posthog.convert.traceback_text import ParsedException, parse_traceback


def printed(error: BaseException) -> str:
    """What the SDK writes to `exception.stacktrace`."""
    return "".join(traceback.format_exception(error))


def outline(found: ParsedException | None) -> object:
    """Type, value, functions and what hangs on it, nested."""
    if found is None:
        return None
    functions = [frame.function for frame in found.frames]
    return (
        found.type,
        found.value,
        functions,
        (found.relation, outline(found.cause)) if found.cause else None,
        [outline(member) for member in found.members],
    )


def caught(act: Callable[[], object]) -> BaseException:
    """The exception that `act` raises."""
    try:
        act()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def inner() -> None:
    """Raises with a message of two lines."""
    raise ValueError("first\nsecond")


def chained() -> None:
    """Raises from a cause."""
    try:
        inner()
    except ValueError as error:
        raise KeyError("outer") from error


def in_context() -> None:
    """Raises while handling."""
    try:
        inner()
    except ValueError:
        raise OSError(2, "gone")  # noqa: B904 - the context is the point


def endless(depth: int = 0) -> None:
    """Recurses until CPython stops it."""
    endless(depth + 1)


def test_plain() -> None:
    """Type, message of several lines, frames with line and source."""
    found = parse_traceback(printed(caught(inner)))

    assert outline(found) == ("ValueError", "first\nsecond", ["caught", "inner"], None, [])
    assert found is not None
    assert found.frames[-1].source == 'raise ValueError("first\\nsecond")'
    assert found.frames[-1].line == inner.__code__.co_firstlineno + 2


def test_cause() -> None:
    """The caught exception comes first, the direct cause hangs on it."""
    cause = ("ValueError", "first\nsecond", ["chained", "inner"], None, [])

    assert outline(parse_traceback(printed(caught(chained)))) == (
        "KeyError", "'outer'", ["caught", "chained"], ("cause", cause), [],
    )  # fmt: skip


def test_context() -> None:
    """What was being handled hangs on it as context; OSError(2) prints as its subclass."""
    context = ("ValueError", "first\nsecond", ["in_context", "inner"], None, [])

    assert outline(parse_traceback(printed(caught(in_context)))) == (
        "FileNotFoundError", "[Errno 2] gone", ["caught", "in_context"], ("context", context), [],
    )  # fmt: skip


def test_repeated_lines() -> None:
    """`[Previous line repeated …]` is neither a frame nor the message."""
    found = parse_traceback(printed(caught(endless)))

    assert found is not None
    assert found.type == "RecursionError"
    assert {frame.function for frame in found.frames} == {"caught", "endless"}


def test_syntax_error() -> None:
    """The place of a syntax error is not a call."""
    found = parse_traceback(printed(caught(lambda: compile("a b", "<rules>", "exec"))))

    assert found is not None
    assert found.type == "SyntaxError"
    assert [frame.function for frame in found.frames] == ["caught", "<lambda>"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are of Python 3.11")
def test_groups() -> None:
    """Members, nested groups and a member's own cause, in order."""
    group = eval(  # the name does not exist in Python 3.10
        'ExceptionGroup("two", [first, TypeError("t"), ExceptionGroup("nested", [OSError("o"), KeyError("k")])])',
        {"first": caught(chained)},
    )
    cause = ("ValueError", "first\nsecond", ["chained", "inner"], None, [])

    assert outline(parse_traceback(printed(group))) == (
        "ExceptionGroup",
        "two (3 sub-exceptions)",
        [],
        None,
        [
            ("KeyError", "'outer'", ["caught", "chained"], ("cause", cause), []),
            ("TypeError", "t", [], None, []),
            (
                "ExceptionGroup",
                "nested (2 sub-exceptions)",
                [],
                None,
                [("OSError", "o", [], None, []), ("KeyError", "'k'", [], None, [])],
            ),
        ],
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups are of Python 3.11")
def test_group_that_causes_another() -> None:
    """A group below another exception, with a note."""

    def act() -> None:
        group = eval('ExceptionGroup("g", [ValueError("v")])')
        try:
            raise group
        except Exception as error:
            error.add_note("a note\nof two lines")
            raise RuntimeError("late") from error

    group = (
        "ExceptionGroup",
        "g (1 sub-exception)\na note\nof two lines",
        ["act"],
        None,
        [("ValueError", "v", [], None, [])],
    )
    assert outline(parse_traceback(printed(caught(act)))) == (
        "RuntimeError", "late", ["caught", "act"], ("cause", group), [],
    )  # fmt: skip


FRAME = '  File "/app/a.py", line 3, in f\n    g()\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("ValueError: x", None),
        ("not a stack at all", None),
        ("Traceback (most recent call last):", None),
        (f"{FRAME}ValueError: x", ("ValueError", "x", ["f"], None, [])),
        (f"Traceback (most recent call last):\n{FRAME}", ("", "", ["f"], None, [])),
        (f"Traceback (most recent call last):\n{FRAME}a.b.C", ("a.b.C", "", ["f"], None, [])),
        (f"Traceback (most recent call last):\n{FRAME}a.C: \n", ("a.C", "", ["f"], None, [])),
        (f"log prefix\nTraceback (most recent call last):\n{FRAME}E: x\r\n", ("E", "x", ["f"], None, [])),
        (f"Traceback (most recent call last):\n{FRAME}<exception str() failed>", ("", "", ["f"], None, [])),
        (
            f'Traceback (most recent call last):\n{FRAME}E: see\nTraceback (most recent call last):\n  File "x"\n',
            ("E", 'see\nTraceback (most recent call last):\n  File "x"', ["f"], None, []),
        ),
        ('  File "a.py", line 99999999999999, in f\nE', ("E", "", ["f"], None, [])),
    ],
)
def test_damaged(text: str, expected: object) -> None:
    """What is missing is left out; what is there is read."""
    assert outline(parse_traceback(text)) == expected


def test_remote_traceback_in_a_message() -> None:
    """Multiprocessing prints the child's traceback as the message of the cause, in quotes."""
    text = (
        'multiprocessing.pool.RemoteTraceback: \n"""\nTraceback (most recent call last):\n'
        f"{FRAME}ValueError: x\n\nDuring handling of the above exception, another exception occurred:\n\nmore\n"
        '"""\n\nThe above exception was the direct cause of the following exception:\n\n'
        f"Traceback (most recent call last):\n{FRAME}ValueError: x"
    )

    found = parse_traceback(text)

    assert found is not None
    assert (found.type, found.relation) == ("ValueError", "cause")
    assert found.cause is not None
    assert found.cause.cause is None


@pytest.mark.parametrize(
    "text",
    [
        FRAME * 50_000,
        f"{FRAME}{'^' * 400_000}x",
        'File "' * 80_000,
        f"{FRAME}{'a' * 400_000}: {'b' * 100_000}",
        "  + Exception Group Traceback (most recent call last):\n"
        + FRAME
        + "  +-+---------------- 1 ----------------\n" * 9_000,
        "During handling of the above exception, another exception occurred:\nE: x\n" * 9_000 + FRAME,
    ],
    ids=["frames", "markers", "quotes", "long line", "nesting", "chain"],
)
@pytest.mark.timeout(20)
def test_hostile(text: str) -> None:
    """Huge and nested texts neither raise nor hang."""
    parse_traceback(text)
