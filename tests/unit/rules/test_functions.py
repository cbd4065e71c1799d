"""The section `functions:` of the rules file."""

from pathlib import Path

from otel_posthog.config.settings import RulesConfig
from otel_posthog.rules.functions import CallReference, CallText, FunctionEvent
from otel_posthog.rules.load import load_functions, load_rules

YAML = """
functions:
  - "shop.billing:charge":
      event: "charge {args.kind|args.type}"
      when: always
      properties: {amount: args.amount, charge: result.id, source: shop, number: 7, literal: {text: result}}
      distinct_id: args.user.id
      set: {plan: result.plan}
      set_once: {label: "{args.kind}-1"}
      group: {company: args.company_id}
  - "shop.billing:Order.pay":
      - paid
      - {event: paying, on: start}
"""
TOML = """
[tool.otel_posthog.functions."shop.billing:charge"]
event = "charge completed"
properties = { amount = "args.amount" }
"""


def written(tmp_path: Path, name: str, text: str) -> RulesConfig:
    """A file with this text."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return RulesConfig(path=str(path))


def ref(text: str) -> CallReference:
    """The reference."""
    root, _, rest = text.partition(".")
    return CallReference(root, tuple(rest.split(".")) if rest else ())


def one(text: str) -> CallText:
    """A text that is one reference."""
    return CallText(((ref(text),),))


def test_everything_it_can_say(tmp_path: Path) -> None:
    """A list of functions or a mapping; one event or several; references, templates and constants."""
    config = written(tmp_path, "bridge.yaml", YAML)

    assert load_functions(config) == (
        FunctionEvent(
            "shop.billing",
            "charge",
            CallText(("charge ", (ref("args.kind"), ref("args.type")))),
            when="always",
            properties=(
                ("amount", one("args.amount")),
                ("charge", one("result.id")),
                ("source", "shop"),
                ("number", 7),
                ("literal", "result"),
            ),
            distinct_id=one("args.user.id"),
            set=(("plan", one("result.plan")),),
            set_once=(("label", CallText(((ref("args.kind"),), "-1"))),),
            group=(("company", one("args.company_id")),),
            place=f"{config.path}, line 3",
        ),
        FunctionEvent("shop.billing", "Order.pay", CallText(("paid",)), place=f"{config.path}, line 12"),
        FunctionEvent("shop.billing", "Order.pay", CallText(("paying",)), on="start", place=f"{config.path}, line 13"),
    )
    assert load_rules(config).rules == ()


def test_in_pyproject(tmp_path: Path) -> None:
    """The table of a `pyproject.toml`, which has no lines."""
    config = written(tmp_path, "pyproject.toml", TOML)

    assert load_functions(config) == (
        FunctionEvent(
            "shop.billing",
            "charge",
            CallText(("charge completed",)),
            properties=(("amount", one("args.amount")),),
            place=config.path,
        ),
    )


def test_without_the_section(tmp_path: Path) -> None:
    """No file, or a file without it: no functions."""
    config = written(tmp_path, "bridge.yaml", "default_rules: true\n")

    assert (load_functions(config), load_functions(RulesConfig())) == ((), ())
