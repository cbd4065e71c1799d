"""The rules of one project: several files, and what they said as JSON, to be kept beside what was spooled under them.

A spooled request is converted by the rules that held when it was accepted (DESIGN §4), also after a restart with other
rules. The files are gone by then, so their content is kept: as the tree that the rules parser reads, never the text,
which may hold comments, and in a `pyproject.toml` everything else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast

from otel_posthog.errors import ConfigError, RulesError
from otel_posthog.model.frozen import frozen
from otel_posthog.rules.document import Entry, Node, parse_document, read_document
from otel_posthog.rules.engine import RuleSet
from otel_posthog.rules.load import BUILTIN_PREFIX
from otel_posthog.rules.parse import parse_file
from otel_posthog.rules.rule import Rule

FORMAT: Final = 1


@frozen
class ProjectRules:
    """Compiled rules, and what they were made from.

    Args:
        rules: Compiled.
        documents: As JSON text; "" for no rules.
    """

    rules: RuleSet
    documents: str


def load_project_rules(
    paths: Sequence[str], *, defaults: bool, hint: str = "Mend the path, or its permissions"
) -> ProjectRules:
    """The rules of `paths`, in order, then the default set where `defaults` or one of the files asks for it.

    Args:
        paths: As they are to be shown in messages.
        defaults: Append the default set.
        hint: What to do where a file cannot be read.

    Raises:
        RulesError: A file cannot be read, a rule is wrong, or two files have rules of one name.
    """
    documents: list[dict[str, Any]] = []
    rules: list[Rule] = []
    owners: dict[str, str] = {}
    for path in paths:
        root, key = read_document(path, hint=hint)
        parsed = parse_file(root, file=path, key=key, reserved=BUILTIN_PREFIX)
        defaults = defaults or parsed.default_rules
        for rule in parsed.rules:
            if owners.setdefault(rule.name, path) != path:
                raise RulesError(
                    f"the name {rule.name!r} is already taken by a rule in {owners[rule.name]}",
                    file=path,
                    hint="Give each rule of a project its own name",
                )
        rules.extend(parsed.rules)
        documents.append({"file": Path(path).name, "key": key, "document": _plain(root)})
    if defaults:
        root, builtin = _builtin()
        rules.extend(builtin)
        documents.append({"file": "builtin.yaml", "key": "", "builtin": True, "document": _plain(root)})
    if not rules:
        return ProjectRules(RuleSet(), "")
    return ProjectRules(RuleSet(rules), json.dumps({"format": FORMAT, "documents": documents}, ensure_ascii=False))


def restore_rules(text: str, digest: str) -> RuleSet:
    """The rules of which `load_project_rules` gave the documents.

    Args:
        text: The documents.
        digest: What the rules' digest was.

    Raises:
        ConfigError: The text is damaged, or this version reads other rules in it than the one that wrote it.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ConfigError(f"kept rules have format {content['format']!r}", key=digest)
        rules: list[Rule] = []
        for item in content["documents"]:
            reserved = "" if item.get("builtin") else BUILTIN_PREFIX
            node = _node(item["document"])
            rules.extend(parse_file(node, file=item["file"], key=item["key"], reserved=reserved).rules)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"kept rules cannot be read ({type(error).__name__})", key=digest) from None
    found = RuleSet(rules)
    if found.digest != digest:
        raise ConfigError("kept rules are read differently by this version", key=digest)
    return found


def _builtin() -> tuple[Node, tuple[Rule, ...]]:
    from otel_posthog import rules

    path = Path(rules.__file__).with_name("builtin.yaml")
    root, _ = parse_document(path.read_bytes(), path.name)
    return root, parse_file(root, file=path.name).rules


def _plain(node: Node, ignore: str = "x-") -> Any:
    """The tree without lines. Keys of the file that begin with `x-` are anchors' places and no part of the rules."""
    if node.mapping is not None:
        entries = node.mapping.items()
        return {name: _plain(entry.node, "\0") for name, entry in entries if not name.startswith(ignore)}
    if node.sequence is not None:
        return [_plain(member, ignore) for member in node.sequence]
    return node.value


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({name: Entry(0, _node(item)) for name, item in cast("dict[str, Any]", value).items()})
    if isinstance(value, list):
        return Node([_node(item) for item in cast("list[Any]", value)])
    return Node(value)
