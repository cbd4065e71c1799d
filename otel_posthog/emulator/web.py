"""The JSON API under `/api/` and the page: what people and tests look at. No project token leaves here in full."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from otel_posthog.emulator import queries
from otel_posthog.emulator.faults import FaultPlan, parse_script
from otel_posthog.emulator.flags.document import parse_flags
from otel_posthog.emulator.flags.overview import flags_page
from otel_posthog.emulator.flags.state import FlagState
from otel_posthog.emulator.project_token import masked
from otel_posthog.emulator.store import Store
from otel_posthog.errors import ConfigError

_STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE_SIZE = 100
_MAX_PAGE = 1000
_MAX_SCRIPT = 1024 * 1024
_LIVE_INTERVAL = 0.25
"""Seconds between two live notices at the least: a burst of requests is one refresh of the page."""
_HEARTBEAT = 15.0
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Handler = Callable[[Request], Awaitable[Response]]


class _BadQueryError(Exception):
    pass


def build_pages(
    *, store: Store, plan: FaultPlan, flags: FlagState, closing: asyncio.Event, hosts: frozenset[str] | None
) -> list[BaseRoute]:
    """Routes of the API and the page.

    Args:
        store: What arrived.
        plan: Scripted faults.
        flags: Feature flags.
        closing: Set when the server stops.
        hosts: Names under which the page may be asked for, None for any: a page of the outside world must not read a
            developer's events by way of a name that it lets point to loopback.
    """
    pages = _Pages(store, plan, flags, closing)

    def guarded(handler: Handler, *, writes: bool = False) -> Handler:
        async def guard(request: Request) -> Response:
            if hosts is not None and _host(request) not in hosts:
                return _json_response({"error": "this name is not served; start with --allow-remote"}, 403)
            origin = request.headers.get("origin")
            if writes and origin is not None and origin.partition("://")[2] != request.headers.get("host"):
                return _json_response({"error": "another site may not write here"}, 403)
            try:
                return await handler(request)
            except _BadQueryError as error:
                return _json_response({"error": str(error)}, 400)

        return guard

    gets: dict[str, Handler] = {
        "/api/events": pages.events,
        "/api/events/names": pages.event_names,
        "/api/events/{uuid}": pages.event,
        "/api/persons": pages.persons,
        "/api/persons/{key:path}": pages.person,
        "/api/groups": pages.groups,
        "/api/issues": pages.issues,
        "/api/issues/{key:path}": pages.issue,
        "/api/spans": pages.spans,
        "/api/logs": pages.logs,
        "/api/metrics": pages.metrics,
        "/api/refusals": pages.refusals,
        "/api/stats": pages.stats,
        "/api/live": pages.live,
    }
    routes: list[BaseRoute] = [Route(path, guarded(handler)) for path, handler in gets.items()]
    routes.append(Route("/api/faults", guarded(pages.get_faults), methods=["GET"]))
    routes.append(Route("/api/faults", guarded(pages.set_faults, writes=True), methods=["POST"]))
    routes.append(Route("/api/flags", guarded(pages.flags), methods=["GET"]))
    routes.append(Route("/api/flags", guarded(pages.set_flags, writes=True), methods=["POST"]))
    routes.append(Route("/api/reset", guarded(pages.reset, writes=True), methods=["POST"]))
    routes.append(Route("/", guarded(_static("index.html"))))
    static = sorted(path.name for path in _STATIC.iterdir())
    return [*routes, *(Route(f"/static/{name}", guarded(_static(name))) for name in static)]


class _Pages:
    def __init__(self, store: Store, plan: FaultPlan, flags: FlagState, closing: asyncio.Event) -> None:
        self._store = store
        self._plan = plan
        self._flags = flags
        self._closing = closing

    async def events(self, request: Request) -> Response:
        filters = _filters(request, queries.EVENT_FILTERS)
        limit, offset = _paging(request)
        return await self._listed(
            lambda: queries.events(self._store, filters, limit=limit, offset=offset),
            lambda: queries.event_count(self._store, filters),
            limit,
            offset,
        )

    async def event_names(self, _request: Request) -> Response:
        return await self._answer(lambda: {"results": queries.event_names(self._store)})

    async def event(self, request: Request) -> Response:
        uuid = request.path_params["uuid"].lower()
        return await self._found(lambda: queries.events(self._store, {"uuid": uuid}) or None, key="results")

    async def persons(self, request: Request) -> Response:
        limit, offset = _paging(request)
        q = request.query_params.get("q", "")
        return await self._listed(
            lambda: queries.persons(self._store, q=q, limit=limit, offset=offset),
            lambda: queries.person_count(self._store) if not q else len(queries.persons(self._store, q=q)),
            limit,
            offset,
        )

    async def person(self, request: Request) -> Response:
        key = request.path_params["key"]
        return await self._found(lambda: queries.person(self._store, key))

    async def groups(self, _request: Request) -> Response:
        return await self._answer(lambda: {"results": queries.groups(self._store)})

    async def issues(self, _request: Request) -> Response:
        return await self._answer(lambda: {"results": queries.issues(self._store)})

    async def issue(self, request: Request) -> Response:
        key = request.path_params["key"]
        return await self._found(lambda: queries.issue(self._store, key))

    async def spans(self, request: Request) -> Response:
        return await self._telemetry(request, "traces")

    async def logs(self, request: Request) -> Response:
        return await self._telemetry(request, "logs")

    async def metrics(self, request: Request) -> Response:
        return await self._telemetry(request, "metrics")

    async def refusals(self, _request: Request) -> Response:
        return await self._answer(lambda: {"results": queries.refusals(self._store)})

    async def stats(self, _request: Request) -> Response:
        return await self._answer(lambda: {**queries.stats(self._store), "flags": len(self._flags.current().flags)})

    async def flags(self, _request: Request) -> Response:
        return await self._answer(lambda: flags_page(self._flags, self._store))

    async def set_flags(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > _MAX_SCRIPT:
            return _json_response({"error": "the flags are too long"}, 413)
        try:
            self._flags.replace(await run_in_threadpool(parse_flags, body, "flags"))
        except ConfigError as error:
            return _json_response({"error": str(error)}, 400)
        self._store.touch()
        return await self.flags(request)

    async def reset(self, _request: Request) -> Response:
        await run_in_threadpool(self._store.reset)
        return _json_response({"status": "reset"})

    async def get_faults(self, _request: Request) -> Response:
        return _json_response({"faults": self._plan.report()})

    async def set_faults(self, request: Request) -> Response:
        body = await request.body()
        if len(body) > _MAX_SCRIPT:
            return _json_response({"error": "the script is too long"}, 413)
        try:
            faults, seed = parse_script(json.loads(body or b"[]"))
        except (ConfigError, ValueError, RecursionError) as error:
            return _json_response({"error": str(error)}, 400)
        self._plan.set(faults, seed=seed)
        return _json_response({"faults": self._plan.report()})

    async def live(self, _request: Request) -> Response:
        return StreamingResponse(
            self._notices(), headers={**_SECURITY, "X-Accel-Buffering": "no"}, media_type="text/event-stream"
        )

    async def _notices(self) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        unsubscribe = self._store.subscribe(lambda: _wake(loop, changed))
        ending = asyncio.ensure_future(self._closing.wait())
        try:
            while not self._closing.is_set():
                yield f"data: {json.dumps({'version': self._store.version})}\n\n"
                change = asyncio.ensure_future(changed.wait())
                await asyncio.wait({change, ending}, timeout=_HEARTBEAT, return_when=asyncio.FIRST_COMPLETED)
                change.cancel()
                await asyncio.wait({ending}, timeout=_LIVE_INTERVAL)
                changed.clear()
        finally:
            ending.cancel()
            unsubscribe()

    async def _telemetry(self, request: Request, signal: str) -> Response:
        filters = _filters(request, queries.TELEMETRY_FILTERS)
        limit, offset = _paging(request)
        return await self._listed(
            lambda: queries.telemetry(self._store, signal, filters, limit=limit, offset=offset),
            lambda: queries.telemetry_count(self._store, signal, filters),
            limit,
            offset,
        )

    async def _listed(self, page: Callable[[], Any], count: Callable[[], int], limit: int, offset: int) -> Response:
        def answer() -> Mapping[str, Any]:
            return {"results": page(), "count": count(), "limit": limit, "offset": offset}

        return await self._answer(answer)

    async def _found(self, find: Callable[[], Any], *, key: str = "") -> Response:
        found = await run_in_threadpool(find)
        if found is None:
            return _json_response({"error": "not found"}, 404)
        return await self._answer(lambda: {key: found} if key else found)

    async def _answer(self, ask: Callable[[], Any]) -> Response:
        def text() -> bytes:
            out = json.dumps(ask(), ensure_ascii=False)
            for token in self._store.tokens():
                # Short "tokens" are no secrets, and replacing them would hit innocent text.
                if len(token) >= 8:
                    out = out.replace(json.dumps(token, ensure_ascii=False)[1:-1], masked(token))
            return out.encode()

        return Response(await run_in_threadpool(text), headers=_SECURITY, media_type="application/json")


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    # The loop may end between the change and its notice: nobody listens any more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(changed.set)


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition("]")[2].count(":") else host
    return name.strip("[]").lower()


def _filters(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    given = {key: value for key, value in request.query_params.items() if key not in {"limit", "offset"} and value}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise _BadQueryError(f"no such filter `{unknown[0]}`; known: {', '.join(known)}, limit, offset")
    return given


def _paging(request: Request) -> tuple[int, int]:
    try:
        limit = int(request.query_params.get("limit", _PAGE_SIZE))
        offset = int(request.query_params.get("offset", 0))
    except ValueError:
        raise _BadQueryError("`limit` and `offset` must be integers") from None
    if not 1 <= limit <= _MAX_PAGE or not 0 <= offset < 2**31:
        raise _BadQueryError(f"`limit` must be 1 to {_MAX_PAGE}, `offset` at least 0")
    return limit, offset


def _static(name: str) -> Handler:
    path = _STATIC / name

    async def serve(_request: Request) -> Response:
        content = await run_in_threadpool(path.read_bytes)
        return Response(content, headers=_SECURITY, media_type=_TYPES.get(path.suffix, "application/octet-stream"))

    return serve


def _json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), status, _SECURITY, media_type="application/json")
