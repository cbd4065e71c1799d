"""What the section `functions:` of the rules file says: which functions of the app become events, with what of a call.

Only reading; `instrumentation/functions.py` wraps them. Values are paths into the call, never expressions: whoever may
write the file may read attributes, and run nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from otel_posthog.rules.at import At
from otel_posthog.rules.parse_scalars import ScalarReader, shown_node
from otel_posthog.rules.template import parse_template
from otel_posthog.semconv import posthog

AT_THE_END: Final = frozenset({"result", "error", "duration_ms", "success"})
"""Roots that are not known when a call starts."""
_NAME: Final = r"[A-Za-z_]\w*"
_TARGET: Final = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME}(?:\.{_NAME})*)\Z")
_PATH: Final = re.compile(rf"{_NAME}(\.[\w-]+)*\Z")
_WORDS: Final = ("result", "duration_ms", "success")


@dataclass(frozen=True, slots=True)
class CallReference:
    """Where in a call a value is found.

    Args:
        root: `args`, `result`, `error`, `duration_ms` or `success`.
        path: Argument, attributes, keys or positions, one inside the other.
    """

    root: str
    path: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As written."""
        return ".".join((self.root, *self.path))


@dataclass(frozen=True, slots=True)
class CallText:
    """Text with references in it; one reference alone keeps the type of what it finds.

    Args:
        parts: Text as `str`; a reference as its alternatives, of which the first that finds something counts.
    """

    parts: tuple[str | tuple[CallReference, ...], ...]

    @property
    def references(self) -> tuple[CallReference, ...]:
        """All of them."""
        return tuple(one for part in self.parts if not isinstance(part, str) for one in part)

    @property
    def text(self) -> str | None:
        """The text, where there is no reference in it."""
        return None if self.references else "".join(part for part in self.parts if isinstance(part, str))


CallValue = CallText | str | int | float | bool
"""A constant, or a text with references."""
Named = tuple[tuple[str, CallValue], ...]


@dataclass(frozen=True, slots=True)
class FunctionEvent:
    """One event of one function.

    Args:
        module: Dotted name of the module.
        qualname: Name in the module, `Class.method` for methods.
        event: Name of the event.
        on: `end` or `start` of the call.
        when: Which outcome it takes: `success`, `failure` or `always`.
        properties: Property -> value.
        distinct_id: Who it is; `None` for the context's person.
        set: Person property -> value.
        set_once: The same, for properties that are set where they are not set yet.
        group: Group type -> key.
        place: File and line, for complaints at run time.
    """

    module: str
    qualname: str
    event: CallText
    on: str = "end"
    when: str = "success"
    properties: Named = ()
    distinct_id: CallText | None = None
    set: Named = ()
    set_once: Named = ()
    group: Named = ()
    place: str = ""

    @property
    def target(self) -> str:
        """As written."""
        return f"{self.module}:{self.qualname}"

    @property
    def values(self) -> Iterator[CallValue]:
        """Everything that is read from a call."""
        yield self.event
        if self.distinct_id is not None:
            yield self.distinct_id
        for named in (self.properties, self.set, self.set_once, self.group):
            yield from (value for _, value in named)

    @property
    def references(self) -> tuple[CallReference, ...]:
        """All references."""
        return tuple(one for value in self.values if isinstance(value, CallText) for one in value.references)


def read_target(reader: ScalarReader, name: str, at: At) -> tuple[str, str]:
    """Module and name in it.

    Raises:
        RulesError: It names no function.
    """
    found = _TARGET.match(name.strip())
    if found is None:
        raise reader.error(
            f"{name!r} names no function", at, "Write `package.module:function`, or `package.module:Class.method`"
        )
    return found[1], found[2]


def read_reference(reader: ScalarReader, text: str, at: At) -> CallReference:
    """A reference: `args.<name>`, `result`, `result.<path>`, `error.type`, `duration_ms`, `success`.

    Raises:
        RulesError: It is none.
    """
    root, _, rest = text.partition(".")
    path = tuple(rest.split(".")) if rest else ()
    if not _PATH.match(text) or any(name.startswith("__") for name in path):
        raise reader.error(f"{text!r} is no reference", at, "Write a path, e.g. `args.order.total`")
    if root == "args":
        if not path:
            raise reader.error("`args` is not a value", at, "Name an argument, e.g. `args.amount`")
    elif root != "result" and text not in ("error.type", *_WORDS):
        raise _unknown(reader, text, at)
    return CallReference(root, path)


def read_value(reader: ScalarReader, at: At) -> CallValue:
    """A reference, a text with references in braces, or a constant.

    Raises:
        RulesError: It is none of these.
    """
    value = at.node.value
    if isinstance(value, (bool, int, float)):
        reader.finite(value, at)
        return value
    if at.node.mapping is not None:
        return _constant(reader, at)
    text = reader.text(at)
    if "{" in text or "}" in text:
        return read_text(reader, at)
    bare = text.strip()
    root = bare.partition(".")[0]
    if root in ("args", "result", "error") or bare in _WORDS:
        return CallText(((read_reference(reader, bare, at),),))
    if re.match(rf"{_NAME}(\.\w+)+\Z", bare) or difflib.get_close_matches(bare, _WORDS, n=1, cutoff=0.8):
        raise _unknown(reader, bare, at)
    return text


def read_text(reader: ScalarReader, at: At) -> CallText:
    """Text with references in braces.

    Raises:
        RulesError: A brace has no partner, or a reference is none.
    """
    if at.node.mapping is not None:
        raise reader.error("a mapping stands where text belongs", at, 'Put it in quotes: "charge {args.kind}"')
    source = reader.text(at)
    template = reader.attempt(lambda: parse_template(source), at)
    parts: list[str | tuple[CallReference, ...]] = []
    for part in template.parts:
        if isinstance(part, str):
            parts.append(part)
        else:
            parts.append(tuple(read_reference(reader, one, at) for one in part))
    return CallText(tuple(parts))


def read_event_name(reader: ScalarReader, at: At) -> CallText:
    """The name of an event: text, with references in braces.

    Raises:
        RulesError: It is none, or a reference without braces.
    """
    found = read_text(reader, at)
    text = found.text
    if text is not None and re.match(r"(args|result)\.[\w.]+\Z|error\.type\Z", text.strip()):
        raise reader.error("a reference stands where a name belongs", at, f'Put it in braces: "{{{text.strip()}}}"')
    return found


def read_person(reader: ScalarReader, at: At) -> CallText:
    """Who an event belongs to: a reference, or text with references.

    Raises:
        RulesError: It is the same for all calls.
    """
    found = read_value(reader, at)
    if not isinstance(found, CallText) or not found.references:
        raise reader.error(
            f"{shown_node(at.node)} would be the person of every call", at, "Write a reference, e.g. `args.user_id`"
        )
    return found


def read_group(reader: ScalarReader, at: At) -> Named:
    """Group types and keys.

    Raises:
        RulesError: There are more types than PostHog takes, or a type cannot be one.
    """
    groups = reader.named(at, lambda one: read_value(reader, one))
    if len(groups) > posthog.MAX_GROUP_TYPES:
        raise reader.error(
            f"{len(groups)} group types, but a PostHog project has at most {posthog.MAX_GROUP_TYPES}", at
        )
    return groups


def check_moment(reader: ScalarReader, found: FunctionEvent, fields: dict[str, Any], at: At) -> None:
    """Refuses what is not known at the start.

    Raises:
        RulesError: `on: start` with something of the end.
    """
    if found.on != "start":
        return
    if "when" in fields:
        raise reader.error("`when` is decided at the end of a call", at, "Remove it, or `on: start`")
    for reference in found.references:
        if reference.root in AT_THE_END:
            raise reader.error(
                f"`{reference.text}` is not known at the start of a call", at, "Remove `on: start`, or do without it"
            )


def _constant(reader: ScalarReader, at: At) -> str:
    entries = at.node.mapping or {}
    if list(entries) != ["text"]:
        # `{args.amount}` without quotes is a YAML mapping of that key to nothing.
        name = next(iter(entries), "args.amount")
        raise reader.error("a mapping stands where a value belongs", at, f"Write `{name}`, without braces")
    return reader.text(at.child("text", entries["text"]))


def _unknown(reader: ScalarReader, text: str, at: At) -> Exception:
    known = ["args.<name>", "result", "result.<path>", "error.type", "duration_ms", "success"]
    root, dot, rest = text.partition(".")
    close = difflib.get_close_matches(root, ["args", *_WORDS], n=1, cutoff=0.6)
    meant = ""
    if root == "error":
        meant = "Did you mean `error.type`? "
    elif close:
        meant = f"Did you mean `{close[0]}{dot if close[0] in ('args', 'result') else ''}"
        meant += f"{rest if close[0] in ('args', 'result') else ''}`? "
    return reader.error(
        f"unknown reference `{text}`", at, f'{meant}Known here: {", ".join(known)}; plain text is `{{text: "{text}"}}`'
    )


__all__ = [
    "CallReference",
    "CallText",
    "CallValue",
    "FunctionEvent",
    "check_moment",
    "read_event_name",
    "read_group",
    "read_person",
    "read_target",
    "read_value",
]
