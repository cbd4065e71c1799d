"""Comparison that sees what `==` does not: `1`, `1.0` and `True` differ, NaN equals itself, lists are not tuples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

_PLAIN = frozenset({str, int, bool, bytes, type(None)})


def exact(value: Any) -> Any:
    """`value` as nested plain containers that are equal exactly when the values are the same, types included."""
    kind = type(value)
    # Most are: the long questions below are for the others.
    if kind in _PLAIN:
        return (kind.__name__, value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {item.name: exact(getattr(value, item.name)) for item in dataclasses.fields(value)}
        return {"": type(value).__name__, **fields}
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, float):
        # repr tells 0.0 from -0.0, and every NaN is as good as another.
        return ("float", "nan" if math.isnan(value) else repr(value))
    if isinstance(value, Mapping):
        # Sorted, since the repr of this is compared: the order of keys means nothing in OTel.
        return {key: exact(value[key]) for key in sorted(value, key=lambda key: (str(type(key)), str(key)))}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(exact(item) for item in value)]
    return (type(value).__name__, value)
