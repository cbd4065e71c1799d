"""`otel-posthog rules check | list | schema`."""

import json
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from otel_posthog.cli.main import main

ROOT = Path(__file__).parents[3]
TESTDATA = Path(__file__).with_name("testdata")


def test_check_good(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A good file ends with 0 and says how many rules it has."""
    monkeypatch.chdir(TESTDATA)

    assert main(["rules", "check", "good_full.yaml"]) == 0
    assert capsys.readouterr().out.startswith("good_full.yaml: 4 rules, digest ")


def test_check_bad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad file ends with 1 and its message on standard error."""
    monkeypatch.chdir(TESTDATA)

    assert main(["rules", "check", "bad_operator.yaml"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (TESTDATA / "bad_operator.expected").read_text(encoding="utf-8")


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """`schema` prints the committed JSON Schema."""
    assert main(["rules", "schema"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "rules.schema.json").read_text(encoding="utf-8")
    assert (
        json.loads((ROOT / "docs" / "rules.schema.json").read_text(encoding="utf-8"))["title"] == "otel-posthog rules"
    )


def test_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` shows the rules in order, one per line; what they do wraps under itself."""
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["rules", "list", str(TESTDATA / "good_full.yaml")]) == 0
    assert capsys.readouterr().out == snapshot("""\
order         span|span_event, 10 conditions       capture 'order {shop.order.state}', as
                                                   {user.id|enduser.id}, set plan, set once
                                                   first_order, unset trial_ends, group company,
                                                   group set company, alias {shop.legacy}, merge
                                                   {shop.visitor}
job started   internal|consumer span, 1 condition  capture 'job started' at the start
failed spans  span, 1 condition                    drop
warnings      log, 2 conditions                    capture 'warned'
""")


FUNCTIONS = """
rules:
  - {name: paid, match: {name: x}, capture: order paid}
functions:
  "shop.billing:charge": {event: "charge {args.kind|args.type}", set: {plan: result.plan}, distinct_id: args.user}
  "shop.reports:build": {event: report started, on: start}
"""


def test_functions_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked for in the current folder, and nothing is imported; another app's may not be here at all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "misspelt_shop.py").write_text("raise SystemExit\n\ndef charge(): pass\n")
    path = Path("rules.yaml")
    path.write_text("functions:\n  misspelt_shop:charge: charged\n  q_x_j_z:charge: charged\n")
    assert main(["rules", "check", str(path)]) == 0
    assert capsys.readouterr().err == ("rules.yaml, line 3: q_x_j_z:charge: there is no module q_x_j_z in sys.path\n")

    path.write_text("functions:\n  misspelt_shop:chrage: charged\n")
    assert main(["rules", "check", str(path)]) == 1
    assert capsys.readouterr().err == (
        "rules.yaml, line 2: misspelt_shop:chrage: there is no chrage; did you mean charge?\n"
    )


def test_functions(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` counts the events of functions, `list` shows them after the rules."""
    monkeypatch.setenv("COLUMNS", "120")
    path = tmp_path / "rules.yaml"
    path.write_text(FUNCTIONS)
    assert main(["rules", "check", str(path)]) == 0
    assert capsys.readouterr().out.startswith(f"{path}: 1 rule, 2 events of functions, digest ")
    assert main(["rules", "list", str(path)]) == 0
    assert capsys.readouterr().out == snapshot("""\
paid                 span, 1 condition    capture 'order paid'
shop.billing:charge  calls, success       capture 'charge {args.kind|args.type}', as {args.user}, set plan
shop.reports:build   calls, at the start  capture 'report started'
""")


def test_list_default_rules(capsys: pytest.CaptureFixture[str]) -> None:
    """`list --default-rules` needs no file; `list` alone asks for one."""
    assert main(["rules", "list", "--default-rules"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8
    assert main(["rules", "list"]) == 2


@pytest.mark.parametrize("path", ["examples/shop/pyproject.toml", "examples/recorded/rules.yaml"])
def test_examples_load(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The rules of the examples are good."""
    monkeypatch.chdir(ROOT)

    assert main(["rules", "check", path]) == 0
