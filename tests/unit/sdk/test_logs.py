"""Log records through a real provider."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter

from otel_posthog.config.settings import Mode
from tests.fixtures.logging_bridge import LoggingHandler

RULES = """
version: 1
rules:
  - name: audit
    match: {kind: log, name: user.audited}
    capture: {event: audited}
"""


@pytest.fixture(name="logger")
def logger_into(app: Any) -> Iterator[logging.Logger]:
    """A stdlib logger whose records reach the app's LoggerProvider."""
    yield from attached(app, "shop.views")


def attached(app: Any, name: str) -> Iterator[logging.Logger]:
    """A stdlib logger with OpenTelemetry's handler, taken off afterwards."""
    logger = logging.getLogger(name)
    handler = LoggingHandler(logger_provider=app.logger_provider)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_tagged_line_is_an_event(app: Any, logger: logging.Logger) -> None:
    """`extra` with `posthog.event` is all that it takes; no trace, no wait."""
    logger.info("paid", extra={"posthog.event": "order paid", "posthog.distinct_id": "u1"})
    logger.info("only a line")
    [event] = app.arrived()
    assert (event.event, event.distinct_id) == ("order paid", "u1")
    assert app.edge.worker.stats().handed_over == 1


@pytest.mark.skipif(
    LoggingHandler.__module__.startswith("opentelemetry.sdk"),
    reason="the handler of SDK 1.39 makes no event records; contrib's does",
)
def test_a_rule_reaches_an_event_record(build: Any) -> None:
    """`otel.event.name` in `extra` makes an event record, which a rule can name."""
    app = build(rules=RULES)
    for logger in attached(app, "shop"):
        logger.info("x", extra={"otel.event.name": "user.audited"})
        logger.info("y")
    assert app.names == ["audited"]


def test_a_line_inside_a_span_gets_the_late_person(app: Any, logger: logging.Logger) -> None:
    """A tagged line waits with its trace."""
    with app.tracer.start_as_current_span("request") as request:
        logger.info("paid", extra={"posthog.event": "paid"})
        assert app.arrived() == []
        request.set_attribute("user.id", "u1")
    assert [event.distinct_id for event in app.settle()] == ["u1"]


def test_every_line_links_up(app: Any, logger: logging.Logger) -> None:
    """Standard logs carry PostHog's linking keys, in time for a batch exporter that was there first."""
    exporter = InMemoryLogRecordExporter()
    batch = BatchLogRecordProcessor(exporter)
    provider = app.logger_provider
    provider._multi_log_record_processor._log_record_processors = (batch, app.logs)
    with app.tracer.start_as_current_span("x", attributes={"user.id": "u1", "session.id": "s1"}):
        logger.info("in the span")
    token = context.attach(baggage.set_baggage("user.id", "u2"))
    logger.info("with baggage")
    logger.info("own", extra={"posthogDistinctId": "u3"})
    context.detach(token)
    logger.info("nobody")
    batch.force_flush()
    found = [
        {key: value for key, value in record.log_record.attributes.items() if key in ("posthogDistinctId", "sessionId")}
        for record in exporter.get_finished_logs()
    ]
    assert found == [
        {"posthogDistinctId": "u1", "sessionId": "s1"},
        {"posthogDistinctId": "u2"},
        {"posthogDistinctId": "u3"},
        {},
    ]
    batch.shutdown()


def test_a_record_is_read_when_it_is_emitted(app: Any) -> None:
    """What a later processor or the app does to the record or its body changes nothing."""
    body = {"items": [1]}
    attributes = {"posthog.event": "e", "posthog.properties.n": 1}
    app.logger_provider.get_logger("x").emit(body=body, attributes=attributes)
    body["items"].append(2)
    attributes["posthog.event"] = "other"
    app.settle()
    [(signal, _, _)] = app.outcomes
    assert signal.body == {"items": [1]}
    assert signal.attributes["posthog.event"] == "e"


def test_our_own_lines_do_not_flow_back(app: Any) -> None:
    """Whatever our diagnostics say, they are not telemetry of the app."""
    for logger in attached(app, "otel_posthog.delivery"):
        logger.warning("x", extra={"posthog.event": "e"})
    assert app.settle() == []


def test_suppressed_lines_are_not_captured(app: Any, logger: logging.Logger) -> None:
    """Lines of an HTTP client that sends our own events are about telemetry."""
    token = context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
    logger.info("x", extra={"posthog.event": "e"})
    context.detach(token)
    assert app.settle() == []


def test_collector_mode_marks_the_lines_that_we_carry(build: Any) -> None:
    """With a Collector between, every line says that its process delivers the product data itself."""
    app = build(mode=Mode.COLLECTOR)
    for logger in attached(app, "shop"):
        logger.info("tagged", extra={"posthog.event": "e"})
    [event] = app.settle()
    assert event.event == "e"
    [(signal, _, _)] = app.outcomes
    assert signal.attributes["posthog.carrier"] == "bridge"


def test_a_resource_that_says_so_needs_no_mark_on_lines(build: Any) -> None:
    """The mark of the resource holds for all its items."""
    app = build(mode=Mode.COLLECTOR, resource={"posthog.carrier": "bridge"})
    for logger in attached(app, "shop"):
        logger.info("tagged", extra={"posthog.event": "e"})
    app.settle()
    [(signal, _, _)] = app.outcomes
    assert "posthog.carrier" not in signal.attributes


def test_an_unreadable_body_costs_itself(app: Any) -> None:
    """A body of any type, its `__str__` raising, loses nothing else."""

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    app.logger_provider.get_logger("x").emit(body=Bad(), attributes={"posthog.event": "e"})
    recursive: list[Any] = []
    recursive.append(recursive)
    app.logger_provider.get_logger("x").emit(body=recursive, attributes={"posthog.event": "f"})
    assert app.names == ["e", "f"]


def test_a_failure_of_ours_stays_with_us(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside tests a defect in the callback costs an event, never the request."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    monkeypatch.setattr(app.edge.worker, "hand_over", lambda *_: 1 / 0)
    app.logger_provider.get_logger("x").emit(body="x", attributes={"posthog.event": "e"})
    assert app.runtime.guard.counts() == {"sdk.on_emit": 1}
