"""The relay as a WSGI and an ASGI app: on a path of its own, or as a middleware around another app.

app = RelayWSGI(app)                                # answers below OTEL_POSTHOG_BROWSER_RELAY, all else is the app's
app.mount("/relay", RelayASGI())                    # Starlette, FastAPI
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

from otel_posthog.browser.process import at_hand
from otel_posthog.browser.relay import MAX_REQUEST, Answer, relay

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class RelayWSGI:
    """The relay for WSGI servers.

    Args:
        app: Answers what is not the relay's; without one every path is.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]] | None = None) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """One request."""
        path = str(environ.get("PATH_INFO") or "/")
        if self._app is not None:
            below = _below(path)
            if below is None:
                return self._app(environ, start_response)
            path = below
        answer = wsgi_answer(environ, path)
        headers = {**answer.headers, "content-length": str(len(answer.body))}
        phrase = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else ""
        start_response(f"{answer.status} {phrase}", list(headers.items()))
        return [answer.body]


def wsgi_answer(environ: Mapping[str, Any], path: str) -> Answer:
    """Answers a WSGI request, of which nothing was read yet.

    Args:
        environ: WSGI's.
        path: Below the relay's own.
    """
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return Answer.of(400)
    if length < 0:
        return Answer.of(400)
    if length > MAX_REQUEST:
        return Answer.of(413)
    body = environ["wsgi.input"].read(length) if length else b""
    if len(body) < length:
        return Answer.of(400)
    headers = {
        name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")
    }
    headers["content-type"] = str(environ.get("CONTENT_TYPE") or "")
    return relay.answer(
        str(environ.get("REQUEST_METHOD") or "GET"),
        path,
        str(environ.get("QUERY_STRING") or ""),
        headers,
        body,
        str(environ.get("REMOTE_ADDR") or ""),
    )


class RelayASGI:
    """The relay for ASGI servers.

    Args:
        app: Answers what is not the relay's; without one every path is.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; the life of the app is the app's."""
        path = str(scope.get("path") or "/")
        below: str | None = None
        if scope["type"] == "http":
            root = str(scope.get("root_path") or "")
            # A mount leaves its own part in the path, and says so.
            inner = path[len(root) :] if root and path.startswith(root) else path
            below = inner if self._app is None else _below(inner)
        if below is None:
            if self._app is not None:
                await self._app(scope, receive, send)
            return
        answer = await self._answer(scope, receive, below)
        if answer is None:
            return
        headers = {**answer.headers, "content-length": str(len(answer.body))}
        listed = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": listed})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive, path: str) -> Answer | None:
        body: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body.append(message.get("body", b""))
            size += len(body[-1])
            if size > MAX_REQUEST:
                return Answer.of(413)
            if not message.get("more_body"):
                break
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        client = scope.get("client")
        # It waits for PostHog: in a thread, so that the loop does not.
        return await asyncio.to_thread(
            relay.answer, scope["method"], path, query, headers, b"".join(body), client[0] if client else ""
        )


def _below(path: str) -> str | None:
    """The part of `path` below the relay's own; `None` where it is not the relay's."""
    found = at_hand()
    prefix = found[1].browser.relay if found is not None else ""
    if prefix and path.startswith(f"{prefix}/"):
        return path[len(prefix) :]
    return None


__all__ = ["RelayASGI", "RelayWSGI", "wsgi_answer"]
