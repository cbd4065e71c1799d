"""Functions of the app that become events by configuration: the section `functions:` of the rules file.

A module's functions are wrapped when it has been imported, or now where that was before; nobody imports it for us. What
is misspelt would be waited for for ever: so it is looked for when the first event comes, when the app is there and its
path is complete, and once more when the process ends (docs/decisions/0150).
"""

from __future__ import annotations

import atexit
import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from otel_posthog import assembly
from otel_posthog.api.process import process
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
        self._outcomes: dict[str, str] = {}
        self._at_exit = False

    def state(self, target: str) -> str | None:
        """What became of a function: "" where it is wrapped, else why not; `None` while its module has not come.

        Args:
            target: As the file names it.
        """
        return self._outcomes.get(target)

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
        events: dict[str, dict[str, list[FunctionEvent]]] = {}
        if runtime.settings.rules.path:
            from otel_posthog.rules.load import load_functions

            for event in load_functions(runtime.settings.rules):
                events.setdefault(event.module, {}).setdefault(event.qualname, []).append(event)
        # At once: `_seek` may look on another thread.
        self._events, self._outcomes = events, {}
        self._looking = True
        try:
            super().watch()
        finally:
            self._looking = False
        if self._waiting():
            runtime.bridge.on_loaded(self._seek)
            if not self._at_exit:
                self._at_exit = True
                atexit.register(self._leave)

    def _waiting(self) -> list[str]:
        return [module for module in self._events if module not in sys.modules]

    def _seek(self) -> None:
        """Says which modules are nowhere."""
        if self.patches is None:
            return
        try:
            from otel_posthog.instrumentation.seeking import missing_module

            for module in self._waiting():
                missing = missing_module(module)
                if missing is not None:
                    self._say(module, missing.what, logging.WARNING)
        except Exception as error:  # noqa: BLE001 - an edge
            self.failed(error)

    def _leave(self) -> None:
        """The process ends."""
        self._seek()
        if self.patches is not None:
            for module in self._waiting():
                self._say(module, f"nobody has imported {module}", logging.INFO)

    def _say(self, module: str, why: str, level: int) -> None:
        for events in self._events[module].values():
            target, place = events[0].target, events[0].place
            message = "otel-posthog: functions: %s is not counted: %s (%s)"
            process.complaints.say(f"functions.{target}", message, target, why, place, level=level)

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
            target = events[0].target
            try:
                self._outcomes[target] = wrap_function(self.patches, module, qualname, events, late=self._looking)
            except Exception as error:  # noqa: BLE001 - one that cannot be wrapped costs itself
                self._outcomes[target] = "it cannot be wrapped"
                self.failed(error)


__all__ = ["PostHogFunctionsInstrumentor"]
