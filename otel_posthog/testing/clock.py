"""`Clock`: a time that stands still until the test moves it, for all that is captured."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta, timezone
from types import BuiltinFunctionType
from typing import Any, Final

START: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)


class Clock:
    """When things happen in a test: at `start`, until the test says otherwise.

    It is the clock of calls, spans and log records, not of the app: `time.time()` goes on. Where freezegun or
    time-machine rule the app's time, theirs counts, and this one is not asked.

    Args:
        start: A moment with a zone; 2026-01-01 00:00 UTC by default.

    Raises:
        ValueError: `start` has no zone.
    """

    def __init__(self, start: datetime = START) -> None:
        self.now = start

    @property
    def now(self) -> datetime:
        """The moment; may be set to any other one with a zone."""
        return self._now

    @now.setter
    def now(self, moment: datetime) -> None:
        if moment.utcoffset() is None:
            raise ValueError(f"{moment!r} has no zone: say which moment it is, e.g. by tzinfo=timezone.utc")
        self._now = moment

    def advance(self, seconds: float | timedelta) -> datetime:
        """Moves on, or back where it is negative.

        Args:
            seconds: How far.

        Returns:
            The new moment.
        """
        self._now += seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
        return self._now

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch, by whoever rules the time of this test."""
        if _somebody_else_rules():
            return time.time_ns()
        return ((self._now - _EPOCH) // _MICROSECOND) * 1_000


def _somebody_else_rules() -> bool:
    # freezegun puts functions of Python in the place of those of `time`; time-machine changes what they do, and says so
    # by its escape hatch, older ones by the stack of the times that hold.
    if not isinstance(time.time_ns, BuiltinFunctionType):
        return True
    time_machine: Any = sys.modules.get("time_machine")
    travelling: Any = getattr(getattr(time_machine, "escape_hatch", None), "is_travelling", None)
    return bool(travelling() if callable(travelling) else getattr(time_machine, "coordinates_stack", None))


__all__ = ["START", "Clock"]
