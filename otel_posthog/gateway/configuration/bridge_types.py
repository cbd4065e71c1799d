"""What a value of `bridge.yaml` may be: each type reads a node, describes itself to editors and to the reference.

Reading goes on after a mistake, so that one look at the messages is enough to mend the whole file.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from otel_posthog.config.values import plain, shown
from otel_posthog.errors import ConfigError, RulesError
from otel_posthog.rules.at import At
from otel_posthog.rules.document import Node

Schema = dict[str, Any]

MISSING: Final = object()
"""What a value that cannot be read is: its complaint has been noted."""

_UNITS: Final = {
    "": 1, "b": 1,
    "kib": 1024, "mib": 1024**2, "gib": 1024**3, "tib": 1024**4,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
}  # fmt: skip
_TIMES: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_AMOUNT: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*\Z")


@dataclass(slots=True)
class Complaints:
    """What is wrong with one file, in the order in which it was found.

    Args:
        file: Its path, as its owner wrote it.
    """

    file: str
    found: list[ConfigError] = field(default_factory=list[ConfigError])

    def add(self, message: str, at: At, hint: str = "") -> Any:
        """Notes a mistake; gives `MISSING`."""
        self.found.append(RulesError(message, file=self.file, line=at.line, key=at.path, hint=hint))
        return MISSING


class Type(Protocol):
    """One type of value."""

    def read(self, at: At, complaints: Complaints) -> Any:
        """The value, or `MISSING` after a complaint."""
        ...

    def schema(self) -> Schema:
        """For editors; references are to `#/$defs/<table>`."""
        ...

    @property
    def label(self) -> str:
        """For the reference, a few words."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table.

    Args:
        name: As written in the file.
        type: What its value may be.
        doc: What it means, in Markdown.
        required: Whether it must be there.
        default: What holds without it, as it would be written; "" where the key is simply absent.
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
    """One kind of mapping in the file.

    Args:
        name: Its name in the schema.
        doc: What it is, in Markdown.
        keys: Its keys.
    """

    name: str
    doc: str
    keys: tuple[Key, ...]

    def read(self, at: At, complaints: Complaints, *, ignore: str = "\0") -> Mapping[str, Any]:
        """The values of a mapping; what is absent, or wrong, is not in it.

        Args:
            at: The mapping.
            complaints: Gets what is wrong.
            ignore: Keys that begin so are left alone.
        """
        entries = at.node.mapping
        if entries is None:
            complaints.add(f"{described(at.node)} stands where a mapping belongs", at, self.doc)
            return {}
        known = {key.name: key for key in self.keys}
        values: dict[str, Any] = {}
        for name, entry in entries.items():
            here = at.child(name, entry)
            if name in known:
                value = known[name].type.read(here, complaints)
                if value is not MISSING:
                    values[name] = value
            elif not name.startswith(ignore):
                near = difflib.get_close_matches(name, known, 1, 0.6)
                meant = f"Did you mean `{near[0]}`? " if near else ""
                complaints.add(f"unknown key `{shown(name)[1:-1]}`", here, f"{meant}Known here: {', '.join(known)}")
        for key in self.keys:
            if key.required and key.name not in entries:
                sentence = key.doc.partition(". ")[0].rstrip(".")
                complaints.add(f"`{key.name}` is missing", at, f"Add it: {sentence[0].lower()}{sentence[1:]}")
        return values

    def schema(self) -> Schema:
        """The table as a JSON Schema."""
        made: Schema = {
            "type": "object",
            "description": self.doc,
            "additionalProperties": False,
            "properties": {key.name: key.type.schema() | {"description": key.doc} for key in self.keys},
        }
        required = [key.name for key in self.keys if key.required]
        return made | ({"required": required} if required else {})


def described(node: Node) -> str:
    """A node for a message; text is shown short and without anything that looks like a key."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"`{str(value).lower()}`" if isinstance(value, bool) else shown(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """`true` or `false`."""

    label: str = "true or false"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        if isinstance(at.node.value, bool):
            return at.node.value
        return complaints.add(f"{described(at.node)} stands where `true` or `false` belongs", at)

    def schema(self) -> Schema:
        """See `Type`."""
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is not blank, of one line."""

    label: str = "text"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        value = at.node.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return complaints.add(f"{described(at.node)} stands where text belongs", at, "Put it in quotes")
        if not isinstance(value, str):
            return complaints.add(f"{described(at.node)} stands where text belongs", at)
        if not value.strip():
            return complaints.add("this is empty", at)
        if not value.isprintable():
            return complaints.add("this text has line breaks or control characters", at, "Write it in one line")
        return value.strip()

    def schema(self) -> Schema:
        """See `Type`."""
        return {"type": "string", "pattern": "\\S"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    @property
    def label(self) -> str:
        """See `Type`."""
        return ", ".join(f"`{word}`" for word in self.words)

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        value = at.node.value
        if value in self.words:
            return value
        near = difflib.get_close_matches(str(value), self.words, 1)
        meant = f"Did you mean `{near[0]}`? " if near else ""
        return complaints.add(f"{described(at.node)} is not known", at, f"{meant}Use one of {', '.join(self.words)}")

    def schema(self) -> Schema:
        """See `Type`."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within limits; with `word`, that word means 0."""

    minimum: int
    maximum: int
    word: str = ""

    @property
    def label(self) -> str:
        """See `Type`."""
        return f"{plain(self.minimum)}–{plain(self.maximum)}" + (f", or `{self.word}`" if self.word else "")

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        value = at.node.value
        if self.word and value == self.word:
            return 0
        limits = f"a whole number from {plain(self.minimum)} to {plain(self.maximum)}"
        hint = f"Use {limits if self.maximum > self.minimum else plain(self.minimum)}"
        hint += f", or `{self.word}`" if self.word else ""
        if isinstance(value, bool) or not isinstance(value, int):
            return complaints.add(f"{described(at.node)} is not a whole number", at, hint)
        if not self.minimum <= value <= self.maximum:
            return complaints.add(f"{plain(value)} is out of range", at, hint)
        return value

    def schema(self) -> Schema:
        """See `Type`."""
        number: Schema = {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}
        return {"anyOf": [number, {"const": self.word}]} if self.word else number


@dataclass(frozen=True, slots=True)
class Bytes:
    """A number of bytes: `1048576`, `64MiB`, `1.5GB`."""

    minimum: int
    maximum: int

    @property
    def label(self) -> str:
        """See `Type`."""
        return f"bytes, {size(self.minimum)}–{size(self.maximum)}"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        hint = f"Use a size from {size(self.minimum)} to {size(self.maximum)}, such as 64MiB"
        amount = _amount(at, complaints, _UNITS, (self.minimum, self.maximum), "bytes", hint)
        return amount if amount is MISSING else int(amount)

    def schema(self) -> Schema:
        """See `Type`."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": self.minimum, "maximum": self.maximum},
                {"type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*([KMGTkmgt][Ii]?)?[Bb]\\s*$"},
            ]
        }


@dataclass(frozen=True, slots=True)
class Seconds:
    """A number of seconds: `0.5`, `500ms`, `30s`, `5m`, `1h`."""

    minimum: float
    maximum: float

    @property
    def label(self) -> str:
        """See `Type`."""
        return f"seconds, {plain(self.minimum)}–{plain(self.maximum)}"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        hint = f"Use seconds from {plain(self.minimum)} to {plain(self.maximum)}, such as 2.5 or 500ms"
        amount = _amount(at, complaints, _TIMES, (self.minimum, self.maximum), "seconds", hint)
        return amount if amount is MISSING else float(amount)

    def schema(self) -> Schema:
        """See `Type`."""
        return {
            "anyOf": [
                {"type": "number", "minimum": self.minimum, "maximum": self.maximum},
                {"type": "string", "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h)\\s*$"},
            ]
        }


def _amount(
    at: At, complaints: Complaints, units: Mapping[str, float], limits: tuple[float, float], what: str, hint: str
) -> Any:
    """A number with a unit, within limits, or `MISSING` after a complaint."""
    amount = _in_units(at.node.value, units)
    if amount is None:
        return complaints.add(f"{described(at.node)} is not a number of {what}", at, hint)
    if not limits[0] <= amount <= limits[1]:
        return complaints.add(f"{described(at.node)} is out of range", at, hint)
    return amount


def _in_units(value: object, units: Mapping[str, float]) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else None
    found = _AMOUNT.match(value) if isinstance(value, str) else None
    # The exact word first: `m` and `M` are not the same.
    unit = units.get(found[2], units.get(found[2].lower())) if found else None
    return float(found[1]) * unit if found and unit is not None else None


def size(count: float) -> str:
    """A number of bytes as people write it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        factor = _UNITS[unit.lower()]
        if count >= factor and count % factor == 0:
            return f"{plain(count // factor)} {unit}"
    return f"{plain(count)} bytes"
