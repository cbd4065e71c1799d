"""Wrapped functions, and the way back: after `undo` the same objects stand where they stood before."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, cast

import wrapt

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]

_ABSENT: Final = object()


class Patches:
    """What one instrumentor has changed."""

    def __init__(self) -> None:
        self._made: list[tuple[Any, str, Any, Any]] = []
        self._undoing: list[Callable[[], object]] = []
        self.on = True
        """Whether they have not been taken back."""

    def wrap(self, owner: Any, name: str, wrapper: Wrapper) -> bool:
        """Wraps a function of a module, or a method of a class.

        Args:
            owner: The module or class.
            name: Of the function there.
            wrapper: Called in its place, in the way of wrapt.

        Returns:
            Whether there is such a function.
        """
        if not callable(getattr(owner, name, None)):
            return False
        original: Any = cast("Any", vars(owner)).get(name, _ABSENT)
        function = getattr(owner, name) if original is _ABSENT else original
        self.put(owner, name, lambda enabled: wrapt.FunctionWrapper(function, wrapper, enabled))
        return True

    def wrap_method(self, owner: Any, name: str, wrapper: Wrapper) -> bool:
        """As `wrap`, for a plain method that each request passes: a fifth of the cost of a proxy.

        Args:
            owner: The class.
            name: Of a function there, no coroutine function: what it becomes is an ordinary function.
            wrapper: As for `wrap`.

        Returns:
            Whether there is such a function.
        """
        original: Any = getattr(owner, name, None)
        if not inspect.isfunction(original):
            return self.wrap(owner, name, wrapper)

        def made(enabled: Callable[[], bool]) -> Any:
            @functools.wraps(original)
            def method(self: Any, *args: Any, **kwargs: Any) -> Any:
                bound = original.__get__(self)
                return wrapper(bound, self, args, kwargs) if enabled() else bound(*args, **kwargs)

            return method

        self.put(owner, name, made)
        return True

    def put(self, owner: Any, name: str, make: Callable[[Callable[[], bool]], Any]) -> None:
        """Puts something of one's own making in the place of a function.

        Args:
            owner: The module, class or object.
            name: Of the function there.
            make: Makes it; given what says whether it still counts.
        """
        original: Any = cast("Any", vars(owner)).get(name, _ABSENT)
        proxy = make(lambda: self.on)
        setattr(owner, name, proxy)
        self._made.append((owner, name, original, proxy))

    def on_undo(self, undo: Callable[[], object]) -> None:
        """Calls `undo` with everything else that is undone, the last one first."""
        self._undoing.append(undo)

    def undo(self) -> None:
        """Puts everything back. What others have wrapped once more stays wrapped, and goes straight through us."""
        self.on = False
        for undo in reversed(self._undoing):
            undo()
        for owner, name, original, proxy in reversed(self._made):
            if cast("Any", vars(owner)).get(name) is not proxy:
                continue
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        self._made.clear()
        self._undoing.clear()
