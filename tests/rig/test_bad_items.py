"""One bad span among 99 good ones, sent to a real gateway in each way: the 99 arrive, and the answer is exact."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import urllib3
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_posthog.emulator import Emulator
from tests.fixtures.gateway import GatewayProcess
from tests.rig.oracle import check, metric, request, until

pytestmark = pytest.mark.timeout(240)

Send = Callable[[bytes, bytes], tuple[int, str]]
"""(protobuf, JSON) of one request -> rejected items and message of the answer."""

BAD = 99
MARK, BROKEN = b"BROKENxx", b"check\xff\xfe!"


@pytest.fixture
def posthog() -> Iterator[Emulator]:
    """A local PostHog with PostHog's limits."""
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def gateway(tmp_path: Path, posthog: Emulator) -> Iterator[GatewayProcess]:
    """A gateway in front of it."""
    with GatewayProcess(tmp_path, posthog.url) as process:
        yield process


@pytest.fixture(params=["protobuf", "JSON", "gRPC"])
def send(request: pytest.FixtureRequest, gateway: GatewayProcess) -> Send:
    """One way of sending."""
    credential = f"Bearer {gateway.token}"

    def http(body: bytes, media_type: str) -> bytes:
        headers = {"content-type": media_type, "authorization": credential}
        answer = urllib3.request("POST", f"{gateway.http_url}/v1/traces", body=body, headers=headers, retries=False)
        assert answer.status == 200, answer.data
        return answer.data

    def by_protobuf(protobuf: bytes, _: bytes) -> tuple[int, str]:
        partial = ExportTraceServiceResponse.FromString(http(protobuf, "application/x-protobuf")).partial_success
        return partial.rejected_spans, partial.error_message

    def by_json(_: bytes, text: bytes) -> tuple[int, str]:
        partial = json.loads(http(text, "application/json")).get("partialSuccess", {})
        return int(partial.get("rejectedSpans", 0)), partial.get("errorMessage", "")

    def by_grpc(protobuf: bytes, _: bytes) -> tuple[int, str]:
        with grpc.insecure_channel(gateway.grpc_target) as channel:
            export = channel.unary_unary(
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
                response_deserializer=ExportTraceServiceResponse.FromString,
            )
            answer = export(protobuf, timeout=60, wait_for_ready=True, metadata=[("authorization", credential)])
        return answer.partial_success.rejected_spans, answer.partial_success.error_message

    return {"protobuf": by_protobuf, "JSON": by_json, "gRPC": by_grpc}[request.param]


def as_json(protobuf: bytes) -> bytes:
    """The same request as OTLP/JSON has it: ids in hex."""

    def hexed(value: Any) -> Any:
        if isinstance(value, list):
            return [hexed(each) for each in value]
        if not isinstance(value, dict):
            return value
        ids = ("traceId", "spanId")
        return {key: base64.b64decode(each).hex() if key in ids else hexed(each) for key, each in value.items()}

    message = ExportTraceServiceRequest.FromString(protobuf)
    return json.dumps(hexed(MessageToDict(message, use_integers_for_enums=True))).encode()


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    length, out = len(body), bytearray([number << 3 | 2])
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(out) + bytes([length]) + body


@pytest.mark.row(30)
def test_invalid_utf8(posthog: Emulator, send: Send) -> None:
    """It is mended, the answer says so and rejects nothing, and all hundred arrive."""
    body = request(range(BAD)) + request([BAD]).replace(b"checkout", MARK)
    rejected, message = send(body.replace(MARK, BROKEN), as_json(body).replace(MARK, BROKEN))
    assert (rejected, message) == (0, "invalid UTF-8 was replaced by U+FFFD")
    check(posthog, range(BAD + 1))


@pytest.mark.row(31)
@pytest.mark.parametrize("depth", [10, 1_000, 20_000])
def test_a_value_nested_deep(depth: int, posthog: Emulator, send: Send, gateway: GatewayProcess) -> None:
    """Ten levels are nothing; too many cost their own span, which is counted, and kept for the operator."""
    value = field(1, b"x")
    for _ in range(depth):
        value = field(5, field(1, value))
    message = ExportTraceServiceRequest.FromString(request([BAD]))
    span = message.resource_spans[0].scope_spans[0].spans[0]
    spliced = span.SerializeToString() + field(9, field(1, b"posthog.properties.deep") + field(2, value))
    deep = field(1, field(2, field(2, spliced)))
    span.attributes.add(key="posthog.properties.deep").value.string_value = "DEEP"
    text = as_json(request(range(BAD)) + message.SerializeToString())
    nested = b'{"arrayValue": {"values": [' * depth + b'{"stringValue": "x"}' + b"]}}" * depth
    rejected, message_of_it = send(request(range(BAD)) + deep, text.replace(b'{"stringValue": "DEEP"}', nested))
    lost = depth > 45
    assert (rejected, bool(message_of_it)) == (int(lost), lost)
    check(posthog, range(BAD + 1), without=[BAD] if lost else [])
    assert until(lambda: metric(gateway, "otel_posthog_dead_letters_kept", reason="unreadable_items") == int(lost))


@pytest.mark.row(32)
def test_a_span_that_is_too_much(posthog: Emulator, send: Send, gateway: GatewayProcess) -> None:
    """10,000 attributes, a value and a key of 1 MiB, 5,000 events and links, doubled keys: cut to PostHog's limit."""
    message = ExportTraceServiceRequest.FromString(request([BAD]))
    span = message.resource_spans[0].scope_spans[0].spans[0]
    for number in range(10_000):
        span.attributes.add(key=f"posthog.properties.k{number}").value.string_value = "v" * 20
    for key, value in (("v", "v" * 2**20), ("k" * 2**20, "x"), ("", "x"), ("twice", "first"), ("twice", "last")):
        span.attributes.add(key=f"posthog.properties.{key}" if key else "").value.string_value = value
    for number in range(5_000):
        span.events.add(name=f"event {number}")
        span.links.add(span_id=b"12345678")
    body = request(range(BAD)) + message.SerializeToString()
    assert send(body, as_json(body))[0] == 0
    check(posthog, range(BAD + 1))
    [large] = posthog.events(distinct_id=f"person-{BAD}")
    assert len(json.dumps(large["properties"])) < 1_000_000
    assert large["properties"]["twice"] == "last"
    assert large["properties"]["k0"] == "v" * 20
    assert metric(gateway, "otel_posthog_signals_mended_total") > 0
