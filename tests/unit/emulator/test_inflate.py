"""Bounded decompression."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.emulator.inflate import InflateError, InflateLimitError, gunzip, inflate_zlib


@given(st.binary(max_size=5000), st.binary(max_size=100))
def test_round_trip(data: bytes, more: bytes) -> None:
    """Everything that fits comes out, several gzip members included; one byte less of room is an error."""
    assert gunzip(gzip.compress(data), len(data)) == data
    assert gunzip(gzip.compress(data) + gzip.compress(more), 6000) == data + more
    assert inflate_zlib(zlib.compress(data), len(data)) == data
    if data:
        with pytest.raises(InflateLimitError):
            gunzip(gzip.compress(data), len(data) - 1)
        with pytest.raises(InflateLimitError):
            inflate_zlib(zlib.compress(data), len(data) - 1)


def test_bomb_costs_its_limit() -> None:
    """100 MB in 100 kB stop at the limit, without being made."""
    import tracemalloc

    bomb = gzip.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(InflateLimitError):
        gunzip(bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 5_000_000


@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_an_error(data: bytes) -> None:
    """Bytes that are no stream are refused, never half-read."""
    for inflate in (gunzip, inflate_zlib):
        try:
            out = inflate(data, 10_000)
        except (InflateError, InflateLimitError):
            continue
        assert out == b"" or data.startswith(
            (b"\x1f\x8b", b"\x08", b"\x18", b"\x28", b"\x38", b"\x48", b"\x58", b"\x68", b"\x78", b"\0")
        )


@pytest.mark.parametrize("cut", [1, 4, 8, 12])
def test_truncation_is_an_error(cut: int) -> None:
    """A stream without its end is refused."""
    with pytest.raises(InflateError):
        gunzip(gzip.compress(b"hello" * 50)[:-cut], 10_000)
    if cut <= 4:
        with pytest.raises(InflateError):
            inflate_zlib(zlib.compress(b"hello" * 50)[:-cut], 10_000)
