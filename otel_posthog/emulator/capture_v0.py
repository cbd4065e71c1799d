"""Capture v0: `/batch`, `/e`, `/capture`, `/track`, `/engage`, `/i/v0/e` (posthog-wire §1.2 to §1.5, §1.7 to §1.9).

The whole request is refused on the first bad event. Bodies that are seen:

    {"api_key", "batch": [event…], "historical_migration"?, "sent_at"?}      batch
    [event…]                                                                 array, the token in each event
    {"api_key" | "token", "event", "distinct_id", "properties"?, …}          single event

in any of the forms of `body.py`.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn, cast

from otel_posthog.emulator.body import read_body
from otel_posthog.emulator.instants import lenient, v0_instant
from otel_posthog.emulator.limits import Limits
from otel_posthog.emulator.project_token import fault_of
from otel_posthog.emulator.received import (
    Drop,
    ReceivedBatch,
    ReceivedEvent,
    canonical_uuid,
    compact,
)
from otel_posthog.emulator.refusal import Refusal
from otel_posthog.semconv.posthog import ILLEGAL_DISTINCT_IDS

_MAX_CHARS = 200


def read_batch(
    body: bytes,
    *,
    path: str,
    query: Mapping[str, str],
    now: datetime,
    limits: Limits,
    new_uuid: Callable[[], str] = lambda: str(uuids.uuid4()),
) -> ReceivedBatch:
    """Applies the rules of v0 to one request.

    Args:
        body: As sent; its size was checked against the limit of `path`.
        path: Request path.
        query: Query parameters.
        now: Server time.
        limits: Size limits.
        new_uuid: For events that come without one.

    Raises:
        Refusal: The whole request is refused.
    """
    single = path.strip("/") != "batch"
    ceiling = (limits.v0_single if single else limits.v0_batch) * limits.v0_decompressed_factor
    document = read_body(body, query, ceiling)
    items, root_token, sent_at, historical = _events_of(document)
    if not items:
        raise Refusal(400, "empty_batch", "request holds no event")
    engage = path.strip("/") == "engage"
    wire = [_checked(item, engage=engage) for item in items]
    token = _token(root_token, wire)
    sent = lenient(sent_at) if sent_at else None
    batch = ReceivedBatch(token)
    for item in wire:
        received = _received(item, token, sent, historical, now, limits, new_uuid)
        if isinstance(received, Drop):
            batch.drops.append(received)
        else:
            batch.events.append(received)
    return batch


def _events_of(document: Any) -> tuple[list[Any], str | None, str | None, bool]:
    if isinstance(document, list):
        return cast("list[Any]", document), None, None, False
    if not isinstance(document, dict):
        raise Refusal(400, "invalid_json", "failed to parse request: data did not match any variant of untagged enum")
    root = cast("dict[str, Any]", document)
    if "batch" not in root:
        return [root], None, _text(root, "sent_at"), False
    items = root["batch"]
    if not isinstance(items, list):
        _bad_field("batch", "a list")
    historical = root.get("historical_migration")
    if historical is not None and not isinstance(historical, bool):
        _bad_field("historical_migration", "a boolean")
    token = root.get("api_key", root.get("token"))
    if token is not None and not isinstance(token, str):
        _bad_field("api_key", "a string")
    return cast("list[Any]", items), token, _text(root, "sent_at"), bool(historical)


def _text(root: dict[str, Any], key: str) -> str | None:
    value = root.get(key)
    return value if isinstance(value, str) else None


def _bad_field(key: str, wanted: str) -> NoReturn:
    raise Refusal(400, "invalid_field", f"failed to parse request: `{key}` must be {wanted}", detail=f"`{key}`")


def _checked(item: Any, *, engage: bool) -> dict[str, Any]:
    """The event with the types that the strict reader of the server demands."""
    if not isinstance(item, dict):
        _bad_field("batch[…]", "an object")
    event = cast("dict[str, Any]", item)
    if engage and "event" not in event:
        event = {**event, "event": "$identify"}
    if "event" not in event:
        raise Refusal(400, "missing_event_name", "failed to parse request: missing field `event`")
    if not isinstance(event["event"], str):
        _bad_field("event", "a string")
    for key in ("token", "api_key", "$token", "timestamp"):
        if event.get(key) is not None and not isinstance(event[key], str):
            _bad_field(key, "a string")
    if not isinstance(event.get("properties", {}), dict):
        _bad_field("properties", "an object")
    for key in ("$set", "$set_once"):
        if event.get(key) is not None and not isinstance(event[key], dict):
            _bad_field(key, "an object")
    offset = event.get("offset")
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int)):
        _bad_field("offset", "an integer")
    return event


def _token(root: str | None, events: list[dict[str, Any]]) -> str:
    if root is None:
        found = {token for event in events if (token := _own_token(event)) is not None}
        if not found:
            raise Refusal(401, "missing_token", "event submitted without an api_key")
        if len(found) > 1:
            raise Refusal(401, "inconsistent_tokens", "batch submitted with inconsistent api_key values")
        root = found.pop()
    token = root.strip()
    fault = fault_of(token)
    if fault:
        raise Refusal(401, "invalid_token", f"API key is not valid: {fault}", detail=fault)
    return token


def _own_token(event: dict[str, Any]) -> str | None:
    for key in ("token", "$token", "api_key"):
        if event.get(key) is not None:
            return event[key]
    own = event.get("properties", {}).get("token")
    return own if isinstance(own, str) else None


def _received(
    item: dict[str, Any],
    token: str,
    sent_at: datetime | None,
    historical: bool,
    now: datetime,
    limits: Limits,
    new_uuid: Callable[[], str],
) -> ReceivedEvent | Drop:
    name = item["event"]
    if not name:
        raise Refusal(400, "missing_event_name", "event submitted with an empty event name")
    warnings: list[str] = []
    properties = dict(item.get("properties", {}))
    distinct_id = _distinct_id(item, properties, warnings)
    if not isinstance(properties.get("$cookieless_mode", False), bool):
        raise Refusal(400, "invalid_cookieless_mode", "event submitted with an invalid $cookieless_mode")
    if len(compact(item).encode()) > limits.event:
        raise Refusal(413, "event_too_big", "maximum event size exceeded", detail=f"event `{name[:80]}`")
    uuid = _uuid(item.get("uuid"), new_uuid)
    if uuid is None:
        return Drop("invalid_uuid", name, str(item.get("uuid"))[:80])
    stamp = item.get("timestamp")
    timestamp = lenient(stamp) if stamp else None
    if stamp and timestamp is None:
        warnings.append("ignored_invalid_timestamp")
    for key in ("$set", "$set_once"):
        if item.get(key):
            own = properties.get(key)
            properties[key] = {**(own if isinstance(own, dict) else {}), **item[key]}
    instant = v0_instant(
        timestamp,
        offset_ms=item.get("offset"),
        sent_at=sent_at,
        ignore_sent_at=properties.get("$ignore_sent_at") is True,
        now=now,
    )
    return ReceivedEvent(
        token=token,
        uuid=uuid,
        event=name.replace("\0", "\ufffd")[:_MAX_CHARS],
        distinct_id=distinct_id,
        timestamp=instant,
        properties=properties,
        sent=item,
        version="v0",
        warnings=tuple(warnings),
        historical=historical,
    )


def _distinct_id(item: dict[str, Any], properties: dict[str, Any], warnings: list[str]) -> str:
    value = item.get("distinct_id", item.get("$distinct_id"))
    if value is None:
        value = properties.get("distinct_id")
    if value is None:
        raise Refusal(400, "missing_distinct_id", "event submitted without a distinct_id")
    text = value if isinstance(value, str) else compact(value)
    text = text.replace("\0", "\ufffd")
    if not text.strip():
        raise Refusal(400, "missing_distinct_id", "event submitted with an empty distinct_id")
    if len(text) > _MAX_CHARS:
        warnings.append("distinct_id_truncated")
        text = text[:_MAX_CHARS]
    if text.strip().lower() in ILLEGAL_DISTINCT_IDS:
        warnings.append("illegal_distinct_id")
    return text


def _uuid(value: Any, new_uuid: Callable[[], str]) -> str | None:
    if value is None or value == "":
        return new_uuid()
    return canonical_uuid(value) if isinstance(value, str) else None
