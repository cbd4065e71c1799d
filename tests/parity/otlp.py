"""What a Collector would carry: SDK objects through the official encoder, as OTLP protobuf and as OTLP/JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

_IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def spans_protobuf(spans: Sequence[ReadableSpan]) -> bytes:
    """An `ExportTraceServiceRequest`."""
    return encode_spans(spans).SerializeToString()


def spans_json(spans: Sequence[ReadableSpan]) -> bytes:
    """The same as OTLP/JSON."""
    return _json(encode_spans(spans))


def logs_protobuf(records: Sequence[ReadableLogRecord]) -> bytes:
    """An `ExportLogsServiceRequest`."""
    return encode_logs(records).SerializeToString()


def logs_json(records: Sequence[ReadableLogRecord]) -> bytes:
    """The same as OTLP/JSON."""
    return _json(encode_logs(records))


def _json(message: Any) -> bytes:
    # proto3 JSON differs from OTLP/JSON in two points (OTLP specification, "JSON Protobuf Encoding").
    return json.dumps(_otlp(MessageToDict(message, use_integers_for_enums=True))).encode()


def _otlp(node: Any) -> Any:
    """Ids from base64 to hex; only where OTLP has an id, not in an attribute that has such a name."""
    if isinstance(node, list):
        return [_otlp(item) for item in node]
    if isinstance(node, dict):
        return {
            key: base64.b64decode(item).hex() if key in _IDS and isinstance(item, str) else _otlp(item)
            for key, item in node.items()
        }
    return node
