"""The ASGI application: ingestion endpoints with faults, the JSON API, the page.

Starlette is an extra: this module is imported only when a server starts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from otel_posthog.emulator.exchange import Answer, Incoming
from otel_posthog.emulator.faults import Fault, FaultPlan
from otel_posthog.emulator.flags.service import (
    BROWSER_CONFIG_PATHS,
    DECIDE_PATH,
    DEFINITION_PATHS,
    FLAGS_PATH,
    REMOTE_CONFIG_PATH,
)
from otel_posthog.emulator.ingest import OTLP_PATHS, V0_PATHS, V1_PATH, Ingest
from otel_posthog.emulator.limits import Limits

_CORS = {"Access-Control-Allow-Origin": "*"}
_PREFLIGHT = {
    **_CORS,
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",
    "Access-Control-Max-Age": "600",
}

_ROUTES = {
    ("GET", "POST"): (*V0_PATHS, FLAGS_PATH),
    ("POST",): (V1_PATH, *OTLP_PATHS, DECIDE_PATH),
    ("GET",): (*DEFINITION_PATHS, REMOTE_CONFIG_PATH, *BROWSER_CONFIG_PATHS),
}
"""What clients ask, by method; each path with a slash at its end too."""

_DRAINED = 8
"""A body up to this many times its limit is read to its end before it is refused."""

Cut = Callable[[Scope, bool], None]
"""Cuts the TCP connection of a request; True sends first what was written."""


class _TooLargeError(Exception):
    pass


class _CutConnection(Response):
    """Ends the connection, after some bytes of an answer or before the first."""

    def __init__(self, cut: Cut, answer: Answer | None = None) -> None:
        super().__init__()
        self._cut = cut
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._answer is not None:
            body = self._answer.body
            length = str(len(body)).encode()
            headers = [(b"content-type", self._answer.content_type.encode()), (b"content-length", length)]
            await send({"type": "http.response.start", "status": self._answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        self._cut(scope, self._answer is not None)
        # The server learns of the cut in the next turns of its loop; ending before that would make it answer 500.
        while (await receive())["type"] != "http.disconnect":
            pass


def build_app(
    *,
    ingest: Ingest,
    plan: FaultPlan,
    limits: Limits,
    cut: Cut,
    closing: asyncio.Event,
    pages: list[BaseRoute],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
) -> Starlette:
    """Puts the routes together.

    Args:
        ingest: The protocol.
        plan: Scripted faults.
        limits: For the body's timeout.
        cut: Cuts a connection.
        closing: Set when the server stops: nobody waits any longer.
        pages: Routes of the API and the page.
        lifespan: Start and stop.
    """

    async def receive(request: Request) -> Response:
        path = request.url.path
        route = path.rstrip("/")
        # A GET without data sends no event: somebody looks whether there is anybody.
        idle = request.method != "POST" and route in V0_PATHS and "data" not in request.query_params
        fault = None if idle else plan.take(path)
        try:
            body = await _body(request, ingest.body_limit(route), limits.body_timeout)
        except _TooLargeError:
            return _response(await run_in_threadpool(ingest.too_large, route), close=True)
        except asyncio.TimeoutError:
            return _response(await run_in_threadpool(ingest.stalled, route), close=True)
        except ClientDisconnect:
            return Response(status_code=400)
        if fault is not None and fault.delay:
            await pause(closing, fault.delay)
        if fault is not None and not fault.stores:
            return await _faulty(request, fault, cut, closing, None)
        incoming = Incoming(request.method, route, dict(request.query_params), dict(request.headers), body)
        answer = await run_in_threadpool(ingest.answer, incoming, fault)
        return _response(answer) if fault is None else await _faulty(request, fault, cut, closing, answer)

    async def preflight(_request: Request) -> Response:
        return Response(status_code=204, headers=_PREFLIGHT)

    async def alive(_request: Request) -> Response:
        return Response("ok", media_type="text/plain")

    routes: list[BaseRoute] = [Route("/_liveness", alive), Route("/_readiness", alive)]
    for methods, paths in _ROUTES.items():
        for path in paths:
            for spelled in (path, f"{path}/"):
                routes.append(Route(spelled, receive, methods=list(methods)))
                routes.append(Route(spelled, preflight, methods=["OPTIONS"]))
    return Starlette(routes=[*routes, *pages], lifespan=lifespan)


async def _body(request: Request, limit: int, timeout: float) -> bytes:
    """The whole body, at most `limit` bytes.

    What is somewhat too long is read to its end all the same: a client that is still writing when the answer comes and
    the connection closes would see a broken pipe in place of the 413.
    """
    stream = request.stream()
    chunks: list[bytes] = []
    size = 0
    while (chunk := await asyncio.wait_for(_next(stream), timeout)) is not None:
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > limit * _DRAINED:
            break
        else:
            chunks.clear()
    if size > limit:
        raise _TooLargeError
    return b"".join(chunks)


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    async for chunk in stream:
        return chunk
    return None


async def pause(closing: asyncio.Event, seconds: float) -> bool:
    """Waits, but not beyond the end of the server; whether it ended."""
    try:
        await asyncio.wait_for(closing.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True


async def _until_gone(request: Request, closing: asyncio.Event) -> None:
    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    waits: set[asyncio.Future[Any]] = {asyncio.ensure_future(gone()), asyncio.ensure_future(closing.wait())}
    _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)


def _response(answer: Answer, *, close: bool = False) -> Response:
    headers = {**_CORS, **answer.headers}
    if close:
        # The rest of the body was not read: the connection cannot carry another request.
        headers["Connection"] = "close"
    return Response(answer.body, answer.status, headers, media_type=answer.content_type)


async def _faulty(request: Request, fault: Fault, cut: Cut, closing: asyncio.Event, answer: Answer | None) -> Response:
    headers = dict(_CORS)
    if fault.retry_after is not None:
        headers["Retry-After"] = (
            f"{fault.retry_after:g}" if isinstance(fault.retry_after, (int, float)) else fault.retry_after
        )
    if fault.action in {"cut", "lose_answer"}:
        return _CutConnection(cut)
    if fault.action == "hang":
        await _until_gone(request, closing)
        return _CutConnection(cut)
    if fault.action == "html":
        return Response("<!doctype html><title>Sign in</title><h1>Sign in to continue</h1>", 200, headers, "text/html")
    if fault.action == "redirect":
        return Response(b"", fault.status, {**headers, "Location": fault.location})
    if fault.action == "status":
        if fault.status in {204, 304}:  # these have no body
            return Response(status_code=fault.status, headers=headers)
        text = fault.body or f"scripted {fault.status}"
        body: Any = {"error": "scripted", "error_description": text, "error_uri": ""}
        if request.url.path.rstrip("/") == V1_PATH and not fault.body:
            return Response(json.dumps(body), fault.status, headers, "application/json")
        return Response(text, fault.status, headers, "text/plain")
    assert answer is not None
    if fault.action == "truncate":
        return _CutConnection(cut, answer)
    if fault.action == "drip":
        length = {"Content-Length": str(len(answer.body))}
        return StreamingResponse(
            _dripped(answer.body, fault.bytes_per_second, closing),
            answer.status,
            {**headers, **length},
            answer.content_type,
        )
    if fault.action == "garbage":
        return Response(b'{"results": [1, null], "status":', 200, headers, "application/json")
    response = _response(answer)
    response.headers.update(headers)
    return response


async def _dripped(body: bytes, pace: float, closing: asyncio.Event) -> AsyncIterator[bytes]:
    for index in range(len(body)):
        if await pause(closing, 1 / pace):
            return
        yield body[index : index + 1]
