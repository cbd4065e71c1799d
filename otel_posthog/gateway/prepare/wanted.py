"""Rules and tags -> what an item's bytes must contain to be worth reading.

Most telemetry can never become an event, and that can be told without decoding it: every tag has `posthog.` in it,
every exception the word, every evaluation of a flag its event's name, and most rules name an attribute key or a name.
`prepare` looks for these needles in the whole request at once, and decodes only the items around them.

Necessary, never sufficient: what the converter makes events of always passes; what passes need not become any.
Whatever makes an item convertible by itself is on the item (`convert/converter.py`): tags of a resource are defaults
for its items and never make one; rules may name a resource or a scope, and are asked once for each.
`tests/parity/test_prepare.py` holds this module and the converter together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Final

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.gateway.inbound import Kind
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.model.frozen import frozen
from otel_posthog.rules import RuleSet
from otel_posthog.rules.condition import compile_condition
from otel_posthog.rules.reference import attribute_key
from otel_posthog.rules.rule import Check, Condition, Group, Rule, operands_of
from otel_posthog.semconv import otel, posthog

Predicate = Callable[[Signal], bool]


class Place(Enum):
    """Where in a string of the item a needle stands."""

    WHOLE = "whole"
    """It is all of it."""
    TAG = "tag"
    """An attribute key begins with it, and is none of `PASSIVE`."""
    EXCEPTION = "exception"
    """It is all of it, begins an attribute key, or ends it after a dot."""
    ANYWHERE = "anywhere"


PASSIVE: Final = frozenset(
    {
        posthog.CARRIER, posthog.TRACE_SAMPLED, posthog.DISTINCT_ID, posthog.SESSION_ID, posthog.WINDOW_ID,
        posthog.PROCESS_PERSON_PROFILE, posthog.IGNORE, posthog.ON, posthog.TIER,
    }
)  # fmt: skip
"""Tags that say something of an event but never make one. Some are on every span of a service that has our package."""


@frozen
class Needle:
    """A text to look for in the bytes of a request."""

    text: str
    place: Place


@frozen
class Need:
    """What one rule needs of an item of one kind.

    Args:
        kind: The kind of item.
        span_kinds: The span is of one of these; empty for any.
        around: Hold of an item's resource and scope alone.
        head: Hold of the item without its attributes, events and body.
        texts: Of each of these sets, the item's bytes contain at least one.
        hunted: The one of them that `prepare` looks for in the whole request; empty where `texts` is.
    """

    kind: SignalKind
    span_kinds: frozenset[str]
    around: tuple[Predicate, ...]
    head: tuple[Predicate, ...]
    texts: tuple[frozenset[Needle], ...]
    hunted: frozenset[Needle]

    def fits_around(self, resource: Resource, scope: Scope) -> bool:
        """Whether items of this resource and scope may match."""
        if not self.around:
            return True
        signal = Signal(self.kind, "", {}, resource, scope)
        return all(holds(signal) for holds in self.around)


@frozen
class Hunt:
    """What makes spans, or log records, worth reading.

    Args:
        tags: An item that contains one of these is read, whatever the rules are.
        needs: What the rules need.
        rules: What to look for on their behalf.
        every: Some rule names nothing that could be looked for: every item is held against `needs`.
    """

    tags: tuple[Needle, ...] = ()
    needs: tuple[Need, ...] = ()
    rules: tuple[Needle, ...] = ()
    every: bool = False


@frozen
class WantedItems:
    """What is worth reading for one caller (`parts.Wanted`).

    Args:
        traces: Of spans.
        logs: Of log records.
        everything: Read every item, whatever is in it.
    """

    traces: Hunt
    logs: Hunt
    everything: bool = False

    def hunt(self, kind: Kind) -> Hunt:
        """What is worth reading in a request of this kind."""
        return self.traces if kind == "traces" else self.logs


EVERYTHING: Final = WantedItems(Hunt(), Hunt(), everything=True)

_TAG: Final = Needle(posthog.PREFIX, Place.TAG)
_EXCEPTION_IN_SPAN: Final = Needle(otel.EXCEPTION_EVENT, Place.WHOLE)
_EXCEPTION_IN_LOG: Final = Needle(otel.EXCEPTION_EVENT, Place.EXCEPTION)
# Also as the value of an attribute: where a log record has no field for its event's name.
_FLAGS: Final = tuple(Needle(name, Place.WHOLE) for name in sorted(otel.FLAG_EVENTS))


def wanted_of(rule_sets: Iterable[RuleSet], convert_configs: Iterable[ConvertConfig]) -> WantedItems:
    """What any of these projects may want.

    Args:
        rule_sets: The rules of each project.
        convert_configs: What each of them converts.
    """
    configs = tuple(convert_configs)
    exceptions = any(config.exceptions for config in configs)
    flags = _FLAGS if any(config.flag_events != "off" for config in configs) else ()
    rules = [rule for rule_set in rule_sets for rule in rule_set.rules if not rule.drop]
    return WantedItems(
        _hunt((_TAG, *(_EXCEPTION_IN_SPAN,) * exceptions, *flags), rules, (SignalKind.SPAN, SignalKind.SPAN_EVENT)),
        _hunt((_TAG, *(_EXCEPTION_IN_LOG,) * exceptions, *flags), rules, (SignalKind.LOG,)),
    )


def _hunt(tags: tuple[Needle, ...], rules: list[Rule], kinds: tuple[SignalKind, ...]) -> Hunt:
    needs = tuple(_need(rule, kind) for rule in rules for kind in kinds if kind.value in rule.kinds)
    hunted = {needle: None for need in needs for needle in sorted(need.hunted, key=lambda needle: needle.text)}
    return Hunt(tags, needs, tuple(hunted), any(not need.hunted for need in needs))


def _need(rule: Rule, kind: SignalKind) -> Need:
    around: list[Predicate] = []
    head: list[Predicate] = []
    texts: list[frozenset[Needle]] = []
    for condition in _required(rule.conditions):
        fields = set(_fields(condition))
        if all(field.startswith(("resource.", "scope.")) for field in fields):
            around.append(compile_condition(condition))
            continue
        if kind is not SignalKind.SPAN_EVENT and all(_is_head(field) for field in fields):
            # Of a span event the head is that of the event, which a look at its span does not show.
            head.append(compile_condition(condition))
        texts += _texts(condition)
    # What the event's name refers to has to be there too: a rule with a hole in the name does not match.
    for references in rule.event.references if rule.event is not None else ():
        keys = _keys(references)
        texts += [keys] if keys else []
    return Need(
        kind=kind,
        span_kinds=frozenset(rule.span_kinds if kind is SignalKind.SPAN else ()),
        around=tuple(around),
        head=tuple(head),
        texts=tuple(texts),
        hunted=min(texts, key=_frequency, default=frozenset[Needle]()),
    )


def _required(conditions: Iterable[Condition | Group]) -> Iterable[Condition | Group]:
    """The conditions that must hold one by one."""
    for condition in conditions:
        if isinstance(condition, Group) and condition.how == "all":
            yield from _required(condition.members)
        else:
            yield condition


def _fields(condition: Condition | Group) -> Iterable[str]:
    if isinstance(condition, Condition):
        yield from condition.fields
    else:
        for member in condition.members:
            yield from _fields(member)


_HEAD: Final = frozenset(
    {
        "name", "kind", "span_kind", "status", "status_description", "duration_ms", "severity", "severity_number",
        "trace_id", "span_id", "parent_span_id",
    }
)  # fmt: skip
_TEXTS: Final = frozenset({"name", "status_description", "span.name", "body"})
"""Fields beside attributes that are texts in the item's own bytes."""


def _is_head(field: str) -> bool:
    return field in _HEAD or field.startswith(("resource.", "scope."))


# --- what must be in the bytes ---------------------------------------------------------------------------------------


def _texts(condition: Condition | Group) -> list[frozenset[Needle]]:
    """Sets of needles of which one each must be there where `condition` holds."""
    if isinstance(condition, Group):
        if condition.how == "all":
            return [needles for member in condition.members for needles in _texts(member)]
        if condition.how != "any":
            return []
        # One of the members holds, nobody knows which: the best needles of each.
        of_members = [_texts(member) for member in condition.members]
        if not all(of_members):
            return []
        return [frozenset[Needle]().union(*(min(texts, key=_frequency) for texts in of_members))]
    found: list[frozenset[Needle]] = []
    if any(_needs_value(check) for check in condition.checks):
        keys = _keys(condition.fields)
        found += [keys] if keys else []
    if all(_in_bytes(field) for field in condition.fields):
        found += [needles for check in condition.checks if (needles := _values(check))]
    return found


def _needs_value(check: Check) -> bool:
    """Whether it fails where the field is missing."""
    return check.operand is True if check.operator == "exists" else not check.operator.startswith("not_")


def _keys(fields: Iterable[str]) -> frozenset[Needle]:
    """The keys of which one must be there; empty where something else may serve as well."""
    needles: set[Needle] = set()
    for field in fields:
        key = _key(field)
        if not key or _MENDED in key:
            return frozenset()
        needles.add(Needle(key, Place.WHOLE))
    return frozenset(needles)


def _key(field: str) -> str | None:
    """The attribute key, of the item or its span, that `field` reads."""
    if field.startswith("span.") and field not in ("span.name", "span.kind"):
        return field[len("span.") :]
    return attribute_key(field)


def _in_bytes(field: str) -> bool:
    return field in _TEXTS or field.startswith("body.") or _key(field) is not None


def _values(check: Check) -> frozenset[Needle]:
    """The texts of which one is in every value that passes; empty where there are none."""
    if check.operator in ("equals", "one_of"):
        needles = {_value(operand, Place.WHOLE) for operand in operands_of(check)}
    elif check.operator == "glob":
        needles = {_value(_longest_piece(operand), Place.ANYWHERE) for operand in operands_of(check)}
    else:
        return frozenset()
    return frozenset(needle for needle in needles if needle) if None not in needles else frozenset()


_SPELLS_SCALARS: Final = re.compile(r"[-+.0-9a-z]*\Z")
"""What numbers and booleans can look like: `200` also equals the number, `true` the boolean."""
_SHORTEST: Final = 3
_MENDED: Final = "\ufffd"
"""What invalid UTF-8 becomes when it is read: the bytes are others."""


def _value(operand: Any, place: Place) -> Needle | None:
    if not isinstance(operand, str) or len(operand) < _SHORTEST or _MENDED in operand:
        return None
    return None if _SPELLS_SCALARS.match(operand) else Needle(operand, place)


def _longest_piece(glob: str) -> str:
    """The longest text that is in everything that `glob` matches."""
    # Beyond a bracket it takes a parser to know what is literal.
    return max(re.split(r"[*?]", glob.partition("[")[0]), key=len)


_COMMON: Final = (
    "http.", "url.", "net.", "network.", "server.", "client.", "user_agent.", "db.", "rpc.", "messaging.", "thread.",
    "code.", "error.", "peer.", "otel.",
)  # fmt: skip
"""Keys that instrumentations write on nearly every span."""


def _frequency(needles: frozenset[Needle]) -> tuple[int, int, int]:
    """How often `needles` are to be expected, for comparison."""
    return (
        max(2 if needle.place is Place.WHOLE and needle.text.startswith(_COMMON) else 0 for needle in needles),
        len(needles),
        -min(len(needle.text) for needle in needles),
    )
