"""OTLP/JSON -> Signals, by walking the parsed JSON (`protobuf.json_format` reads ids as base64 and corrupts them).

What OTLP/JSON differs in from proto3 JSON, and where we are more lenient than it asks:

- ids are hex in any case, enums are numbers (names are read too: some emitters write them), unknown keys are ignored,
  keys are lowerCamelCase only;
- 64-bit integers are strings or numbers, doubles may be the strings `NaN`, `Infinity`, `-Infinity`; `null` is absent;
- text that is no Unicode (invalid UTF-8, lone surrogates) becomes U+FFFD and is noted.

An item whose shape is wrong is rejected by itself; a body that is not a JSON object raises.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, cast

from otel_posthog.gateway.decode.decoded import MAX_DEPTH, SPAN_KINDS, STATUS_CODES, Complaints, Decoded, Ration, at
from otel_posthog.gateway.decode.json_text import KEYS, TOO_LARGE, UNWANTED, read_request
from otel_posthog.model import AttributeValue, Link, Resource, Scope, Signal, SignalKind

Json = dict[str, Any]

_KIND_NAMES: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
}
_STATUS_NAMES: Final = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_SEVERITY_NAMES: Final = {"SEVERITY_NUMBER_UNSPECIFIED": 0} | {
    f"SEVERITY_NUMBER_{name}{step or ''}": base + max(step - 1, 0)
    for base, name in ((1, "TRACE"), (5, "DEBUG"), (9, "INFO"), (13, "WARN"), (17, "ERROR"), (21, "FATAL"))
    for step in (0, 2, 3, 4)
}
_HEX: Final = re.compile(r"[0-9a-fA-F]*\Z")
_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)


class _ShapeError(Exception):
    """This item does not have the shape of OTLP."""


def decode_traces_json(body: bytes) -> Decoded:
    """Decodes an `ExportTraceServiceRequest` in OTLP/JSON.

    Raises:
        SignalError: The body is not a JSON object.
    """
    return decode_some("traces", body)[0]


def decode_logs_json(body: bytes) -> Decoded:
    """Decodes an `ExportLogsServiceRequest` in OTLP/JSON.

    Raises:
        SignalError: The body is not a JSON object.
    """
    return decode_some("logs", body)[0]


def decode_some(
    kind: Literal["traces", "logs"],
    body: bytes,
    admits: Callable[[Any], bool] | None = None,
    ration: Ration | None = None,
) -> tuple[Decoded, int]:
    """Decodes the items of a request that `admits` wants, each of which is what JSON made of it; all without it.

    Args:
        kind: `traces` or `logs`.
        body: Its bytes.
        admits: Whether an item is wanted.
        ration: How much of it may be looked at; `None` for all of it.

    Returns:
        The signals, and how many items were not wanted.

    Raises:
        SignalError: The body is not a JSON object.
    """
    resource_key, scope_key, item_key = KEYS[kind]
    append = _append_span if kind == "traces" else _append_log
    unwanted = 0
    complaints = Complaints()
    take = (ration or Ration(sys.maxsize)).take
    request = read_request(kind, body, complaints, admits=admits, take=take)
    signals: list[Signal] = []
    for resource_items in _tolerant_objects(request, resource_key, complaints):
        resource = Resource(_tolerant_attributes(resource_items.get("resource"), complaints, "resource"))
        for scope_items in _tolerant_objects(resource_items, scope_key, complaints):
            scope = _scope(scope_items.get("scope"), complaints)
            for item in _list(scope_items.get(item_key), complaints, item_key):
                if item is UNWANTED:
                    unwanted += 1
                    continue
                if item is TOO_LARGE:
                    complaints.reject(f"{item_key}: an item has more than 4 MiB of JSON; protobuf may be larger")
                    continue
                kept = len(signals)
                try:
                    append(signals, _object(item, "item"), resource, scope)
                    take(len(signals) - kept - 1)
                except _ShapeError as error:
                    # A span that fails in one of its span events goes as a whole, as it does in protobuf.
                    del signals[kept:]
                    complaints.reject(f"{item_key}: {error}")
    return complaints.decoded(signals), unwanted


# --- items ---------------------------------------------------------------------------------------------------------


def _append_span(signals: list[Signal], span: Json, resource: Resource, scope: Scope) -> None:
    trace_id = _id(span, "traceId", 32)
    span_id = _id(span, "spanId", 16)
    status = _object(span.get("status"), "status")
    owner = Signal(
        kind=SignalKind.SPAN,
        name=_text(span, "name"),
        attributes=_attributes(span.get("attributes")),
        resource=resource,
        scope=scope,
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=_id(span, "parentSpanId", 16),
        span_kind=at(SPAN_KINDS, _enum(span, "kind", _KIND_NAMES)),
        start_time_ns=_uint(span, "startTimeUnixNano"),
        time_ns=_uint(span, "endTimeUnixNano"),
        status_code=at(STATUS_CODES, _enum(status, "code", _STATUS_NAMES)),
        status_description=_text(status, "message"),
        links=tuple(
            Link(_id(link, "traceId", 32), _id(link, "spanId", 16), _attributes(link.get("attributes")))
            for link in _objects(span, "links")
        ),
    )
    signals.append(owner)
    for index, event in enumerate(_objects(span, "events")):
        signals.append(
            Signal(
                kind=SignalKind.SPAN_EVENT,
                name=_text(event, "name"),
                attributes=_attributes(event.get("attributes")),
                resource=resource,
                scope=scope,
                trace_id=trace_id,
                span_id=span_id,
                time_ns=_uint(event, "timeUnixNano"),
                index=index,
                span=owner,
            )
        )


def _append_log(signals: list[Signal], record: Json, resource: Resource, scope: Scope) -> None:
    observed = _uint(record, "observedTimeUnixNano")
    signals.append(
        Signal(
            kind=SignalKind.LOG,
            name=_text(record, "eventName"),
            attributes=_attributes(record.get("attributes")),
            resource=resource,
            scope=scope,
            trace_id=_id(record, "traceId", 32),
            span_id=_id(record, "spanId", 16),
            time_ns=_uint(record, "timeUnixNano") or observed,
            observed_time_ns=observed,
            severity_number=_enum(record, "severityNumber", _SEVERITY_NAMES),
            severity_text=_text(record, "severityText"),
            body=_value(record.get("body"), 0),
        )
    )


def _scope(raw: Any, complaints: Complaints) -> Scope:
    attributes = _tolerant_attributes(raw, complaints, "scope")
    if not isinstance(raw, dict):
        return Scope()
    name, version = cast(Json, raw).get("name"), cast(Json, raw).get("version")
    return Scope(
        name if isinstance(name, str) else "",
        version if isinstance(version, str) else "",
        attributes,
    )


# --- fields --------------------------------------------------------------------------------------------------------


def _text(item: Json, key: str) -> str:
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _ShapeError(f"{key} is not a string")
    return value


def _id(item: Json, key: str, digits: int) -> str:
    """Lower-case hex; "" for absent, all zeros or a wrong length, all of which mean "no id" (OTLP)."""
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or not _HEX.match(value):
        raise _ShapeError(f"{key} is not hexadecimal, as OTLP/JSON wants it (protobuf's own JSON has base64 there)")
    if len(value) != digits or not value.strip("0"):
        return ""
    return value.lower()


def _uint(item: Json, key: str) -> int:
    value = item.get(key)
    return 0 if value is None else _integer(value, key, _UINT64)


def _enum(item: Json, key: str, names: dict[str, int]) -> int:
    value = item.get(key)
    if value is None:
        return 0
    if isinstance(value, str) and value in names:
        return names[value]
    return _integer(value, key, _INT64)


def _integer(value: Any, key: str, allowed: range) -> int:
    number: int | None = None
    if isinstance(value, str):
        # int() also takes underscores, blanks and other scripts' digits; and is slow on a very long text.
        if len(value) <= 20 and re.fullmatch(r"-?[0-9]+", value, re.ASCII):
            number = int(value)
    elif isinstance(value, float):
        number = int(value) if value.is_integer() else None
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None or number not in allowed:
        raise _ShapeError(f"{key} is not a 64-bit integer")
    return number


def _double(value: Any) -> float:
    if isinstance(value, str):
        try:
            return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}[value]
        except KeyError:
            if len(value) <= 400 and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", value, re.ASCII):
                return float(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _ShapeError("doubleValue is not a number")


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            # Standard or URL-safe alphabet, with or without padding (proto3 JSON).
            text = value.replace("-", "+").replace("_", "/").rstrip("=")
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            pass
    raise _ShapeError("bytesValue is not base64")


def _attributes(raw: Any, depth: int = 0) -> dict[str, AttributeValue]:
    """The attributes; the last of several with one key wins."""
    if raw is None:
        return {}
    if not isinstance(raw, list):
        raise _ShapeError("attributes are not a list")
    attributes: dict[str, AttributeValue] = {}
    for pair in cast(list[Any], raw):
        entry = _object(pair, "attribute")
        attributes[_text(entry, "key")] = _value(entry.get("value"), depth)
    return attributes


def _value(raw: Any, depth: int) -> AttributeValue:
    if raw is None:
        return None
    if not isinstance(raw, dict):
        raise _ShapeError('a value is not an object such as {"stringValue": …}, or is nested too deep')
    if depth > MAX_DEPTH:
        raise _ShapeError("a value is nested too deep")
    for key, value in cast(Json, raw).items():
        if value is None:
            continue
        if key == "stringValue":
            if not isinstance(value, str):
                raise _ShapeError("stringValue is not a string")
            return value
        if key == "intValue":
            return _integer(value, key, _INT64)
        if key == "boolValue":
            if not isinstance(value, bool):
                raise _ShapeError("boolValue is neither true nor false")
            return value
        if key == "doubleValue":
            return _double(value)
        if key == "bytesValue":
            return _bytes(value)
        if key == "arrayValue":
            values = _object(value, key).get("values")
            if values is not None and not isinstance(values, list):
                raise _ShapeError("arrayValue.values is not a list")
            return [_value(item, depth + 1) for item in cast("list[Any]", values or [])]
        if key == "kvlistValue":
            return _attributes(_object(value, key).get("values"), depth + 1)
    return None


def _object(raw: Any, what: str) -> Json:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise _ShapeError(f"{what} is not an object")
    return cast(Json, raw)


def _objects(item: Json, key: str) -> Iterator[Json]:
    raw = item.get(key)
    if raw is None:
        return
    if not isinstance(raw, list):
        raise _ShapeError(f"{key} is not a list")
    for entry in cast("list[Any]", raw):
        yield _object(entry, key)


# --- the envelope: what is wrong there is noted, what is below it survives -------------------------------------------


def _list(raw: Any, complaints: Complaints, key: str) -> list[Any]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        complaints.note(f"{key} is not a list")
        return []
    return cast("list[Any]", raw)


def _tolerant_objects(item: Json, key: str, complaints: Complaints) -> Iterator[Json]:
    for entry in _list(item.get(key), complaints, key):
        if isinstance(entry, dict):
            yield cast(Json, entry)
        else:
            complaints.note(f"{key} holds something other than objects")


def _tolerant_attributes(raw: Any, complaints: Complaints, where: str) -> dict[str, AttributeValue]:
    if not isinstance(raw, dict):
        return {}
    pairs = cast(Json, raw).get("attributes")
    try:
        return _attributes(pairs)
    except _ShapeError:
        pass
    attributes: dict[str, AttributeValue] = {}
    for pair in _list(pairs, complaints, f"{where} attributes"):
        attributes.update(_tolerant_attribute(pair, complaints, where))
    return attributes


def _tolerant_attribute(pair: Any, complaints: Complaints, where: str) -> dict[str, AttributeValue]:
    try:
        return _attributes([pair])
    except _ShapeError as error:
        complaints.note(f"an attribute of a {where} was left out: {error}")
        return {}
