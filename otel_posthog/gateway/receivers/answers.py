"""`Answer` -> what goes over the wire: HTTP status and body, gRPC code and details.

Every failure is mapped here and on purpose, because a Collector drops for good what it reads as permanent. Bodies are
those of the OTLP specification: an empty response for full success, `partial_success` only where there is one, a
`google.rpc.Status` in the request's own encoding for every failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from otel_posthog.gateway.inbound import JSON, MAX_RETRY_AFTER, Answer, AnswerKind
from otel_posthog.model.frozen import frozen

if TYPE_CHECKING:
    from google.rpc.status_pb2 import Status

Received = Literal["traces", "logs", "metrics"]
"""What a request carries; metrics never become an `Inbound`."""

MAX_MESSAGE: Final = 1024
"""Bytes. A Collector reads at most 64 KiB of a response."""

RETRY: Final = Answer(AnswerKind.RETRY, message="try again later")
"""What is said of a fault of ours: nothing about it, and never that the data is at fault."""


@frozen
class Mapped:
    """One kind of failure on both transports.

    Args:
        http: HTTP status.
        code: gRPC code.
        grpc: Its name in `grpc.StatusCode`.
    """

    http: int
    code: int
    grpc: str


MAPPED: Final = {
    AnswerKind.BAD_DATA: Mapped(400, 3, "INVALID_ARGUMENT"),
    AnswerKind.TOO_LARGE: Mapped(413, 8, "RESOURCE_EXHAUSTED"),
    AnswerKind.FORBIDDEN: Mapped(403, 7, "PERMISSION_DENIED"),
    AnswerKind.RETRY: Mapped(503, 14, "UNAVAILABLE"),
}
UNAUTHENTICATED: Final = Mapped(401, 16, "UNAUTHENTICATED")
UNIMPLEMENTED: Final = 12


def retry_after(answer: Answer) -> int:
    """Whole seconds from 1 to `MAX_RETRY_AFTER`: a Collector reads no fractions and drops what must wait too long."""
    return max(1, min(int(answer.retry_after), MAX_RETRY_AFTER))


def success(kind: Received, media_type: str, answer: Answer) -> bytes:
    """An `Export*ServiceResponse`: empty for full success, with `partial_success` else."""
    text = shown(answer.message)
    if not answer.rejected and not text:
        return b"{}" if media_type == JSON else b""
    if kind == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        response = ExportTraceServiceResponse()
        response.partial_success.rejected_spans = answer.rejected
    elif kind == "logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

        response = ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = answer.rejected
    else:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        response = ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = answer.rejected
    response.partial_success.error_message = text
    if media_type != JSON:
        return response.SerializeToString()
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(response, indent=None).encode()


def failure(code: int, message: str, *, pause: int = 0) -> Status:
    """A `google.rpc.Status`.

    Args:
        code: gRPC code.
        message: For people; cut.
        pause: Seconds to wait before the next try: makes it a `RetryInfo`, which is what gRPC clients retry on; 0 for
            none.
    """
    from google.rpc.error_details_pb2 import BadRequest, RetryInfo
    from google.rpc.status_pb2 import Status

    text = shown(message)
    status = Status(code=code, message=text)
    if pause:
        detail = RetryInfo()
        detail.retry_delay.seconds = pause
        status.details.add().Pack(detail)
    elif code == MAPPED[AnswerKind.BAD_DATA].code:
        violation = BadRequest.FieldViolation(description=text)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    return status


def failed(answer: Answer) -> Status:
    """The `google.rpc.Status` of an answer that is no success."""
    pause = retry_after(answer) if answer.kind is AnswerKind.RETRY else 0
    return failure(MAPPED[answer.kind].code, answer.message or answer.kind.value, pause=pause)


def encoded(status: Status, media_type: str) -> bytes:
    """A `google.rpc.Status` in the encoding of the request."""
    if media_type != JSON:
        return status.SerializeToString()
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(status, indent=None).encode()


def shown(message: str) -> str:
    """`message` as it may leave: valid Unicode, at most `MAX_MESSAGE` bytes of it."""
    return message.encode("utf-8", "replace")[:MAX_MESSAGE].decode("utf-8", "ignore")
