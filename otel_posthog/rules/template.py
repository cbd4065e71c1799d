"""Templates: `"order {shop.order.state}"`, `"{http.request.method|http.method}"`, with `{{` and `}}` for braces.

A template that is one reference and nothing else keeps the type of what it finds. Any other becomes text, and is
missing as a whole where one of its references is: a text with a hole says something that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from otel_posthog.model import AttributeValue, Signal
from otel_posthog.rules.reference import Getter, getter, normal

_MAX_INT_BITS = 256
"""Beyond it, an integer is no id and no count; and text of a very long one is slow, or refused by Python."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    Args:
        parts: Text as `str`; a reference as the tuple of its alternatives.
    """

    parts: tuple[str | tuple[str, ...], ...]

    @property
    def references(self) -> tuple[tuple[str, ...], ...]:
        """The references, each with its alternatives."""
        return tuple(part for part in self.parts if not isinstance(part, str))

    @property
    def text(self) -> str | None:
        """The text of a template without references, else None."""
        return "".join(cast("tuple[str, ...]", self.parts)) if not self.references else None


def parse_template(source: str) -> Template:
    """Parses a template.

    Raises:
        ValueError: A brace has no partner, or a reference is empty; the message says where.
    """
    parts: list[str | tuple[str, ...]] = []
    text: list[str] = []
    position = 0
    while position < len(source):
        character = source[position]
        if source[position : position + 2] in ("{{", "}}"):
            text.append(character)
            position += 2
        elif character == "}":
            raise ValueError(f"a `}}` at character {position + 1} closes nothing; write `}}}}` for a brace")
        elif character == "{":
            end = source.find("}", position)
            if end < 0 or "{" in source[position + 1 : end]:
                raise ValueError(f"the `{{` at character {position + 1} is never closed; write `{{{{` for a brace")
            if text:
                parts.append("".join(text))
                text = []
            parts.append(parse_reference(source[position + 1 : end]))
            position = end + 1
        else:
            text.append(character)
            position += 1
    if text:
        parts.append("".join(text))
    return Template(tuple(parts))


def parse_reference(source: str) -> tuple[str, ...]:
    """Parses `key` or `key|other key`.

    Raises:
        ValueError: An alternative is empty, or names no key.
    """
    alternatives = tuple(part.strip() for part in source.split("|"))
    for alternative in alternatives:
        if not alternative:
            raise ValueError(f"the reference `{{{source}}}` is empty")
        if alternative.endswith(".") and alternative.count(".") == 1:
            raise ValueError(f"the reference `{alternative}` names no key")
    return tuple(normal(alternative) for alternative in alternatives)


def text_renderer(template: Template) -> Callable[[Signal], str | None]:
    """A function that gives the text of `template` for a signal; None where a reference is missing or has no text."""
    constant = template.text
    if constant is not None:
        return lambda _: constant
    steps: tuple[str | Getter, ...] = tuple(part if isinstance(part, str) else getter(part) for part in template.parts)

    def render(signal: Signal) -> str | None:
        texts: list[str] = []
        for step in steps:
            text = step if isinstance(step, str) else text_of(step(signal))
            if not text:
                return None
            texts.append(text)
        return "".join(texts)

    return render


def value_renderer(template: Template) -> Getter:
    """A function that gives the value of `template`: of any type for a single reference, else text; None if missing."""
    if len(template.parts) == 1 and not isinstance(template.parts[0], str):
        return getter(template.parts[0])
    return text_renderer(template)


def text_of(value: AttributeValue) -> str | None:
    """The text of a scalar, as JSON would spell it; of a list of one scalar, that scalar's; None for all else.

    Captured HTTP headers are lists of one.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _MAX_INT_BITS else None
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple)):
        items = cast("list[AttributeValue]", value)
        if len(items) == 1 and not isinstance(items[0], (list, tuple)):
            return text_of(items[0])
    return None
