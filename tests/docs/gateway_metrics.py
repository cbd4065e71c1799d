"""Writes the gateway's metrics into docs/observability.md: `python -m tests.docs.gateway_metrics`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from otel_posthog.gateway.admin import names

PAGE = Path(__file__).resolve().parents[2] / "docs" / "observability.md"


def rows() -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """Name, then instrument, unit, attributes and meaning."""
    for metric in names.GATEWAY_METRICS:
        attributes = ", ".join(f"`{each}`" for each in metric.attributes) or "-"
        yield metric.name, (metric.instrument.value, metric.unit, attributes, metric.description)


def table() -> str:
    """The table in Markdown."""
    lines = ["| Name | Instrument | Unit | Attributes | Meaning |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{name}` | {instrument} | `{unit}` | {attributes} | {meaning} |"
        for name, (instrument, unit, attributes, meaning) in rows()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    part = re.compile(r"(<!-- gateway metrics -->\n).*?(<!-- /gateway metrics -->)", re.DOTALL)
    PAGE.write_text(part.sub(lambda found: found[1] + table() + found[2], text), encoding="utf-8")
