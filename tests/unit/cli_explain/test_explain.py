"""`otel-posthog explain` on the recorded example, and on files that are not what they should be."""

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsPartialDict, IsStr
from inline_snapshot import snapshot

from otel_posthog.cli.explain_text import Terminal, json_lines
from otel_posthog.cli.main import main

ROOT = Path(__file__).parents[3]
FILE, RULES = "examples/recorded/shop.jsonl", "examples/recorded/rules.yaml"


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented commands are run where they are documented for: in the root of the repository."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "100")


def explain(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    """The output of the command."""
    assert main(["explain", *args]) == code
    return capsys.readouterr().out


def items(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> list[dict[str, Any]]:
    """The output of `--json`."""
    return [json.loads(line) for line in explain(capsys, *args, "--json", code=code).splitlines()]


def test_documented_output(capsys: pytest.CaptureFixture[str]) -> None:
    """`docs/explain.md` shows what the command prints, byte for byte (the version aside)."""
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- begin output.*?-->\n\n```text\n(.*?)```\n\n<!-- end output -->", text, re.DOTALL)
    output = explain(capsys, FILE, "--rules", RULES, "--only", "captured")

    assert found is not None
    assert found[1] == re.sub(r'("\$?lib_version"|\$lib_version) +"[^"]+"', r'\1  "…"', output)


def test_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    """What is dropped takes a line each, with the reason; the totals count everything."""
    assert explain(capsys, FILE, "--rules", RULES, "--only", "dropped") == snapshot(
        """\
○ span       GET /healthz · server · 0.6 ms · shop → dropped by rule default: probe
○ span       INSERT shop · client · 8.0 ms · shop → not_tagged: no posthog.* attribute, no exception, no rule matches
○ log        mail queue is empty · INFO · shop → not_tagged: no posthog.* attribute, no exception, no rule matches

8 items: 5 captured, 3 dropped
  events     $pageview ×1 · order paid ×1 · $identify ×1 · $groupidentify ×1 · api_request ×1
             $exception ×1 · receipt sent ×1
  people     c-42 ×4 · c-57 ×2 · visitor-7f3a ×1
  dropped    not_tagged ×2 · rule ×1
  rules      default: page view ×1 · order ×1 · default: probe ×1 · default: api request ×1
  unused     refund
  1 metrics request left aside: metrics never become events
"""
    )


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`--json` has one object per item and the totals last."""
    *found, last = items(capsys, FILE, "--rules", RULES)

    assert [
        (item["signal"]["kind"], item["signal"]["name"], item["rule"], item["reason"]) for item in found
    ] == snapshot(
        [
            ("span", "GET /products/<sku>", "default: page view", None),
            ("span", "POST /checkout", "order", None),
            ("span", "GET /healthz", "default: probe", "rule"),
            ("span", "POST /checkout", "default: api request", None),
            ("span_event", "exception", "", None),
            ("span", "INSERT shop", "", "not_tagged"),
            ("log", "", "", None),
            ("log", "", "", "not_tagged"),
        ]
    )
    assert found[1]["events"][0] == IsPartialDict(
        event="order paid",
        distinct_id="c-42",
        uuid=IsStr(regex="[0-9a-f-]{36}"),
        timestamp="2026-11-20T09:30:02.582Z",
        properties=IsPartialDict(
            {"total": 59.9, "currency": "EUR", "$set": {"plan": "pro"}, "$groups": {"company": "acme"}}
        ),
    )
    assert last["totals"] == IsPartialDict(items=8, captured=5, dropped={"not_tagged": 2, "rule": 1}, rejected=0)


def test_every_form_gives_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same recording as JSON lines, in gzip, and line by line from several files, gives the same events."""
    zipped = tmp_path / "shop.jsonl.gz"
    zipped.write_bytes(gzip.compress(Path(FILE).read_bytes()))
    lines = []
    for number, line in enumerate(Path(FILE).read_text(encoding="utf-8").splitlines()):
        lines.append(tmp_path / f"{number}.json")
        lines[-1].write_text(line, encoding="utf-8")
    whole = items(capsys, FILE, "--rules", RULES)

    assert items(capsys, str(zipped), "--rules", RULES) == whole
    assert items(capsys, *map(str, lines), "--rules", RULES) == whole


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path(FILE).read_bytes())))

    assert items(capsys, "-")[-1]["totals"]["items"] == 8


def test_without_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """Without rules only tags and exceptions become events."""
    assert items(capsys, FILE)[-1]["totals"]["events"] == {"$exception": 1, "receipt sent": 1}


def test_rules_from_the_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `--rules` the file is the one that the bridge would load; a flag beats the variable."""
    monkeypatch.setenv("OTEL_POSTHOG_CONFIG", RULES)

    assert items(capsys, FILE)[-1]["totals"]["events"]["order paid"] == 1

    monkeypatch.setenv("OTEL_POSTHOG_CONFIG", "nowhere.yaml")

    assert items(capsys, FILE, "--rules", RULES)[-1]["totals"]["events"]["order paid"] == 1


def test_default_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """`--default-rules` needs no file."""
    assert items(capsys, FILE, "--default-rules")[-1]["totals"]["events"] == {
        "$pageview": 1,
        "api_request": 2,
        "$exception": 1,
        "receipt sent": 1,
    }


def test_bad_rules(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Rules that cannot be loaded end the command with their message."""
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{name: x, match: {name: y}, captur: z}]")

    assert main(["explain", FILE, "--rules", str(path)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"`rules[0].captur` ({path}:1): unknown key `captur`. Did you mean `capture`?")


def test_bad_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A file or line that cannot be read is named; the others go on, and the exit code is 1."""
    other = tmp_path / "other.txt"
    other.write_text("hello")
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text('{"level": "info"}\n' + Path(FILE).read_text(encoding="utf-8").splitlines()[1])

    assert main(["explain", "nowhere.json", str(other), str(mixed), "--only", "captured"]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "nowhere.json: No such file or directory",
        f"{other}: the file is neither OTLP/JSON nor OTLP protobuf",
        f"{mixed}, line 1: no resourceSpans or resourceLogs in it: this is not OTLP/JSON",
    ]
    assert "2 items: 1 captured, 1 dropped, 3 unreadable\n" in output.out


def test_rejected_items(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A span of the wrong shape is named, its neighbours are explained."""
    path = tmp_path / "bad.json"
    spans = [{"name": "good", "kind": 1}, {"name": 5}]
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}))

    assert explain(capsys, str(path)) == (
        "○ span       good · internal → not_tagged: no posthog.* attribute, no exception, no rule matches\n"
        "\n"
        f"✗ {path}: 1 item could not be read\n"
        "             spans: name is not a string\n"
        "\n"
        "1 item: 0 captured, 1 dropped, 1 rejected\n"
        "  dropped    not_tagged ×1\n"
    )


def test_empty_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An empty file has no items."""
    path = tmp_path / "empty.json"
    path.touch()

    assert explain(capsys, str(path)) == "0 items: 0 captured, 0 dropped\n"


@pytest.mark.parametrize("color", [False, True])
def test_colours(color: bool) -> None:
    """Colours are there only where they were asked for; what a recording brings of its own never reaches a terminal."""
    stream = io.StringIO()
    terminal = Terminal(stream, color=color)
    terminal.line(terminal.paint("paid\x1b[2J", 1, 32) + " \x07\x1b]0;title\x9b31m\u202e\n\x7f ✓")

    paid = "\x1b[1;32mpaid␛[2J\x1b[0m" if color else "paid␛[2J"
    assert stream.getvalue() == f"{paid} ␇␛]0;title\ufffd31m\ufffd␊␡ ✓\n"


def test_json_lines() -> None:
    """JSON is opened only where it does not fit; what is printed is still the same JSON."""
    value = {"a": [1, 2, 3], "b": {"c": "x" * 30, "d": []}, "e": [{"f": 1}, "y" * 30]}
    lines = json_lines(value, 40)

    assert json.loads("\n".join(lines)) == value
    assert lines == snapshot(
        [
            "{",
            '  "a": [1, 2, 3],',
            '  "b": {',
            '    "c": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",',
            '    "d": []',
            "  },",
            '  "e": [',
            '    {"f": 1},',
            '    "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"',
            "  ]",
            "}",
        ]
    )
    assert json_lines({"a": 1}, 40) == ['{"a": 1}']


def test_flag_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    """A flag's evaluation says that it is one; that of PostHog's own provider says who tells it."""
    output = explain(capsys, str(ROOT / "tests/golden/convert/flag_evaluations/input.json"))

    assert output.count("none: it is the evaluation of a feature flag\n  event      $feature_flag_called") == 6
    assert "→ reported_by_posthog: PostHog's own flag provider sends the event itself\n" in output
    assert "→ invalid: it cannot be converted\n" in output
