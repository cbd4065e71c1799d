"""One request and its answer on a connection that is open already, which is what nearly every batch meets.

For a body of 8 KB urllib3 and http.client take 150 µs of CPU: a pool's books, a retry policy and a timeout made for the
request, ten header lines put together one by one, two writes, a parser made for mail. Here the head is one text, head
and body leave by one write, and an answer of the plain form is read in place:

    HTTP/1.1, a status from 200 on, header lines that mean what they look like, and `Content-Length` (or no body)

Anything else (chunks, 1xx, folded or broken lines, two lengths, HTTP/1.0, no length) is read by http.client, with the
bytes that have come so far. Connecting, TLS, proxies and every first request on a connection are urllib3's.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

from otel_posthog.delivery.deadline import READ_BYTES, SEND_BYTES, Deadline, DeadlineSocket

MAX_HEAD_BYTES = 64 * 1024
"""A longer head is http.client's to refuse."""

_OURS = frozenset({"accept-encoding", "connection", "content-length", "expect", "host", "transfer-encoding"})
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_EMPTY = (204, 304)


class Answer(NamedTuple):
    """What came back.

    Args:
        status: HTTP status.
        headers: By lower-case name.
        body: As it came, cut at the limit.
        kept: Whether the connection is good for another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    kept: bool


def request_head(target: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    """The head of a POST.

    Args:
        target: What is asked for, in the form that the next hop wants.
        host: For the `Host` header.
        headers: All others except those about the connection and the body's length.
        length: Bytes of the body.

    Returns:
        The head with its empty line; b"" where these headers are for http.client to write, or to refuse.
    """
    if not _OURS.isdisjoint(map(str.lower, headers)):
        return b""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(
        (f"POST {target} HTTP/1.1", f"Host: {host}", "Accept-Encoding: identity", f"Content-Length: {length}", *lines)
    )
    breaks = len(lines) + 3
    # No value may begin a line of its own: nothing is smuggled into the request.
    if text.count("\n") != breaks or text.count("\r") != breaks or not text.isascii():
        return b""
    return b"%b\r\n\r\n" % text.encode()


def exchange(sock: socket.socket, head: bytes, body: bytes, deadline: Deadline, limit: int) -> Answer:
    """Sends, and reads the answer.

    Args:
        sock: Connected; its timeout is changed.
        head: Of the request, with its empty line.
        body: Of the request.
        deadline: Bounds every write and read.
        limit: Bytes of the answer's body that are kept.

    Raises:
        OSError: The connection failed, or the deadline passed, before the head of an answer was there.
        http.client.HTTPException: What came is not HTTP.
    """
    sent = True
    try:
        _send(sock, b"%b%b" % (head, body), deadline)
    except (BrokenPipeError, ConnectionResetError):
        sent = False  # a server that has heard enough may have said so: 413 is an answer
    answer = _read(sock, deadline, limit)
    return answer if sent else answer._replace(kept=False)


def _send(sock: socket.socket, data: bytes, deadline: Deadline) -> None:
    view = memoryview(data)
    while view:
        # `send`, not `sendall`: over TLS the latter would grant every 16 KiB record the whole time again.
        sock.settimeout(deadline.left())
        view = view[sock.send(view[:SEND_BYTES]) :]


def _read(sock: socket.socket, deadline: Deadline, limit: int) -> Answer:
    seen = b""
    while True:
        sock.settimeout(deadline.left())
        piece = sock.recv(READ_BYTES)
        if not piece:
            raise ConnectionResetError("closed without an answer")
        seen = seen + piece if seen else piece
        end = seen.find(b"\r\n\r\n")
        if end >= 0:
            found = _plain_head(seen[:end])
            break
        # Ends of lines as nobody should write them, and heads without an end.
        if b"\n\n" in seen or b"\n\r\n" in seen or len(seen) > MAX_HEAD_BYTES:
            found = None
            break
    if found is None:
        return _read_by_parser(sock, deadline, limit, seen)
    status, headers, length = found
    body = seen[end + 4 :]
    kept = length <= limit and len(body) <= length and headers.get("connection", "").lower() != "close"
    wanted = min(length, limit)
    if len(body) < wanted:
        body, whole = _read_on(sock, deadline, body, wanted)
        kept = kept and whole
    return Answer(status, headers, body[:wanted], kept)


def _read_on(sock: socket.socket, deadline: Deadline, body: bytes, wanted: int) -> tuple[bytes, bool]:
    """The body as far as it comes in time, and whether that is all of it."""
    pieces = [body]
    missing = wanted - len(body)
    try:
        while missing > 0:
            sock.settimeout(deadline.left())
            piece = sock.recv(min(missing, READ_BYTES))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
    except OSError:
        pass  # cut off or too slow: the head said what became of the request
    return b"".join(pieces), missing <= 0


def _plain_head(head: bytes) -> tuple[int, dict[str, str], int] | None:
    """Status, headers by lower-case name, and length of the body; `None` where it is not of the plain form."""
    first, *lines = head.decode("latin-1").split("\r\n")
    code = first[9:12]
    if first[:9] != "HTTP/1.1 " or not code.isdecimal() or first[12:13] not in ("", " "):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        lower = name.lower()
        if not colon or not _NAME.match(name) or "\n" in value or "\r" in value:
            return None
        if lower == "content-length" and lower in headers:
            return None
        headers[lower] = value.strip(" \t")
    status = int(code)
    length = "0" if status in _EMPTY else headers.get("content-length", "")
    if status < 200 or "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
        return None
    return status, headers, int(length)


def _read_by_parser(sock: socket.socket, deadline: Deadline, limit: int, seen: bytes) -> Answer:
    from http.client import HTTPException, HTTPResponse

    replayed = DeadlineSocket(sock, deadline, seen)
    with HTTPResponse(replayed, method="POST") as answer:  # pyright: ignore[reportArgumentType] - all that it wants
        answer.begin()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        pieces: list[bytes] = []
        size = 0
        whole = False
        try:
            while size <= limit:
                piece = answer.read(limit + 1 - size)
                if not piece:
                    whole = True
                    break
                pieces.append(piece)
                size += len(piece)
        except (HTTPException, OSError):
            pass
        # Of two lengths one is a lie, and what the other leaves over would be the next answer.
        kept = whole and not answer.will_close and len(answer.headers.get_all("content-length", ())) < 2
        return Answer(answer.status, headers, b"".join(pieces)[:limit], kept)
