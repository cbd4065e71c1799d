"""A protobuf request, of which only the items that are wanted get decoded.

    Export…ServiceRequest { 1: Resource… { 1: Resource, 2: Scope… { 1: InstrumentationScope, 2: item } } }

1. Where no needle is found, the items are counted (`_count`), and that is all.
2. Else the envelope is walked item by item, from hit to hit: what lies between two hits is stepped over.
3. What is left is parsed by itself, so that a bad item harms no other one, and held against the rules once more by its
   name, kind and status before its attributes are touched.

Traces and logs have the same field numbers, so that one walk serves both. Where the envelope is not what it should be,
everything is decoded (`decode_protobuf`), which mends what can be mended or says what is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_posthog.gateway.decode_protobuf import (
    UNREADABLE_OWNER,
    append_log,
    append_span,
    decode_logs_protobuf,
    decode_traces_protobuf,
    item_from,
    log_head,
    resource_from,
    scope_from,
    span_head,
)
from otel_posthog.gateway.decode_wire import LEN, BrokenWireError, field_at
from otel_posthog.gateway.decoded import Complaints
from otel_posthog.gateway.inbound import Kind
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare_scan import NEVER, Hits, holds
from otel_posthog.gateway.wanted import Hunt, Need, WantedItems
from otel_posthog.model import Resource, Scope, Signal, SignalKind

_MESSAGE_FACTOR: Final = 4
"""Bytes of memory for each byte of a parsed message, about."""
_SIGNAL_BYTES: Final = 2_000
"""Of a decoded signal, about."""


def prepare_protobuf(kind: Kind, body: bytes, wanted: WantedItems) -> Prepared:
    """Looks into an `Export…ServiceRequest` (see `prepare`).

    Raises:
        SignalError: The bytes are no such message, not even with some items left out.
    """
    hunt = wanted.hunt(kind)
    every = wanted.everything or hunt.every
    tags, rules = Hits(body, hunt.tags), Hits(body, hunt.rules)
    if not every and tags.after(0) == rules.after(0) == NEVER:
        count = _count(body)
        if count is not None:
            return Prepared(count, count, 0, (), 0, 0, tuple)
    try:
        found = _walk(body, tags, rules, every=every)
    except (BrokenWireError, IndexError):
        return _decoded(kind, body)
    return _chosen(kind, found, hunt, everything=wanted.everything)


def _decoded(kind: Kind, body: bytes) -> Prepared:
    """The slow way: everything is read."""
    decoded = (decode_traces_protobuf if kind == "traces" else decode_logs_protobuf)(body)
    signals = decoded.signals
    candidates = sum(signal.kind is not SignalKind.SPAN_EVENT for signal in signals)
    return Prepared(
        received=candidates + decoded.rejected,
        skipped=0,
        rejected=decoded.rejected,
        messages=decoded.error_messages,
        candidates=candidates,
        size=len(signals) * _SIGNAL_BYTES + len(body),
        signals=lambda: signals,
    )


# --- the walk ------------------------------------------------------------------------------------------------------


class _Scope:
    """One `ScopeSpans` or `ScopeLogs`: how many items it has, and those that were hit."""

    __slots__ = ("count", "items", "raw", "raw_resource")

    def __init__(self, raw_resource: list[bytes]) -> None:
        self.raw_resource = raw_resource
        self.raw: list[bytes] = []
        self.items: list[tuple[bytes, bool]] = []
        """The item, and whether it has one of the tags' needles (else one of the rules')."""
        self.count = 0


def _walk(body: bytes, tags: Hits, rules: Hits, *, every: bool) -> list[_Scope]:
    scopes: list[_Scope] = []
    at, end = 0, len(body)
    while at < end:
        field, wire, start, at = field_at(body, at, end)
        if field == 1 and wire == LEN:
            raw_resource: list[bytes] = []
            inner = start
            while inner < at:
                field, wire, start, inner = field_at(body, inner, at)
                if wire != LEN:
                    continue
                if field == 1:
                    raw_resource.append(body[start:inner])
                elif field == 2:
                    scope = _Scope(raw_resource)
                    _walk_scope(scope, body, start, inner, tags, rules, every=every)
                    scopes.append(scope)
    return scopes


def _walk_scope(scope: _Scope, body: bytes, at: int, end: int, tags: Hits, rules: Hits, *, every: bool) -> None:
    count = 0
    tag, rule = tags.after(at), rules.after(at)
    while at < end:
        # Nearly every field is an item of 128 to 16,383 bytes; everything else takes the slower way below.
        if body[at] == 0x12 and (low := body[at + 1]) >= 0x80 and (high := body[at + 2]) < 0x80:
            start = at + 3
            at = start + (low & 0x7F | high << 7)
        else:
            field, wire, start, at = field_at(body, at, end)
            if field != 2 or wire != LEN:
                if field == 1 and wire == LEN:
                    scope.raw.append(body[start:at])
                continue
        count += 1
        if tag < start:
            tag = tags.after(start)
        if tag < at:
            scope.items.append((body[start:at], True))
            tag = tags.after(at)
            continue
        if rule < start:
            rule = rules.after(start)
        if every or rule < at:
            scope.items.append((body[start:at], False))
    if at != end:
        raise BrokenWireError("an item ends behind its scope")
    scope.count = count


# --- from hits to candidates ---------------------------------------------------------------------------------------


def _chosen(kind: Kind, scopes: list[_Scope], hunt: Hunt, *, everything: bool) -> Prepared:
    complaints = Complaints()
    message: Any = Span if kind == "traces" else LogRecord
    append: Any = append_span if kind == "traces" else append_log
    head_of: Any = span_head if kind == "traces" else log_head
    received = size = 0
    chosen: list[tuple[Resource, Scope, list[Any]]] = []
    resources: dict[int, Resource | None] = {}
    for found in scopes:
        received += found.count
        if not found.items:
            continue
        key = id(found.raw_resource)
        if key not in resources:
            resources[key] = resource_from(b"".join(found.raw_resource), complaints)
        resource, scope = resources[key], scope_from(b"".join(found.raw), complaints)
        if resource is None or scope is None:
            for _ in found.items:
                complaints.reject(UNREADABLE_OWNER)
            continue
        needs = [need for need in hunt.needs if need.fits_around(resource, scope)]
        items: list[Any] = []
        for raw, tagged in found.items:
            if tagged or everything:
                item = item_from(message, raw, complaints)
            else:
                item = _ruled(raw, needs, message, head_of, resource, scope, complaints)
            if item is not None:
                items.append(item)
                size += len(raw)
        if items:
            chosen.append((resource, scope, items))
    candidates = sum(len(items) for _, _, items in chosen)

    def signals() -> Iterable[Signal]:
        decoded: list[Signal] = []
        for resource, scope, items in chosen:
            for item in items:
                append(decoded, item, resource, scope)
        return decoded

    account = complaints.decoded([])
    return Prepared(
        received=received,
        skipped=received - candidates - account.rejected,
        rejected=account.rejected,
        messages=account.error_messages,
        candidates=candidates,
        size=size * _MESSAGE_FACTOR,
        signals=signals,
    )


def _ruled(
    raw: bytes, needs: list[Need], message: Any, head_of: Any, resource: Resource, scope: Scope, complaints: Complaints
) -> Any | None:
    """The item where some rule may match it; `None` for none, and where it cannot be read (which is counted)."""
    needs = [need for need in needs if all(any(holds(raw, text) for text in texts) for texts in need.texts)]
    if not needs:
        return None
    item = item_from(message, raw, complaints)
    if item is None:
        return None
    head: Signal | None = None
    for need in needs:
        if need.kind is SignalKind.SPAN_EVENT:
            if item.events:
                return item
            continue
        if not need.head and not need.span_kinds:
            return item
        if head is None:
            head = head_of(item, resource, scope)
            assert head is not None
        if need.span_kinds and head.span_kind not in need.span_kinds:
            continue
        if all(holds_(head) for holds_ in need.head):
            return item
    return None


# --- counting ------------------------------------------------------------------------------------------------------


def _count(body: bytes) -> int | None:
    """How many items are in a request; `None` where it is broken.

    protobuf's own parser goes through the envelope, by a schema that takes everything below it as bytes: a sixth of the
    time of the walk.
    """
    try:
        request: Any = _envelope().FromString(body)
    except DecodeError:
        return None
    return sum(len(scope.items) for owner in request.owners for scope in owner.scopes)


@functools.cache
def _envelope() -> Any:
    proto = descriptor_pb2.FileDescriptorProto(
        name="otel_posthog/envelope.proto", package="otel_posthog", syntax="proto3"
    )
    field = descriptor_pb2.FieldDescriptorProto
    for name, label, number, kind, type_name in (
        ("Scope", "items", 2, field.TYPE_BYTES, None),
        ("Owner", "scopes", 2, field.TYPE_MESSAGE, ".otel_posthog.Scope"),
        ("Request", "owners", 1, field.TYPE_MESSAGE, ".otel_posthog.Owner"),
    ):
        proto.message_type.add(name=name).field.add(
            name=label, number=number, type=kind, type_name=type_name, label=field.LABEL_REPEATED
        )
    pool: Any = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(proto.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("otel_posthog.Request"))
