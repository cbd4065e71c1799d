"""Our own complaints: seldom, and never back into the telemetry that they complain about.

`logging` handlers of OpenTelemetry (and of distros built on it) sit on the root logger. A warning of ours that reached
one would become a log record, pass our log processor and the user's exporters, and could cause the next warning. So
`quiet_logger` takes the `otel_posthog` logger out of ordinary propagation and hands its records to the very same
handlers, less those of telemetry. Where only telemetry handlers are installed (the usual case under
`opentelemetry-instrument`), warnings go to standard error like those of a program without any set-up.

Whoever wants them in the telemetry all the same sets `logging.getLogger("otel_posthog").propagate = True`: forwarding
then stands back. See docs/decisions/0060-own-log-lines.md.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LOGGER_NAME = "otel_posthog"

logger = logging.getLogger(LOGGER_NAME)

_TELEMETRY_PACKAGES = frozenset({"opentelemetry", "logfire"})


def quiet_logger(target: logging.Logger = logger) -> None:
    """Keeps `target`'s records out of telemetry handlers from now on; does nothing the second time.

    Args:
        target: The logger whose records (and whose children's) are forwarded.
    """
    if not any(isinstance(handler, ForwardingHandler) for handler in target.handlers):
        target.addHandler(ForwardingHandler(target))
        target.propagate = False


class ForwardingHandler(logging.Handler):
    """Hands a record to every handler that it would have propagated to, less those of telemetry."""

    def __init__(self, source: logging.Logger) -> None:
        super().__init__()
        self._source = source

    def handle(self, record: logging.LogRecord) -> bool:
        """Forwards without taking a lock of its own: each handler has one."""
        if self._source.propagate:
            return True
        found = False
        above = self._source.parent
        while above is not None:
            for handler in above.handlers:
                if not is_telemetry(handler):
                    found = True
                    if record.levelno >= handler.level:
                        handler.handle(record)
            above = above.parent if above.propagate else None
        last_resort = logging.lastResort
        if not found and last_resort is not None and record.levelno >= last_resort.level:
            last_resort.handle(record)
        return True


def is_telemetry(handler: logging.Handler) -> bool:
    """Whether `handler` turns records into telemetry: its class or a base comes from such a package."""
    return any(base.__module__.partition(".")[0] in _TELEMETRY_PACKAGES for base in type(handler).__mro__)


class Complaints:
    """Log lines at most once per interval for each subject; what was held back is counted in the next line.

    Args:
        interval: Seconds between two lines about one subject.
        monotonic: Seconds that never go back.
        target: Where the lines go.
    """

    _MAX_SUBJECTS = 500

    def __init__(
        self,
        *,
        interval: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
        target: logging.Logger = logger,
    ) -> None:
        self._interval = interval
        self._monotonic = monotonic
        self._target = target
        # Re-entrant: a signal handler or a `__del__` may call while a call of its own thread is in here.
        self._lock = threading.RLock()
        self._last: dict[str, tuple[float, int]] = {}

    def say(self, subject: str, message: str, *args: object, level: int = logging.WARNING) -> bool:
        """Logs `message` unless `subject` was complained about within the interval.

        Args:
            subject: What is rate-limited as one.
            message: A `%`-format; never with a payload or a secret in it.
            args: For the format.
            level: A `logging` level.

        Returns:
            Whether a line was written.
        """
        now = self._monotonic()
        with self._lock:
            last, held_back = self._last.get(subject, (None, 0))
            if last is not None and now - last < self._interval:
                self._last[subject] = (last, held_back + 1)
                return False
            if len(self._last) >= self._MAX_SUBJECTS:
                self._last.pop(next(iter(self._last)))
            self._last[subject] = (now, 0)
        if held_back:
            self._target.log(level, f"{message} (and %d more like it before)", *args, held_back)
        else:
            self._target.log(level, message, *args)
        return True

    def after_fork(self) -> None:
        """To be called in the child of a fork: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()
