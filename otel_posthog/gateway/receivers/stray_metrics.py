"""Metrics, which this gateway has no use for: answered as taken and rejected, so that nobody sends them again.

A 404 or UNIMPLEMENTED would be permanent too, but says less: a Collector logs the message of a partial success.
"""

from __future__ import annotations

import zlib
from typing import Final

from otel_posthog.gateway.inbound import JSON, Answer, AnswerKind

MESSAGE: Final = "metrics are not product data: this gateway takes traces and logs; route metrics elsewhere"
_MAX_COUNTED: Final = 4 * 1024 * 1024
"""Bytes, inflated: what is larger is not worth the time to count."""


def answer(media_type: str, body: bytes, *, gzip: bool) -> Answer:
    """The answer to a request with metrics: rejects all of its data points.

    The count is exact for ordinary requests and 0, which OTLP calls a warning, where the body is too large to be
    looked into for nothing, or cannot be read.
    """
    return Answer(AnswerKind.OK, rejected=_points(media_type, body, gzip=gzip), message=MESSAGE)


def _points(media_type: str, body: bytes, *, gzip: bool) -> int:
    from google.protobuf.json_format import Parse, ParseError
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    try:
        if gzip:
            inflater = zlib.decompressobj(31)
            body = inflater.decompress(body, _MAX_COUNTED)
            if not inflater.eof:
                return 0
        if len(body) > _MAX_COUNTED:
            return 0
        request = ExportMetricsServiceRequest()
        if media_type == JSON:
            Parse(body, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (zlib.error, DecodeError, ParseError, UnicodeDecodeError, RecursionError):
        return 0
    points = 0
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                if data is not None:
                    points += len(getattr(metric, data).data_points)
    return points
