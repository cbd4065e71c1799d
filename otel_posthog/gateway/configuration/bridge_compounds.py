"""What a value of `bridge.yaml` may be, beyond words and numbers: addresses, sources of secrets, lists, mappings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from otel_posthog.config.values import shown
from otel_posthog.gateway.configuration.bridge_types import (
    MISSING,
    Complaints,
    Schema,
    Table,
    Text,
    Type,
    described,
)
from otel_posthog.rules.at import At


@dataclass(frozen=True, slots=True)
class Listener:
    """`host:port`, `:port` or a port; `off` for not at all."""

    label: str = "`host:port`, or `off`"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        value = at.node.value
        if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            return complaints.add(f"{described(at.node)} is no address", at, _LISTEN_HINT)
        try:
            return parse_address(str(value))
        except ValueError as error:
            return complaints.add(str(error), at, _LISTEN_HINT)

    def schema(self) -> Schema:
        """See `Type`."""
        return {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 65535},
                {"enum": ["off", False]},
                {"type": "string", "pattern": "^(\\[[0-9a-fA-F:.%]+\\]|[^\\s:/\\[\\]]*):[0-9]{1,5}$"},
            ]
        }


_LISTEN_HINT: Final = "Write 127.0.0.1:4318, 0.0.0.0:4318, [::]:4318 or off"
_ADDRESS: Final = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]*):)?(?P<port>[0-9]{1,5})\Z")


def parse_address(text: str) -> tuple[str, int]:
    """Host and port, from `host:port`, `:port` (every interface) or a port (this machine).

    Raises:
        ValueError: It is none of these.
    """
    found = _ADDRESS.match(text.strip())
    if found is None:
        raise ValueError(f"{shown(text)} is no address to listen on")
    port = int(found["port"])
    if port > 65535:
        raise ValueError(f"{port} is no port; the highest is 65535")
    host = "127.0.0.1" if found["host"] is None else found["host"].strip("[]") or "0.0.0.0"  # noqa: S104 - as written
    return "0.0.0.0" if host == "*" else host, port  # noqa: S104 - as above


@dataclass(frozen=True, slots=True)
class Source:
    """Where a secret is.

    Args:
        kind: `env` or `file`.
        name: The variable, or the path as written.
        at: Where that is said.
    """

    kind: str
    name: str
    at: At


@dataclass(frozen=True, slots=True)
class SecretSource:
    """`{env: NAME}` or `{file: PATH}`; with `several`, a list of them too. A secret itself is never written here."""

    several: bool = False

    @property
    def label(self) -> str:
        """See `Type`."""
        return "`{env: NAME}` or `{file: PATH}`" + (", or a list of these" if self.several else "")

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        if self.several and at.node.sequence is not None:
            found = [self._one(member, complaints) for member in at.members()]
            if not found:
                return complaints.add("an empty list", at, f"Write {self.label}")
            return MISSING if MISSING in found else tuple(found)
        one = self._one(at, complaints)
        return (one,) if self.several and one is not MISSING else one

    def _one(self, at: At, complaints: Complaints) -> Any:
        entries = at.node.mapping
        hint = "Write {env: NAME} for a variable that holds it, or {file: PATH} for a file"
        if entries is None or not entries:
            # Never what stands there: it is the secret.
            what = "a text" if isinstance(at.node.value, str) else described(at.node)
            return complaints.add(f"{what} stands where the source of a secret belongs", at, hint)
        for name, entry in entries.items():
            if name not in ("env", "file"):
                return complaints.add(f"unknown key `{shown(name)[1:-1]}`", at.child(name, entry), hint)
        if len(entries) > 1:
            return complaints.add("`env` and `file` together", at, "Keep one of the two")
        kind, entry = next(iter(entries.items()))
        here = at.child(kind, entry)
        text = Text().read(here, complaints)
        return text if text is MISSING else Source(kind, text, here)

    def schema(self) -> Schema:
        """See `Type`."""
        one: Schema = {
            "oneOf": [
                {
                    "type": "object",
                    "required": [kind],
                    "additionalProperties": False,
                    "properties": {kind: {"type": "string", "pattern": "\\S"}},
                }
                for kind in ("env", "file")
            ]
        }
        return {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]} if self.several else one


@dataclass(frozen=True, slots=True)
class Texts:
    """A text, or a list of them; each once."""

    label: str = "text or a list"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        members = list(at.members()) if at.node.sequence is not None else [at]
        if not members:
            return complaints.add("an empty list", at, "Remove the key, or fill it")
        found = [Text().read(member, complaints) for member in members]
        return MISSING if MISSING in found else tuple(dict.fromkeys(found))

    def schema(self) -> Schema:
        """See `Type`."""
        one = Text().schema()
        return {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}


@dataclass(frozen=True, slots=True)
class Values:
    """A mapping from name to a single value, or to a list of values of which one must hold."""

    several: bool = True

    @property
    def label(self) -> str:
        """See `Type`."""
        return "key: value" + (", or a list of values" if self.several else "")

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        entries = at.node.mapping
        if not entries:
            what = "an empty mapping" if entries is not None else described(at.node)
            return complaints.add(f"{what} stands where key: value belongs", at)
        found: dict[str, Any] = {}
        for name, entry in entries.items():
            here = at.child(name, entry)
            listed = self.several and entry.node.sequence is not None
            members = list(here.members()) if listed else [here]
            values = [self._scalar(member, complaints) for member in members]
            if not name.strip() or not values:
                return complaints.add("an empty name" if not name.strip() else "an empty list", here)
            if MISSING in values:
                return MISSING
            found[name] = tuple(as_text(value) for value in values) if self.several else values[0]
        return found

    def _scalar(self, at: At, complaints: Complaints) -> Any:
        value = at.node.value
        if isinstance(value, (str, int, float)) and not (isinstance(value, float) and not math.isfinite(value)):
            return value
        return complaints.add(f"{described(at.node)} stands where a single value belongs", at)

    def schema(self) -> Schema:
        """See `Type`."""
        one: Schema = {"type": ["string", "number", "boolean"]}
        value = {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]} if self.several else one
        return {"type": "object", "minProperties": 1, "additionalProperties": value}


def as_text(value: object) -> str:
    """A scalar as the text that values are compared by: `true`, `1`, `shop`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Sub:
    """A mapping by a table of its own."""

    table: Table

    @property
    def label(self) -> str:
        """See `Type`."""
        return f"mapping, see [`{self.table.name}`](#{self.table.name})"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`."""
        return self.table.read(at, complaints)

    def schema(self) -> Schema:
        """See `Type`."""
        return {"$ref": f"#/$defs/{self.table.name}"}


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Named:
    """A mapping from a name to something; names are shown in logs and metrics."""

    type: Type
    what: str

    @property
    def label(self) -> str:
        """See `Type`."""
        return f"name: {self.type.label}"

    def read(self, at: At, complaints: Complaints) -> Any:
        """See `Type`: name -> the value and where it is."""
        entries = at.node.mapping
        if not entries:
            what = "an empty mapping" if entries is not None else described(at.node)
            return complaints.add(
                f"{what} stands where {self.what} belong", at, "Write each below a name of its own, or remove the key"
            )
        found: dict[str, tuple[Any, At]] = {}
        for name, entry in entries.items():
            here = at.child(name, entry)
            if not _NAME.match(name):
                complaints.add(
                    f"{shown(name)} is no name", here, "Use letters, digits, `.`, `_` and `-`, 64 at the most"
                )
                continue
            value = self.type.read(here, complaints)
            if value is not MISSING:
                found[name] = (value, here)
        return found

    def schema(self) -> Schema:
        """See `Type`."""
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
            "additionalProperties": self.type.schema(),
        }
