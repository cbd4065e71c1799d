"""Files of recorded OTLP are recognised by looking at them."""

import gzip
import json
import struct

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import Gauge, Metric, ResourceMetrics, ScopeMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.recorded import read_recorded


def span_json(name: str) -> bytes:
    """A traces request in OTLP/JSON."""
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": name}]}]}]}).encode()


def log_json(name: str) -> bytes:
    """A logs request in OTLP/JSON."""
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"eventName": name}]}]}]}).encode()


TRACES = ExportTraceServiceRequest(
    resource_spans=[
        ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(trace_id=b"\1" * 16, name="s", end_time_unix_nano=9)])])
    ]
).SerializeToString()
LOGS = ExportLogsServiceRequest(
    resource_logs=[
        ResourceLogs(scope_logs=[ScopeLogs(log_records=[LogRecord(event_name="l", observed_time_unix_nano=9)])])
    ]
).SerializeToString()
METRICS = ExportMetricsServiceRequest(
    resource_metrics=[
        ResourceMetrics(scope_metrics=[ScopeMetrics(metrics=[Metric(name="requests", description="d", gauge=Gauge())])])
    ]
).SerializeToString()


def framed(*requests: bytes) -> bytes:
    """Requests as the file exporter writes them with `format: proto`."""
    return b"".join(struct.pack(">I", len(request)) + request for request in requests)


def read(raw: bytes) -> list[tuple[str, str, list[str], str]]:
    """(place, kind, names, error) of every request."""
    return [
        (one.place, one.kind, [signal.name for signal in one.decoded.signals], one.error) for one in read_recorded(raw)
    ]


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", []),
        (b" \n", []),
        (span_json("a"), [("", "traces", ["a"], "")]),
        (log_json("a"), [("", "logs", ["a"], "")]),
        (json.dumps(json.loads(span_json("a")), indent=2).encode(), [("", "traces", ["a"], "")]),
        (b"\xef\xbb\xbf" + span_json("a"), [("", "traces", ["a"], "")]),
        (
            span_json("a") + b"\r\n\n" + log_json("b") + b"\n",
            [("line 1", "traces", ["a"], ""), ("line 3", "logs", ["b"], "")],
        ),
        (
            b'{"resourceMetrics": []}\n' + span_json("a"),
            [("line 1", "metrics", [], ""), ("line 2", "traces", ["a"], "")],
        ),
        (TRACES, [("", "traces", ["s"], "")]),
        (LOGS, [("", "logs", ["l"], "")]),
        (METRICS, [("", "metrics", [], "")]),
        (
            framed(TRACES, LOGS, METRICS),
            [("request 1", "traces", ["s"], ""), ("request 2", "logs", ["l"], ""), ("request 3", "metrics", [], "")],
        ),
    ],
)
def test_forms(raw: bytes, expected: list[object], zipped: bool) -> None:
    """Every form that the Collector's file exporter and others write."""
    assert read(gzip.compress(raw) if zipped else raw) == expected


def test_several_gzip_members() -> None:
    """A file to which gzip was appended is read to its end."""
    raw = gzip.compress(span_json("a") + b"\n") + gzip.compress(span_json("b") + b"\n")

    assert [names for _, _, names, _ in read(raw)] == [["a"], ["b"]]


def test_cut_files() -> None:
    """A file whose writer was killed gives what is whole, and says what is not."""
    assert read(span_json("a") + b"\n" + span_json("b")[:-9])[1][:3] == ("line 2", "traces", [])
    assert read(span_json("a") + b"\n" + span_json("b")[:-9])[1][3].startswith("the body is not JSON: ")
    assert read(framed(TRACES, LOGS)[:-3])[1] == ("request 2", "", [], "the file ends in the middle of a request")
    assert read(framed(TRACES) + b"\0\0")[1] == ("request 2", "", [], "the file ends in the middle of a length")


def test_lines_that_are_no_otlp() -> None:
    """A line of something else is an error of that line alone."""
    assert read(span_json("a") + b'\n{"level": "info"}\n' + span_json("b")) == [
        ("line 1", "traces", ["a"], ""),
        ("line 2", "", [], "no resourceSpans or resourceLogs in it: this is not OTLP/JSON"),
        ("line 3", "traces", ["b"], ""),
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"hello", "the file is neither OTLP/JSON nor OTLP protobuf"),
        (b"\x28\xb5\x2f\xfdxxxx", "the file is compressed with zstd: decompress it first, e.g. with `zstd -d`"),
        (gzip.compress(span_json("a"))[:-12], "the gzip file ends in the middle"),
        (gzip.compress(span_json("a"))[:10] + b"\xff" * 30, "the gzip file is damaged"),
    ],
    ids=["text", "zstd", "cut gzip", "damaged gzip"],
)
def test_other_files(raw: bytes, message: str) -> None:
    """What is none of the forms is refused in words."""
    with pytest.raises(SignalError) as caught:
        read(raw)

    assert str(caught.value).startswith(message)
