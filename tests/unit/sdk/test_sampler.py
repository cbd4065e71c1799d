# ruff: noqa: SIM117 - nested blocks show the trace
"""Complete under sampling: our processor sees every span, everybody else what they saw before."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_posthog.context.unrecorded import outgoing
from otel_posthog.errors import ConfigError
from otel_posthog.sdk.sampler import RecordOnlySampler, exporter_of_unsampled, record_only_from_env, wrap_tracers


def annotated(app: Any, count: int) -> None:
    """Spans of one request each, tagged on a child."""
    tracer = app.tracer_provider.get_tracer("later")
    for number in range(count):
        with tracer.start_as_current_span("request", kind=SpanKind.SERVER):
            with tracer.start_as_current_span("buy") as span:
                span.set_attributes({"posthog.event": "bought", "posthog.distinct_id": f"u{number}"})


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF, ParentBased(ALWAYS_OFF), TraceIdRatioBased(0.01)])
def test_a_thousand_tagged_spans_are_a_thousand_events(build: Any, sampler: Sampler) -> None:
    """Whatever the app samples, each tagged span is one event, and says whether its trace was kept."""
    app = build(sampler=sampler)
    assert wrap_tracers(app.tracer_provider)
    annotated(app, 1_000)
    events = app.settle()
    assert len({(event.uuid, event.event, event.distinct_id) for event in events}) == 1_000
    sampled = sum(event.properties["trace_sampled"] for event in events)
    assert sampled == {"AlwaysOnSampler": 1_000}.get(sampler.get_description(), sampled)
    assert sampled < 100 or sampler is ALWAYS_ON


def test_exporters_see_what_they_saw_before(build: Any) -> None:
    """The same ids are exported with and without us, by batch and by simple processors."""
    seen: list[list[str]] = []
    for wrapped in (False, True):
        app = build(sampler=TraceIdRatioBased(0.5), id_generator=Counting())
        exporters = InMemorySpanExporter(), InMemorySpanExporter()
        app.tracer_provider.add_span_processor(SimpleSpanProcessor(exporters[0]))
        app.tracer_provider.add_span_processor(BatchSpanProcessor(exporters[1]))
        if wrapped:
            wrap_tracers(app.tracer_provider)
        annotated(app, 50)
        app.tracer_provider.force_flush()
        for exporter in exporters:
            seen.append([str(span.context.trace_id) + span.name for span in exporter.get_finished_spans()])
    assert seen[0] == seen[2]
    assert sorted(seen[1]) == sorted(seen[3])
    assert 0 < len(seen[0]) < 100


class Counting:
    """Trace ids spread over the whole range, the same in each run."""

    def __init__(self) -> None:
        self.number = 0

    def generate_span_id(self) -> int:
        self.number += 1
        return self.number

    def generate_trace_id(self) -> int:
        self.number += 1
        return (self.number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128) or 1

    def is_trace_id_random(self) -> bool:
        return False


def test_an_unsampled_trace_propagates_as_unsampled(build: Any) -> None:
    """Downstream services get the flags and the trace state that the app's sampler meant."""

    class Stating(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(Decision.DROP, None, TraceState([("vendor", "7")]))

        def get_description(self) -> str:
            return "Stating"

    app = build(sampler=Stating())
    wrap_tracers(app.tracer_provider)
    carrier: dict[str, str] = {}
    with app.tracer.start_as_current_span("x") as span:
        assert span.is_recording()
        TraceContextTextMapPropagator().inject(carrier)
    assert int(carrier["traceparent"][-2:], 16) & 1 == 0
    assert carrier["tracestate"] == "vendor=7"


def test_the_sampled_bit_alone_decides(build: Any) -> None:
    """Flags of a parent may hold other bits (random trace id): an unsampled parent with them is unsampled."""
    app = build(sampler=ParentBased(ALWAYS_ON))
    wrap_tracers(app.tracer_provider)
    for flags, expected in ((2, False), (3, True)):
        parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(flags))
        with app.tracer.start_as_current_span("x", context=trace.set_span_in_context(NonRecordingSpan(parent))) as span:
            span.set_attribute("posthog.event", "e")
        assert app.settle()[-1].properties["trace_sampled"] is expected


def test_start_attributes_survive(build: Any) -> None:
    """A sampler that drops gives no attributes back; a span that we record has them."""
    app = build(sampler=ALWAYS_OFF)
    wrap_tracers(app.tracer_provider)
    with app.tracer.start_as_current_span("x", attributes={"posthog.event": "e", "posthog.distinct_id": "u"}):
        pass
    assert [(event.event, event.distinct_id) for event in app.settle()] == [("e", "u")]


def test_tracers_that_exist_are_wrapped_and_the_provider_is_left_alone(build: Any) -> None:
    """A tracer from before, one from after, twice wrapped: one wrapper each, and `provider.sampler` untouched."""
    app = build(sampler=ALWAYS_OFF)
    before = app.tracer_provider.get_tracer("before")
    wrap_tracers(app.tracer_provider)
    wrap_tracers(app.tracer_provider)
    after = app.tracer_provider.get_tracer("after")
    assert app.tracer_provider.sampler is ALWAYS_OFF
    for tracer in (before, after):
        assert isinstance(tracer.sampler, RecordOnlySampler)
        assert tracer.sampler.root is ALWAYS_OFF
    if hasattr(app.tracer_provider, "_tracers"):  # SDKs before 1.42 make one for each call
        assert app.tracer_provider.get_tracer("after") is after


def test_tracers_are_found_without_the_provider_s_list(build: Any) -> None:
    """SDKs before 1.42 keep no list; the tracers are found all the same."""
    app = build(sampler=ALWAYS_OFF)
    before = app.tracer_provider.get_tracer("before")
    kept = vars(app.tracer_provider).pop("_tracers", {})
    try:
        wrap_tracers(app.tracer_provider)
    finally:
        app.tracer_provider._tracers = kept
    assert isinstance(before.sampler, RecordOnlySampler)


def test_a_sampler_that_changes_is_asked_each_time(build: Any) -> None:
    """Central configuration (EDOT) changes the decision while the process runs."""

    class Changing(Sampler):
        decision = Decision.DROP

        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(self.decision)

        def get_description(self) -> str:
            return "Changing"

    sampler = Changing()
    app = build(sampler=sampler)
    wrap_tracers(app.tracer_provider)
    for decision in (Decision.DROP, Decision.RECORD_AND_SAMPLE):
        sampler.decision = decision
        with app.tracer.start_as_current_span("x") as span:
            assert span.context.trace_flags.sampled is decision.is_sampled()


def test_what_was_seen_before_hides_no_tag() -> None:
    """Keys that are known to be no tags are not looked at again; a tag among them is found each time."""
    sampler = RecordOnlySampler(ALWAYS_OFF, record="server")
    plain = {"db.system": "postgresql", "thread.id": 7, 3: "no text"}

    def recorded(attributes: dict[Any, Any] | None) -> bool:
        return sampler.should_sample(None, 5, "n", SpanKind.CLIENT, attributes).decision is Decision.RECORD_ONLY

    tagged = {**plain, "posthog.event": "bought"}
    assert [recorded(one) for one in (plain, tagged, plain, tagged, {}, None)] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]


def test_server_records_entrances_and_what_starts_tagged(build: Any) -> None:
    """`server` pays for SERVER and CONSUMER spans, and for spans that say at their start that they are ours."""
    app = build(sampler=ALWAYS_OFF)
    wrap_tracers(app.tracer_provider, "server")
    recorded = {kind.name: app.tracer.start_span("x", kind=kind).is_recording() for kind in SpanKind}
    assert recorded == {"INTERNAL": False, "SERVER": True, "CLIENT": False, "PRODUCER": False, "CONSUMER": True}
    assert app.tracer.start_span("x", attributes={"posthog.event": "e"}).is_recording()


def test_off_leaves_everything(build: Any) -> None:
    """`off` touches no tracer."""
    app = build(sampler=ALWAYS_OFF)
    assert not wrap_tracers(app.tracer_provider, "off")
    assert app.tracer.sampler is ALWAYS_OFF


def test_where_a_call_goes_that_is_not_recorded(build: Any) -> None:
    """The context of a dropped CLIENT or PRODUCER span says it, and no span's below; on the wire nothing differs."""
    app = build(sampler=ALWAYS_OFF)
    assert wrap_tracers(app.tracer_provider, "off", travels=True) is False
    tracer = app.tracer_provider.get_tracer("app")
    upstream = {"traceparent": f"00-{7:032x}-{9:016x}-00", "tracestate": "vendor=x"}
    ctx = TraceContextTextMapPropagator().extract(upstream)
    to = {"url.full": "http://orders/"}
    with tracer.start_as_current_span("request", ctx, kind=SpanKind.SERVER, attributes=to) as request:
        assert outgoing(request) == (None, None)
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=to) as call:
            assert not call.is_recording()
            assert outgoing(call) == (SpanKind.CLIENT, to)
            headers: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(headers)
            assert headers["tracestate"] == "vendor=x"
            with tracer.start_as_current_span("inside", attributes=to) as inside:
                assert outgoing(inside) == (None, None)
                assert inside.get_span_context().trace_state == {"vendor": "x"}
            with tracer.start_as_current_span("send", kind=SpanKind.PRODUCER) as message:
                assert outgoing(message) == (SpanKind.PRODUCER, {})


def test_an_unknown_mode_is_refused(build: Any) -> None:
    """A typo fails at load, with the way out."""
    with pytest.raises(ConfigError, match=r"OTEL_POSTHOG_RECORD_UNSAMPLED.*all, server, off"):
        wrap_tracers(build().tracer_provider, "none")


class BatchUnsampledSpanProcessor(BatchSpanProcessor):
    """Named like ADOT's, which exports exactly the spans that are not sampled."""


def test_it_stands_back_where_unsampled_spans_are_exported(build: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Recording more would export more: somebody's bill. It says so."""
    app = build(sampler=ALWAYS_OFF)
    app.tracer_provider.add_span_processor(BatchUnsampledSpanProcessor(InMemorySpanExporter()))
    assert exporter_of_unsampled(app.tracer_provider) == "BatchUnsampledSpanProcessor"
    with caplog.at_level("WARNING", "otel_posthog"):
        assert not wrap_tracers(app.tracer_provider)
    assert app.tracer.sampler is ALWAYS_OFF
    assert not app.tracer.start_span("x").is_recording()


def test_the_carrier_mark_is_on_every_span(build: Any) -> None:
    """Sampled or not, marked once; not where the resource says it."""
    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        app = build(sampler=sampler)
        wrap_tracers(app.tracer_provider, carrier="bridge:12")
        assert app.tracer.start_span("x", attributes={"a": 1}).attributes == {"a": 1, "posthog.carrier": "bridge:12"}
    app = build(sampler=ALWAYS_ON, resource={"posthog.carrier": "bridge"})
    wrap_tracers(app.tracer_provider, carrier="bridge")
    assert app.tracer.start_span("x").attributes == {}


class Proxy:
    """Like logfire's: a provider around a provider."""

    def __init__(self, provider: TracerProvider) -> None:
        self.provider = provider

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        return self.provider.get_tracer(*args, **kwargs)


def test_a_proxy_s_tracers_are_wrapped_inside(build: Any) -> None:
    """Tracers that a proxy gives out come from the provider inside."""
    app = build(sampler=ALWAYS_OFF)
    proxy = Proxy(app.tracer_provider)
    assert wrap_tracers(proxy)
    assert proxy.get_tracer("x").start_span("x").is_recording()


@pytest.mark.parametrize(
    ("argument", "description"),
    [
        (None, "ParentBased{root:TraceIdRatioBased{1.0}"),
        ("0.1", "ParentBased{root:TraceIdRatioBased{0.1}"),
        ("1", "ParentBased{root:TraceIdRatioBased{1.0}"),
        ("traceidratio=0.5", "TraceIdRatioBased{0.5}"),
        ("parentbased_traceidratio=0", "ParentBased{root:TraceIdRatioBased{0.0}"),
        ("always_off", "TraceIdRatioBased{0.0}"),
        (" Parentbased_Always_On ", "ParentBased{root:TraceIdRatioBased{1.0}"),
    ],
)
def test_the_environment_s_argument(argument: str | None, description: str) -> None:
    """Ratio, name, or name and ratio."""
    assert record_only_from_env(argument).root.get_description().startswith(description)


@pytest.mark.parametrize("argument", ["nope", "2", "-1", "traceidratio=x", "traceidratio=nan", "=0.5="])
def test_a_wrong_argument_is_refused(argument: str) -> None:
    """The message names the variable and the way out."""
    with pytest.raises(ConfigError, match=r"OTEL_TRACES_SAMPLER_ARG.*ratio such as 0.1"):
        record_only_from_env(argument)


def test_declarative_configuration_can_make_it() -> None:
    """Without arguments and with keywords."""
    assert RecordOnlySampler().get_description() == (
        "PostHogRecordOnly{" + ParentBased(TraceIdRatioBased(1.0)).get_description() + ",record=all}"
    )
    assert "0.25" in RecordOnlySampler(ratio=0.25, record="server").get_description()
    with pytest.raises(ConfigError, match="ratio"):
        RecordOnlySampler(ratio=7)
    with pytest.raises(ConfigError, match="record"):
        RecordOnlySampler(record="some")
