"""Single values, lists and mappings of a rules file, and the complaints about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from otel_posthog.errors import RulesError
from otel_posthog.rules.at import At
from otel_posthog.rules.document import Entry, Node
from otel_posthog.rules.schema import Choice, Choices, Flag

ResultT = TypeVar("ResultT")


class ScalarReader:
    """Reads what has no meaning of its own yet; each method raises `RulesError` with file, line, key and the way out.

    Args:
        file: Path as the user wrote it.
    """

    def __init__(self, file: str) -> None:
        self._file = file

    def error(self, message: str, at: At, hint: str = "") -> RulesError:
        """What to raise about `at`."""
        return RulesError(message, file=self._file, line=at.line, key=at.path, hint=hint)

    def unknown(self, name: str, at: At, known: list[str], what: str = "key") -> RulesError:
        """What to raise about a word that is none of `known`; says the nearest."""
        import difflib

        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        meant = f"Did you mean `{close[0]}`? " if close else ""
        return self.error(f"unknown {what} `{name}`", at, f"{meant}Known here: {', '.join(known)}")

    def mapping(self, at: At, what: str = "") -> dict[str, Entry]:
        """The entries of a mapping; `what` is the way out."""
        entries = at.node.mapping
        if entries is None:
            raise self.error(f"{shown_node(at.node)} stands where a mapping belongs", at, what)
        return entries

    def named(self, at: At, read: Callable[[At], ResultT]) -> tuple[tuple[str, ResultT], ...]:
        """A mapping of names to something, in its order."""
        pairs: list[tuple[str, ResultT]] = []
        for name, entry in self.mapping(at).items():
            here = at.child(name, entry)
            if not name.strip():
                raise self.error("a name is empty", here)
            pairs.append((name, read(here)))
        if not pairs:
            raise self.error("an empty mapping", at, "Remove the key, or fill it")
        return tuple(pairs)

    def text(self, at: At) -> str:
        """Text that is not blank."""
        value = at.node.value
        if not isinstance(value, str):
            quotable = isinstance(value, (int, float))
            raise self.error(
                f"{shown_node(at.node)} stands where text belongs", at, "Put it in quotes" if quotable else ""
            )
        if not value.strip():
            raise self.error("this is empty", at)
        if len(value) > 4096:
            raise self.error("this text is longer than 4096 characters", at)
        return value

    def texts(self, at: At) -> tuple[str, ...]:
        """One text, or a list of them."""
        if at.node.sequence is None:
            return (self.text(at),)
        if not at.node.sequence:
            raise self.error("an empty list", at)
        return tuple(self.text(member) for member in at.members())

    def scalar(self, at: At) -> Any:
        """Text, a number or a truth value."""
        value = at.node.value
        if value is None or isinstance(value, (dict, list)):
            hint = "To test that it is not there, write `exists: false`" if value is None else ""
            raise self.error(f"{shown_node(at.node)} stands where a single value belongs", at, hint)
        self.finite(value, at)
        return value

    def scalars(self, at: At) -> tuple[Any, ...]:
        """A list of single values."""
        if at.node.sequence is None:
            raise self.error(f"{shown_node(at.node)} stands where a list of values belongs", at)
        if not at.node.sequence:
            raise self.error("an empty list matches nothing", at, "Remove the key, or name values")
        return tuple(self.scalar(member) for member in at.members())

    def number(self, at: At) -> float:
        """A finite number."""
        value = at.node.value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"{shown_node(at.node)} stands where a number belongs", at)
        self.finite(value, at)
        return value

    def finite(self, value: Any, at: At) -> None:
        """Refuses infinities and NaN."""
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise self.error("this number is not finite", at)

    def flag(self, kind: Flag, at: At) -> bool:
        """`true` or `false`."""
        value = at.node.value
        if not isinstance(value, bool):
            raise self.error(f"{shown_node(at.node)} stands where `true` or `false` belongs", at)
        if kind.only is not None and value is not kind.only:
            raise self.error(f"only `{str(kind.only).lower()}` makes sense here", at, "Remove the key instead")
        return value

    def choices(self, kind: Choices, at: At) -> tuple[str, ...]:
        """One word, or a list of them, in the order of the language."""
        if at.node.sequence is None:
            return (self.choice(Choice(kind.words), at),)
        if not at.node.sequence:
            raise self.error("an empty list matches nothing", at, "Remove the key, or name values")
        # In the order of the language, each once: the order in the file has no meaning.
        chosen = {self.choice(Choice(kind.words), member) for member in at.members()}
        return tuple(word for word in kind.words if word in chosen)

    def choice(self, kind: Choice, at: At) -> str:
        """One of the words."""
        value = at.node.value
        if not isinstance(value, str):
            raise self.error(f"{shown_node(at.node)} is none of {', '.join(kind.words)}", at)
        if value not in kind.words:
            raise self.unknown(value, at, list(kind.words), "value")
        return value

    def version(self, at: At) -> int:
        """The version of the language."""
        if at.node.value is True or at.node.value != 1:
            raise self.error(f"{shown_node(at.node)} is no version of this language", at, "Write `version: 1`")
        return 1

    def attempt(self, read: Callable[[], ResultT], at: At) -> ResultT:
        """What `read` gives; its `ValueError` as a complaint about `at`."""
        try:
            return read()
        except ValueError as error:
            raise self.error(str(error), at) from None


def shown_node(node: Node) -> str:
    """A node for a message."""
    value = node.value
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    shown = repr(value)
    return shown if len(shown) <= 60 else "a long text"
