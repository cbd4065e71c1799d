"""A finished event survives the way through a Collector: OTLP log record, gateway decoding, conversion."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourcePb

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.delivery.otlp_record import any_value, log_record, resource_bytes, scope_bytes
from otel_posthog.gateway.decode.request import PROTOBUF, decode_logs
from otel_posthog.model import CaptureEvent, Decision
from otel_posthog.rules import RuleSet
from otel_posthog.semconv import posthog

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
NAMES = TEXT.filter(lambda text: bool(text.strip()))
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), st.booleans(), INTS, FLOATS, TEXT)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=10,
)
MAPS = st.dictionaries(TEXT, JSON, max_size=4)
PROPERTIES = st.tuples(
    st.dictionaries(TEXT, JSON, max_size=6),
    st.fixed_dictionaries(
        {},
        optional={
            "$set": MAPS,
            "$set_once": MAPS,
            "$unset": st.lists(TEXT, max_size=3) | JSON,
            "$groups": st.dictionaries(TEXT, TEXT, max_size=3),
            "$session_id": st.sampled_from(["018f3f5a-7b1c-7def-8abc-0123456789ab", "s-1", ""]),
            "$window_id": TEXT,
            "$process_person_profile": st.booleans() | st.none() | TEXT,
            "$trace_id": st.sampled_from(["a" * 32, "0" * 32, "", "A" * 32, "abc"]),
            "$span_id": st.sampled_from(["b" * 16, "0" * 16, "zz"]),
            "$exception_list": st.just([{"type": "E", "value": "", "stacktrace": {"frames": [{"lineno": 1}]}}]),
            "posthog.properties_json": TEXT,
        },
    ),
).map(lambda parts: {**parts[0], **parts[1]})
EVENTS = st.builds(
    CaptureEvent,
    event=NAMES,
    distinct_id=st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=40).filter(
        lambda text: text == text.strip() and text.lower() not in posthog.ILLEGAL_DISTINCT_IDS
    ),
    uuid=st.uuids().map(str).filter(lambda text: text != "00000000-0000-0000-0000-000000000000"),
    timestamp_ns=st.integers(0, 2**63 - 1),
    properties=PROPERTIES,
)


def through_the_collector(event: CaptureEvent, **config: object) -> Decision:
    """Encode as delivery does, wrap as a Collector does, decode and convert as the gateway does."""
    record = LogRecord.FromString(log_record(event, lambda value: json.dumps(value).encode()))
    resource = ResourcePb.FromString(resource_bytes({"service.name": "shop", posthog.CARRIER: "bridge:abc"}))
    # What a Collector and the emitting SDK may have put on the resource must not reach a finished event.
    resource.attributes.add(key="posthog.properties.region", value=AnyValue.FromString(any_value("eu")))
    request = ExportLogsServiceRequest(
        resource_logs=[
            ResourceLogs(
                resource=resource,
                scope_logs=[ScopeLogs(scope=InstrumentationScope.FromString(scope_bytes()), log_records=[record])],
            )
        ]
    )
    (signal,) = decode_logs(request.SerializeToString(), content_type=PROTOBUF)
    return Converter(ConvertConfig(**config), RuleSet()).convert(signal)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(EVENTS, st.booleans())
def test_round_trip(event: CaptureEvent, honour: bool) -> None:
    """The gateway's event equals the process's, uuid, time and every property, whatever the gateway honours."""
    decision = through_the_collector(event, honour_carrier=honour)

    assert (decision.events, decision.reason) == ((event,), None)


@pytest.mark.parametrize("count", [90, 95, 96, 97, 101, 128, 500])
def test_many_properties(count: int) -> None:
    """Events near and beyond the attribute limits arrive whole."""
    properties = {f"p{number}": number for number in range(count)}
    event = CaptureEvent("many", "u1", "018f3f5a-7b1c-7def-8abc-0123456789ab", 1, {**properties, "$set": {"a": 1}})

    assert through_the_collector(event).events == (event,)


def test_large_exception() -> None:
    """A long chain with deep stacks is not cut by the limits that hold for attributes."""
    frame = {"platform": "python", "filename": "a.py", "function": "f", "lineno": 1, "pre_context": ["x"] * 5}
    chain = [{"type": "E", "value": "", "stacktrace": {"type": "raw", "frames": [dict(frame)] * 128}}] * 40
    event = CaptureEvent("$exception", "u1", "018f3f5a-7b1c-7def-8abc-0123456789ab", 1, {"$exception_list": chain})

    assert through_the_collector(event).events == (event,)


def test_long_value_of_a_generous_process() -> None:
    """A value limit that is lower at the gateway does not cut what the process let through."""
    event = CaptureEvent("long", "u1", "018f3f5a-7b1c-7def-8abc-0123456789ab", 1, {"text": "x" * 100_000})

    assert through_the_collector(event, max_value_bytes=1_000).events == (event,)
