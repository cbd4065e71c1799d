"""Writes the parts of the documentation that come from the code: `python tests/docs/write.py`.

A generated part stands between `<!-- generated: NAME -->` and `<!-- /generated -->`. Tests compare the pages with what
this would write, so neither can drift alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from otel_posthog.config.environment import ELSEWHERE, GATEWAY, OURS, STANDARD, Variable
from otel_posthog.config.values import plain

ROOT = Path(__file__).resolve().parents[2]
PART = re.compile(r"(<!-- generated: (?P<name>[^>]+?) -->\n).*?(<!-- /generated -->)", re.DOTALL)

# Stages of a set-up, for `.env.example`: what is written there uncommented is what nearly everybody sets.
ESSENTIAL = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.i.posthog.com/i",
    "OTEL_EXPORTER_OTLP_TOKEN": "phc_your_project_api_key",
    "OTEL_SERVICE_NAME": "my-service",
}


def table(rows: tuple[Variable, ...]) -> str:
    """A Markdown table of variables."""
    lines = ["| Variable | Type | Default | Fills | Meaning |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        kind = ", ".join(f"`{choice}`" for choice in row.choices) if row.choices else row.kind
        limits = f" {_limits(row)}" if row.kind in ("int", "seconds") else ""
        default = f"`{row.default}`" if row.default else "–"
        filled = "–" if row in ELSEWHERE else "the gateway" if row in GATEWAY else "the gate and the lanes"
        setting = f"`{row.setting}`" if row.setting else filled
        secret = " **Secret.**" if row.secret else ""
        lines.append(f"| `{row.name}` | {kind}{limits} | {default} | {setting} | {row.meaning}{secret} |")
    return "\n".join(lines) + "\n"


def _limits(row: Variable) -> str:
    return f"{plain(row.minimum)}–{plain(row.maximum)}" if row.maximum else f"≥ {plain(row.minimum)}"


def env_example() -> str:
    """The text of `.env.example`."""
    lines = [
        "# Every environment variable that otel-posthog reads. Written by tests/docs/write.py, checked by a test.",
        "# The first two switch it on; blank means unset. Write no quotes: some loaders keep them.",
        "",
    ]
    lines.extend(f"{name}={value}" for name, value in ESSENTIAL.items())
    parts = (
        ("OpenTelemetry's own", STANDARD),
        ("otel-posthog's own", (*OURS, *ELSEWHERE)),
        ("otel-posthog gateway's own", GATEWAY),
    )
    for title, rows in parts:
        lines.extend(["", f"# --- {title} " + "-" * (100 - len(title))])
        for row in rows:
            if row.name not in ESSENTIAL:
                lines.extend(["", f"# {row.meaning}", f"# {row.name}={row.default}"])
    return "\n".join(lines) + "\n"


def help_of(command: str) -> str:
    """`--help` of the program ("") or of one command, in a Markdown block."""
    from otel_posthog.cli.main import build_parser

    return f"```text\n{build_parser(command, width=100).format_help()}```\n"


def decisions() -> str:
    """A list of all decisions by the titles of their pages."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    titles = ((page.name, page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")) for page in pages)
    return "".join(f"- [{title}]({name})\n" for name, title in titles)


def generated(name: str) -> str:
    """The text of one generated part.

    Args:
        name: `variables` and `ours`, `standard`, `gateway` or `elsewhere`; `bridge`, the tables of `bridge.yaml`;
            `help` and a command; `decisions`.
    """
    kind, _, rest = name.partition(" ")
    if kind == "variables":
        return table({"ours": OURS, "standard": STANDARD, "gateway": GATEWAY, "elsewhere": ELSEWHERE}[rest])
    if kind == "decisions":
        return decisions()
    if kind == "bridge":
        from otel_posthog.gateway.configuration.bridge_schema import bridge_reference

        return bridge_reference()
    if kind == "help":
        return help_of(rest)
    raise ValueError(name)


def rewritten(page: str) -> str:
    """A page with all its generated parts as they should be."""
    return PART.sub(lambda found: found.group(1) + generated(found["name"]) + found.group(3), page)


def files() -> dict[Path, str]:
    """Every file with generated parts, and the text that it should have."""
    found = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "docs" / "decisions" / "README.md"]
    pages = {path: rewritten(path.read_text(encoding="utf-8")) for path in found}
    return {**pages, ROOT / ".env.example": env_example()}


if __name__ == "__main__":
    for path, text in files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")
