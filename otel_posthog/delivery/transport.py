"""The one HTTP client: urllib3, with a deadline over the whole exchange (decision 0030).

urllib3 brings what should not be written again: connection reuse, proxies and CONNECT, TLS with host name checks, IPv6.
Its time limits hold for one socket operation each, so a server that sends a byte a second never runs into them. Here
every read, write, connect and handshake gets what is left of one deadline. Only name resolution has none (no way to
interrupt it); it happens on a daemon thread, and whoever waits for that thread has a limit of their own.

Loaded on first use: importing urllib3 costs as much as the OpenTelemetry SDK (performance.md §2), and an app must not
pay for it before it starts.
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.errors import PermanentError, RetryableError

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool
    from urllib3.response import BaseHTTPResponse

MAX_ANSWER_BYTES = 64 * 1024
_READ_BYTES = 16 * 1024
_SEND_BYTES = 64 * 1024


class _Deadline(threading.local):
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


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket, each read bounded by what is left of the deadline."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline
        # The socket's own file keeps it open while it is read: http.client closes the connection as soon as it knows
        # that the answer is the last one on it (`Connection: close`, HTTP/1.0), its body still to come.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """One `recv_into`."""
        self._sock.settimeout(self._deadline.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Lets go of the socket, which closes where nobody else keeps it."""
        self._file.close()
        super().close()


class _DeadlineSocket:
    """What `http.client.HTTPResponse` wants of a socket: a file to read from."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        """A buffered reader that knows the deadline; closing it leaves the socket open."""
        return io.BufferedReader(_DeadlineReader(self._sock, self._deadline), _READ_BYTES)


def _pool_classes(deadline: _Deadline) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools, with connections that look at `deadline`."""
    from http.client import HTTPResponse

    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import NameResolutionError, NewConnectionError
    from urllib3.util.connection import create_connection

    class BoundedResponse(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(_DeadlineSocket(sock, deadline), *args, **kwargs)  # pyright: ignore[reportArgumentType]

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
            view = view[sock.send(view[:_SEND_BYTES]) :]

    # http.client's and urllib3's own extension points: what a response reads from, how a connection is made and fed.
    bounded = {"response_class": BoundedResponse, "_new_conn": new_conn, "send": send}
    plain: Any = type("BoundedHTTP", (HTTPConnection,), bounded)
    secure: Any = type("BoundedHTTPS", (HTTPSConnection,), bounded)

    class PoolHTTP(HTTPConnectionPool):
        ConnectionCls = plain

    class PoolHTTPS(HTTPSConnectionPool):
        ConnectionCls = secure

    return {"http": PoolHTTP, "https": PoolHTTPS}


def trusted_roots(ca_file: str = "") -> ssl.SSLContext:
    """A verifying TLS context: `ca_file`, else the system's roots, else certifi's where the system has none.

    Args:
        ca_file: PEM file, or a directory of such by hash, of the only roots to trust; "" for none.

    Raises:
        RetryableError: `ca_file` cannot be used. It could when the settings were read, so it is being renewed.
    """
    if ca_file:
        try:
            # Not by both arguments: with a path that is not there, `capath` trusts nobody without a word.
            if os.path.isdir(ca_file):  # noqa: PTH112 - text, as it was written
                return ssl.create_default_context(capath=ca_file)
            return ssl.create_default_context(cafile=ca_file)
        except (OSError, ValueError) as error:
            raise RetryableError(f"the CA file {ca_file} cannot be used ({type(error).__name__})") from error
    # Honours SSL_CERT_FILE and SSL_CERT_DIR; a member is None where that file or folder does not exist.
    paths = cast("tuple[str | None, ...]", ssl.get_default_verify_paths())
    if paths[0] is None and paths[1] is None:
        # Slim container images come without ca-certificates; certifi is there with the OTLP exporter.
        try:
            import certifi
        except ImportError:
            pass
        else:
            return ssl.create_default_context(cafile=certifi.where())
    return ssl.create_default_context()


class Urllib3Transport:
    """`Transport` by urllib3. Safe in any thread; one kept connection for each thread that posts at a time.

    Args:
        ca_file: PEM file, or a directory of such by hash, of the only roots to trust; "" for the system's.
        client_cert: PEM file of the client's certificate, for mTLS; "" for none.
        client_key: PEM file of its key; "" where it is in `client_cert`.
        max_answer_bytes: Bytes of an answer's body that are kept; what is longer is cut.
        environ: Where proxies are looked up (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`).
    """

    def __init__(
        self,
        *,
        ca_file: str = "",
        client_cert: str = "",
        client_key: str = "",
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._ca_file = ca_file
        self._client_cert = client_cert
        self._client_key = client_key
        self._max_answer_bytes = max_answer_bytes
        self._environ = environ
        self._deadline = _Deadline()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pools: dict[str, HTTPConnectionPool] = {}

    def post(self, request: Request, *, timeout: float) -> Response:
        """See `Transport.post`; an answer whose head arrived is an answer, its body what came in time."""
        from http.client import HTTPException

        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        if timeout <= 0:
            raise RetryableError("no time left for an attempt")
        self._deadline.at = time.monotonic() + timeout
        pool = self._pool(request.url)
        try:
            answer = pool.urlopen(
                "POST",
                # A forwarding proxy wants the absolute URL; everybody else takes it too, but some do not route it.
                request.url if _forwarded(pool) else _target(request.url),
                body=request.body,
                headers=dict(request.headers),
                timeout=Timeout(connect=timeout, read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
                assert_same_host=False,
            )
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            failure = classify(error, request.url)
            if self._ca_file or self._client_cert:
                # Certificates are renewed in place, and a pool keeps what it read: the next attempt reads anew.
                # After any failure, since a server that refuses a certificate may just hang up.
                self._forget(pool)
            raise failure from error
        headers = {name.lower(): value for name, value in answer.headers.items()}
        body, whole = self._read(answer)
        if not whole:
            answer.close()  # only a connection that gave all it announced is in a known state
        answer.release_conn()
        return Response(answer.status, headers, _inflated(body, headers, self._max_answer_bytes))

    def load(self) -> None:
        """Imports all that a post needs, in one go and at a moment of the caller's choice."""
        # What the standard library imports in the middle of its first look-up of a name counts too: a fork at that
        # moment leaves the child with a module that nobody finishes, and every look-up of its own hanging.
        import encodings.idna
        import urllib.request
        from contextlib import suppress

        import urllib3

        with suppress(ImportError):
            import certifi

            assert certifi  # for systems without roots of their own
        assert encodings.idna and urllib.request and urllib3  # imported for what follows
        _pool_classes(self._deadline)

    def close(self) -> None:
        """Closes kept connections; a later `post` opens new ones."""
        with self._lock:
            pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.close()

    def after_fork(self) -> None:
        """Forgets the parent's connections without a word on them, and every lock."""
        self._lock = threading.Lock()
        self._deadline = _Deadline()
        self._pools = {}
        self._pid = os.getpid()

    def _forget(self, pool: HTTPConnectionPool) -> None:
        with self._lock:
            self._pools = {origin: each for origin, each in self._pools.items() if each is not pool}
        pool.close()

    def _read(self, answer: BaseHTTPResponse) -> tuple[bytes, bool]:
        """The body as far as it is wanted and came in time, and whether that is all of it."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        pieces: list[bytes] = []
        size = 0
        try:
            while size <= self._max_answer_bytes:
                piece = answer.read(self._max_answer_bytes + 1 - size, decode_content=False)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                size += len(piece)
        except (HTTPError, HTTPException, OSError):
            # Cut off or too slow. The head said what became of the request.
            pass
        return b"".join(pieces)[: self._max_answer_bytes], False

    def _pool(self, url: str) -> HTTPConnectionPool:
        if self._pid != os.getpid():  # a fork that Python did not see (uWSGI)
            self.after_fork()
        try:
            parts = urlsplit(url)
        except ValueError:
            raise PermanentError("not a URL") from None
        origin = f"{parts.scheme}://{parts.netloc}"
        pool = self._pools.get(origin)
        if pool is None:
            with self._lock:
                pool = self._pools.get(origin) or self._open(url)
                self._pools[origin] = pool
        return pool

    def _open(self, url: str) -> HTTPConnectionPool:
        from urllib3 import PoolManager, ProxyManager, make_headers
        from urllib3.exceptions import HTTPError

        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme not in ("http", "https") or not host:
            raise PermanentError(f"not an HTTP URL: {_shown(url)}")
        options: dict[str, Any] = {"maxsize": 2, "block": False}
        if parts.scheme == "https":
            options["ssl_context"] = self._tls()
        proxy = self._proxy(parts.scheme, parts.netloc.rpartition("@")[2])
        try:
            if proxy:
                where = urlsplit(proxy)
                auth = None
                if where.username is not None:
                    credentials = f"{unquote(where.username)}:{unquote(where.password or '')}"
                    auth = make_headers(proxy_basic_auth=credentials)
                if where.scheme == "https":
                    options["proxy_ssl_context"] = self._tls()
                manager: PoolManager = ProxyManager(_without_user(proxy), proxy_headers=auth, **options)
            else:
                manager = PoolManager(**options)
            manager.pool_classes_by_scheme = _pool_classes(self._deadline)
            return manager.connection_from_host(host, port, parts.scheme)
        except (HTTPError, ValueError) as error:
            where_to = "proxy of the environment" if proxy else "URL"
            raise PermanentError(f"the {where_to} cannot be used ({type(error).__name__})") from error

    def _tls(self) -> ssl.SSLContext:
        context = trusted_roots(self._ca_file)
        if self._client_cert:
            try:
                # With a password, if only an empty one, OpenSSL never asks for it on the app's terminal.
                context.load_cert_chain(self._client_cert, self._client_key or None, password="")
            except (OSError, ValueError) as error:
                raise RetryableError(
                    f"the client certificate {self._client_cert} cannot be used ({type(error).__name__})"
                ) from error
        return context

    def _proxy(self, scheme: str, host: str) -> str:
        from urllib import request as known

        getproxies_environment: Callable[[], dict[str, str]] = known.getproxies_environment
        # In the module since Python 2, though not in the type stubs.
        proxy_bypass_environment: Callable[[str, Mapping[str, str]], Any] = vars(known)["proxy_bypass_environment"]

        if self._environ is None:
            found = getproxies_environment()
        else:
            found = {
                name.lower()[: -len("_proxy")]: value
                for name, value in self._environ.items()
                if name.lower().endswith("_proxy") and value
            }
        if proxy_bypass_environment(host, found):
            return ""
        proxy = found.get(scheme) or found.get("all", "")
        return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _forwarded(pool: HTTPConnectionPool) -> bool:
    return pool.proxy is not None and pool.scheme == "http"


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _shown(url: str) -> str:
    """`url` without user, query and fragment, where secrets may hide."""
    try:
        return _without_user(urlsplit(url)._replace(query="", fragment="").geturl())[:200]
    except ValueError:
        return "an unparsable URL"


def _inflated(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """`body` without gzip, as far as it can be read; servers may compress although nobody asked."""
    if headers.get("content-encoding", "").lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, limit)
    except zlib.error:
        return b""


def classify(error: BaseException, url: str = "") -> RetryableError | PermanentError:
    """Our class for what urllib3, http.client, ssl or a socket raised; the text never holds payload or secrets.

    A failed TLS check is retryable, although it looks like a wrong set-up: certificates are renewed and clocks set
    while we wait, and the data is not at fault.
    """
    from urllib3 import exceptions

    host = (urlsplit(url).hostname if url else None) or "the server"
    chain = _chain(error)

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if has(exceptions.LocationValueError, exceptions.InvalidHeader, exceptions.UnrewindableBodyError) or (
        isinstance(error, ValueError) and not isinstance(error, OSError)
    ):
        # A header value with a line break in it, a URL that is none: the same for every attempt.
        return PermanentError(f"the request to {host} cannot be sent ({type(error).__name__})")
    if has(exceptions.ProxyError):
        return RetryableError(f"the proxy on the way to {host} failed: check HTTPS_PROXY")
    if has(socket.gaierror):
        return RetryableError(f"{host} cannot be resolved to an address")
    if refused := next((link for link in chain if isinstance(link, ssl.SSLCertVerificationError)), None):
        why = getattr(refused, "verify_message", "") or "no reason given"
        return RetryableError(f"the certificate of {host} cannot be verified ({why}): check the CA file and the clock")
    if has(ssl.SSLError, exceptions.SSLError):
        return RetryableError(f"TLS with {host} failed{_alert(chain)}")
    if has(ConnectionRefusedError):
        return RetryableError(f"{host} refuses connections")
    if has(TimeoutError, exceptions.TimeoutError):
        return RetryableError(f"{host} did not answer in time")
    return RetryableError(f"the connection to {host} failed ({type(chain[-1]).__name__})")


# What servers say of a client's certificate, in OpenSSL's words; TLS 1.2 has only the last for one that is missing.
_CLIENT_ALERTS = ("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN")
_MISSING_BY_TLS_1_2 = "HANDSHAKE_FAILURE"


def _alert(chain: Sequence[BaseException]) -> str:
    """OpenSSL's name of what went wrong, and the way out where it is about our certificate."""
    reason = next((link.reason for link in chain if isinstance(link, ssl.SSLError) and link.reason), "")
    if "ALERT" in reason and reason.endswith((*_CLIENT_ALERTS, _MISSING_BY_TLS_1_2)):
        return f" ({reason}): check the client certificate, which the server may ask for"
    return f" ({reason})" if reason else ""


def _chain(error: BaseException) -> list[BaseException]:
    """`error` and what is behind it; urllib3 keeps that in attributes, arguments or the cause, by turns."""
    chain = [error]
    while len(chain) < 8:
        last = chain[-1]
        inner = next((item for item in last.args if isinstance(item, BaseException)), None)
        inner = inner or getattr(last, "original_error", None) or last.__cause__ or last.__context__
        if not isinstance(inner, BaseException):
            break
        chain.append(inner)
    return chain
