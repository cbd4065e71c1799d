"""`RecordingTransport`: the fake that keeps requests and answers as told; under the real one's contract."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.errors import PermanentError, RetryableError

Answer = Response | BaseException


class RecordingTransport:
    """Records every request.

    Args:
        answer: What to give for a request, or raise; called under a lock.
        max_answer_bytes: Bytes of a body that are kept.
    """

    def __init__(self, answer: Callable[[Request], Answer] | None = None, *, max_answer_bytes: int = 64 * 1024) -> None:
        self.requests: list[Request] = []
        self.timeouts: list[float] = []
        self.closed = 0
        self._answer = answer or (lambda _: Response(200, {"content-type": "application/json"}, b'{"status":1}'))
        self._max_answer_bytes = max_answer_bytes
        self._lock = threading.Lock()

    def post(self, request: Request, *, timeout: float) -> Response:
        """See `Transport.post`."""
        if not re.match(r"https?://[^/\[]", request.url):
            raise PermanentError("not an HTTP URL")
        if any("\n" in value or "\r" in value for value in request.headers.values()):
            raise PermanentError("not a header")
        if timeout <= 0:
            raise RetryableError("no time left")
        with self._lock:
            self.requests.append(request)
            self.timeouts.append(timeout)
            answer = self._answer(request)
        if isinstance(answer, BaseException):
            raise answer
        return Response(answer.status, answer.headers, answer.body[: self._max_answer_bytes])

    def close(self) -> None:
        """See `Transport.close`."""
        self.closed += 1
