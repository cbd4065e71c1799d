"""`WorkersDoor`: the doors of all workers as one, for the supervisor of `gateway --workers N`.

Each worker shows itself on a loopback port of its own and tells the supervisor which. What they say is put together
here: metrics side by side (each sample names its worker, so `sum by` adds up), events as they come, and reasons. One
worker that starts anew is no reason to send nothing to the others; a key that one of them finds revoked is revoked for
all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from otel_posthog.gateway.admin import names
from otel_posthog.gateway.admin.door import HEARTBEAT, TooManyViewersError
from otel_posthog.gateway.admin.exposition import exposition, prometheus_family
from otel_posthog.gateway.admin.families import Family
from otel_posthog.gateway.admin.health import why_not_serving
from otel_posthog.gateway.admin.sources import Phase, Reason
from otel_posthog.gateway.admin.tail import MAX_VIEWERS, TailFilter

if TYPE_CHECKING:
    from prometheus_client import Metric

_TIMEOUT = 5.0
"""Seconds that one worker may take to answer; a scrape waits ten by default."""
_HEALTH_TIMEOUT = 0.7
"""The same for health: a kubelet waits one second by default, and must not end all workers for one that hangs."""
_MAX_ANSWER = 32 * 1024 * 1024
_MAX_LINE = 16 * 1024 * 1024
_LOOK_FOR_WORKERS = 1.0


def _no_restarts() -> Mapping[int, int]:
    return {}


@dataclass(frozen=True, slots=True)
class WorkersSources:
    """What the supervisor tells. Each callable is called for each request, from the door's own thread.

    Args:
        phase: Where the gateway as a whole is in its life.
        workers: Number of each worker that should run -> port of its door on 127.0.0.1, 0 while it has none.
        token: The admin token, which the workers' doors ask for too; "" for none.
        restarts: How often each worker was started anew.
    """

    phase: Callable[[], Phase]
    workers: Callable[[], Mapping[int, int]]
    token: str = ""
    restarts: Callable[[], Mapping[int, int]] = field(default=_no_restarts)


class WorkersDoor:
    """The door of all workers.

    Args:
        sources: What the supervisor tells.
        heartbeat: Seconds between empty lines of a quiet `/tail`.
    """

    def __init__(self, sources: WorkersSources, *, heartbeat: float = HEARTBEAT) -> None:
        self._sources = sources
        self._heartbeat = heartbeat
        self._viewers = 0

    async def why_not_alive(self) -> tuple[Reason, ...]:
        """What the workers say of themselves; one that is being started anew says nothing."""
        if self._sources.phase() is not Phase.SERVING:
            return ()
        answers = await self._ask_all("/livez?verbose", _HEALTH_TIMEOUT)
        return tuple(reason for worker, answer in answers.items() for reason in _reasons(worker, answer) or ())

    async def why_not_ready(self) -> tuple[Reason, ...]:
        """Reasons of the gateway as a whole."""
        if reason := why_not_serving(self._sources.phase()):
            return (reason,)
        answers = await self._ask_all("/readyz?verbose", _HEALTH_TIMEOUT)
        one_serves = False
        starting: list[Reason] = []
        others: list[Reason] = []
        for worker, answer in answers.items():
            found = _reasons(worker, answer)
            if found is None:
                starting.append(Reason("workers", "it does not answer", subject=f"worker {worker}"))
                continue
            others += (reason for reason in found if reason.check != "phase")
            phase = [reason for reason in found if reason.check == "phase"]
            starting += phase
            one_serves = one_serves or not phase
        return tuple(others if one_serves else [*starting, *others])

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Every worker's families, and which workers answer."""
        answers = await self._ask_all("/metrics")
        return exposition(lambda: self._families(answers), accept)

    def _families(self, answers: Mapping[int, bytes | None]) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        silent = tuple(
            ((("worker", str(worker)),), 0)
            for worker, answer in answers.items()
            if answer is None or not _merge(found, answer, worker)
        )
        _add(found, prometheus_family(Family(names.WORKER_UP, silent), {}))
        restarts = tuple(((("worker", str(worker)),), count) for worker, count in self._sources.restarts().items())
        _add(found, prometheus_family(Family(names.WORKER_RESTARTS, restarts), {}))
        yield from found.values()

    async def tail(self, wanted: TailFilter, ended: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """The lines of all workers, of those too that start in the meantime."""
        if self._viewers >= MAX_VIEWERS:
            raise TooManyViewersError
        self._viewers += 1
        lines: asyncio.Queue[bytes] = asyncio.Queue(maxsize=20)
        following = asyncio.ensure_future(self._follow_all(wanted, lines))
        ending = asyncio.ensure_future(ended.wait())
        try:
            yield b""
            while not ended.is_set():
                line = asyncio.ensure_future(lines.get())
                await asyncio.wait({line, ending}, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    yield line.result()
                    continue
                line.cancel()
                if not ended.is_set():
                    yield b"\n"
        finally:
            self._viewers -= 1
            ending.cancel()
            following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await following

    async def _follow_all(self, wanted: TailFilter, lines: asyncio.Queue[bytes]) -> None:
        asked = {"event": wanted.event, "distinct_id": wanted.distinct_id, "project": wanted.project}
        asked["drops"] = "1" if wanted.drops else ""
        query = urlencode({name: text for name, text in asked.items() if text})
        followed: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                ports = {port for port in self._sources.workers().values() if port}
                followed = {port: task for port, task in followed.items() if not task.done()}
                for port in ports - set(followed):
                    followed[port] = asyncio.create_task(self._follow(port, f"/tail?{query}", lines))
                await asyncio.sleep(_LOOK_FOR_WORKERS)
        finally:
            for task in followed.values():
                task.cancel()
            await asyncio.gather(*followed.values(), return_exceptions=True)

    async def _follow(self, port: int, path: str, lines: asyncio.Queue[bytes]) -> None:
        # One that cannot be followed now is asked again a second later.
        with contextlib.suppress(OSError, asyncio.TimeoutError, ValueError):
            async with self._open(port, path) as (status, reader):
                while status == 200 and (line := await reader.readline()):
                    if line.endswith(b"\n") and line != b"\n":
                        # Where the viewer is slow this waits, the worker's socket fills, and the worker counts what it
                        # leaves out.
                        await lines.put(line)

    # --- asking a worker -------------------------------------------------------------------------------------------

    async def _ask_all(self, path: str, timeout: float = _TIMEOUT) -> dict[int, bytes | None]:
        """What each worker answers; `None` for one that does not within `timeout` seconds."""
        workers = dict(sorted(self._sources.workers().items()))
        answers = await asyncio.gather(*(self._ask(port, path, timeout) for port in workers.values()))
        return dict(zip(workers, answers, strict=True))

    async def _ask(self, port: int, path: str, timeout: float) -> bytes | None:
        if not port:
            return None
        try:
            return await asyncio.wait_for(self._whole(port, path), timeout)
        except (OSError, asyncio.TimeoutError, ValueError):
            return None

    async def _whole(self, port: int, path: str) -> bytes | None:
        async with self._open(port, path) as (status, reader):
            parts: list[bytes] = []
            size = 0
            while part := await reader.read(65_536):
                size += len(part)
                if size > _MAX_ANSWER:
                    return None
                parts.append(part)
            return b"".join(parts) if status in {200, 503} else None

    @contextlib.asynccontextmanager
    async def _open(self, port: int, path: str) -> AsyncGenerator[tuple[int, asyncio.StreamReader], None]:
        """Status and body of a GET: HTTP/1.0, so that the body is just what comes until the end."""
        reader, writer = await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", port, limit=_MAX_LINE), timeout=_TIMEOUT
        )
        try:
            token = f"Authorization: Bearer {self._sources.token}\r\n" if self._sources.token else ""
            writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{token}\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=_TIMEOUT)
            yield _status(head), reader
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("that is no answer of a worker") from error
        finally:
            writer.close()


def _status(head: bytes) -> int:
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ConnectionError("that is no answer of a worker")
    return int(rest[:3])


def _reasons(worker: int, answer: bytes | None) -> list[Reason] | None:
    """What a worker gave as reasons; `None` where it gave no answer that can be read."""
    try:
        document: Any = json.loads(answer or b"")
        return [
            Reason(each["check"], each["text"], ", ".join(filter(None, (f"worker {worker}", each.get("subject", "")))))
            for each in document["reasons"]
        ]
    except (ValueError, LookupError, TypeError):
        return None


def _merge(found: dict[str, Metric], answer: bytes, worker: int) -> bool:
    """Adds the families of one worker to those of others; False, and nothing, where they cannot be read."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(answer.decode()))
    except (ValueError, LookupError):
        return False
    for family in families:
        family.samples = [sample._replace(labels={"worker": str(worker), **sample.labels}) for sample in family.samples]
        _add(found, family)
    return bool(families)


def _add(found: dict[str, Metric], family: Metric) -> None:
    known = found.setdefault(family.name, family)
    if known is not family:
        known.samples = [*known.samples, *family.samples]
