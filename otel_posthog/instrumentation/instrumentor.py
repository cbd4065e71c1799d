"""The base of our instrumentors: the gate, hooks on imports, and the way back.

`opentelemetry-instrument` loads every instrumentor that is installed, in each process: so this loads next to nothing,
and whatever is needed to do its work is loaded with what it instruments.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from otel_posthog import assembly
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.observe.guard import Guard, logger

Hook = Callable[[Any], None]


class PostHogInstrumentor(BaseInstrumentor):
    """Instruments one package. One object for a process, however often it is called; never raises.

    With the gate shut `instrument` changes nothing, and may be called again later.
    """

    framework: ClassVar[str] = ""
    """What it is for: the name of the package on the index."""
    oldest: ClassVar[tuple[int, int]] = (0, 0)
    """The oldest version that is supported."""

    def __init__(self) -> None:
        super().__init__()
        if "_patches" not in self.__dict__:  # one object, whose __init__ is run at each call
            self._patches: Patches | None = None
            self._watched: set[str] = set()
            self._guard = Guard()

    def hooks(self) -> Mapping[str, Hook]:
        """Module -> what to do when it has been imported, or now where that was before."""
        return {}

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: what is not installed is never imported, and versions are looked at then."""
        return ()

    def instrument(self, **kwargs: Any) -> Any:
        """Starts to look; the arguments of other instrumentors are taken and not needed."""
        result = super().instrument(**kwargs)
        if self._patches is None:
            self._is_instrumented_by_opentelemetry = False
        return result

    def _instrument(self, **_: Any) -> None:
        try:
            if not _gate_is_open():
                return
            self._patches = Patches()
            for module in self.hooks():
                if module not in self._watched:
                    self._watched.add(module)
                    wrapt.register_post_import_hook(lambda found, name=module: self._imported(name, found), module)
                elif module in sys.modules:
                    self._imported(module, sys.modules[module])
        except Exception as error:  # noqa: BLE001 - the edge: raised here, it would stop every other instrumentation
            self.failed(error)

    def _uninstrument(self, **_: Any) -> None:
        patches, self._patches = self._patches, None
        if patches is not None:
            patches.undo()

    def _imported(self, name: str, module: Any) -> None:
        if self._patches is None:
            return
        try:
            if self._supported():
                self.hooks()[name](module)
        except Exception as error:  # noqa: BLE001 - the edge: we are inside the app's own import
            self.failed(error)

    def _supported(self) -> bool:
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version(self.framework)
        except PackageNotFoundError:  # vendored, or a stand-in
            return True
        numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
        if numbers >= self.oldest:
            return True
        oldest = ".".join(map(str, self.oldest))
        logger.warning(
            "otel-posthog: %s %s is older than %s, and left alone; the rest works", self.framework, found, oldest
        )
        return False

    @property
    def patches(self) -> Patches:
        """What is wrapped; only while it is on."""
        assert self._patches is not None
        return self._patches

    @property
    def on(self) -> bool:
        """Whether it is instrumented, and the gate was open."""
        return self._patches is not None

    def failed(self, error: Exception) -> None:
        """Counts what a hook of ours swallowed: to be called in its `except Exception`."""
        runtime = assembly.current()
        guard = self._guard if runtime is None else runtime.guard
        guard.failed(f"instrumentation.{self.framework}", error)


def _gate_is_open() -> bool:
    """Whether there is a runtime, or would be one (the hook or the API says why not, once)."""
    from otel_posthog.config.load import load_settings
    from otel_posthog.errors import ConfigError

    if assembly.current() is not None:
        return True
    try:
        return load_settings().enabled
    except ConfigError:
        return False
