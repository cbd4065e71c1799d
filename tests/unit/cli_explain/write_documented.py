"""Writes the output in `docs/explain.md` anew: `python tests/unit/cli_explain/write_documented.py` from the root."""

import contextlib
import io
import os
import re
from pathlib import Path

from otel_posthog.cli.main import main

PAGE = Path(__file__).parents[3] / "docs" / "explain.md"
COMMAND = ["explain", "examples/recorded/shop.jsonl", "--rules", "examples/recorded/rules.yaml", "--only", "captured"]


def write() -> None:
    """Runs the documented command and puts its output between the marks, without the version."""
    os.environ["COLUMNS"] = "100"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main(COMMAND)
    shown = re.sub(r'(\$lib_version) +"[^"]+"', r'\1  "…"', output.getvalue())
    parts = re.split(
        r"(?<=-->\n)\n```text\n.*?```\n\n(?=<!-- end output)", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    before, after = parts
    PAGE.write_text(f"{before}\n```text\n{shown}```\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
