"""Conditions of a rules file: fields, operators and what they compare with."""

from __future__ import annotations

import re
from typing import Any, Final

from otel_posthog.rules.at import At
from otel_posthog.rules.document import Entry
from otel_posthog.rules.parse_scalars import ScalarReader, shown_node
from otel_posthog.rules.pattern import slow_part
from otel_posthog.rules.rule import Check, Condition, Group, operands_of
from otel_posthog.rules.schema import CONDITION, OPERATOR_BY_NAME, OPERATORS, SEVERITIES, Flag, Tests
from otel_posthog.rules.template import parse_reference

_MAX_PATTERN: Final = 1000
_SEVERITY_OPERATORS: Final = ("equals", "one_of", "gt", "gte", "lt", "lte", "exists", "not_equals", "not_one_of")


class ConditionReader(ScalarReader):
    """Reads conditions."""

    def match(self, fields: dict[str, Any], at: At) -> dict[str, Any]:
        """`match` of a rule: kinds, and the conditions of all its keys."""
        entries = self.mapping(at)
        if not fields:
            raise self.error("this would match every span", at, "Say what to match, at least `kind`")
        kinds: tuple[str, ...] = fields.get("kind", ("span",))
        for name, kind in (("span_kind", "span"), ("status", "span"), ("severity", "log"), ("body", "log")):
            if name in fields and kinds != (kind,):
                hint = f"Write `kind: {kind}`" + ("" if kind == "log" else ", or leave `kind` out")
                raise self.error(f"only a {kind} has `{name}`", at.child(name, entries[name]), hint)
        conditions: list[Condition | Group] = []
        for key, reference in (
            ("name", "name"),
            ("scope", "scope.name"),
            ("scope_version", "scope.version"),
            ("severity", "severity"),
            ("body", "body"),
        ):
            if key in fields:
                conditions.append(self.condition_of((reference,), fields[key], at.child(key, entries[key])))
        if "status" in fields:
            conditions.append(Condition(("status",), (Check("one_of", fields["status"]),)))
        conditions.extend(fields.get("attributes", ()))
        conditions.extend(fields.get("resource", ()))
        conditions.extend(fields.get("all", ()))
        conditions.extend(Group(how, fields[how]) for how in ("any", "none") if how in fields)
        return {"kinds": kinds, "span_kinds": fields.get("span_kind", ()), "conditions": tuple(conditions)}

    def condition_of(self, references: tuple[str, ...], checks: tuple[Check, ...], at: At) -> Condition:
        """A condition on fields, in its simplest form."""
        if references == ("severity",):
            checks = tuple(self.severity_check(check, at) for check in checks)
        return Condition(references, tuple(_simplest(check) for check in checks))

    def severity_check(self, check: Check, at: At) -> Check:
        """Refuses what no severity can be compared with."""
        if check.operator not in _SEVERITY_OPERATORS:
            raise self.error(
                f"a severity cannot be compared with `{check.operator}`", at, f"Use {', '.join(_SEVERITY_OPERATORS)}"
            )
        for item in operands_of(check):
            known = item in SEVERITIES if isinstance(item, str) else 1 <= item <= 24
            if check.operator != "exists" and not known:
                raise self.error(
                    f"{item!r} is not a severity", at, f"Use {', '.join(SEVERITIES)}, or a number from 1 to 24"
                )
        return check

    def condition(self, at: At) -> Condition | Group:
        """One member of `all`, `any` or `none`, or a value that is a condition."""
        entries = self.mapping(at, CONDITION.doc)
        for name, entry in entries.items():
            if name not in CONDITION.key_by_name and name not in OPERATOR_BY_NAME:
                known = [key.name for key in CONDITION.keys] + [operator.name for operator in OPERATORS]
                raise self.unknown(name, at.child(name, entry), known, "key or operator")
        heads = [key.name for key in CONDITION.keys if key.name in entries]
        if len(heads) != 1:
            what = f"{' and '.join(f'`{head}`' for head in heads)} together" if heads else "a condition without a field"
            raise self.error(what, at, CONDITION.doc)
        head = heads[0]
        operators = {name: entry for name, entry in entries.items() if name in OPERATOR_BY_NAME}
        here = at.child(head, entries[head])
        if head in ("all", "any", "none"):
            if operators:
                raise self.error(f"`{next(iter(operators))}` needs a `field` beside it", at, CONDITION.doc)
            return Group(head, self.conditions(here))
        references = self.references(here)
        if not operators:
            raise self.error("the field is not compared with anything", at, "Add an operator, e.g. `exists: true`")
        return self.condition_of(references, self.checks(operators, at), at)

    def references(self, at: At) -> tuple[str, ...]:
        """The fields of a condition, first come first."""
        found: list[str] = []
        for text in self.texts(at):
            found.extend(self.attempt(lambda text=text: parse_reference(text), at))
        return tuple(found)

    def conditions(self, at: At) -> tuple[Condition | Group, ...]:
        """A list of conditions."""
        if not at.node.sequence:
            raise self.error(
                "an empty list of conditions" if at.node.sequence is not None else f"{shown_node(at.node)} is no list",
                at,
                "Write a list of conditions, each beginning with `-`",
            )
        return tuple(self.condition(member) for member in at.members())

    def test(self, at: At) -> tuple[Check, ...]:
        """A value, a list of values, or operators."""
        if at.node.sequence is not None:
            return (Check("one_of", self.scalars(at)),)
        if at.node.mapping is None:
            return (Check("equals", self.scalar(at)),)
        if not at.node.mapping:
            raise self.error("no operator", at, "Write a value, or an operator, e.g. `{exists: true}`")
        for name, entry in at.node.mapping.items():
            if name not in OPERATOR_BY_NAME:
                raise self.unknown(name, at.child(name, entry), [operator.name for operator in OPERATORS], "operator")
        return self.checks(at.node.mapping, at)

    def checks(self, operators: dict[str, Entry], at: At) -> tuple[Check, ...]:
        """Operators and what they compare with."""
        return tuple(Check(name, self.operand(name, at.child(name, entry))) for name, entry in operators.items())

    def operand(self, name: str, at: At) -> Any:
        """What one operator compares with."""
        kind = OPERATOR_BY_NAME[name].operand
        if kind == "scalar":
            return self.scalar(at)
        if kind == "scalars":
            return self.scalars(at)
        if kind == "texts":
            return self.texts(at)
        if kind == "flag":
            return self.flag(Flag(), at)
        if kind == "number":
            # A severity has names; whether this is one is known one floor up, where its names are checked too.
            if at.node.value in SEVERITIES:
                return self.severity_name(at)
            return self.number(at)
        return self.regex(at)

    def severity_name(self, at: At) -> str:
        """A severity by name, where the field is one."""
        if ".severity" not in f".{at.path}":
            field = at.path.rpartition(".")[0]
            raise self.error(
                f"{at.node.value!r} is not a number", at, f"`{field}` is compared with a number; severities have names"
            )
        return at.node.value

    def regex(self, at: At) -> str:
        """A regular expression that is bounded in length and time."""
        pattern = self.text(at)
        if len(pattern) > _MAX_PATTERN:
            raise self.error(f"the regular expression is longer than {_MAX_PATTERN} characters", at, "Split the rule")
        try:
            re.compile(pattern)
        except re.error as error:
            raise self.error(f"bad regular expression: {error}", at, "Python syntax; see the `re` module") from None
        except (RecursionError, OverflowError):
            raise self.error("bad regular expression: too deep or too large", at) from None
        slow = slow_part(pattern)
        if slow:
            raise self.error(
                f"the regular expression can take exponential time: {slow}",
                at,
                "Say each repeated part in one way only: `a+` for `(a+)+`, `[ab]*` for `(a|b|ab)*`",
            )
        return pattern

    def tests(self, kind: Tests, at: At) -> tuple[Condition, ...]:
        """Attribute keys, each with what its value must be."""
        conditions: list[Condition] = []
        for name, checks in self.named(at, self.test):
            references = self.attempt(
                lambda name=name: parse_reference("|".join(kind.prefix + part.strip() for part in name.split("|"))), at
            )
            conditions.append(Condition(references, tuple(_simplest(check) for check in checks)))
        return tuple(conditions)


def _simplest(check: Check) -> Check:
    """`one_of: [x]` is `equals: x`: one meaning, one form, one digest."""
    if check.operator in ("one_of", "not_one_of") and len(check.operand) == 1:
        return Check(check.operator.replace("one_of", "equals"), check.operand[0])
    return check
