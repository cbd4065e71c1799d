"""Attribute values -> JSON values: one rule per type, and nothing that a later encoder could choke on.

| Attribute value | Property |
| --- | --- |
| `None` | left out at the top level, `null` inside lists and maps |
| bool, float, str | itself |
| int | itself within 64 bits, else its decimal digits as a string |
| NaN, infinity | as `None` |
| bytes | base64 |
| list, tuple, set | list |
| map | map with string keys |
| anything else | its `str()`, or its type's name where that raises |

NUL and lone surrogates become U+FFFD: PostgreSQL and strict JSON parsers refuse them. What is longer, deeper or wider
than the limits is cut visibly: a string ends in `CUT_MARK`, and the name of its property is listed.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final, cast

from otel_posthog.convert.text import clean_text, cut_bytes
from otel_posthog.model import JsonValue, Notice

CUT_MARK: Final = "… [cut]"
"""Ends every string that was shortened."""

MAX_DEPTH: Final = 16
MAX_NODES: Final = 10_000
"""Values in one property, all levels together: an object that contains itself twice doubles at every level."""
MAX_KEY_BYTES: Final = 200

_EXACT_DEPTH: Final = 200
"""In a finished event: JSON encoders give up at Python's recursion limit."""
_MIN_INT64: Final = -(1 << 63)
_MAX_INT64: Final = (1 << 63) - 1
PLAIN_NUMBER: Final = 1 << 53
"""Numbers up to here are finite, within 64 bits, and themselves in every JSON parser."""
_MARK_BYTES: Final = len(CUT_MARK.encode())


class _Absent:
    """Type of `ABSENT`."""

    __slots__ = ()


ABSENT: Final = _Absent()
"""The value has no JSON form at the top level: leave the property out."""


def cut_visibly(text: str, limit: int) -> str:
    """`text` within `limit` UTF-8 bytes, ending in `CUT_MARK` where something is missing."""
    if len(text) * 4 <= limit:
        return text
    raw = text.encode()
    if len(raw) <= limit:
        return text
    return raw[: max(limit - _MARK_BYTES, 0)].decode("utf-8", "ignore") + CUT_MARK


def plain_text(value: object) -> str:
    """`str(value)` as a plain, valid string; a placeholder where that raises."""
    try:
        text = str.__str__(value) if isinstance(value, str) else str(value)
        return clean_text(text)
    except Exception:  # noqa: BLE001 - a foreign `__str__` may raise anything; the placeholder says which type it was
        return f"<{type(value).__name__}>"


class Cleaner:
    """Cleans the values of one signal and remembers what it had to mend.

    Args:
        max_value_bytes: Longest string, in UTF-8 bytes.
        exact: Only mend what is illegal; cut nothing.
    """

    __slots__ = ("_nodes", "cut", "exact", "max_value_bytes", "notices", "weight")

    def __init__(self, max_value_bytes: int, *, exact: bool = False) -> None:
        self.max_value_bytes = max_value_bytes if not exact else sys.maxsize
        self.exact = exact
        self.notices: dict[Notice, None] = {}
        self.cut: dict[str, None] = {}
        self.weight = 0
        """Characters seen so far: six bytes each is more than any JSON encoder makes of them."""
        self._nodes = 0

    def note(self, notice: Notice) -> None:
        """Remembers `notice`, once."""
        self.notices[notice] = None

    def properties(self, values: Mapping[str, Any], into: dict[str, JsonValue]) -> None:
        """Cleans `values` into `into`; later values win."""
        limit = self.max_value_bytes // 4
        # Twelve bytes of JSON for each name, beside itself: quotes, colon, comma, and a short value.
        weight = 2 * len(values)
        for name, value in values.items():
            kind = type(value)  # pyright: ignore[reportUnknownVariableType]
            # The commonest cases without a call: short ASCII text, flags, and numbers that JSON has.
            if kind is str and value.isascii() and len(value) <= limit and "\x00" not in value:
                weight += len(value)
                cleaned = value
            elif (
                kind is bool
                or (kind is int and -PLAIN_NUMBER < value < PLAIN_NUMBER)
                or (kind is float and -PLAIN_NUMBER < value < PLAIN_NUMBER)
            ):
                weight += 4
                cleaned = value
            else:
                cleaned = self.value(value, name)
                if cleaned is ABSENT:
                    continue
            if type(name) is str and name.isascii() and 0 < len(name) <= MAX_KEY_BYTES and "\x00" not in name:
                weight += len(name)
                into[name] = cleaned
            else:
                key = self.key(name)
                if key:
                    into[key] = cleaned
                else:
                    self.note(Notice.DROPPED_VALUE)
        self.weight += weight

    def key(self, key: object) -> str:
        """`key` as the name of a property: valid text of at most `MAX_KEY_BYTES` bytes."""
        text = clean_text(key) if type(key) is str else plain_text(key)
        short = text if self.exact else cut_bytes(text, MAX_KEY_BYTES)
        self.weight += len(short)
        if short is not text and short != text:
            self.note(Notice.CUT_NAME)
        return short

    def text(self, text: str, name: str) -> str:
        """`text` valid and within the limit; `name` is listed where it was cut."""
        cleaned = clean_text(text)
        short = cut_visibly(cleaned, self.max_value_bytes)
        if short is not cleaned:
            self._cut(name)
        self.weight += len(short)
        return short

    def value(self, value: object, name: str) -> JsonValue:
        """The JSON form of `value`, the property `name` of which it is (part of); `ABSENT` where it has none."""
        self._nodes = 0
        if value is None:
            return ABSENT
        cleaned = self._value(value, name, 0)
        if cleaned is None:
            self.note(Notice.DROPPED_VALUE)
            return ABSENT
        return cleaned

    def _value(self, value: object, name: str, depth: int) -> JsonValue:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self.text(str.__str__(value), name)
        if isinstance(value, int):
            return self._int(int.__int__(value), name)
        if isinstance(value, float):
            self.weight += 4
            number = float.__float__(value)
            # NaN is not equal to itself; infinities fall outside of the largest finite number.
            return number if number == number and abs(number) <= 1.7976931348623157e308 else None
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(bytes(cast("bytes", value)), name)
        self._nodes += 1
        if depth >= (_EXACT_DEPTH if self.exact else MAX_DEPTH) or (self._nodes > MAX_NODES and not self.exact):
            self._cut(name)
            return CUT_MARK
        try:
            if isinstance(value, Mapping):
                return self._map(cast("Mapping[object, object]", value), name, depth)
            if isinstance(value, (Sequence, AbstractSet)):
                return self._list(cast("Sequence[object]", value), name, depth)
        except Exception:  # noqa: BLE001 - a foreign container may raise anything while it is read
            self.note(Notice.DROPPED_VALUE)
            return None
        return self.text(plain_text(value), name)

    def _int(self, number: int, name: str) -> JsonValue:
        self.weight += 4
        if _MIN_INT64 <= number <= _MAX_INT64:
            return number
        # Python refuses to write more than 4,300 decimal digits; hexadecimal has no such limit.
        return self.text(str(number) if number.bit_length() <= 4096 else hex(number), name)

    def _bytes(self, raw: bytes, name: str) -> str:
        room = self.max_value_bytes // 4 * 3
        if len(raw) <= room:
            return self.text(base64.b64encode(raw).decode(), name)
        self._cut(name)
        return self.text(base64.b64encode(raw[: max(room - 24, 0)]).decode() + CUT_MARK, name)

    def _map(self, values: Mapping[object, object], name: str, depth: int) -> dict[str, JsonValue]:
        cleaned: dict[str, JsonValue] = {}
        for key, item in values.items():
            if self._spent(name):
                break
            cleaned[self.key(key)] = self._value(item, name, depth + 1)
        return cleaned

    def _list(self, values: Sequence[object], name: str, depth: int) -> list[JsonValue]:
        if isinstance(values, AbstractSet):
            # A set has no order of its own, and converting twice must equal converting once.
            values = sorted(islice(values, MAX_NODES), key=plain_text)
        cleaned: list[JsonValue] = []
        for item in values:
            if self._spent(name):
                break
            cleaned.append(self._value(item, name, depth + 1))
        return cleaned

    def _spent(self, name: str) -> bool:
        self._nodes += 1
        self.weight += 4
        if self._nodes <= MAX_NODES or self.exact:
            return False
        self._cut(name)
        return True

    def _cut(self, name: str) -> None:
        self.note(Notice.CUT_VALUE)
        self.cut[cut_bytes(plain_text(name), MAX_KEY_BYTES)] = None
