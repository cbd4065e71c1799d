"""The one HTTP client: urllib3, with a deadline over the whole exchange (decision 0030).

urllib3 brings what should not be written again: connection reuse, proxies and CONNECT, TLS with host name checks, IPv6.
Its time limits hold for one socket operation each, so a server that sends a byte a second never runs into them. Here
every read, write, connect and handshake gets what is left of one deadline. Only name resolution has none (no way to
interrupt it); it happens on a daemon thread, and whoever waits for that thread has a limit of their own.

Loaded on first use: importing urllib3 costs as much as the OpenTelemetry SDK (performance.md §2), and an app must not
pay for it before it starts.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from otel_posthog.delivery.deadline import Deadline, pool_classes
from otel_posthog.delivery.exchange import Answer, exchange, request_head
from otel_posthog.delivery.failures import classify
from otel_posthog.delivery.protocols import Request, Response
from otel_posthog.errors import PermanentError, RetryableError

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool
    from urllib3.response import BaseHTTPResponse

MAX_ANSWER_BYTES = 64 * 1024

_MAX_ROUTES = 16
_PLAIN_HOST = re.compile(r"[a-z0-9._-]+(?::[0-9]+)?\Z")


class _Route(NamedTuple):
    """The way to one URL.

    Args:
        pool: Its connections.
        target: What is asked for, as the next hop wants it.
        host: For the `Host` header; "" where every request is urllib3's to write.
        failures: What an exchange may raise.
    """

    pool: HTTPConnectionPool
    target: str
    host: str
    failures: tuple[type[Exception], ...]


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
        self._deadline = Deadline()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._routes: dict[str, _Route] = {}

    def post(self, request: Request, *, timeout: float) -> Response:
        """See `Transport.post`; an answer whose head arrived is an answer, its body what came in time."""
        if timeout <= 0:
            raise RetryableError("no time left for an attempt")
        if self._pid != os.getpid():  # a fork that Python did not see (uWSGI)
            self.after_fork()
        self._deadline.at = time.monotonic() + timeout
        route = self._route(request.url)
        try:
            answer = self._again(route, request) or self._first(route, request, timeout)
        except route.failures as error:
            failure = classify(error, request.url)
            if self._ca_file or self._client_cert:
                # Certificates are renewed in place, and a pool keeps what it read: the next attempt reads anew.
                # After any failure, since a server that refuses a certificate may just hang up.
                self._forget(route.pool)
            raise failure from error
        return Response(answer.status, answer.headers, _inflated(answer.body, answer.headers, self._max_answer_bytes))

    def _again(self, route: _Route, request: Request) -> Answer | None:
        """By a connection that is open; `None` where there is none, or the request is for urllib3 to write."""
        if not route.host:
            return None
        head = request_head(route.target, route.host, request.headers, len(request.body))
        if not head:
            return None
        pool = route.pool
        # urllib3's own, as `requests` used them for ten years: it also looks whether the server has hung up.
        connection: Any = pool._get_conn()
        sock = connection.sock
        if sock is None:
            pool._put_conn(connection)
            return None
        try:
            answer = exchange(sock, head, request.body, self._deadline, self._max_answer_bytes)
            if not answer.kept:
                connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            pool._put_conn(connection)
        return answer

    def _first(self, route: _Route, request: Request, timeout: float) -> Answer:
        from urllib3 import Timeout

        pool = route.pool
        answer = pool.urlopen(
            "POST",
            route.target,
            body=request.body,
            headers=dict(request.headers),
            timeout=Timeout(connect=timeout, read=timeout),
            retries=False,
            redirect=False,
            preload_content=False,
            decode_content=False,
            assert_same_host=False,
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        body, whole = self._read(answer)
        if not whole:
            answer.close()  # only a connection that gave all it announced is in a known state
        answer.release_conn()
        return Answer(answer.status, headers, body, whole)

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
        pool_classes(self._deadline)

    def close(self) -> None:
        """Closes kept connections; a later `post` opens new ones."""
        with self._lock:
            pools, self._pools, self._routes = self._pools, {}, {}
        for pool in pools.values():
            pool.close()

    def after_fork(self) -> None:
        """Forgets the parent's connections without a word on them, and every lock."""
        self._lock = threading.Lock()
        self._deadline = Deadline()
        self._pools = {}
        self._routes = {}
        self._pid = os.getpid()

    def _forget(self, pool: HTTPConnectionPool) -> None:
        with self._lock:
            self._pools = {origin: each for origin, each in self._pools.items() if each is not pool}
            self._routes = {url: each for url, each in self._routes.items() if each.pool is not pool}
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

    def _route(self, url: str) -> _Route:
        route = self._routes.get(url)
        if route is None:
            from http.client import HTTPException

            from urllib3.exceptions import HTTPError

            pool = self._pool(url)
            forwarded = pool.proxy is not None and pool.scheme == "http"
            route = _Route(
                pool,
                # A forwarding proxy wants the absolute URL; everybody else takes it too, but some do not route it.
                url if forwarded else _target(url),
                # Such a proxy wants its credentials with each request, too.
                "" if forwarded else _host(url),
                (HTTPError, HTTPException, OSError, ValueError),
            )
            with self._lock:
                if len(self._routes) < _MAX_ROUTES and self._pools.get(_origin(url)) is pool:
                    self._routes[url] = route
        return route

    def _pool(self, url: str) -> HTTPConnectionPool:
        try:
            origin = _origin(url)
        except ValueError:
            raise PermanentError("not a URL") from None
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
            manager.pool_classes_by_scheme = pool_classes(self._deadline)
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


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _host(url: str) -> str:
    """The `Host` header for `url`; "" where urllib3 has to find the words for it."""
    parts = urlsplit(url)
    name = parts.netloc.rpartition("@")[2].lower()
    return name.removesuffix(":443" if parts.scheme == "https" else ":80") if _PLAIN_HOST.match(name) else ""


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
