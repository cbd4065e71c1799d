"""Recorded OTLP in, whole events out: one folder of `tests/golden/convert` for each case.

`input.json` is OTLP/JSON as an SDK or a Collector sends it; `rules.yaml` and `config.json` are optional;
`expected.json` is every decision, complete. After a wanted change, `UPDATE_GOLDEN=1 pytest tests/golden` writes them
anew: read the difference before it is committed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.gateway.decode.request import JSON, decode_logs, decode_traces
from otel_posthog.model import Decision, Signal
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text
from otel_posthog.version import __version__

CASES = sorted(path.parent for path in Path(__file__).with_name("convert").glob("*/input.json"))


def signals(case: Path) -> list[Signal]:
    """The items of the recorded request."""
    body = (case / "input.json").read_bytes()
    decode = decode_traces if b'"resourceSpans"' in body else decode_logs
    return decode(body, content_type=JSON)


def rules(case: Path) -> RuleSet:
    """The case's rules, none where it has none."""
    path = case / "rules.yaml"
    return parse_text(path.read_text(), file=path.name) if path.exists() else RuleSet()


def plain(decision: Decision) -> dict[str, Any]:
    """A decision as JSON, the library's version taken out, and the weight, which is no part of what is sent."""
    whole = asdict(decision)
    for event in whole["events"]:
        del event["weight"]
        if event["properties"].get("$lib_version") == __version__:
            event["properties"]["$lib_version"] = "VERSION"
    return json.loads(json.dumps(whole, allow_nan=False))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    """Every decision of the case equals the recorded one, whole."""
    config = json.loads((case / "config.json").read_text()) if (case / "config.json").exists() else {}
    converter = Converter(ConvertConfig(**config), rules(case))

    decisions = [plain(converter.convert(signal)) for signal in signals(case)]

    expected = case / "expected.json"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(json.dumps(decisions, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert decisions == json.loads(expected.read_text())


def test_cases_exist() -> None:
    """The folder was found: a wrong path would silently test nothing."""
    assert len(CASES) >= 8
