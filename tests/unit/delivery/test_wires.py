"""The wire codecs, shown by whole requests; the same event by every one."""

from __future__ import annotations

import gzip
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import Is, snapshot
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret
from otel_posthog.delivery.build import build_wire
from otel_posthog.delivery.encoding import dumps, rfc3339
from otel_posthog.delivery.json_event import event_of, record_of
from otel_posthog.delivery.protocols import Response
from otel_posthog.delivery.wire import USER_AGENT, Batch, Wire
from otel_posthog.errors import BatchRefusedError, MisdirectedError, PermanentError, RetryableError, ThrottledError
from otel_posthog.model import CaptureEvent, LossReason
from otel_posthog.version import __version__
from tests.unit.delivery.loopback import event
from tests.unit.delivery.test_encoding import values

NOW = 1_763_600_100.5
FULL = event(
    1,
    properties={
        "plan": "pro",
        "$session_id": "0199aaaa-0000-7000-8000-000000000001",
        "$window_id": "w1",
        "$process_person_profile": False,
        "$set": {"email": "ada@example.com"},
        "$lib": "otel-posthog",
        "$lib_version": __version__,
    },
)


def wire_of(version: str, *, fast: bool = False, compression: str = "none") -> Wire:
    """A codec towards PostHog."""
    lane = Lane(Mode.DIRECT, "https://eu.i.posthog.com/", Secret("phc_token"))
    return build_wire(lane, DeliveryConfig(wire=version, compression=compression), fast=fast)


def otlp(**arguments: Any) -> Wire:
    """A codec towards a Collector."""
    lane = Lane(Mode.COLLECTOR, "http://otelcol:4318/v1/logs", Secret("bearer"), {"x-tenant": Secret("a")})
    return build_wire(lane, DeliveryConfig(compression="none"), fast=False, **arguments)


def batch_of(wire: Wire, *events: CaptureEvent, attempts: int = 1) -> Batch:
    """A batch as the engine makes it."""
    parcels = [wire.encode(made, record=False) for made in events]
    return Batch(parcels, "0190aaaa-0000-4000-8000-000000000000", 1_763_600_099_000_000_000, attempts)


def test_a_whole_v0_request() -> None:
    """Key and fresh `sent_at` in the body, skew correction off, everything else among the properties."""
    request = wire_of("v0").request(batch_of(wire_of("v0"), FULL), NOW)
    assert (request.url, dict(request.headers)) == snapshot(
        (
            "https://eu.i.posthog.com/batch/",
            {"Content-Type": "application/json", "User-Agent": Is(USER_AGENT)},
        )
    )
    assert json.loads(request.body) == snapshot(
        {
            "api_key": "phc_token",
            "historical_migration": False,
            "sent_at": "2025-11-20T00:55:00.500000Z",
            "batch": [
                {
                    "event": "order placed",
                    "uuid": "01900000-0000-7000-8000-000000000001",
                    "distinct_id": "user-1",
                    "timestamp": "2025-11-20T00:53:20.001000Z",
                    "properties": {
                        "$ignore_sent_at": True,
                        "$session_id": "0199aaaa-0000-7000-8000-000000000001",
                        "$window_id": "w1",
                        "$process_person_profile": False,
                        "$lib": "otel-posthog",
                        "$lib_version": Is(__version__),
                        "plan": "pro",
                        "$set": {"email": "ada@example.com"},
                    },
                }
            ],
        }
    )


def test_a_whole_v1_request() -> None:
    """Bearer key, library in the header, session beside the properties, options typed; the second attempt says so."""
    request = wire_of("v1").request(batch_of(wire_of("v1"), FULL, attempts=2), NOW)
    assert (request.url, dict(request.headers)) == snapshot(
        (
            "https://eu.i.posthog.com/i/v1/analytics/events",
            {
                "Content-Type": "application/json",
                "User-Agent": Is(USER_AGENT),
                "Authorization": "Bearer phc_token",
                "PostHog-Sdk-Info": Is(USER_AGENT),
                "PostHog-Attempt": "2",
                "PostHog-Request-Id": "0190aaaa-0000-4000-8000-000000000000",
                "PostHog-Request-Timestamp": "2025-11-20T00:55:00.500000Z",
            },
        )
    )
    assert json.loads(request.body) == snapshot(
        {
            "created_at": "2025-11-20T00:54:59.000000Z",
            "batch": [
                {
                    "event": "order placed",
                    "uuid": "01900000-0000-7000-8000-000000000001",
                    "distinct_id": "user-1",
                    "timestamp": "2025-11-20T00:53:20.001000Z",
                    "session_id": "0199aaaa-0000-7000-8000-000000000001",
                    "window_id": "w1",
                    "options": {"disable_skew_correction": True, "process_person_profile": False},
                    "properties": {"plan": "pro", "$set": {"email": "ada@example.com"}},
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({}, {"options": {"disable_skew_correction": True}, "properties": {}}),
        (
            {"$process_person_profile": "true"},
            {"options": {"disable_skew_correction": True, "process_person_profile": True}, "properties": {}},
        ),
        (
            {"$process_person_profile": "maybe", "a": 1},
            {"options": {"disable_skew_correction": True}, "properties": {"a": 1}},
        ),
        (
            {"$cookieless_mode": 1, "$product_tour_id": "t", "$ignore_sent_at": False},
            {
                "options": {"disable_skew_correction": True, "cookieless_mode": True, "product_tour_id": "t"},
                "properties": {},
            },
        ),
        ({"$product_tour_id": 7}, {"options": {"disable_skew_correction": True}, "properties": {}}),
        (
            {"$session_id": 7, "a": 1},
            {"options": {"disable_skew_correction": True}, "properties": {"$session_id": 7, "a": 1}},
        ),
        (
            {"$lib": "posthog-java", "$lib_version": "1.0"},
            {
                "options": {"disable_skew_correction": True},
                "properties": {"$lib": "posthog-java", "$lib_version": "1.0"},
            },
        ),
    ],
)
def test_v1_options(properties: dict[str, Any], expected: dict[str, Any]) -> None:
    """Options have the type that v1 demands or are left out; another library's name stays a property."""
    wire = wire_of("v1")
    body = json.loads(wire.request(batch_of(wire, event(1, properties=properties)), NOW).body)
    sent = body["batch"][0]
    assert {name: sent[name] for name in sent if name in ("options", "properties", "session_id")} == expected


names = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda name: not name.startswith("$"))


@given(st.dictionaries(names, values, max_size=6), st.booleans())
def test_properties_are_the_same_on_every_wire(properties: dict[str, Any], fast: bool) -> None:
    """v0, v1, the spool and its way back: the same properties, by the fast and the slow encoder."""
    made = event(3, properties=properties)
    v0, v1 = wire_of("v0", fast=fast), wire_of("v1", fast=fast)
    sent = json.loads(v0.request(batch_of(v0, made), NOW).body)["batch"][0]["properties"]
    assert sent.pop("$ignore_sent_at") is True
    assert sent == properties
    assert json.loads(v1.request(batch_of(v1, made), NOW).body)["batch"][0]["properties"] == properties
    assert event_of(v1.encode(made, record=True).record) == made
    assert event_of(record_of(made, dumps)) == made


def test_compressed_bodies_say_so() -> None:
    """Gzip with its header, the same JSON inside."""
    for version in ("v0", "v1"):
        plain, squeezed = wire_of(version), wire_of(version, compression="gzip")
        request = squeezed.request(batch_of(squeezed, FULL), NOW)
        assert request.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(request.body) == plain.request(batch_of(plain, FULL), NOW).body


@pytest.mark.parametrize(
    "changes",
    [
        {"uuid": ""},
        {"uuid": "nonsense"},
        {"event": ""},
        {"distinct_id": ""},
        {"properties": {"blob": "x" * 1_000_001}},
    ],
)
def test_what_would_spoil_a_batch_is_refused_alone(changes: dict[str, Any]) -> None:
    """Validated before it is batched: one such event fails the whole request at the server."""
    with pytest.raises(PermanentError):
        wire_of("v1").encode(event(1, **changes), record=False)


@pytest.mark.parametrize("version", ["v0", "v1", "auto"])
def test_many_are_encoded_as_each_is(version: str) -> None:
    """A slice is its events one by one; one that is impossible fails it whole, so that it can be found."""
    wire = wire_of(version)
    events = [FULL, event(2, timestamp_ns=0), event(3, properties={"ü": "\u20ac \ud83e", "n": math.nan}), event(4)]
    together = wire.encode_all(events, record=True)
    singly = [wire.encode(made, record=True) for made in events]
    assert [(p.uuid, p.parts, p.size, p.record) for p in together] == [
        (p.uuid, p.parts, p.size, p.record) for p in singly
    ]
    assert wire.encode_all([], record=False) == []
    for bad in (event(9, uuid="nonsense"), event(9, event=""), event(9, uuid=7), event(9, distinct_id="")):
        with pytest.raises(PermanentError):
            wire.encode_all([event(1), bad], record=False)
    for bad in (event(9, timestamp_ns=-5), event(9, properties={"x": {1, 2}}), event(9, event=7)):
        with pytest.raises((ValueError, TypeError)):
            wire.encode_all([event(1, timestamp_ns=5), bad], record=False)


@given(st.lists(st.integers(0, 253_402_300_799_999_999_999), min_size=1, max_size=5))
def test_times_of_a_slice(times: list[int]) -> None:
    """Neighbours of one second and of others: each has its own time, in whatever order."""
    events = [event(number, timestamp_ns=time) for number, time in enumerate(times)]
    body = json.loads(wire_of("v1").request(batch_of(wire_of("v1"), *events), NOW).body)
    assert [sent["timestamp"] for sent in body["batch"]] == [rfc3339(time) for time in times]


def test_other_spellings_of_a_uuid_become_the_usual_one() -> None:
    """Braces and missing dashes: the answer will name it in canonical form."""
    (parcel,) = wire_of("v1").encode_all([event(1, uuid="{" + event(1).uuid.replace("-", "") + "}")], record=False)
    assert parcel.uuid == event(1).uuid


def test_the_size_is_never_too_low() -> None:
    """What it adds to a body, in either version: a batch must not grow past the server's limit."""
    shapes = [
        FULL,
        event(1, properties={}),
        event(2, properties={"$lib": "x"}),
        event(3, properties={"ü": "\u20ac" * 99}),
    ]
    for version in ("v0", "v1"):
        for made in shapes:
            wire = wire_of(version)
            two = batch_of(wire, made, event(7))
            added = len(wire.request(two, NOW).body) - len(wire.request(batch_of(wire, event(7)), NOW).body)
            assert added <= two.parcels[0].size + 1 <= added + 250


OK_1, OK_2 = (f'"{event(number).uuid}":{{"result":"ok"}}' for number in (1, 2))


@pytest.mark.parametrize(
    ("body", "delivered", "again"),
    [
        (f'{{"results":{{{OK_1},{OK_2}}}}}', 2, 0),
        (json.dumps({"results": {event(number).uuid: {"result": "ok"} for number in (2, 1)}}, indent=2), 2, 0),
        (f'{{"results":{{{OK_1}}}}}', 1, 1),
        (f'{{"results":{{{OK_1},{OK_2.replace("ok", "retry")}}}}}', 1, 1),
        (json.dumps({"results": {event(1).uuid: {"result": "ok", "details": OK_2}}}), 1, 1),
        (json.dumps({"results": {event(n).uuid.upper(): {"result": "ok"} for n in (1, 2)}}), 2, 0),
    ],
)
def test_who_is_delivered(body: str, delivered: int, again: int) -> None:
    """However an answer is written, exactly those that it calls ok are; a text about another event is no verdict."""
    wire = wire_of("v1")
    verdicts = wire.read(batch_of(wire, event(1), event(2)), Response(200, {}, body.encode()), NOW)
    assert (len(verdicts.delivered), len(verdicts.again), len(verdicts.lost)) == (delivered, again, 0)


# --- OTLP ----------------------------------------------------------------------------------------------------------


def records_of(wire: Wire, *events: CaptureEvent) -> ExportLogsServiceRequest:
    """What a Collector parses."""
    return ExportLogsServiceRequest.FromString(wire.request(batch_of(wire, *events), NOW).body)


def test_a_whole_otlp_request() -> None:
    """Resource, scope, and a record that says everything about the event."""
    made = event(
        1,
        properties={
            "plan": "pro",
            "count": 2,
            "ratio": 0.5,
            "tags": ["a", "b"],
            "nested": {"a": [1]},
            "nothing": None,
            "huge": 2**64,
            "$set": {"email": "ada@example.com"},
            "$set_once": {},
            "$unset": ["old"],
            "$groups": {"company": "acme"},
            "$session_id": "s",
            "$process_person_profile": False,
            "$trace_id": "0af7651916cd43dd8448eb211c80319c",
            "$span_id": "b7ad6b7169203331",
        },
    )
    wire = otlp(resource={"service.name": "shop"})
    request = wire.request(batch_of(wire, made), NOW)
    assert request.url == "http://otelcol:4318/v1/logs"
    assert dict(request.headers) == {
        "Content-Type": "application/x-protobuf",
        "User-Agent": f"otel-posthog/{__version__}",
        "authorization": "Bearer bearer",
        "x-tenant": "a",
    }
    (resource_logs,) = ExportLogsServiceRequest.FromString(request.body).resource_logs
    (scope_logs,) = resource_logs.scope_logs
    (record,) = scope_logs.log_records
    assert plain(resource_logs.resource.attributes) == {"service.name": "shop"}
    assert (scope_logs.scope.name, scope_logs.scope.version) == ("otel-posthog", __version__)
    assert (record.event_name, record.time_unix_nano, record.observed_time_unix_nano) == (
        "order placed",
        made.timestamp_ns,
        made.timestamp_ns,
    )
    assert (record.trace_id.hex(), record.span_id.hex()) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert plain(record.attributes) == snapshot(
        {
            "posthog.event": "order placed",
            "posthog.distinct_id": "user-1",
            "posthog.uuid": "01900000-0000-7000-8000-000000000001",
            "posthog.carrier": "log",
            "posthog.properties.plan": "pro",
            "posthog.properties.count": 2,
            "posthog.properties.ratio": 0.5,
            "posthog.properties.tags": ["a", "b"],
            "posthog.set.email": "ada@example.com",
            "posthog.unset": ["old"],
            "posthog.groups.company": "acme",
            "posthog.session_id": "s",
            "posthog.process_person_profile": False,
            "posthog.properties_json": '{"nested":{"a":[1]},"nothing":null,"huge":18446744073709551616,"$set_once":{}}',
        }
    )


def plain(pairs: Any) -> dict[str, Any]:
    """OTLP attributes as Python values."""

    def value(item: Any) -> Any:
        kind = item.WhichOneof("value")
        found = getattr(item, kind)
        return [value(inner) for inner in found.values] if kind == "array_value" else found

    return {pair.key: value(pair.value) for pair in pairs}


def test_no_more_than_a_hundred_attributes() -> None:
    """What SDKs and Collectors would cut travels packed."""
    made = event(1, properties={f"p{number}": number for number in range(300)})
    (record,) = records_of(otlp(), made).resource_logs[0].scope_logs[0].log_records
    attributes = {pair.key: pair.value for pair in record.attributes}
    assert len(attributes) == 101
    packed = json.loads(attributes["posthog.properties_json"].string_value)
    flat = [name for name in attributes if name.startswith("posthog.properties.")]
    assert len(packed) + len(flat) == 300


def test_many_records_in_one_request() -> None:
    """Lengths of more than one byte, many records, order kept."""
    events = [event(number, properties={"text": "x" * number * 50}) for number in range(60)]
    records = records_of(otlp(), *events).resource_logs[0].scope_logs[0].log_records
    uuids = [next(pair.value.string_value for pair in r.attributes if pair.key == "posthog.uuid") for r in records]
    assert uuids == [made.uuid for made in events]
    assert [record.time_unix_nano for record in records] == [made.timestamp_ns for made in events]


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), values, max_size=8))
def test_otlp_by_hand_is_what_protobuf_reads(properties: dict[str, Any]) -> None:
    """The official messages parse every record, know every field, and give back every property."""
    made = event(1, properties=properties)
    request = records_of(otlp(resource={"service.name": "shop", "n": -7, "on": True}), made)
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    attributes = plain(record.attributes)
    back = json.loads(attributes.pop("posthog.properties_json", "{}"))
    prefix = "posthog.properties."
    back.update({name.removeprefix(prefix): attributes[name] for name in attributes if name.startswith(prefix)})
    assert back == {name: value for name, value in properties.items() if not name.startswith("$") or name in back}
    assert plain(request.resource_logs[0].resource.attributes) == {"service.name": "shop", "n": -7, "on": True}
    again = ExportLogsServiceRequest.FromString(request.SerializeToString(deterministic=True))
    assert again == request


PROTO = {"content-type": "application/x-protobuf"}
PARTIAL = ExportLogsServiceResponse(
    partial_success=ExportLogsPartialSuccess(rejected_log_records=2, error_message="no")
).SerializeToString()


@pytest.mark.parametrize(
    ("response", "delivered"),
    [
        (Response(200, PROTO, b""), 5),
        (Response(202, {}, b""), 5),
        (Response(200, PROTO, ExportLogsServiceResponse().SerializeToString()), 5),
        (Response(200, PROTO, PARTIAL), 3),
        (Response(200, {"content-type": "application/json"}, b'{"partialSuccess":{"rejectedLogRecords":"2"}}'), 3),
        (Response(200, {"content-type": "application/json"}, b"{}"), 5),
        (Response(200, {"content-type": "application/json"}, b"{broken"), 5),
        (Response(200, PROTO, b"\xff\xff\xff"), 5),
        (Response(200, {"content-type": "application/json"}, b'{"partialSuccess":{"rejectedLogRecords":99}}'), 0),
        (Response(200, {"content-type": "application/json"}, b'{"partialSuccess":{"rejectedLogRecords":-9}}'), 5),
    ],
)
def test_partial_success(response: Response, delivered: int) -> None:
    """What a Collector rejects is lost and counted; nothing is sent again."""
    wire = otlp()
    verdicts = wire.read(batch_of(wire, *(event(number) for number in range(5))), response, NOW)
    assert (len(verdicts.delivered), len(verdicts.again)) == (delivered, 0)
    assert [reason for _, reason in verdicts.lost] == [LossReason.REJECTED] * (5 - delivered)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(code, BatchRefusedError) for code in (400, 413, 422)]
    + [(code, RetryableError) for code in (301, 307, 401, 403, 404, 405, 408, 429, 500, 501, 502, 503, 504)]
    + [(code, PermanentError) for code in (402, 406, 411, 415, 418)],
)
def test_the_status_table_of_otlp(code: int, kind: type[Exception]) -> None:
    """Only what says something about the data loses data."""
    wire = otlp()
    with pytest.raises(kind) as failure:
        wire.read(batch_of(wire, event()), Response(code, {"retry-after": "5"}, b""), NOW)
    assert isinstance(failure.value, ThrottledError) == (code in (408, 429) or code >= 500)


@pytest.mark.row(8)
def test_an_answer_without_end_is_none_of_posthogs() -> None:
    """v0 defines no body, so that 200 alone decides; but not where it fills all that is read of any answer."""
    wire = wire_of("v0")
    batch = batch_of(wire, event())
    assert wire.read(batch, Response(200, {}, b" " * (64 * 1024 - 1)), NOW).delivered == batch.parcels
    with pytest.raises(MisdirectedError):
        wire.read(batch, Response(200, {}, b" " * 64 * 1024), NOW)


def test_a_web_page_is_no_collector() -> None:
    """200 with HTML is retryable."""
    wire = otlp()
    for response in (Response(200, {"content-type": "text/html"}, b""), Response(200, {}, b"  <html>")):
        with pytest.raises(RetryableError):
            wire.read(batch_of(wire, event()), response, NOW)
