"""posthog-js's own files where PostHog has them: `/static/array.js` and the like, with a version or without."""

from __future__ import annotations

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_HEADERS = {"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


def build_scripts(folder: Path) -> list[BaseRoute]:
    """Routes of the scripts.

    Args:
        folder: `dist` of the npm package; what is in it when this is called is served, and nothing else.
    """
    files = {path.name: path for path in folder.iterdir() if path.suffix == ".js"}

    async def script(request: Request) -> Response:
        path = files.get(request.path_params["name"])
        if path is None:
            return Response(status_code=404, headers=_HEADERS)
        content = await run_in_threadpool(path.read_bytes)
        return Response(content, headers=_HEADERS, media_type="text/javascript")

    return [Route("/static/{name}", script), Route("/static/{version}/{name}", script)]
