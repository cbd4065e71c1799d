"""Text for a terminal: columns, wrapping, and colours only where somebody sees them."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import TextIO

GREEN, RED, YELLOW, DIM, BOLD = "32", "31", "33", "2", "1"
MARKS = {"ok": ("✓", GREEN), "problem": ("✗", RED), "warn": ("!", YELLOW), "off": ("–", DIM), "note": ("·", DIM)}


def colours_wanted(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether to colour: a terminal that can, and nobody said no (`NO_COLOR`, see no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def columns() -> int:
    """Width to write in: the terminal's, within reason."""
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))


class Page:
    """Collects lines.

    Args:
        colour: Use colours.
        width: Columns.
    """

    def __init__(self, *, colour: bool = False, width: int = 100) -> None:
        self._colour = colour
        self._width = width
        self._lines: list[str] = []

    def paint(self, text: str, code: str) -> str:
        """`text` in a colour, where colours are wanted."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and text else text

    def title(self, text: str) -> None:
        """The first line."""
        self._lines.append(self.paint(text, BOLD))

    def heading(self, text: str) -> None:
        """A section's name, after an empty line."""
        self._lines.extend(["", self.paint(text, BOLD)])

    def text(self, text: str, *, indent: int = 2) -> None:
        """A wrapped paragraph."""
        room = self._width - indent
        for line in textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]:
            self._lines.append(" " * indent + line)

    def rows(self, rows: Iterable[tuple[str, str, str, str]]) -> None:
        """Aligned rows of mark, name, text and source; long texts wrap under themselves."""
        listed = list(rows)
        names = max((len(name) for _, name, _, _ in listed), default=0)
        for mark, name, text, source in listed:
            sign, code = MARKS[mark]
            self._row(self.paint(sign, code), name.ljust(names), names, text, source)

    def _row(self, sign: str, name: str, names: int, text: str, source: str) -> None:
        start = 4 + names + 2
        words = f"{text}  [{source}]" if source else text
        lines = textwrap.wrap(words, self._width - start, break_long_words=False, break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            shown = line
            if source and number == len(lines) - 1 and line.endswith(f"[{source}]"):
                shown = line[: -len(source) - 2] + self.paint(f"[{source}]", DIM)
            self._lines.append(f"  {sign} {name}  {shown}" if number == 0 else " " * start + shown)

    def finding(self, mark: str, name: str, what: str, why: str, mend: str) -> None:
        """A finding, after an empty line: what, and under it why it matters and the mend, never broken by wrapping."""
        sign, code = MARKS[mark]
        self._lines.append("")
        head = textwrap.wrap(f"{name}: {what}", self._width - 4, break_long_words=False, break_on_hyphens=False)
        self._lines.append(f"  {self.paint(sign, code)} {self.paint(head[0], BOLD)}")
        self._lines.extend(f"    {self.paint(line, BOLD)}" for line in head[1:])
        self.text(why[:1].upper() + why[1:] + ("" if why.endswith(".") else "."), indent=4)
        # One line, so that it can be copied.
        self._lines.append(f"    {self.paint('→', GREEN)} {mend}")

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines) + "\n"


def stdout_page() -> Page:
    """A page for standard output as it is now."""
    import sys

    return Page(colour=colours_wanted(sys.stdout, os.environ), width=columns())
