"""`otel-posthog rules collector-filter`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from inline_snapshot import snapshot

from otel_posthog.cli.main import main

PAID = """
rules:
  - name: "paid: $5 'or' more"
    match: {name: {regex: "^pay \\\\d+\\\\$$"}}
    capture: paid
"""
OTHER = "rules: [{name: other, match: {kind: log, name: other}, capture: other}]"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two rules files and a gateway with a project for each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "paid.yaml").write_text(PAID)
    (tmp_path / "other.yaml").write_text(OTHER)
    (tmp_path / "bridge.yaml").write_text(
        "projects:\n"
        "  shop: {host: https://eu.i.posthog.com, key: {env: NOT_SET_HERE}, rules: paid.yaml}\n"
        "  till: {host: https://eu.i.posthog.com, key: {file: /nowhere}, rules: [other.yaml]}\n"
    )
    return tmp_path


def test_conditions(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--format conditions` prints bare OTTL, one condition a line, for one signal where asked."""
    assert (
        main(["rules", "collector-filter", "--rules", "paid.yaml", "--format", "conditions", "--signal", "traces"]) == 0
    )
    tag = r'"[\\[,]\"(?:(?:posthog\\.event|posthog\\.unset|posthog\\.alias|posthog\\.anon_distinct_id|posthog\\.'
    output = capsys.readouterr().out
    assert tag in output
    assert [line for line in output.splitlines() if "posthog" not in line] == snapshot(
        [
            "# span: rule \"paid: $5 'or' more\" (and some more: OTTL cannot tell exactly)",
            'IsMatch(span.name, "\\\\Apay [0-9\\\\x{80}-\\\\x{10FFFF}]+\\\\$\\\\n?\\\\z") or Len(span.name) > 4096',
            "# span_event: exception",
            'spanevent.name == "exception"',
            "# span_event: feature flag event",
            'IsMatch(spanevent.name, "\\\\Afeature_flag")',
        ]
    )


def test_processors(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By default it prints processors; a `$` is written as the Collector reads it, in names of rules too."""
    assert main(["rules", "collector-filter", "--rules", "paid.yaml", "--default-rules"]) == 0
    output = capsys.readouterr().out
    processors = yaml.safe_load(output)["processors"]
    assert list(processors) == ["transform/product_mark", "filter/product", "transform/product_unmark"]
    (group,) = processors["filter/product"]["trace_conditions"]
    assert group["context"] == "span"
    assert r"]+\\$$\\n?\\z" in group["conditions"][0]
    assert "'default: page view'" in output


def test_one_signal(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--signal logs` leaves out what only traces need."""
    assert main(["rules", "collector-filter", "--signal", "logs"]) == 0
    processors = yaml.safe_load(capsys.readouterr().out)["processors"]
    assert list(processors) == ["filter/product"]
    assert "trace_conditions" not in processors["filter/product"]


def test_of_a_gateway(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--gateway` takes the rules of all its projects; the keys and tokens that it names need not be here."""
    assert main(["rules", "collector-filter", "--gateway", "bridge.yaml"]) == 0
    together = capsys.readouterr().out
    assert main(["rules", "collector-filter", "--rules", "paid.yaml", "other.yaml"]) == 0
    assert capsys.readouterr().out == together


@pytest.mark.parametrize(
    ("bridge", "message"),
    [
        ("projects: {shop: {rules: [nowhere.yaml]}}", "nowhere.yaml: the rules file cannot be read"),
        (
            "projects: {shop: {rules: [{a: 1}]}}",
            "`projects.shop.rules` (bridge.yaml:1): it is no path",
        ),
        ("projects: [", "bridge.yaml:1: this is not YAML"),
        ("projects: {shop: {rules: [bad.yaml]}}", "`rule` (bad.yaml:1): unknown key"),
    ],
)
def test_what_is_wrong_is_said(bridge: str, message: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there or wrong ends with 1, and the message names it; nothing is printed for a Collector."""
    (files / "bridge.yaml").write_text(bridge)
    (files / "bad.yaml").write_text("rule: []")
    assert main(["rules", "collector-filter", "--gateway", "bridge.yaml"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert message in output.err


def test_both_sources(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--gateway` beside `--rules` is wrong usage."""
    assert main(["rules", "collector-filter", "--gateway", "bridge.yaml", "--rules", "paid.yaml"]) == 2
    assert "leave out --rules" in capsys.readouterr().err
