"""Providers that come later: an app, or a distribution that waits for its workers, sets them when we are long done.

Until one is set, the API's setter is wrapped; after that the original is back. Only the inner function sees every way
(the public setter imported by name anywhere, and a provider loaded from an entry point), so that is what is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import wrapt

TRACES = ("opentelemetry.trace", "_set_tracer_provider", "set_tracer_provider")
LOGS = ("opentelemetry._logs._internal", "_set_logger_provider", "set_logger_provider")


class LateBinding:
    """Calls `bind()` whenever a global provider is set, until it says that it could bind.

    Args:
        setter: Module, private and public name of the API's setter.
        bind: Attaches to the provider that is effective by then; True when that was possible. Never raises.
    """

    def __init__(self, setter: tuple[str, str, str], bind: Callable[[], bool]) -> None:
        self._bind = bind
        self._module: Any = import_module(setter[0])
        # The private name is the same from 1.39 to 1.45; should it go, the public one still serves most apps.
        self._name = setter[1] if callable(getattr(self._module, setter[1], None)) else setter[2]
        self._original: Any = None
        self._wrapper: Any = None

    @property
    def waiting(self) -> bool:
        """Whether the setter is wrapped."""
        return self._wrapper is not None

    def wait(self) -> None:
        """Wraps the setter; once, however often it is called."""
        if self._wrapper is not None:
            return
        self._original = getattr(self._module, self._name)
        self._wrapper = wrapt.FunctionWrapper(self._original, self._after_set)
        setattr(self._module, self._name, self._wrapper)

    def _after_set(self, wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        if self._bind():
            self.restore()
        return result

    def restore(self) -> None:
        """Puts the original back, unless somebody has wrapped ours: then ours stays, and passes everything through."""
        if self._wrapper is not None and getattr(self._module, self._name) is self._wrapper:
            setattr(self._module, self._name, self._original)
            self._wrapper = None
