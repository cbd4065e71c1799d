"""OTLP as PostHog's telemetry endpoints take it (posthog-wire §4.1, §4.2)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
AUTH = {"Authorization": "Bearer phc_project_token_for_tests"}


def text(key: str, value: str) -> dict[str, Any]:
    """A text attribute in OTLP/JSON."""
    return {"key": key, "value": {"stringValue": value}}


TRACES = {
    "resourceSpans": [
        {
            "resource": {"attributes": [text("service.name", "shop"), text("sessionId", "s-resource")]},
            "scopeSpans": [
                {
                    "scope": {"name": "flask"},
                    "spans": [
                        {
                            "traceId": TRACE_ID,
                            "spanId": SPAN_ID,
                            "name": "GET /",
                            "kind": 2,
                            "startTimeUnixNano": "1700000000000000000",
                            "endTimeUnixNano": "1700000001000000000",
                            "attributes": [
                                text("posthogDistinctId", "ada"),
                                {"key": "n", "value": {"intValue": "5"}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}]}}},
                                {"key": "map", "value": {"kvlistValue": {"values": [text("a", "b")]}}},
                                {"key": "raw", "value": {"bytesValue": "AQI="}},
                                {"key": "none", "value": {}},
                            ],
                            "events": [{"name": "exception", "timeUnixNano": "1700000000500000000"}],
                            "status": {"code": 2, "message": "boom"},
                        }
                    ],
                }
            ],
        }
    ]
}
LOGS = {
    "resourceLogs": [
        {
            "resource": {"attributes": [text("service.name", "shop")]},
            "scopeLogs": [
                {
                    "logRecords": [
                        {
                            "observedTimeUnixNano": "1700000000000000000",
                            "severityText": "ERROR",
                            "body": {"stringValue": "failed"},
                            "traceId": TRACE_ID,
                            "spanId": SPAN_ID,
                            "attributes": [text("posthogDistinctId", "ada"), text("sessionId", "s")],
                        },
                        {"timeUnixNano": "1700000000000000001", "eventName": "cart.paid"},
                    ]
                }
            ],
        }
    ]
}
METRICS = {
    "resourceMetrics": [
        {
            "scopeMetrics": [
                {
                    "metrics": [
                        {"name": "m", "unit": "s", "gauge": {"dataPoints": [{"timeUnixNano": "5", "asInt": "1"}]}}
                    ]
                }
            ]
        }
    ]
}
SIGNALS = {
    "traces": (TRACES, ExportTraceServiceRequest),
    "logs": (LOGS, ExportLogsServiceRequest),
    "metrics": (METRICS, ExportMetricsServiceRequest),
}


def protobuf(signal: str) -> bytes:
    """The JSON example of `signal`, as protobuf; ids of JSON's protobuf mapping are base64, hence the detour."""
    from google.protobuf import json_format

    document, kind = SIGNALS[signal]
    plain = json.dumps(document).replace(TRACE_ID, "CvdlGRbNQ92ESOshHIAxnA==").replace(SPAN_ID, "t61rcWkgMzE=")
    return json_format.Parse(plain, kind()).SerializeToString()


@pytest.mark.parametrize("prefix", ["/i", ""])
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("form", ["protobuf", "json", "gzip protobuf", "gzip json"])
def test_forms(client: Any, emulator: Any, signal: str, form: str, prefix: str) -> None:
    """4.1: protobuf and JSON, gzip or not, all sniffed, give the same rows; the answer is `{}`."""
    body = protobuf(signal) if "protobuf" in form else json.dumps(SIGNALS[signal][0]).encode()
    if "gzip" in form:
        body = gzip.compress(body)

    answer = client.request("POST", f"{prefix}/v1/{signal}", body, AUTH)

    assert (answer.status, answer.json()) == (200, {})
    stats = emulator.stats()
    assert (stats["spans"], stats["logs"], stats["metrics"]) == {
        "traces": (1, 0, 0),
        "logs": (0, 2, 0),
        "metrics": (0, 0, 1),
    }[signal]


def test_whole_span(client: Any, emulator: Any) -> None:
    """Ids are hex, the links to person and replay are shown, the resource is the default."""
    client.post("/i/v1/traces", TRACES, AUTH)

    [span] = emulator.spans(trace_id=TRACE_ID)
    assert span == {
        "id": span["id"],
        "token": "phc_project_token_for_tests",
        "signal": "traces",
        "name": "GET /",
        "service": "shop",
        "time_ns": 1700000001000000000,
        "trace_id": TRACE_ID,
        "span_id": SPAN_ID,
        "distinct_id": "ada",
        "session_id": "s-resource",
        "received_at": "2026-11-20T12:00:00.000000Z",
        "data": {
            "name": "GET /",
            "kind": "server",
            "parent_span_id": "",
            "start_ns": 1700000000000000000,
            "end_ns": 1700000001000000000,
            "status": {"code": 2, "message": "boom"},
            "attributes": {
                "posthogDistinctId": "ada",
                "n": 5,
                "list": [True],
                "map": {"a": "b"},
                "raw": "0102",
                "none": None,
            },
            "events": [{"name": "exception", "time_ns": 1700000000500000000, "attributes": {}}],
            "links": [],
            "scope": "flask",
            "resource": {"service.name": "shop", "sessionId": "s-resource"},
        },
    }


def test_log_records(client: Any, emulator: Any) -> None:
    """A record is named by its event name, else by its body; observed time stands in."""
    client.post("/i/v1/logs", LOGS, AUTH)

    assert [
        (log["name"], log["distinct_id"], log["session_id"], log["time_ns"], log["trace_id"]) for log in emulator.logs()
    ] == [("failed", "ada", "s", 1700000000000000000, TRACE_ID), ("cart.paid", "", "", 1700000000000000001, "")]
    assert emulator.events() == []


def test_json_lines(client: Any, emulator: Any) -> None:
    """4.1: logs come as JSON lines too, traces do not."""
    logs, traces = (("\n".join([json.dumps(d)] * 2)).encode() for d in (LOGS, TRACES))

    assert client.post("/i/v1/logs", logs, AUTH).status == 200
    assert client.post("/i/v1/traces", traces, AUTH).status == 400
    assert len(emulator.logs()) == 4


def test_token_places(client: Any) -> None:
    """4.1: bearer or `?token=`; none, a wrong scheme or a personal key is 401."""
    path = "/i/v1/traces"
    statuses = [
        client.post(path, TRACES, AUTH).status,
        client.post(f"{path}?token=phc_abc", TRACES).status,
        client.post(path, TRACES).status,
        client.post(path, TRACES, {"Authorization": "Basic abc"}).status,
        client.post(path, TRACES, {"Authorization": "Bearer phx_abc"}).status,
    ]

    assert statuses == [200, 200, 401, 401, 401]


BAD = {
    "no JSON, no protobuf": b"\xff\xff\xff",
    "JSON that is no object": b"[]",
    "ids that are not hex": json.dumps(TRACES).replace(TRACE_ID, "z" * 32).encode(),
    "an id of the wrong length": json.dumps(TRACES).replace(TRACE_ID, "abcd").encode(),
    "a field of the wrong type": b'{"resourceSpans": 5}',
    "truncated gzip": gzip.compress(b"{}" * 100)[:-9],
    "nested too deep": b'{"a":' * 3000,
}


@pytest.mark.parametrize("name", BAD)
def test_undecodable_is_refused_whole(client: Any, emulator: Any, name: str) -> None:
    """4.1: one record that cannot be read refuses the request."""
    answer = client.post("/i/v1/traces", BAD[name], AUTH)

    assert (answer.status, list(answer.json())) == (400, ["error"])
    assert emulator.spans() == []


def test_limits(client: Any) -> None:
    """4.1: 2 MiB after decompression."""
    big = b'{"resourceSpans": []}' + b" " * (2 * 1024 * 1024)

    assert [client.post("/i/v1/traces", body, AUTH).status for body in (big, gzip.compress(big))] == [413, 413]


def test_the_stock_exporters(emulator: Any) -> None:
    """The exporters of the OpenTelemetry SDK, pointed at `endpoint`, deliver."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(
        endpoint=f"{emulator.endpoint}/v1/traces", headers={"authorization": AUTH["Authorization"]}
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.get_tracer("t").start_span("work", attributes={"posthogDistinctId": "ada"}).end()
    provider.shutdown()

    assert [(span["name"], span["distinct_id"]) for span in emulator.spans()] == [("work", "ada")]
