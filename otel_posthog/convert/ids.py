"""Event uuids that any process makes alike from the same telemetry (DESIGN §4).

PostHog de-duplicates on (uuid, event, distinct_id, UTC day), so a span that a Collector sends twice must get the same
uuid in every gateway worker. What goes in is what no Collector changes: never attributes, never resource keys other
than the service's name and instance.

The hash is written as a version 5 uuid (some validators know no version beyond 5). `blake2b` with own formatting costs
a third of `uuid.uuid5`.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Final

from otel_posthog.convert.values import ABSENT, Cleaner
from otel_posthog.model import AttributeValue, JsonValue, Signal, SignalKind
from otel_posthog.semconv import otel

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_BARE_UUID: Final = re.compile(r"[0-9a-f]{32}\Z")
_NIL: Final = "00000000-0000-0000-0000-000000000000"
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_SEPARATOR: Final = "\x1f"
_HASHER: Final = blake2b(digest_size=16)
"""Only ever copied: to read the arguments of a new one takes longer than the hash of a key."""


def hashed_uuid(*parts: str) -> str:
    """A uuid that depends on `parts` alone."""
    # Lone surrogates may reach us in names and bodies; the hash must not raise for them.
    data = _SEPARATOR.join(parts).encode("utf-8", "surrogatepass")
    hasher = _HASHER.copy()
    hasher.update(data)
    h = hasher.hexdigest()
    return f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"


def valid_uuid(value: object) -> str:
    """`value` as canonical uuid text, "" where it is none (the nil uuid is none)."""
    if not isinstance(value, str):
        return ""
    text = str.__str__(value).strip().lower()
    if _UUID.match(text):
        return "" if text == _NIL else text
    if _BARE_UUID.match(text):
        text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
        return "" if text == _NIL else text
    return ""


def is_uuid7(text: str) -> bool:
    """Whether canonical uuid `text` has version 7 and the RFC 9562 variant."""
    return text[14] == "7" and text[19] in "89ab"


def uuid7_time_ns(text: str) -> int:
    """The time in canonical UUIDv7 `text`, in nanoseconds since the Unix epoch."""
    return int(text[:8] + text[9:13], 16) * 1_000_000


def signal_key(signal: Signal) -> tuple[str, ...]:
    """What tells `signal` from every other one, for `hashed_uuid`."""
    if signal.kind is not SignalKind.LOG and signal.trace_id and signal.span_id:
        index = str(signal.index) if signal.kind is SignalKind.SPAN_EVENT else ""
        return (signal.kind.value, signal.trace_id, signal.span_id, index)
    attributes = signal.resource.attributes
    return (
        signal.kind.value,
        _text(attributes.get(otel.SERVICE_NAME)),
        _text(attributes.get(otel.SERVICE_INSTANCE)),
        signal.scope.name,
        signal.scope.version,
        signal.trace_id,
        signal.span_id,
        str(signal.start_time_ns),
        str(signal.time_ns),
        str(signal.observed_time_ns),
        str(signal.index),
        signal.name,
        _text(signal.body),
    )


def _text(value: AttributeValue) -> str:
    if type(value) is str:
        return value
    if value is None:
        return ""
    # Any attribute value, the same text on every path: cleaned, sorted, compact.
    cleaned = Cleaner(1 << 20).value(value, "")
    return "" if cleaned is ABSENT else canonical(cleaned)


def canonical(value: JsonValue) -> str:
    """`value` as the one JSON text that equal values have."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
