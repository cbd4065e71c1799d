"""From what people write to typed values: one parser for environment text and keyword arguments."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, cast

from otel_posthog.config.environment import Variable
from otel_posthog.config.settings import Secret
from otel_posthog.errors import ConfigError

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})

_KEY_LIKE = r"(?i)(\b(?:ph[a-z]_|(?:Bearer|Basic|ApiKey)\s))\S+"


def text_of(environ: Mapping[str, str], name: str) -> str:
    """The variable without surrounding blanks; "" where it is unset, empty or blank, which all mean the same."""
    return (environ.get(name) or "").strip()


def is_true(text: str) -> bool:
    """OpenTelemetry's own rule for its switches: `true` in any case, blanks around it ignored."""
    return text.strip().lower() == "true"


def shown(value: object) -> str:
    """A value for an error message: short, one line, and without anything that looks like a key."""
    text = re.sub(_KEY_LIKE, lambda found: f"{found.group(1).strip()}…", " ".join(str(value).split()))
    return repr(text if len(text) <= 40 else text[:39] + "…")


def plain(number: float) -> str:
    """A number as people write it: `1,000,000`, `0.25`."""
    return f"{int(number):,}" if number == int(number) else f"{number:,g}"


def parse(row: Variable, raw: object, source: str) -> Any:
    """Turns environment text or an argument into the value of `row`.

    Args:
        row: The variable, whose kind, choices and limits count.
        raw: Text, or a value of the right type.
        source: `environment` or `argument`, for the message.

    Raises:
        ConfigError: `raw` is not such a value; the message names the key and the way out.
    """
    key = row.name if source == "environment" else row.argument
    try:
        return _PARSERS[row.kind](row, raw)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error) or "not understood", key=key, source=source, hint=_hint(row)) from None


def _hint(row: Variable) -> str:
    if row.kind == "choice":
        return f"Use one of {', '.join(row.choices)}"
    if row.kind == "bool":
        return "Use true or false"
    if row.kind in ("int", "seconds"):
        what = "a whole number" if row.kind == "int" else "a number of seconds, such as 2.5,"
        upper = f" to {plain(row.maximum)}" if row.maximum else " or more"
        return f"Use {what} of {plain(row.minimum)}{upper}" + (f"; the default is {row.default}" if row.default else "")
    if row.kind == "map":
        return "Use key=value,key=value or a JSON object"
    return "Leave it unset for the default"


def _bool(_row: Variable, raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    text = str(raw).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f"{shown(raw)} is neither true nor false")


def _within(row: Variable, number: float) -> None:
    if number < row.minimum:
        raise ValueError(f"{plain(number)} is too small")
    if row.maximum and number > row.maximum:
        raise ValueError(f"{plain(number)} is too large")


def _int(row: Variable, raw: object) -> int:
    if isinstance(raw, bool) or not isinstance(raw, (int, str)):
        raise TypeError(f"{shown(raw)} is not a whole number")
    try:
        # CPython refuses to print or parse numbers of more than 4,300 digits: a ValueError too.
        number = int(raw)
    except ValueError:
        raise ValueError(f"{shown(raw)} is not a whole number") from None
    _within(row, number)
    return number


def _seconds(row: Variable, raw: object) -> float:
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise TypeError(f"{shown(raw)} is not a number of seconds")
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(raw)} is not a number of seconds") from None
    if not math.isfinite(number):
        raise ValueError(f"{shown(raw)} is not a number of seconds")
    _within(row, number)
    return number


def _choice(row: Variable, raw: object) -> str:
    text = str(cast("object", raw.value) if isinstance(raw, Enum) else raw).strip().lower()
    if text not in row.choices:
        raise ValueError(f"{shown(raw)} is not known")
    return text


def _list(row: Variable, raw: object) -> tuple[str, ...] | tuple[Secret, ...]:
    if row.secret and not isinstance(raw, str) and isinstance(raw, Iterable):
        raw = [one.reveal() if isinstance(one, Secret) else one for one in cast("Iterable[object]", raw)]
    items = _items(raw)
    return tuple(Secret(item) for item in items) if row.secret else items


def _items(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        if raw.strip().lower() == "none":
            return ()
        items: list[str] = raw.split(",")
    elif isinstance(raw, Iterable) and not isinstance(raw, (bytes, Mapping)):
        items = []
        for item in cast("Iterable[object]", raw):
            if not isinstance(item, str):
                raise TypeError(f"{shown(item)} in it is not text")
            items.append(item)
    else:
        raise TypeError(f"{shown(cast('object', raw))} is not a list")
    stripped = (item.strip() for item in items)
    return tuple(dict.fromkeys(item for item in stripped if item))


def _map(_row: Variable, raw: object) -> dict[str, object]:
    if isinstance(raw, Mapping):
        return {str(key): value for key, value in cast("Mapping[object, object]", raw).items()}
    if not isinstance(raw, str):
        raise TypeError(f"{shown(raw)} is not a mapping")
    text = raw.strip()
    if text.startswith("{"):
        import json

        try:
            found: object = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("the JSON in it cannot be read") from None
        if not isinstance(found, dict):
            raise ValueError("the JSON in it is not an object")
        return cast("dict[str, object]", found)
    from urllib.parse import unquote

    pairs: dict[str, object] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"{shown(item)} in it is not key=value")
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs


def _path(_row: Variable, raw: object) -> str:
    if not isinstance(raw, (str, os.PathLike)):
        raise TypeError(f"{shown(raw)} is not a path")
    text = os.fspath(cast("str | os.PathLike[str]", raw)).strip()
    if "\0" in text:
        raise ValueError("a path holds no NUL")
    return os.path.expanduser(text)  # noqa: PTH111 - pathlib costs an import in every process


def _text(row: Variable, raw: object) -> str | Secret:
    if isinstance(raw, Secret):
        return raw
    text = str(raw).strip()
    return Secret(text) if row.secret else text


_PARSERS = {
    "bool": _bool,
    "int": _int,
    "seconds": _seconds,
    "choice": _choice,
    "list": _list,
    "map": _map,
    "path": _path,
    "text": _text,
}
