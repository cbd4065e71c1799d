"""Timestamps: whatever text comes, the answer is an instant in UTC or none."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.emulator.instants import EPOCH, FUTURE_CUTOFF, lenient, rfc3339, text_of, v0_instant, v1_instant

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
ZONES = st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(
    lambda offset: timezone(timedelta(minutes=offset.total_seconds() // 60))
)
INSTANTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)


@given(INSTANTS)
def test_rfc3339_of_every_instant(instant: datetime) -> None:
    """What Python writes is read back to the microsecond, in every zone."""
    assert rfc3339(instant.isoformat()) == instant
    assert lenient(instant.isoformat()) == instant
    assert rfc3339(text_of(instant)) == instant


@given(st.text(max_size=40) | st.text(alphabet="0123456789-:+TZ. ", max_size=40))
def test_any_text_is_an_instant_or_none(text: str) -> None:
    """No text breaks the reader, and a strict reading is never read otherwise leniently."""
    strict, loose = rfc3339(text), lenient(text)

    assert loose is None or loose.tzinfo is not None
    assert strict is None or strict == loose


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-20",
        "2026-11-20T12:00:00",
        "2026-13-01T00:00:00Z",
        "2026-11-20T24:00:00Z",
        "٢026-11-20T12:00:00Z",
    ],
)
def test_not_rfc3339(text: str) -> None:
    """A zone, a real date and ASCII digits are needed."""
    assert rfc3339(text) is None


@given(INSTANTS | st.none(), st.integers(-(2**62), 2**62) | st.none(), INSTANTS | st.none(), st.booleans())
def test_v0_time_is_never_far_ahead(
    timestamp: datetime | None, offset_ms: int | None, sent_at: datetime | None, ignore: bool
) -> None:
    """Whatever the clocks say, an event is at most 23 hours ahead and there is always a time."""
    found = v0_instant(timestamp, offset_ms=offset_ms, sent_at=sent_at, ignore_sent_at=ignore, now=NOW)

    assert found <= NOW + FUTURE_CUTOFF


@given(INSTANTS, INSTANTS)
def test_v1_time(timestamp: datetime, request_timestamp: datetime) -> None:
    """Kept as it is where correction is off; else corrected, and at most 23 hours ahead."""
    kept = v1_instant(timestamp, request_timestamp=request_timestamp, keep=True, now=NOW)
    corrected = v1_instant(timestamp, request_timestamp=request_timestamp, keep=False, now=NOW)

    assert kept == timestamp
    assert corrected <= NOW + FUTURE_CUTOFF


def test_overflow_falls_back_to_the_epoch() -> None:
    """Years beyond what can be written become 1970."""
    early, late = datetime(1, 1, 3, tzinfo=timezone.utc), datetime(9999, 12, 29, tzinfo=timezone.utc)

    assert v0_instant(early, offset_ms=None, sent_at=late, ignore_sent_at=False, now=NOW) == EPOCH
