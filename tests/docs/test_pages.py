"""What the pages say must be so: their links, rules, variables, commands and code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from otel_posthog.config import environment
from otel_posthog.gateway.configuration.bridge_schema import FILE
from otel_posthog.gateway.configuration.bridge_types import Complaints
from otel_posthog.rules.at import At
from otel_posthog.rules.document import parse_document
from otel_posthog.rules.load import parse_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    if "node_modules" not in path.parts
)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHERS_VARIABLES = re.compile(r"OTEL_(?!POSTHOG_)\w+")


def blocks(language: str) -> list[object]:
    """Every fenced block of a language, as pytest parameters named by page and number."""
    found: list[object] = []
    for page in PAGES:
        texts = [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]
        name = page.relative_to(ROOT).as_posix()
        found += [pytest.param(text, id=f"{name}-{number}") for number, text in enumerate(texts, 1)]
    return found


def written(key: str) -> list[object]:
    """Every YAML block with this key at its top."""
    top = re.compile(rf"^{key}:", re.MULTILINE)
    return [block for block in blocks("yaml") if top.search(block.values[0])]  # type: ignore[attr-defined]


def test_links_are_alive() -> None:
    """No page links to a file or heading that is not there."""
    done = subprocess.run(
        ["python3", str(ROOT / "tests/docs/links.py")], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "links: all alive\n"


@pytest.mark.parametrize("text", written("rules"))
def test_rules_on_pages_load(text: str) -> None:
    """Every rules file that a page shows is a good one."""
    assert len(parse_text(text)) > 0


@pytest.mark.parametrize("text", [*written("projects"), *written("tokens")])
def test_gateway_files_on_pages_are_read(text: str) -> None:
    """Every part of a `bridge.yaml` that a page shows has the gateway's keys and types."""
    root, _ = parse_document(text.encode(), "bridge.yaml")
    complaints = Complaints("bridge.yaml")
    FILE.read(At(root), complaints, ignore="key")  # a page may show the `key` of a project beside `tokens`
    assert complaints.found == []


@pytest.mark.parametrize("text", blocks("python"))
def test_python_on_pages_compiles(text: str) -> None:
    """Every Python block of a page is Python."""
    assert compile(text, "page", "exec") is not None


@pytest.mark.parametrize("page", [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES])
def test_our_variables_on_pages_exist(page: Path) -> None:
    """Every OTEL_POSTHOG_* variable that a page names is one that the code reads."""
    named = set(re.findall(r"OTEL_POSTHOG_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")))
    known = {variable.name for variable in environment.VARIABLES}

    assert named - known == set()


def test_readme_reaches_every_page() -> None:
    """Each page of docs/ can be reached from the README by links."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / target).resolve() for target in targets if "://" not in target]

    assert [page.relative_to(ROOT).as_posix() for page in PAGES if page not in reached] == []
