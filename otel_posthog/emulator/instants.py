"""Timestamps as PostHog reads them: strict RFC 3339 in v1, almost anything in v0 (posthog-wire §1.8, §1.9)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

UTC = timezone.utc
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FUTURE_CUTOFF = timedelta(hours=23)

_RFC3339 = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt ](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_CIVIL = re.compile(r"(\d{4})[-/](\d{2})[-/](\d{2})(?:[Tt ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,}))?)?)?", re.ASCII)
_SHORT_ZONE = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?[+-]\d{2}", re.ASCII)
_EPOCH_DIGITS = re.compile(r"\d{10}|\d{13}|\d{19}", re.ASCII)


def rfc3339(text: str) -> datetime | None:
    """The instant of a strict RFC 3339 text with a zone, in UTC; None for anything else."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    return _instant((year, month, day, hour, minute, second, fraction), zone)


def lenient(text: str) -> datetime | None:
    """The instant of a v0 timestamp in UTC; a text without a zone is taken as UTC; None when nothing fits."""
    text = text.strip()
    if _SHORT_ZONE.fullmatch(text):
        text += ":00"
    parsed = rfc3339(text)
    if parsed is not None:
        return parsed
    civil = _CIVIL.fullmatch(text)
    if civil is not None:
        return _instant(civil.groups("0"), "Z")
    if _EPOCH_DIGITS.fullmatch(text):
        try:
            return EPOCH + timedelta(microseconds=int(text) * 1_000_000 // 10 ** (len(text) - 10))
        except OverflowError:
            return None
    try:
        mail = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    return (mail if mail.tzinfo else mail.replace(tzinfo=UTC)).astimezone(UTC)


def text_of(instant: datetime) -> str:
    """ISO 8601 in UTC with microseconds, the resolution that PostHog stores."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def v0_instant(
    timestamp: datetime | None,
    *,
    offset_ms: int | None,
    sent_at: datetime | None,
    ignore_sent_at: bool,
    now: datetime,
) -> datetime:
    """The event time that PostHog stores for a v0 event.

    Args:
        timestamp: The event's own, None when absent or unreadable.
        offset_ms: Legacy `offset`: milliseconds before now; wins over everything.
        sent_at: The request's `sent_at`; its distance from `now` is the clock skew.
        ignore_sent_at: `$ignore_sent_at`: no skew correction.
        now: Server time.
    """
    result = now
    if timestamp is not None:
        skew = sent_at - now if sent_at is not None and not ignore_sent_at else timedelta(0)
        result = _minus(timestamp, skew)
    if offset_ms is not None:
        try:
            result = _minus(now, timedelta(milliseconds=offset_ms))
        except OverflowError:
            result = EPOCH
    return now if result - now > FUTURE_CUTOFF else result


def v1_instant(timestamp: datetime, *, request_timestamp: datetime, keep: bool, now: datetime) -> datetime:
    """The event time that PostHog stores for a v1 event.

    Args:
        timestamp: The event's own.
        request_timestamp: The `PostHog-Request-Timestamp` header; its distance from `now` is the clock skew.
        keep: `disable_skew_correction`: taken as it is, without the clamp of the future either.
        now: Server time.
    """
    if keep:
        return timestamp
    result = _minus(timestamp, request_timestamp - now)
    return now if result - now > FUTURE_CUTOFF else result


def _instant(parts: tuple[str | None, ...], zone: str) -> datetime | None:
    year, month, day, hour, minute, second, fraction = parts
    micros = int(((fraction or "0") + "000000")[:6])
    try:
        naive = datetime(  # noqa: DTZ001 - the zone is applied on the next line
            int(year or 0), int(month or 0), int(day or 0), int(hour or 0), int(minute or 0), int(second or 0), micros
        )
        if zone in {"Z", "z"}:
            return naive.replace(tzinfo=UTC)
        sign = -1 if zone[0] == "-" else 1
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
        return naive.replace(tzinfo=timezone(sign * offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _minus(instant: datetime, by: timedelta) -> datetime:
    # PostHog falls back to the epoch where the corrected year leaves 0 to 9999.
    try:
        return instant - by
    except OverflowError:
        return EPOCH
