"""A tree of Nodes -> Rules, by the tables of `schema.py`. Every complaint names file, line, key and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from otel_posthog.rules.at import At
from otel_posthog.rules.document import Entry, Node
from otel_posthog.rules.functions import (
    CallText,
    FunctionEvent,
    check_moment,
    read_event_name,
    read_group,
    read_person,
    read_target,
    read_value,
)
from otel_posthog.rules.parse_scalars import shown_node
from otel_posthog.rules.parse_users import read_groups, read_reference, read_sources, read_user_id
from otel_posthog.rules.parse_values import ValueReader
from otel_posthog.rules.rule import Condition, Group, ListValue, Rule
from otel_posthog.rules.schema import (
    FILE,
    FUNCTION,
    MATCH,
    RULE,
    TABLES,
    USERS,
    CallPerson,
    CallTemplate,
    CallValues,
    Choice,
    Choices,
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
    Tests,
    Text,
    Texts,
    Type,
    UserId,
    Values,
    Version,
)
from otel_posthog.rules.schema import Conditions as ConditionsType
from otel_posthog.rules.schema import Test as TestType
from otel_posthog.rules.template import Template
from otel_posthog.rules.users import UsersConfig
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
_FUNCTIONS: Final = 'Write the function and its event: `"shop.billing:charge": {event: charge completed}`'
_ONLY_AT_END: Final = ("duration_ms", "status", "status_description")


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """What a rules file says."""

    rules: tuple[Rule, ...]
    default_rules: bool = False
    users: UsersConfig | None = None
    functions: tuple[FunctionEvent, ...] = ()


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
    return _Parser(file, reserved).file(At(root, key, root.line))


class _Parser(ValueReader):
    def __init__(self, file: str, reserved: str = "") -> None:
        super().__init__(file)
        self._reserved = reserved

    # --- tables ------------------------------------------------------------------------------------------------

    def file(self, at: At) -> ParsedFile:
        if at.node.value is None:
            raise self.error("the file is empty", at, "Write `rules:` with at least one rule")
        if at.node.sequence is not None:
            raise self.error("the file is a list", at, "Write `rules:` above it")
        fields = self.table(FILE, at, ignore="x-")
        defaults: bool = fields.get("default_rules", False)
        if not defaults and fields.keys() <= {"version", "default_rules"}:
            raise self.error("`rules` is missing", at, "Add `rules:` with at least one rule, or `default_rules: true`")
        return ParsedFile(fields.get("rules", ()), defaults, fields.get("users"), fields.get("functions", ()))

    def table(self, table: Table, at: At, *, ignore: str = "\0") -> dict[str, Any]:
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

    def value(self, kind: Type, at: At) -> Any:
        """The value of one key by its type."""
        if isinstance(kind, Sub):
            return self.sub(kind, at)
        if isinstance(kind, Many):
            return self.rules(at)
        if isinstance(kind, Functions):
            return self.functions(at)
        return _READERS[type(kind)](self, kind, at)

    def sub(self, kind: Sub, at: At) -> Any:
        table = TABLES[kind.table]
        if kind.short and isinstance(at.node.value, str):
            short = table.key_by_name[kind.short]
            return {short.name: self.value(short.type, at)}
        if kind.short and at.node.mapping is None:
            raise self.error(
                f"{shown_node(at.node)} stands where text or a mapping belongs", at, f"Write `{kind.short}` in quotes"
            )
        fields = self.table(table, at)
        if table is USERS:
            return UsersConfig(**fields)
        return self.match(fields, at) if table is MATCH else fields

    def rules(self, at: At) -> tuple[Rule, ...]:
        if at.node.sequence is None:
            raise self.error(
                f"{shown_node(at.node)} stands where the list of rules belongs", at, "Begin each rule with `-`"
            )
        if not at.node.sequence:
            raise self.error("there are no rules", at, "Write at least one, or unset OTEL_POSTHOG_CONFIG")
        rules: list[Rule] = []
        seen: dict[str, At] = {}
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

    # --- functions ---------------------------------------------------------------------------------------------

    def functions(self, at: At) -> tuple[FunctionEvent, ...]:
        found: list[FunctionEvent] = []
        for mapping in (at,) if at.node.sequence is None else at.members():
            for name, entry in self.mapping(mapping, _FUNCTIONS).items():
                here = mapping.child(name, entry)
                target = read_target(self, name, here)
                events = (here,) if here.node.sequence is None else tuple(here.members())
                if not events:
                    raise self.error("an empty list", here, "Remove the function, or give it an event")
                found += [self.function(*target, one) for one in events]
        if not found:
            raise self.error("there are no functions", at, "Remove the key, or name some")
        return tuple(found)

    def function(self, module: str, qualname: str, at: At) -> FunctionEvent:
        entries: dict[str, Entry] = {}
        if isinstance(at.node.value, str):
            fields: dict[str, Any] = {"event": read_event_name(self, at)}
        else:
            fields = self.table(FUNCTION, at)
            entries = self.mapping(at)
        if "properties" in entries:
            self.no_structural(at.child("properties", entries["properties"]))
        self.event_name(fields["event"], at.child("event", entries["event"]) if entries else at)
        place = f"{self._file}, line {at.line}" if at.line else self._file
        found = FunctionEvent(module, qualname, place=place, **fields)
        check_moment(self, found, fields, at.child("on", entries["on"]) if "on" in entries else at)
        return found

    # --- a rule ------------------------------------------------------------------------------------------------

    def rule(self, at: At) -> Rule:
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

    def no_structural_properties(self, entries: dict[str, Entry], at: At) -> None:
        for part in ("capture", "properties"):
            if part not in entries:
                return
            at = at.child(part, entries[part])
            entries = at.node.mapping or {}
        self.no_structural(at)

    def no_structural(self, at: At) -> None:
        for name, entry in (at.node.mapping or {}).items():
            if name in _STRUCTURAL:
                raise self.error(
                    f"`{name}` is no property that a rule can write", at.child(name, entry), _STRUCTURAL[name]
                )

    def event_name(self, template: Template | CallText, at: At) -> None:
        name = template.text
        at = at if at.node.mapping is None else at.child("event", at.node.mapping["event"])
        if name in _RESERVED:
            raise self.error(f"`{name}` is made by other actions", at, _RESERVED[name])
        size = sum(len(part.encode()) for part in template.parts if isinstance(part, str))
        if size > posthog.MAX_NAME_BYTES:
            raise self.error(f"the name has {size} bytes, PostHog takes {posthog.MAX_NAME_BYTES}", at)

    def distinct_id(self, template: Template, at: At) -> None:
        text = template.text
        if text is not None and text.strip().lower() in posthog.ILLEGAL_DISTINCT_IDS:
            raise self.error(
                f"PostHog does not accept {text!r} as a distinct id", at, 'Write a reference, e.g. "{user.id}"'
            )


_READERS: Final[dict[type, Callable[[_Parser, Any, At], Any]]] = {
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
    Reference: lambda parser, _, at: read_reference(parser, at),
    UserId: lambda parser, _, at: read_user_id(parser, at),
    References: lambda parser, kind, at: (
        read_groups(parser, at, posthog.MAX_GROUP_TYPES)
        if kind.groups
        else parser.named(at, lambda one: read_reference(parser, one))
    ),
    Sources: lambda parser, _, at: read_sources(parser, at),
    CallTemplate: lambda parser, _, at: read_event_name(parser, at),
    CallPerson: lambda parser, _, at: read_person(parser, at),
    CallValues: lambda parser, kind, at: (
        read_group(parser, at) if kind.groups else parser.named(at, lambda one: read_value(parser, one))
    ),
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


def _first_sentence(key: Key) -> str:
    sentence = key.doc.partition(". ")[0].rstrip(".")
    return f"{sentence[0].lower()}{sentence[1:]}"
