"""One event as a capture endpoint accepted it, and one request's worth of them."""

from __future__ import annotations

import json
import math
import re
import uuid as uuids
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event that passed the edge.

    Args:
        token: Project token.
        uuid: Canonical lower-case uuid.
        event: Name.
        distinct_id: Who.
        timestamp: Corrected event time, UTC.
        properties: As PostHog's pipeline sees them, lifted fields put back.
        sent: The event as it was on the wire.
        version: `v0` or `v1`.
        warnings: Ingestion warnings born at the edge.
        person_disabled: The edge switched person processing off (illegal distinct id in v1).
        historical: Part of a historical migration.
    """

    token: str
    uuid: str
    event: str
    distinct_id: str
    timestamp: datetime
    properties: dict[str, Any]
    sent: dict[str, Any]
    version: str
    warnings: tuple[str, ...] = ()
    person_disabled: bool = False
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """An event that the edge dropped without refusing the request."""

    reason: str
    event: str
    detail: str = ""


@dataclass(slots=True)
class ReceivedBatch:
    """What one request brought.

    Args:
        token: Project token.
        events: Accepted events, in order.
        drops: Events dropped by rule.
        verdicts: v1 only: the answer for each uuid.
    """

    token: str
    events: list[ReceivedEvent] = field(default_factory=list[ReceivedEvent])
    drops: list[Drop] = field(default_factory=list[Drop])
    verdicts: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])


def loads(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity; lone surrogates become U+FFFD as PostHog mends them.

    Raises:
        ValueError: Not such a document.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    # Only an escape can bring a lone surrogate through UTF-8, so most bodies are not walked.
    return scrubbed(value) if _SURROGATE_ESCAPE.search(body) else value


def scrubbed(value: Any) -> Any:
    """`value` with each lone surrogate replaced by U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [scrubbed(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {scrubbed(key): scrubbed(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def compact(value: Any) -> str:
    """Compact JSON, the form whose size counts."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def deeper_than(value: Any, limit: int) -> bool:
    """Whether arrays and objects are nested more than `limit` levels deep."""
    level = [value]
    for _ in range(limit + 1):
        below: list[Any] = []
        found = False
        for item in level:
            if isinstance(item, dict):
                found = True
                below += cast("dict[str, Any]", item).values()
            elif isinstance(item, list):
                found = True
                below += cast("list[Any]", item)
        if not found:
            return False
        level = below
    return True


def canonical_uuid(text: str) -> str | None:
    """Canonical text of a uuid in any of the forms that PostHog's reader takes; None for anything else."""
    plain = text.removeprefix("urn:uuid:")
    if plain.startswith("{") and plain.endswith("}"):
        plain = plain[1:-1]
    if len(plain) not in {32, 36} or not plain.isascii():
        return None
    if len(plain) == 36 and [index for index, char in enumerate(plain) if char == "-"] != [8, 13, 18, 23]:
        return None
    try:
        return str(uuids.UUID(plain))
    except ValueError:
        return None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number out of range: {text[:20]}")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
