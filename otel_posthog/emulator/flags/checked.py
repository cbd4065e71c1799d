"""Reading values of a file: what is not of its kind is complained about, and left out."""

from __future__ import annotations

import difflib
from typing import TypeVar

from otel_posthog.config.values import shown
from otel_posthog.errors import ConfigError, RulesError
from otel_posthog.rules.at import At
from otel_posthog.rules.document import Node

ItemT = TypeVar("ItemT")


class Checked:
    """The values of one file.

    Args:
        file: Its path, as its owner wrote it.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[ConfigError] = []

    def wrong(self, message: str, at: At, hint: str) -> None:
        """Notes a mistake."""
        self.found.append(RulesError(message, file=self.file, line=at.line, key=at.path, hint=hint))

    def unknown(self, what: str, name: str, known: list[str], at: At) -> None:
        """Notes a name that is not known, and which is meant."""
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        meant = f"Did you mean `{close[0]}`? " if close else ""
        listed = f"Known here: {', '.join(known)}" if known else f"There is no {what} here"
        self.wrong(f"unknown {what} `{name}`", at, f"{meant}{listed}")

    def entries(self, at: At, hint: str) -> dict[str, At]:
        """The entries of a mapping; `hint` says what to write in place of anything else."""
        if at.node.mapping is None:
            self.wrong(f"{_described(at.node)} stands where a mapping belongs", at, hint)
            return {}
        return {name: at.child(name, entry) for name, entry in at.node.mapping.items()}

    def table(self, at: At, known: tuple[str, ...], hint: str) -> dict[str, At]:
        """The entries of a mapping whose keys are known."""
        entries = self.entries(at, hint)
        for name, child in entries.items():
            # Keys of the owner's own, for anchors.
            if name not in known and not name.startswith("x-"):
                self.unknown("key", name, list(known), child)
        return {name: child for name, child in entries.items() if name in known}

    def members(self, at: At, hint: str) -> list[At]:
        """The members of a list."""
        if at.node.sequence is None:
            self.wrong(f"{_described(at.node)} stands where a list belongs", at, hint)
        return list(at.members())

    def names(self, at: At) -> tuple[str, ...]:
        """Names, each once."""
        made: list[str] = []
        for member in self.members(at, "Write a list of names"):
            name: object = member.node.value
            if isinstance(name, (str, int)) and not isinstance(name, bool) and str(name).strip():
                made.append(str(name))
            else:
                self.wrong(f"{_described(member.node)} stands where a name belongs", member, "Put it in quotes")
        return tuple(dict.fromkeys(made))

    def percentage(self, at: At) -> float:
        """A number from 0 to 100."""
        number: object = at.node.value
        if isinstance(number, (int, float)) and not isinstance(number, bool) and 0 <= number <= 100:
            return float(number)
        self.wrong(f"{_described(at.node)} is no percentage", at, "Write a number from 0 to 100")
        return 0.0

    def text(self, entries: dict[str, At], key: str) -> str:
        """The text of a key, "" without it."""
        return self._scalar(entries, key, str, "", "text", "Put it in quotes")

    def switch(self, entries: dict[str, At], key: str, *, default: bool) -> bool:
        """The boolean of a key."""
        return self._scalar(entries, key, bool, default, "`true` or `false`", "Write `true` or `false`")

    def whole(self, entries: dict[str, At], key: str, default: int) -> int:
        """The positive integer of a key."""
        number = self._scalar(entries, key, int, default, "a whole number", "Write 1 or more")
        if number < 1:
            self.wrong("must be 1 or more", entries[key], "Write a larger number")
        return number

    def _scalar(
        self, entries: dict[str, At], key: str, kind: type[ItemT], default: ItemT, what: str, hint: str
    ) -> ItemT:
        if key not in entries:
            return default
        value: object = entries[key].node.value
        if isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
            return value
        self.wrong(f"{_described(entries[key].node)} stands where {what} belongs", entries[key], hint)
        return default


def _described(node: Node) -> str:
    if node.mapping is not None:
        return "a mapping"
    if node.sequence is not None:
        return "a list"
    return "nothing" if node.value is None else shown(node.value)
