"""The short ways of the worker's thread give what the careful ones give: reading, expanding, settling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from otel_posthog.lane.identity import CLAIMS, InheritedId
from otel_posthog.lane.readable import Reader
from otel_posthog.lane.waiting import Item, Waiting, plain_local
from otel_posthog.lane.worker import RootEnded
from otel_posthog.model import Resource, Scope, Signal, SignalKind

REMOTE = SpanContext(0x1234567890ABCDEF, 0x99, True, TraceFlags(1))
LOCAL = SpanContext(0x1234567890ABCDEF, 0x99, False, TraceFlags(1))
TAG = {"posthog.event": "order paid", "posthog.distinct_id": "ada"}


def sdk_span(attributes: dict[str, Any], parent: SpanContext | None = None, **options: Any) -> ReadableSpan:
    """An ended span of the SDK, as processors get it."""
    provider = TracerProvider(resource=SdkResource({"service.name": "shop"}), shutdown_on_exit=False)
    context = set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None
    span = provider.get_tracer("lib", "1.2").start_span("pay", context, attributes=attributes, **options)
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.end()
    return span._readable_span()


@pytest.mark.parametrize("unread", [frozenset[str](), CLAIMS])
@pytest.mark.parametrize("parent", [None, LOCAL, REMOTE])
@pytest.mark.parametrize(
    ("attributes", "options"),
    [
        (TAG, {"kind": SpanKind.SERVER}),
        ({**TAG, "list": ("a", 1), "http.request.header.x_posthog_distinct_id": ("bob",)}, {"kind": SpanKind.CONSUMER}),
        ({}, {"links": [Link(SpanContext(5, 6, is_remote=True), {"why": ("batch",)})]}),
    ],
)
def test_private_and_public_reading_agree(
    attributes: dict[str, Any], options: dict[str, Any], parent: SpanContext | None, unread: frozenset[str]
) -> None:
    """What is read from behind the SDK's properties is what the properties say."""
    span = sdk_span(attributes, parent, **options)
    reader = Reader({"os.type": "linux"}, unread=unread)
    assert reader.span(span) == reader._foreign_span(span, None)


def test_a_span_of_another_class_is_read_by_what_is_public() -> None:
    """A span without the SDK's private attributes costs more, and is the same Signal."""
    span = sdk_span(TAG, REMOTE)

    class Foreign:
        name, kind, parent, status = span.name, span.kind, span.parent, span.status
        attributes, resource, links = span.attributes, span.resource, span.links
        start_time, end_time, instrumentation_scope = span.start_time, span.end_time, span.instrumentation_scope
        context = span.context

    reader = Reader()
    assert reader.span(Foreign()) == reader.span(span)


@pytest.mark.parametrize("parent", [None, LOCAL, REMOTE])
@pytest.mark.parametrize(
    "attributes", [TAG, {**TAG, "posthogDistinctId": InheritedId("bob")}, {**TAG, "http.route": "/", "posthog.on": "x"}]
)
def test_a_tagged_span_is_expanded_alike(app: Any, attributes: dict[str, Any], parent: SpanContext | None) -> None:
    """Signal, stamp, sampling and the end of the root: the same by both ways."""
    span = sdk_span(attributes, parent)
    span._attributes._dict.update(attributes)  # type: ignore[union-attr]  # the stamp's type survives no setter
    (short,) = app.spans._expand_end((span, None, False, None))
    item, *ended = app.spans._expand_carefully((span, None, False, None))
    said = (short.signal, short.inherited, short.convert, short.sampled)
    assert said == (item.signal, item.inherited, item.convert, item.sampled)
    roots = [] if short.ends is None else [RootEnded(short.signal.trace_id, only_root=short.ends)]
    assert roots == ended


# --- settling ------------------------------------------------------------------------------------------------------

ATTRIBUTES = st.sampled_from(
    [
        TAG,
        {**TAG, "posthog.distinct_id": "bob"},
        {"posthog.event": "seen"},
        {"posthog.event": "seen", "posthogDistinctId": "eve"},
        {**TAG, "posthogDistinctId": "eve"},
        {"posthog.event": "seen", "http.request.header.x_posthog_distinct_id": ["mallory"]},
    ]
)
STEPS = st.lists(
    st.tuples(st.sampled_from(["root", "visit", "child", "late"]), st.sampled_from("ab"), ATTRIBUTES, st.booleans()),
    max_size=12,
)


def stated(signal: Signal) -> str:
    """Who the signal says it is, as the converter reads it."""
    for key in ("posthog.distinct_id", "posthogDistinctId"):
        if key in signal.attributes:
            return str(signal.attributes[key])
    claimed = signal.attributes.get("http.request.header.x_posthog_distinct_id")
    return claimed[0] if claimed else ""


def waiting(wait: float, shared: bool) -> Waiting:
    """A fresh one, with room: beyond the cap, one that never waits pushes nobody out, and one that does may."""
    return Waiting(wait=wait, cap=100, identify=stated, shared=lambda trace_id: shared and trace_id == "b")


@given(STEPS, st.sampled_from([0.0, 2.0]), st.booleans())
def test_a_root_alone_is_settled_as_one_that_waits(
    steps: list[tuple[str, str, dict[str, Any], bool]], wait: float, shared: bool
) -> None:
    """`add` of a root gives what `add` and `root_ended` give, whatever came before, and leaves the same behind."""
    short, careful = waiting(wait, shared), waiting(wait, shared)
    now = 0.0
    for what, trace_id, attributes, inherited in steps:
        now += 1.0
        signal = Signal(SignalKind.SPAN, "pay", attributes, Resource({}), Scope(), trace_id, local=plain_local(True))
        item = Item(signal, inherited and "posthogDistinctId" in attributes, True, True)
        ends = {"root": True, "visit": False}.get(what)
        found = list(short.add(replace(item, ends=ends), now))
        expected = list(careful.add(item, now))
        if ends is not None:
            expected += careful.root_ended(trace_id, only_root=ends)
        if what == "late":
            found, expected = [*found, *short.due(now)], [*expected, *careful.due(now)]
        assert found == expected
        assert (len(short), tuple(short.traces())) == (len(careful), tuple(careful.traces()))
    assert short.release_all() == careful.release_all()
