"""Takes the Python snippets out of the seed documents: `python tests/seeds/extract.py DIR` writes `snippets.json`.

The seed documents are not part of this repository. What of them runs here is kept in `snippets.json`, as it was written
there; a test compares the two where the documents are at hand (`SEED_DOCUMENTS=DIR`).

Three kinds of documents:

- Markdown with fences: blocks of `python`, and blocks of `html` that are templates.
- Rendered pages without fences: paragraphs that are Python and do something.
- A module whose indentation was lost: one row for each definition, without its code, since it is no Python.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "snippets.json"

FENCE = re.compile(r"^( *)```(\w*)\s*$")
DEFINITION = re.compile(r"^(?:def|class) (\w+)")
LETTERS = re.compile(r"^[^A-Za-z0-9]*|\s*[^\x20-\x7e]+\s*$")
"""What stands around the words of a heading: marks of Markdown, pictures, and their remains in another code page."""
NOT_PROSE = (ast.Call, ast.Dict, ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)

LATER = {
    "is_segmentation_enabled": "the gate itself: docs/configuration.md",
    "identify_user_with_segments": "segmentation",
    "calculate_engagement_metrics": "segmentation",
    "calculate_usage_patterns": "segmentation",
    "get_account_info": "segmentation",
    "UserCohorts": "cohorts",
    "get_user_cohort_description": "cohorts",
    "set_super_properties": "segmentation; `otel_posthog.super_properties` is what it claims to be",
    "should_update_segments": "segmentation (when to refresh)",
    "update_user_segments_if_needed": "segmentation (when to refresh)",
}
"""What another piece of work covers, by definition."""


@dataclass(frozen=True)
class Snippet:
    """One piece of code of a document.

    Args:
        document: Title of the document.
        heading: The heading, or the line of text, that it stands below.
        line: Number of its first line.
        kind: `python`, `template`, or `definition` (of a module whose indentation was lost).
        code: Its lines without common indentation; none for a definition.
        digest: SHA-256 of its lines.
        later: What covers it, where it does not run here.
    """

    document: str
    heading: str
    line: int
    kind: str
    code: tuple[str, ...]
    digest: str
    later: str = ""

    @property
    def name(self) -> str:
        """What tests call it."""
        return f"{self.document.split()[0]}-{self.document.split()[1]}:{self.line}"

    @property
    def text(self) -> str:
        """Its code."""
        return "\n".join(self.code) + "\n"


def snippets_of(text: str) -> list[Snippet]:
    """The snippets of one document, from its top."""
    lines = text.splitlines()
    if "Python" in lines[:25] and '"""' in lines[:25]:
        return list(_definitions(lines))
    if any(FENCE.match(line) for line in lines):
        return list(_fenced(lines))
    return list(_paragraphs(lines))


def snippets_in(folder: Path) -> list[Snippet]:
    """The snippets of all documents of a folder, by document and line."""
    return [each for path in sorted(folder.glob("*.txt")) for each in snippets_of(path.read_text(encoding="utf-8"))]


def committed() -> list[Snippet]:
    """The snippets that are kept here."""
    return [Snippet(**{**row, "code": tuple(row["code"])}) for row in json.loads(FILE.read_text(encoding="utf-8"))]


def as_json(snippets: list[Snippet]) -> str:
    """As they are kept: one line for each line of code."""
    return json.dumps([asdict(each) for each in snippets], indent=1, ensure_ascii=False) + "\n"


def _words(line: str) -> str:
    return LETTERS.sub("", line).strip()


def _snippet(document: str, heading: str, line: int, kind: str, lines: list[str]) -> Snippet:
    indent = min(len(each) - len(each.lstrip()) for each in lines if each.strip())
    code = [each[indent:] for each in lines]  # not by `textwrap.dedent`, which changes blank lines
    return Snippet(document, heading, line, kind, tuple(code), _digest("\n".join(code)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fenced(lines: list[str]) -> Iterator[Snippet]:
    document = next(_words(line) for line in lines if line.startswith("# "))
    heading = ""
    opened: tuple[int, str] | None = None
    for number, line in enumerate(lines, 1):
        fence = FENCE.match(line)
        if opened is None and fence is not None:
            opened = (number, fence[2])
        elif opened is not None and fence is not None:
            start, language = opened
            block = lines[start : number - 1]
            if language == "python":
                yield _snippet(document, heading, start + 1, "python", block)
            elif language == "html" and any("{{" in each for each in block):
                yield _snippet(document, heading, start + 1, "template", block)
            opened = None
        elif opened is None and line.startswith("#"):
            heading = _words(line)


def _paragraphs(lines: list[str]) -> Iterator[Snippet]:
    at = next(index for index, line in enumerate(lines) if re.match(r"\d+ KiB", line))
    document = next(line for line in lines[at + 1 :] if line.strip())
    heading = ""
    for first, last in _runs(lines):
        kind = _kind("\n".join(lines[first:last]))
        if kind:
            yield _snippet(document, heading, first + 1, kind, lines[first:last])
        else:
            heading = _words(lines[last - 1])


def _runs(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First line and the line behind the last one of each paragraph."""
    first = None
    for index, line in enumerate([*lines, ""]):
        if line.strip() and first is None:
            first = index
        elif not line.strip() and first is not None:
            yield first, index
            first = None


def _kind(paragraph: str) -> str:
    if paragraph.lstrip().startswith("<script>") and "{{" in paragraph:
        return "template"
    try:
        tree = ast.parse(textwrap.dedent(paragraph))
    except SyntaxError:
        return ""
    return "python" if any(isinstance(node, NOT_PROSE) for node in ast.walk(tree)) else ""


def _definitions(lines: list[str]) -> Iterator[Snippet]:
    document = next(line for line in lines if line.endswith(".py")).rpartition("/")[2] + " (module)"
    starts = [index for index, line in enumerate(lines) if DEFINITION.match(line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        name = DEFINITION.match(lines[start])[1]  # type: ignore[index]
        body = "\n".join(lines[start:end])
        yield Snippet(document, name, start + 1, "definition", (), _digest(body), LATER[name])


if __name__ == "__main__":
    FILE.write_text(as_json(snippets_in(Path(sys.argv[1]))), encoding="utf-8")
