"""The rule language, once: every key with its type, meaning and an example.

From these tables come the parser (`parse.py`), the JSON Schema for editors (`json_schema.py`) and the reference in
`docs/rules.md` (`reference_docs.py`). A new key is one `Key` here and its meaning in `parse.py` and `engine.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SIGNAL_KINDS: Final = ("span", "span_event", "log")
SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")
STATUSES: Final = ("unset", "ok", "error")
ENDS: Final = ("end", "start")
OUTCOMES: Final = ("success", "failure", "always")
SEVERITIES: Final = ("trace", "debug", "info", "warn", "error", "fatal")
"""By rank: each covers four OTel severity numbers, from `4 * rank + 1`."""


# --- types ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A non-empty string, taken as it is."""


@dataclass(frozen=True, slots=True)
class TemplateText:
    """A non-empty string with `{references}`."""


@dataclass(frozen=True, slots=True)
class Version:
    """The version of the rule language, a number."""


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`; with `only`, that one alone."""

    only: bool | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choices:
    """One of some words, or a list of them."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Texts:
    """A non-empty string or a list of them."""


@dataclass(frozen=True, slots=True)
class Test:
    """A value (equals), a list of values (one of), or a mapping of operators (all of them)."""


@dataclass(frozen=True, slots=True)
class Tests:
    """A mapping from attribute key to `Test`; `prefix` is put before each key to make a reference."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """A list of conditions."""


@dataclass(frozen=True, slots=True)
class Values:
    """A mapping from property name to a value."""


@dataclass(frozen=True, slots=True)
class Templates:
    """A mapping from name to a template."""


@dataclass(frozen=True, slots=True)
class GroupValues:
    """A mapping from group type to a mapping of properties."""


@dataclass(frozen=True, slots=True)
class Sub:
    """A mapping by a table of its own; where `short` is set, a bare string stands for that key alone."""

    table: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class Many:
    """A non-empty list of mappings by a table."""

    table: str


@dataclass(frozen=True, slots=True)
class Reference:
    """Where something of the logged-in user is found."""


@dataclass(frozen=True, slots=True)
class UserId:
    """A reference into a user, or text with such references."""


@dataclass(frozen=True, slots=True)
class References:
    """A mapping from name to `Reference`; `groups` where the names are group types."""

    groups: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """A place where logged-in users are found, or a list of them, maybe empty."""


@dataclass(frozen=True, slots=True)
class Functions:
    """A mapping from `module:function` to a table (or a list of such), or a list of such mappings."""

    table: str


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """Text with references to a call in braces."""


@dataclass(frozen=True, slots=True)
class CallPerson:
    """A reference to a call, or text with such references."""


@dataclass(frozen=True, slots=True)
class CallValues:
    """A mapping from name to a reference to a call, text with references, or a constant; `groups` of group types."""

    groups: bool = False


Type = (
    Text
    | TemplateText
    | Version
    | Flag
    | Choice
    | Choices
    | Texts
    | Test
    | Tests
    | Conditions
    | Values
    | Templates
    | GroupValues
    | Sub
    | Many
    | Reference
    | UserId
    | References
    | Sources
    | Functions
    | CallTemplate
    | CallPerson
    | CallValues
)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Args:
        name: As written in the file.
        type: What its value may be.
        doc: What it means, in Markdown.
        required: Whether it must be there.
        default: What holds without it, for the reference; "" where the key is simply absent.
        example: A YAML value, for the reference.
    """

    name: str
    type: Type
    doc: str
    required: bool = False
    default: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of mapping in the file."""

    name: str
    title: str
    doc: str
    keys: tuple[Key, ...]
    key_by_name: dict[str, Key] = field(init=False, compare=False, repr=False, default_factory=dict[str, Key])

    def __post_init__(self) -> None:
        self.key_by_name.update({key.name: key for key in self.keys})


@dataclass(frozen=True, slots=True)
class Operator:
    """One comparison.

    Args:
        name: As written in the file.
        operand: `scalar`, `scalars` (a list), `texts` (one or a list), `regex`, `number` or `flag`.
        doc: What it means, in Markdown.
        negates: The operator whose exact opposite it is, "" for none.
    """

    name: str
    operand: str
    doc: str
    negates: str = ""


OPERATORS: Final = (
    Operator("equals", "scalar", "is this value"),
    Operator("one_of", "scalars", "is one of these values"),
    Operator("glob", "texts", "matches this pattern (`*` any text, `?` one character, `[ab]` a set), or one of a list"),
    Operator("regex", "regex", "this regular expression is found in it (Python syntax; anchor it with `^` and `$`)"),
    Operator("gt", "number", "is a number greater than this"),
    Operator("gte", "number", "is a number greater than or equal to this"),
    Operator("lt", "number", "is a number less than this"),
    Operator("lte", "number", "is a number less than or equal to this"),
    Operator("exists", "flag", "is there (`true`) or is not there (`false`)"),
    Operator("not_equals", "scalar", "not `equals`: also true where the field is missing", negates="equals"),
    Operator("not_one_of", "scalars", "not `one_of`: also true where the field is missing", negates="one_of"),
    Operator("not_glob", "texts", "not `glob`: also true where the field is missing", negates="glob"),
    Operator("not_regex", "regex", "not `regex`: also true where the field is missing", negates="regex"),
)
OPERATOR_BY_NAME: Final = {operator.name: operator for operator in OPERATORS}

FILE: Final = Table(
    "file",
    "The file",
    "A YAML file, or the table `[tool.otel_posthog]` of a `pyproject.toml`.",
    (
        Key("version", Version(), "Version of this language; only `1` exists.", default="1", example="1"),
        Key(
            "default_rules",
            Flag(),
            "Append the default rule set (page views and API requests) after these rules.",
            default="false",
            example="true",
        ),
        Key(
            "rules",
            Many("rule"),
            "The rules, in order: the first that matches an item decides. Optional beside the other keys.",
        ),
        Key(
            "users",
            Sub("users"),
            "Who a logged-in user is, and what of them leaves; for the frameworks that are instrumented in the process "
            "(`docs/frameworks.md`).",
        ),
        Key(
            "functions",
            Functions("function"),
            "Functions of the app that become events, by `package.module:function` or `package.module:Class.method` "
            "(`docs/functions.md`). A bare string is the event's name; a function may have a list of events.",
            example='{"shop.billing:charge": {event: charge completed, properties: {amount: args.amount}}}',
        ),
    ),
)

RULE: Final = Table(
    "rule",
    "A rule",
    "What to match and what to do about it. At least one action beside `name`, `match` and `on` is needed.",
    (
        Key("name", Text(), "Unique name; shown in outcomes, counters and `explain`.", required=True, example="paid"),
        Key("match", Sub("match"), "What an item must be like; all of it must hold.", required=True),
        Key(
            "on",
            Choice(ENDS),
            "At which end of a span the rule fires. `start` sends the event before a long span ends: only what is "
            "known at the start can be matched and used.",
            default="end",
            example="start",
        ),
        Key(
            "capture",
            Sub("capture", short="event"),
            "Send an event. A bare string is the event's name.",
            example='"order paid"',
        ),
        Key(
            "distinct_id",
            TemplateText(),
            "Who it is. Where a reference is missing, the identity of the item itself is used.",
            example='"{shop.customer.id}"',
        ),
        Key("set", Values(), "Person properties to set.", example='{plan: "{shop.plan}"}'),
        Key(
            "set_once",
            Values(),
            "Person properties to set where the person has none yet.",
            example='{first_product: "{shop.product.id}"}',
        ),
        Key("unset", Texts(), "Person properties to remove.", example="[trial_ends]"),
        Key(
            "group",
            Templates(),
            "Group type to group key; the event belongs to that group. At most 5 types.",
            example='{company: "{shop.company.id}"}',
        ),
        Key(
            "group_set",
            GroupValues(),
            "Group type to properties of the group. The key comes from `group`, or from the item.",
            example='{company: {name: "{shop.company.name}"}}',
        ),
        Key("alias", TemplateText(), "Another id of the same person (`$create_alias`).", example='"{shop.legacy_id}"'),
        Key(
            "anon_distinct_id",
            TemplateText(),
            "The anonymous id that this person had before (`$identify`, merges the two).",
            example='"{shop.visitor.id}"',
        ),
        Key(
            "drop",
            Flag(only=True),
            "`true`: such items never become events. No other action may stand beside it.",
            example="true",
        ),
    ),
)

MATCH: Final = Table(
    "match",
    "`match`",
    "Everything that is given must hold.",
    (
        Key(
            "kind",
            Choices(SIGNAL_KINDS),
            "What the item is. A span, its span events and its log records are separate items: a rule for several "
            "kinds counts each of them.",
            default="span",
            example="[span_event, log]",
        ),
        Key("span_kind", Choices(SPAN_KINDS), "The span's kind. Spans only.", example="server"),
        Key(
            "name",
            Test(),
            "Name of the span or span event; the event name of a log record.",
            example='{glob: "POST /checkout*"}',
        ),
        Key("scope", Test(), "Name of the instrumentation scope.", example="opentelemetry.instrumentation.flask"),
        Key("scope_version", Test(), "Version of the instrumentation scope.", example='{glob: "0.6*"}'),
        Key("status", Choices(STATUSES), "The span's status. Spans only.", example="error"),
        Key(
            "severity",
            Test(),
            "A log record's severity, by name (`trace`, `debug`, `info`, `warn`, `error`, `fatal`) or OTel number "
            "(1 to 24). Log records only.",
            example="{gte: warn}",
        ),
        Key("body", Test(), "A log record's body. Log records only.", example='{regex: "^order \\\\d+ paid"}'),
        Key(
            "attributes",
            Tests("attributes."),
            "The item's own attributes, each with a test.",
            example="{shop.vip: true}",
        ),
        Key(
            "resource",
            Tests("resource."),
            "Resource attributes, each with a test.",
            example="{service.name: [shop, checkout]}",
        ),
        Key(
            "all",
            Conditions(),
            "Conditions that must all hold.",
            example="[{fields: [http.response.status_code, http.status_code], lt: 400}]",
        ),
        Key(
            "any",
            Conditions(),
            "Conditions of which at least one must hold.",
            example="[{field: url.path, equals: /}, {field: url.path, equals: /home}]",
        ),
        Key("none", Conditions(), "Conditions of which none may hold.", example="[{field: shop.test, equals: true}]"),
    ),
)

CONDITION: Final = Table(
    "condition",
    "A condition",
    "Either `field` or `fields` with one operator or more (all must hold), or a nested `all`, `any` or `none`.",
    (
        Key("field", Text(), "A reference: an attribute key, or one of the names below.", example="shop.order.total"),
        Key(
            "fields",
            Texts(),
            "Alternative references, preferred first: the first that is there is tested. A rule that names the old "
            "and the new key survives a rename in the semantic conventions.",
            example="[http.response.status_code, http.status_code]",
        ),
        Key("all", Conditions(), "All of these conditions must hold."),
        Key("any", Conditions(), "At least one of these conditions must hold."),
        Key("none", Conditions(), "None of these conditions may hold."),
    ),
)

CAPTURE: Final = Table(
    "capture",
    "`capture`",
    "The event to send.",
    (
        Key(
            "event",
            TemplateText(),
            "The event's name. Where a reference in it is missing, the rule does not match: a name with a hole would "
            "be another event.",
            required=True,
            example='"order {shop.order.state}"',
        ),
        Key(
            "properties",
            Values(),
            "Property name to value. A value that is missing is left out.",
            example='{total: "{shop.order.total}", source: shop}',
        ),
        Key(
            "include",
            Texts(),
            "Patterns of the item's own attributes to copy as properties. `properties` wins; `posthog.*` is never "
            "copied.",
            example='["shop.order.*"]',
        ),
        Key("strip_prefix", Text(), "Cut this from the names of included attributes.", example="shop.order."),
    ),
)

USERS: Final = Table(
    "users",
    "`users`",
    "How logged-in users become people. A reference is the path of an attribute or key of the user object "
    "(`user.role`, or just `role`), `login.method`, `login.provider`, `login.backend`, `login.route` or `login.at` of "
    "the login, or `session.<key>`. What is not named here does not leave the process; only the id does.",
    (
        Key(
            "distinct_id",
            UserId(),
            'The person\'s id: a reference, or text with references in braces (`"user-{user.id}"`). By default the '
            "user's own: Django's primary key, else `id`.",
            example="user.uuid",
        ),
        Key(
            "set",
            References(),
            "Person properties, set at each login, and in a request after one of them changed.",
            example="{role: user.role, is_admin: user.is_superuser, auth_method: login.method}",
        ),
        Key(
            "set_once",
            References(),
            "Person properties that keep their first value.",
            example="{first_seen: user.date_joined}",
        ),
        Key(
            "groups",
            References(groups=True),
            "Group type to the key of the user's group, for everything that the request captures.",
            example="{company: user.company_id}",
        ),
        Key(
            "signups",
            Flag(),
            "Whether a visitor who signs up without being logged in is identified at once; `false` for: at the first "
            "login.",
            default="true",
        ),
        Key(
            "sources",
            Sources(),
            "Where users are found beside Flask-Login, Django's and Starlette's authentication: `session.<key>`, "
            "`g.<name>` (Flask), `state.<name>` (Starlette), `request.<name>`, `dependency.<function>` (FastAPI) or "
            "`package.module:function`, called with the request. An empty list: nowhere else.",
            default="g.user, state.user, dependency.get_current_user",
            example="[session.user_id, dependency.get_current_account]",
        ),
    ),
)

FUNCTION: Final = Table(
    "function",
    "A function",
    "Which event a call becomes. A value is a reference (`args.<argument>`, `result`, `result.<path>`, `error.type`, "
    "`duration_ms`, `success`), text with references in braces, or a constant; text that looks like a reference is "
    "`{text: ...}`. Nothing of a call leaves the process that is not named here.",
    (
        Key("event", CallTemplate(), "Name of the event.", required=True, example="charge completed"),
        Key(
            "on",
            Choice(ENDS),
            "Whether the event is sent when the call ends, or when it starts: then only arguments are known.",
            default="end",
            example="start",
        ),
        Key(
            "when",
            Choice(OUTCOMES),
            "Calls that return (`success`), calls that raise (`failure`), or both (`always`).",
            default="success",
            example="always",
        ),
        Key(
            "properties",
            CallValues(),
            "Property name to value. A value that is not there is left out.",
            example='{amount: args.amount, charge: result.id, source: shop, label: "{args.kind}-{args.country}"}',
        ),
        Key(
            "distinct_id",
            CallPerson(),
            "Who it is. Without it, or where it is not there, the person of the request.",
            example="args.user.id",
        ),
        Key("set", CallValues(), "Person properties to set.", example="{plan: result.plan}"),
        Key(
            "set_once",
            CallValues(),
            "Person properties to set where the person has none yet.",
            example="{first_charge: args.amount}",
        ),
        Key(
            "group",
            CallValues(groups=True),
            "Group type to group key, for this event. At most 5 types.",
            example="{company: args.company_id}",
        ),
    ),
)

TABLES: Final = {table.name: table for table in (FILE, RULE, MATCH, CONDITION, CAPTURE, USERS, FUNCTION)}

REFERENCES: Final = (
    ("<key>", "the item's own attribute of that key"),
    ("attributes.<key>", "the same, for keys that look like one of the names below"),
    ("resource.<key>", "a resource attribute, e.g. `resource.service.name`"),
    ("scope.name, scope.version, scope.<key>", "the instrumentation scope and its attributes"),
    ("span.name, span.kind, span.<key>", "of a span event: the span that holds it, and that span's attributes"),
    ("name", "name of the span or span event; the event name of a log record"),
    ("kind", "`span`, `span_event` or `log`"),
    ("span_kind", "`internal`, `server`, `client`, `producer` or `consumer`"),
    ("status, status_description", "a span's status (`unset`, `ok`, `error`) and its text"),
    ("duration_ms", "a span's duration in milliseconds, a number; missing until the span has ended"),
    ("severity, severity_number", "a log record's severity: its text (or the OTel name), and its OTel number"),
    ("body, body.<key>", "a log record's body, and a member of a body that is a map (`a.b` descends)"),
    ("trace_id, span_id, parent_span_id", "ids as lower-case hex"),
)
"""The names that a reference may have, for the reference documentation; `reference.py` resolves them."""
