"""One deadline over a whole HTTP exchange: every read, write, connect and handshake gets what is left of it.

urllib3's time limits hold for one socket operation each, so a server that sends a byte a second never runs into them.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool

READ_BYTES = 16 * 1024
"""Read from a socket at a time."""

SEND_BYTES = 64 * 1024
"""Written to a socket at a time."""


class Deadline(threading.local):
    """The moment at which the exchange of this thread must be over."""

    at: float = 0.0

    def left(self) -> float:
        """Seconds left.

        Raises:
            TimeoutError: None.
        """
        left = self.at - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline passed")
        return left


class DeadlineReader(io.RawIOBase):
    """Reads from a socket, each read bounded by what is left of the deadline; first what was read from it `before`."""

    def __init__(self, sock: socket.socket, deadline: Deadline, before: bytes = b"") -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        self._before = before
        # The socket's own file keeps it open while it is read: http.client closes the connection as soon as it knows
        # that the answer is the last one on it (`Connection: close`, HTTP/1.0), its body still to come.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """One `recv_into`, or a part of what was there before."""
        if self._before:
            size = min(len(buffer), len(self._before))
            buffer[:size] = self._before[:size]
            self._before = self._before[size:]
            return size
        self._sock.settimeout(self._deadline.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Lets go of the socket, which closes where nobody else keeps it."""
        self._file.close()
        super().close()


class DeadlineSocket:
    """What `http.client.HTTPResponse` wants of a socket: a file to read from, first what was read `before`."""

    def __init__(self, sock: socket.socket, deadline: Deadline, before: bytes = b"") -> None:
        self._sock = sock
        self._deadline = deadline
        self._before = before

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """A buffered reader that knows the deadline; closing it leaves the socket open."""
        return io.BufferedReader(DeadlineReader(self._sock, self._deadline, self._before), READ_BYTES)


def pool_classes(deadline: Deadline) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, with connections that look at `deadline`."""
    from http.client import HTTPResponse

    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import NameResolutionError, NewConnectionError
    from urllib3.util.connection import create_connection

    class BoundedResponse(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(DeadlineSocket(sock, deadline), *args, **kwargs)  # pyright: ignore[reportArgumentType]

    def new_conn(self: Any) -> socket.socket:
        # One address after the other, each with the time that is left (urllib3 grants each the whole of it). The
        # socket keeps that limit for a proxy's CONNECT and the TLS handshake.
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self._dns_host, self, socket.gaierror(str(error))) from error
        failed = OSError("no address")
        for *_, address in found:
            try:
                return create_connection(
                    (str(address[0]), self.port), deadline.left(), self.source_address, self.socket_options
                )
            except OSError as error:  # noqa: PERF203 - each address is tried
                failed = error
        raise NewConnectionError(self, f"no connection: {failed}") from failed

    def send(self: Any, data: Any) -> None:
        if self.sock is None:
            self.connect()
        sock: Any = self.sock
        view = memoryview(data)
        while view:
            # `send`, not `sendall`: over TLS the latter would grant every 16 KiB record the whole time again.
            sock.settimeout(deadline.left())
            view = view[sock.send(view[:SEND_BYTES]) :]

    # http.client's and urllib3's own extension points: what a response reads from, how a connection is made and fed.
    bounded = {"response_class": BoundedResponse, "_new_conn": new_conn, "send": send}
    plain: Any = type("BoundedHTTP", (HTTPConnection,), bounded)
    secure: Any = type("BoundedHTTPS", (HTTPSConnection,), bounded)

    class PoolHTTP(HTTPConnectionPool):
        ConnectionCls = plain

    class PoolHTTPS(HTTPSConnectionPool):
        ConnectionCls = secure

    return {"http": PoolHTTP, "https": PoolHTTPS}
