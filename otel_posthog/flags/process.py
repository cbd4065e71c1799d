"""The process's one flag client: follows the runtime, and says why there is none."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final

from otel_posthog import assembly
from otel_posthog.api.process import process as api
from otel_posthog.config.flags import FlagsTarget, flags_target
from otel_posthog.config.settings import FlagsConfig, Settings
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.log import Complaints

if TYPE_CHECKING:
    from otel_posthog.flags.asking import Asking
    from otel_posthog.flags.overriding import Overrides
    from otel_posthog.lane.emitter import Emitter

INSTALL: Final = "pip install -U 'otel-posthog[flags]'"


@frozen
class FlagStats:
    """What became of the questions so far.

    Args:
        answered: By who answered: `remote`, `local`, `override`.
        unanswered: By reason, see `flags.answer.REASONS`; the caller's default counted.
    """

    answered: Mapping[str, int] = field(default_factory=dict[str, int])
    unanswered: Mapping[str, int] = field(default_factory=dict[str, int])


class FlagClient:
    """Gives the `Asking` of the runtime that is there, and keeps the books."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._settings: Settings | None = None
        self._built: tuple[FlagsTarget, FlagsConfig] | None = None
        self._asking: Asking | None = None
        self._why = ""
        self._counts: dict[tuple[str, str], int] = {}
        self._complaints = Complaints(interval=float("inf"))
        self.everywhere: list[Overrides] = []
        """Overrides that hold for the whole process, the newest last."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._counts = {}
        self._complaints.after_fork()
        if self._asking is not None:
            self._asking.after_fork()

    def get(self) -> tuple[Asking | None, Emitter | None, str]:
        """(whom to ask, where to report, why there is nobody: a reason of `REASONS`). Never raises."""
        emitter = api.get()
        runtime = assembly.current()
        if emitter is None or runtime is None:
            if self._asking is not None:
                self._follow(None)
            self._say("the gate is shut (`otel-posthog status` says why)", level=logging.INFO)
            return None, None, "off"
        if runtime.settings is not self._settings:
            self._follow(runtime.settings)
        return self._asking, emitter, self._why

    def count(self, kind: str, what: str) -> None:
        """One question more."""
        with self._lock:
            self._counts[kind, what] = self._counts.get((kind, what), 0) + 1

    def stats(self) -> FlagStats:
        """The books."""
        with self._lock:
            counts = dict(self._counts)
        return FlagStats(
            {what: number for (kind, what), number in counts.items() if kind == "answered"},
            {what: number for (kind, what), number in counts.items() if kind == "unanswered"},
        )

    def complain(self, what: str, message: str, *args: object) -> None:
        """Says something about the use of flags, once in a process.

        Args:
            what: What is said once.
            message: A `%`-format.
            args: For the format.
        """
        self._complaints.say(what, message, *args)

    def forget(self) -> None:
        """As if nothing had been asked yet; for tests."""
        with self._lock:
            self._follow(None)
            self._counts = {}
            self._complaints = Complaints(interval=float("inf"))

    def _follow(self, settings: Settings | None) -> None:
        with self._lock:
            if settings is not self._settings:
                self._build(settings)
                # Not before: other threads would find neither a client nor a reason to wait for it.
                self._settings = settings

    def _build(self, settings: Settings | None) -> None:
        target, why = (None, "") if settings is None else flags_target(settings)
        built = None if target is None or settings is None else (target, settings.flags)
        if built is not None and built == self._built:
            return  # a reload of something else: what was told and loaded stays
        before, self._asking, self._built = self._asking, None, built
        if before is not None:
            before.close()
        self._why = "off"
        if built is not None:
            self._start(*built)
        elif settings is not None:
            # Switched off on purpose, or forgotten.
            self._say(why, level=logging.WARNING if settings.flags.enabled else logging.INFO)

    def _start(self, target: FlagsTarget, config: FlagsConfig) -> None:
        try:
            from otel_posthog.flags.asking import Asking

            self._asking = Asking(target, config, _report, wanted=_running)
            self._why = ""
        except (ImportError, TypeError, AttributeError) as error:
            self._why = "package"
            missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "posthog"
            why = "they need the posthog package" if missing else f"the posthog package cannot be used ({error})"
            self._say(f"{why}: {INSTALL}")

    def _say(self, why: str, level: int = logging.WARNING) -> None:
        message = "otel-posthog: feature flags are off, and every default counts: %s"
        self._complaints.say(f"off: {why}", message, why, level=level)


def _running() -> bool:
    return assembly.current() is not None


def _report(message: dict[str, Any]) -> None:
    emitter = api.get()
    if emitter is not None:
        from otel_posthog.flags.reporting import report

        report(message, emitter)


# As `api.process`: calls are module-level functions, and have no other place to keep it.
client = FlagClient()


def stats() -> FlagStats:
    """What became of the questions of this process so far."""
    return client.stats()


__all__ = ["FlagClient", "FlagStats", "client", "stats"]
