"""Whose event is it: long traces, several users in one trace, messages, and nothing sent twice."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from otel_posthog.config.settings import IdentityConfig
from otel_posthog.sdk.exporter import PostHogSpanExporter
from otel_posthog.sdk.log_exporter import PostHogLogRecordExporter
from otel_posthog.sdk.processor import PostHogSpanProcessor

REMOTE = SpanContext(0x1234567890ABCDEF, 0x99, True, TraceFlags(1))


def who(app: Any) -> dict[str, str]:
    """Event name -> distinct id, "" for nobody; everything settled."""
    return {
        event.event: "" if event.properties.get("$process_person_profile") is False else event.distinct_id
        for event in app.settle()
    }


def test_a_long_request_stays_the_person_s(app: Any) -> None:
    """Who signed in at the start of a long trace is still who buys long after the wait, and after its end."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        with app.tracer.start_as_current_span("login", attributes={"posthog.event": "signed in", "user.id": "u1"}):
            pass
        app.arrived()
        app.clock.now += 10
        assert [event.event for event in app.arrived()] == ["signed in"]
        with app.tracer.start_as_current_span("pay", attributes={"posthog.event": "paid"}):
            pass
        app.arrived()
        app.clock.now += 10
        app.arrived()
        with app.tracer.start_as_current_span("mail", attributes={"posthog.event": "mailed"}):
            pass
    assert who(app) == {"signed in": "u1", "paid": "u1", "mailed": "u1"}


def test_a_second_person_in_a_long_request_ends_the_guess(app: Any) -> None:
    """From the moment that two are known, nobody is guessed."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER):
        for user in ("u1", "u2"):
            with app.tracer.start_as_current_span("a", attributes={"posthog.event": user, "user.id": user}):
                pass
            app.arrived()
            app.clock.now += 10
            app.arrived()
        with app.tracer.start_as_current_span("b", attributes={"posthog.event": "whose"}):
            pass
    assert who(app) == {"u1": "u1", "u2": "u2", "whose": ""}


def test_the_next_message_of_a_long_trace_starts_anew(app: Any) -> None:
    """What was known of a trace ends with its local root: the next message may be somebody else's."""
    above = set_span_in_context(NonRecordingSpan(REMOTE))
    with app.tracer.start_as_current_span("process", context=above, kind=SpanKind.CONSUMER):
        with app.tracer.start_as_current_span("a", attributes={"posthog.event": "first", "user.id": "u1"}):
            pass
        app.arrived()
        app.clock.now += 10
        app.arrived()
    app.arrived()
    with app.tracer.start_as_current_span("process", context=above, kind=SpanKind.CONSUMER):  # noqa: SIM117
        with app.tracer.start_as_current_span("b", attributes={"posthog.event": "second"}):
            pass
    assert who(app) == {"first": "u1", "second": ""}


def test_messages_of_one_batch_are_not_each_other_s(app: Any) -> None:
    """Two messages processed below one root: the one that names nobody is not the other one's person."""
    message = {"messaging.system": "kafka", "messaging.operation.type": "process"}
    with app.tracer.start_as_current_span("poll", kind=SpanKind.CONSUMER):
        for name, user in (("a", {"user.id": "u1"}), ("b", {})):
            with app.tracer.start_as_current_span("process", kind=SpanKind.CONSUMER, attributes={**message, **user}):  # noqa: SIM117
                with app.tracer.start_as_current_span("x", attributes={"posthog.event": name}):
                    pass
    assert who(app) == {"a": "u1", "b": ""}


def test_one_message_below_a_request_keeps_the_wait(app: Any) -> None:
    """Publishing is no batch: a producer's span changes nothing about late identity."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        with app.tracer.start_as_current_span("send", kind=SpanKind.PRODUCER, attributes={"messaging.system": "kafka"}):
            pass
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "bought"}):
            pass
        request.set_attribute("user.id", "u1")
    assert who(app) == {"bought": "u1"}


HEADER, SESSION_HEADER = "http.request.header.x_posthog_distinct_id", "http.request.header.x_posthog_session_id"
SESSION = "0190163d-8694-739b-aea5-966c26f8ad91"


def claiming(app: Any, who_says: str) -> list[Any]:
    """A request whose headers claim a person and a session: a tagged root, child, and log record, a mere root."""
    headers = {HEADER: (who_says,), SESSION_HEADER: (SESSION,)}
    for tag in ({"posthog.event": "root"}, {}):
        with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes={**headers, **tag}):
            with app.tracer.start_as_current_span("x", attributes={"posthog.event": "child"}):
                pass
            app.logger_provider.get_logger("shop").emit(body="x", attributes={"posthog.event": "log"})
    events: list[Any] = app.settle()
    assert len(events) == 5
    return events


def test_headers_that_are_not_trusted_name_nobody(build: Any) -> None:
    """With `trust_headers` off a captured header counts for nothing, at the root as below it."""
    events = claiming(build(identity=IdentityConfig(headers=False)), "somebody-else")
    assert {event.properties.get("$process_person_profile") for event in events} == {False}
    assert {event.properties.get("$session_id") for event in events} == {None}


def test_headers_that_are_trusted_name_the_person(app: Any) -> None:
    """The browser's id and session, on everything of the request."""
    events = claiming(app, "ann")
    assert {(event.distinct_id, event.properties.get("$session_id")) for event in events} == {("ann", SESSION)}


@pytest.mark.parametrize("claim", ["x" * 10_000, "é" * 150, "a\nb", "a\u202eb", "anonymous", "\x00", "   ", "\ud800"])
def test_absurd_claims_name_nobody(app: Any, claim: str) -> None:
    """An id from outside that is too long, has control characters or is one of PostHog's illegal ones is absent."""
    assert {event.properties.get("$process_person_profile") for event in claiming(app, claim)} == {False}


# --- twice on one provider -------------------------------------------------------------------------------------------


def work(app: Any) -> None:
    """An event, an exception that is raised, one that is recorded, a tagged log record; the person is known last."""
    with app.tracer.start_as_current_span("request", kind=SpanKind.SERVER) as request:
        with app.tracer.start_as_current_span("x", attributes={"posthog.event": "paid"}):
            pass
        with app.tracer.start_as_current_span("y", attributes={"posthog.event": "begun", "posthog.on": "start"}):
            pass
        try:
            with app.tracer.start_as_current_span("z"):
                raise ValueError("raised")
        except ValueError:
            pass
        try:
            raise KeyError("recorded")
        except KeyError as error:
            request.record_exception(error)
        logger = app.logger_provider.get_logger("shop")
        logger.emit(body="said", attributes={"posthog.event": "said"})
        logger.emit(body="broken", attributes={"exception.type": "OSError", "exception.message": "disk"})
        request.set_attribute("user.id", "u1")


ONCE = [("$exception", "u1")] * 3 + [("begun", "u1"), ("paid", "u1"), ("said", "u1")]


def test_an_exporter_beside_the_processor_adds_nothing(app: Any) -> None:
    """Whoever configures both still counts each sale once, for the right person."""
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

    app.tracer_provider.add_span_processor(SimpleSpanProcessor(PostHogSpanExporter(runtime=app.runtime)))
    exporter = PostHogLogRecordExporter(runtime=app.runtime)
    app.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    work(app)
    assert sorted((event.event, event.distinct_id) for event in app.settle()) == ONCE


def test_an_exporter_before_the_processor_adds_nothing(app: Any) -> None:
    """The exporter of the environment is on the provider first; it need not wait for a batch."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(PostHogSpanExporter(runtime=app.runtime)))
    provider.add_span_processor(PostHogSpanProcessor(runtime=app.runtime))
    with provider.get_tracer("x").start_as_current_span("x", attributes={"posthog.event": "paid"}) as span:
        span.record_exception(KeyError("recorded"))
    assert sorted(app.names) == ["$exception", "paid"]
    provider.shutdown()


def test_the_processor_twice_adds_nothing(app: Any) -> None:
    """Attached by hand and by the hook, or in a function that is called twice."""
    app.tracer_provider.add_span_processor(PostHogSpanProcessor(runtime=app.runtime))
    app.tracer_provider.add_span_processor(app.spans)
    app.logger_provider.add_log_record_processor(app.logs)
    work(app)
    assert sorted((event.event, event.distinct_id) for event in app.settle()) == ONCE


def test_two_providers_are_two_sources(app: Any) -> None:
    """A processor on each of two providers of one process: everything of both arrives."""
    from opentelemetry.sdk.trace import TracerProvider

    other = TracerProvider(shutdown_on_exit=False)
    other.add_span_processor(PostHogSpanProcessor(runtime=app.runtime))
    for provider in (app.tracer_provider, other):
        with provider.get_tracer("x").start_as_current_span("x", attributes={"posthog.event": "e"}):
            pass
    assert app.names == ["e", "e"]
    other.shutdown()


def test_equal_log_records_of_one_moment_are_each_one(app: Any) -> None:
    """A clock that stands still (Windows, tests that freeze it) must not make one sale of three."""
    logger = app.logger_provider.get_logger("shop")
    for _ in range(3):
        logger.emit(
            timestamp=1_763_640_000_000_000_000,
            observed_timestamp=1_763_640_000_000_000_000,
            body="paid",
            attributes={"posthog.event": "paid", "user.id": "u1"},
        )
    assert len({event.uuid for event in app.settle()}) == 3
