"""`otel-posthog rules`: check a rules file, list what is in it, write what editors and Collectors need of it."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_posthog.rules import RuleSet

HELP = "check a rules file, list its rules, write the JSON Schema or a Collector's filter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `rules` to `parser`."""
    commands = parser.add_subparsers(dest="rules_command", metavar="COMMAND", required=True)
    check = commands.add_parser("check", help="exit 1 and say what is wrong, functions that are not there included")
    check.add_argument("file", metavar="FILE", help="rules file (YAML), or a pyproject.toml with [tool.otel_posthog]")
    listing = commands.add_parser("list", help="the rules in order: name, what they match, what they do")
    listing.add_argument("file", metavar="FILE", nargs="?", default="", help="rules file; none with --default-rules")
    listing.add_argument("--default-rules", action="store_true", help="append the default rule set")
    commands.add_parser("schema", help="print the JSON Schema of rules files, for editors")
    passing = commands.add_parser(
        "collector-filter", help="print what a Collector has to pass on to the gateway, as its configuration"
    )
    passing.add_argument(
        "--rules", metavar="FILE", nargs="+", default=[], help="rules files of all projects; without one, tags alone"
    )
    passing.add_argument("--default-rules", action="store_true", help="append the default rule set to each")
    passing.add_argument(
        "--gateway", metavar="FILE", default="", help="bridge.yaml: the rules of all its projects, instead of --rules"
    )
    passing.add_argument(
        "--format", choices=("yaml", "conditions"), default="yaml", help="processors, or the bare OTTL conditions"
    )
    passing.add_argument(
        "--signal", choices=("traces", "logs"), action="append", default=[], help="this one only; both by default"
    )


def run(args: argparse.Namespace) -> int:
    """Runs one of the commands.

    Returns:
        0, or 1 where the file is wrong (the message is on standard error).
    """
    from otel_posthog.errors import RulesError

    try:
        if args.rules_command == "schema":
            return _schema()
        if args.rules_command == "check":
            return _check(args.file)
        if args.rules_command == "collector-filter":
            return _collector_filter(args)
        return _list(args.file, defaults=args.default_rules)
    except RulesError as error:
        print(error, file=sys.stderr)
        return 1


def _schema() -> int:
    from otel_posthog.rules.json_schema import rules_json_schema

    print(json.dumps(rules_json_schema(), indent=2))
    return 0


def _check(file: str) -> int:
    from otel_posthog.config.settings import RulesConfig
    from otel_posthog.rules.load import load_functions, load_rules

    config = RulesConfig(path=file)
    rules, functions = load_rules(config), load_functions(config)
    counted = f"{len(rules)} rule{'s' * (len(rules) != 1)}"
    if functions:
        counted += f", {len(functions)} event{'s' * (len(functions) != 1)} of functions"
    print(f"{file}: {counted}, digest {rules.digest or 'none'}")
    from otel_posthog.cli.function_checks import function_states

    states = function_states(functions, {})
    for state in states:
        if state.level != "ok":
            print(f"{state.place}: {state.target}: {state.what}", file=sys.stderr)
    return 1 if any(state.level == "problem" for state in states) else 0


def _collector_filter(args: argparse.Namespace) -> int:
    from otel_posthog.config.settings import RulesConfig
    from otel_posthog.rules.collector_filter import collector_filter
    from otel_posthog.rules.collector_yaml import SIGNALS, conditions_text, processors_yaml
    from otel_posthog.rules.load import load_rules

    if args.gateway and (args.rules or args.default_rules):
        print("--gateway names the rules already: leave out --rules and --default-rules", file=sys.stderr)
        return 2
    if args.gateway:
        rule_sets = _rules_of_gateway(args.gateway)
    else:
        rule_sets = [load_rules(RulesConfig(path=file, defaults=args.default_rules)) for file in args.rules or [""]]
    write = processors_yaml if args.format == "yaml" else conditions_text
    print(write(collector_filter(rule_sets), args.signal or SIGNALS), end="")
    return 0


def _rules_of_gateway(file: str) -> list[RuleSet]:
    """The rules of each project; nothing else of the file is looked at, so that its secrets need not be here.

    Raises:
        RulesError: The file or one of its rules files cannot be read, or is wrong.
    """
    from pathlib import Path

    from otel_posthog.errors import RulesError
    from otel_posthog.gateway.configuration.project_rules import load_project_rules
    from otel_posthog.rules.document import Node, read_document

    root, _ = read_document(file, what="configuration file", hint="Mend the path, or its permissions")
    projects = (root.mapping or {}).get("projects")
    found: list[RuleSet] = []
    for name, entry in ((projects.node.mapping if projects else None) or {}).items():
        values = entry.node.mapping or {}
        said = values["rules"].node if "rules" in values else Node([])
        paths = [member.value for member in said.sequence] if said.sequence is not None else [said.value]
        if not all(isinstance(path, str) for path in paths):
            raise RulesError("it is no path or list of paths", file=file, line=said.line, key=f"projects.{name}.rules")
        folder = Path(file).expanduser().parent
        defaults = "default_rules" in values and values["default_rules"].node.value is True
        paths = [str(folder / Path(path).expanduser()) for path in paths]
        found.append(load_project_rules(paths, defaults=defaults).rules)
    return found


def _list(file: str, *, defaults: bool) -> int:
    from otel_posthog.cli.terminal import columns
    from otel_posthog.config.settings import RulesConfig
    from otel_posthog.rules.load import load_functions, load_rules
    from otel_posthog.rules.summary import function_summary, summary

    if not file and not defaults:
        print("which rules? Name a FILE, or --default-rules", file=sys.stderr)
        return 2
    config = RulesConfig(path=file, defaults=defaults)
    rows = [summary(rule) for rule in load_rules(config).rules]
    rows += [function_summary(event) for event in load_functions(config)]
    if not rows:
        return 0
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    start = sum(widths) + 4
    for name, matches, does in rows:
        lines = textwrap.wrap(does, max(columns() - start, 30), break_long_words=False, break_on_hyphens=False)
        print(f"{name:<{widths[0]}}  {matches:<{widths[1]}}  {lines[0]}")
        for line in lines[1:]:
            print(" " * start + line)
    return 0
