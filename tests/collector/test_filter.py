"""A real Collector passes on just what the tests' reading of OTTL says, and never less than the converter needs."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert.converter import Converter
from otel_posthog.model import Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.rules.collector_filter import CollectorFilter, collector_filter
from otel_posthog.rules.collector_yaml import processors_yaml
from otel_posthog.rules.load import builtin_rules
from otel_posthog.rules.ottl import Expression
from tests.fixtures.collector import Collector
from tests.fixtures.filter_cases import logs, rule_sets, spans
from tests.fixtures.otlp_receiver import OtlpReceiver
from tests.fixtures.ottl_reading import OttlError, evaluate
from tests.fixtures.signal_otlp import logs_request, traces_request

# The exporter is synchronous: when the sender has its answer, everything that passes has arrived.
PIPELINES = """
receivers:
  otlp: {protocols: {http: {endpoint: "${env:OTLP_HTTP_ENDPOINT}"}}}
exporters:
  otlp_http: {endpoint: "${env:GATEWAY_ENDPOINT}", sending_queue: {enabled: false}, retry_on_failure: {enabled: false}}
extensions:
  health_check: {endpoint: "${env:HEALTH_ENDPOINT}"}
service:
  extensions: [health_check]
  telemetry: {metrics: {level: none}}
  pipelines:
    traces:
      receivers: [otlp]
      processors: [transform/product_mark, filter/product, transform/product_unmark]
      exporters: [otlp_http]
    logs: {receivers: [otlp], processors: [filter/product], exporters: [otlp_http]}
"""

ITEMS = st.one_of(spans(), logs())
# Each example starts a Collector: a failure is shown as it was found, rather than made small by hundreds of them.
REAL: dict[str, Any] = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "phases": [Phase.explicit, Phase.reuse, Phase.generate],
}


@contextmanager
def filtering(found: CollectorFilter, folder: Path, binary: Path) -> Iterator[tuple[Collector, OtlpReceiver]]:
    """A Collector with this filter and what it sends to."""
    (folder / "pipelines.yaml").write_text(PIPELINES)
    (folder / "filter.yaml").write_text(processors_yaml(found))
    with OtlpReceiver() as receiver:
        files = [folder / "pipelines.yaml", folder / "filter.yaml"]
        env = {"GATEWAY_ENDPOINT": receiver.url}
        with Collector(files, env, binary=binary, log=folder / "collector.log") as collector:
            yield collector, receiver


def send(collector: Collector, path: str, body: bytes) -> None:
    """Posts one request, which has to succeed."""
    connection = http.client.HTTPConnection("127.0.0.1", collector.ports.http, timeout=30)
    try:
        connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
    finally:
        connection.close()


def expected(found: CollectorFilter, signals: list[Signal]) -> bool:
    """Whether the item passes, by the reading of OTTL."""

    def holds(condition: Expression, signal: Signal, failed: bool) -> bool:
        try:
            return evaluate(condition, signal)
        except OttlError:
            return failed

    return any(
        any(holds(passage.condition, signal, False) for passage in found.span_event)
        if signal.kind is SignalKind.SPAN_EVENT
        else holds(found.condition(signal.kind.value), signal, True)
        for signal in signals
    )


def story(found: CollectorFilter, signals: list[Signal]) -> str:
    """What an item is like, and what is asked of it."""
    conditions = [f"{kind}: {one.condition}" for kind in ("span", "span_event", "log") for one in found.of(kind)]
    return "\n".join([*map(repr, signals), *conditions])


def identified(signals: list[Signal]) -> list[Signal]:
    """The same item as it is sent: a span has ids."""
    if signals[0].kind is SignalKind.LOG:
        return signals
    first = replace(signals[0], trace_id=signals[0].trace_id or f"{1:032x}", span_id=signals[0].span_id or f"{1:016x}")
    return [first, *(replace(one, span=first, trace_id=first.trace_id, span_id=first.span_id) for one in signals[1:])]


def check(rules: RuleSet, items: list[list[Signal]], folder: Path, binary: Path) -> None:
    """Sends the items through a Collector with the filter of `rules`, and compares what passes."""
    items = [identified(signals) for signals in items]
    of_spans = [signals for signals in items if signals[0].kind is SignalKind.SPAN]
    of_logs = [signals for signals in items if signals[0].kind is SignalKind.LOG]
    found = collector_filter([rules])
    with filtering(found, folder, binary) as (collector, receiver):
        send(collector, "/v1/traces", traces_request(of_spans).SerializeToString())
        send(collector, "/v1/logs", logs_request([signals[0] for signals in of_logs]).SerializeToString())
        passed = {int(span.trace_state.removeprefix("n=")) for span in receiver.spans}
        logged = {log.observed_time_unix_nano for log in receiver.logs}
        whole = {span.trace_state: span for owner in traces_request(of_spans).resource_spans
                 for scope in owner.scope_spans for span in scope.spans}  # fmt: skip
        # Whole and unmarked: what passes is what was sent.
        for span in receiver.spans:
            assert span.name == whole[span.trace_state].name
            assert {pair.key for pair in span.attributes} == {pair.key for pair in whole[span.trace_state].attributes}
            assert [event.name for event in span.events] == [event.name for event in whole[span.trace_state].events]
    for arrived, sent in ((passed, of_spans), (logged, of_logs)):
        for number, signals in enumerate(sent):
            assert (number in arrived) is expected(found, signals), story(found, signals)
    converter = Converter(ConvertConfig(), rules)
    for arrived, sent in ((passed, of_spans), (logged, of_logs)):
        for number, signals in enumerate(sent):
            if any(converter.convert(signal).events for signal in signals):
                assert number in arrived, signals


@given(rule_sets(most=6), st.lists(ITEMS, min_size=10, max_size=40))
@settings(max_examples=12, **REAL)
def test_generated_rules(collector_binary: Path, tmp_path: Path, rules: RuleSet, items: list[list[Signal]]) -> None:
    """Any rules, any telemetry: the Collector and the reading agree, and no product data stays behind."""
    check(rules, items, tmp_path, collector_binary)


@given(st.lists(ITEMS, min_size=10, max_size=40))
@settings(max_examples=3, **REAL)
def test_the_default_rules(collector_binary: Path, tmp_path: Path, items: list[list[Signal]]) -> None:
    """The same for the default rule set."""
    check(RuleSet(builtin_rules()), items, tmp_path, collector_binary)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@given(rule_sets(most=8), st.lists(ITEMS, min_size=20, max_size=80))
@settings(max_examples=400, **REAL)
def test_many_generated_rules(
    collector_binary: Path, tmp_path: Path, rules: RuleSet, items: list[list[Signal]]
) -> None:
    """The same, many times."""
    check(rules, items, tmp_path, collector_binary)
