"""Writes what is generated from the rule tables: `python -m tests.unit.rules.write_generated` from the root."""

import json
import re
from pathlib import Path

from otel_posthog.rules.json_schema import rules_json_schema
from otel_posthog.rules.reference_docs import reference_markdown

DOCS = Path(__file__).parents[3] / "docs"


def main() -> None:
    """Writes `docs/rules.schema.json` and the reference part of `docs/rules.md`."""
    (DOCS / "rules.schema.json").write_text(json.dumps(rules_json_schema(), indent=2) + "\n", encoding="utf-8")
    page = DOCS / "rules.md"
    text = page.read_text(encoding="utf-8")
    pattern = r"(<!-- begin reference.*?-->\n).*(\n<!-- end reference -->)"
    parts = re.search(pattern, text, re.DOTALL)
    if parts is None:
        raise SystemExit(f"{page} has no place for the reference")
    page.write_text(
        text[: parts.start()] + parts[1] + "\n" + reference_markdown() + parts[2] + text[parts.end() :],
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
