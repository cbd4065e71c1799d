"""The rule language as a JSON Schema (draft 2020-12), for editors; made from the tables of `schema.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from otel_posthog.rules.schema import (
    CONDITION,
    FILE,
    OPERATORS,
    TABLES,
    CallPerson,
    CallTemplate,
    CallValues,
    Choice,
    Choices,
    Conditions,
    Flag,
    Functions,
    GroupValues,
    Key,
    Many,
    Reference,
    References,
    Sources,
    Sub,
    Table,
    Templates,
    TemplateText,
    Test,
    Tests,
    Text,
    Texts,
    Type,
    UserId,
    Values,
    Version,
)

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "pattern": "\\S"}
# Braces in pairs: `{reference}`, and doubled ones for themselves.
_TEMPLATE: Final[Schema] = {"type": "string", "pattern": "^([^{}]|\\{\\{|\\}\\}|\\{[^{}]+\\})+$"}
_REFERENCE: Final[Schema] = {"type": "string", "pattern": "^[A-Za-z_][\\w-]*(\\.[\\w-]+)*$"}
_SOURCE: Final[Schema] = {
    "type": "string",
    "pattern": "^((session|g|state|request|dependency)\\.[A-Za-z_][\\w-]*|[A-Za-z_][\\w.-]*:[A-Za-z_][\\w.-]*)$",
}
_CALL_TEXT: Final[Schema] = {"type": "string", "pattern": "^([^{}]|\\{\\{|\\}\\}|\\{[^{}]+\\})+$"}
_CALL_VALUE: Final[Schema] = {
    "anyOf": [
        {"type": ["number", "boolean"]},
        _CALL_TEXT,
        {"type": "object", "properties": {"text": _TEXT}, "required": ["text"], "additionalProperties": False},
    ]
}
_SCALAR: Final[Schema] = {"type": ["string", "number", "boolean"]}
_OPERANDS: Final[dict[str, Schema]] = {
    "scalar": _SCALAR,
    "scalars": {"type": "array", "minItems": 1, "items": _SCALAR},
    "texts": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]},
    "regex": _TEXT,
    "number": {"type": ["number", "string"]},
    "flag": {"type": "boolean"},
}


def rules_json_schema() -> Schema:
    """The JSON Schema of a rules file."""
    definitions = {table.name: _table(table) for table in TABLES.values() if table not in (FILE, CONDITION)}
    definitions["match"]["minProperties"] = 1
    definitions["rule"] |= {
        "anyOf": [{"required": [key.name]} for key in TABLES["rule"].keys if key.name not in ("name", "match", "on")]
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "otel-posthog rules",
        "description": FILE.doc,
        **_table(FILE),
        "anyOf": [
            {"required": ["rules"]},
            {"required": ["users"]},
            {"required": ["functions"]},
            {"required": ["default_rules"], "properties": {"default_rules": {"const": True}}},
        ],
        # Keys that begin with x- are the place for anchors.
        "patternProperties": {"^x-": {}},
        "$defs": definitions
        | {
            "condition": _condition(),
            "test": {
                "anyOf": [
                    _SCALAR,
                    _OPERANDS["scalars"],
                    {"type": "object", "properties": _operators(), "additionalProperties": False, "minProperties": 1},
                ]
            },
            "tests": _mapping({"$ref": "#/$defs/test"}),
            "conditions": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/condition"}},
            "value": {
                "anyOf": [
                    {"type": ["number", "boolean"]},
                    {"type": "string", "pattern": "^([^{}]|\\{\\{|\\}\\}|\\{[^{}]+\\})*$"},
                    {"type": "array", "items": _SCALAR},
                    {"$ref": "#/$defs/condition"},
                ]
            },
            "values": _mapping({"$ref": "#/$defs/value"}),
        },
    }


def _table(table: Table) -> Schema:
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _key(key) for key in table.keys},
    }
    required = [key.name for key in table.keys if key.required]
    return schema | ({"required": required} if required else {})


def _key(key: Key) -> Schema:
    described = {"description": key.doc} | ({"default": _default(key)} if key.default else {})
    return _type(key.type) | described


def _default(key: Key) -> Any:
    return {"false": False, "1": 1}.get(key.default, key.default)


def _condition() -> Schema:
    operators = _operators()
    properties = {key.name: _key(key) for key in CONDITION.keys} | operators
    forms: list[Schema] = []
    for key in CONDITION.keys:
        compared = key.name in ("field", "fields")
        allowed = {key.name, *operators} if compared else {key.name}
        forms.append(
            {
                "required": [key.name],
                "minProperties": 2 if compared else 1,
                "propertyNames": {"enum": sorted(allowed)},
            }
        )
    return {"type": "object", "properties": properties, "oneOf": forms}


def _operators() -> dict[str, Schema]:
    return {operator.name: _OPERANDS[operator.operand] | {"description": operator.doc} for operator in OPERATORS}


def _type(kind: Type) -> Schema:
    if isinstance(kind, Sub):
        ref: Schema = {"$ref": f"#/$defs/{kind.table}"}
        return {"anyOf": [_TEMPLATE, ref]} if kind.short else ref
    return _MAKERS[type(kind)](kind)


def _functions(table: str) -> Schema:
    one: Schema = {"anyOf": [_CALL_TEXT, {"$ref": f"#/$defs/{table}"}]}
    name = "[A-Za-z_][\\w]*(\\.[A-Za-z_][\\w]*)*"
    mapping: Schema = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^\\s*{name}:{name}\\s*$"},
        "additionalProperties": {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]},
    }
    return {"anyOf": [mapping, {"type": "array", "minItems": 1, "items": mapping}]}


def _one_or_many(words: tuple[str, ...]) -> Schema:
    return {"anyOf": [{"enum": list(words)}, {"type": "array", "minItems": 1, "items": {"enum": list(words)}}]}


def _mapping(values: Schema) -> Schema:
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "\\S"},
        "additionalProperties": values,
    }


_MAKERS: Final[dict[type, Callable[[Any], Schema]]] = {
    Text: lambda _: dict(_TEXT),
    TemplateText: lambda _: dict(_TEMPLATE),
    Version: lambda _: {"const": 1},
    Flag: lambda kind: {"type": "boolean"} if kind.only is None else {"const": kind.only},
    Choice: lambda kind: {"enum": list(kind.words)},
    Choices: lambda kind: _one_or_many(kind.words),
    Texts: lambda _: dict(_OPERANDS["texts"]),
    Test: lambda _: {"$ref": "#/$defs/test"},
    Tests: lambda _: {"$ref": "#/$defs/tests"},
    Conditions: lambda _: {"$ref": "#/$defs/conditions"},
    Values: lambda _: {"$ref": "#/$defs/values"},
    Templates: lambda _: _mapping(_TEMPLATE),
    GroupValues: lambda _: _mapping({"$ref": "#/$defs/values"}),
    Many: lambda kind: {"type": "array", "minItems": 1, "items": {"$ref": f"#/$defs/{kind.table}"}},
    Reference: lambda _: dict(_REFERENCE),
    UserId: lambda _: {"anyOf": [dict(_REFERENCE), {"type": "string", "pattern": "^[^{}]*(\\{[^{}|]+\\}[^{}]*)+$"}]},
    References: lambda _: _mapping(dict(_REFERENCE)),
    Functions: lambda kind: _functions(kind.table),
    CallTemplate: lambda _: dict(_CALL_TEXT),
    CallPerson: lambda _: {"type": "string", "pattern": "^\\s*(args\\.|result|error\\.)|\\{"},
    CallValues: lambda _: _mapping(dict(_CALL_VALUE)),
    Sources: lambda _: {"anyOf": [dict(_SOURCE), {"type": "array", "items": dict(_SOURCE)}]},
}
