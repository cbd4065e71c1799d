"""A protobuf request, of which only the items that are wanted get decoded.

    Export…ServiceRequest { 1: Resource… { 1: Resource, 2: Scope… { 1: InstrumentationScope, 2: item } } }

1. Where no needle is found, the items are counted (`_count`), and that is all.
2. Else the envelope is walked item by item, from hit to hit: what lies between two hits is stepped over.
3. What is left is parsed by itself, so that a bad item harms no other one, and held against the rules once more by its
   name, kind and status before its attributes are touched.

Traces and logs have the same field numbers, so that one walk serves both. Where the envelope is not what it should be,
everything is decoded (`decode.from_protobuf`), which mends what can be mended or says what is wrong.
"""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from otel_posthog.gateway.decode.decoded import (
    MAX_PARTS,
    SPAN_KINDS,
    UNREADABLE,
    UNREADABLE_OWNER,
    Complaints,
    Decoded,
    Ration,
    at,
)
from otel_posthog.gateway.decode.from_protobuf import (
    decode_logs_protobuf,
    decode_traces_protobuf,
    resource_from,
    scope_from,
)
from otel_posthog.gateway.decode.lean import LeanReader, UnreadableError
from otel_posthog.gateway.decode.wire import LEN, BrokenWireError, field_at
from otel_posthog.gateway.inbound import Kind
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare.prepared import prepared_of
from otel_posthog.gateway.prepare.scan import NEVER, Hits, Texts
from otel_posthog.gateway.prepare.wanted import Hunt, WantedItems
from otel_posthog.model import Resource, Scope, Signal, SignalKind

_MAX_OWNER: Final = 4_096
"""Bytes of a resource or scope that is remembered."""


def prepare_protobuf(kind: Kind, body: bytes, wanted: WantedItems) -> Prepared:
    """Looks into an `Export…ServiceRequest` (see `prepare`).

    Raises:
        SignalError: The bytes are no such message, not even with some items left out, or it has too many.
    """
    hunt = wanted.hunt(kind)
    every = wanted.everything or hunt.every
    tags, rules = Hits(body, hunt.tags), Hits(body, hunt.rules)
    if not every and tags.after(0) == rules.after(0) == NEVER:
        count = _count(body)
        if count is not None:
            return prepared_of(Decoded(), skipped=count)
    try:
        found = _walk(body, tags, rules, every=every)
    except (BrokenWireError, IndexError):
        return _decoded(kind, body)
    return _chosen(kind, found, hunt, everything=wanted.everything)


def _decoded(kind: Kind, body: bytes) -> Prepared:
    """The slow way: everything is read."""
    return prepared_of((decode_traces_protobuf if kind == "traces" else decode_logs_protobuf)(body, Ration()))


# --- the walk ------------------------------------------------------------------------------------------------------


class _Hit(Enum):
    """What was found in an item."""

    TAG = 1
    RULE = 2
    NONE = 3


class _Scope:
    """One `ScopeSpans` or `ScopeLogs`: how many items it has, and those that were hit."""

    __slots__ = ("count", "items", "raw", "raw_resource")

    def __init__(self, raw_resource: list[bytes]) -> None:
        self.raw_resource = raw_resource
        self.raw: list[bytes] = []
        self.items: list[tuple[bytes, _Hit]] = []
        self.count = 0


def _walk(body: bytes, tags: Hits, rules: Hits, *, every: bool) -> list[_Scope]:
    scopes: list[_Scope] = []
    ration = Ration()
    at, end = 0, len(body)
    while at < end:
        field, wire, start, at = field_at(body, at, end)
        ration.take()
        if field == 1 and wire == LEN:
            raw_resource: list[bytes] = []
            inner = start
            while inner < at:
                field, wire, start, inner = field_at(body, inner, at)
                ration.take()
                if wire != LEN:
                    continue
                if field == 1:
                    raw_resource.append(body[start:inner])
                elif field == 2:
                    scope = _Scope(raw_resource)
                    _walk_scope(scope, body, start, inner, tags, rules, every=every)
                    ration.take(scope.count)
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
        if count > MAX_PARTS:
            break
        if tag < start:
            tag = tags.after(start)
        if tag < at:
            scope.items.append((body[start:at], _Hit.TAG))
            tag = tags.after(at)
            continue
        if rule < start:
            rule = rules.after(start)
        if rule < at:
            scope.items.append((body[start:at], _Hit.RULE))
        elif every:
            scope.items.append((body[start:at], _Hit.NONE))
    if at != end and count <= MAX_PARTS:
        raise BrokenWireError("an item ends behind its scope")
    scope.count = count


# --- from hits to candidates ---------------------------------------------------------------------------------------


def _chosen(kind: Kind, scopes: list[_Scope], hunt: Hunt, *, everything: bool) -> Prepared:
    complaints = Complaints()
    reader = LeanReader(complaints, Ration())
    traces = kind == "traces"
    parse, append = (reader.span, reader.span_signals) if traces else (reader.log, reader.log_signals)
    received = candidates = 0
    signals: list[Signal] = []
    for found in scopes:
        received += found.count
        if not found.items:
            continue
        resource = _resource(b"".join(found.raw_resource), complaints)
        scope = _scope(b"".join(found.raw), complaints)
        if resource is None or scope is None:
            for _ in found.items:
                complaints.reject(UNREADABLE_OWNER)
            continue
        rules: _Rules | None = None
        for raw, hit in found.items:
            try:
                item: Any = None
                if hit is not _Hit.TAG and not everything:
                    rules = rules or _Rules(reader, hunt, resource, scope, traces=traces)
                    item = rules.matched(raw, hit)
                    if item is None:
                        continue
                append(signals, item or parse(raw), resource, scope)
                candidates += 1
            except UnreadableError:
                complaints.reject(UNREADABLE[kind])
    decoded = complaints.decoded(signals)
    return prepared_of(decoded, skipped=received - candidates - decoded.rejected)


def _resource(raw: bytes, complaints: Complaints) -> Resource | None:
    known = _known_resource(raw) if len(raw) <= _MAX_OWNER else None
    return known or resource_from(raw, complaints)


def _scope(raw: bytes, complaints: Complaints) -> Scope | None:
    known = _known_scope(raw) if len(raw) <= _MAX_OWNER else None
    return known or scope_from(raw, complaints)


# Services send the same resource with every request: one object for it spares its decoding, and everything that the
# converter keeps by resource. Pure functions of the bytes; only what needs no mending is kept.


@functools.lru_cache(maxsize=256)
def _known_resource(raw: bytes) -> Resource | None:
    complaints = Complaints()
    found = resource_from(raw, complaints)
    return None if complaints.any else found


@functools.lru_cache(maxsize=256)
def _known_scope(raw: bytes) -> Scope | None:
    complaints = Complaints()
    found = scope_from(raw, complaints)
    return None if complaints.any else found


class _Rules:
    """The rules, asked about items of one resource and scope."""

    def __init__(self, reader: LeanReader, hunt: Hunt, resource: Resource, scope: Scope, *, traces: bool) -> None:
        needs = [(need, Texts(need.texts)) for need in hunt.needs if need.fits_around(resource, scope)]
        # Where nothing was found that rules look for, only those may match that look for nothing.
        self._needs = {_Hit.RULE: needs, _Hit.NONE: [(need, texts) for need, texts in needs if not need.hunted]}
        self._parse = reader.span if traces else reader.log
        self._head_of = reader.span_head if traces else reader.log_head
        self._resource, self._scope = resource, scope

    def matched(self, raw: bytes, hit: _Hit) -> Any | None:
        """The item, parsed, where some rule may match it.

        Raises:
            UnreadableError: It can never be read.
        """
        item: Any = None
        head: Signal | None = None
        for need, texts in self._needs[hit]:
            if not texts.are_in(raw):
                continue
            if item is None:
                item = self._parse(raw)
            if need.kind is SignalKind.SPAN_EVENT:
                if item.events:
                    return item
                continue
            if need.span_kinds and at(SPAN_KINDS, item.kind) not in need.span_kinds:
                continue
            if not need.head:
                return item
            if head is None:
                head = self._head_of(item, self._resource, self._scope)
            if all(holds(head) for holds in need.head):
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
    ration = Ration()
    ration.take(len(request.owners))
    count = 0
    for owner in request.owners:
        ration.take(len(owner.scopes))
        for scope in owner.scopes:
            count += len(scope.items)
    ration.take(count)
    return count


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
