"""The catalogue is complete and its page is current."""

from __future__ import annotations

from tests.catalogue.rows import BEYOND, ROWS
from tests.catalogue.write import PAGE, found, page


def test_every_row_is_shown_or_says_why_not() -> None:
    """A row without a test needs a reason, and a mark without a row is a mistyped number."""
    numbers = {row.number for row in ROWS}
    shown = set(found())
    assert {"missing": numbers - shown - set(BEYOND), "unknown": shown - numbers} == {
        "missing": set(),
        "unknown": set(),
    }


def test_the_page_is_what_would_be_written() -> None:
    """After a change: `python tests/catalogue/write.py`."""
    assert PAGE.read_text(encoding="utf-8") == page()
