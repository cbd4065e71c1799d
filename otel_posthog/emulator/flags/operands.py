"""What a property may be compared with in a flags file."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, Final

from otel_posthog.config.values import shown
from otel_posthog.emulator.flags.operators import (
    DATES,
    NUMERIC,
    PATTERNS,
    SEMVER,
    SEMVER_RANGES,
    compiled,
    instant_of,
    number_of,
    range_of,
    version_of,
)
from otel_posthog.rules.pattern import slow_part

_SOME_DAY: Final = datetime(2026, 6, 15, tzinfo=timezone.utc)
"""Any date will do to see whether a relative one can be read."""


def is_date(value: Any) -> bool:
    """Whether it is a date, absolute or relative."""
    # PostHog reads a year alone as that year's today: nobody means that in a file.
    return isinstance(value, str) and not value.strip().isdecimal() and instant_of(value, _SOME_DAY) is not None


def operand_problem(operator: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with what a property is compared with, and the way out."""
    checks: tuple[tuple[tuple[str, ...], bool, str, str], ...] = (
        (NUMERIC, number_of(value) is None, "no number", "Write a number"),
        (DATES, not is_date(value), "no date", "Write 2027-01-31, or -30d for thirty days ago"),
        (SEMVER, version_of(value) is None, "no version", "Write 1.2.3"),
        (SEMVER_RANGES, range_of(operator, value) is None, "no version", "Write 1.2.3, or 1.2.* for semver_wildcard"),
        (PATTERNS, not isinstance(value, str), "no regular expression", "Put it in quotes"),
    )
    for operators, wrong, what, hint in checks:
        if operator in operators and wrong:
            return f"{shown(value)} is {what}", hint
    if isinstance(value, str) and operator in PATTERNS:
        return _pattern_problem(value)
    if value is None or (operator not in ("exact", "is_not") and isinstance(value, (list, dict))):
        return "this cannot be compared", "Write text or a number"
    return None


def _pattern_problem(pattern: str) -> tuple[str, str] | None:
    try:
        compiled(pattern)
    except re.error as error:
        return f"{shown(pattern)} is no regular expression: {error.msg}", "Mend it"
    slow = slow_part(pattern)
    return (f"{shown(pattern)} can take for ever: {slow}", "Write it without nested repeats") if slow else None
