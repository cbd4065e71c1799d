"""What people put into properties -> attribute values in normal form, on the thread of the call.

At the call, because the app may change a list or a model the moment after. Nearly every mapping has nothing but text,
numbers and switches in it: that is found out in C, and costs a copy.

| Value | Becomes |
| --- | --- |
| text, int, float, bool, `None` | itself |
| `datetime`, `date`, `time` | ISO 8601 text |
| `timedelta` | seconds |
| `Decimal`, `Fraction`, NumPy numbers | a number |
| `UUID`, paths, addresses, lazy translations | their text |
| `Enum` | its value |
| list, tuple, set, deque, NumPy arrays | list (a set in the order of its texts) |
| mappings, dataclasses, Pydantic models | map with text keys |
| bytes | their UTF-8 text; else as they are (base64 in the event) |
| anything else | its text where its class has one; else the name of the class, and a complaint |
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

if TYPE_CHECKING:
    from otel_posthog.model import AttributeValue
    from otel_posthog.observe.guard import Guard

_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_TEXT: Final = frozenset({str})
_MAX_DEPTH: Final = 32
"""Twice of what the converter keeps: it is the one to cut, visibly."""
_MAX_NODES: Final = 20_000
"""The same: a list of a million things must not stop a request for as long as it takes to copy it."""


def plain(values: Any, guard: Guard, what: str = "properties") -> dict[str, AttributeValue] | None:
    """A copy of `values` in normal form; `None` (and a complaint) where it is no mapping. Never raises.

    Args:
        values: Name -> value.
        guard: Told about what has no form of its own.
        what: The argument, for the complaint.
    """
    if type(values) is dict:
        given = cast("dict[Any, Any]", values)
        if _PLAIN.issuperset(map(type, given.values())) and _TEXT.issuperset(map(type, given)):
            return given.copy()
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        guard.misused(
            what,
            "otel-posthog: %s must be a mapping of names to values, not %s; what it holds is left out",
            what,
            type(values).__name__,
        )
        return None
    return _Reading(guard).top(cast("Mapping[Any, Any]", values), what)


def id_value(value: Any) -> AttributeValue:
    """A distinct id, group key or group type as people write it: text, numbers, UUIDs, and enums of these.

    Returns:
        Text or a number; `None` for what cannot be an id. Whether it is a legal one is asked later.
    """
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return None


def unreadable(values: Any, error: Exception, guard: Guard, what: str) -> None:
    """Complains about a mapping that fails while it is read.

    Args:
        values: The mapping.
        error: Its failure.
        guard: Told about it.
        what: The argument.
    """
    guard.misused(
        what,
        "otel-posthog: %s cannot be read (%s of %s); what could not be read is left out",
        what,
        type(error).__name__,
        type(values).__name__,
    )


class _Reading:
    """One mapping on its way to normal form."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._nodes = 0

    def top(self, values: Mapping[Any, Any], what: str) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        try:
            for key, value in values.items():
                self._nodes = 0  # one that is too big costs itself, not those that come after it
                found[key if type(key) is str else self._key(key)] = self._value(value, 0)
        except Exception as error:  # noqa: BLE001 - a mapping of the app's that fails while it is read
            unreadable(values, error, self._guard, what)
        return found

    def _map(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        for key, value in islice(pairs, _MAX_NODES):
            if self._nodes > _MAX_NODES:
                break
            found[key if type(key) is str else self._key(key)] = self._value(value, depth + 1)
        return found

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return str.__str__(key)
        # As JSON has it, and people know it from there.
        self._guard.misused(
            "property_name", "otel-posthog: names of properties are text, not %s; its text is used", type(key).__name__
        )
        return _text(id_value(key) if isinstance(key, Enum) else key)

    def _list(self, values: Iterable[Any], depth: int) -> list[AttributeValue]:
        found: list[AttributeValue] = []
        for value in islice(values, _MAX_NODES):
            if self._nodes > _MAX_NODES:
                break
            found.append(self._value(value, depth + 1))
        return found

    def _value(self, value: Any, depth: int) -> AttributeValue:
        self._nodes += 1
        if type(value) in _PLAIN:
            return value
        try:
            return self._converted(value, depth)
        except Exception:  # noqa: BLE001 - whatever an object of the app's does while it is read
            self._strange(value)
            return f"<{type(value).__name__}>"

    def _converted(self, value: Any, depth: int) -> AttributeValue:
        if isinstance(value, Enum):
            return self._value(value.value, depth + 1) if depth < _MAX_DEPTH else None
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            raw = bytes(cast("bytes", value))
            try:
                return raw.decode()
            except UnicodeDecodeError:
                return raw
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, (Decimal, numbers.Real)):
            return _number(value)
        if depth >= _MAX_DEPTH:
            return None
        if isinstance(value, Mapping):
            return self._map(cast("Mapping[Any, Any]", value).items(), depth)
        if isinstance(value, AbstractSet):
            return self._list(sorted(islice(cast("AbstractSet[Any]", value), _MAX_NODES), key=_text), depth)
        if isinstance(value, Sequence):
            return self._list(cast("Sequence[Any]", value), depth)
        if is_dataclass(value) and not isinstance(value, type):
            return self._map(((field.name, getattr(value, field.name)) for field in fields(value)), depth)
        return self._by_shape(value, depth)

    def _by_shape(self, value: Any, depth: int) -> AttributeValue:
        cls = cast("type[Any]", type(value))
        if cls.__module__ == "numpy" and getattr(value, "size", 0) <= _MAX_NODES:
            return self._value(value.tolist(), depth + 1)
        dump = getattr(cls, "model_dump", None)
        if callable(dump):
            return self._value(dump(value), depth + 1)
        text = str.__str__(str(value))
        if text.startswith("<") and " at 0x" in text:
            # The usual `repr`: an address in memory, another one in each process, says nothing.
            self._strange(value)
            return f"<{cls.__name__}>"
        return text

    def _strange(self, value: Any) -> None:
        self._guard.misused(
            "value",
            "otel-posthog: a property of type %s cannot be written as JSON; give text, numbers, lists or maps instead",
            type(value).__name__,
        )


def _number(value: Any) -> AttributeValue:
    if isinstance(value, numbers.Integral):
        return int(value)
    try:
        number = float(value)
    except OverflowError:  # a fraction beyond all floats
        return str(value)
    except ValueError:  # a NaN that signals
        return None
    # A decimal beyond all floats is no infinity.
    return str(value) if number in (inf, -inf) and isinstance(value, Decimal) and value.is_finite() else number


def _text(value: Any) -> str:
    try:
        return str.__str__(str(value))
    except Exception:  # noqa: BLE001 - `__str__` of the app's
        return f"<{type(value).__name__}>"
