"""Finds dead links in every Markdown file: relative paths and `#anchors`. `make lint` runs it; exits 1 with a list."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


def anchors(markdown: str) -> set[str]:
    """The anchors that the usual renderers give to the headings of a page."""
    found: set[str] = set()
    for line in FENCE.sub("", markdown).splitlines():
        heading = re.match(r"#{1,6}\s+(.*)", line)
        if heading:
            text = re.sub(r"[`*]|\[|\]\([^)]*\)", "", heading.group(1)).strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", text).replace(" ", "-"))
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
    return found


def dead_links(root: Path = ROOT) -> list[str]:
    """One line for each link that leads nowhere."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    dead: list[str] = []
    for name in listed:
        page = root / name
        if not page.is_file():
            continue
        text = page.read_text(encoding="utf-8")
        for match in LINK.finditer(FENCE.sub("", text)):
            target = match.group(1) or match.group(2)
            if re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                dead.append(f"{name}: {target}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                dead.append(f"{name}: {target}: no such heading")
    return dead


if __name__ == "__main__":
    problems = dead_links()
    print("\n".join(problems) or "links: all alive")
    sys.exit(bool(problems))
