"""Reading only what can become an event gives the same events as reading everything (`gateway/prepare/request.py`)."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.request import decode
from otel_posthog.gateway.inbound import JSON, PROTOBUF, Kind
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import wanted_of
from otel_posthog.model import CaptureEvent, Signal
from otel_posthog.rules import RuleSet
from tests.parity import otlp
from tests.parity.exact import exact
from tests.parity.rule_sets import CHOICES, rule_set
from tests.parity.telemetry import log_records, spans

KINDS: tuple[Kind, ...] = ("traces", "logs")
PROFILE = settings().max_examples
EXAMPLES = 1_000 if PROFILE >= 100 and os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") else PROFILE
PARITY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

BY_RESOURCE = """
rules:
  - {name: shop, match: {kind: [span, log], resource: {service.name: shop}}, capture: "of {resource.service.name}"}
  - {name: probes, match: {name: {glob: "*probe*"}}, drop: true}
  - name: instrumented
    match: {kind: [span, span_event, log], scope: {glob: "opentelemetry.*"}, attributes: {shop.kind: {exists: true}}}
    capture: instrumented
"""
BY_TEXT = """
rules:
  - {name: cart, match: {name: {glob: "* /cart"}}, capture: cart}
  - {name: paid, match: {kind: [span_event, log], name: [order paid, order.paid]}, capture: paid}
  - {name: url, match: {attributes: {url.full: {glob: "https://shop.example/*"}}}, capture: seen}
  - {name: health, match: {attributes: {url.path: /health}, none: [{field: http.method, equals: PUT}]}, capture: up}
  - {name: stack, match: {kind: log, body: {glob: "*ünï*"}}, capture: "logged {exception.type|shop.kind}"}
  - name: either
    match: {any: [{field: client.address, equals: "203.0.113.9"}, {fields: [sessionId, session.id], equals: s-1}]}
    capture: either
  - {name: parent, match: {kind: span_event, all: [{field: span.shop.kind, equals: vip}]}, capture: child}
"""
BY_HEAD = """
rules:
  - {name: queue, match: {span_kind: consumer}, capture: queued}
  - {name: failed, match: {status: error, attributes: {shop.kind: vip}}, capture: failed, set: {plan: "{shop.kind}"}}
  - {name: slow, match: {all: [{field: duration_ms, gte: 1000}]}, capture: slow}
  - {name: loud, match: {kind: log, severity: {gte: error}}, capture: loud}
  - {name: named, match: {kind: log, any: [{field: name, glob: "o*"}, {field: severity_number, gte: 21}]}, capture: x}
"""
rules = st.sampled_from([*CHOICES, BY_RESOURCE, BY_TEXT, BY_HEAD]).map(rule_set)
configs = st.sampled_from(
    [
        ConvertConfig(),
        ConvertConfig(exceptions=False),
        ConvertConfig(honour_carrier=True),
        ConvertConfig(flag_events="all"),
        ConvertConfig(flag_events="off"),
    ]
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The SDK logs each attribute that it mends, thousands of times here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def events(signals: Iterable[Signal], converter: Converter) -> Counter[str]:
    """Every event, with what tells its signal from the others, as a multiset that sees types."""
    made: list[tuple[str, str, int, tuple[CaptureEvent, ...]]] = []
    for signal in signals:
        decision = converter.convert(signal)
        if decision.events:
            made.append((signal.kind.value, signal.span_id, signal.index, decision.events))
    return Counter(repr(exact(value)) for value in made)


def holds(kind: Kind, media_type: str, body: bytes, with_rules: RuleSet, config: ConvertConfig) -> None:
    """The property: same events, and books that balance."""
    everything = decode(kind, body, content_type=media_type).signals
    prepared = prepare(kind, media_type, body, wanted_of([with_rules], [config]))
    converter = Converter(config, with_rules)

    assert events(prepared.signals(), converter) == events(everything, converter)
    items = sum(signal.span is None for signal in everything)
    assert prepared.received == prepared.skipped + prepared.candidates + prepared.rejected
    assert (prepared.received, prepared.rejected, prepared.messages) == (items, 0, ())
    assert prepared.candidates == sum(signal.span is None for signal in prepared.signals())


@given(items=spans(), with_rules=rules, config=configs)
@PARITY
def test_spans(items: list[ReadableSpan], with_rules: RuleSet, config: ConvertConfig) -> None:
    """Of spans in both encodings, by rules of every kind."""
    holds("traces", PROTOBUF, otlp.spans_protobuf(items), with_rules, config)
    holds("traces", JSON, otlp.spans_json(items), with_rules, config)


@given(items=log_records(), with_rules=rules, config=configs)
@PARITY
def test_log_records(items: list[ReadableLogRecord], with_rules: RuleSet, config: ConvertConfig) -> None:
    """Of log records in both encodings, by rules of every kind."""
    holds("logs", PROTOBUF, otlp.logs_protobuf(items), with_rules, config)
    holds("logs", JSON, otlp.logs_json(items), with_rules, config)


@st.composite
def mutated(draw: st.DrawFn, body: bytes) -> bytes:
    """`body` with some bytes changed, cut out, doubled, or put in."""
    raw = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        if not raw:
            break
        at = draw(st.integers(0, len(raw) - 1))
        kind = draw(st.sampled_from("cdxi"))
        if kind == "c":
            raw[at] = draw(st.integers(0, 255))
        elif kind == "d":
            del raw[at : at + draw(st.integers(1, 30))]
        elif kind == "x":
            raw[at:at] = raw[at : at + draw(st.integers(1, 60))]
        else:
            raw[at:at] = draw(
                st.sampled_from([b"\xff", b"\0", b"\x80" * 11, b'"', b"{[", b"\\ud800", b"posthog.event"])
            )
    return bytes(raw)


kinds = st.sampled_from(KINDS)
media_types = st.sampled_from([PROTOBUF, JSON])
requests = st.one_of(
    spans().map(otlp.spans_protobuf),
    spans().map(otlp.spans_json),
    log_records().map(otlp.logs_protobuf),
    log_records().map(otlp.logs_json),
)


def answers(kind: Kind, media_type: str, body: bytes, with_rules: RuleSet) -> None:
    """The property: balanced books and the events of the slow way, or a SignalError on both."""
    wanted = wanted_of([with_rules], [ConvertConfig()])
    try:
        prepared = prepare(kind, media_type, body, wanted)
    except SignalError:
        with pytest.raises(SignalError):
            decode(kind, body, content_type=media_type)
        return
    assert prepared.received == prepared.skipped + prepared.candidates + prepared.rejected
    assert prepared.candidates == sum(signal.span is None for signal in prepared.signals())
    try:
        everything = decode(kind, body, content_type=media_type)
    except SignalError:
        # Only items that nobody wanted, or none, can be without proof.
        assert prepared.candidates == 0
        return
    if not (everything.error_messages or prepared.messages):
        converter = Converter(ConvertConfig(), with_rules)
        assert events(prepared.signals(), converter) == events(everything.signals, converter)


@pytest.mark.row(35)
@given(kind=kinds, media_type=media_types, body=requests.flatmap(mutated), with_rules=rules)
@PARITY
def test_whatever_comes_in(kind: Kind, media_type: str, body: bytes, with_rules: RuleSet) -> None:
    """Changed bytes, the wrong signal, the wrong encoding: an answer with balanced books, or a SignalError."""
    answers(kind, media_type, body, with_rules)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.row(35)
@given(kind=kinds, media_type=media_types, body=requests.flatmap(mutated), with_rules=rules)
@settings(PARITY, max_examples=10 * max(PROFILE, 1_000))
def test_whatever_comes_in_for_minutes(kind: Kind, media_type: str, body: bytes, with_rules: RuleSet) -> None:
    """The same ten thousand times."""
    answers(kind, media_type, body, with_rules)
