"""A peer that speaks HTTP/2 by hand, and need not keep to it."""

from __future__ import annotations

import contextlib
import socket
import struct

from tests.unit.gateway.receivers.rig import METHODS, Raw

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
END_STREAM, END_HEADERS = 0x1, 0x4
MAX_FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header(name: str, value: str) -> bytes:
    """A literal header field, never indexed, without Huffman's code (RFC 7541, 6.2.3)."""
    return b"\x10" + _text(name) + _text(value)


def call(stream: int, *more: tuple[str, str], method: str = METHODS["traces"]) -> bytes:
    """The headers of a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]
    return frame(HEADERS, END_HEADERS, stream, b"".join(header(*each) for each in fields))


def message(stream: int, body: bytes, *, compressed: bool = False) -> bytes:
    """The one message of a call, and its end; at most the 64 KiB that the first window takes."""
    data = struct.pack(">BI", compressed, len(body)) + body
    pieces = [data[at : at + MAX_FRAME] for at in range(0, len(data), MAX_FRAME)]
    return b"".join(
        frame(DATA, END_STREAM if number == len(pieces) else 0, stream, piece) for number, piece in enumerate(pieces, 1)
    )


class Http2(Raw):
    """A connection whose preface and settings have been sent."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.send(PREFACE + frame(SETTINGS, 0, 0))


def until_closed(connection: socket.socket) -> bytes:
    """All that is sent until the other side closes; `TimeoutError` where it does not."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def _text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, encoded = len(data) - 127, b"\x7f"
    while rest >= 128:
        encoded += bytes([rest % 128 + 128])
        rest //= 128
    return encoded + bytes([rest]) + data
