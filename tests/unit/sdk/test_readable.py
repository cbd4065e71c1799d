"""SDK objects to Signals: the normal form, and what OTLP would make of the same."""

from __future__ import annotations

import enum
import math
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from otel_posthog.gateway.decode.from_protobuf import decode_logs_protobuf, decode_traces_protobuf
from otel_posthog.lane.readable import Reader, from_log_record, from_span, normal_value
from otel_posthog.model import LocalContext, SignalKind

ATTRIBUTES: dict[str, Any] = {
    "text": "x", "empty": "", "yes": True, "int": -(2**63), "float": -0.0, "none": None, "bytes": b"\x00\xff",
    "list": [1, "a", None, [2.5]], "map": {"a": (1, {"b": b"c"})}, "list of nothing": [], "map of nothing": {},
}  # fmt: skip


def rich_span() -> ReadableSpan:
    """A finished span with everything."""
    provider = TracerProvider(resource=Resource({"service.name": "shop", "tags": ("a", "b")}), shutdown_on_exit=False)
    tracer = provider.get_tracer("lib", "1.2", attributes={"k": (1, 2)})
    link = Link(SpanContext(5, 6, is_remote=True), {"why": "batch"})
    span = tracer.start_span("pay", kind=SpanKind.CONSUMER, attributes=ATTRIBUTES, links=[link])
    span.add_event("clicked", {"at": (1, 2)}, timestamp=17)
    try:
        raise ValueError("x")
    except ValueError as error:
        span.record_exception(error)
    span.set_status(Status(StatusCode.ERROR, "broken"))
    span.end()
    return span._readable_span()


def test_a_span_is_what_otlp_makes_of_it() -> None:
    """Equal Signals by both ways, span events included."""
    span = rich_span()
    assert tuple(from_span(span)) == decode_traces_protobuf(encode_spans([span]).SerializeToString()).signals


def test_a_log_record_is_what_otlp_makes_of_it() -> None:
    """Equal Signals by both ways: in a span and outside, with and without a time of its own."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger("lib", "1")
    logger.emit(body={"a": [1, b"x", None]}, attributes=ATTRIBUTES, event_name="paid", severity_text="INFO")
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("x"):
        logger.emit(body="text", timestamp=17, observed_timestamp=18)
    records = list(exporter.get_finished_logs())
    decoded = decode_logs_protobuf(encode_logs(records).SerializeToString()).signals
    assert tuple(from_log_record(record) for record in records) == decoded
    assert [signal.time_ns == signal.observed_time_ns for signal in decoded] == [True, False]


def test_resource_and_scope_are_made_once() -> None:
    """Thousands of spans share their resource and scope objects."""
    span = rich_span()
    reader = Reader()
    one, two = reader.span(span), reader.span(span)
    assert one.resource is two.resource
    assert one.scope is two.scope


def test_a_new_resource_is_a_new_one() -> None:
    """After a fork the SDK gives spans another resource: it is not mistaken for the old one."""
    reader = Reader()
    for number in range(2_000):
        assert reader.resource(Resource({"n": number})).attributes["n"] == number


def test_defaults_stand_below_the_resource() -> None:
    """What the resource says wins."""
    [owner, *_] = from_span(rich_span(), resource_defaults={"service.name": "default", "os.type": "linux"})
    assert owner.resource.attributes == {"service.name": "shop", "tags": ["a", "b"], "os.type": "linux"}


def test_a_running_span_has_no_end() -> None:
    """That is how a rule tells a start."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("x").start_span("x")
    signal = Reader().span(span, local=LocalContext(sampled=True))
    assert (signal.kind, signal.time_ns, signal.start_time_ns) == (SignalKind.SPAN, 0, span.start_time)
    assert signal.local == LocalContext(sampled=True)
    span.end()


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError


class Ratio(float):
    pass


class HostileList(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Ratio(0.5), 0.5),
        ((1, (2,)), [1, [2]]),
        ({1: (2,)}, {"1": [2]}),
        (2**80, 2**80),
        ("\ud800", "\ud800"),
        (Hostile(), None),
        ([Hostile(), 1], [None, 1]),
        ({"a": Hostile()}, {"a": None}),
        (range(3), [0, 1, 2]),
        (bytearray(b"ab"), [97, 98]),
        (math.inf, math.inf),
    ],
)
def test_every_value_has_a_normal_form(value: Any, expected: Any) -> None:
    """Exact plain types only, whatever the app put there; nothing raises."""
    found = normal_value(value)
    assert found == expected
    assert type(found) in {str, int, float, bool, list, dict, bytes, type(None)}


@pytest.mark.row(47)
def test_a_container_that_raises_becomes_text_or_nothing() -> None:
    """Never an exception."""
    assert normal_value(HostileList([1])) in (None, "[1]")


def test_recursion_is_cut() -> None:
    """A list in itself ends."""
    loop: list[Any] = []
    loop.append(loop)
    assert normal_value(loop)
