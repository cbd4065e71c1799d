"""Instrumentors of ours that have no person to find: the gate, hooks on imports, and the way back.

`opentelemetry-instrument` loads every instrumentor that is installed, in each process: so this loads next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.errors import ConfigError
from otel_posthog.instrumentation.patches import Patches

Hook = Callable[[Any], None]


class OnImport(BaseInstrumentor):
    """Does something when modules have been imported. One object for a process; never raises.

    With the gate shut `instrument` changes nothing, and may be called again later.
    """

    place = ""
    """Its name in counters of what was swallowed."""

    def __init__(self) -> None:
        super().__init__()
        if "_watching" not in self.__dict__:  # one object, whose __init__ is run at each call
            self._watching: set[str] = set()
            self.patches: Patches | None = None
            """What is wrapped; `None` while it is off."""
            self.set_up()

    def set_up(self) -> None:
        """What `__init__` is for, once in a process."""

    def modules(self) -> Mapping[str, Hook]:
        """Module -> what to do when it has been imported, or now where that was before."""
        return {}

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: what is not installed is never imported."""
        return ()

    def instrument(self, **kwargs: Any) -> Any:
        """Starts; the arguments of other instrumentors are taken and not needed."""
        result = super().instrument(**kwargs)
        if self.patches is None:
            self._is_instrumented_by_opentelemetry = False
        return result

    def _instrument(self, **_: Any) -> None:
        try:
            if _gate_is_open():
                self.patches = Patches()
                self.watch()
        except Exception as error:  # noqa: BLE001 - the edge: raised here, it would stop every other instrumentation
            self.failed(error)

    def _uninstrument(self, **_: Any) -> None:
        patches, self.patches = self.patches, None
        if patches is not None:
            patches.undo()

    def watch(self) -> None:
        """Does what there is to do in the modules that are there, and waits for the others."""
        for module in self.modules():
            if module not in self._watching:
                self._watching.add(module)
                wrapt.register_post_import_hook(self._hook(module), module)
            elif module in sys.modules:
                self._imported(module, sys.modules[module])

    def _hook(self, name: str) -> Hook:
        return lambda module: self._imported(name, module)

    def _imported(self, name: str, module: Any) -> None:
        if self.patches is None:
            return
        try:
            hook = self.modules().get(name)
            if hook is not None:
                hook(module)
        except Exception as error:  # noqa: BLE001 - the edge: we are inside the app's own import
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Counts what was swallowed: to be called in an `except Exception`."""
        emitter = process.get() if assembly.current() is not None else None
        (process if emitter is None else emitter.edge).guard.failed(f"instrumentation.{self.place}", error)


def _gate_is_open() -> bool:
    """Whether there is a runtime, after an attempt to start one (the hook or the API says why not, once)."""
    from otel_posthog.config.load import load_settings

    try:
        if assembly.current() is None and not load_settings().enabled:
            return False
    except ConfigError:
        return False
    process.get()
    return assembly.current() is not None
