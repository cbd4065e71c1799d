"""Receivers with an intake that does as it is told, and clients that behave as badly as they like."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_posthog.gateway.books import Books
from otel_posthog.gateway.inbound import OK, Answer, Inbound
from otel_posthog.gateway.receivers import Credentials, Listen, Receivers, ReceiverSettings, TokenSource
from otel_posthog.observe import Complaints

ANYWHERE = Listen("127.0.0.1", 0)
QUICK = ReceiverSettings(http=ANYWHERE, grpc=ANYWHERE)
TIMEOUT = 60.0
METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
RESPONSES: dict[str, Any] = {
    "traces": ExportTraceServiceResponse,
    "logs": ExportLogsServiceResponse,
    "metrics": ExportMetricsServiceResponse,
}


class FakeIntake:
    """Answers as told; remembers what it was given.

    Args:
        answer: What each request is answered; an exception is raised, `None` answers never.
    """

    def __init__(self, answer: Answer | BaseException | None = OK) -> None:
        self.seen: list[Inbound] = []
        self.answer: Answer | BaseException | Callable[[Inbound], Answer | BaseException | None] | None = answer
        self.admitting: Callable[[int], bool] = lambda _: True
        self.asked: list[int] = []
        self.from_thread = False
        self.unanswered: list[Callable[[Answer], None]] = []
        self.arrived = threading.Semaphore(0)

    def admits(self, size: int) -> bool:
        """As told."""
        self.asked.append(size)
        return self.admitting(size)

    def receive(self, inbound: Inbound, done: Callable[[Answer], None]) -> None:
        """As told."""
        self.seen.append(inbound)
        answer = self.answer(inbound) if callable(self.answer) else self.answer
        if isinstance(answer, BaseException):
            self.arrived.release()
            raise answer
        if answer is None:
            self.unanswered.append(done)
        elif self.from_thread:
            threading.Thread(target=done, args=(answer,)).start()
        else:
            done(answer)
        self.arrived.release()


@dataclass
class Rig:
    """Receivers that run, and all around them."""

    receivers: Receivers
    intake: FakeIntake
    books: Books
    settings: ReceiverSettings
    clients: list[Raw] = field(default_factory=list)

    def connect(self) -> Raw:
        """A client of OTLP/HTTP that leaves with the test."""
        self.clients.append(Raw(self.http))
        return self.clients[-1]

    @property
    def http(self) -> int:
        """Port of OTLP/HTTP."""
        assert self.receivers.http_port is not None
        return self.receivers.http_port

    @property
    def grpc(self) -> int:
        """Port of OTLP/gRPC."""
        assert self.receivers.grpc_port is not None
        return self.receivers.grpc_port


Start = Callable[..., Rig]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts receivers on free ports; ends them with the test."""
    started: list[Rig] = []

    def build(
        intake: FakeIntake | None = None,
        credentials: Credentials | None = None,
        complain: Complaints | None = None,
        **settings: Any,
    ) -> Rig:
        chosen = replace(QUICK, **settings)
        intake, books = intake or FakeIntake(), Books()
        receivers = Receivers(
            chosen, intake, credentials or Credentials(), books, complain=complain or Complaints(interval=0.0)
        )
        receivers.start()
        started.append(Rig(receivers, intake, books, chosen))
        return started[-1]

    yield build
    for rig in started:
        for client in rig.clients:
            client.socket.close()
        rig.receivers.stop(0.0)


def tokens(**callers: str) -> Credentials:
    """Credentials with one token for each caller."""
    return Credentials([TokenSource(name, env=name) for name in callers], environ=callers)


# --- clients -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Raw:
    """A TCP client that sends whatever bytes it is told to.

    Args:
        port: On loopback.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._buffer = b""

    def __enter__(self) -> Raw:  # noqa: PYI034 - `Self` is not in Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends."""
        self.socket.sendall(data)

    def reply(self) -> Reply:
        """The next response."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Reply(int(first.split()[1]), headers, body)

    def closed(self) -> bool:
        """Waits until the other side has closed; `False` where it sends something instead."""
        try:
            return self._buffer == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionResetError("closed")
        self._buffer += received


def request(
    path: str = "/v1/traces",
    body: bytes = b"",
    *,
    method: str = "POST",
    media: str | None = "application/x-protobuf",
    **headers: str,
) -> bytes:
    """An HTTP request; `_` in header names is `-`."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
    if media is not None:
        lines.append(f"content-type: {media}")
    headers = {"content_length": str(len(body)), **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def post(port: int, path: str = "/v1/traces", body: bytes = b"", **options: Any) -> Reply:
    """One HTTP request on a connection of its own."""
    with Raw(port) as client:
        client.send(request(path, body, **options))
        return client.reply()


# --- the same over every transport ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a client of any transport learns.

    Args:
        code: Name of the gRPC code, or what the HTTP status stands for.
        message: Of the status, or of the partial success.
        rejected: As the partial success says; `None` where it is unset.
        retry: Seconds that a client is asked to wait; `None` where it must not come again.
    """

    code: str
    message: str = ""
    rejected: int | None = None
    retry: int | None = None


HTTP_CODES = {
    200: "OK",
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    413: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
NUMBERS = {code.value[0]: code.name for code in grpc.StatusCode}
REJECTED = {"traces": "rejected_spans", "logs": "rejected_log_records", "metrics": "rejected_data_points"}


class Client:
    """Sends one request over one transport.

    Args:
        name: `protobuf`, `json` or `grpc`.
        rig: To whom.
    """

    def __init__(self, name: str, rig: Rig) -> None:
        self.name = name
        self.transport = "grpc" if name == "grpc" else "http"
        self.rig = rig

    def send(self, kind: str, body: bytes = b"", *, compress: bool = False, token: str | None = None) -> Outcome:
        """Sends `body` as it is, in gzip if asked for."""
        if self.name == "grpc":
            return self._grpc(kind, body, compress, token)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if compress:
            body, headers["content_encoding"] = gzip.compress(body), "gzip"
        media = "application/json" if self.name == "json" else "application/x-protobuf"
        return self._http(kind, media, post(self.rig.http, f"/v1/{kind}", body, media=media, **headers))

    def _http(self, kind: str, media: str, reply: Reply) -> Outcome:
        assert reply.headers["content-type"] == media
        if reply.status == 200:
            response = RESPONSES[kind]()
            if self.name == "json":
                from google.protobuf.json_format import Parse

                Parse(reply.body, response)
            else:
                response.ParseFromString(reply.body)
            return _success(kind, response)
        status = Status()
        if self.name == "json":
            found = json.loads(reply.body)
            status.code, status.message = found["code"], found["message"]
        else:
            status.ParseFromString(reply.body)
        assert NUMBERS[status.code] == HTTP_CODES[reply.status]
        after = reply.headers.get("retry-after")
        return Outcome(HTTP_CODES[reply.status], status.message, retry=None if after is None else int(after))

    def _grpc(self, kind: str, body: bytes, compress: bool, token: str | None) -> Outcome:
        compression = grpc.Compression.Gzip if compress else grpc.Compression.NoCompression
        metadata = [("authorization", f"Bearer {token}")] if token else []
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.rig.grpc}", options, compression) as channel:
            try:
                answered = channel.unary_unary(METHODS[kind])(body, timeout=TIMEOUT, metadata=metadata)
            except grpc.RpcError as error:
                return failed(error)
        return _success(kind, RESPONSES[kind].FromString(answered))


def failed(error: Any) -> Outcome:
    """The outcome of a failed gRPC call."""
    retry = None
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            assert (NUMBERS[status.code], status.message) == (error.code().name, error.details())
            for detail in status.details:
                info = RetryInfo()
                if detail.Unpack(info):
                    retry = info.retry_delay.seconds
    return Outcome(error.code().name, error.details() or "", retry=retry)


def _success(kind: str, response: Any) -> Outcome:
    if not response.HasField("partial_success"):
        return Outcome("OK")
    partial = response.partial_success
    return Outcome("OK", partial.error_message, rejected=getattr(partial, REJECTED[kind]))


def write(path: Path, text: str) -> None:
    """Replaces a file as a secrets mount does: at once."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
