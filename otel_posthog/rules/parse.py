"""A tree of Nodes -> Rules, by the tables of `schema.py`. Every complaint names file, line, key and the way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from otel_posthog.errors import RulesError
from otel_posthog.rules.document import Entry, Node
from otel_posthog.rules.pattern import slow_part
from otel_posthog.rules.rule import Check, Condition, Group, ListValue, Literal, Rule, Value, operands_of
from otel_posthog.rules.schema import (
    CONDITION,
    FILE,
    MATCH,
    OPERATOR_BY_NAME,
    OPERATORS,
    RULE,
    SEVERITIES,
    TABLES,
    Choice,
    Choices,
    Flag,
    GroupValues,
    Key,
    Many,
    Sub,
    Table,
    Templates,
    TemplateText,
    Tests,
    Text,
    Texts,
    Type,
    Values,
    Version,
)
from otel_posthog.rules.schema import Conditions as ConditionsType
from otel_posthog.rules.schema import Test as TestType
from otel_posthog.rules.template import Template, parse_reference, parse_template
from otel_posthog.semconv import posthog

_RESERVED: Final = {
    posthog.EVENT_IDENTIFY: "Use `anon_distinct_id` or `set`",
    posthog.EVENT_CREATE_ALIAS: "Use `alias`",
    posthog.EVENT_GROUP_IDENTIFY: "Use `group` and `group_set`",
    posthog.EVENT_SET: "Use `set`, `set_once` or `unset` without `capture`",
}
_STRUCTURAL: Final = {
    posthog.PERSON_SET: "Use `set` beside `capture`",
    posthog.PERSON_SET_ONCE: "Use `set_once` beside `capture`",
    posthog.PERSON_UNSET: "Use `unset` beside `capture`",
    posthog.GROUPS_PROPERTY: "Use `group` beside `capture`",
    posthog.SESSION_PROPERTY: "The session is read from `session.id` or `posthog.session_id` of the item",
    posthog.WINDOW_PROPERTY: "The window is read from `posthog.window_id` of the item",
    posthog.PERSON_PROFILE_PROPERTY: "It is read from `posthog.process_person_profile` of the item or its resource",
    posthog.CUT_PROPERTY: "The bridge writes it where it had to cut",
    "$exception_list": "Exceptions are read from the item itself",
    **dict.fromkeys(posthog.SERVER_DERIVED, "PostHog makes it itself"),
}
"""Properties with a meaning of their own: a rule that wrote them would be silently ignored."""
_ACTIONS: Final = tuple(key.name for key in RULE.keys if key.name not in ("name", "match", "on"))
_ONLY_AT_END: Final = ("duration_ms", "status", "status_description")
_MAX_PATTERN: Final = 1000
_SEVERITY_OPERATORS: Final = ("equals", "one_of", "gt", "gte", "lt", "lte", "exists", "not_equals", "not_one_of")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a rules file says."""

    rules: tuple[Rule, ...]
    default_rules: bool = False


def parse_file(root: Node, *, file: str, key: str = "", reserved: str = "") -> ParsedFile:
    """Parses and checks the whole file.

    Args:
        root: From `read_document`.
        file: Path as the user wrote it, for messages.
        key: Key path of the root, for messages.
        reserved: No rule's name may begin with it; "" reserves nothing.

    Raises:
        RulesError: At the first thing that is wrong.
    """
    return _Parser(file, reserved).file(_At(root, key, root.line))


@dataclass(frozen=True, slots=True)
class _At:
    """A node and where it is: key path, and the line to name (the key's where there is one)."""

    node: Node
    path: str
    line: int

    def child(self, name: str, entry: Entry) -> _At:
        # A key that would read as two is quoted, so that the path can be followed by eye.
        shown = f'["{name}"]' if not name or "." in name or " " in name else (f".{name}" if self.path else name)
        return _At(entry.node, self.path + shown, entry.line or entry.node.line)

    def members(self) -> Iterator[_At]:
        for index, member in enumerate(self.node.sequence or []):
            yield _At(member, f"{self.path}[{index}]", member.line)


class _Parser:
    def __init__(self, file: str, reserved: str = "") -> None:
        self._file = file
        self._reserved = reserved

    def error(self, message: str, at: _At, hint: str = "") -> RulesError:
        return RulesError(message, file=self._file, line=at.line, key=at.path, hint=hint)

    # --- tables ------------------------------------------------------------------------------------------------

    def file(self, at: _At) -> ParsedFile:
        if at.node.value is None:
            raise self.error("the file is empty", at, "Write `rules:` with at least one rule")
        if at.node.sequence is not None:
            raise self.error("the file is a list", at, "Write `rules:` above it")
        fields = self.table(FILE, at, ignore="x-")
        defaults: bool = fields.get("default_rules", False)
        if "rules" not in fields and not defaults:
            raise self.error("`rules` is missing", at, "Add `rules:` with at least one rule, or `default_rules: true`")
        return ParsedFile(fields.get("rules", ()), defaults)

    def table(self, table: Table, at: _At, *, ignore: str = "\0") -> dict[str, Any]:
        """The values of a mapping by its table; absent keys are absent."""
        entries = self.mapping(at, table.doc)
        for name, entry in entries.items():
            if name not in table.key_by_name and not name.startswith(ignore):
                raise self.unknown(name, at.child(name, entry), [key.name for key in table.keys])
        for key in table.keys:
            if key.required and key.name not in entries:
                raise self.error(f"`{key.name}` is missing", at, f"Add it: {_first_sentence(key)}")
        return {
            key.name: self.value(key.type, at.child(key.name, entries[key.name]))
            for key in table.keys
            if key.name in entries
        }

    def unknown(self, name: str, at: _At, known: list[str], what: str = "key") -> RulesError:
        import difflib

        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        meant = f"Did you mean `{close[0]}`? " if close else ""
        return self.error(f"unknown {what} `{name}`", at, f"{meant}Known here: {', '.join(known)}")

    def mapping(self, at: _At, what: str = "") -> dict[str, Entry]:
        entries = at.node.mapping
        if entries is None:
            raise self.error(f"{_shown(at.node)} stands where a mapping belongs", at, what)
        return entries

    def value(self, kind: Type, at: _At) -> Any:
        """The value of one key by its type."""
        if isinstance(kind, Sub):
            return self.sub(kind, at)
        if isinstance(kind, Many):
            return self.rules(at)
        return _READERS[type(kind)](self, kind, at)

    def sub(self, kind: Sub, at: _At) -> Any:
        table = TABLES[kind.table]
        if kind.short and isinstance(at.node.value, str):
            short = table.key_by_name[kind.short]
            return {short.name: self.value(short.type, at)}
        if kind.short and at.node.mapping is None:
            raise self.error(
                f"{_shown(at.node)} stands where text or a mapping belongs", at, f"Write `{kind.short}` in quotes"
            )
        fields = self.table(table, at)
        return self.match(fields, at) if table is MATCH else fields

    def rules(self, at: _At) -> tuple[Rule, ...]:
        if at.node.sequence is None:
            raise self.error(
                f"{_shown(at.node)} stands where the list of rules belongs", at, "Begin each rule with `-`"
            )
        if not at.node.sequence:
            raise self.error("there are no rules", at, "Write at least one, or unset OTEL_POSTHOG_CONFIG")
        rules: list[Rule] = []
        seen: dict[str, _At] = {}
        for member in at.members():
            rule = self.rule(member)
            first = seen.setdefault(rule.name, member)
            if first is not member:
                where = f"line {first.line}" if first.line else f"`{first.path}`"
                raise self.error(
                    f"the name {rule.name!r} is already taken by the rule at {where}", member, "Give each its own name"
                )
            rules.append(rule)
        return tuple(rules)

    # --- a rule ------------------------------------------------------------------------------------------------

    def rule(self, at: _At) -> Rule:
        entries = self.mapping(at, RULE.doc)
        # Before the values are read: a map below `$set` would be taken for a condition.
        self.no_structural_properties(entries, at)
        fields = self.table(RULE, at)
        if self._reserved and fields["name"].startswith(self._reserved):
            raise self.error(
                f"the name {fields['name']!r} begins like those of the default rules",
                at.child("name", entries["name"]),
                f"Choose one that does not begin with `{self._reserved.strip()}`",
            )
        actions = [name for name in _ACTIONS if name in entries]
        if not actions:
            raise self.error("the rule does nothing", at, f"Add one of: {', '.join(_ACTIONS)}")
        if fields.get("drop") and len(actions) > 1:
            other = next(name for name in actions if name != "drop")
            raise self.error(
                f"`drop` and `{other}` contradict each other",
                at.child("drop", entries["drop"]),
                "Keep one, or make two rules",
            )
        match: dict[str, Any] = fields["match"]
        if fields.get("on") == "start" and match["kinds"] != ("span",):
            raise self.error("only spans have a start", at.child("on", entries["on"]), "Remove it, or match spans only")
        capture: dict[str, Any] = fields.get("capture", {})
        if fields.get("on") == "start":
            for reference in _references(list(fields.values())):
                if reference in _ONLY_AT_END:
                    raise self.error(
                        f"`{reference}` is not known at the start of a span",
                        at.child("on", entries["on"]),
                        "Remove `on: start`, or do without it",
                    )
        if "strip_prefix" in capture and "include" not in capture:
            raise self.error(
                "`strip_prefix` has nothing to work on", at.child("capture", entries["capture"]), "Add `include`"
            )
        if "event" in capture:
            self.event_name(capture["event"], at.child("capture", entries["capture"]))
        if "distinct_id" in fields:
            self.distinct_id(fields["distinct_id"], at.child("distinct_id", entries["distinct_id"]))
        group: tuple[tuple[str, Template], ...] = fields.get("group", ())
        group_set: tuple[Any, ...] = fields.get("group_set", ())
        types = {name for name, _ in group} | {name for name, _ in group_set}
        if len(types) > posthog.MAX_GROUP_TYPES:
            raise self.error(
                f"{len(types)} group types, but a PostHog project has at most {posthog.MAX_GROUP_TYPES}",
                at.child("group", entries.get("group") or entries["group_set"]),
            )
        return Rule(
            name=fields["name"],
            kinds=match["kinds"],
            span_kinds=match["span_kinds"],
            conditions=match["conditions"],
            on=fields.get("on", "end"),
            drop=bool(fields.get("drop", False)),
            event=capture.get("event"),
            properties=capture.get("properties", ()),
            include=capture.get("include", ()),
            strip_prefix=capture.get("strip_prefix", ""),
            distinct_id=fields.get("distinct_id"),
            set=fields.get("set", ()),
            set_once=fields.get("set_once", ()),
            unset=fields.get("unset", ()),
            group=group,
            group_set=group_set,
            alias=fields.get("alias"),
            anon_distinct_id=fields.get("anon_distinct_id"),
        )

    def no_structural_properties(self, entries: dict[str, Entry], at: _At) -> None:
        for part in ("capture", "properties"):
            if part not in entries:
                return
            at = at.child(part, entries[part])
            entries = at.node.mapping or {}
        for name, entry in entries.items():
            if name in _STRUCTURAL:
                raise self.error(
                    f"`{name}` is no property that a rule can write", at.child(name, entry), _STRUCTURAL[name]
                )

    def event_name(self, template: Template, at: _At) -> None:
        name = template.text
        at = at if at.node.mapping is None else at.child("event", at.node.mapping["event"])
        if name in _RESERVED:
            raise self.error(f"`{name}` is made by other actions", at, _RESERVED[name])
        size = sum(len(part.encode()) for part in template.parts if isinstance(part, str))
        if size > posthog.MAX_NAME_BYTES:
            raise self.error(f"the name has {size} bytes, PostHog takes {posthog.MAX_NAME_BYTES}", at)

    def distinct_id(self, template: Template, at: _At) -> None:
        text = template.text
        if text is not None and text.strip().lower() in posthog.ILLEGAL_DISTINCT_IDS:
            raise self.error(
                f"PostHog does not accept {text!r} as a distinct id", at, 'Write a reference, e.g. "{user.id}"'
            )

    # --- match -------------------------------------------------------------------------------------------------

    def match(self, fields: dict[str, Any], at: _At) -> dict[str, Any]:
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

    def condition_of(self, references: tuple[str, ...], checks: tuple[Check, ...], at: _At) -> Condition:
        if references == ("severity",):
            checks = tuple(self.severity_check(check, at) for check in checks)
        return Condition(references, tuple(_simplest(check) for check in checks))

    def severity_check(self, check: Check, at: _At) -> Check:
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

    def condition(self, at: _At) -> Condition | Group:
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

    def references(self, at: _At) -> tuple[str, ...]:
        found: list[str] = []
        for text in self.texts(at):
            found.extend(self.attempt(lambda text=text: parse_reference(text), at))
        return tuple(found)

    def conditions(self, at: _At) -> tuple[Condition | Group, ...]:
        if not at.node.sequence:
            raise self.error(
                "an empty list of conditions" if at.node.sequence is not None else f"{_shown(at.node)} is no list",
                at,
                "Write a list of conditions, each beginning with `-`",
            )
        return tuple(self.condition(member) for member in at.members())

    def test(self, at: _At) -> tuple[Check, ...]:
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

    def checks(self, operators: dict[str, Entry], at: _At) -> tuple[Check, ...]:
        return tuple(Check(name, self.operand(name, at.child(name, entry))) for name, entry in operators.items())

    def operand(self, name: str, at: _At) -> Any:
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

    def severity_name(self, at: _At) -> str:
        if ".severity" not in f".{at.path}":
            field = at.path.rpartition(".")[0]
            raise self.error(
                f"{at.node.value!r} is not a number", at, f"`{field}` is compared with a number; severities have names"
            )
        return at.node.value

    def regex(self, at: _At) -> str:
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

    # --- scalars -----------------------------------------------------------------------------------------------

    def text(self, at: _At) -> str:
        value = at.node.value
        if not isinstance(value, str):
            raise self.error(f"{_shown(at.node)} stands where text belongs", at, "Put it in quotes" * _quotable(value))
        if not value.strip():
            raise self.error("this is empty", at)
        if len(value) > 4096:
            raise self.error("this text is longer than 4096 characters", at)
        return value

    def texts(self, at: _At) -> tuple[str, ...]:
        if at.node.sequence is None:
            return (self.text(at),)
        if not at.node.sequence:
            raise self.error("an empty list", at)
        return tuple(self.text(member) for member in at.members())

    def scalar(self, at: _At) -> Any:
        value = at.node.value
        if value is None or isinstance(value, (dict, list)):
            hint = "To test that it is not there, write `exists: false`" if value is None else ""
            raise self.error(f"{_shown(at.node)} stands where a single value belongs", at, hint)
        self.finite(value, at)
        return value

    def scalars(self, at: _At) -> tuple[Any, ...]:
        if at.node.sequence is None:
            raise self.error(f"{_shown(at.node)} stands where a list of values belongs", at)
        if not at.node.sequence:
            raise self.error("an empty list matches nothing", at, "Remove the key, or name values")
        return tuple(self.scalar(member) for member in at.members())

    def number(self, at: _At) -> float:
        value = at.node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{_shown(at.node)} stands where a number belongs", at)
        self.finite(value, at)
        return value

    def finite(self, value: Any, at: _At) -> None:
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise self.error("this number is not finite", at)

    def flag(self, kind: Flag, at: _At) -> bool:
        value = at.node.value
        if not isinstance(value, bool):
            raise self.error(f"{_shown(at.node)} stands where `true` or `false` belongs", at)
        if kind.only is not None and value is not kind.only:
            raise self.error(f"only `{str(kind.only).lower()}` makes sense here", at, "Remove the key instead")
        return value

    def choices(self, kind: Choices, at: _At) -> tuple[str, ...]:
        if at.node.sequence is None:
            return (self.choice(Choice(kind.words), at),)
        if not at.node.sequence:
            raise self.error("an empty list matches nothing", at, "Remove the key, or name values")
        # In the order of the language, each once: the order in the file has no meaning.
        chosen = {self.choice(Choice(kind.words), member) for member in at.members()}
        return tuple(word for word in kind.words if word in chosen)

    def choice(self, kind: Choice, at: _At) -> str:
        value = at.node.value
        if not isinstance(value, str):
            raise self.error(f"{_shown(at.node)} is none of {', '.join(kind.words)}", at)
        if value not in kind.words:
            raise self.unknown(value, at, list(kind.words), "value")
        return value

    def version(self, at: _At) -> int:
        if at.node.value is True or at.node.value != 1:
            raise self.error(f"{_shown(at.node)} is no version of this language", at, "Write `version: 1`")
        return 1

    def attempt(self, read: Callable[[], ResultT], at: _At) -> ResultT:
        try:
            return read()
        except ValueError as error:
            raise self.error(str(error), at) from None

    # --- values ------------------------------------------------------------------------------------------------

    def template(self, at: _At) -> Template:
        value = at.node.value
        if at.node.mapping is not None:
            raise self.error("a mapping stands where text belongs", at, 'Put a reference in quotes: "{user.id}"')
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise self.error(f"{_shown(at.node)} stands where text belongs", at, "Put it in quotes")
        text = self.text(at)
        return self.attempt(lambda: parse_template(text), at)

    def property(self, at: _At) -> Value:
        if at.node.sequence is not None:
            return ListValue(tuple(self.list_member(member) for member in at.members()))
        if at.node.mapping is None:
            return self.list_member(at)
        # `{shop.total}` without quotes is a YAML mapping of that key to nothing: the commonest slip of all.
        if any(entry.node.value is None for entry in at.node.mapping.values()):
            name = next(iter(at.node.mapping))
            raise self.error("a reference without quotes is a YAML mapping", at, f'Write "{{{name}}}"')
        condition = self.condition(at)
        if isinstance(condition, Group):
            raise self.error("only a single condition can be a value", at, "Write `field` and operators")
        return condition

    def list_member(self, at: _At) -> Literal | Template:
        if isinstance(at.node.value, str):
            source = at.node.value
            template = self.attempt(lambda: parse_template(source), at)
            return template if template.references else Literal(template.text or "")
        return Literal(self.scalar(at))

    def named(self, at: _At, read: Callable[[_At], ResultT]) -> tuple[tuple[str, ResultT], ...]:
        pairs: list[tuple[str, ResultT]] = []
        for name, entry in self.mapping(at).items():
            here = at.child(name, entry)
            if not name.strip():
                raise self.error("a name is empty", here)
            pairs.append((name, read(here)))
        if not pairs:
            raise self.error("an empty mapping", at, "Remove the key, or fill it")
        return tuple(pairs)

    def tests(self, kind: Tests, at: _At) -> tuple[Condition, ...]:
        conditions: list[Condition] = []
        for name, checks in self.named(at, self.test):
            references = self.attempt(
                lambda name=name: parse_reference("|".join(kind.prefix + part.strip() for part in name.split("|"))), at
            )
            conditions.append(Condition(references, tuple(_simplest(check) for check in checks)))
        return tuple(conditions)

    def values(self, at: _At) -> tuple[tuple[str, Value], ...]:
        return self.named(at, self.property)

    def group_values(self, at: _At) -> tuple[tuple[str, tuple[tuple[str, Value], ...]], ...]:
        return self.named(at, self.values)

    def templates(self, at: _At) -> tuple[tuple[str, Template], ...]:
        return self.named(at, self.template)


_READERS: Final[dict[type, Callable[[_Parser, Any, _At], Any]]] = {
    Text: lambda parser, _, at: parser.text(at),
    TemplateText: lambda parser, _, at: parser.template(at),
    Version: lambda parser, _, at: parser.version(at),
    Flag: lambda parser, kind, at: parser.flag(kind, at),
    Choice: lambda parser, kind, at: parser.choice(kind, at),
    Choices: lambda parser, kind, at: parser.choices(kind, at),
    Texts: lambda parser, _, at: parser.texts(at),
    TestType: lambda parser, _, at: parser.test(at),
    Tests: lambda parser, kind, at: parser.tests(kind, at),
    ConditionsType: lambda parser, _, at: parser.conditions(at),
    Values: lambda parser, _, at: parser.values(at),
    Templates: lambda parser, _, at: parser.templates(at),
    GroupValues: lambda parser, _, at: parser.group_values(at),
}


def _references(value: Any) -> Iterator[str]:
    """Every reference in what the parser made of a rule."""
    if isinstance(value, Template):
        for alternatives in value.references:
            yield from alternatives
    elif isinstance(value, Condition):
        yield from value.fields
    elif isinstance(value, (Group, ListValue)):
        yield from _references(value.members)
    elif isinstance(value, dict):
        yield from _references(list(cast("dict[str, Any]", value).values()))
    elif isinstance(value, (tuple, list)):
        for item in cast("list[Any]", value):
            yield from _references(item)


def _simplest(check: Check) -> Check:
    """`one_of: [x]` is `equals: x`: one meaning, one form, one digest."""
    if check.operator in ("one_of", "not_one_of") and len(check.operand) == 1:
        return Check(check.operator.replace("one_of", "equals"), check.operand[0])
    return check


def _first_sentence(key: Key) -> str:
    sentence = key.doc.partition(". ")[0].rstrip(".")
    return f"{sentence[0].lower()}{sentence[1:]}"


def _quotable(value: Any) -> bool:
    return isinstance(value, (int, float))


def _shown(node: Node) -> str:
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = repr(value)
    return shown if len(shown) <= 60 else "a long text"
