"""Where users are beside what login packages tell: the setting `users.sources`, ready for use in each request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from otel_posthog.rules.users import UserSource

USUAL: Final = (
    UserSource("g", "user"),
    UserSource("state", "user"),
    UserSource("dependency", "get_current_user"),
    UserSource("dependency", "get_current_active_user"),
    UserSource("dependency", "current_user"),
)
"""Where users are by convention."""


class Sources:
    """The sources of a process; never changed, another one takes its place when the rules are loaded anew.

    Args:
        sources: In order.
    """

    def __init__(self, sources: tuple[UserSource, ...]) -> None:
        def named(kind: str) -> tuple[str, ...]:
            return tuple(source.name for source in sources if source.kind == kind)

        self.session = named("session")
        self.g = named("g")
        self.g_names = frozenset(self.g)
        self.state = named("state")
        self.request = named("request")
        self.dependencies = frozenset(named("dependency"))
        self.calls: tuple[Callable[[Any], Any], ...] = tuple(_Call(name) for name in named("call"))
        """The app's own functions from a request to its user, loaded when they are first called."""


class _Call:
    """A function of the app, by name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Any = None

    def __call__(self, request: Any) -> Any:
        if self._function is None:
            import functools
            import importlib

            module, _, path = self._name.partition(":")
            self._function = functools.reduce(getattr, path.split("."), cast("Any", importlib.import_module(module)))
        return self._function(request)
