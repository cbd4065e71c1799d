"""`load_rules(config)`: from the files of `RulesConfig` to a compiled `RuleSet`, or one `RulesError`.

Imports YAML, TOML and the parser only where there is something to load: most processes have no rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_posthog.config.settings import RulesConfig
from otel_posthog.rules.engine import RuleSet

if TYPE_CHECKING:
    from otel_posthog.rules.functions import FunctionEvent
    from otel_posthog.rules.parse import ParsedFile
    from otel_posthog.rules.rule import Rule
    from otel_posthog.rules.users import UsersConfig

BUILTIN_PREFIX = "default: "
"""Begins the name of every rule of the default set; the user's rules may not."""


def load_rules(config: RulesConfig) -> RuleSet:
    """The rules that `config` names: the user's first, then the default set where chosen; first match wins.

    The default set is chosen by `config.defaults` or by `default_rules: true` in the file.

    Raises:
        RulesError: A file cannot be read or a rule is wrong; names file, line, key and the way out.
    """
    rules: list[Rule] = []
    defaults = config.defaults
    if config.path:
        parsed = load_file(config.path)
        rules.extend(parsed.rules)
        defaults = defaults or parsed.default_rules
    if defaults:
        rules.extend(builtin_rules())
    return RuleSet(rules)


def load_users(config: RulesConfig) -> UsersConfig:
    """The section `users:` of the file that `config` names; what holds without one where there is none.

    Without one nobody is looked for where rules name persons: see `UsersConfig.stands_back`.

    Raises:
        RulesError: As `load_rules`.
    """
    from otel_posthog.rules.users import UsersConfig

    if not config.path:
        return UsersConfig()
    file = load_file(config.path)
    if file.users is not None:
        return file.users
    return UsersConfig(stands_back=any(rule.distinct_id is not None for rule in file.rules))


def load_functions(config: RulesConfig) -> tuple[FunctionEvent, ...]:
    """The section `functions:` of the file that `config` names.

    Raises:
        RulesError: As `load_rules`.
    """
    return load_file(config.path).functions if config.path else ()


def load_file(path: str) -> ParsedFile:
    """The rules of one file.

    Raises:
        RulesError: As `load_rules`.
    """
    from otel_posthog.rules.document import read_document
    from otel_posthog.rules.parse import parse_file

    root, key = read_document(path)
    return parse_file(root, file=path, key=key, reserved=BUILTIN_PREFIX)


def builtin_rules() -> tuple[Rule, ...]:
    """The default rule set."""
    from pathlib import Path

    from otel_posthog.rules.document import parse_document
    from otel_posthog.rules.parse import parse_file

    path = Path(__file__).with_name("builtin.yaml")
    root, _ = parse_document(path.read_bytes(), path.name)
    return parse_file(root, file=path.name).rules


def parse_text(text: str, *, file: str = "rules.yaml") -> RuleSet:
    """The rules in `text`, YAML unless `file` ends in `.toml`: for tests and tools.

    Raises:
        RulesError: As `load_rules`.
    """
    from otel_posthog.rules.document import parse_document
    from otel_posthog.rules.parse import parse_file

    root, key = parse_document(text.encode(), file)
    return RuleSet(parse_file(root, file=file, key=key).rules)
