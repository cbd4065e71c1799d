"""What the section `users:` of the rules file says: who a logged-in user is, and what of them may leave the process.

`parse_users.py` reads it, `instrumentation/` looks the references up. Without the section the id of a user is the only
thing that leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class UserReference(NamedTuple):
    """Where a value is found.

    Args:
        root: `user`, `login` or `session`.
        path: Attributes or keys, one inside the other; empty for the user itself.
    """

    root: str
    path: tuple[str, ...]

    @property
    def text(self) -> str:
        """As written, with its root."""
        return ".".join((self.root, *self.path))


class UserText(NamedTuple):
    """Text with references.

    Args:
        parts: Texts and references, in order.
    """

    parts: tuple[str | UserReference, ...]


class UserSource(NamedTuple):
    """Where a framework keeps the logged-in user.

    Args:
        kind: `session`, `g`, `state`, `request`, `dependency`, or `call` for a function of the app.
        name: The key, attribute or function there; for `call`, `module:function`.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class UsersConfig:
    """The section `users:`.

    Args:
        distinct_id: Who a user is to PostHog; `None` for the user's own id.
        set: Person property -> where its value is.
        set_once: The same, for properties that are set where they are not set yet.
        groups: Group type -> where the key is.
        signups: Whether who signs up counts as known before the first login.
        sources: Where users are found beside what frameworks and login packages tell by themselves; `None` for what
            is usual.
        stands_back: There is no such section, and rules name persons in their own way: a second name for the same
            people would make two of each, so nobody is looked for.
    """

    distinct_id: UserReference | UserText | None = None
    set: tuple[tuple[str, UserReference], ...] = ()
    set_once: tuple[tuple[str, UserReference], ...] = ()
    groups: tuple[tuple[str, UserReference], ...] = ()
    signups: bool = True
    sources: tuple[UserSource, ...] | None = None
    stands_back: bool = False
