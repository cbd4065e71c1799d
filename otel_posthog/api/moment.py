"""When something happened, as callers write it."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_posthog.observe.guard import Guard

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LATEST: Final = 1 << 63
"""Nanoseconds until 2262: what is later counts something else than seconds, or is `datetime.max` in place of "none"."""
_JUST_NOW: Final = timedelta(seconds=5)
_OFFSET: Final = re.compile(r"([+-]\d{2})(\d{2})$")


def moment_ns(value: Any, now_ns: int, guard: Guard) -> int:
    """`value` as nanoseconds since the Unix epoch; `now_ns` (and a complaint) where it names no moment.

    Args:
        value: A `datetime`, ISO 8601 text with a time in it, or seconds since the Unix epoch. Without a zone it is
            UTC; only a `datetime` of the last five seconds by this machine's own clock is taken for what it surely
            is, `datetime.now()`. The `posthog` SDK has the same rule.
        now_ns: What the clock says.
        guard: Told about what names no moment.
    """
    try:
        if isinstance(value, datetime):
            found = _of_datetime(value)
        elif isinstance(value, str):
            text = value.strip()
            found = _of_datetime(_parsed(text[:-1] + "+00:00" if text[-1:] in ("Z", "z") else text))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = round(value * 1_000_000) * 1_000
        else:
            found = 0
        if 0 < found < _LATEST:
            return found
    except (ValueError, OverflowError):
        pass
    guard.misused(
        "timestamp",
        "otel-posthog: %s is no timestamp (a datetime, ISO 8601 text with a time, or seconds since 1970), so the "
        "event gets the time of the call",
        repr(value)[:40] if isinstance(value, (str, int, float)) else type(value).__name__,
    )
    return now_ns


def _parsed(text: str) -> datetime:
    found = datetime.fromisoformat(_OFFSET.sub(r"\1:\2", text) if "T" in text or " " in text else text)
    if _is_day(text):
        raise ValueError("a day is no moment")
    return found


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _of_datetime(value: datetime) -> int:
    if value.tzinfo is None or value.utcoffset() is None:
        here = timedelta(0) <= datetime.now() - value.replace(tzinfo=None) < _JUST_NOW  # noqa: DTZ005 - naive, as it is
        value = value.astimezone() if here else value.replace(tzinfo=timezone.utc)
    since = value - _EPOCH
    # In whole numbers: a float of today has no room for microseconds.
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
