"""PostHog's property operators.

As its flag service compares (`property_matching_version` 1, UTC), and as its SDKs do wherever they come to an answer by
themselves: what an SDK leaves to the service (a property that it was not given, a date that it cannot read) is answered
here as the service does, never with an error.
"""

from __future__ import annotations

import calendar
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, cast

from otel_posthog.emulator.flags.model import Filter

NUMERIC: Final = ("gt", "gte", "lt", "lte")
DATES: Final = ("is_date_before", "is_date_after")
SEMVER: Final = ("semver_eq", "semver_neq", "semver_gt", "semver_gte", "semver_lt", "semver_lte")
SEMVER_RANGES: Final = ("semver_tilde", "semver_caret", "semver_wildcard")
PATTERNS: Final = ("regex", "not_regex")
PRESENCE: Final = ("is_set", "is_not_set")
TEXT: Final = ("icontains", "not_icontains", "starts_with", "not_starts_with", "ends_with", "not_ends_with")
OPERATORS: Final = ("exact", "is_not", *PRESENCE, *TEXT, *PATTERNS, *NUMERIC, *DATES, *SEMVER, *SEMVER_RANGES)

_NEGATED: Final = ("is_not", "not_icontains", "not_starts_with", "not_ends_with", "not_regex")
_ASCII_LOWER: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
_RELATIVE: Final = re.compile(r"-?([0-9]{1,4})([hdwmy])\Z")
_ESCAPE_OR_CLASS: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\$", re.DOTALL)

Version = tuple[int, int, int]


def meets(demand: Filter, properties: Mapping[str, Any], now: datetime) -> bool:
    """Whether somebody with these properties meets one demand.

    Args:
        demand: Checked when it was loaded.
        properties: Of the person or the group.
        now: Where relative dates start.
    """
    operator = demand.operator
    present = demand.key in properties
    if operator in PRESENCE:
        return present == (operator == "is_set")
    if not present:
        # What is not there does not equal, contain or match anything.
        return operator in _NEGATED
    return _compare(operator, demand.value, properties[demand.key], now)


def _compare(operator: str, wanted: Any, actual: Any, now: datetime) -> bool:
    if operator in ("exact", "is_not"):
        return _equals(wanted, actual) == (operator == "exact")
    if operator in TEXT:
        plain = operator.removeprefix("not_")
        return _TEXT[plain](_folded(actual), _folded(wanted)) == (plain == operator)
    if operator in PATTERNS:
        return (compiled(str(wanted)).search(text_of(actual)) is not None) == (operator == "regex")
    if operator in NUMERIC:
        left, right = number_of(actual), number_of(wanted)
        return left is not None and right is not None and _ORDER[operator](left, right)
    if operator in DATES:
        then, limit = instant_of(actual, now), instant_of(wanted, now)
        return then is not None and limit is not None and _ORDER[operator](then, limit)
    version = version_of(actual)
    if version is None:
        return False
    if operator in SEMVER_RANGES:
        low, high = range_of(operator, wanted) or (version, version)
        return low <= version < high
    other = version_of(wanted)
    return other is not None and _ORDER[operator.removeprefix("semver_")](version, other)


_TEXT: Final[dict[str, Callable[[str, str], bool]]] = {
    "icontains": lambda text, part: part in text,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}
_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
    "eq": lambda left, right: left == right,
    "neq": lambda left, right: left != right,
    "is_date_before": lambda left, right: left < right,
    "is_date_after": lambda left, right: left > right,
}


# --- equality ------------------------------------------------------------------------------------------------------


def _equals(wanted: Any, actual: Any) -> bool:
    if _is_truth(wanted):
        # "true", True and ["true"] are one: the value comes from a form field as often as from JSON.
        return _truth(wanted) == _truth(actual)
    candidates = cast("list[Any]", wanted) if isinstance(wanted, list) else [wanted]
    return text_of(actual).lower() in [text_of(candidate).lower() for candidate in candidates]


def _is_truth(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_truth(item) for item in cast("list[Any]", value))
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))


def _truth(value: Any) -> bool:
    if isinstance(value, list):
        return all(_truth(item) for item in cast("list[Any]", value))
    return value is True or (isinstance(value, str) and value.lower() == "true")


# --- readings of a value -------------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """A JSON value as the flag service writes it: text as it is, all else as compact JSON with sorted keys."""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, list):
        return f"[{','.join(_json(item) for item in cast('list[Any]', value))}]"
    if isinstance(value, dict):
        members = sorted(cast("dict[str, Any]", value).items())
        return f"{{{','.join(f'{_json(key)}:{_json(item)}' for key, item in members)}}}"
    return json.dumps(value, ensure_ascii=False)


def _float(value: float) -> str:
    text = repr(value)
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    if -6 < int(exponent) < 0:
        return format(Decimal(text), "f")
    return f"{mantissa}e{int(exponent):+d}"


def _folded(value: Any) -> str:
    return text_of(value).translate(_ASCII_LOWER)


def number_of(value: Any) -> float | None:
    """A finite number, or text that reads as one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not _NUMBER.match(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def compiled(pattern: str) -> re.Pattern[str]:
    r"""A regular expression in which `$` is the end of the text alone, as in the flag service.

    Raises:
        re.error: It is none.
    """
    return re.compile(_ESCAPE_OR_CLASS.sub(lambda found: r"\Z" if found[0] == "$" else found[0], pattern))


def instant_of(value: Any, now: datetime) -> datetime | None:
    """A date, ISO or relative to `now` (`-30d`; h, d, w, m, y); without a zone it is UTC; a number is Unix seconds."""
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, timezone.utc)
        if not isinstance(value, str):
            return None
        relative = _RELATIVE.match(value)
        if relative:
            return _before(now, int(relative[1]), relative[2])
        text = value.strip()
        if re.fullmatch(r"[0-9]{4}", text):
            # A year alone is that year's today: PostHog's SDKs read it so.
            return datetime(int(text), now.month, now.day, tzinfo=timezone.utc)
        for zone in ("Z", " UTC", " utc"):
            if text.endswith(zone):
                text = f"{text.removesuffix(zone)}+00:00"
        made = datetime.fromisoformat(re.sub(r" ([+-]\d{2}:\d{2})$", r"\1", text))
    except (ValueError, OverflowError, OSError):
        return None
    return made if made.tzinfo is not None else made.replace(tzinfo=timezone.utc)


def _before(now: datetime, count: int, unit: str) -> datetime:
    if unit in "hdw":
        hours = {"h": 1, "d": 24, "w": 168}[unit]
        return now - timedelta(hours=count * hours)
    if unit == "y":
        day = 28 if count and (now.month, now.day) == (2, 29) else now.day
        return now.replace(year=now.year - count, day=day)
    made = now
    for _ in range(count):
        year, month = (made.year, made.month - 1) if made.month > 1 else (made.year - 1, 12)
        # Month by month: two months before 31 March is 28 January, by way of February.
        made = made.replace(year=year, month=month, day=min(made.day, calendar.monthrange(year, month)[1]))
    return made


def version_of(value: Any) -> Version | None:
    """Major, minor and patch of `v1.2.3-rc.1+build`; what is missing is 0, what follows the numbers is left out."""
    core = re.split(r"[-+]", text_of(value).strip().lstrip("vV"), maxsplit=1)[0]
    parts = core.split(".")[:3]
    # Python refuses to read endless rows of digits.
    if not parts[0] or not all(part.isdecimal() and len(part) < 4000 for part in parts if part):
        return None
    numbers = [int(part or 0) for part in parts]
    major, minor, patch = numbers + [0] * (3 - len(numbers))
    return major, minor, patch


def range_of(operator: str, value: Any) -> tuple[Version, Version] | None:
    """From and below which versions are meant by `~1.2`, `^1.2` or `1.2.*`."""
    if operator == "semver_wildcard":
        parts = [part for part in text_of(value).replace("*", "").split(".") if part.strip()]
        low = version_of(".".join(parts)) if parts else None
        if low is None:
            return None
        places = len(parts)
    else:
        low = version_of(value)
        if low is None:
            return None
        places = 2 if operator == "semver_tilde" else 1 if low[0] else 2 if low[1] else 3
    major, minor, patch = low
    high = {1: (major + 1, 0, 0), 2: (major, minor + 1, 0)}.get(places, (major, minor, patch + 1))
    return low, high
