"""Capture v1: `/i/v1/analytics/events`, a verdict for each event (posthog-wire §1.3, §1.4, §1.6 to §1.9).

request   Authorization: Bearer <token>, Content-Type, User-Agent, PostHog-Sdk-Info, PostHog-Attempt,
PostHog-Request-Id, PostHog-Request-Timestamp
{"created_at", "batch": [{"event", "uuid", "distinct_id", "timestamp", "session_id"?, "window_id"?,
"options"?, "properties"?}…], "historical_migration"?, "capture_internal"?}
200       {"results": {uuid: {"result": "ok|warning|drop|retry", "details"?}}}
refused   {"error", "error_description", "error_uri"}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, cast

from otel_posthog.emulator.inflate import InflateError, InflateLimitError, gunzip, inflate_zlib
from otel_posthog.emulator.instants import rfc3339, v1_instant
from otel_posthog.emulator.limits import Limits
from otel_posthog.emulator.project_token import fault_of
from otel_posthog.emulator.received import Drop, ReceivedBatch, ReceivedEvent, canonical_uuid, compact, loads
from otel_posthog.emulator.refusal import Refusal
from otel_posthog.semconv.posthog import ILLEGAL_DISTINCT_IDS, MAX_DISTINCT_ID_BYTES, MAX_NAME_BYTES

_REQUIRED = (
    "content-type",
    "user-agent",
    "posthog-sdk-info",
    "posthog-attempt",
    "posthog-request-id",
    "posthog-request-timestamp",
)
_ATTEMPT = re.compile(r"\+?[0-9]{1,10}", re.ASCII)
_OPTION_PROPERTIES = {
    "cookieless_mode": "$cookieless_mode",
    "disable_skew_correction": "$ignore_sent_at",
    "product_tour_id": "$product_tour_id",
    "process_person_profile": "$process_person_profile",
}


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a v1 request say."""

    token: str
    encoding: str
    lib: tuple[str, str] | None
    attempt: int
    request_id: str
    request_timestamp: datetime


def refusal(status: int, tag: str, description: str, detail: str = "") -> Refusal:
    """A v1 refusal: `description` is what the body says; 429, 500 and 503 carry `Retry-After: 1`."""
    headers = {"Retry-After": "1"} if status in {429, 500, 503} else {}
    return Refusal(status, tag, description, detail=detail, headers=headers)


def error_body(error: Refusal) -> dict[str, str]:
    """The JSON body of a v1 refusal."""
    return {"error": error.reason, "error_description": error.text, "error_uri": "https://posthog.com/docs/api"}


def read_head(headers: Mapping[str, str]) -> RequestHead:
    """Checks the headers, `headers` with lower-case names.

    Raises:
        Refusal: 400, 401 or 415.
    """
    if "authorization" not in headers:
        raise refusal(401, "missing_authorization", "The Authorization header is missing.")
    missing = [name for name in _REQUIRED if name not in headers]
    if missing:
        raise refusal(400, "missing_required_headers", f"request is missing required headers: {missing}")
    scheme, _, token = headers["authorization"].partition(" ")
    if scheme.lower() != "bearer":
        _bad_header("Authorization must use Bearer scheme")
    token = token.strip()
    fault = fault_of(token)
    if fault:
        raise refusal(401, "invalid_api_token", "The provided API token is not valid.", detail=fault)
    content_type = headers["content-type"]
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise refusal(415, "unsupported_content_type", f"unsupported content type: {content_type}")
    encoding = headers.get("content-encoding", "").lower()
    if encoding not in {"", "gzip", "deflate"}:
        hint = " (PostHog reads it, the emulator does not)" if encoding in {"br", "zstd"} else ""
        raise refusal(415, "unsupported_encoding", f"unsupported content encoding: {encoding}{hint}")
    request_id = canonical_uuid(headers["posthog-request-id"])
    if request_id is None:
        _bad_header("PostHog-Request-Id is not a valid UUID")
    attempt = headers["posthog-attempt"]
    if not _ATTEMPT.fullmatch(attempt) or not 1 <= int(attempt) < 2**32:
        _bad_header("PostHog-Attempt must be a positive integer")
    request_timestamp = rfc3339(headers["posthog-request-timestamp"])
    if request_timestamp is None:
        _bad_header("PostHog-Request-Timestamp is not valid RFC 3339")
    return RequestHead(token, encoding, _lib(headers["posthog-sdk-info"]), int(attempt), request_id, request_timestamp)


def read_batch(head: RequestHead, body: bytes, *, now: datetime, limits: Limits) -> ReceivedBatch:
    """Applies the rules of v1 to one request.

    Args:
        head: Its headers.
        body: As sent.
        now: Server time.
        limits: Size limits.

    Raises:
        Refusal: The whole request is refused.
    """
    document = _document(head, body, limits)
    historical, items = _envelope(document)
    seen: set[str] = set()
    for item in items:
        uuid = _uuid_of(item)
        if uuid in seen:
            raise refusal(400, "duplicate_event_uuid", f"duplicate event uuid: {uuid}")
        seen.add(uuid)
    batch = ReceivedBatch(head.token)
    for item in items:
        uuid = _uuid_of(item)
        received = _received(item, uuid, head, historical, now, limits)
        if isinstance(received, Drop):
            batch.drops.append(received)
            batch.verdicts[uuid] = {"result": "drop", "details": received.reason}
            continue
        batch.events.append(received)
        batch.verdicts[uuid] = {"result": "ok"}
        if received.person_disabled:
            batch.verdicts[uuid]["details"] = "person_processing_disabled"
    return batch


def _bad_header(text: str) -> NoReturn:
    raise refusal(400, "invalid_header_value", f"invalid header value: {text}")


def _lib(sdk_info: str) -> tuple[str, str] | None:
    name, slash, version = sdk_info.rpartition("/")
    name, version = name.strip(), version.strip()
    return (name, version) if slash and name and version else None


def _document(head: RequestHead, body: bytes, limits: Limits) -> Any:
    if not body:
        raise refusal(400, "empty_body", "request body is empty")
    try:
        if head.encoding == "gzip":
            body = gunzip(body, limits.v1_decompressed)
        elif head.encoding == "deflate":
            body = inflate_zlib(body, limits.v1_decompressed)
    except InflateLimitError:
        raise refusal(413, "payload_too_large", "payload too large: decompressed size exceeds the limit") from None
    except InflateError as error:
        raise refusal(400, "request_decoding_error", "Failed to decode request body.", detail=str(error)) from None
    if len(body) > limits.v1_decompressed:
        raise refusal(413, "payload_too_large", "payload too large: decompressed size exceeds the limit")
    try:
        return loads(body)
    except ValueError as error:
        _unparsable(str(error))


def _unparsable(detail: str) -> NoReturn:
    raise refusal(400, "request_parsing_error", "Failed to parse request body.", detail=detail)


def _envelope(document: Any) -> tuple[bool, list[dict[str, Any]]]:
    if not isinstance(document, dict):
        _unparsable("the body must be an object")
    root = cast("dict[str, Any]", document)
    created_at = root.get("created_at")
    if not isinstance(created_at, str):
        _unparsable("`created_at` must be a string")
    historical = root.get("historical_migration", False)
    if not isinstance(historical, bool):
        _unparsable("`historical_migration` must be a boolean")
    if not isinstance(root.get("capture_internal", False), (bool, type(None))):
        _unparsable("`capture_internal` must be a boolean")
    items = root.get("batch")
    if not isinstance(items, list):
        _unparsable("`batch` must be a list")
    events = [_typed(item) for item in cast("list[Any]", items)]
    if not events:
        raise refusal(400, "empty_batch", "request batch is empty")
    if rfc3339(created_at) is None:
        raise refusal(400, "invalid_batch", f"invalid batch: created_at is not valid RFC 3339: {created_at}")
    return historical, events


def _typed(item: Any) -> dict[str, Any]:
    """The event with the field types without which the server cannot read the batch at all."""
    if not isinstance(item, dict):
        _unparsable("an event must be an object")
    event = cast("dict[str, Any]", item)
    for key in ("event", "uuid", "distinct_id", "timestamp"):
        if not isinstance(event.get(key), str):
            _unparsable(f"an event's `{key}` must be a string")
    for key in ("session_id", "window_id"):
        if not isinstance(event.get(key), (str, type(None))):
            _unparsable(f"an event's `{key}` must be a string")
    return event


def _uuid_of(item: dict[str, Any]) -> str:
    text = item["uuid"].strip()
    if not text:
        raise refusal(400, "missing_event_uuid", "event submitted without a uuid")
    uuid = canonical_uuid(text)
    if uuid is None:
        raise refusal(400, "invalid_event_uuid", f"event submitted with invalid uuid: {text[:80]}")
    return uuid


def _received(
    item: dict[str, Any], uuid: str, head: RequestHead, historical: bool, now: datetime, limits: Limits
) -> ReceivedEvent | Drop:
    name: str = item["event"]
    distinct_id: str = item["distinct_id"].strip()
    reason, timestamp, options = _verdict(item, name, distinct_id)
    if timestamp is None:
        return Drop(reason, name, uuid)
    if len(compact(item).encode()) > limits.event:
        return Drop("event_too_big", name, uuid)
    properties = dict(cast("dict[str, Any]", item.get("properties", {})))
    for key, name_in_properties in (("session_id", "$session_id"), ("window_id", "$window_id")):
        if item.get(key) is not None:
            properties[name_in_properties] = item[key]
    for key, value in options.items():
        properties[_OPTION_PROPERTIES[key]] = value
    if head.lib is not None:
        properties["$lib"], properties["$lib_version"] = head.lib
    return ReceivedEvent(
        token=head.token,
        uuid=uuid,
        event=name.replace("\0", "\ufffd"),
        distinct_id=distinct_id.replace("\0", "\ufffd"),
        timestamp=v1_instant(
            timestamp,
            request_timestamp=head.request_timestamp,
            keep=options.get("disable_skew_correction") is True,
            now=now,
        ),
        properties=properties,
        sent=item,
        version="v1",
        warnings=("illegal_distinct_id",) if distinct_id.lower() in ILLEGAL_DISTINCT_IDS else (),
        person_disabled=distinct_id.lower() in ILLEGAL_DISTINCT_IDS,
        historical=historical,
    )


def _verdict(item: dict[str, Any], name: str, distinct_id: str) -> tuple[str, datetime | None, dict[str, bool | str]]:
    """Why the event is dropped, or its timestamp and options."""
    timestamp = rfc3339(item["timestamp"])
    options = _options(item.get("options"))
    rules = (
        ("missing_event_name", not name),
        ("event_name_too_long", len(name.encode()) > MAX_NAME_BYTES),
        ("missing_distinct_id", not distinct_id),
        ("distinct_id_too_large", len(distinct_id.encode()) > MAX_DISTINCT_ID_BYTES),
        ("invalid_event_timestamp", timestamp is None),
        ("malformed_event_properties", not isinstance(item.get("properties", {}), dict)),
        ("invalid_options", options is None),
    )
    for reason, broken in rules:
        if broken:
            return reason, None, {}
    return "", timestamp, options or {}


def _options(value: Any) -> dict[str, bool | str] | None:
    """The known options, coerced as the server does; None when one cannot be."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        return None
    known: dict[str, bool | str] = {}
    for key in _OPTION_PROPERTIES:
        given = cast("dict[str, Any]", value).get(key)
        # The older spelling of `disable_skew_correction` is still sent.
        if given is None and key == "disable_skew_correction":
            given = cast("dict[str, Any]", value).get("disable_skew_adjustment")
        if given is None:
            continue
        coerced = _text_option(given) if key == "product_tour_id" else _bool_option(given)
        if coerced is None:
            return None
        known[key] = coerced
    return known


def _bool_option(value: Any) -> bool | None:
    if isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return None


def _text_option(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
