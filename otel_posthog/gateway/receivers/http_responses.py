"""OTLP/HTTP responses as bytes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from otel_posthog.gateway.inbound import Answer, AnswerKind
from otel_posthog.gateway.receivers import answers
from otel_posthog.gateway.receivers.answers import MAPPED, UNAUTHENTICATED, Received
from otel_posthog.model.frozen import frozen

_STATUS_LINES: Final = {
    code.value: f"HTTP/1.1 {code.value} {code.phrase}\r\n".encode() for code in HTTPStatus if code.value >= 200
}
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@frozen
class Refusal:
    """Why a request is refused before its body is read.

    Args:
        status: HTTP status.
        code: gRPC code of its `google.rpc.Status`.
        why: For the books.
        message: For people.
        headers: Further header lines, each with its line end.
        close: Whether the connection ends with it.
    """

    status: int
    code: int
    why: str
    message: str
    headers: bytes = b""
    close: bool = False


_RETRY_AFTER: Final = b"retry-after: 1\r\n"

# The texts of 404, 405 and 415 are those of the Collector's own receiver.
NOT_FOUND: Final = Refusal(404, 5, "path", "404 page not found")
NOT_POST: Final = Refusal(
    405, answers.UNIMPLEMENTED, "method", "405 method not allowed, supported: [POST]", b"allow: POST\r\n"
)
NOT_OTLP: Final = Refusal(
    415, 3, "media_type", "415 unsupported media type, supported: [application/json, application/x-protobuf]"
)
NOT_GZIP: Final = Refusal(
    415, 3, "encoding", "415 unsupported content encoding, supported: [gzip, identity]", b"accept-encoding: gzip\r\n"
)
NO_TOKEN: Final = Refusal(
    UNAUTHENTICATED.http, UNAUTHENTICATED.code, "unauthenticated", "unauthenticated", b"www-authenticate: Bearer\r\n"
)
TOO_LARGE: Final = Refusal(413, MAPPED[AnswerKind.TOO_LARGE].code, "too_large", "the request is too large", close=True)
LONG_HEAD: Final = Refusal(431, 3, "header", "the request's headers are too large", close=True)
MALFORMED: Final = Refusal(400, 3, "malformed", "this is no HTTP request", close=True)
NO_ROOM: Final = Refusal(503, 14, "busy", "no room for more requests, try again", _RETRY_AFTER)
NO_CONNECTION: Final = Refusal(503, 14, "connections", "too many connections, try again", _RETRY_AFTER, close=True)
DRAINING: Final = Refusal(503, 14, "draining", "shutting down, try again", _RETRY_AFTER, close=True)
FAULT: Final = Refusal(503, 14, "fault", "try again later", _RETRY_AFTER, close=True)


def response(
    status: int, content_type: str, body: bytes, *, date: bytes, headers: bytes = b"", close: bool = False
) -> bytes:
    """A whole response.

    Args:
        status: HTTP status.
        content_type: Of the body.
        body: The body.
        date: The `Date` header line, with its line end.
        headers: Further header lines.
        close: Whether to say that the connection ends.
    """
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b%b\r\n%b" % (
        _STATUS_LINES[status],
        date,
        content_type.encode(),
        len(body),
        headers,
        b"connection: close\r\n" if close else b"",
        body,
    )


def refused(refusal: Refusal, media_type: str, *, date: bytes, close: bool) -> bytes:
    """A refusal: a `google.rpc.Status` in the encoding of the request, plain text where it has none that we know."""
    if media_type:
        pause = 1 if refusal.status == HTTPStatus.SERVICE_UNAVAILABLE else 0
        body = answers.encoded(answers.failure(refusal.code, refusal.message, pause=pause), media_type)
    else:
        body = refusal.message.encode()
    return response(
        refusal.status,
        media_type or "text/plain; charset=utf-8",
        body,
        date=date,
        headers=refusal.headers,
        close=close or refusal.close,
    )


def answered(kind: Received, media_type: str, answer: Answer, *, date: bytes, close: bool) -> bytes:
    """An answer of the intake."""
    if answer.kind is AnswerKind.OK:
        body = answers.success(kind, media_type, answer)
        return response(200, media_type, body, date=date, close=close)
    return response(
        MAPPED[answer.kind].http,
        media_type,
        answers.encoded(answers.failed(answer), media_type),
        date=date,
        headers=b"retry-after: %d\r\n" % answers.retry_after(answer) if answer.kind is AnswerKind.RETRY else b"",
        close=close,
    )
