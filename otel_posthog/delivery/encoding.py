"""JSON and gzip for the wire: the standard library's, or the faster ones of the extra `fast`; the same meaning.

A property value should be JSON-ready when it arrives (`CaptureEvent`). What is not, in spite of that, is mended where
that loses nothing but the impossible: NaN and infinities become null (as PostHog's own SDK sends them), lone
surrogates become U+FFFD. Anything else raises and costs that one event.

Level 1 is chosen by measurement (docs/decisions/0030): zlib level 6 takes twice the CPU for a body that is 16 %
smaller, and zlib from `isal` is five times faster still.
"""

from __future__ import annotations

import importlib
import json
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, cast

Dumps = Callable[[object], bytes]
"""An object to compact UTF-8 JSON; raises ValueError, TypeError or RecursionError."""

Compress = Callable[[bytes], bytes]
"""Bytes to one gzip member."""

GZIP_LEVEL = 1
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # deflate, no name, no time, fastest, any system
_LAST_BLOCK = b"\x03\x00"  # the last block, with fixed codes, and empty
_MAX_DEPTH = 100
_MAX_TIME_S = 253_402_300_799  # 9999-12-31T23:59:59Z: RFC 3339 has no later second.


_ROOMY = 4_096
"""Bytes of a text that may be left in a buffer of twice its size."""


def choose_dumps(*, fast: bool = True) -> Dumps:
    """The best JSON encoder there is: orjson where installed (and `fast`), else the standard library's.

    To be called off the app's threads: the first call imports.
    """
    if not fast:
        return dumps
    try:
        import orjson
    except ImportError:
        return dumps
    encode: Callable[..., bytes] = orjson.dumps
    # What only orjson would take (dataclasses, datetimes) must not pass in one installation and fail in another.
    option: int = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

    def dumps_fast(value: object) -> bytes:
        try:
            text = encode(value, option=option)
        except (TypeError, ValueError):
            # Integers beyond 64 bits, keys that are not str, lone surrogates: the slow one decides.
            return dumps(value)
        # orjson writes into 8 KiB and leaves all of it to the result: a queue of events would hold seven times what
        # they are, in memory that is faulted in anew each time. With a copy the 8 KiB are the next event's too.
        return b"%b" % text if len(text) < _ROOMY else text

    return dumps_fast


def choose_compress(*, fast: bool = True) -> Compress:
    """The best gzip there is: Intel's ISA-L where installed (and `fast`), else zlib.

    To be called off the app's threads: the first call imports.
    """
    if fast:
        try:
            igzip = importlib.import_module("isal.isal_zlib")  # without types of its own
        except ImportError:
            pass
        else:
            return Compressor(igzip)
    return Compressor(zlib)


class Compressor:
    """Bytes to one gzip member without a time. Safe in any thread.

    Args:
        library: `zlib`, or what has its interface.

    What a compressor needs is 260 KiB, which the C library gives back to the system and takes again for each body: the
    page faults cost as much as the compression itself. So one is kept. After a full flush it has forgotten all that
    came before (zlib manual, "Z_FULL_FLUSH"); what it wrote lacks gzip's head and tail, and the mark of the end.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._kept: list[Any] = []

    def __call__(self, data: bytes) -> bytes:
        """`data` as one gzip member."""
        library = self._library
        try:
            squeezer = self._kept.pop()  # whoever uses it has it alone
        except IndexError:
            squeezer = library.compressobj(GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        pieces = (
            _GZIP_HEAD,
            squeezer.compress(data),
            squeezer.flush(library.Z_FULL_FLUSH),
            _LAST_BLOCK,
            struct.pack("<LL", library.crc32(data), len(data) & 0xFFFFFFFF),
        )
        if not self._kept:
            self._kept.append(squeezer)  # not after an error, which leaves it in the middle of something
        return b"".join(pieces)


_strict = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _encoder() -> Callable[[object, int], Iterable[str]]:
    """What `_strict.iterencode` does, with its C part made once in place of once a call: that is a third of an event.

    Without the set of containers on the way (`markers`), which threads would have to share: a container that holds
    itself ends in a RecursionError, which `dumps` reads in the same way.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    string: Any = getattr(json.encoder, "encode_basestring", None)
    try:
        # markers, default, encoder, indent, key separator, item separator, sort_keys, skipkeys, allow_nan
        encode: Callable[[object, int], Any] = make(None, _strict.default, string, None, ":", ",", False, False, False)
        if "".join(encode({"a": [1, "\u00fc", None]}, 0)) == _strict.encode({"a": [1, "\u00fc", None]}):
            return encode
    except Exception:  # noqa: BLE001 - another interpreter, or a later one: the public way is always there
        pass
    return lambda value, _: _strict.iterencode(value)


_encode = _encoder()


def dumps(value: object) -> bytes:
    """Compact UTF-8 JSON by the standard library.

    Raises:
        TypeError: Some value has no JSON form.
        ValueError: It contains itself or nests too deeply.
    """
    try:
        return "".join(_encode(value, 0)).encode()
    except ValueError:  # NaN or infinity; UnicodeEncodeError (a lone surrogate) is one too
        return "".join(_encode(_mended(value, 0), 0)).encode()
    except RecursionError:
        raise ValueError("nested too deeply for JSON") from None


quoted: Callable[[str], str] = json.encoder.encode_basestring
"""A text as a JSON string, not yet as bytes (`utf8`); raises TypeError for what is no text."""


def utf8(text: str) -> bytes:
    """`text` as UTF-8; lone surrogates become U+FFFD, as `dumps` has it."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _whole(text).encode()


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mended(value: Any, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply for JSON")
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        entries = cast(dict[Any, Any], value).items()
        return {_mended(key, depth + 1): _mended(item, depth + 1) for key, item in entries}
    if isinstance(value, (list, tuple)):
        return [_mended(item, depth + 1) for item in cast(list[Any], value)]
    return value


@lru_cache(maxsize=128)
def _whole_second(second: int) -> str:
    if not 0 <= second <= _MAX_TIME_S:
        raise ValueError(f"no RFC 3339 time: {second} s")
    return datetime.fromtimestamp(second, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(timestamp_ns: int) -> str:
    """`timestamp_ns` as RFC 3339 in UTC with microseconds, e.g. `2026-11-20T08:00:00.000001Z`.

    Microseconds because PostHog stores no finer; truncated, never rounded, so that the UTC day (part of the
    de-duplication key) is the day of the telemetry.

    Raises:
        ValueError: Before the epoch or beyond the year 9999.
    """
    second, rest = divmod(timestamp_ns, 1_000_000_000)
    # The cached second makes this three times as fast as isoformat (most events of a batch share a few seconds).
    return f"{_whole_second(second)}.{rest // 1000:06d}Z"


def retry_after(value: str, now: float) -> float:
    """Seconds that a `Retry-After` header asks for; 0 where it says nothing usable.

    Args:
        value: The header: whole or decimal seconds, or an HTTP date (RFC 9110 §10.2.3).
        now: Seconds since the Unix epoch, for dates.
    """
    text = value.strip()
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return 0.0
        if moment.tzinfo is None:  # "-0000" in a date: UTC, of unknown zone
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = moment.timestamp() - now
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
