"""One line about a rule, for people: `rules list`."""

from __future__ import annotations

from otel_posthog.rules.functions import CallText, FunctionEvent
from otel_posthog.rules.rule import Rule
from otel_posthog.rules.template import Template


def summary(rule: Rule) -> tuple[str, str, str]:
    """(name, what it matches, what it does)."""
    kinds = "|".join(rule.kinds)
    if rule.span_kinds:
        kinds = f"{'|'.join(rule.span_kinds)} {kinds}"
    count = len(rule.conditions)
    matches = kinds if not count else f"{kinds}, {count} condition{'s' * (count != 1)}"
    return rule.name, matches, ", ".join(_actions(rule))


def function_summary(event: FunctionEvent) -> tuple[str, str, str]:
    """(function, which calls, what they become)."""
    matches = "calls, at the start" if event.on == "start" else f"calls, {event.when}"
    actions = [f"capture {source(event.event)!r}"]
    if event.distinct_id is not None:
        actions.append(f"as {source(event.distinct_id)}")
    for verb, named in (("set", event.set), ("set once", event.set_once), ("group", event.group)):
        if named:
            actions.append(f"{verb} {', '.join(name for name, _ in named)}")
    return event.target, matches, ", ".join(actions)


def source(template: Template | CallText) -> str:
    """The template as it is written."""
    parts: list[str] = []
    for part in template.parts:
        if isinstance(part, str):
            parts.append(part.replace("{", "{{").replace("}", "}}"))
        else:
            parts.append("{" + "|".join(one if isinstance(one, str) else one.text for one in part) + "}")
    return "".join(parts)


def _actions(rule: Rule) -> list[str]:
    if rule.drop:
        return ["drop"]
    actions: list[str] = []
    if rule.event is not None:
        actions.append(f"capture {source(rule.event)!r}" + (" at the start" if rule.on == "start" else ""))
    if rule.distinct_id is not None:
        actions.append(f"as {source(rule.distinct_id)}")
    for verb, names in (
        ("set", [name for name, _ in rule.set]),
        ("set once", [name for name, _ in rule.set_once]),
        ("unset", list(rule.unset)),
        ("group", [name for name, _ in rule.group]),
        ("group set", [name for name, _ in rule.group_set]),
        ("alias", [source(rule.alias)] if rule.alias is not None else []),
        ("merge", [source(rule.anon_distinct_id)] if rule.anon_distinct_id is not None else []),
    ):
        if names:
            actions.append(f"{verb} {', '.join(names)}")
    return actions
