"""Which regular expressions are refused: those that can take exponential time, and no others."""

from __future__ import annotations

import re
import sys

import pytest

from otel_posthog.rules.pattern import slow_part, to_search

EXPONENTIAL = [
    "(a+)+b", "(a*)*b", "(a|a)*b", "(a|ab|b)*c", "(a?a?)*b", "(a{1,2})*b", "(a{1,30}){1,30}b", r"(\w|\d+)*-",
    r"(\w+\s?)*$", "(?i:(a|A))*b(A|a+)*c", "(.|x)*(.+)*y", "((ab|a)(c|bc)?)*d", "(?=(a+)+b)x", r"([a-c]|[c-e]x?|cx)*!",
    "(a|b|ab)*c", "(x+x+)+y", "(?:(?:a|aa)+)$",
]  # fmt: skip
FINE = [
    "a+b", "^/api/v[0-9]+/", "(ab)*", r"(\w+\.)*com", r"(\d{1,3}\.){3}\d{1,3}", "(foo|far|bar)*x", ".*foo.*bar",
    "a*a*b", r"^(?:/[a-z0-9-]+)+$", r"order \d+ paid", "(a|b)*c", r"(\w|\d)*-", "(ab?)*c", "(a|bc|bd)*e", "",
    "(?i)^GET /", r"(['\"]).*\1", r"(?<=x)y+", "[^/]+/[^/]+", r"\d{4}-\d{2}-\d{2}(T[\d:]+)?", "((a)|(b))+", "(a{2})*b",
    "x{0,1000}y",
    r"^(GET|POST) /(cart|orders)(/\d+)?$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", EXPONENTIAL)
def test_exponential_patterns_are_refused(pattern: str) -> None:
    """Each of them hangs on some text of a few dozen characters."""
    re.compile(pattern)
    assert slow_part(pattern) == "a repeat can read the same text in several ways"


@pytest.mark.parametrize("pattern", FINE)
def test_ordinary_patterns_are_taken(pattern: str) -> None:
    """What people write is not in the way: nested repeats with something between them, lists of words."""
    re.compile(pattern)
    assert slow_part(pattern) == ""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="possessive repeats are of Python 3.11")
def test_possessive_repeats_are_taken() -> None:
    """They never go back."""
    assert slow_part("(?:a++)*+b") == ""


def test_a_huge_pattern_is_decided_in_time() -> None:
    """A thousand characters are no problem for the check itself."""
    assert slow_part("(" + "|".join(f"word{number}" for number in range(110)) + ")*") == ""
    assert slow_part("(" + "a?" * 450 + ")*b") != ""


@pytest.mark.parametrize(
    ("written", "searched"),
    [
        (".*foo.*bar", "foo.*bar"),
        (".*?foo", "foo"),
        (".*", ""),
        (".*+foo", ".*+foo"),
        ("^.*foo", "^.*foo"),
        ("a.*", "a.*"),
    ],
)
def test_a_leading_anything_is_left_out(written: str, searched: str) -> None:
    """`re.search` finds the same without it, and does not try it at every character."""
    assert to_search(written) == searched
    for text in ("", "xfooxbar", "foo\nbar", "a", "bar foo"):
        if sys.version_info >= (3, 11) or "*+" not in written:
            assert bool(re.search(written, text)) == bool(re.search(searched, text))
