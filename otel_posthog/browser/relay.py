"""The relay: what posthog-js asks of PostHog, by way of the app's own origin.

It is no open proxy: a fixed list of paths, to the one PostHog that is configured; no cookie, authorization or other
header of the app's goes out, none of PostHog's comes in; bodies go through as they are. Its limits are such that an
outage of PostHog's costs the app little: a bounded number of requests at a time, a bounded time, and a pause after
failures in which the answer is 503 at once.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_posthog.browser.process import at_hand
from otel_posthog.flags.breaker import Breaker
from otel_posthog.lane.edge import suppressed
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from urllib3 import PoolManager

    from otel_posthog.config.browser import BrowserTarget

MAX_REQUEST: Final = 8 * 1024 * 1024
MAX_RESPONSE: Final = 8 * 1024 * 1024
AT_ONCE: Final = 16
"""Requests under way at the most; further ones get 503."""
CONNECT_SECONDS: Final = 2.0
SECONDS: Final = 10.0
"""That one request may take; a read that has begun may take as long once more."""
LONGEST_PAUSE: Final = 30.0
CHUNK: Final = 64 * 1024

_POSTS: Final = re.compile(r"/(?:e|i/v0/e|s|engage|flags|decide)/?")
_ASSETS: Final = re.compile(r"/static/(?:[0-9]+\.[0-9]+\.[0-9]+/)?[A-Za-z0-9._-]+\.js(?:\.map)?")
_CONFIG: Final = re.compile(r"/array/([A-Za-z0-9_-]+)/(?:config|config\.js|array\.js)/?")
_GETS: Final = re.compile(r"/api/(?:surveys|early_access_features|web_experiments|product_tours)/?")

_OWN: Final = ("/analytics.js", "/analytics.mjs")
"""The wrapper, for pages that load it by itself."""

_OUT: Final = (
    "content-type",
    "content-encoding",
    "user-agent",
    "accept-encoding",
    "if-none-match",
    "if-modified-since",
)
_BACK: Final = (
    "content-type",
    "content-encoding",
    "cache-control",
    "etag",
    "last-modified",
    "expires",
    "vary",
    "retry-after",
)


class Answer(NamedTuple):
    """What the browser gets.

    Args:
        status: HTTP status.
        headers: By name.
        body: As PostHog encoded it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, status: int, **headers: str) -> Answer:
        """One without a body."""
        return cls(status, {"cache-control": "no-store", **headers}, b"")


class Relay:
    """Relays requests. Safe in any thread, and after a fork.

    Args:
        monotonic: Seconds that never go back; injected by tests.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._pool: PoolManager | None = None
        self._lock = threading.Lock()
        self._free = AT_ONCE
        self._breaker = Breaker(longest=LONGEST_PAUSE, trial=SECONDS, monotonic=monotonic)

    def after_fork(self) -> None:
        """To be called in the child of a fork: connections of its own, and a fresh lock."""
        self._pool = None
        self._lock = threading.Lock()
        self._free = AT_ONCE
        self._breaker.after_fork()

    def answer(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, client: str
    ) -> Answer:
        """Answers one request of posthog-js's. Never raises.

        Args:
            method: Of HTTP.
            path: Below the relay's own, with its leading slash, decoded.
            query: As it came, without the question mark.
            headers: The browser's, by name; looked up in lower case.
            body: At most `MAX_REQUEST` bytes.
            client: The browser's address as the server sees it.
        """
        _ignore()
        found = at_hand()
        if found is None:
            return Answer.of(404)
        emitter, settings, target = found
        if method == "GET" and path in _OWN:
            return Answer(200, {"content-type": "text/javascript", "cache-control": "max-age=3600"}, _own(path))
        base = _base(method, path, target)
        if not base:
            return Answer.of(404)
        if len(body) > MAX_REQUEST:
            return Answer.of(413)
        if not self._enter():
            return Answer.of(503, **{"retry-after": "1"})
        try:
            sent = {name: value for name in _OUT if (value := headers.get(name))}
            if settings.browser.relay_client_ip and client:
                sent["x-forwarded-for"] = client
            url = f"{base}{path}" + (f"?{query}" if query else "")
            with suppressed():
                answer = self._ask(method, url, sent, body)
        except Exception as error:  # noqa: BLE001 - an edge: whatever the network brings
            if not _is_of_the_network(error):
                emitter.edge.guard.failed("browser.relay", error)
            self._breaker.failed()
            return Answer.of(502)
        finally:
            with self._lock:
                self._free += 1
        self._breaker.succeeded()
        return answer

    def _enter(self) -> bool:
        with self._lock:
            if self._free <= 0:
                return False
            self._free -= 1
        if self._breaker.allows():
            return True
        with self._lock:
            self._free += 1
        return False

    def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Answer:
        until = self._monotonic() + SECONDS
        response = self._connections().request(
            method, url, headers=headers, body=body or None, redirect=False, preload_content=False, decode_content=False
        )
        try:
            got: list[bytes] = []
            size = 0
            while chunk := response.read(CHUNK, decode_content=False):
                size += len(chunk)
                if size > MAX_RESPONSE or self._monotonic() > until:
                    return Answer.of(502)
                got.append(chunk)
            if 300 <= response.status < 400 and response.status != 304:
                return Answer.of(502)
            back = {name: value for name in _BACK if (value := response.headers.get(name))}
            return Answer(response.status, {**back, "x-content-type-options": "nosniff"}, b"".join(got))
        finally:
            # One that was not read to its end cannot carry another request.
            response.release_conn() if response.closed else response.close()

    def _connections(self) -> PoolManager:
        pool = self._pool
        if pool is None:
            from urllib3 import PoolManager, Timeout

            from otel_posthog.delivery.transport import trusted_roots

            pool = self._pool = PoolManager(
                maxsize=AT_ONCE,
                retries=False,
                timeout=Timeout(connect=CONNECT_SECONDS, read=SECONDS),
                ssl_context=trusted_roots(),
            )
        return pool


def _base(method: str, path: str, target: BrowserTarget) -> str:
    """Which of PostHog's hosts answers this; "" for none."""
    if method == "POST":
        return target.host if _POSTS.fullmatch(path) else ""
    if method != "GET":
        return ""
    if _ASSETS.fullmatch(path) and ".." not in path:
        return target.assets
    config = _CONFIG.fullmatch(path)
    if config is not None:
        return target.assets if config[1] == target.token else ""
    return target.host if _GETS.fullmatch(path) else ""


def _own(path: str) -> bytes:
    from otel_posthog.browser.markup import source

    return source(path[1:]).encode()


def _ignore() -> None:
    """The request is no use of the app: no rule makes an event of it."""
    from opentelemetry import trace

    span: Any = trace.get_current_span()
    if span.is_recording():
        span.set_attribute(posthog.IGNORE, True)


def _is_of_the_network(error: Exception) -> bool:
    from urllib3.exceptions import HTTPError

    from otel_posthog.errors import OtelPosthogError

    return isinstance(error, (HTTPError, OSError, OtelPosthogError))


relay: Final = Relay()
"""The process's one: its limits hold for all entrances together."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=relay.after_fork)
