"""Text -> a tree of `Node`s that know their line, for YAML; the same tree without lines for TOML.

YAML is read by its event stream instead of a stock loader, because:

- stock loaders take the last of two equal keys, silently; and expand an alias bomb without a limit;
- YAML 1.1 reads `on`, `off`, `yes` and `no` as booleans, and `on` is a key of ours. Here the core schema of YAML 1.2
  holds, which editors use too: `true`, `false`, `null` and numbers, everything else is text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from otel_posthog.errors import RulesError

MAX_BYTES: Final = 1024 * 1024
MAX_NODES: Final = 50_000
MAX_DEPTH: Final = 32

_INT: Final = re.compile(r"[-+]?[0-9]{1,19}\Z|0x[0-9a-fA-F]{1,15}\Z|0o[0-7]{1,20}\Z")
# A longer row of digits is an id, which a float would cut: it stays text.
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]{1,4})?\Z")
_WORDS: Final[dict[str, Any]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_STR_TAGS: Final = ("!", "tag:yaml.org,2002:str")


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping: its line, and its value."""

    line: int
    node: Node


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the file.

    Args:
        value: A scalar or None, a list of Nodes, or a dict of Entries.
        line: 1-based, 0 where unknown.
    """

    value: Any
    line: int = 0

    @property
    def mapping(self) -> dict[str, Entry] | None:
        """The entries, if it is a mapping."""
        value: object = self.value
        return cast("dict[str, Entry]", value) if isinstance(value, dict) else None

    @property
    def sequence(self) -> list[Node] | None:
        """The members, if it is a list."""
        value: object = self.value
        return cast("list[Node]", value) if isinstance(value, list) else None


def read_document(
    path: str,
    *,
    what: str = "rules file",
    hint: str = "Mend the path in OTEL_POSTHOG_CONFIG, or unset it to run without rules",
) -> tuple[Node, str]:
    """The root of the rules in a file, and the key path to it ("" or `tool.otel_posthog`).

    Args:
        path: As the user wrote it.
        what: What it is to the user, for messages: another file of ours is read in the same way.
        hint: What to do where it cannot be read.

    Raises:
        RulesError: The file cannot be read, is too big, is no text, or is no YAML or TOML.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise RulesError(
            f"the {what} cannot be read: {reason}",
            file=path,
            hint=hint,
        ) from None
    return parse_document(raw, path, what=what)


def parse_document(raw: bytes, path: str, *, what: str = "rules file") -> tuple[Node, str]:
    """As `read_document`, for bytes that are already there.

    Raises:
        RulesError: As `read_document`.
    """
    if len(raw) > MAX_BYTES:
        raise RulesError(
            f"the {what} is larger than {MAX_BYTES // 1024} KiB", file=path, hint="Is this the right file?"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RulesError(
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            file=path,
            line=raw.count(b"\n", 0, error.start) + 1,
            hint="Save the file as UTF-8",
        ) from None
    if path.endswith(".toml"):
        return _toml(text, path)
    return _yaml(text, path), ""


# --- TOML ----------------------------------------------------------------------------------------------------------


def _toml(text: str, path: str) -> tuple[Node, str]:
    # `tomllib` came with Python 3.11; `tomli` is the same code, installed on 3.10 only.
    tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        raise RulesError(f"this is not TOML: {error}", file=path, line=int(found.group(1)) if found else 0) from None
    except RecursionError:
        raise RulesError("nested too deep", file=path) from None
    if Path(path).name != "pyproject.toml" and "tool" not in data:
        return _plain(data, path, ""), ""
    tool = data.get("tool")
    section = cast("dict[str, Any]", tool).get("otel_posthog") if isinstance(tool, dict) else None
    if section is None:
        raise RulesError(
            "there is no such table", file=path, key="tool.otel_posthog", hint="Add [[tool.otel_posthog.rules]]"
        )
    return _plain(section, path, "tool.otel_posthog"), "tool.otel_posthog"


def _plain(value: Any, path: str, key: str) -> Node:
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value)
        return Node({name: Entry(0, _plain(item, path, f"{key}.{name}".strip("."))) for name, item in entries.items()})
    if isinstance(value, list):
        members = cast("list[Any]", value)
        return Node([_plain(item, path, f"{key}[{index}]") for index, item in enumerate(members)])
    if isinstance(value, (str, int, float)):
        return Node(value)
    raise RulesError("a date or time is not a value here", file=path, key=key, hint="Put it in quotes")


# --- YAML ----------------------------------------------------------------------------------------------------------


def _yaml(text: str, path: str) -> Node:
    import yaml

    # libyaml is several times faster; the wording of its complaints differs, so that those come from one place.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Composer(yaml.parse(text, Loader=loader), path).document()
    except yaml.YAMLError:
        pass
    try:
        return _Composer(yaml.parse(text, Loader=yaml.SafeLoader), path).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        lines = text.splitlines()
        if 0 < line <= len(lines) and lines[line - 1].lstrip(" ").startswith("\t"):
            raise RulesError("a tab indents this line", file=path, line=line, hint="Use spaces") from None
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise RulesError(f"this is not YAML: {what}", file=path, line=line) from None
    except yaml.reader.ReaderError as error:
        position = int(cast("Any", error).position)
        raise RulesError(
            f"this is not YAML: character U+{ord(text[position]):04X} is not allowed",
            file=path,
            line=text.count("\n", 0, position) + 1,
        ) from None


class _Composer:
    """Builds the tree from the events; strict about keys, bounded in depth, nodes and aliases."""

    def __init__(self, events: Iterator[Any], path: str) -> None:
        self._events = events
        self._path = path
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def document(self) -> Node:
        from yaml import DocumentStartEvent, StreamEndEvent

        root: Node | None = None
        for event in self._events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    raise self._error("the file holds a second YAML document", event, "Keep one; remove the `---`")
                root = self._node(next(self._events), 0)
            elif isinstance(event, StreamEndEvent):
                break
        return root if root is not None else Node(None, 1)

    def _error(self, message: str, event: Any, hint: str = "") -> RulesError:
        return RulesError(message, file=self._path, line=event.start_mark.line + 1, hint=hint)

    def _node(self, event: Any, depth: int) -> Node:
        from yaml import AliasEvent, MappingStartEvent, ScalarEvent

        if depth > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} levels deep", event)
        line: int = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            name = str(event.anchor)
            if name not in self._anchors:
                raise self._error(f"the alias `*{name}` has no anchor `&{name}` before it", event)
            node, size = self._anchors[name]
            # What the alias stands for counts again: ten lines of aliases must not grow to a billion values.
            self._grow(size, event)
            return node
        before = self._count
        self._grow(1, event)
        if isinstance(event, ScalarEvent):
            node = Node(self._scalar(event), line)
        elif isinstance(event, MappingStartEvent):
            node = Node(self._mapping(event, depth), line)
        else:
            node = Node(self._sequence(event, depth), line)
        anchor = cast("str | None", event.anchor)
        if anchor:
            self._anchors[anchor] = (node, self._count - before)
        return node

    def _grow(self, size: int, event: Any) -> None:
        self._count += size
        if self._count > MAX_NODES:
            raise self._error(f"more than {MAX_NODES} values, aliases counted each time", event)

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        tag = cast("str | None", event.tag)
        if tag is not None and tag not in _STR_TAGS:
            raise self._error(f"the tag `{tag}` is not supported", event, "Write the value without a tag")
        if tag is not None or not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.match(text):
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        return float(text) if _FLOAT.match(text) else text

    def _sequence(self, start: Any, depth: int) -> list[Node]:
        from yaml import SequenceEndEvent

        self._untagged(start)
        members: list[Node] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            members.append(self._node(event, depth + 1))
        return members

    def _mapping(self, start: Any, depth: int) -> dict[str, Entry]:
        from yaml import MappingEndEvent, ScalarEvent

        self._untagged(start)
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            if not isinstance(event, ScalarEvent):
                raise self._error("a key is not text", event, "Put a key in quotes if it begins with `{` or `[`")
            key = str(cast("Any", event).value)
            line: int = cast("Any", event).start_mark.line + 1
            value = self._node(next(self._events), depth + 1)
            if key == "<<" and cast("Any", event).implicit[0]:
                merged = self._merge(value, event) | merged
                continue
            if key in entries:
                raise self._error(
                    f"the key `{key}` is already on line {entries[key].line}", event, "Keep one of the two"
                )
            entries[key] = Entry(line, value)
        return merged | entries

    def _merge(self, value: Node, event: Any) -> dict[str, Entry]:
        if value.mapping is not None:
            return value.mapping
        merged: dict[str, Entry] = {}
        for member in value.sequence if value.sequence is not None else [value]:
            if member.mapping is None:
                raise self._error("`<<` merges mappings, and this is none", event)
            merged = member.mapping | merged
        return merged

    def _untagged(self, event: Any) -> None:
        if event.tag is not None:
            raise self._error(f"the tag `{event.tag}` is not supported", event, "Write the value without a tag")
