"""The reference part of `docs/rules.md`, made from the tables of `schema.py`; a test keeps the two equal."""

from __future__ import annotations

from otel_posthog.rules.schema import (
    OPERATORS,
    REFERENCES,
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
    Templates,
    TemplateText,
    Test,
    Tests,
    Text,
    Texts,
    UserId,
    Values,
    Version,
)

_TYPES = {
    Text: "text",
    TemplateText: "template",
    Version: "number",
    Flag: "true or false",
    Choice: "one word",
    Choices: "one word or a list",
    Texts: "text or a list",
    Test: "test",
    Tests: "key: test",
    Conditions: "list of conditions",
    Values: "name: value",
    Templates: "name: template",
    GroupValues: "type: name: value",
    Many: "list of rules",
    Reference: "reference",
    UserId: "reference",
    References: "name: reference",
    Sources: "source or a list",
    Functions: "function: mapping, see `function`",
    CallTemplate: "text with `{references}`",
    CallPerson: "reference",
    CallValues: "name: value",
}


def reference_markdown() -> str:
    """Every table, operator and reference of the rule language, in Markdown."""
    parts: list[str] = []
    for table in TABLES.values():
        rows = "\n".join(_row(key) for key in table.keys)
        parts.append(
            f"### {table.title}\n\n{table.doc}\n\n| Key | Type | Meaning | Example |\n| --- | --- | --- | --- |\n{rows}"
        )
    operators = "\n".join(f"| `{operator.name}` | {operator.operand} | {operator.doc} |" for operator in OPERATORS)
    parts.append(
        f"### Operators\n\n| Operator | Compared with | True where the field… |\n| --- | --- | --- |\n{operators}"
    )
    references = "\n".join(f"| {_code_names(names)} | {meaning} |" for names, meaning in REFERENCES)
    parts.append(f"### References\n\n| Reference | Gives |\n| --- | --- |\n{references}")
    return "\n\n".join(parts) + "\n"


def _row(key: Key) -> str:
    name = f"`{key.name}`" + (" (required)" if key.required else "")
    example = f"`{key.example}`".replace("|", "\\|") if key.example else ""
    default = f" Default: `{key.default}`." if key.default else ""
    return f"| {name} | {_type(key)} | {key.doc}{default} | {example} |"


def _type(key: Key) -> str:
    if isinstance(key.type, Sub):
        return f"mapping, see `{key.type.table}`" + (", or template" if key.type.short else "")
    words = ": " + ", ".join(f"`{word}`" for word in key.type.words) if isinstance(key.type, (Choice, Choices)) else ""
    return _TYPES[type(key.type)] + words


def _code_names(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))
