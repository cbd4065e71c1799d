"""Each span or log record of a request as a request of its own, with its resource and scope.

    Export…ServiceRequest { 1: Resource… { 1: Resource, 2: Scope… { 1: Scope, 2: item, 3: url }, 3: url } }

Protobuf is cut, not parsed: what this version does not know stays in, and what nobody can parse stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Complaints
from otel_posthog.gateway.decode.json_text import KEYS, read_request
from otel_posthog.gateway.decode.wire import LEN, BrokenWireError, wire_fields
from otel_posthog.gateway.inbound import JSON, Kind


def single_items(kind: Kind, media_type: str, body: bytes) -> Iterator[bytes]:
    """One request for each item of `body`, in order; none where it is no request.

    Args:
        kind: `traces` or `logs`.
        media_type: `inbound.PROTOBUF` or `inbound.JSON`.
        body: The inflated request.
    """
    if media_type == JSON:
        yield from _json_items(kind, body)
        return
    try:
        yield from _protobuf_items(body)
    except BrokenWireError:
        return


def _protobuf_items(body: bytes) -> Iterator[bytes]:
    for number, wire, resource_items in wire_fields(body):
        if (number, wire) != (1, LEN):
            continue
        resource_rest, scopes = _parted(resource_items)
        for scope_items in scopes:
            scope_rest, items = _parted(scope_items)
            for item in items:
                scope = scope_rest + _field(2, item)
                yield _field(1, resource_rest + _field(2, scope))


def _parted(raw: bytes) -> tuple[bytes, list[bytes]]:
    """Everything but field 2, and each field 2."""
    rest: list[bytes] = []
    parts: list[bytes] = []
    for number, wire, value in wire_fields(raw):
        if wire == LEN:
            if number == 2:
                parts.append(value)
            else:
                rest.append(_field(number, value))
    return b"".join(rest), parts


def _field(number: int, value: bytes) -> bytes:
    return b"".join((_varint(number << 3 | LEN), _varint(len(value)), value))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _json_items(kind: Kind, body: bytes) -> Iterator[bytes]:
    resources, scopes, items = KEYS[kind]
    try:
        request = read_request(kind, body, Complaints())
    except SignalError:
        return
    for resource_items in _objects(request, resources):
        for scope_items in _objects(resource_items, scopes):
            for item in _objects(scope_items, items):
                scope = {**scope_items, items: [item]}
                yield json.dumps({resources: [{**resource_items, scopes: [scope]}]}, separators=(",", ":")).encode()


def _objects(owner: Any, key: str) -> list[dict[str, Any]]:
    found = cast("dict[str, Any]", owner).get(key) if isinstance(owner, dict) else None
    listed = cast("list[Any]", found) if isinstance(found, list) else []
    return [cast("dict[str, Any]", each) for each in listed if isinstance(each, dict)]
