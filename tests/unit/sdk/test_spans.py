# ruff: noqa: SIM117, RUF012 - nested blocks show the trace; a stand-in needs no more than class attributes
"""Spans through a real provider: what is captured, whose it is, and what is left alone."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.sdk.processor import PostHogSpanProcessor

REMOTE = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))


def remote_parent(trace_id: int = 0xABC) -> Any:
    """A context whose parent span is in another process."""
    return trace.set_span_in_context(
        NonRecordingSpan(SpanContext(trace_id, 0xDEF, is_remote=True, trace_flags=TraceFlags(1)))
    )


def test_a_tagged_span_is_one_event_of_its_person(app: Any) -> None:
    """Name, person, properties, time and sampling stamp come from the span."""
    with app.tracer.start_as_current_span("pay") as span:
        span.set_attributes({"posthog.event": "order paid", "posthog.distinct_id": "u1"})
        span.set_attribute("posthog.properties.total", 12.5)
    [event] = app.settle()
    assert (event.event, event.distinct_id, event.timestamp_ns) == ("order paid", "u1", span.end_time)
    assert event.properties["total"] == 12.5
    assert event.properties["trace_sampled"] is True


def test_a_quiet_span_is_not_even_looked_at(app: Any) -> None:
    """Spans without tag, event or identity never reach the worker."""
    with app.tracer.start_as_current_span("quiet", attributes={"http.method": "GET"}):
        with app.tracer.start_as_current_span("quieter"):
            pass
    assert app.settle() == []
    assert app.edge.worker.stats().handed_over == 0


@pytest.mark.parametrize(
    "key",
    ["posthog.set.plan", "posthog.set_once.first", "posthog.unset", "posthog.alias", "posthog.anon_distinct_id"],
)
def test_every_tag_that_makes_the_converter_act_is_seen(app: Any, key: str) -> None:
    """An update without an event is handed over too."""
    with app.tracer.start_as_current_span("x", attributes={"posthog.distinct_id": "u1", key: "value"}):
        pass
    assert len(app.settle()) == 1


def test_group_updates_are_seen(app: Any) -> None:
    """A group property alone makes a `$groupidentify`."""
    attributes = {"posthog.groups.company": "acme", "posthog.group_set.company.plan": "big"}
    with app.tracer.start_as_current_span("x", attributes=attributes):
        pass
    assert app.names == ["$groupidentify"]


def test_an_ignored_span_is_no_event_and_marks_no_exception(app: Any) -> None:
    """`posthog.ignore` leaves the exception to whoever else wants it."""
    error = ValueError("private")
    with pytest.raises(ValueError), app.tracer.start_as_current_span("x") as span:
        span.set_attributes({"posthog.event": "e", "posthog.ignore": True})
        raise error
    assert app.settle() == []
    assert app.reasons() == {"ignored": 1}
    assert not hasattr(error, "__posthog_exception_captured")


def test_a_tagged_span_event_is_an_event_of_its_span_s_person(app: Any) -> None:
    """Span events are items of their own and borrow the identity of their span."""
    with app.tracer.start_as_current_span("x", attributes={"user.id": "u1"}) as span:
        span.add_event("clicked", {"posthog.event": "clicked"})
        span.add_event("other", {"a": 1})
    [event] = app.settle()
    assert (event.event, event.distinct_id) == ("clicked", "u1")
    assert app.reasons() == {}


# --- identity ------------------------------------------------------------------------------------------------------


def test_late_identity_of_the_root_reaches_a_child_that_ended_before(app: Any) -> None:
    """A child that ended before the login was known belongs to the person all the same, and is captured once."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        with app.tracer.start_as_current_span("buy", attributes={"posthog.event": "bought"}):
            pass
        assert app.arrived() == []
        request.set_attribute("user.id", "u7")
    [event] = app.arrived()
    assert (event.event, event.distinct_id) == ("bought", "u7")


def test_late_identity_comes_from_a_sibling_that_only_states_it(app: Any) -> None:
    """An un-annotated span that learns the user is a witness, and no event itself."""
    with app.tracer.start_as_current_span("request"):
        with app.tracer.start_as_current_span("auth") as auth:
            auth.set_attribute("enduser.id", "u8")
        with app.tracer.start_as_current_span("buy", attributes={"posthog.event": "bought"}):
            pass
    [event] = app.settle()
    assert event.distinct_id == "u8"
    assert app.reasons() == {}


def test_two_persons_in_one_trace_are_never_mixed(app: Any) -> None:
    """Where the trace names two people, an item without a person of its own stays without one."""
    with app.tracer.start_as_current_span("request"):
        for person in ("u1", "u2"):
            with app.tracer.start_as_current_span("act", attributes={"posthog.event": "own", "user.id": person}):
                pass
        with app.tracer.start_as_current_span("act", attributes={"posthog.event": "whose"}):
            pass
    events = {event.event + event.distinct_id: event for event in app.settle()}
    assert {"ownu1", "ownu2"} < set(events)
    [unknown] = [event for event in app.delivery.events if event.event == "whose"]
    assert unknown.distinct_id not in {"u1", "u2"}
    assert unknown.properties["$process_person_profile"] is False


def test_an_item_without_root_is_released_after_the_wait(app: Any) -> None:
    """A root that runs for hours does not hold events back."""
    root = app.tracer.start_span("worker loop")
    with trace.use_span(root):
        with app.tracer.start_as_current_span("job", attributes={"posthog.event": "done"}):
            pass
    assert app.arrived() == []
    app.clock.now += 1.9
    assert app.arrived() == []
    app.clock.now += 0.2
    assert [event.event for event in app.arrived()] == ["done"]
    root.end()
    assert len(app.settle()) == 1


def test_the_cap_releases_the_oldest_trace(build: Any) -> None:
    """Memory is bounded: beyond the cap the oldest trace goes as it is."""
    app = build(identity=IdentityConfig(late_cap=3))
    roots = [app.tracer.start_span("root", context=context.Context()) for _ in range(5)]
    for root in roots:
        with trace.use_span(root):
            with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}):
                pass
    assert len(app.arrived()) >= 2
    for root in roots:
        root.end()
    assert len(app.settle()) == 5


def test_no_waiting_where_it_is_off(build: Any) -> None:
    """`late_wait` 0 converts at once."""
    app = build(identity=IdentityConfig(late_wait=0))
    with app.tracer.start_as_current_span("root"):
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}):
            pass
        assert len(app.arrived()) == 1


def test_messages_of_one_trace_at_work_at_once_keep_their_persons_apart(app: Any) -> None:
    """A consumer takes two messages of one trace in parallel: one message's person is not the other's."""
    first = app.tracer.start_span("consume", context=remote_parent(), kind=SpanKind.CONSUMER)
    second = app.tracer.start_span("consume", context=remote_parent(), kind=SpanKind.CONSUMER)
    with trace.use_span(first):
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "whose"}):
            pass
    second.set_attribute("user.id", "somebody else")
    second.end()
    first.end()
    [event] = app.settle()
    assert event.distinct_id != "somebody else"


def test_a_trace_from_outside_may_visit_again_for_somebody_else(app: Any) -> None:
    """The person of the first visit says nothing about the second."""
    with app.tracer.start_as_current_span("one", context=remote_parent()) as one:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "first"}):
            pass
        one.set_attribute("user.id", "u1")
    app.arrived()
    with app.tracer.start_as_current_span("two", context=remote_parent()):
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "second"}):
            pass
    people = {event.event: event.distinct_id for event in app.settle()}
    assert people["first"] == "u1"
    assert people["second"] != "u1"


def test_work_that_outlives_its_request_keeps_the_person(app: Any) -> None:
    """A background task that ends after its root is not made to wait, and knows the person."""
    root = app.tracer.start_span("request")
    with trace.use_span(root):
        late = app.tracer.start_span("mail", attributes={"posthog.event": "mailed"})
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}):
            pass
    root.set_attribute("user.id", "u1")
    root.end()
    assert [event.distinct_id for event in app.arrived()] == ["u1"]
    late.end()
    assert [event.distinct_id for event in app.arrived()] == ["u1", "u1"]


def test_identity_is_stamped_on_children_and_grandchildren(app: Any) -> None:
    """Spans started below a span with a person carry PostHog's linking keys."""
    with app.tracer.start_as_current_span("request") as request:
        request.set_attributes({"user.id": "u1", "session.id": "s1"})
        with app.tracer.start_as_current_span("child") as child:
            with app.tracer.start_as_current_span("grandchild") as grandchild:
                pass
    for span in (child, grandchild):
        assert span.attributes == {"posthogDistinctId": "u1", "sessionId": "s1"}
    assert "posthogDistinctId" not in request.attributes


def test_start_attributes_link_the_span_itself(app: Any) -> None:
    """A person known at the start is stamped in PostHog's spelling beside the app's own."""
    with app.tracer.start_as_current_span("x", attributes={"posthog.distinct_id": "u1"}) as span:
        pass
    assert span.attributes == {"posthog.distinct_id": "u1", "posthogDistinctId": "u1"}


def test_allow_listed_baggage_is_stamped(app: Any) -> None:
    """Baggage names the person of spans and events, unlisted members do not."""
    ctx = baggage.set_baggage("posthog.distinct_id", "u1", baggage.set_baggage("secret", "x"))
    token = context.attach(ctx)
    try:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}) as span:
            pass
    finally:
        context.detach(token)
    assert span.attributes == {"posthog.event": "e", "posthogDistinctId": "u1"}
    assert [event.distinct_id for event in app.settle()] == ["u1"]


@pytest.mark.parametrize("value", ["anonymous", "", "x" * 300, "a\nb", "null", "0"])
def test_a_baggage_id_that_names_nobody_is_not_stamped(app: Any, value: str) -> None:
    """Illegal, over-long and unprintable ids from the wire count as absent."""
    with app.tracer.start_as_current_span("x", context=baggage.set_baggage("user.id", value)) as span:
        pass
    assert span.attributes == {}


def test_baggage_can_be_switched_off(build: Any) -> None:
    """With an empty allow-list nothing is read from baggage."""
    app = build(identity=IdentityConfig(baggage_keys=()))
    with app.tracer.start_as_current_span("x", context=baggage.set_baggage("user.id", "u1")) as span:
        pass
    assert span.attributes == {}


def test_what_an_item_states_wins_over_baggage(app: Any) -> None:
    """A login that the span learns of beats the id that the caller sent along."""
    with app.tracer.start_as_current_span("x", context=baggage.set_baggage("user.id", "guest-7")) as span:
        span.set_attributes({"posthog.event": "e", "user.id": "u1"})
    assert [event.distinct_id for event in app.settle()] == ["u1"]


def test_what_the_trace_states_wins_over_baggage(app: Any) -> None:
    """The same, when another span of the trace learns of it."""
    ctx = baggage.set_baggage("posthog.distinct_id", "anon-1")
    with app.tracer.start_as_current_span("request", context=ctx) as request:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}) as child:
            pass
        request.set_attribute("user.id", "u1")
    assert child.attributes["posthogDistinctId"] == "anon-1"
    assert [event.distinct_id for event in app.settle()] == ["u1"]


def test_captured_headers_name_the_person_of_the_whole_request(app: Any) -> None:
    """Headers that an instrumentation captured on the root after its start reach children and the root's own event."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        request.set_attribute("http.request.header.x_posthog_distinct_id", ["browser-1"])
        request.set_attribute("http.request.header.x_posthog_session_id", ["s-1"])
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}) as child:
            pass
    assert child.attributes["posthogDistinctId"] == "browser-1"
    assert child.attributes["sessionId"] == "s-1"
    assert [event.distinct_id for event in app.settle()] == ["browser-1"]


def test_headers_can_be_switched_off(build: Any) -> None:
    """Without `headers` a client's claim is not inherited."""
    app = build(identity=IdentityConfig(headers=False))
    with app.tracer.start_as_current_span("request") as request:
        request.set_attribute("http.request.header.x_posthog_distinct_id", ["browser-1"])
        with app.tracer.start_as_current_span("child") as child:
            pass
    assert child.attributes == {}


def test_identity_follows_a_thread_and_a_task(app: Any) -> None:
    """Context that is carried into a thread or a task carries the identity."""
    seen: list[Any] = []

    def work(ctx: Any) -> None:
        with app.tracer.start_as_current_span("thread", context=ctx) as span:
            seen.append(span)

    async def task() -> None:
        with app.tracer.start_as_current_span("task") as span:
            seen.append(span)
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(task(), task())

    with app.tracer.start_as_current_span("request", attributes={"user.id": "u1"}):
        thread = threading.Thread(target=work, args=(context.get_current(),))
        thread.start()
        thread.join()
        asyncio.run(main())
    assert [span.attributes["posthogDistinctId"] for span in seen] == ["u1", "u1", "u1"]


# --- start ---------------------------------------------------------------------------------------------------------


def test_a_started_event_leaves_at_the_start_and_not_again(app: Any) -> None:
    """`posthog.on: start` is captured before the span ends, with the start as its time, once."""
    span = app.tracer.start_span("import", attributes={"posthog.event": "import started", "posthog.on": "start"})
    [event] = app.settle()
    assert (event.event, event.timestamp_ns) == ("import started", span.start_time)
    span.end()
    assert len(app.settle()) == 1


def test_a_start_tag_that_comes_late_is_captured_at_the_end(app: Any) -> None:
    """What was not known at the start is not lost."""
    with app.tracer.start_as_current_span("import") as span:
        span.set_attributes({"posthog.event": "import started", "posthog.on": "start"})
    assert app.names == ["import started"]


RULES = """
version: 1
rules:
  - name: long job
    match: {kind: span, name: job}
    on: start
    capture: {event: job started}
  - name: order
    match: {kind: span, name: order}
    capture: {event: order placed}
"""


def test_rules_reach_untagged_spans(build: Any) -> None:
    """A rule captures an untagged span at its end, and one with `on: start` at its start, each once."""
    app = build(rules=RULES)
    job = app.tracer.start_span("job")
    assert app.names == ["job started"]
    job.end()
    with app.tracer.start_as_current_span("order"):
        pass
    with app.tracer.start_as_current_span("other"):
        pass
    assert app.names == ["job started", "order placed"]
    assert app.edge.worker.stats().signals == 2


def test_a_rule_on_the_status_leaves_other_spans_alone(build: Any) -> None:
    """A span of the rule's scope that went well is not even handed over; one that failed is an event."""
    app = build(
        rules="""
version: 1
rules:
  - name: failed
    match: {kind: span, scope: shop, status: error}
    capture: {event: failed}
"""
    )
    for status in (StatusCode.UNSET, StatusCode.OK, StatusCode.ERROR):
        with app.tracer.start_as_current_span("order") as span:
            span.set_status(status)
    assert app.names == ["failed"]
    assert app.edge.worker.stats().handed_over == 1


def test_rules_follow_a_reload(build: Any) -> None:
    """Rules that come later reach the processors that are there."""
    from otel_posthog.config.settings import ConvertConfig
    from otel_posthog.convert import Converter

    ruled = build(rules=RULES)
    app = build()
    app.runtime.bridge.replace(Converter(ConvertConfig(), ruled.runtime.rules))
    with app.tracer.start_as_current_span("order"):
        pass
    assert app.names == ["order placed"]


# --- trouble -------------------------------------------------------------------------------------------------------


def test_what_is_made_while_telemetry_is_suppressed_is_ours_and_not_captured(app: Any) -> None:
    """Spans that end in a suppressed context are about telemetry."""
    span = app.tracer.start_span("x", attributes={"posthog.event": "e"})
    token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    span.end()
    context.detach(token)
    assert app.settle() == []


def test_a_failure_of_ours_stays_with_us(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside tests a defect in a callback costs an event, never the request."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    monkeypatch.setattr(app.edge.worker, "hand_over", lambda *_: 1 / 0)
    with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}):
        pass
    assert app.runtime.guard.counts() == {"sdk.on_end": 1}


def test_a_span_of_another_sdk_is_read_by_its_public_face(app: Any) -> None:
    """Where the private attributes are not there, the public ones are."""

    class Foreign:
        name = "foreign"
        kind = SpanKind.INTERNAL
        parent = None
        attributes = {"posthog.event": "e", "posthog.distinct_id": "u1"}
        events = ()
        links = ()
        resource = app.tracer_provider.resource
        instrumentation_scope = None
        status = None
        start_time = 5
        end_time = 6

        def get_span_context(self) -> SpanContext:
            return SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1))

    app.spans.on_start(Foreign())
    app.spans.on_end(Foreign())
    [event] = app.settle()
    assert (event.event, event.distinct_id, event.timestamp_ns) == ("e", "u1", 6)


def test_a_full_buffer_is_counted(build: Any) -> None:
    """What does not fit is lost, and says so."""
    app = build(capacity=10)
    app.edge.worker._awake = True  # nobody drains
    for _ in range(25):
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e"}):
            pass
    stats = app.edge.worker.stats()
    assert (stats.handed_over, stats.overflowed, stats.waiting) == (25, 15, 10)
    assert len(app.settle()) == 10


def test_a_delivery_without_room_is_asked_again(app: Any) -> None:
    """Events wait here while the queue of delivery is full."""
    app.delivery.room = 1
    for name in ("one", "two", "three"):
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": name}):
            pass
    assert [event.event for event in app.arrived()] == ["one"]
    assert not app.edge.worker.settle(0.0)
    app.delivery.room = 10
    assert app.names == ["one", "two", "three"]
    assert app.edge.worker.stats().waiting == 0


def test_plain_code_without_a_gate_costs_nothing() -> None:
    """Without endpoint and token the processor is there and does nothing."""
    before = set(threading.enumerate())
    processor = PostHogSpanProcessor()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    with provider.get_tracer("x").start_as_current_span("x", attributes={"posthog.event": "e"}):
        pass
    assert processor.force_flush()
    provider.shutdown()
    assert not set(threading.enumerate()) - before
