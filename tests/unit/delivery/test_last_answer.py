"""The last answer on a connection is read whole."""

from __future__ import annotations

import socket
import threading

import pytest

from otel_posthog.delivery.protocols import Request
from otel_posthog.delivery.transport import Urllib3Transport


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n"])
def test_a_body_after_the_head_of_a_last_answer(head: bytes) -> None:
    """Where the server announces that it will close, a body that comes in a segment of its own is not lost."""
    body = b'{"results": {}}'
    head_read = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            received = b""
            while not received.endswith(b"\r\n\r\nx"):
                received += connection.recv(4096)
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
            # Only a client that has given up waiting for it comes past this without the body.
            head_read.wait(0.1)
            connection.sendall(body)

    transport = Urllib3Transport()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        answer = transport.post(Request(f"http://127.0.0.1:{server.getsockname()[1]}/", {}, b"x"), timeout=30)
        thread.join(30)
    transport.close()

    assert (answer.status, answer.body) == (200, body)
