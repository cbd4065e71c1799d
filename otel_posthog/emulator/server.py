"""`Emulator`: a local PostHog in a thread, or in the foreground for the command line."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from otel_posthog.config.loopback import is_loopback
from otel_posthog.emulator import queries
from otel_posthog.emulator.faults import Fault, FaultPlan
from otel_posthog.emulator.flags.model import FlagSet, FlagValue
from otel_posthog.emulator.flags.state import FlagSource, FlagState
from otel_posthog.emulator.ingest import Ingest
from otel_posthog.emulator.limits import Limits
from otel_posthog.emulator.store import Store
from otel_posthog.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.types import Scope

T = TypeVar("T")

INSTALL = "pip install 'otel-posthog[emulator]'"
_START_TIMEOUT = 30.0


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Emulator:
    """A local PostHog: capture v0 and v1, flags, OTLP, people, groups, issues, a page.

        with Emulator() as emulator:
            posthog = Posthog("phc_test", host=emulator.url)
            posthog.capture("signed_up", distinct_id="ada")
            emulator.wait_for(lambda e: e.events(event="signed_up"))

    Args:
        db: SQLite file that survives a restart, or `:memory:`.
        host: Address to listen on.
        port: Port, 0 for a free one.
        allow_remote: Whether `host` may be reachable from other machines. There is no log-in.
        flags: Feature flags: the path of a YAML file, which is read again when it changes; a mapping as the file
            would hold it; or None for none.
        posthog_js: Folder with the files of posthog-js (`dist` of the npm package), served as PostHog does; browsers
            are then told to record sessions. None for none.
        limits: Sizes at which requests are refused.
        clock: Server time; tests inject it.

    Raises:
        ConfigError: `host` is not loopback without `allow_remote`, the port is taken, or the database or the flags
            are unusable.
    """

    def __init__(
        self,
        *,
        db: str = ":memory:",
        host: str = "127.0.0.1",
        port: int = 0,
        allow_remote: bool = False,
        flags: FlagSource = None,
        posthog_js: str | Path | None = None,
        limits: Limits | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ConfigError(
                "is reachable from other machines, and the emulator has no log-in",
                key="--host",
                source=host,
                hint="Use 127.0.0.1, or add --allow-remote",
            )
        _require_packages()
        self._flags = FlagState(flags)
        self._scripts = scripts_folder(posthog_js) if posthog_js is not None else None
        self._limits = limits or Limits()
        self._allow_remote = allow_remote
        self._plan = FaultPlan()
        self._socket = _listen(host, port)
        self._host = host
        self._port: int = self._socket.getsockname()[1]
        try:
            self._store = Store(db, clock)
        except BaseException:
            self._socket.close()
            raise
        self._ingest = Ingest(self._store, self._limits, clock, self._flags, recording=self._scripts is not None)
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self._started = threading.Event()

    # --- where -----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Base address: the `host` of the PostHog SDK, and the page."""
        host = "localhost" if self._host in {"0.0.0.0", "::"} else self._host  # noqa: S104 - compared, not bound
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self._port}"

    @property
    def endpoint(self) -> str:
        """The OTLP endpoint, for `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"{self.url}/i"

    # --- life ------------------------------------------------------------------------------------------------------

    def start(self) -> Emulator:
        """Serves in a thread; returns when requests are answered."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="posthog-emulator", daemon=True)
            self._thread.start()
            if not self._started.wait(_START_TIMEOUT):
                raise RuntimeError("the emulator did not start")
        return self

    def serve(self) -> None:
        """Serves in this thread until SIGINT or SIGTERM."""
        try:
            self._run()
        finally:
            self._store.close()
            self._socket.close()

    def close(self) -> None:
        """Stops serving and closes the database. Idempotent."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_START_TIMEOUT)
            self._thread = None
        self._store.close()
        self._socket.close()

    def __enter__(self) -> Emulator:  # noqa: PYI034 - `Self` is not in Python 3.10
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what arrived ----------------------------------------------------------------------------------------------

    def events(self, **filters: str) -> list[dict[str, Any]]:
        """Stored events, oldest first, as `/api/events/{uuid}` shows them, with the token in full.

        Args:
            **filters: Exact `event`, `distinct_id`, `uuid`, `token`, `person`, `issue`, `mode`, `version`; text `q`;
                ISO timestamps `after` and `before`.
        """
        _check_filters(filters, queries.EVENT_FILTERS)
        return queries.events(self._store, filters, oldest=True)

    def persons(self) -> list[dict[str, Any]]:
        """People, those seen last first."""
        return queries.persons(self._store)

    def person(self, distinct_id: str) -> dict[str, Any] | None:
        """The person of a distinct id, or of a person id."""
        return queries.person(self._store, distinct_id)

    def groups(self) -> list[dict[str, Any]]:
        """Groups by type and key."""
        return queries.groups(self._store)

    def issues(self) -> list[dict[str, Any]]:
        """Error issues, the one seen last first."""
        return queries.issues(self._store)

    def spans(self, **filters: str) -> list[dict[str, Any]]:
        """Spans that came by OTLP, oldest first; filters as `/api/spans`."""
        return self._telemetry("traces", filters)

    def logs(self, **filters: str) -> list[dict[str, Any]]:
        """Log records that came by OTLP, oldest first; filters as `/api/logs`."""
        return self._telemetry("logs", filters)

    def metrics(self, **filters: str) -> list[dict[str, Any]]:
        """Metrics that came by OTLP, oldest first."""
        return self._telemetry("metrics", filters)

    def stats(self) -> dict[str, Any]:
        """The books: received = stored + duplicates; dropped, refused and warnings by reason."""
        return queries.stats(self._store)

    def refusals(self) -> list[dict[str, Any]]:
        """Requests refused and events dropped, newest first."""
        return queries.refusals(self._store)

    def wait_for(self, predicate: Callable[[Emulator], T], timeout: float = 30.0) -> T:
        """Waits until `predicate(self)` is true, asking again after each change, and returns what it gave.

        Args:
            predicate: Asked in the caller's thread.
            timeout: Seconds.

        Raises:
            TimeoutError: With what did arrive.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen = self._store.version
            result = predicate(self)
            if result:
                return result
            left = deadline - time.monotonic()
            if left <= 0 or not self._store.wait_beyond(seen, left):
                names = {row["event"]: row["count"] for row in queries.event_names(self._store)}
                raise TimeoutError(f"not within {timeout:g} s; arrived: {names or 'no event'}; {self.stats()}")

    # --- flags -----------------------------------------------------------------------------------------------------

    @property
    def flags(self) -> FlagSet:
        """The feature flags in force; may be set to anything that `Emulator(flags=…)` takes.

            emulator.flags = {"flags": {"new-checkout": True, "button-colour": "green"}}

        Clients that evaluate by themselves learn of it with their next poll.

        Raises:
            ConfigError: On setting: the flags are unusable; those before stay.
        """
        return self._flags.current()

    @flags.setter
    def flags(self, source: FlagSource) -> None:
        self._flags.replace(source)
        self._store.touch()

    def flag_calls(self) -> dict[str, dict[FlagValue | None, int]]:
        """How often code was told which value (`$feature_flag_called`), by flag."""
        calls = queries.flag_calls(self._store)
        return {key: {row["value"]: row["count"] for row in rows} for key, rows in calls.items()}

    # --- what to do wrong ------------------------------------------------------------------------------------------

    def script(self, *faults: Fault, seed: int = 0) -> None:
        """Replaces the scripted faults; without arguments there are none."""
        self._plan.set(faults, seed=seed)

    def faults(self) -> list[dict[str, Any]]:
        """The scripted faults, each with how often it was `applied`."""
        return [dict(fault) for fault in self._plan.report()]

    def reset(self) -> None:
        """Forgets what arrived, and all faults. The flags stay."""
        self._plan.set(())
        self._store.reset()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _telemetry(self, signal: str, filters: dict[str, str]) -> list[dict[str, Any]]:
        _check_filters(filters, queries.TELEMETRY_FILTERS)
        return queries.telemetry(self._store, signal, filters)[::-1]

    def _run(self) -> None:
        import uvicorn

        from otel_posthog.emulator.app import build_app
        from otel_posthog.emulator.scripts import build_scripts
        from otel_posthog.emulator.web import build_pages

        closing = asyncio.Event()

        @asynccontextmanager
        async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
            self._started.set()
            yield

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                # Live pages and scripted hangs end first, or the server would wait for them.
                closing.set()
                await super().shutdown(sockets)

        hosts = None if self._allow_remote else frozenset({"localhost", "127.0.0.1", "::1", self._host})
        app = build_app(
            ingest=self._ingest,
            plan=self._plan,
            limits=self._limits,
            cut=self._cut,
            closing=closing,
            pages=[
                *build_pages(store=self._store, plan=self._plan, flags=self._flags, closing=closing, hosts=hosts),
                *(build_scripts(self._scripts) if self._scripts is not None else ()),
            ],
            lifespan=lifespan,
        )
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            # As load balancers keep idle connections, so that pooled clients are tested and not their reconnects.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        )
        self._server = Server(config)
        self._server.run(sockets=[self._socket])

    def _cut(self, scope: Scope, flush: bool) -> None:
        assert self._server is not None
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == scope.get("client"):
                if flush:
                    transport.close()
                else:
                    transport.abort()


def _check_filters(filters: dict[str, str], known: Sequence[str]) -> None:
    unknown = sorted(set(filters) - set(known))
    if unknown:
        raise TypeError(f"no such filter `{unknown[0]}`; known: {', '.join(known)}")


def scripts_folder(path: str | Path) -> Path:
    """The folder with posthog-js's files.

    Raises:
        ConfigError: They are not in it.
    """
    folder = Path(path)
    if not (folder / "array.js").is_file():
        raise ConfigError(
            "there is no array.js in it",
            key="--posthog-js",
            source=str(folder),
            hint="Name the folder dist of the npm package posthog-js",
        )
    return folder


def _require_packages() -> None:
    try:
        import starlette  # noqa: F401 # pyright: ignore[reportUnusedImport]
        import uvicorn  # noqa: F401 # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError as error:
        raise ConfigError(f"the emulator needs the package {error.name}", hint=f"Install it: {INSTALL}") from None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Connections wait from here on, so that nobody who knows the address is ever refused.
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigError(
            str(error), key="--port", source=f"{host}:{port}", hint="Choose another port, or 0 for a free one"
        ) from None
    listener.set_inheritable(False)
    return listener
