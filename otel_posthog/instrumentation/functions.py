"""Functions of the app that become events by configuration: the section `functions:` of the rules file.

A module's functions are wrapped when it has been imported, or now where that was before; nobody imports it for us.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from otel_posthog import assembly
from otel_posthog.instrumentation.on_import import Hook, OnImport

if TYPE_CHECKING:
    from otel_posthog.rules.functions import FunctionEvent


class PostHogFunctionsInstrumentor(OnImport):
    """Wraps the functions that the rules file names, and follows its reloads."""

    place: ClassVar[str] = "functions"

    def set_up(self) -> None:
        """Nothing has been read yet."""
        self._events: dict[str, dict[str, list[FunctionEvent]]] = {}
        self._followed: Callable[[], Any] = lambda: None
        self._looking = False

    def modules(self) -> Mapping[str, Hook]:
        """The modules of the functions."""
        return dict.fromkeys(self._events, self._wrap)

    def watch(self) -> None:
        """Reads what functions there are, and waits for their modules."""
        runtime = assembly.current()
        if runtime is None:
            return
        if self._followed() is not runtime.bridge:
            self._followed = weakref.ref(runtime.bridge)
            mine = weakref.WeakMethod(self._again)
            runtime.bridge.on_replaced(lambda: (again := mine()) and again())
        self._events = {}
        if runtime.settings.rules.path:
            from otel_posthog.rules.load import load_functions

            for event in load_functions(runtime.settings.rules):
                self._events.setdefault(event.module, {}).setdefault(event.qualname, []).append(event)
        self._looking = True
        try:
            super().watch()
        finally:
            self._looking = False

    def _again(self) -> None:
        """The rules have been loaded anew."""
        if self.patches is not None:
            self._uninstrument()
            self._instrument()

    def _wrap(self, module: Any) -> None:
        if self.patches is None:
            return
        from otel_posthog.instrumentation.wrapping import wrap_function

        for qualname, events in self._events[module.__name__].items():
            try:
                wrap_function(self.patches, module, qualname, events, late=self._looking)
            except Exception as error:  # noqa: BLE001, PERF203 - one that cannot be wrapped costs itself
                self.failed(error)


__all__ = ["PostHogFunctionsInstrumentor"]
