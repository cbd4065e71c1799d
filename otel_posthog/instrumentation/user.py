"""What a user object says, without a query that the app would not have made.

Frameworks hand out models of Django and SQLAlchemy, rows, mappings, plain objects and bare ids. Of a model only what
has been loaded is read: a deferred field, an expired attribute or a relation would ask the database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, cast

from otel_posthog.api.values import id_value
from otel_posthog.convert.person import person_id
from otel_posthog.rules.users import UserReference, UsersConfig, UserText

_ABSENT: Final = object()
_IDS: Final = ("id", "pk", "identity")
"""Where a user's own id is; the last is that of Starlette's `BaseUser`."""
_MODEL_IDS: Final = ("pk",)
"""Where it is in a model of Django, whatever the primary key is called."""
_SCALARS: Final = (str, int)


unnoticed: Final = cast("Callable[[Any, str], Any]", cast("Any", dict).get)
"""A value of a session, past the session's own methods: they note that it was asked, which changes the response."""


class Login(NamedTuple):
    """How somebody logged in; "" for what is not known.

    Args:
        method: The provider, or the login package's word for it, or the name of the backend's class.
        provider: Of a social login.
        backend: Dotted name of Django's authentication backend.
        route: The endpoint, view or path.
        at: When, UTC.
    """

    method: str = ""
    provider: str = ""
    backend: str = ""
    route: str = ""
    at: datetime | None = None


class UserReader:
    """Reads users as the section `users:` says.

    Args:
        config: The section.
    """

    def __init__(self, config: UsersConfig) -> None:
        self.config = config
        self.maps = bool(config.set or config.set_once)
        """Whether properties are to be set."""

    def person(self, user: Any, session: Mapping[str, Any] | None = None) -> str:
        """Who `user` is to PostHog, "" where nothing says so.

        Args:
            user: The user object, or a bare id.
            session: The session, where it is open.
        """
        reference = self.config.distinct_id
        if isinstance(reference, UserReference):
            return person_id(id_value(self._value(reference, user, None, session)))
        if reference is not None:
            return self._written(reference, user, session)
        if is_scalar(user):
            return person_id(id_value(user))
        for name in _MODEL_IDS if hasattr(user, "_meta") else _IDS:
            value = peek(user, name)
            if value is not None and (found := person_id(id_value(value))):
                return found
        return person_id(id_value(_identity(user)))

    def _written(self, text: UserText, user: Any, session: Mapping[str, Any] | None) -> str:
        """Text with references; "" where one of them is not there: half an id is somebody else's."""
        written: list[str] = []
        for part in text.parts:
            value = part if isinstance(part, str) else id_value(self._value(part, user, None, session))
            if value is None or value == "":
                return ""
            written.append(str(value))
        return person_id("".join(written))

    def values(
        self,
        references: tuple[tuple[str, UserReference], ...],
        user: Any,
        login: Login | None,
        session: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What `references` find; what they do not find is absent, and so is what is `None`.

        Args:
            references: Name -> reference.
            user: The user object, or a bare id.
            login: How they logged in; `None` where they did so before.
            session: The session, where it is open.
        """
        found: dict[str, Any] = {}
        for name, reference in references:
            value = self._value(reference, user, login, session)
            if value is not None and value != "":
                found[name] = value
        return found

    def _value(
        self, reference: UserReference, user: Any, login: Login | None, session: Mapping[str, Any] | None
    ) -> Any:
        if reference.root == "login":
            return getattr(login, reference.path[0], None) or None
        if reference.root == "session":
            return unnoticed(session, reference.path[0]) if isinstance(session, dict) else None
        value: Any = user
        for name in reference.path:
            value = peek(value, name)
            if value is None:
                return None
        # A whole object is no property.
        return None if value is user and not is_scalar(user) else value


def is_scalar(user: Any) -> bool:
    """Whether `user` is a bare id."""
    return id_value(user) is not None


def is_known(user: Any) -> bool:
    """Whether `user` is somebody: no stand-in for a visitor who is not logged in."""
    if user is None or user is False or user == "":
        return False
    said = peek(user, "is_authenticated")
    return said is None or bool(said() if callable(said) else said)


def peek(owner: Any, name: str) -> Any:
    """An attribute or key, where reading it asks no database; `None` otherwise. Never raises."""
    try:
        if isinstance(owner, _SCALARS):
            return None
        if isinstance(owner, Mapping):
            return cast("Mapping[str, Any]", owner).get(name)
        kept = getattr(owner, "__dict__", None)
        if kept is not None and name in kept:
            return kept[name]
        # Models of SQLAlchemy and Django keep these beside what has been loaded.
        if kept is not None and ("_sa_instance_state" in kept or "_state" in kept) and _asks(owner, name):
            return None
        found = getattr(owner, name, _ABSENT)
        if found is _ABSENT and callable(getattr(owner, "keys", None)):
            return owner[name] if name in owner.keys() else None  # noqa: SIM118 - a row of sqlite3 iterates over values
        return None if found is _ABSENT or (callable(found) and name != "is_authenticated") else found
    except Exception:  # noqa: BLE001 - a property of the app's
        return None


def _asks(owner: Any, name: str) -> bool:
    """Whether reading the attribute of a model would ask the database."""
    # Not `getattr` of the class: that runs what some descriptors do there.
    descriptor: Any = next((vars(cls)[name] for cls in type(owner).__mro__ if name in vars(cls)), None)
    if descriptor is None:
        return False
    if hasattr(owner, "_sa_instance_state"):
        # An instrumented attribute that is loaded stands in `__dict__`.
        return hasattr(descriptor, "impl") or hasattr(descriptor, "property")
    if hasattr(owner, "_meta"):
        if name == "pk":
            return owner._meta.pk.attname not in owner.__dict__
        if hasattr(descriptor, "get_queryset") or hasattr(descriptor, "related_manager_cls"):
            return name not in owner._state.fields_cache
        # A field that is loaded stands in `__dict__`, too.
        return hasattr(descriptor, "field")
    return False


def _identity(user: Any) -> Any:
    """The primary key of a SQLAlchemy object whose attributes have expired: it knows it all the same."""
    key: Any = getattr(getattr(user, "_sa_instance_state", None), "identity", None)
    return cast("Any", key[0]) if isinstance(key, tuple) and len(cast("tuple[Any, ...]", key)) == 1 else None
