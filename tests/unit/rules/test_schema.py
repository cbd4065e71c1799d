"""One source: parser, JSON Schema and reference say the same."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from otel_posthog.config.settings import RulesConfig
from otel_posthog.errors import RulesError
from otel_posthog.rules import load as load_module
from otel_posthog.rules.document import Node, parse_document
from otel_posthog.rules.json_schema import rules_json_schema
from otel_posthog.rules.load import load_rules
from otel_posthog.rules.reference_docs import reference_markdown
from otel_posthog.rules.schema import TABLES

TESTDATA = Path(__file__).with_name("testdata")
ROOT = Path(__file__).parents[3]
GOOD = sorted(TESTDATA.glob("good_*"))
BAD = sorted(TESTDATA.glob("bad_*.yaml"))
BUILTIN = Path(load_module.__file__).with_name("builtin.yaml")

# What a JSON Schema cannot say: uniqueness of names, what depends on another key, inside of strings, limits of files.
NOT_EXPRESSIBLE = {
    "bad_alias_bomb",
    "bad_distinct_id",
    "bad_drop_and_capture",
    "bad_duplicate_rule_name",
    "bad_event_reserved",
    "bad_event_too_long",
    "bad_functions_args_alone",
    "bad_functions_dunder",
    "bad_functions_error_message",
    "bad_functions_event_reference",
    "bad_functions_event_reserved",
    "bad_functions_expression",
    "bad_functions_group_types",
    "bad_functions_misspelt_word",
    "bad_functions_start_result",
    "bad_functions_start_when",
    "bad_functions_structural",
    "bad_functions_unknown_root",
    "bad_group_types",
    "bad_infinite_number",
    "bad_number_operand",
    "bad_on_start_of_log",
    "bad_on_start_with_duration",
    "bad_property_group",
    "bad_reference_without_key",
    "bad_regex",
    "bad_regex_exponential",
    "bad_reserved_rule_name",
    "bad_severity_for_number",
    "bad_severity_name",
    "bad_severity_on_span",
    "bad_severity_operator",
    "bad_span_kind_on_log",
    "bad_strip_prefix_alone",
    "bad_structural_exception",
    "bad_users_group_types",
    "bad_users_login_word",
    "bad_users_session",
}


def plain(node: Node) -> Any:
    """The tree as plain values, as an editor sees the file."""
    if node.mapping is not None:
        return {name: plain(entry.node) for name, entry in node.mapping.items()}
    if node.sequence is not None:
        return [plain(member) for member in node.sequence]
    return node.value


def section(path: Path) -> Any:
    """The part of a file that the schema describes."""
    return plain(parse_document(path.read_bytes(), str(path))[0])


@pytest.fixture(name="validator")
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(rules_json_schema())


def test_schema_is_valid() -> None:
    """The schema itself obeys the meta-schema."""
    jsonschema.Draft202012Validator.check_schema(rules_json_schema())


def test_committed_schema_is_current() -> None:
    """`docs/rules.schema.json` is what `otel-posthog rules schema` prints."""
    committed = (ROOT / "docs" / "rules.schema.json").read_text(encoding="utf-8")

    assert committed == json.dumps(rules_json_schema(), indent=2) + "\n"


def test_committed_reference_is_current() -> None:
    """The reference in `docs/rules.md` is made from the tables."""
    text = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- begin reference.*?-->\n\n(.*)\n<!-- end reference -->", text, re.DOTALL)

    assert found is not None
    assert found.group(1) == reference_markdown()


@pytest.mark.parametrize("path", [*GOOD, BUILTIN], ids=lambda path: path.stem)
def test_good_files_validate(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    """What loads is valid for editors."""
    if path is not BUILTIN and path.name != "good_pyproject.toml":
        assert load_rules(RulesConfig(path=str(path)))

    assert [error.message for error in validator.iter_errors(section(path))] == []


def test_pyproject_loads(tmp_path: Path) -> None:
    """The table of a `pyproject.toml` is read as the same language."""
    path = tmp_path / "pyproject.toml"
    path.write_bytes((TESTDATA / "good_pyproject.toml").read_bytes())

    assert load_rules(RulesConfig(path=str(path))).names == ("paid",)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_files_do_not_validate(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    """An editor marks every fault that a schema can express, and only the listed ones escape it."""
    try:
        data = section(path)
    except RulesError:
        # Refused by the reader already, as YAML: an editor says so without a schema.
        return

    assert validator.is_valid(data) == (path.stem in NOT_EXPRESSIBLE)


def test_every_example_in_the_reference_parses(validator: jsonschema.Draft202012Validator) -> None:
    """The examples of the reference are values that their keys accept."""
    base: dict[str, dict[str, Any]] = {
        "file": {"rules": [{"name": "n", "match": {"name": "x"}, "capture": "e"}]},
        "rule": {"name": "n", "match": {"name": "x"}, "capture": "e"},
        "match": {"kind": "span"},
        "condition": {"exists": True},
        "capture": {"event": "e", "include": ["a*"]},
        "users": {},
        "function": {"event": "e"},
    }
    checked = 0
    for table in TABLES.values():
        for key in table.keys:
            if not key.example:
                continue
            value = section_of(f"value: {key.example}")["value"]
            fields = base[table.name] | {key.name: value}
            if key.name == "drop":
                del fields["capture"]
            if key.name in ("severity", "body"):
                fields["kind"] = "log"
            if table.name == "match":
                fields = {"name": "n", "match": fields, "capture": "e"}
            elif table.name == "condition":
                fields = {"name": "n", "match": {"all": [fields]}, "capture": "e"}
            elif table.name == "capture":
                fields = {"name": "n", "match": {"name": "x"}, "capture": fields}
            document = fields if table.name == "file" else {"rules": [fields]}
            if table.name == "users":
                document = {"users": fields}
            elif table.name == "function":
                document = {"functions": {"shop:charge": fields}}
            assert load_module.parse_text(json.dumps(document)) is not None, (table.name, key.name)
            assert validator.is_valid(document), (table.name, key.name)
            checked += 1

    assert checked > 25


def section_of(text: str) -> Any:
    """YAML text as plain values."""
    return plain(parse_document(text.encode(), "example.yaml")[0])
