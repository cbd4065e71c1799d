"""`Registry`: the flags of an app in one class, each with an owner and a last day.

    class FeatureFlags(flags.Registry):
        NEW_DASHBOARD = flags.Flag("new-dashboard", owner="growth", expires="2027-03-31")
        ADMIN_TOOLS = "admin-tools"

A member is a `str`, so it goes wherever a key goes. Where there is a registry, a key that is in none of them is a
typing error: said once, and raised while tests run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, ClassVar, Final

STATES: Final = ("testing", "beta", "full", "permanent", "remove")
"""Life of a flag: tried out, rolled out in part, on for everybody, meant to stay (a kill switch), to be taken out."""

_KEBAB: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*\Z")
_MAX_KEY: Final = 400
"""Characters of a flag's key that PostHog has room for."""


class UnknownFlagError(KeyError):
    """A key that is in no registry; raised under pytest alone."""


class Flag(str):
    """A flag's key that knows more.

    Attributes:
        owner: Whom to ask about it; "" for nobody.
        expires: Last day of its life; `None` for none.
        state: One of `STATES`.
        description: What it is for.
        name: Of the member that holds it.
    """

    __slots__ = ("description", "expires", "name", "owner", "state")

    def __new__(  # noqa: PYI034 - `Self` is not in Python 3.10
        cls,
        key: str,
        *,
        owner: str = "",
        expires: date | str | None = None,
        state: str = "testing",
        description: str = "",
    ) -> Flag:
        """A flag.

        Args:
            key: As PostHog knows it.
            owner: Whom to ask about it.
            expires: Its last day; text as `2027-03-31`.
            state: One of `STATES`.
            description: What it is for.

        Raises:
            ValueError: `key` is empty or too long, `expires` is no day, or `state` no state.
        """
        if not key or not key.strip() or len(key) > _MAX_KEY:
            raise ValueError(f"{key[:40]!r} is no key of a flag: 1 to {_MAX_KEY} characters")
        if state not in STATES:
            raise ValueError(f"{state!r} is no state of a flag: use one of {', '.join(STATES)}")
        made = super().__new__(cls, key)
        made.owner = owner
        made.expires = date.fromisoformat(expires) if isinstance(expires, str) else expires
        made.state = state
        made.description = description
        made.name = ""
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return (str, (str(self),))

    def expired(self, today: date | None = None) -> bool:
        """Whether its last day is over.

        Args:
            today: The day to ask for; today's by default.
        """
        return self.expires is not None and (today or date.today()) > self.expires  # noqa: DTZ011 - people's days


class Registry:
    """Base of a class of flags; its members that are text become `Flag`s.

    `class FeatureFlags(flags.Registry, kebab_case=False)` allows keys of another style than PostHog's.

    Raises:
        ValueError: A key is not in kebab-case, or stands twice.
    """

    _flags: ClassVar[dict[str, Flag]] = {}

    def __init_subclass__(cls, *, kebab_case: bool = True) -> None:
        super().__init_subclass__()
        cls._flags = dict(cls._flags)
        for name, value in list(vars(cls).items()):
            if name.startswith("_") or not isinstance(value, str):
                continue
            flag = value if isinstance(value, Flag) else Flag(value)
            if kebab_case and not _KEBAB.match(flag):
                raise ValueError(
                    f"{cls.__name__}.{name}: {str(flag)!r} is not in kebab-case (`new-dashboard`); "
                    "rename it, or say kebab_case=False"
                )
            if flag in cls._flags:
                raise ValueError(f"{cls.__name__}.{name}: {str(flag)!r} is {cls._flags[flag].name} already")
            flag.name = name
            setattr(cls, name, flag)
            cls._flags[str(flag)] = flag

    @classmethod
    def flags(cls) -> tuple[Flag, ...]:
        """The flags of this class, in their order."""
        return tuple(cls._flags.values())


def registered() -> dict[str, Flag]:
    """Every flag of every registry that is loaded, by key."""
    return {str(flag): flag for registry in registries() for flag in registry.flags()}


def registries() -> Iterator[type[Registry]]:
    """Every registry that is loaded."""
    waiting = list(Registry.__subclasses__())
    while waiting:
        registry = waiting.pop(0)
        yield registry
        waiting += registry.__subclasses__()


def check_name(key: object) -> str:
    """`key` as the key of a flag; "" where it is none.

    Raises:
        UnknownFlagError: There are registries, none has it, and this is a test.
    """
    if type(key) is Flag:
        if key.expires is not None and key.expired():
            _say(
                f"flag_expired {key}",
                "otel-posthog: the flag %r is in use, but its last day was %s (owner: %s)",
                str(key),
                key.expires,
                key.owner or "nobody",
            )
        return str.__str__(key)
    if not isinstance(key, str) or not key.strip() or len(key) > _MAX_KEY:
        return ""
    name = str.__str__(key)
    if Registry.__subclasses__() and not any(name in registry.flags() for registry in registries()):
        from otel_posthog.observe.guard import raise_in_tests

        if raise_in_tests():
            raise UnknownFlagError(f"the flag {name!r} is in no registry{_Near(name)}")
        _say(f"flag_unknown {name}", "otel-posthog: the flag %r is in no registry%s", name, _Near(name))
    return name


class _Near:
    """What a key may have been meant for; looked for where it is written, which is once: it takes milliseconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._text: str | None = None

    def __str__(self) -> str:
        if self._text is None:
            near = difflib.get_close_matches(self._name, registered(), 1)
            self._text = f"; did you mean {near[0]!r}?" if near else ""
        return self._text


def _say(what: str, message: str, *args: object) -> None:
    from otel_posthog.flags.process import client

    client.complain(what, message, *args)
