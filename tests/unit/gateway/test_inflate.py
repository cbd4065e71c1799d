"""Out of gzip within a bound: what a body may cost."""

import functools
import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.gateway.inflate import (
    MAX_MEMBERS,
    RATIO_FLOOR,
    BadDataError,
    TooLargeError,
    choose_inflate,
    inflate,
)

LIMIT = 8 * 1024 * 1024


@pytest.fixture(params=[False, True], ids=["zlib", "isal"])
def out(request: pytest.FixtureRequest) -> Callable[[bytes, int], bytes]:
    """Both libraries."""
    if request.param:
        pytest.importorskip("isal")
    return choose_inflate(fast=request.param)


def noise(size: int) -> bytes:
    """Bytes that compress to about half."""
    return bytes((number * number >> 3) & 0x5F for number in range(size))


@functools.cache
def one_gigabyte() -> bytes:
    """A GiB of zeros: one compressed MiB, a thousand times over."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeezer.compress(bytes(1 << 20)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    return gzip.compress(b"")[:10] + block * (1 << 10) + b"\x03\x00" + bytes(8)


def test_a_body(out: Callable[[bytes, int], bytes]) -> None:
    """One member, several members, an empty member, an empty body, zeros as padding."""
    one, two = gzip.compress(b"one"), gzip.compress(b"two", 1)

    assert [out(body, LIMIT) for body in (one, one + two, gzip.compress(b""), b"", one + b"\0" * 600)] == [
        b"one",
        b"onetwo",
        b"",
        b"",
        b"one",
    ]


@pytest.mark.row(28)
@pytest.mark.parametrize("members", [1, 3])
def test_exactly_the_limit_and_one_byte_more(out: Callable[[bytes, int], bytes], members: int) -> None:
    """At the limit it is read, one byte over it is refused."""
    data = noise(30_000)
    body = b"".join(gzip.compress(data[start::members]) for start in range(members))

    assert len(out(body, 30_000)) == 30_000
    with pytest.raises(TooLargeError, match="inflates to more than 29999 bytes"):
        out(body, 29_999)


@pytest.mark.row(29)
def test_a_bomb_costs_its_limit(out: Callable[[bytes, int], bytes]) -> None:
    """A gigabyte of zeros is refused, and no more than the limit and a copy of it was in memory."""
    bomb = one_gigabyte()
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            out(bomb, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * LIMIT


def test_the_ratio(out: Callable[[bytes, int], bytes]) -> None:
    """A hundred times its size is no telemetry, once that is more than four MiB."""
    small, large = gzip.compress(bytes(RATIO_FLOOR), 9), gzip.compress(bytes(RATIO_FLOOR + 1), 9)

    assert len(small) * 100 < RATIO_FLOOR
    assert len(out(small, 1 << 30)) == RATIO_FLOOR
    with pytest.raises(TooLargeError, match="more than 100 times its size"):
        out(large, 1 << 30)


@pytest.mark.row(29)
def test_many_members() -> None:
    """Of 100,000 empty members a few are opened, and the body is refused."""
    empty = gzip.compress(b"")
    opened: list[int] = []

    def decompressobj(bits: int) -> object:
        opened.append(bits)
        return zlib.decompressobj(bits)

    library = SimpleNamespace(decompressobj=decompressobj, error=zlib.error)

    assert inflate(empty * MAX_MEMBERS, LIMIT, library=library) == b""
    opened.clear()
    with pytest.raises(BadDataError, match=f"more than {MAX_MEMBERS} members"):
        inflate(empty * 100_000, LIMIT, library=library)
    assert len(opened) == MAX_MEMBERS


@pytest.mark.parametrize(
    "broken",
    [
        gzip.compress(b"hello" * 100)[:-1],
        gzip.compress(b"hello" * 100)[:20],
        gzip.compress(b"")[:5],
        gzip.compress(b"hello") + b"junk",
        gzip.compress(b"hello") + b"\0\0junk",
        gzip.compress(b"hello") + gzip.compress(b"hello")[:-3],
        b"\x1f\x8b",
        b"{}",
        b"\x28\xb5\x2f\xfd\x04\x00",
        zlib.compress(b"hello"),
        gzip.compress(b"hello")[:-8] + bytes(8),
    ],
    ids=[
        "cut", "cut early", "cut head", "junk", "junk after zeros", "second cut", "magic", "json", "zstd", "zlib",
        "crc",
    ],
)  # fmt: skip
@pytest.mark.row(29)
def test_what_is_no_gzip(out: Callable[[bytes, int], bytes], broken: bytes) -> None:
    """Truncated, followed by junk, or something else: bad data."""
    with pytest.raises(BadDataError):
        out(broken, LIMIT)


@pytest.mark.row(29)
def test_gzip_in_gzip_is_opened_once(out: Callable[[bytes, int], bytes]) -> None:
    """Nested gzip is not followed."""
    inner = gzip.compress(b"hello")

    assert out(gzip.compress(inner), LIMIT) == inner


def test_a_lying_trailer_is_not_believed(out: Callable[[bytes, int], bytes]) -> None:
    """The size in the trailer is the sender's: it neither allocates nor lets anything pass."""
    honest = gzip.compress(noise(1_000))

    with pytest.raises(BadDataError):
        out(honest[:-4] + b"\xff\xff\xff\x7f", LIMIT)
    with pytest.raises(TooLargeError):
        out(honest[:-4] + b"\x01\0\0\0", 500)


@given(st.binary(max_size=300), st.integers(0, 9))
def test_round_trip(data: bytes, level: int) -> None:
    """Whatever was compressed comes out again."""
    assert inflate(gzip.compress(data, level), LIMIT) == data


@given(st.binary(max_size=120), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3))
def test_whatever_comes_in(data: bytes, changes: list[tuple[int, int]]) -> None:
    """Changed bytes give the data or bad data, never anything else."""
    body = bytearray(gzip.compress(data))
    for position, byte in changes:
        body[position % len(body)] = byte
    for fast in (False, True):
        try:
            result = choose_inflate(fast=fast)(bytes(body), LIMIT)
        except (BadDataError, TooLargeError):
            continue
        assert result == gzip.GzipFile(fileobj=io.BytesIO(bytes(body))).read()
