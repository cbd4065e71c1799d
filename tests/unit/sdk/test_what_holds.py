"""What holds for the work at hand, on what is not a call: spans, span events, log records of others, exceptions."""

from __future__ import annotations

from typing import Any

import pytest
from dirty_equals import IsPartialDict
from opentelemetry import context
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from otel_posthog.context import Ambient, Work, attach_properties, current_work, new_work, working
from otel_posthog.lane.emitter import Emitter
from otel_posthog.semconv import posthog

SESSION = "01920000-0000-7000-8000-000000000001"
FULL = Ambient(
    distinct_id="u1",
    session_id=SESSION,
    window_id="w1",
    groups={"company": "acme"},
    flags={"beta": True, "checkout": "b", "old": False},
    properties={"plan": "pro"},
)
HOLDS = {
    "$session_id": SESSION,
    "$window_id": "w1",
    "$groups": {"company": "acme"},
    "$feature/beta": True,
    "$feature/checkout": "b",
    "$feature/old": False,
    "$active_feature_flags": ["beta", "checkout"],
    "plan": "pro",
    "tenant": "t1",
}
TAG = {"posthog.event": "paid"}


@pytest.fixture(autouse=True)
def own_context() -> Any:
    """What a test attaches ends with it."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


def emit_call(app: Any, name: str = "called") -> None:
    """As `capture()` does."""
    assert Emitter(app.edge).emit(name, {posthog.EVENT: name})


def only(app: Any, name: str) -> Any:
    """The one event of this name, everything settled."""
    (event,) = [event for event in app.settle() if event.event == name]
    return event


def test_a_span_and_a_call_say_the_same(app: Any) -> None:
    """An annotated span has person, session, groups, flags and super properties exactly as a call beside it."""
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL),
        attach_properties({"tenant": "t1"}),
    ):
        with app.tracer.start_as_current_span("pay", attributes=TAG):
            pass
        emit_call(app)
    paid, called = only(app, "paid"), only(app, "called")
    assert (paid.distinct_id, called.distinct_id) == ("u1", "u1")
    assert paid.properties == IsPartialDict(HOLDS)
    differ = {"$span_id", "duration_ms", "service_name"}
    assert {k: v for k, v in paid.properties.items() if k not in differ} == {
        k: v for k, v in called.properties.items() if k not in differ
    }


def test_an_annotated_log_record(app: Any) -> None:
    """So does a log record of somebody else."""
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL),
        attach_properties({"tenant": "t1"}),
    ):
        app.logger_provider.get_logger("shop").emit(LogRecord(timestamp=1_700_000_000_000_000_000, attributes=TAG))
    assert only(app, "paid").distinct_id == "u1"
    assert only(app, "paid").properties == IsPartialDict(HOLDS)


def test_a_log_record_without_a_trace(app: Any) -> None:
    """A job without spans has a unit of work, too."""
    with working(FULL), attach_properties({"tenant": "t1"}):
        app.logger_provider.get_logger("shop").emit(LogRecord(timestamp=1_700_000_000_000_000_000, attributes=TAG))
    assert only(app, "paid").distinct_id == "u1"
    assert only(app, "paid").properties == IsPartialDict(HOLDS)


def test_a_span_event(app: Any) -> None:
    """A tagged span event has what its span has, without saying so twice."""
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as span,
        working(FULL),
        attach_properties({"tenant": "t1"}),
        app.tracer.start_as_current_span("pay") as inner,
    ):
        inner.add_event("x", TAG)
        assert span is not inner
    assert only(app, "paid").distinct_id == "u1"
    assert only(app, "paid").properties == IsPartialDict(HOLDS)


def test_a_live_exception(app: Any) -> None:
    """An exception of the request has its person, groups, session, flags and super properties."""
    with (
        pytest.raises(ZeroDivisionError),
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL),
        attach_properties({"tenant": "t1"}),
        app.tracer.start_as_current_span("compute"),
    ):
        _ = 1 / 0
    event = only(app, "$exception")
    assert event.distinct_id == "u1"
    assert event.properties == IsPartialDict(HOLDS)
    assert event.properties["$exception_list"][0]["type"] == "ZeroDivisionError"


def test_a_logged_exception(app: Any) -> None:
    """So has one that only a log record tells of."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER), working(FULL):
        try:
            _ = 1 / 0
        except ZeroDivisionError as error:
            record = LogRecord(
                timestamp=1_700_000_000_000_000_000,
                severity_number=SeverityNumber.ERROR,
                body="broken",
                attributes={"exception.type": "ZeroDivisionError", "exception.message": str(error)},
            )
            app.logger_provider.get_logger("shop").emit(record)
    event = only(app, "$exception")
    assert event.distinct_id == "u1"
    assert event.properties == IsPartialDict({k: v for k, v in HOLDS.items() if k != "tenant"})


def test_the_item_wins(app: Any) -> None:
    """What a span says itself is not touched: person, session, a group, a flag, a property."""
    own = {
        "user.id": "u2",
        "session.id": "mine",
        "posthog.groups.company": "other",
        "posthog.properties.$feature/beta": "own",
        "posthog.properties.plan": "free",
        "posthog.properties.tenant": "t2",
    }
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL),
        attach_properties({"tenant": "t1"}),
        app.tracer.start_as_current_span("pay", attributes={**TAG, **own}),
    ):
        pass
    event = only(app, "paid")
    assert event.distinct_id == "u2"
    assert event.properties == IsPartialDict(
        {
            "session_id": "mine",
            "$groups": {"company": "other"},
            "$feature/beta": "own",
            "plan": "free",
            "tenant": "t2",
        }
    )
    assert "$session_id" not in event.properties


def test_a_rule_wins(build: Any) -> None:
    """The person that a rule reads from the item is nearer to it than who is signed in."""
    app = build(
        rules="""
version: 1
rules:
  - name: shipped
    match: {kind: span, name: ship}
    capture: {event: shipped}
    distinct_id: "{customer}"
"""
    )
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(Ambient(distinct_id="admin")),
        app.tracer.start_as_current_span("ship", attributes={"customer": "c7"}),
    ):
        pass
    assert only(app, "shipped").distinct_id == "c7"


def test_flags_only_after_their_evaluation(app: Any) -> None:
    """A span that ended before the flag was asked for did not happen under it; one that was still open did."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes={"posthog.event": "visited"}):
        with app.tracer.start_as_current_span("a", attributes={"posthog.event": "before"}):
            pass
        current_work().change(flags={"beta": True})
        with app.tracer.start_as_current_span("b", attributes={"posthog.event": "after"}):
            pass
    flags = {event.event: event.properties.get("$feature/beta") for event in app.settle()}
    assert flags == {"before": None, "after": True, "visited": True}


def test_super_properties_end_with_their_block(app: Any) -> None:
    """They hold for spans that start inside, also where those end outside, and for no other."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        with attach_properties({"tenant": "t1"}):
            late = app.tracer.start_span("late", attributes={"posthog.event": "late"})
            with (
                attach_properties({"step": 2}),
                app.tracer.start_as_current_span("x", attributes={"posthog.event": "in"}),
            ):
                pass
        late.end()
        with app.tracer.start_as_current_span("y", attributes={"posthog.event": "out"}):
            pass
    found = {
        event.event: {k: v for k, v in event.properties.items() if k in ("tenant", "step")} for event in app.settle()
    }
    assert found == {"in": {"tenant": "t1", "step": 2}, "late": {"tenant": "t1"}, "out": {}}


def test_work_in_a_child_holds_for_the_whole_trace(app: Any) -> None:
    """Who signs in inside a child span is the person of the rest of the request, and of its root."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes={"posthog.event": "visited"}):
        with app.tracer.start_as_current_span("early", attributes={"posthog.event": "early"}):
            pass
        with app.tracer.start_as_current_span("login"):
            current_work().change(distinct_id="u1", groups={"company": "acme"})
        with app.tracer.start_as_current_span("pay", attributes=TAG):
            pass
        emit_call(app)
    found = {event.event: (event.distinct_id, event.properties.get("$groups")) for event in app.settle()}
    acme = {"company": "acme"}
    assert found == {
        "early": ("u1", None),
        "paid": ("u1", acme),
        "called": ("u1", acme),
        "visited": ("u1", acme),
    }


def test_who_is_found_out_without_any_item_of_its_own(app: Any) -> None:
    """The root's end tells who the request was for, also where nothing was captured after that was known."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        with app.tracer.start_as_current_span("pay", attributes=TAG):
            pass
        with app.tracer.start_as_current_span("login"):
            current_work().change(distinct_id="u1")
    assert only(app, "paid").distinct_id == "u1"


def test_the_next_trace_knows_nothing(app: Any) -> None:
    """Work that nobody ended is over with its trace: the next request on this thread is somebody else's."""
    with app.tracer.start_as_current_span("first", kind=SpanKind.SERVER):
        current_work().change(distinct_id="u1", groups={"company": "acme"})
    with app.tracer.start_as_current_span("second", kind=SpanKind.SERVER, attributes=TAG):
        pass
    event = only(app, "paid")
    assert event.properties["$process_person_profile"] is False
    assert "$groups" not in event.properties


def visit(app: Any, trace_id: int, number: int) -> Any:
    """A local root that another service began."""
    remote = SpanContext(trace_id, number, True, TraceFlags(1))
    return app.tracer.start_span(
        "visit", set_span_in_context(NonRecordingSpan(remote)), kind=SpanKind.SERVER, attributes={"posthog.event": "v"}
    )


def test_the_next_visit_of_a_trace_knows_nothing(app: Any) -> None:
    """A trace that comes again, for another request, brings nothing from the first."""
    found = []
    for number, user in ((1, "u1"), (2, "")):
        span = visit(app, 0xAB, number)
        token = context.attach(set_span_in_context(span))
        if user:
            current_work().change(groups={"company": "acme"})
        context.detach(token)
        span.end()
        found.append(app.settle()[-1].properties.get("$groups"))
    assert found == [{"company": "acme"}, None]


def test_two_visits_at_once_conclude_nothing(app: Any) -> None:
    """Two requests of one trace at the same time: what one learns stays with its own context."""
    one, two = visit(app, 0xCD, 1), visit(app, 0xCD, 2)
    with working_in(one, Ambient(distinct_id="u1", groups={"company": "acme"})):
        app.tracer.start_span("a", set_span_in_context(one), attributes={"posthog.event": "one's"}).end()
    with working_in(two, Ambient(distinct_id="u2", groups={"company": "other"})):
        pass
    one.end()
    two.end()
    found = [(event.event, event.distinct_id, event.properties.get("$groups")) for event in app.settle()]
    assert found[0] == ("one's", "u1", {"company": "acme"})
    assert [groups for _, _, groups in found[1:]] == [None, None]
    assert not {"u1", "u2"} & {who for _, who, _ in found[1:]}


def working_in(span: Any, ambient: Ambient) -> Any:
    """`working` with this span as the current one."""
    import contextlib

    @contextlib.contextmanager
    def block() -> Any:
        token = context.attach(set_span_in_context(span))
        try:
            with working(ambient) as work:
                yield work
        finally:
            context.detach(token)

    return block()


def test_messages_of_a_batch(app: Any) -> None:
    """Each message of one trace has its own; the span around them has none."""
    with app.tracer.start_as_current_span("batch", kind=SpanKind.CONSUMER, attributes={"posthog.event": "batch"}):
        for number in (1, 2):
            with (
                working(Ambient(distinct_id=f"u{number}", groups={"company": f"c{number}"})),
                app.tracer.start_as_current_span("m", kind=SpanKind.CONSUMER, attributes={"posthog.event": "message"}),
            ):
                pass
    found = sorted((e.event, e.distinct_id, str(e.properties.get("$groups"))) for e in app.settle())
    assert found[1:] == [("message", "u1", "{'company': 'c1'}"), ("message", "u2", "{'company': 'c2'}")]
    assert found[0][2] == "None"


def test_after_a_logout(app: Any) -> None:
    """What follows a logout is one anonymous visitor's without a profile, what came before stays the person's."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes={"posthogDistinctId": "u1"}):
        work = current_work()
        work.change(distinct_id="u1", groups={"company": "acme"}, session_id=SESSION)
        with app.tracer.start_as_current_span("a", attributes={"posthog.event": "before"}):
            pass
        work.reset()
        for name in ("after", "again"):
            with app.tracer.start_as_current_span("b", attributes={"posthog.event": name}):
                pass
        emit_call(app)
        with app.tracer.start_as_current_span("c", attributes={"posthog.event": "stated", "user.id": "u3"}):
            pass
    events = {event.event: event for event in app.settle()}
    fresh = work.ambient.anonymous_id
    assert {name: event.distinct_id for name, event in events.items()} == {
        "before": "u1",
        "after": fresh,
        "again": fresh,
        "called": fresh,
        "stated": "u3",
    }
    for name in ("after", "again", "called"):
        assert events[name].properties["$process_person_profile"] is False
        assert "$groups" not in events[name].properties
        assert "$session_id" not in events[name].properties
    assert "$process_person_profile" not in events["before"].properties


def test_a_login_after_a_logout(app: Any) -> None:
    """Who signs in after somebody has signed out is that person from then on."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        work = current_work()
        for user in ("u1", "u2"):
            work.reset()
            work.change(distinct_id=user)
            with app.tracer.start_as_current_span("a", attributes={"posthog.event": user}):
                pass
    assert {event.event: event.distinct_id for event in app.settle()} == {"u1": "u1", "u2": "u2"}


def test_an_anonymous_visitor(app: Any) -> None:
    """The stable id of a visitor whom nobody knows holds for spans, until somebody is known."""
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(Ambient(anonymous_id="anon-1")) as work,
    ):
        with app.tracer.start_as_current_span("a", attributes={"posthog.event": "seen"}):
            pass
        assert only(app, "seen").distinct_id == "anon-1"
        work.change(distinct_id="u1")
        with app.tracer.start_as_current_span("b", attributes=TAG):
            pass
    assert only(app, "paid").distinct_id == "u1"


def test_a_started_event(app: Any) -> None:
    """The event of a start has what held at that moment."""
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL) as work,
        attach_properties({"tenant": "t1"}),
        app.tracer.start_as_current_span("job", attributes={"posthog.event": "job started", "posthog.on": "start"}),
    ):
        work.change(groups={"company": "later"})
    event = only(app, "job started")
    assert event.distinct_id == "u1"
    assert event.properties == IsPartialDict(HOLDS)


def test_quiet_spans_are_left_alone(app: Any) -> None:
    """Work and super properties put nothing on the telemetry of the app itself."""
    ended: list[Any] = []
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    app.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        app.tracer.start_as_current_span("request", kind=SpanKind.SERVER),
        working(FULL),
        attach_properties({"tenant": "t1"}),
        app.tracer.start_as_current_span("pay", attributes=TAG),
    ):
        pass
    ended.extend(exporter.get_finished_spans())
    assert {span.name: dict(span.attributes) for span in ended} == {"pay": TAG, "request": {}}


def test_traces_are_bounded() -> None:
    """However many traces there are, only so many are remembered."""
    from otel_posthog.context.traces import _KEPT, Traces

    traces = Traces()
    for trace_id in range(1, _KEPT + 100):
        traces.began(trace_id, Work(trace_id=trace_id))
    assert len(traces.works) == _KEPT
    assert traces.of(1) is None
    assert traces.of(_KEPT + 99) is not None


def test_a_work_of_its_own_goes_on_with_what_the_trace_brought(app: Any) -> None:
    """A framework's unit of work begins with what is known of its trace, and adds to it."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes=TAG):
        current_work().change(groups={"company": "acme", "team": "a"}, flags={"beta": True})
        with working(Ambient(distinct_id="u1", groups={"team": "b"})) as work:
            assert work.ambient == Ambient(
                distinct_id="u1", groups={"company": "acme", "team": "b"}, flags={"beta": True}
            )
    event = only(app, "paid")
    assert (event.distinct_id, event.properties["$groups"]) == ("u1", {"company": "acme", "team": "b"})


def test_a_scope_inside_of_a_request(app: Any) -> None:
    """What ends in a scope is the scope's, as a call there is; neither says who the other is for."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER), working(FULL):
        for name, ambient in (("job", Ambient(distinct_id="u2", groups={"company": "c2"})), ("plain", Ambient())):
            token = context.attach(new_work(ambient, context.get_current()))
            emit_call(app, f"{name} call")
            with app.tracer.start_as_current_span("x", attributes={"posthog.event": f"{name} span"}):
                pass
            record = LogRecord(timestamp=1_700_000_000_000_000_000, attributes={"posthog.event": f"{name} log"})
            app.logger_provider.get_logger("shop").emit(record)
            context.detach(token)
        with app.tracer.start_as_current_span("y", attributes={"posthog.event": "request's"}):
            pass
    found = {
        event.event: (
            "" if event.properties.get("$process_person_profile") is False else event.distinct_id,
            event.properties.get("$groups"),
        )
        for event in app.settle()
    }
    c2 = {"company": "c2"}
    assert found == {
        "job call": ("u2", c2),
        "job span": ("u2", c2),
        "job log": ("u2", c2),
        "plain call": ("", None),
        "plain span": ("", None),
        "plain log": ("", None),
        "request's": ("u1", {"company": "acme"}),
    }
