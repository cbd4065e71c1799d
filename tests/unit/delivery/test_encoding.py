"""JSON, gzip and times: the fast and the slow way mean the same, and hostile values cost nobody else."""

from __future__ import annotations

import ctypes
import gzip
import json
import math
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.delivery.encoding import choose_compress, choose_dumps, dumps, retry_after, rfc3339

FAST, SLOW = choose_dumps(fast=True), choose_dumps(fast=False)

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.skipif(version("opentelemetry-sdk").startswith("1.39."), reason="the floor is without the extra `fast`")
def test_the_fast_ones_are_there() -> None:
    """The development environment has the extra `fast`, or these tests would compare nothing."""
    assert FAST is not SLOW
    assert choose_compress(fast=True) is not choose_compress(fast=False)


@given(values)
def test_json_comes_back_by_either_way(value: Any) -> None:
    """Both encoders write what reads back as the same value."""
    assert json.loads(FAST(value)) == value
    assert json.loads(SLOW(value)) == value


@pytest.mark.row(47)
@given(hostile)
def test_hostile_json_is_the_same_by_either_way(value: Any) -> None:
    """NaN, infinities and lone surrogates are mended alike, or refused alike; what comes out is valid UTF-8 JSON."""

    def way(encode: Any) -> Any:
        try:
            return json.loads(encode(value).decode(), parse_constant=lambda name: pytest.fail(name))
        except (ValueError, TypeError) as error:
            return type(error) is not None

    assert way(FAST) == way(SLOW)


def test_mended_values() -> None:
    """What JSON cannot say becomes null or U+FFFD; pairs of surrogates become their character."""
    for encode in (FAST, SLOW):
        value = {"nan": math.nan, "inf": [-math.inf], "half": "a\ud83e", "pair": "\ud83e\udd94", "big": 2**70}
        assert json.loads(encode(value)) == {
            "nan": None,
            "inf": [None],
            "half": "a�",
            "pair": "\U0001f994",
            "big": 2**70,
        }


@pytest.mark.parametrize("encode", [FAST, SLOW])
def test_impossible_values_are_refused(encode: Any) -> None:
    """Cycles, depth without end and objects raise what the caller expects."""
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    for value in (loop, deep, object(), {1, 2}, datetime.now(timezone.utc), b"bytes"):
        with pytest.raises((ValueError, TypeError)):
            encode(value)


@given(st.binary(max_size=5000))
def test_gzip_comes_back_by_either_way(data: bytes) -> None:
    """Both compressors write one gzip member of the same bytes."""
    for fast in (True, False):
        assert gzip.decompress(choose_compress(fast=fast)(data)) == data


@pytest.mark.parametrize("fast", [True, False])
@given(bodies=st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda part: part * 2_000), max_size=6))
def test_every_body_stands_alone(fast: bool, bodies: list[bytes]) -> None:
    """The compressor is kept from body to body; nothing of one is needed to read another, in whatever order."""
    compress = choose_compress(fast=fast)
    packed = [compress(body) for body in bodies]

    for body, member in reversed(list(zip(bodies, packed, strict=True))):
        reader = zlib.decompressobj(31)
        assert reader.decompress(member) == body
        assert (reader.eof, reader.unused_data) == (True, b"")


@pytest.mark.parametrize("fast", [True, False])
def test_threads_share_a_compressor(fast: bool) -> None:
    """Each has one for itself while it compresses."""
    compress = choose_compress(fast=fast)
    bodies = [bytes([number]) * 100_000 for number in range(64)]

    with ThreadPoolExecutor(4) as pool:
        assert [gzip.decompress(member) for member in pool.map(compress, bodies)] == bodies


@given(st.integers(0, 253_402_300_799_999_999_999))
def test_times_keep_their_day_and_microsecond(timestamp_ns: int) -> None:
    """RFC 3339 in UTC, truncated to microseconds: never into another day."""
    text = rfc3339(timestamp_ns)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    assert (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds() * 1_000_000 == pytest.approx(
        timestamp_ns // 1000, rel=1e-9
    )
    assert text.endswith("Z")
    assert len(text) == 27


def test_the_last_nanosecond_of_a_day() -> None:
    """Rounding up would move the event into the next UTC day, and past de-duplication."""
    assert rfc3339(1_763_683_199_999_999_999) == "2025-11-20T23:59:59.999999Z"


@pytest.mark.parametrize("timestamp_ns", [-1, 253_402_300_800_000_000_000, 2**70])
def test_no_such_time(timestamp_ns: int) -> None:
    """Before the epoch and beyond the year 9999."""
    with pytest.raises(ValueError, match="no RFC 3339 time"):
        rfc3339(timestamp_ns)


NOW = 1_763_600_000.0  # Thu, 20 Nov 2025 00:53:20 GMT


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("7", 7),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("0", 0),
        ("-3", 0),
        ("garbage", 0),
        ("nan", 0),
        ("inf", 0),
        ("1e999", 0),
        ("86400", 86400),
        ("Thu, 20 Nov 2025 00:53:50 GMT", 30),
        ("Thu, 20 Nov 2025 00:53:50 -0000", 30),
        ("Thu, 20 Nov 2025 00:00:00 GMT", 0),
        ("Thu, 99 Nov 2025 00:00:00 GMT", 0),
        ("20 Nov", 0),
    ],
)
def test_retry_after(header: str, seconds: float) -> None:
    """Seconds or an HTTP date; nonsense asks for nothing."""
    assert retry_after(header, NOW) == pytest.approx(seconds)


def test_dumps_is_compact_utf8() -> None:
    """No spaces, no escapes that UTF-8 does not need."""
    assert dumps({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


def test_what_waits_in_a_queue_takes_no_more_memory_than_it_has() -> None:
    """With orjson, which leaves eight KiB to a text of one: what is kept is a copy of the right size."""
    usable = getattr(ctypes.CDLL(None), "malloc_usable_size", None)
    if usable is None or os.environ.get("PYTHONMALLOC"):
        pytest.skip("the allocator does not tell")
    usable.argtypes, usable.restype = [ctypes.c_void_p], ctypes.c_size_t
    text = FAST({f"property {number}": "value" for number in range(60)})

    assert 1_000 < len(text) <= usable(id(text)) < 2 * len(text)
