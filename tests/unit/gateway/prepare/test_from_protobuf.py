"""Only what can become an event is decoded, and the counts are exact."""

from __future__ import annotations

from typing import Any

import pytest
from inline_snapshot import snapshot
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.errors import SignalError
from otel_posthog.gateway.inbound import PROTOBUF
from otel_posthog.gateway.parts import Prepared
from otel_posthog.gateway.prepare import scan
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import EVERYTHING, WantedItems, wanted_of
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text

TAGS = wanted_of([], [ConvertConfig()])
SHOP = {"service.name": "shop"}


def pair(key: str, value: Any) -> KeyValue:
    """An attribute."""
    kind = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    return KeyValue(key=key, value=AnyValue(**{kind[type(value)]: value}))


def span(name: str = "", attributes: dict[str, Any] | None = None, **fields: Any) -> Span:
    """A span."""
    return Span(name=name, attributes=[pair(*item) for item in (attributes or {}).items()], **fields)


def traces(*spans: Span, resource: dict[str, Any] = SHOP, scope: str = "shop") -> bytes:
    """A request of one resource and scope."""
    return ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=[pair(*item) for item in resource.items()]),
                scope_spans=[ScopeSpans(scope=InstrumentationScope(name=scope), spans=spans)],
            )
        ]
    ).SerializeToString()


def logs(*records: LogRecord) -> bytes:
    """A request of log records."""
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])]
    ).SerializeToString()


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field, as bytes."""
    return head(number, len(content)) + content


def head(number: int, length: int) -> bytes:
    """Tag and length of such a field."""
    size = b""
    while True:
        length, low = length >> 7, length & 0x7F
        size += bytes([low | (0x80 if length else 0)])
        if not length:
            return bytes([number << 3 | 2]) + size


def by(rules: str) -> WantedItems:
    """What these rules want, exceptions apart."""
    return wanted_of([parse_text(rules)], [ConvertConfig(exceptions=False)])


def looked(body: bytes, wanted: WantedItems = TAGS, kind: Any = "traces") -> tuple[list[str], tuple[int, int, int]]:
    """Names of the signals, and (received, skipped, rejected)."""
    prepared = prepare(kind, PROTOBUF, body, wanted)
    assert prepared.received == prepared.skipped + prepared.candidates + prepared.rejected
    return [signal.name for signal in prepared.signals()], (prepared.received, prepared.skipped, prepared.rejected)


# --- what is looked for --------------------------------------------------------------------------------------------


def test_tagged_spans_and_exceptions_are_read() -> None:
    """A tag on a span or on one of its events, and an event that is an exception; their neighbours are not."""
    body = traces(
        span("quiet"),
        span("tagged", {"posthog.event": "paid"}),
        span("child", events=[Span.Event(name="step", attributes=[pair("posthog.set.plan", "pro")])]),
        span("failed", events=[Span.Event(name="exception")]),
        span("quiet", {"http.route": "/"}),
    )

    assert looked(body) == (["tagged", "child", "step", "failed", "exception"], (5, 2, 0))
    assert looked(body, wanted_of([], [ConvertConfig(exceptions=False)]))[1] == (5, 3, 0)
    assert looked(body, EVERYTHING)[1] == (5, 0, 0)


def test_what_only_looks_like_it_is_not_read() -> None:
    """An address, a text that speaks of exceptions, a key that ends so: none of them can make an event."""
    body = traces(
        span("GET", {"url.full": "https://eu.i.posthog.com/batch/", "server.address": "eu.posthog.com"}),
        span(
            "posthog.event",
            {"text": "see posthog.event", "exception.type": "in a span's own attributes", "x.exception": 1},
        ),
        span("log", {"exception.message": "an exception occurred"}, events=[Span.Event(name="exceptional")]),
    )

    assert looked(body) == ([], (3, 3, 0))


def test_tags_that_never_make_an_event_are_passed_over() -> None:
    """A service with our package stamps every span: that alone makes no span worth reading."""
    stamped = {"posthog.carrier": "bridge", "posthog.trace_sampled": True, "posthog.distinct_id": "ada"}

    assert looked(traces(span("a", stamped), span("b", {**stamped, "posthog.event": "paid"}))) == (["b"], (2, 1, 0))
    assert looked(logs(LogRecord(event_name="a", attributes=[pair("posthog.carrier", "log")])), kind="logs")[1][1] == 1
    final = [pair("posthog.carrier", "log"), pair("posthog.uuid", "x")]
    assert looked(logs(LogRecord(event_name="a", attributes=final)), kind="logs")[1][1] == 0


def test_tags_of_a_resource_make_nothing() -> None:
    """They are defaults: the items below them are read only where they are something themselves."""
    resource = {"posthog.event": "paid", "posthog.groups.company": "acme"}

    assert looked(traces(span("a"), span("b", {"posthog.event": "x"}), resource=resource)) == (["b"], (2, 1, 0))


def test_exceptions_of_log_records() -> None:
    """By attribute, by event name, and by the end of it; not where a text speaks of one."""
    body = logs(
        LogRecord(event_name="type", attributes=[pair("exception.type", "ValueError")]),
        LogRecord(event_name="exception"),
        LogRecord(event_name="http.server.exception"),
        LogRecord(event_name="quiet", body=AnyValue(string_value="no exception here")),
    )

    assert looked(body, kind="logs") == (["type", "exception", "http.server.exception"], (4, 1, 0))


RULES = """
rules:
  - {name: vip, match: {attributes: {shop.vip: true}}, capture: vip}
  - {name: checkout, match: {name: {glob: "POST /checkout*"}, span_kind: server}, capture: checkout}
  - {name: cart, match: {resource: {service.name: cart}}, capture: cart}
  - {name: paid, match: {kind: span_event, name: order paid}, capture: paid}
  - {name: dropped, match: {attributes: {shop.test: true}}, drop: true}
"""


def test_rules_say_what_else_is_read() -> None:
    """By attribute key, by name and kind of the span, by name of its event, by resource; a rule that drops: none."""
    spans = [
        span("vip", {"shop.vip": True}),
        span("not vip", {"shop.vip.since": 2020}),
        span("POST /checkout/7", kind=Span.SPAN_KIND_SERVER),
        span("POST /checkout/8", kind=Span.SPAN_KIND_CLIENT),
        span("holder", events=[Span.Event(name="order paid")]),
        span("order paid"),
        span("test", {"shop.test": True}),
    ]

    assert looked(traces(*spans), by(RULES)) == (["vip", "POST /checkout/7", "holder", "order paid"], (7, 4, 0))
    assert looked(traces(*spans, resource={"service.name": "cart"}), by(RULES))[1] == (7, 0, 0)


def test_a_rule_without_any_text_is_asked_of_every_item() -> None:
    """Of each span's name, kind and status, before its attributes are read."""
    wanted = by(
        "rules: [{name: slow, match: {span_kind: consumer, all: [{field: duration_ms, gte: 1000}]}, capture: x}]"
    )
    times = {"start_time_unix_nano": 10**9, "end_time_unix_nano": 3 * 10**9}

    assert looked(
        traces(
            span("slow", kind=Span.SPAN_KIND_CONSUMER, **times),
            span("server", kind=Span.SPAN_KIND_SERVER, **times),
            span("quick", kind=Span.SPAN_KIND_CONSUMER),
        ),
        wanted,
    ) == (["slow"], (3, 2, 0))


def test_several_projects_want_together() -> None:
    """What any of them wants is read."""
    one, two = (parse_text(f"rules: [{{name: a, match: {{name: {name}}}, capture: x}}]") for name in ("<one>", "<two>"))
    wanted = wanted_of([one, two], [ConvertConfig(), ConvertConfig(exceptions=False)])
    failed = span("failed", events=[Span.Event(name="exception")])

    assert looked(traces(span("<one>"), span("<two>"), span("<three>"), failed), wanted)[1] == (4, 1, 0)


# --- odd but legal -------------------------------------------------------------------------------------------------


def test_order_and_repetition_of_fields() -> None:
    """A resource behind its spans, in two parts; a scope behind its spans: the parts merge, as protobuf has it."""
    tagged = span("tagged", {"posthog.event": "paid"}).SerializeToString()
    first, second = (Resource(attributes=[pair(key, key)]).SerializeToString() for key in "ab")
    scope = field(2, tagged) + field(1, InstrumentationScope(name="late").SerializeToString())
    body = field(1, field(1, first) + field(2, scope) + field(1, second))
    (signal,) = prepare("traces", PROTOBUF, body, TAGS).signals()

    assert (signal.resource.attributes, signal.scope.name) == ({"a": "a", "b": "b"}, "late")


def test_lengths_written_longer_than_need_be() -> None:
    """`0x8D 0x00` is 13 too: the key, the attribute, the span are found all the same."""
    key = b"\x0a\x8d\x00posthog.event"
    attribute = key + b"\x12\x87\x00\x0a\x84\x00paid"
    of_span = b"\x4a" + bytes([len(attribute) | 0x80, 0]) + attribute
    exception = b"\x12\x89\x00exception"
    of_event = b"\x5a" + bytes([len(exception) | 0x80, 0]) + exception
    body = field(1, field(2, b"\x92\x00" + bytes([len(of_span)]) + of_span + field(2, of_event)))
    prepared = prepare("traces", PROTOBUF, body, TAGS)

    assert [signal.attributes for signal in prepared.signals()] == [{"posthog.event": "paid"}, {}, {}]


@pytest.mark.row(36)
def test_unknown_fields_and_empty_envelopes() -> None:
    """Fields of a later OTLP are passed over wherever they are; empty envelopes hold nothing."""
    unknown = b"\xfa\x07\x03new" + b"\xf8\x07\x05" + b"\xf9\x07" + b"\0" * 8 + b"\xfd\x07" + b"\0" * 4
    tagged = span("tagged", {"posthog.event": "paid"}).SerializeToString() + unknown
    body = unknown + field(1, unknown + field(2, unknown + field(2, tagged) + unknown + field(3, b"url")) + unknown)

    assert looked(body + unknown) == (["tagged"], (1, 0, 0))
    for empty in (
        b"",
        unknown,
        field(1, b""),
        field(1, field(2, b"")),
        field(1, field(1, b"") + field(2, field(1, b""))),
    ):
        assert looked(empty) == ([], (0, 0, 0))
        assert looked(empty, EVERYTHING) == ([], (0, 0, 0))


VALUES = {
    "text": "ü",
    "long": "x" * 200,
    "empty": "",
    "yes": True,
    "no": False,
    "zero": 0,
    "one byte": 127,
    "two bytes": 16_383,
    "three bytes": 2_097_151,
    "four bytes": 2_097_152,
    "negative": -1,
    "largest": 2**63 - 1,
    "float": 1.5,
    "negative zero": -0.0,
    "infinite": float("inf"),
    "bytes": b"\xff",
    "k" * 130: "a key with two bytes of length",
}


def test_values_of_every_kind() -> None:
    """Each value as it was written, types included, twice in a request."""
    tagged = span("tagged", {"posthog.event": "paid", **VALUES})
    tagged.attributes.extend(
        [
            KeyValue(key="absent"),
            KeyValue(key="none", value=AnyValue()),
            KeyValue(key="list", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)]))),
            KeyValue(value=AnyValue(string_value="no key")),
            pair("yes", "the last of several wins"),
        ]
    )
    first, second = prepare("traces", PROTOBUF, traces(tagged, tagged), TAGS).signals()
    expected = {"posthog.event": "paid", **VALUES, "absent": None, "none": None, "list": [1], "": "no key"}
    expected["yes"] = "the last of several wins"

    assert list(map(repr, first.attributes.items())) == list(map(repr, expected.items()))
    assert first.attributes == second.attributes
    assert first.attributes["list"] is not second.attributes["list"]


def test_signals_may_be_asked_for_twice() -> None:
    """The same each time; and `size` grows with what is held."""
    prepared = prepare("traces", PROTOBUF, traces(span("a", {"posthog.event": "x"})), TAGS)

    assert list(prepared.signals()) == list(prepared.signals())
    assert prepare("traces", PROTOBUF, traces(span("a")), TAGS).size == 0 < prepared.size


# --- bad bytes -----------------------------------------------------------------------------------------------------

MARK, BROKEN, MENDED = "BROKENTEXT", b"BROKEN\xff\xfe\xfd\xfc", "BROKEN\ufffd\ufffd\ufffd\ufffd"
TAG = {"posthog.event": "paid"}


@pytest.mark.row(30)
@pytest.mark.parametrize(
    "where", ["name", "key", "value", "long value", "event", "status", "link", "resource", "scope"]
)
def test_invalid_utf8_is_mended(where: str) -> None:
    """One tagged span with invalid UTF-8 among 99: all of them are read, and the answer says so."""
    spans = [span(f"span {number}", TAG) for number in range(99)]
    bad = span(MARK if where == "name" else "bad", {**TAG, **({MARK: "x"} if where == "key" else {})})
    if "value" in where:
        bad.attributes.append(pair("x", MARK + ("y" * 200 if where == "long value" else "")))
    if where == "event":
        bad.events.add(name="e", attributes=[pair(MARK, MARK)])
    if where == "link":
        bad.links.add(attributes=[pair("x", MARK)])
    if where == "status":
        bad.status.message = MARK
    resource = {**SHOP, "x": MARK} if where == "resource" else SHOP
    body = traces(*spans, bad, resource=resource, scope=MARK if where == "scope" else "shop")
    prepared = prepare("traces", PROTOBUF, body.replace(MARK.encode(), BROKEN), TAGS)

    assert MENDED in repr(list(prepared.signals())[99:])
    assert (prepared.received, prepared.candidates, prepared.rejected) == (100, 100, 0)
    assert prepared.messages == ("invalid UTF-8 was replaced by U+FFFD",)


@pytest.mark.row(30)
def test_untouched_items_with_bad_bytes_are_skipped() -> None:
    """What nobody wants is not looked into, however bad it is."""
    bad = field(2, b"\xff\xff\xff") + field(2, field(5, BROKEN))
    body = field(1, field(2, bad + field(2, span("good", TAG).SerializeToString())))

    assert looked(body) == (["good"], (3, 2, 0))
    assert looked(body, EVERYTHING) == (["BROKEN\ufffd\ufffd\ufffd\ufffd", "good"], (3, 0, 1))


def deep(depth: int) -> bytes:
    """A tagged span with a value in `depth` arrays."""
    innermost = AnyValue(string_value="x").SerializeToString()
    heads: list[bytes] = []  # from the inside out: copying the value at each level would take a minute
    size = len(innermost)
    for _ in range(depth):
        for number in (1, 5):
            heads.append(head(number, size))
            size += len(heads[-1])
    value = b"".join(reversed(heads)) + innermost
    tagged = span(f"deep {depth}", TAG).SerializeToString()
    return field(2, tagged + field(9, field(1, b"k") + field(2, value)))


@pytest.mark.row(31)
def test_nesting() -> None:
    """A value nested too deep rejects its own span, exactly one, and no other."""
    body = field(1, field(2, deep(10) + deep(40) + deep(1_000) + deep(100_000) + deep(0)))

    assert looked(body) == (["deep 10", "deep 40", "deep 0"], (5, 0, 2))
    assert prepare("traces", PROTOBUF, body, TAGS).messages == (
        "a span holds a value nested too deep, or broken protobuf",
    )


def test_a_broken_item_is_rejected_and_a_broken_owner_rejects_its_items() -> None:
    """Counts are exact, for spans and for log records."""
    tag = pair("posthog.event", "x").SerializeToString()
    broken = field(2, field(9, tag) + b"\x2a\x7fshort")
    good = field(2, field(5, b"good") + field(9, tag))

    assert looked(field(1, field(2, broken + good))) == (["good"], (2, 0, 1))
    assert looked(field(1, field(1, b"\x0a\x7fx") + field(2, good + good))) == ([], (2, 0, 2))
    assert looked(field(1, field(2, field(1, b"\x1a\x7fx") + good))) == ([], (1, 0, 1))
    record = field(2, field(6, tag) + b"\x2a\x02\x0a\x7f")
    assert looked(field(1, field(2, record)), kind="logs") == ([], (1, 0, 1))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"hello, world",
        b"\x00",
        b"\xff" * 40,
        b"\x0a",
        b"\x0a\x05ab",
        b"\x0b",
        b"<html><body>posthog.event</body></html>",
        traces(span("x" * 100, TAG))[:-20],
        traces(span("x" * 100))[:-20],
        b"\x1f\x8b\x08\x00",
    ],
)
def test_no_request(body: bytes) -> None:
    """What is no protobuf, or a part of it, raises, whether a needle is in it or not."""
    for wanted in (TAGS, EVERYTHING):
        with pytest.raises(SignalError, match="the body is not an OTLP protobuf request"):
            prepare("traces", PROTOBUF, body, wanted)


def test_another_media_type() -> None:
    """Nothing but protobuf and JSON is read."""
    with pytest.raises(SignalError, match="media type"):
        prepare("traces", "text/plain", b"", TAGS)


def test_a_storm_of_needles_is_not_followed_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of a million needles at the wrong place costs a thousand looks and one decoded span."""
    looks: list[int] = []
    stands = scan.stands
    monkeypatch.setattr(scan, "stands", lambda *args: looks.append(1) or stands(*args))
    storm = span("storm", {"text": "see posthog.exception" * 1_000_000})

    assert looked(traces(storm, span("quiet"), span("tagged", TAG))) == (["storm", "tagged"], (3, 1, 0))
    assert len(looks) < 3_000


@pytest.mark.row(34)
def test_odd_ids_and_times() -> None:
    """Ids of a wrong length or of zeros are none, times are taken as they come; the event is kept, its uuid stable."""
    ids = [b"", b"\1" * 15, b"\1" * 17, bytes(16), b"\1" * 16]
    times = [(0, 0), (2**63, 5), (10, 5), (1, 2**64 - 1), (4_102_444_800 * 10**9, 9_214_646_400 * 10**9)]
    spans = [
        span("a", TAG, trace_id=trace_id, span_id=trace_id[:8], start_time_unix_nano=start, end_time_unix_nano=end)
        for trace_id, (start, end) in zip(ids, times, strict=True)
    ]
    converter = Converter(ConvertConfig(), RuleSet())
    once, again = (
        [converter.convert(signal).events for signal in prepare("traces", PROTOBUF, traces(*spans), TAGS).signals()]
        for _ in range(2)
    )

    signals = list(prepare("traces", PROTOBUF, traces(*spans), TAGS).signals())
    assert [(signal.trace_id, signal.span_id) for signal in signals] == [
        ("", ""),
        ("", "01" * 8),
        ("", "01" * 8),
        ("", ""),
        ("01" * 16, "01" * 8),
    ]
    assert [(signal.start_time_ns, signal.time_ns) for signal in signals] == times
    assert once == again
    assert all(len(events) == 1 and 0 <= events[0].timestamp_ns < 2**63 for events in once)


@pytest.mark.row(32)
def test_limits_of_a_span() -> None:
    """10,000 attributes, a value and a key of 1 MiB, 5,000 events and links: read as they are; the converter cuts."""
    large = span(
        "large", {**TAG, **{f"k{number}": number for number in range(10_000)}, "v": "v" * 2**20, "k" * 2**20: 1}
    )
    large.events.extend(Span.Event(name=f"e{number}") for number in range(5_000))
    large.links.extend(Span.Link(span_id=b"12345678") for _ in range(5_000))
    prepared: Prepared = prepare("traces", PROTOBUF, traces(large, span("next", TAG)), TAGS)
    signals = list(prepared.signals())

    assert (len(signals), len(signals[0].attributes), len(signals[0].links)) == (5_002, 10_003, 5_000)
    assert (signals[5_000].name, signals[5_000].index, signals[5_001].name) == snapshot(("e4999", 4999, "next"))
