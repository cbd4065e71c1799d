"""Where in a configuration file something stands, so that a complaint can name it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from otel_posthog.rules.document import Entry, Node


@dataclass(frozen=True, slots=True)
class At:
    """A node and where it is.

    Args:
        node: The value.
        path: Its key path, e.g. `rules[0].match`.
        line: 1-based line to name, the key's where there is one.
    """

    node: Node
    path: str = ""
    line: int = 0

    def child(self, name: str, entry: Entry) -> At:
        """The value of one key."""
        # A key that would read as two is quoted, so that the path can be followed by eye.
        shown = f'["{name}"]' if not name or "." in name or " " in name else (f".{name}" if self.path else name)
        return At(entry.node, self.path + shown, entry.line or entry.node.line)

    def members(self) -> Iterator[At]:
        """The members of a list."""
        for index, member in enumerate(self.node.sequence or []):
            yield At(member, f"{self.path}[{index}]", member.line)
