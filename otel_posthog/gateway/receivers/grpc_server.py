"""OTLP/gRPC: bytes handlers on the synchronous server, which costs less per request than the asynchronous one.

Three things differ from a stock server, because each of its defaults loses data or memory:

- Whether a request may come in is decided from its metadata, before its message is read: handlers take a *stream* of
  messages, which is the same on the wire as the one message of a unary call, and read it when they want it.
- gRPC's core does not inflate. Messages stay as compressed as they came, for the spool; and inflating under the
  intake's limits, with a faster zlib, is what makes a compressed gRPC request cost as much as an HTTP one. A message
  that begins with gzip's magic number is gzip: no protobuf message begins with it (field 3 of a wire type that there
  is none of).
- No exception leaves a handler, and nothing is ever answered UNKNOWN or INTERNAL.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Final

from otel_posthog.errors import ConfigError
from otel_posthog.gateway.inbound import PROTOBUF, Answer, AnswerKind
from otel_posthog.gateway.receivers import answers
from otel_posthog.gateway.receivers.answers import MAPPED, RETRY, UNAUTHENTICATED, Received
from otel_posthog.gateway.receivers.desk import Desk
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings
from otel_posthog.gateway.receivers.tls import Certificates, Pem

METHODS: Final[dict[str, Received]] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_GZIP: Final = b"\x1f\x8b"
_IDENTITY_AND_GZIP: Final = 0b101
_MIN_PING: Final = 5.0
"""Seconds between two pings of a client that is not sent away."""
_DETAILS: Final = "grpc-status-details-bin"


class GrpcServer:
    """The OTLP/gRPC receiver.

    Args:
        listen: Where.
        settings: Limits.
        desk: Where requests go.
        certificates: TLS; `None` for clear text.

    Raises:
        ConfigError: The address cannot be listened on.
    """

    def __init__(
        self, listen: Listen, settings: ReceiverSettings, desk: Desk, certificates: Certificates | None = None
    ) -> None:
        grpc: Any = importlib.import_module("grpc")
        self._waiting = _AllWaiting()
        # Longer than anything that has begun may take.
        self._grace = settings.header_timeout + settings.body_timeout + settings.answer_timeout
        self._executor = ThreadPoolExecutor(settings.grpc_threads, thread_name_prefix="otlp-grpc")
        self._server = grpc.server(
            self._executor, handlers=(_Handlers(grpc, settings, desk, self, self._waiting),), options=_options(settings)
        )
        self.draining = False
        self._stopped: threading.Event | None = None
        try:
            if certificates is None:
                self.port: int = self._server.add_insecure_port(str(listen))
            else:
                self.port = self._server.add_secure_port(str(listen), _credentials(grpc, certificates))
        except RuntimeError:
            self._executor.shutdown(wait=False)
            raise ConfigError(
                "OTLP/gRPC cannot listen here: the address is in use or not of this machine",
                key="listen.grpc",
                source=str(listen),
                hint="Choose another address, or port 0 for a free one",
            ) from None

    def start(self) -> None:
        """Returns when requests are answered."""
        self._server.start()

    def stop_accepting(self) -> None:
        """Takes no new connection and no new request; what has been begun goes on."""
        self.draining = True
        if self._stopped is None:
            self._stopped = self._server.stop(self._grace)

    def stop(self, timeout: float) -> None:
        """Ends everything, at most `timeout` seconds after what is in flight; idempotent."""
        self.stop_accepting()
        assert self._stopped is not None
        if not self._stopped.wait(timeout):
            self._waiting.release()
            self._server.stop(None).wait(1.0)
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Handlers:
    """Answers every method of OTLP; grpc's `GenericRpcHandler` by its shape."""

    def __init__(
        self, grpc: Any, settings: ReceiverSettings, desk: Desk, server: GrpcServer, waiting: _AllWaiting
    ) -> None:
        self._grpc = grpc
        self._settings = settings
        self._desk = desk
        self._server = server
        self._watch = _Watch()
        self._waiting = waiting
        self._refuse_caller = self._handler(self._refusing(UNAUTHENTICATED.grpc, "unauthenticated"))
        self._refuse_room = self._handler(self._retrying("no room for more requests, try again"))
        self._refuse_draining = self._handler(self._retrying("shutting down, try again"))
        self._refuse_fault = self._handler(self._retrying(RETRY.message))

    def service(self, details: Any) -> Any:
        """The handler of one request, from its method and metadata; `None`, UNIMPLEMENTED, for an unknown method."""
        try:
            return self._judge(details)
        except Exception as error:  # noqa: BLE001 - an edge: grpc would answer UNKNOWN
            self._desk.fault("grpc", error)
            return self._refuse_fault

    def _judge(self, details: Any) -> Any:
        if self._server.draining:
            self._desk.refused("draining")
            return self._refuse_draining
        caller = self._desk.caller(_authorization(details.invocation_metadata))
        if caller is None:
            self._desk.refused("unauthenticated")
            return self._refuse_caller
        kind = METHODS.get(details.method)
        if kind is None:
            self._desk.refused("path")
            self._desk.say("method", "a request to %s, which is no OTLP method here", ascii(details.method[:100]))
            return None
        if not self._desk.admits(0):
            self._desk.refused("busy")
            return self._refuse_room

        def export(messages: Iterator[bytes], context: Any) -> bytes:
            return self._export(kind, caller, messages, context)

        return self._handler(export)

    def _handler(self, behaviour: Callable[[Iterator[bytes], Any], bytes]) -> Any:
        return self._grpc.stream_unary_rpc_method_handler(behaviour)

    # --- one request, in a thread of its own -----------------------------------------------------------------------

    def _export(self, kind: Received, caller: str, messages: Iterator[bytes], context: Any) -> bytes:
        try:
            answer = self._answer(kind, caller, messages, context)
            if answer is None:
                return b""
            if answer.kind is AnswerKind.OK:
                return answers.success(kind, PROTOBUF, answer)
        except Exception as error:  # noqa: BLE001 - an edge: grpc would answer UNKNOWN
            self._desk.fault("grpc", error)
            answer = RETRY
        self._fail(answer, context)
        return b""

    def _answer(self, kind: Received, caller: str, messages: Iterator[bytes], context: Any) -> Answer | None:
        """The answer; `None` where nobody is there any more to hear it."""
        with self._watch.over(context, self._settings.body_timeout) as watched:
            try:
                body = next(messages, None)
            except Exception:  # noqa: BLE001 - of grpc's own kinds: cancelled, or over the limit and answered by core
                body = None
        if body is None:
            # A call that was cut short looks like one without a message until grpc has caught up with it. Either way
            # the answer is heard only by a client that is there, and that one has sent none.
            self._desk.refused("deadline_body" if watched.expired else "unread")
            return None if watched.expired else Answer(AnswerKind.BAD_DATA, message="the request has no message")
        if not self._desk.admits(len(body)):
            self._desk.refused("busy")
            return Answer(AnswerKind.RETRY, message="no room for more requests, try again")
        since = time.perf_counter()
        # Of whatever is put into it, the first counts: the answer, or word that nobody waits for one any more.
        waiting: SimpleQueue[Answer | None] = SimpleQueue()
        if not context.add_callback(lambda: waiting.put(None)):
            self._desk.answered(kind, "gone")
            return None
        with self._waiting.one(waiting):
            self._desk.receive(kind, PROTOBUF, body, body.startswith(_GZIP), caller, waiting.put)
            try:
                answer = waiting.get(timeout=_patience(context, self._settings.answer_timeout))
            except Empty:
                self._desk.refused("deadline_answer")
                answer = RETRY
        if answer is None:
            self._desk.answered(kind, "gone")
            return None
        self._desk.answered(kind, answer.kind.value, time.perf_counter() - since)
        return answer

    # --- refusals --------------------------------------------------------------------------------------------------

    def _refusing(self, code: str, message: str) -> Callable[[Iterator[bytes], Any], bytes]:
        def refuse(_: Iterator[bytes], context: Any) -> bytes:
            context.abort(getattr(self._grpc.StatusCode, code), message)
            return b""

        return refuse

    def _retrying(self, message: str) -> Callable[[Iterator[bytes], Any], bytes]:
        def retry(_: Iterator[bytes], context: Any) -> bytes:
            self._fail(Answer(AnswerKind.RETRY, message=message), context)
            return b""

        return retry

    def _fail(self, answer: Answer, context: Any) -> None:
        """Ends the call with the answer's code and details: by an exception, as grpc has it."""
        details = answers.failed(answer)
        context.set_trailing_metadata(((_DETAILS, details.SerializeToString()),))
        context.abort(getattr(self._grpc.StatusCode, MAPPED[answer.kind].grpc), details.message)


class _AllWaiting:
    """Every thread that waits for an answer, so that none of them outlives the server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: set[SimpleQueue[Answer | None]] = set()

    @contextmanager
    def one(self, queue: SimpleQueue[Answer | None]) -> Generator[None]:
        """For a `with` block around the wait."""
        with self._lock:
            self._queues.add(queue)
        try:
            yield
        finally:
            with self._lock:
                self._queues.discard(queue)

    def release(self) -> None:
        """Tells all of them to come again."""
        with self._lock:
            for queue in self._queues:
                queue.put(RETRY)


class _Watched:
    """One request whose message is awaited."""

    __slots__ = ("context", "deadline", "expired", "watch")

    def __init__(self, watch: _Watch, context: Any, deadline: float) -> None:
        self.watch = watch
        self.context = context
        self.deadline = deadline
        self.expired = False

    def __enter__(self) -> _Watched:  # noqa: PYI034 - `Self` is not in Python 3.10
        self.watch.begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.end(self)


class _Watch:
    """Cancels requests whose message does not arrive in time: grpc has no deadline of the server's for that."""

    _SWEEP: Final = 0.5

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[_Watched] = set()
        self._running = False

    def over(self, context: Any, seconds: float) -> _Watched:
        """For a `with` block around the wait."""
        return _Watched(self, context, time.monotonic() + seconds)

    def begin(self, watched: _Watched) -> None:
        """Begins to watch; the thread for it lives only while there is something to see."""
        with self._lock:
            self._watched.add(watched)
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="otlp-grpc-watch", daemon=True).start()

    def end(self, watched: _Watched) -> None:
        """Ends to watch."""
        with self._lock:
            self._watched.discard(watched)

    def _run(self) -> None:
        quiet = 0
        while True:
            time.sleep(self._SWEEP)
            now = time.monotonic()
            with self._lock:
                late = [each for each in self._watched if each.deadline <= now]
                self._watched.difference_update(late)
                quiet = 0 if self._watched else quiet + 1
                # A while longer than the last request, so that steady traffic starts no threads.
                if quiet > 20 and not late:
                    self._running = False
                    return
            for each in late:
                each.expired = True
                each.context.cancel()


def _authorization(metadata: Sequence[tuple[str, str | bytes]]) -> str | None:
    """The `authorization` metadata; `None` where there is none or more than one."""
    found = [value for key, value in metadata if key == "authorization"]
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None


def _patience(context: Any, most: float) -> float:
    left: float | None = context.time_remaining()
    return most if left is None else max(0.0, min(most, left))


def _options(settings: ReceiverSettings) -> list[tuple[str, int]]:
    def milliseconds(seconds: float) -> int:
        return max(1, int(seconds * 1000))

    return [
        ("grpc.max_receive_message_length", settings.max_body),
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
        # On by default: two gateways that share a port by accident would each get half of the requests.
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_metadata_size", settings.max_header),
        ("grpc.absolute_max_metadata_size", settings.max_header),
        ("grpc.max_concurrent_streams", settings.grpc_streams),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", milliseconds(settings.header_timeout)),
        ("grpc.max_connection_idle_ms", milliseconds(settings.idle_timeout)),
        ("grpc.max_connection_age_ms", milliseconds(settings.grpc_connection_age)),
        ("grpc.max_connection_age_grace_ms", milliseconds(settings.grpc_connection_grace)),
        ("grpc.keepalive_time_ms", milliseconds(settings.keepalive)),
        ("grpc.keepalive_timeout_ms", milliseconds(20.0)),
        # Collectors ping idle connections when asked to, every 10 s at the most, and would be sent away for it.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", milliseconds(_MIN_PING)),
    ]


def _credentials(grpc: Any, certificates: Certificates) -> Any:
    def configuration(pem: Pem) -> Any:
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.client_ca)

    used = certificates.pem

    def fetch() -> Any:
        nonlocal used
        pem = certificates.pem
        if pem is used:
            return None
        used = pem
        return configuration(pem)

    return grpc.dynamic_ssl_server_credentials(configuration(used), fetch, used.client_ca is not None)
