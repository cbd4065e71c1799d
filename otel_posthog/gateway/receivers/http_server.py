"""OTLP/HTTP: a listener, its connections, and the thread that their event loop runs in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any, Final

from otel_posthog.gateway.inbound import Answer
from otel_posthog.gateway.receivers import http_responses as responses
from otel_posthog.gateway.receivers.answers import RETRY
from otel_posthog.gateway.receivers.desk import Desk
from otel_posthog.gateway.receivers.http_connection import Connection, Exchange
from otel_posthog.gateway.receivers.http_head import Head
from otel_posthog.gateway.receivers.http_responses import Refusal
from otel_posthog.gateway.receivers.listening import listeners
from otel_posthog.gateway.receivers.settings import Listen, ReceiverSettings
from otel_posthog.gateway.receivers.tls import Certificates

_BUFFER: Final = 256 * 1024
_ACCEPTS: Final = 64
"""Connections taken at one go, so that a flood of them leaves time for those that are there."""
_OVERFLOW: Final = 64
"""Connections beyond the limit that are told so; those beyond these are closed without a word, which is as safe."""
_SWEEP: Final = 0.25
_INLINE: Final = 8 * 1024
"""Bytes of a plain body that is looked into on the loop: not even 4,000 empty spans hold up the others for long. What
is larger goes through a thread, and so does gzip of any size, of which a few bytes may be millions of spans."""
_THREADS: Final = 2
_START_TIMEOUT: Final = 30.0
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class HttpServer:
    """The OTLP/HTTP receiver.

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
        self.settings = settings
        self.tls = certificates is not None
        self.draining = False
        self.held = 0
        """Bytes of bodies that are being read; the intake does not know of them yet."""
        self.date = b""
        self.buffer = memoryview(bytearray(_BUFFER))
        self._desk = desk
        self._certificates = certificates
        self._sockets = listeners(listen, reuse_port=settings.reuse_port)
        self.port: int = self._sockets[0].getsockname()[1]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ident = 0
        self._connections: set[Connection] = set()
        self._peers: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: deque[tuple[Exchange, Answer]] = deque()
        self._waking = False
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="otlp-http-body")
        self._thread = threading.Thread(target=self._run, name="otlp-http", daemon=True)
        self._started = threading.Event()
        self._empty = threading.Event()

    # --- life, from other threads ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Returns when requests are answered."""
        self._thread.start()
        if not self._started.wait(_START_TIMEOUT) or self._loop is None:
            raise RuntimeError("the OTLP/HTTP receiver did not start")

    def stop_accepting(self) -> None:
        """Takes no new connection and no new request; what has been begun goes on."""
        self._call(self._drain)

    def stop(self, timeout: float) -> None:
        """Ends everything, at most `timeout` seconds after what is in flight; idempotent."""
        if not self._thread.is_alive():
            self._close_sockets()
            return
        self._call(self._drain)
        self._empty.wait(timeout)
        self._call(self._end)
        self._thread.join(_START_TIMEOUT)
        self._executor.shutdown(wait=False, cancel_futures=True)

    # --- for connections, on the loop ------------------------------------------------------------------------------

    def time(self) -> float:
        """The loop's clock."""
        return time.monotonic()

    def judge(self, head: Head, exchange: Exchange) -> Refusal | None:
        """Whether a request may come in; what it is, is written on `exchange`."""
        if self.draining:
            return responses.DRAINING
        caller = self._desk.caller(head.authorization)
        if caller is None:
            return responses.NO_TOKEN
        kind, gzip = head.kind, head.gzip
        if kind is None:
            self._desk.say(
                "path", "a request to %s, which is no OTLP path here", ascii(head.path[:100].decode("latin-1"))
            )
            return responses.NOT_FOUND
        if head.method != b"POST":
            return responses.NOT_POST
        if not exchange.media_type:
            return responses.NOT_OTLP
        if gzip is None:
            return responses.NOT_GZIP
        if head.length > self.settings.max_body:
            return responses.TOO_LARGE
        if not self.has_room(head.length):
            return responses.NO_ROOM
        exchange.kind, exchange.gzip, exchange.caller = kind, gzip, caller
        return None

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more may be read."""
        return self._desk.admits(self.held + size)

    def dispatch(self, exchange: Exchange) -> None:
        """Hands a request to the intake; never raises."""
        body, exchange.body = exchange.body, b""
        exchange.since = time.perf_counter()
        if not exchange.gzip and len(body) <= _INLINE:
            self.held -= len(body)
            self._receive(exchange, bytes(body))
            return
        try:
            self._executor.submit(self._receive_later, exchange, body)
        except RuntimeError:  # shutting down
            self.held -= len(body)
            exchange.answer(RETRY)

    def answered(self, exchange: Exchange, answer: Answer) -> None:
        """Counts an answer."""
        self._desk.answered(exchange.kind, answer.kind.value, time.perf_counter() - exchange.since)

    def refused(self, why: str) -> None:
        """Counts a request or connection that was turned away."""
        self._desk.refused(why)

    def gone(self, exchange: Exchange) -> None:
        """Counts a request whose client did not wait for the answer."""
        self._desk.answered(exchange.kind, "gone")

    def late(self) -> None:
        """Counts an answer that did not come in time."""
        self._desk.refused("deadline_answer")

    def expired(self, why: str) -> None:
        """Counts a connection whose peer was too slow; one that was merely quiet is none."""
        if why not in {"idle", "linger"}:
            self._desk.refused(why)

    def fault(self, where: str, error: BaseException | None) -> None:
        """Reports a fault of ours."""
        self._desk.fault(where, error)

    def closed(self, connection: Connection) -> None:
        """Forgets a connection."""
        if connection in self._connections:
            self._connections.discard(connection)
            left = self._peers[connection.peer] - 1
            if left:
                self._peers[connection.peer] = left
            else:
                del self._peers[connection.peer]
            if self.draining and not self._connections:
                self._empty.set()

    # --- requests --------------------------------------------------------------------------------------------------

    def _receive(self, exchange: Exchange, body: bytes) -> None:
        self._desk.receive(
            exchange.kind, exchange.media_type, body, exchange.gzip, exchange.caller, self._done(exchange)
        )

    def _receive_later(self, exchange: Exchange, body: bytes | bytearray) -> None:
        size = len(body)
        if exchange.answered:
            # Its client has gone, or was told to come again, before anybody looked into it.
            self._call(self._release, size)
            return
        self._receive(exchange, bytes(body))
        self._call(self._release, size)

    def _release(self, size: int) -> None:
        self.held -= size

    def _done(self, exchange: Exchange) -> Callable[[Answer], None]:
        def done(answer: Answer) -> None:
            if threading.get_ident() == self._ident:
                exchange.answer(answer)
                return
            # One wake-up for all answers of a group commit.
            self._answers.append((exchange, answer))
            if not self._waking:
                self._waking = True
                self._call(self._hand_out)

        return done

    def _hand_out(self) -> None:
        # Before the answers are taken: one that comes after the last has been taken must wake the loop again.
        self._waking = False
        while self._answers:
            exchange, answer = self._answers.popleft()
            exchange.answer(answer)

    # --- the loop --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._ident = threading.get_ident()
        loop.set_exception_handler(self._on_loop_fault)
        loop.call_soon(self._begin)
        try:
            loop.run_forever()
        finally:
            self._close_sockets()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            self._empty.set()

    def _begin(self) -> None:
        assert self._loop is not None
        self._sweep()
        self._listen_again()
        self._started.set()

    def _sweep(self) -> None:
        assert self._loop is not None
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        now = self.time()
        for connection in tuple(self._connections):
            self._expire(connection, now)
        self._loop.call_later(_SWEEP, self._sweep)

    def _expire(self, connection: Connection, now: float) -> None:
        try:
            connection.expire(now)
        except Exception as error:  # noqa: BLE001 - an edge: the others must still be looked after
            self._desk.fault("sweep", error)
            connection.abort()

    def _on_loop_fault(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._desk.fault("loop", context.get("exception"))

    def _drain(self) -> None:
        if not self.draining:
            self.draining = True
            assert self._loop is not None
            self._listen_no_more()
            self._close_sockets()
            for connection in tuple(self._connections):
                connection.drain()
        if not self._connections:
            self._empty.set()

    def _end(self) -> None:
        assert self._loop is not None
        for connection in tuple(self._connections):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        # Once more around, so that the transports see that they were closed.
        self._loop.call_soon(self._loop.call_soon, self._loop.stop)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self._loop.call_soon_threadsafe(functools.partial(function, *args))

    # --- connections -----------------------------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        assert self._loop is not None
        for _ in range(_ACCEPTS):
            try:
                accepted, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _NO_FILES:
                    self._breathe()
                    return
                self._desk.fault("accept", error)
                return
            accepted.setblocking(False)
            self._admit(accepted, str(address[0]))

    def _breathe(self) -> None:
        """No file descriptor is left: makes room, and listens again a moment later."""
        assert self._loop is not None
        self._desk.refused("connections")
        self._desk.say("files", "no file descriptor is left for new OTLP/HTTP connections: raise `ulimit -n`")
        self._evict(None)
        self._listen_no_more()
        self._loop.call_later(1.0, self._listen_again)

    def _listen_again(self) -> None:
        if not self.draining:
            assert self._loop is not None
            for listener in self._sockets:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _listen_no_more(self) -> None:
        assert self._loop is not None
        for listener in self._sockets:
            self._loop.remove_reader(listener.fileno())

    def _close_sockets(self) -> None:
        for listener in self._sockets:
            listener.close()

    def _admit(self, accepted: socket.socket, peer: str) -> None:
        assert self._loop is not None
        settings = self.settings
        per_peer = settings.max_connections_per_peer or settings.max_connections
        full = (len(self._connections) >= settings.max_connections and not self._evict(None)) or (
            self._peers.get(peer, 0) >= per_peer and not self._evict(peer)
        )
        if full:
            self._desk.say("connections", "too many OTLP/HTTP connections: some are refused")
            over = max(len(self._connections) - settings.max_connections, self._peers.get(peer, 0) - per_peer)
            # A handshake only to say no is more than a refusal should cost.
            if over >= _OVERFLOW or self.tls:
                self._desk.refused("connections")
                accepted.close()
                return
        connection = Connection(self, peer, refusing=full)
        self._connections.add(connection)
        self._peers[peer] = self._peers.get(peer, 0) + 1
        task = self._loop.create_task(self._connect(accepted, connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _evict(self, peer: str | None) -> bool:
        """Closes the connection that is needed least, of `peer` or of all; says whether there was one."""
        least: tuple[tuple[bool, float], Connection] | None = None
        for each in self._connections:
            spare = each.spare if peer in {None, each.peer} else None
            if spare is not None and (least is None or spare < least[0]):
                least = (spare, each)
        if least is None:
            return False
        least[1].close()
        self.closed(least[1])
        return True

    async def _connect(self, accepted: socket.socket, connection: Connection) -> None:
        assert self._loop is not None
        options: dict[str, Any] = {}
        try:
            if self._certificates is not None:
                options["ssl"] = self._certificates.context
                options["ssl_handshake_timeout"] = self.settings.header_timeout
                if sys.version_info >= (3, 11):
                    options["ssl_shutdown_timeout"] = 5.0
            await self._loop.connect_accepted_socket(lambda: connection, accepted, **options)
        except (ssl.SSLError, OSError, asyncio.TimeoutError):
            # Strangers, scanners, wrong certificates.
            self._desk.refused("handshake")
            accepted.close()
            self.closed(connection)
        except BaseException:
            accepted.close()
            self.closed(connection)
            raise
