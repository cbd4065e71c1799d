"""The documents that come from the code say what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from otel_posthog.config.environment import VARIABLES

ROOT = Path(__file__).resolve().parents[3]


def writer() -> ModuleType:
    """The script that writes the documents."""
    spec = importlib.util.spec_from_file_location("docs_writer", ROOT / "tests/docs/write.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_page_is_as_the_table() -> None:
    """docs/configuration.md holds exactly the two tables; if not: python tests/docs/write.py."""
    page = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")

    assert writer().rewritten(page) == page
    rows = re.findall(r"^\| `(OTEL_\w+)`(?: \| [^|]+){4}", page, re.MULTILINE)
    assert sorted(row.name for row in VARIABLES) == sorted(rows)


def test_the_example_environment_is_as_the_table() -> None:
    """.env.example names every variable that is read, each once, and nothing else but the service's name."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert writer().env_example() == text
    names = re.findall(r"^(?:# )?(OTEL_\w+)=", text, re.MULTILINE)
    assert sorted(names) == sorted([*(row.name for row in VARIABLES), "OTEL_SERVICE_NAME"])


def test_every_name_that_is_read_is_in_the_table() -> None:
    """No module of the package reads a variable of OpenTelemetry's exporters or ours that the table does not know."""
    read = {
        name
        for path in (ROOT / "otel_posthog").rglob("*.py")
        for name in re.findall(r"[\"'](OTEL_(?:POSTHOG|EXPORTER_OTLP)_[A-Z_]*[A-Z])[\"']", path.read_text("utf-8"))
    }

    assert read - {row.name for row in VARIABLES} == set()
