"""Reading the section `users:`: references into a user, and places where users are found."""

from __future__ import annotations

import re
from typing import Final

from otel_posthog.rules.at import At
from otel_posthog.rules.parse_scalars import ScalarReader
from otel_posthog.rules.template import parse_template
from otel_posthog.rules.users import UserReference, UserSource, UserText

LOGIN_WORDS: Final = ("method", "provider", "backend", "route", "at")
"""What may follow `login.` in a reference."""
SOURCE_ROOTS: Final = ("session", "g", "state", "request", "dependency")
"""What may stand before the dot of a source."""
_NAME: Final = r"[A-Za-z_][\w-]*"
_PATH: Final = re.compile(rf"{_NAME}(\.[\w-]+)*\Z")
_CALL: Final = re.compile(rf"{_NAME}(\.{_NAME})*:{_NAME}(\.{_NAME})*\Z")


def read_user_id(reader: ScalarReader, at: At) -> UserReference | UserText:
    """A reference, or text with references in braces: `user.uuid`, `"user-{user.id}"`.

    Raises:
        RulesError: It is none, or names nobody.
    """
    source = reader.text(at)
    if "{" not in source and "}" not in source:
        return _reference(reader, source.strip(), at)
    template = reader.attempt(lambda: parse_template(source), at)
    parts: list[str | UserReference] = []
    for part in template.parts:
        if isinstance(part, str):
            parts.append(part)
        else:
            if len(part) > 1:
                raise reader.error("alternatives stand in an id", at, "Name one reference in each pair of braces")
            parts += [_reference(reader, one, at) for one in part]
    named = [part for part in parts if not isinstance(part, str)]
    if not named:
        raise reader.error("it is the same for everybody", at, 'Name what tells people apart: "user-{user.id}"')
    return named[0] if len(parts) == 1 else UserText(tuple(parts))


def read_reference(reader: ScalarReader, at: At) -> UserReference:
    """A reference: `user.<path>`, `login.<word>`, `session.<key>`; a bare path is one of the user.

    Raises:
        RulesError: It is none.
    """
    text = reader.text(at).strip()
    if "{" in text:
        raise reader.error("braces stand where a plain reference belongs", at, f"Write `{text.strip('{}')}`")
    return _reference(reader, text, at)


def _reference(reader: ScalarReader, text: str, at: At) -> UserReference:
    if not _PATH.match(text) or "__" in text:
        raise reader.error(f"{text!r} is no reference", at, "Write the name of an attribute, e.g. `user.role`")
    root, dot, rest = text.partition(".")
    if root == "login":
        if rest not in LOGIN_WORDS:
            raise reader.unknown(text, at, [f"login.{word}" for word in LOGIN_WORDS], "reference")
        return UserReference(root, (rest,))
    if root == "session":
        if not dot:
            raise reader.error("`session` is not a value", at, "Name a key of it, e.g. `session.auth_method`")
        return UserReference(root, (rest,))
    path = (rest if root == "user" else text).split(".") if dot or root != "user" else []
    return UserReference("user", tuple(path))


def read_source(reader: ScalarReader, at: At) -> UserSource:
    """A source: `session.<key>`, `g.<name>`, `state.<name>`, `request.<name>`, `dependency.<function>`, `module:func`.

    Raises:
        RulesError: It is none.
    """
    text = reader.text(at).strip()
    if ":" in text:
        if not _CALL.match(text):
            raise reader.error(f"{text!r} names no function", at, "Write `package.module:function`")
        return UserSource("call", text)
    root, _, name = text.partition(".")
    if root not in SOURCE_ROOTS:
        raise reader.unknown(text, at, [f"{root}.<name>" for root in SOURCE_ROOTS] + ["package.module:function"])
    if not re.match(rf"{_NAME}\Z", name):
        raise reader.error(f"`{root}` needs one name after it", at, f"Write e.g. `{root}.user`")
    return UserSource(root, name)


def read_sources(reader: ScalarReader, at: At) -> tuple[UserSource, ...]:
    """A list of sources, maybe empty; a single one may stand without a list.

    Raises:
        RulesError: One of them is none.
    """
    if at.node.sequence is None:
        return (read_source(reader, at),)
    return tuple(read_source(reader, member) for member in at.members())


def read_groups(reader: ScalarReader, at: At, most: int) -> tuple[tuple[str, UserReference], ...]:
    """Group types and references.

    Raises:
        RulesError: A reference is none, or there are more types than PostHog takes.
    """
    groups = reader.named(at, lambda member: read_reference(reader, member))
    if len(groups) > most:
        raise reader.error(f"{len(groups)} group types, but a PostHog project has at most {most}", at)
    return groups
