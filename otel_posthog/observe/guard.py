"""Telemetry never breaks the host, and must break our tests: swallow and count in production, raise under pytest."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("otel_posthog")
"""Our diagnostics: does not propagate into the app's handlers by way of OpenTelemetry (see `quiet_logger`)."""

_COMPLAINT_INTERVAL = 60.0


def raise_in_tests() -> bool:
    """Whether an internal failure should surface: under pytest, or with `OTEL_POSTHOG_RAISE=true`."""
    chosen = os.environ.get("OTEL_POSTHOG_RAISE", "").strip().lower()
    if chosen:
        return chosen == "true"
    return "pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ


class Guard:
    """Counts and reports what was swallowed, at most one log line a minute for each place.

    Args:
        monotonic: Seconds that never go back; injected by tests.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def failed(self, where: str, error: BaseException) -> None:
        """To be called in an `except Exception` block at an edge.

        Raises:
            BaseException: `error` itself, under pytest.
        """
        if raise_in_tests():
            raise error
        now = self._monotonic()
        with self._lock:
            self._counts[where] = self._counts.get(where, 0) + 1
            last = self._last.get(where)
            if last is not None and now - last < _COMPLAINT_INTERVAL:
                return
            self._last[where] = now
        logger.warning(
            "otel-posthog: internal error in %s (%s: %s); your app is fine, it just sends less to PostHog",
            where,
            type(error).__name__,
            error,
        )

    def counts(self) -> dict[str, int]:
        """Swallowed failures by place."""
        with self._lock:
            return dict(self._counts)
