"""Both paths give the same events (DESIGN §4): SDK objects, OTLP protobuf and OTLP/JSON, uuid included.

The official exporter's encoder stands for everything between the process and the gateway.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.gateway.decode.request import JSON, PROTOBUF, decode_logs, decode_traces
from otel_posthog.lane.readable import from_log_record, from_span
from otel_posthog.model import Decision, Signal
from otel_posthog.rules import RuleSet
from tests.parity import otlp
from tests.parity.exact import exact
from tests.parity.rule_sets import CHOICES, rule_set
from tests.parity.telemetry import log_records, spans
from tests.parity.values import beyond_otlp

# At least 1,000 examples of each property in CI (which requires everything); fewer while somebody waits, or where a
# profile asks for few (`make test-floor`).
PROFILE = settings().max_examples
EXAMPLES = 1_000 if PROFILE >= 100 and os.environ.get("OTEL_POSTHOG_REQUIRE_ALL") else PROFILE
PARITY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.timeout(900)

rules = st.sampled_from(CHOICES).map(rule_set)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """The SDK logs each attribute that it mends, thousands of times here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def converter(rule_set: RuleSet) -> Converter:
    """A fresh one: it has no state to share."""
    return Converter(ConvertConfig(), rule_set)


def read(items: Sequence[ReadableSpan]) -> list[Signal]:
    """The in-process path."""
    return [signal for span in items for signal in from_span(span)]


def unordered(values: Iterable[object]) -> Counter[str]:
    """As a multiset: the encoder groups items by resource and scope."""
    return Counter(repr(exact(value)) for value in values)


def decisions(with_rules: RuleSet, signals: Iterable[Signal]) -> list[tuple[str, str, int, Decision]]:
    """What becomes of each signal, beside what tells it from the others."""
    convert = converter(with_rules).convert
    return [(signal.kind.value, signal.span_id, signal.index, convert(signal)) for signal in signals]


@given(items=spans(), with_rules=rules)
@PARITY
def test_spans_give_the_same_signals_and_events_on_every_path(items: list[ReadableSpan], with_rules: RuleSet) -> None:
    """SDK spans, OTLP protobuf and OTLP/JSON: equal Signals, equal Decisions."""
    in_process = read(items)
    protobuf = decode_traces(otlp.spans_protobuf(items), content_type=PROTOBUF)
    in_json = decode_traces(otlp.spans_json(items), content_type=JSON)

    assert unordered(protobuf) == unordered(in_process)
    assert unordered(in_json) == unordered(in_process)
    expected = unordered(decisions(with_rules, in_process))
    assert unordered(decisions(with_rules, protobuf)) == expected
    assert unordered(decisions(with_rules, in_json)) == expected


@given(items=log_records(), with_rules=rules)
@PARITY
def test_log_records_give_the_same_signals_and_events_on_every_path(
    items: list[ReadableLogRecord], with_rules: RuleSet
) -> None:
    """SDK log records, OTLP protobuf and OTLP/JSON: equal Signals, equal Decisions."""
    in_process = [from_log_record(item) for item in items]
    protobuf = decode_logs(otlp.logs_protobuf(items), content_type=PROTOBUF)
    in_json = decode_logs(otlp.logs_json(items), content_type=JSON)

    assert unordered(protobuf) == unordered(in_process)
    assert unordered(in_json) == unordered(in_process)
    expected = unordered(decisions(with_rules, in_process))
    assert unordered(decisions(with_rules, protobuf)) == expected
    assert unordered(decisions(with_rules, in_json)) == expected


@given(items=spans(beyond_otlp), records=log_records(beyond_otlp), with_rules=rules, data=st.data())
@PARITY
def test_what_otlp_cannot_carry_is_converted_too(
    items: list[ReadableSpan], records: list[ReadableLogRecord], with_rules: RuleSet, data: st.DataObject
) -> None:
    """Lone surrogates and huge integers pass the SDK: every event can be sent, nothing raises, nothing is remembered.

    Converting twice is converting once, in any order, by any converter, and changes no signal.
    """
    signals = [*read(items), *(from_log_record(record) for record in records)]
    before = exact(signals)
    once = [converter(with_rules).convert(signal) for signal in signals]
    for decision in once:
        assert bool(decision.events) != bool(decision.reason)
        for event in decision.events:
            text = json.dumps(dict(event.properties), allow_nan=False, ensure_ascii=False)
            assert len(text.encode()) <= 900 * 1024
            assert 1 <= len(event.event.encode()) <= 200
            assert 1 <= len(event.distinct_id.encode()) <= 200
            assert event.timestamp_ns >= 0

    shared = converter(with_rules)
    expected = [exact(decision) for decision in once]
    for place in data.draw(st.permutations([*range(len(signals))] * 2)):
        assert exact(shared.convert(signals[place])) == expected[place]
    assert exact(signals) == before
