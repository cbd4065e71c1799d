"""One HTTP connection: what a peer may do, and for how long.

llhttp (by httptools) parses; this class decides. Everything that can be refused is refused at the end of the headers:
the credential is checked, and the limits are, before a byte of the body is kept. Nothing a peer does is without an
end: headers, body, answer and the wait for the next request each have a deadline, which the server's sweep enforces.

A response that comes before the whole request has been read is followed by reading on (and forgetting) for a while:
closing at once would reset the connection, and a client that sees a reset instead of a 413 sends the same again.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from otel_posthog.gateway.inbound import Answer
from otel_posthog.gateway.receivers import http_responses as responses
from otel_posthog.gateway.receivers.answers import RETRY, Received
from otel_posthog.gateway.receivers.http_head import WANTED, Head
from otel_posthog.gateway.receivers.http_responses import Refusal

if TYPE_CHECKING:
    from otel_posthog.gateway.receivers.http_server import HttpServer

LINGER: Final = 5.0
"""Seconds to read on after the last response of a connection."""
_PATIENCE: Final = 1.0
"""Seconds that a new connection has before it may have to make room for another."""
_STEP: Final = 1024 * 1024
"""Bytes of a body after which it is asked again whether there is room."""


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "answered",
        "body",
        "caller",
        "close",
        "complete",
        "connection",
        "deadline",
        "gzip",
        "kind",
        "media_type",
        "response",
        "since",
        "size",
    )

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.kind: Received = "traces"
        self.media_type = ""
        self.gzip = False
        self.caller = ""
        self.body: bytes | bytearray = b""
        self.size = 0
        self.complete = False
        self.response: bytes | None = None
        self.answered = False
        self.close = False
        self.since = 0.0
        self.deadline = 0.0

    def answer(self, answer: Answer) -> None:
        """Takes the intake's answer; only the first one counts. On the loop."""
        if not self.answered:
            self.answered = True
            self.connection.answer(self, answer)


class Connection(asyncio.BufferedProtocol):
    """The protocol of one connection.

    Args:
        server: Whose it is.
        peer: The address it comes from.
        refusing: Whether there is no room for it: its first request is answered 503, and it is closed.
    """

    def __init__(self, server: HttpServer, peer: str, *, refusing: bool = False) -> None:
        self._server = server
        self.peer = peer
        self._refusing = refusing
        self._settings = server.settings
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._exchanges: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._in_message = False
        self._in_body = False
        self._url = b""
        self._headers: dict[bytes, list[bytes]] = {}
        self._head_size = 0
        self._raw = 0
        self._paused = False
        self._closing = False
        self._half_closed = False
        self._deadline: float | None = None
        self._why = "deadline_header"

    # --- the transport ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is there (with TLS: after the handshake)."""
        # By its shape: other loops' transports are not of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = _parser()(self)
        self._wait(self._settings.header_timeout, "deadline_header")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The peer is gone; answers that come now have nowhere to go."""
        self._closing = True
        self._deadline = None
        if self._current is not None:
            self._forget(self._current)
        for exchange in self._exchanges:
            if not exchange.answered:
                exchange.answered = True
                self._server.gone(exchange)
        self._exchanges.clear()
        self._parser = None
        if self._transport is not None:
            # Python 3.10 takes a TLS transport that its peer has closed for one that was forgotten.
            self._transport.close()
        self._server.closed(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """One buffer for all connections: it is filled and parsed in one go."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parses what arrived."""
        if self._parser is None or self._half_closed:
            return
        if not self._in_message and not self._closing and (self._why == "idle" or self._deadline is None):
            # From the first byte on, whatever follows: line breaks between requests begin none, and buy no time.
            self._wait(self._settings.header_timeout, "deadline_header")
        self._raw += nbytes
        try:
            self._parser.feed_data(self._server.buffer[:nbytes])
        except Exception as error:  # noqa: BLE001 - an edge: whatever it is, the peer must be able to try again
            self._broken(error)
            return
        if self._in_message and not self._closing:
            kept = self._current.size if self._current is not None else 0
            # Endless headers, trailers and chunk extensions; a chunk of one byte is the most wasteful honest one.
            if self._raw - kept > self._settings.max_header + 16 * kept:
                self._refuse(responses.LONG_HEAD)
        if self._exchanges and not self._closing and not self._paused and self._parser is not None:
            self._paused = len(self._exchanges) > 1
            if self._paused:
                self._reading(False)

    def eof_received(self) -> bool:
        """The peer sends no more; what it has sent in full is still answered."""
        self._half_closed = True
        # TLS ends with either side.
        return bool(self._exchanges) and not self._closing and not self._server.tls

    def pause_writing(self) -> None:
        """The peer sends requests and reads no responses."""
        self._reading(False)
        self._wait(self._settings.body_timeout, "deadline_response")

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._reading(True)
        self._settle()

    # --- the parser ------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._deadline is None or self._why != "deadline_header":
            # It came with the end of the one before it.
            self._wait(self._settings.header_timeout, "deadline_header")
        self._in_message = True
        self._in_body = False
        self._current = None
        self._url = b""
        self._headers = {}
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which decides nothing."""
        if not self._in_body:
            self._head_size += len(name) + len(value) + 4
            name = name.lower()
            if name in WANTED:
                self._headers.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        """Everything that can be refused before the body is read is refused here."""
        self._in_body = True
        exchange = self._current = Exchange(self)
        exchange.close = not self._parser.should_keep_alive() or self._parser.should_upgrade()
        if self._closing:
            return
        self._wait(self._settings.body_timeout, "deadline_body")
        head = Head(self._parser.get_method(), self._url.partition(b"?")[0], self._headers)
        exchange.media_type = head.media_type
        if self._head_size + len(self._url) > self._settings.max_header:
            refusal: Refusal | None = responses.LONG_HEAD
        elif self._refusing:
            refusal = responses.NO_CONNECTION
        else:
            refusal = self._server.judge(head, exchange)
        if refusal is not None:
            # A client that waits for leave may now send its body or not, so nothing after it could be understood.
            exchange.close = exchange.close or head.expects
            self._refuse(refusal)
        elif head.expects and self._transport is not None:
            self._transport.write(responses.CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body; the parser has made it a copy of our buffer."""
        exchange = self._current
        if exchange is None or self._closing or exchange.answered:
            return
        before = exchange.size
        exchange.size += len(body)
        if exchange.size > self._settings.max_body:
            self._refuse(responses.TOO_LARGE)
            return
        if not before:
            exchange.body = body
        elif isinstance(exchange.body, bytearray):
            exchange.body += body
        else:
            # One piece of memory, not one for each piece that came: they may be of one byte.
            exchange.body = bytearray(exchange.body) + body
        self._server.held += len(body)
        if before // _STEP != exchange.size // _STEP and not self._server.has_room(0):
            self._refuse(responses.NO_ROOM)

    def on_message_complete(self) -> None:
        """The request has been read."""
        self._in_message = False
        self._raw = 0
        exchange, self._current = self._current, None
        if exchange is None:
            return
        exchange.complete = True
        if self._closing:
            self._end()
        elif exchange.answered:
            self._settle()
        else:
            self._exchanges.append(exchange)
            self._deadline = None
            exchange.deadline = self._server.time() + self._settings.answer_timeout
            self._server.dispatch(exchange)

    # --- answers ---------------------------------------------------------------------------------------------------

    def answer(self, exchange: Exchange, answer: Answer) -> None:
        """Writes the answer of a request that has been read, in the order of requests."""
        exchange.close = exchange.close or self._server.draining or self._half_closed
        self._server.answered(exchange, answer)
        try:
            exchange.response = responses.answered(
                exchange.kind, exchange.media_type, answer, date=self._server.date, close=exchange.close
            )
        except Exception as error:  # noqa: BLE001 - an answer that cannot be written is a fault of ours
            self._server.fault("answer", error)
            exchange.close = True
            exchange.response = responses.refused(
                responses.FAULT, exchange.media_type, date=self._server.date, close=True
            )
        self._flush()

    def expire(self, now: float) -> None:
        """Ends what has had its time."""
        if self._exchanges and self._exchanges[0].response is None and now >= self._exchanges[0].deadline:
            self._server.late()
            self._exchanges[0].answer(RETRY)
        if self._deadline is not None and now >= self._deadline:
            self._server.expired(self._why)
            self.abort()

    @property
    def idle(self) -> bool:
        """Whether it may be closed without anybody's loss."""
        return not self._in_message and not self._exchanges and not self._closing and self._transport is not None

    @property
    def spare(self) -> tuple[bool, float] | None:
        """How soon it should go where room is needed, the least first; `None` where it is in use.

        Those that were opened a while ago and never sent a thing go before those that wait for their next request.
        """
        if not self.idle or self._refusing or self._deadline is None:
            return None
        fresh = self._why != "idle"
        if fresh and self._deadline - self._server.time() > self._settings.header_timeout - _PATIENCE:
            return None
        return (not fresh, self._deadline)

    def drain(self) -> None:
        """Ends the connection after what has been begun on it."""
        if self.idle:
            self.close()

    def close(self) -> None:
        """Ends the connection after what has been written."""
        self._closing = True
        self._end()

    def abort(self) -> None:
        """Ends the connection now."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Answers the request that is being read, and forgets the rest of it."""
        exchange = self._current
        if exchange is None:
            exchange = self._current = Exchange(self)
        if exchange.answered:
            return
        exchange.answered = True
        exchange.close = exchange.close or refusal.close or self._server.draining
        self._forget(exchange)
        self._server.refused(refusal.why)
        exchange.response = responses.refused(
            refusal, exchange.media_type, date=self._server.date, close=exchange.close
        )
        self._exchanges.append(exchange)
        self._flush()

    def _broken(self, error: Exception) -> None:
        """What arrived is no HTTP, or the fault is ours."""
        if self._closing:
            # Nobody listens any more: what comes is only waited out.
            self._parser = None
            return
        malformed, upgrade, callback = _parser_errors()
        if isinstance(error, upgrade):
            # A request for another protocol is answered as what it is in this one, and is the last.
            self._half_closed = True
            return
        ours = not isinstance(error, malformed) or isinstance(error, callback)
        if ours:
            self._server.fault("http", error.__context__ if isinstance(error, callback) else error)
        self._parser = None
        if self._current is not None and self._current.answered:
            self.close()
            return
        self._refuse(responses.FAULT if ours else responses.MALFORMED)

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or self._closing:
            return
        while self._exchanges and self._exchanges[0].response is not None:
            exchange = self._exchanges.popleft()
            assert exchange.response is not None
            transport.write(exchange.response)
            if exchange.close:
                self._closing = True
                if exchange.complete:
                    self._end()
                else:
                    self._wait(LINGER, "linger")
                return
        if self._paused and not self._exchanges:
            self._paused = False
            self._reading(True)
        self._settle()

    def _settle(self) -> None:
        """After a response: waits for the next request, or goes on with the one that has begun."""
        if not self._in_message and not self._exchanges and not self._closing:
            if self._server.draining or self._half_closed:
                self.close()
            else:
                self._wait(self._settings.idle_timeout, "idle")

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()
            self._wait(LINGER, "linger")

    def _wait(self, seconds: float, why: str) -> None:
        self._deadline = self._server.time() + seconds
        self._why = why

    def _forget(self, exchange: Exchange) -> None:
        self._server.held -= len(exchange.body)
        exchange.body = b""

    def _reading(self, on: bool) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            if on:
                transport.resume_reading()
            else:
                transport.pause_reading()


def _parser() -> Any:
    return importlib.import_module("httptools").HttpRequestParser


def _parser_errors() -> tuple[type[Exception], type[Exception], type[Exception]]:
    httptools: Any = importlib.import_module("httptools")
    return httptools.HttpParserError, httptools.HttpParserUpgrade, httptools.HttpParserCallbackError
