"""Telemetry never breaks the host, and must break our own tests: swallow and count everywhere else.

In the tests of others an internal failure is a warning of pytest's, `InternalErrorWarning`: their code is not at fault
(docs/decisions/0149).
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

from otel_posthog.errors import InternalErrorWarning
from otel_posthog.observe.log import Complaints, logger

__all__ = ["Guard", "logger", "raise_in_tests"]

_MAX_TEXT = 300


def raise_in_tests() -> bool:
    """Whether a mistake of the app's should fail its test: under pytest, or with `OTEL_POSTHOG_RAISE=true`."""
    chosen = _chosen()
    return _in_a_test() if chosen is None else chosen


def _chosen() -> bool | None:
    chosen = os.environ.get("OTEL_POSTHOG_RAISE", "").strip().lower()
    return chosen == "true" if chosen else None


def _in_a_test() -> bool:
    return "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ


class Guard:
    """Counts and reports what was swallowed, at most one log line a minute for each place.

    Args:
        monotonic: Seconds that never go back; injected by tests.
    """

    raises: ClassVar[bool] = False
    """Whether failures surface: our own tests set it. `OTEL_POSTHOG_RAISE` decides over it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        # Re-entrant: a signal handler or a `__del__` may call while a call of its own thread is in here.
        self._lock = threading.RLock()
        self._counts: dict[str, int] = {}
        self._misuses: dict[str, int] = {}
        self._complaints = Complaints(monotonic=monotonic)
        self._misuse_complaints = Complaints(interval=float("inf"), monotonic=monotonic)

    def failed(self, where: str, error: BaseException) -> None:
        """To be called in an `except Exception` block at an edge.

        Args:
            where: The place, from a small fixed set: it is a metric attribute.
            error: What was caught. Its text is logged, cut to 300 characters; it is never trusted to have one.

        Raises:
            BaseException: `error` itself, in our own tests and with `OTEL_POSTHOG_RAISE=true`.
        """
        with self._lock:
            self._counts[where] = self._counts.get(where, 0) + 1
        chosen = _chosen()
        if self.raises if chosen is None else chosen:
            raise error
        if _in_a_test():
            text = f"otel-posthog: internal error in {where} ({type(error).__name__}: {_text(error)})"
            # Where warnings are errors, this one would break what we are called by: the line in the log remains.
            with suppress(InternalErrorWarning):
                warnings.warn(text, InternalErrorWarning, stacklevel=2)
        self._complaints.say(
            where,
            "otel-posthog: internal error in %s (%s: %s); your app is fine, it just sends less to PostHog",
            where,
            type(error).__name__,
            _text(error),
        )

    def misused(self, what: str, message: str, *args: object) -> None:
        """Counts something that the app did wrong when it called us, and says so once in a process. Never raises.

        Args:
            what: The kind of mistake, from a small fixed set: it is a metric attribute.
            message: A `%`-format with the way out; never with a payload or a secret in it.
            args: For the format; never trusted to have a text.
        """
        with self._lock:
            self._misuses[what] = self._misuses.get(what, 0) + 1
        with suppress(Exception):  # a handler or a `__repr__` of the app's
            self._misuse_complaints.say(what, message, *args)

    def misuses(self) -> dict[str, int]:
        """Wrong calls by kind."""
        with self._lock:
            return dict(self._misuses)

    def counts(self) -> dict[str, int]:
        """Swallowed failures by place."""
        with self._lock:
            return dict(self._counts)

    def after_fork(self) -> None:
        """To be called in the child of a fork: a fresh lock, and books of its own."""
        self._lock = threading.RLock()
        self._counts = {}
        self._misuses = {}
        self._complaints.after_fork()
        self._misuse_complaints.after_fork()


def _text(error: BaseException) -> str:
    # An object of the app's may be in there, and its __str__ may raise.
    try:
        return str(error)[:_MAX_TEXT]
    except Exception:  # noqa: BLE001 - whatever __str__ raises, the place and the type have been named
        return "its text cannot be read"
