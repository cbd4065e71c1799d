"""Writes `docs/catalogue.md` from the rows and from the marks of the tests: `python tests/catalogue/write.py`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.catalogue.rows import BEYOND, ROWS  # noqa: E402 - found by path when run as a program

PAGE = ROOT / "docs" / "catalogue.md"


class Found(NamedTuple):
    """A test that carries the number of a row."""

    path: str
    line: int
    name: str
    soak: bool


def found() -> dict[int, list[Found]]:
    """The tests of each row, read from the source, so that nothing has to be importable here."""
    rows: dict[int, list[Found]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        everywhere = [mark for node in tree.body if _is_pytestmark(node) for mark in _marks(node)]
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            marks = [*everywhere, *(mark for decorator in node.decorator_list for mark in _marks(decorator))]
            soak = any(name == "soak" for name, _ in marks)
            for number in sorted({number for name, numbers in marks if name == "row" for number in numbers}):
                place = path.relative_to(ROOT).as_posix()
                rows.setdefault(number, []).append(Found(place, node.lineno, node.name, soak))
    return rows


def _is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    )


def _marks(tree: ast.AST) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`pytest.mark.NAME` and `pytest.mark.NAME(1, 2)` anywhere in `tree`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_mark(node.func):
            assert isinstance(node.func, ast.Attribute)
            yield node.func.attr, tuple(arg.value for arg in node.args if isinstance(arg, ast.Constant))
        elif isinstance(node, ast.Attribute) and _is_mark(node):
            yield node.attr, ()


def _is_mark(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "mark"
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id == "pytest"
    )


def page() -> str:
    """The whole page."""
    tests = found()
    lines = [
        "# The catalogue of faults",
        "",
        "What is done to the way from a sender through Collector and gateway to PostHog, what must come of it, and",
        "which tests show it. *CI* runs in `make test`, *soak* in `make soak`. Written by `tests/catalogue/write.py`",
        "from the marks of the tests.",
        "",
        "| # | What happens | What must come of it | Shown by |",
        "| --- | --- | --- | --- |",
    ]
    for row in ROWS:
        shown = _shown(tests.get(row.number, []))
        beyond = BEYOND.get(row.number)
        if beyond:
            shown = f"{shown}<br>not shown: {beyond}" if shown else f"not shown: {beyond}"
        lines.append(f"| {row.number} | {_cell(row.test)} | {_cell(row.expected)} | {shown} |")
    return "\n".join(lines) + "\n"


def _shown(tests: list[Found]) -> str:
    groups: dict[tuple[bool, str], int] = {}
    for test in tests:
        groups[test.soak, test.path] = groups.get((test.soak, test.path), 0) + 1
    return "<br>".join(
        f"{'soak' if soak else 'CI'}: [{Path(path).name}](../{path}) ({count})"
        for (soak, path), count in sorted(groups.items())
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
