"""What the operator's HTTP server answers: `/livez`, `/readyz`, `/metrics`, `/tail`; an ASGI application.

It only shows: GET alone. Health tells yes or no, and more with `?verbose`; `/tail` shows people's data, so it
wants the admin token, or (where there is none) a caller of this machine that also calls the server by a loopback name:
a page in the operator's browser cannot reach it by a name of its own (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

from otel_posthog.config.loopback import is_loopback
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.door import Door, TooManyViewersError
from otel_posthog.gateway.admin.sources import Reason
from otel_posthog.gateway.admin.tail import TailFilter
from otel_posthog.observe.log import Complaints

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INDEX = """\
/livez    200 while it is alive; ?verbose says why not
/readyz   200 while it is ready; ?verbose says why not, ?exclude=CHECK leaves a check out
/metrics  Prometheus and OpenMetrics
/tail     events, live, as lines of JSON: ?event= ?distinct_id= ?project= ?drops=1
"""
NDJSON = "application/x-ndjson"

_FALSE = frozenset({"0", "false", "no", "off"})


class AdminApp:
    """The application.

    Args:
        door: What it shows.
        token: What `/tail` asks for as bearer; "" for none.
        loopback: Whether the server listens on loopback alone.
    """

    def __init__(self, door: Door, *, token: str = "", loopback: bool = True) -> None:
        self._door = door
        self._token = token
        self._loopback = loopback
        self._closed = asyncio.Event()
        self._complaints = Complaints()

    def close(self) -> None:
        """Ends every `/tail`; in the loop's thread."""
        self._closed.set()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answers one request."""
        asked = _Exchange(scope, receive, send)
        if asked.method not in {"GET", "HEAD"}:
            await asked.text(405, "only GET\n", (b"allow", b"GET, HEAD"))
            return
        try:
            await self._answer(asked)
        except Exception as error:  # noqa: BLE001 - an edge: what fails here must not end the server
            # A stream that has begun just ends, and its reader asks again.
            self._complaints.say(
                asked.path, "the admin server could not answer %s (%s)", asked.path, type(error).__name__
            )
            if not asked.begun:
                await asked.text(503, "not available now\n")

    async def _answer(self, asked: _Exchange) -> None:
        if asked.path == "/livez":
            await _health(asked, await self._door.why_not_alive(), "alive")
        elif asked.path == "/readyz":
            await _health(asked, await self._door.why_not_ready(), "ready")
        elif asked.path == "/metrics":
            body, content_type = await self._door.metrics(asked.header(b"accept"))
            await asked.whole(200, body, content_type)
        elif asked.path == "/tail":
            await self._tail(asked)
        elif asked.path == "/":
            await asked.text(200, INDEX)
        else:
            await asked.text(404, "not found\n")

    async def _tail(self, asked: _Exchange) -> None:
        if refusal := self._refuse_tail(asked):
            status, text = refusal
            await asked.text(status, text, *([(b"www-authenticate", b"Bearer")] if status == 401 else []))
            return
        try:
            wanted = tail_filter(asked.query)
        except ConfigError as error:
            await asked.text(400, f"{error}\n")
            return
        if asked.method == "HEAD":
            await asked.whole(200, b"", NDJSON)
            return
        ended = asyncio.Event()
        watching = [
            asyncio.ensure_future(_then(ended, self._closed.wait)),
            asyncio.ensure_future(_then(ended, asked.gone)),
        ]
        lines = self._door.tail(wanted, ended)
        try:
            async for chunk in lines:
                await asked.part(chunk, NDJSON)
            await asked.end()
        except TooManyViewersError:
            await asked.text(503, "too many look already\n")
        finally:
            await lines.aclose()
            for task in watching:
                task.cancel()

    def _refuse_tail(self, asked: _Exchange) -> tuple[int, str] | None:
        if self._token:
            scheme, _, given = asked.header(b"authorization").partition(" ")
            matches = hmac.compare_digest(given.strip().encode(), self._token.encode())
            return None if scheme.lower() == "bearer" and matches else (401, "the admin token is needed\n")
        if not self._loopback:
            return 403, "events are people's data: set an admin token, or listen on 127.0.0.1\n"
        if not is_loopback(asked.client) or not is_loopback(_name_of(asked.header(b"host"))):
            return 403, "events are people's data: without an admin token only this machine sees them\n"
        return None


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="replace")
        self.client: str = (scope.get("client") or ("",))[0]
        self.begun = False
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive
        self._send = send

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self._headers if key == name), "")

    def asks_for(self, name: str) -> bool:
        return is_true(self.query, name)

    async def gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def text(self, status: int, text: str, *more: tuple[bytes, bytes]) -> None:
        await self.whole(status, text.encode(), "text/plain; charset=utf-8", *more)

    async def whole(self, status: int, body: bytes, content_type: str, *more: tuple[bytes, bytes]) -> None:
        await self._begin(status, content_type, (b"content-length", str(len(body)).encode()), *more)
        await self._send({"type": "http.response.body", "body": body})

    async def part(self, body: bytes, content_type: str) -> None:
        if not self.begun:
            await self._begin(200, content_type)
        if body:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, status: int, content_type: str, *more: tuple[bytes, bytes]) -> None:
        self.begun = True
        always = (
            (b"content-type", content_type.encode()),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
        )
        await self._send({"type": "http.response.start", "status": status, "headers": [*always, *more]})


async def _health(asked: _Exchange, reasons: tuple[Reason, ...], state: str) -> None:
    excluded = {check for text in asked.query.get("exclude", ()) for check in text.split(",")}
    left = [reason for reason in reasons if reason.check not in excluded]
    status = 503 if left else 200
    if not asked.asks_for("verbose"):
        await asked.text(status, f"not {state}\n" if left else "ok\n")
        return
    shown = [
        {"check": each.check, **({"subject": each.subject} if each.subject else {}), "text": each.text} for each in left
    ]
    body = json.dumps({state: not left, "reasons": shown}, indent=2).encode() + b"\n"
    await asked.whole(status, body, "application/json")


def tail_filter(query: Mapping[str, list[str]]) -> TailFilter:
    """What the query of `/tail` asks for.

    Raises:
        ConfigError: It asks for what is not known.
    """
    known = ("event", "distinct_id", "project", "drops")
    for name, values in query.items():
        if name not in known or len(values) > 1:
            what = "is given twice" if name in known else "is no filter"
            raise ConfigError(what, key=name[:100], hint=f"Filters are {', '.join(known)}, each at most once")
    chosen = {name: values[0] for name, values in query.items()}
    return TailFilter(
        event=chosen.get("event", ""),
        distinct_id=chosen.get("distinct_id", ""),
        project=chosen.get("project", ""),
        drops=is_true(query, "drops"),
    )


def is_true(query: Mapping[str, list[str]], name: str) -> bool:
    """Whether the query has `name`, bare or with anything but a no."""
    return name in query and query[name][-1].strip().lower() not in _FALSE


def _name_of(host: str) -> str:
    """The name in a `Host` header, without the port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _then(event: asyncio.Event, wait: Callable[[], Awaitable[object]]) -> None:
    await wait()
    event.set()
