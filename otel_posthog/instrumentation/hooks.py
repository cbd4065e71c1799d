"""The base of what is done in one framework, from `instrument` to `uninstrument`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.instrumentation.people import People


class Hooks:
    """Wraps what has to be wrapped, when it has been imported.

    Args:
        people: What follows from a user.
        patches: Where everything that is changed is noted.
    """

    framework: ClassVar[str] = ""

    def __init__(self, people: People, patches: Patches) -> None:
        self.people = people
        self.patches = patches

    def modules(self) -> Mapping[str, Hook]:
        """Module -> what to do when it has been imported."""
        return {}

    @property
    def on(self) -> bool:
        """Whether it has not been taken back."""
        return self.patches.on

    def failed(self, error: Exception) -> None:
        """Counts what one of us swallowed: to be called in its `except Exception`."""
        self.people.guard.failed(f"instrumentation.{self.framework}", error)
