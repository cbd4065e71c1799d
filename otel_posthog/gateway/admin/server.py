"""The operator's HTTP server: the answers of `app`, on a port and in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from otel_posthog.config.loopback import is_loopback
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.app import AdminApp
from otel_posthog.gateway.admin.door import Door

if TYPE_CHECKING:
    import uvicorn

INSTALL = "pip install 'otel-posthog[gateway]'"
_START_TIMEOUT = 30.0
_MAX_CONNECTIONS = 100
_HEADER_TIMEOUT = 15.0
"""Seconds in which a request has to arrive."""


class AdminServer:
    """The server. Listens from construction on, answers from `start` on.

    Args:
        door: What it shows.
        host: Address to listen on; "" for every interface.
        port: Port; 0 for a free one.
        token: What `/tail` asks for as bearer; "" for none, then only loopback sees it.

    Raises:
        ConfigError: The address cannot be listened on, or a package is missing.
    """

    def __init__(self, door: Door, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        _require_packages()
        self._app = AdminApp(door, token=token, loopback=is_loopback(host))
        self._socket = _listen(host, port)
        self._host = host
        self._port: int = self._socket.getsockname()[1]
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = threading.Event()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Base address for a caller on this machine."""
        host = self._host if self._host not in {"", "0.0.0.0", "::"} else "127.0.0.1"  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> AdminServer:
        """Serves in a thread; returns when requests are answered."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="otel-posthog-admin", daemon=True)
            self._thread.start()
            if not self._started.wait(_START_TIMEOUT):
                raise RuntimeError("the admin server did not start")
        return self

    def close(self, timeout: float = 5.0) -> None:
        """Stops within `timeout` seconds, viewers first. Idempotent."""
        server, loop = self._server, self._loop
        if server is not None:
            server.should_exit = True
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # it has ended in between
                loop.call_soon_threadsafe(self._app.close)
        if self._thread is not None:
            self._thread.join(timeout)
        self._socket.close()

    # --- the server ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        import uvicorn

        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MAX_CONNECTIONS,
            h11_max_incomplete_event_size=16 * 1024,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=2,
        )
        self._server = server = uvicorn.Server(config)

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            sweeper = asyncio.ensure_future(_sweep(server))
            self._loop.call_soon(self._started.set)
            try:
                await server.serve(sockets=[self._socket])
            finally:
                sweeper.cancel()

        asyncio.run(serve())


async def _sweep(server: uvicorn.Server) -> None:
    """Closes connections whose request does not arrive: uvicorn has no deadline for that."""
    waiting: dict[Any, float] = {}
    while True:
        now = time.monotonic()
        still: dict[Any, float] = {}
        for connection in list(server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            still[connection] = since = waiting.get(connection, now)
            # Between two requests of one scraper a longer silence is usual; uvicorn ends that by itself.
            halfway = cycle is None or getattr(connection, "timeout_keep_alive_task", None) is None
            if halfway and now - since > _HEADER_TIMEOUT:
                connection.transport.close()
        waiting = still
        await asyncio.sleep(_HEADER_TIMEOUT / 5)


def _require_packages() -> None:
    try:
        import prometheus_client  # noqa: F401 # pyright: ignore[reportUnusedImport]
        import uvicorn  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError as error:
        raise ConfigError(f"the gateway needs the package {error.name}", hint=f"Install it: {INSTALL}") from None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            getattr(error, "strerror", None) or str(error),
            key="listen.admin",
            source=f"{host}:{port}",
            hint="Choose another port, or 0 for a free one",
        ) from None
    listener.set_inheritable(False)
    return listener
