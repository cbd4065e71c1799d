"""References: `http.route`, `resource.service.name`, `duration_ms` … each compiled to a function of a Signal.

A reference that finds nothing gives None: an absent attribute, an attribute whose value is None, and an empty id, name
or status are all "missing".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from otel_posthog.model import AttributeValue, Signal
from otel_posthog.rules.schema import SEVERITIES

Getter = Callable[[Signal], AttributeValue]

ATTRIBUTES: Final = "attributes."


def attribute_key(reference: str) -> str | None:
    """The key of the item's own attribute that `reference` reads, or None where it reads something else."""
    if reference.startswith(ATTRIBUTES):
        return reference[len(ATTRIBUTES) :]
    if reference in _FIELDS or reference.startswith(("resource.", "scope.", "span.", "body.")):
        return None
    return reference


def normal(reference: str) -> str:
    """The one spelling of `reference`: `attributes.x` is `x` unless that would mean something else."""
    if reference.startswith(ATTRIBUTES):
        key = reference[len(ATTRIBUTES) :]
        if attribute_key(key) == key:
            return key
    return reference


def getter(references: tuple[str, ...]) -> Getter:
    """Reads the first of `references` that is there."""
    if len(references) == 1:
        return _getter(references[0])
    getters = tuple(_getter(reference) for reference in references)

    def first(signal: Signal) -> AttributeValue:
        for get in getters:
            value = get(signal)
            if value is not None:
                return value
        return None

    return first


def _getter(reference: str) -> Getter:
    key = attribute_key(reference)
    if key is not None:
        return lambda signal: signal.attributes.get(key)
    fixed = _FIELDS.get(reference)
    if fixed is not None:
        return fixed
    where, _, rest = reference.partition(".")
    if where == "resource":
        return lambda signal: signal.resource.attributes.get(rest)
    if where == "scope":
        return lambda signal: signal.scope.attributes.get(rest)
    if where == "span":
        return lambda signal: signal.span.attributes.get(rest) if signal.span is not None else None
    return lambda signal: _member(signal.body, rest)


def severity_number(signal: Signal) -> int | None:
    """The OTel severity number; from the text where the emitter gave only that; None where there is none."""
    if signal.severity_number:
        return signal.severity_number
    if not signal.severity_text:
        return None
    name = _SEVERITY_ALIASES.get(signal.severity_text.lower(), signal.severity_text.lower())
    return 4 * SEVERITIES.index(name) + 1 if name in SEVERITIES else None


def _severity(signal: Signal) -> str | None:
    if signal.severity_text:
        return signal.severity_text
    number = signal.severity_number
    return SEVERITIES[(number - 1) // 4] if 0 < number <= 4 * len(SEVERITIES) else None


def _duration_ms(signal: Signal) -> float | None:
    if not signal.start_time_ns or signal.time_ns < signal.start_time_ns:
        return None
    # Microseconds are as fine as clocks are here, and a short number reads better.
    return round((signal.time_ns - signal.start_time_ns) / 1e6, 3)


def _member(body: AttributeValue, path: str) -> AttributeValue:
    """A member of a map: the whole path as one key, else step by step."""
    if not isinstance(body, Mapping):
        return None
    members = cast("Mapping[str, Any]", body)
    if path in members:
        return members[path]
    head, dot, rest = path.partition(".")
    return _member(members.get(head), rest) if dot else None


_SEVERITY_ALIASES: Final = {"warning": "warn", "critical": "fatal", "information": "info", "err": "error"}

_FIELDS: Final[dict[str, Getter]] = {
    "name": lambda signal: signal.name or None,
    "kind": lambda signal: signal.kind.value,
    "span_kind": lambda signal: signal.span_kind or None,
    "status": lambda signal: signal.status_code or None,
    "status_description": lambda signal: signal.status_description or None,
    "duration_ms": _duration_ms,
    "severity": _severity,
    "severity_number": lambda signal: signal.severity_number or None,
    "body": lambda signal: signal.body,
    "trace_id": lambda signal: signal.trace_id or None,
    "span_id": lambda signal: signal.span_id or None,
    "parent_span_id": lambda signal: signal.parent_span_id or None,
    "scope.name": lambda signal: signal.scope.name or None,
    "scope.version": lambda signal: signal.scope.version or None,
    "span.name": lambda signal: (signal.span.name or None) if signal.span is not None else None,
    "span.kind": lambda signal: (signal.span.span_kind or None) if signal.span is not None else None,
}
"""What is not an attribute. Empty text counts as missing: it is how a Signal says "absent" for these."""
