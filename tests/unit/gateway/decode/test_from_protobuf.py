"""Protobuf bodies that upb refuses: one bad item never takes the others with it."""

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.from_protobuf import decode_logs_protobuf, decode_traces_protobuf

MARK, BROKEN, MENDED = "BROKENTEXT", b"BROKEN\xff\xfe\xfd\xfc", "BROKEN\ufffd\ufffd\ufffd\ufffd"


def traces(*spans: Span, resource: Resource | None = None, scope: InstrumentationScope | None = None) -> bytes:
    """A traces request."""
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=resource or Resource(attributes=[text("service.name", "shop")]),
                scope_spans=[ScopeSpans(scope=scope or InstrumentationScope(name="s", version="1"), spans=spans)],
            )
        ]
    ).SerializeToString()


def text(key: str, value: str) -> KeyValue:
    """A string attribute."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def broken(body: bytes) -> bytes:
    """The body with every mark replaced by invalid UTF-8 of the same length."""
    assert MARK.encode() in body
    return body.replace(MARK.encode(), BROKEN)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field, as bytes: protobuf's own classes refuse to build what is nested too deep."""
    size, length = b"", len(content)
    while True:
        length, low = length >> 7, length & 0x7F
        size += bytes([low | (0x80 if length else 0)])
        if not length:
            return bytes([number << 3 | 2]) + size + content


def deep_span(name: str, depth: int) -> bytes:
    """A span with a value in `depth` arrays."""
    return field(5, name.encode()) + field(9, deep_pair(depth))


def deep_pair(depth: int) -> bytes:
    """An attribute with a value in `depth` arrays."""
    value = AnyValue(string_value="x").SerializeToString()
    for _ in range(depth):
        value = field(5, field(1, value))
    return field(1, b"k") + field(2, value)


@pytest.mark.parametrize("where", ["name", "key", "value", "event", "status"])
def test_invalid_utf8_in_a_span(where: str) -> None:
    """All of 100 spans survive one with invalid UTF-8, wherever it is; it is replaced, and that is said."""
    spans = [Span(name=f"span {number}") for number in range(100)]
    bad = spans[50]
    if where == "name":
        bad.name = MARK
    elif where == "event":
        bad.events.add(name=MARK)
    elif where == "status":
        bad.status.message = MARK
    else:
        bad.attributes.append(text(MARK, "x") if where == "key" else text("x", MARK))
    result = decode_traces_protobuf(broken(traces(*spans)))

    named = [signal.name for signal in result.signals if signal.span is None]
    assert named == [MENDED if where == "name" and number == 50 else f"span {number}" for number in range(100)]
    mended = [signal for signal in result.signals if MENDED in repr(signal)]
    assert {signal.name for signal in mended} <= {"span 50", MENDED}
    assert mended
    assert {signal.resource.attributes["service.name"] for signal in result.signals} == {"shop"}
    assert {(signal.scope.name, signal.scope.version) for signal in result.signals} == {("s", "1")}
    assert result.rejected == 0
    assert result.error_messages == ("invalid UTF-8 was replaced by U+FFFD",)


def test_survivors_are_the_same_as_on_the_fast_way() -> None:
    """The tolerant pass gives equal Signals."""
    good = Span(
        name="good", trace_id=b"\1" * 16, span_id=b"\2" * 8, attributes=[text("a", "b")], events=[Span.Event(name="e")]
    )

    assert (
        decode_traces_protobuf(broken(traces(good, Span(name=MARK)))).signals[:2]
        == decode_traces_protobuf(traces(good)).signals
    )


def test_nesting_beyond_upb() -> None:
    """A value nested too deep takes its own span with it and no other."""
    items = b"".join(
        field(2, span) for span in (deep_span("deep", 45), deep_span("absurd", 2000), deep_span("flat", 0))
    )
    result = decode_traces_protobuf(field(1, field(2, items)))

    assert [signal.name for signal in result.signals] == ["deep", "flat"]
    assert result.rejected == 1


def test_invalid_utf8_in_a_log_record() -> None:
    """Log records are salvaged in the same way."""
    body = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(
                scope_logs=[
                    ScopeLogs(
                        log_records=[
                            LogRecord(event_name="a"),
                            LogRecord(body=AnyValue(string_value=MARK)),
                            LogRecord(event_name="c"),
                        ]
                    )
                ]
            )
        ]
    ).SerializeToString()
    result = decode_logs_protobuf(broken(body))

    assert [(signal.name, signal.body) for signal in result.signals] == [("a", None), ("", MENDED), ("c", None)]
    assert (result.rejected, result.error_messages) == (0, ("invalid UTF-8 was replaced by U+FFFD",))


def test_invalid_utf8_in_resource_and_scope() -> None:
    """They are mended as items are; a value nested too deep is left out, and no item is lost."""
    body = traces(
        Span(name="x"),
        resource=Resource(attributes=[text("service.name", "shop"), text("bad", MARK)]),
        scope=InstrumentationScope(name=MARK, version="1", attributes=[text("ok", "1"), text(MARK, "x")]),
    )
    result = decode_traces_protobuf(broken(body))
    (signal,) = result.signals

    assert signal.resource.attributes == {"service.name": "shop", "bad": MENDED}
    assert (signal.scope.name, signal.scope.version, signal.scope.attributes) == (MENDED, "1", {"ok": "1", MENDED: "x"})
    assert (result.rejected, result.error_messages) == (0, ("invalid UTF-8 was replaced by U+FFFD",))


def test_a_resource_with_an_absurd_value_or_broken_bytes() -> None:
    """A value nested too deep is left out of a resource; where a resource is no protobuf, its items are rejected."""
    span = traces(Span(name="x"))
    deep = field(1, field(1, deep_pair(2_000)) + field(1, text("service.name", "cart").SerializeToString()))
    result = decode_traces_protobuf(field(1, deep + field(2, field(2, field(5, b"y")))) + span)

    assert [(signal.name, signal.resource.attributes) for signal in result.signals] == [
        ("y", {"service.name": "cart"}),
        ("x", {"service.name": "shop"}),
    ]
    assert result.error_messages == (
        "an attribute of a resource was left out: a value nested too deep, or broken protobuf",
    )

    broken_resource = field(1, b"\x0a\x7fshort")
    result = decode_traces_protobuf(field(1, broken_resource + field(2, field(2, b"") + field(2, b""))) + span)

    assert ([signal.name for signal in result.signals], result.rejected) == (["x"], 2)
    assert result.error_messages == ("the resource or scope of some items is broken protobuf",)


def test_nothing_but_bad_items() -> None:
    """A request of bad spans alone is answered by their number, not by an error."""
    result = decode_traces_protobuf(field(1, field(2, field(2, b"\x0b") + field(2, b"\x2a\x09x"))))

    assert (result.signals, result.rejected) == ((), 2)
    assert result.error_messages == ("a span holds a value nested too deep, or broken protobuf",)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"\x00",
        b"\xff" * 20,
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0b",
        b"<html>",
        traces(Span(name="x" * 100))[:-20],
    ],
    ids=["json", "zero", "ff", "no length", "short", "groups", "html", "cut"],
)
def test_no_request(body: bytes) -> None:
    """What is no protobuf, or only a part of it, raises."""
    with pytest.raises(SignalError, match="the body is not an OTLP protobuf request"):
        decode_traces_protobuf(body)


def test_unknown_fields_are_skipped() -> None:
    """Fields of a later OTLP do not disturb, nor in the tolerant pass."""
    unknown = b"\xfa\x07\x03new" + b"\xf8\x07\x05" + b"\xf9\x07" + b"\0" * 8 + b"\xfd\x07" + b"\0" * 4
    good, bad = traces(Span(name="good")) + unknown, broken(traces(Span(name="good"), Span(name=MARK))) + unknown

    assert [signal.name for signal in decode_traces_protobuf(good).signals] == ["good"]
    assert [signal.name for signal in decode_traces_protobuf(bad).signals] == ["good", MENDED]
