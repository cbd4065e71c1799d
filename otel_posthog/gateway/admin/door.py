"""`Door`: what the HTTP server asks, of one worker or of all of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Protocol

from otel_posthog.gateway.admin.exposition import exposition, worker_metrics
from otel_posthog.gateway.admin.health import why_not_alive, why_not_ready
from otel_posthog.gateway.admin.sources import AdminSources, Reason
from otel_posthog.gateway.admin.tail import TailFilter

HEARTBEAT = 10.0
"""Seconds between empty lines of a quiet `/tail`: both ends learn so that the other one is still there."""


class TooManyViewersError(Exception):
    """No more may look at the same time."""


class Door(Protocol):
    """What there is to ask."""

    async def why_not_alive(self) -> tuple[Reason, ...]:
        """Reasons for starting it anew."""
        ...

    async def why_not_ready(self) -> tuple[Reason, ...]:
        """Reasons for sending nothing to it."""
        ...

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, for an `Accept` header."""
        ...

    def tail(self, wanted: TailFilter, ended: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Whole lines of JSON, until `ended` is set; an empty line where nothing came for `HEARTBEAT` seconds.

        Raises:
            TooManyViewersError: Before the first line.
        """
        ...


class WorkerDoor:
    """The door of one worker.

    Args:
        sources: What it reads.
        heartbeat: Seconds between empty lines.
    """

    def __init__(self, sources: AdminSources, *, heartbeat: float = HEARTBEAT) -> None:
        self._sources = sources
        self._heartbeat = heartbeat

    async def why_not_alive(self) -> tuple[Reason, ...]:
        """See `Door`."""
        return why_not_alive(self._sources)

    async def why_not_ready(self) -> tuple[Reason, ...]:
        """See `Door`."""
        return why_not_ready(self._sources)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """See `Door`."""
        return exposition(lambda: worker_metrics(self._sources), accept)

    async def tail(self, wanted: TailFilter, ended: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """See `Door`."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended in between
                loop.call_soon_threadsafe(woken.set)

        viewer = self._sources.tail.view(wanted, wake)
        if viewer is None:
            raise TooManyViewersError
        ending = asyncio.ensure_future(ended.wait())
        ending.add_done_callback(lambda _: woken.set())
        try:
            yield b""
            while not ended.is_set():
                missed, seen = viewer.take()
                if missed:
                    yield _line({"type": "missed", "count": missed})
                for each in seen:
                    yield _line(each.document())
                if seen:
                    continue
                try:
                    await asyncio.wait_for(woken.wait(), self._heartbeat)
                    woken.clear()
                except asyncio.TimeoutError:
                    yield b"\n"
        finally:
            ending.cancel()
            viewer.close()


def _line(document: object) -> bytes:
    # ASCII alone: what is in an event came from anywhere, and whoever reads this with curl reads it in a terminal.
    return json.dumps(document, separators=(",", ":"), default=str).encode() + b"\n"
