"""`GatewayService`: one gateway process, put together, started, changed and stopped.

    Receivers ─► GatewayIntake ─► journal ─► processing ─► Project.bridge ─► PostHog
        ▲              ▲                                       ▲
    Credentials      Books ◄── AdminServer (health, metrics, live events) ──┘

Start: the door first, so that a slow recovery can be watched; the spool, which may be somebody else's; then the ports.
Stop: not ready, nothing accepted, what has arrived is delivered within the bound, the rest stays in the spool.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_posthog.convert.user_agent import warm_user_agents
from otel_posthog.errors import ConfigError
from otel_posthog.gateway.admin.door import WorkerDoor
from otel_posthog.gateway.admin.self_metrics import SelfMetrics
from otel_posthog.gateway.admin.server import AdminServer
from otel_posthog.gateway.admin.sources import AdminSources, Gauges, Phase
from otel_posthog.gateway.admin.tail import Tail
from otel_posthog.gateway.books import Books
from otel_posthog.gateway.configuration.caller_tokens import credentials_of, token_sources
from otel_posthog.gateway.configuration.settings import GatewaySettings
from otel_posthog.gateway.intake import GatewayIntake
from otel_posthog.gateway.intake_config import IntakeConfig
from otel_posthog.gateway.projects.pinned_rules import PinnedRules
from otel_posthog.gateway.projects.projects import ProjectsFromSettings
from otel_posthog.gateway.receivers import Receivers
from otel_posthog.gateway.receivers.settings import ReceiverSettings
from otel_posthog.observe.log import logger

if TYPE_CHECKING:
    from otel_posthog.delivery.protocols import Clock
    from otel_posthog.delivery.spool_files import Files

_RELOADED: Final = frozenset({
    "source", "projects", "default_project", "tokens", "values", "files", "seen", "warnings", "reload", "drain_timeout",
})  # fmt: skip
"""Settings that a reload changes; the others are read at the start."""

_RECEIVERS_SHARE: Final = 0.5
"""Part of the time of a stop that requests in flight may take."""


class GatewayService:
    """One gateway process. `start`, `reload` and `stop` belong to one thread.

    Args:
        settings: Checked settings.
        worker: Number of this worker.
        workers: How many there are; with more than one, ports are shared, and each admin door is on loopback.
        files: Replaces the disk, for tests.
        clock: Replaces the system clock, for tests.
        transport: Makes the HTTP client of a project, for tests.

    Raises:
        ConfigError: The rules cannot be kept beside the spool, or a port cannot be had.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        worker: int = 0,
        workers: int = 1,
        files: Files | None = None,
        clock: Clock | None = None,
        transport: Any = None,
    ) -> None:
        self.books = Books()
        self.tail = Tail()
        self._settings = settings
        self._phase = Phase.STARTING
        self._reloaded_well = True
        self._reloaded_at = time.time()
        spooling = settings.acknowledge == "spool"
        pins = PinnedRules(settings.spool.folder, keeping=spooling)
        try:
            self.projects = ProjectsFromSettings(
                settings, pins, taps=self.tail.of, clock=clock, **({"transport": transport} if transport else {})
            )
        except OSError as error:
            raise ConfigError(
                f"{settings.spool.folder} cannot be written: {error.strerror or type(error).__name__}",
                key="spool.dir",
                hint="Name a folder that this user can write",
            ) from None
        self.intake = GatewayIntake(
            IntakeConfig(
                # With `forward` only where there is one already: for dead letters, and for what was spooled before.
                folder=settings.spool.folder if spooling or Path(settings.spool.folder).is_dir() else "",
                mode=settings.acknowledge,
                worker=worker,
                workers=workers,
                max_bytes=settings.spool.max_bytes,
                dead_letter_bytes=settings.spool.dead_letter_bytes,
                request_bytes=settings.limits.request_bytes,
                inflight_bytes=settings.limits.inflight_bytes,
            ),
            projects=self.projects,
            files=files,
            books=self.books,
            clock=clock,
            guard=self.projects.guard,
        )
        self._credentials = credentials_of(settings.tokens, settings.values)
        sources = self._sources(worker)
        self._self_metrics: SelfMetrics | None = None
        if settings.self_metrics is not None:
            self._self_metrics = SelfMetrics(sources, settings.self_metrics)
        self.admin: AdminServer | None = None
        if settings.admin is not None:
            token = settings.admin_token
            self.admin = AdminServer(
                WorkerDoor(sources),
                host=settings.admin.host,
                port=settings.admin.port,
                token=token.reveal() if token is not None else "",
            )
        try:
            self.receivers = Receivers(settings.receivers, self.intake, self._credentials, self.books)
        except ConfigError:
            self._close_admin()
            raise

    @property
    def settings(self) -> GatewaySettings:
        """What holds now."""
        return self._settings

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self._phase

    def start(self) -> None:
        """Returns when it serves.

        Raises:
            ConfigError: The spool cannot be had.
        """
        settings = self._settings
        if self.admin is not None:
            self.admin.start()
        if any(project.convert.request_context for project in settings.projects):
            warm_user_agents()  # before the first request, and before what the spool has kept
        try:
            self.intake.start()
        except ConfigError:
            self.receivers.stop(0.0)
            self._close_admin()
            raise
        self.receivers.start()
        self._phase = Phase.SERVING
        if self._self_metrics is not None:
            self._self_metrics.start()
        for warning in settings.warnings:
            logger.warning("otel-posthog gateway: %s", warning)
        logger.info(
            "otel-posthog gateway: serving %s; projects: %s; configuration: %s",
            ", ".join(f"{name} on {where}" for name, where in self.addresses().items()),
            ", ".join(f"{each.name} at {each.settings.lane.url}" for each in self.projects.all()),
            settings.source,
        )

    def addresses(self) -> Mapping[str, str]:
        """Where it listens, by name."""
        found: dict[str, str] = {}
        settings = self._settings
        for name, listen, port in (
            ("http", settings.receivers.http, self.receivers.http_port),
            ("grpc", settings.receivers.grpc, self.receivers.grpc_port),
            ("admin", settings.admin, self.admin.port if self.admin is not None else None),
        ):
            if listen is not None and port is not None:
                found[name] = f"[{listen.host}]:{port}" if ":" in listen.host else f"{listen.host}:{port}"
        return found

    # --- reload ----------------------------------------------------------------------------------------------------

    def reload(self, settings: GatewaySettings) -> None:
        """Goes on with other settings: projects, rules, keys, tokens, certificates.

        Args:
            settings: Checked settings.

        Raises:
            ConfigError: Something cannot be used; what was there stays.
            OSError: The rules cannot be kept beside the spool; what was there stays.
        """
        # What can fail comes first.
        credentials_of(settings.tokens, settings.values)
        self.receivers.reload_certificates()
        self.projects.reload(settings, self.intake.redeliver)
        self._credentials.replace(
            token_sources(settings.tokens), {name: value.reveal() for name, value in settings.values.items()}
        )
        late = changed_at_start_only(self._settings, settings)
        self._settings = settings
        self._reloaded_well, self._reloaded_at = True, time.time()
        self.books.add("config_reloads", result="ok")
        logger.info("otel-posthog gateway: the configuration was read again and holds now (%s)", settings.source)
        if late:
            logger.warning(
                "otel-posthog gateway: changed, but only with the next start: %s",
                ", ".join(f"`{each}`" for each in late),
            )
        for warning in settings.warnings:
            logger.warning("otel-posthog gateway: %s", warning)

    def reload_failed(self, why: str) -> None:
        """The configuration was read again and is bad: what was there stays, and it is said.

        Args:
            why: What is wrong, one line for each mistake.
        """
        self._reloaded_well = False
        self.books.add("config_reloads", result="failed")
        logger.error("otel-posthog gateway: the changed configuration cannot be used; the one before stays in use")
        for line in why.splitlines():
            logger.error("otel-posthog gateway: %s", line)

    # --- the end ---------------------------------------------------------------------------------------------------

    def stop(self, timeout: float | None = None) -> bool:
        """Stops within about `timeout` seconds; idempotent.

        Args:
            timeout: Seconds; the settings' `drain_timeout` by default.

        Returns:
            Whether everything that was acknowledged has been delivered; the rest is in the spool.
        """
        if self._phase is Phase.STOPPING:
            return True
        self._phase = Phase.STOPPING
        limit = self._settings.drain_timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        logger.info("otel-posthog gateway: stopping; at most %g s for what has arrived", limit)
        self.receivers.stop_accepting()
        self.receivers.stop(limit * _RECEIVERS_SHARE)
        flushing = self._flush_until(deadline)
        done = self.intake.stop(max(deadline - time.monotonic(), 0.0))
        flushing.set()
        self.projects.shutdown(max(deadline - time.monotonic(), 0.1))
        status = self.intake.status()
        if done:
            logger.info("otel-posthog gateway: stopped; everything that arrived has been delivered")
        else:
            logger.warning(
                "otel-posthog gateway: stopped; %d bytes stay in the spool, for the next start", status.spool_bytes
            )
        if self._self_metrics is not None:
            self._self_metrics.stop()
        self._close_admin()
        return done

    def _flush_until(self, deadline: float) -> threading.Event:
        """Has part-filled batches leave at once, again and again, until told to stop or `deadline`."""
        over = threading.Event()

        def flush(bridge: Any) -> None:
            while not over.is_set() and time.monotonic() < deadline:
                bridge.flush(min(max(deadline - time.monotonic(), 0.0), 1.0))
                over.wait(0.05)

        for project in self.projects.all():
            threading.Thread(
                target=flush, args=(project.bridge,), name=f"otel-posthog-flush-{project.name}", daemon=True
            ).start()
        return over

    def _close_admin(self) -> None:
        if self.admin is not None:
            self.admin.close()

    # --- what the door shows ---------------------------------------------------------------------------------------

    def _sources(self, worker: int) -> AdminSources:
        return AdminSources(
            phase=lambda: self._phase,
            books=self.books.snapshot,
            projects=self._all_projects,
            tail=self.tail,
            worker=worker,
            spool_error=lambda: self.intake.status().disk_error,
            gauges=self._gauges,
            dead_threads=self._dead_threads,
        )

    def _all_projects(self) -> Iterable[Any]:
        return self.projects.all()

    def _dead_threads(self) -> Sequence[str]:
        return (*self.intake.status().dead_threads, *self.receivers.dead_threads())

    def _gauges(self) -> Gauges:
        status = self.intake.status()
        gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
            ("spool_size", ()): status.spool_bytes,
            ("spool_records", ()): status.spool_records,
            ("spool_oldest_age", ()): status.oldest_age,
            ("spool_limit", ()): self._settings.spool.max_bytes,
            ("spool_orphans", ()): status.orphans,
            ("inflight_bytes", ()): status.inflight_bytes,
            ("waiting_bytes", ()): status.waiting_bytes,
            ("waiting_records", ()): status.waiting_records,
            ("dead_letter_bytes", ()): status.dead_letter_bytes,
            ("config_last_reload_successful", ()): float(self._reloaded_well),
            ("config_last_reload_timestamp", ()): self._reloaded_at,
        }
        for project, count in status.blocked.items():
            gauges["blocked_records", (("project", project),)] = count
        for reason, count in status.dead_letters.items():
            gauges["dead_letters_kept", (("reason", reason),)] = count
        return gauges


def changed_at_start_only(old: GatewaySettings, new: GatewaySettings) -> list[str]:
    """Keys of the file whose settings differ and are read at the start alone."""
    changed = [
        each.name
        for each in fields(GatewaySettings)  # pyright: ignore[reportArgumentType] - `frozen` makes dataclasses
        if each.name not in _RELOADED and getattr(old, each.name) != getattr(new, each.name)
    ]
    keys = (key for name in changed for key in _keys_of(name, old.receivers, new.receivers))
    return list(dict.fromkeys(keys))


def _keys_of(name: str, old: ReceiverSettings, new: ReceiverSettings) -> list[str]:
    """What a setting is called in the file, where three keys make the receivers' one."""
    if name == "admin":
        return ["listen.admin"]
    if name != "receivers":
        return [name]
    keys = [f"listen.{each}" for each in ("http", "grpc") if getattr(old, each) != getattr(new, each)]
    keys += ["tls"] * ((old.http_tls, old.grpc_tls) != (new.http_tls, new.grpc_tls))
    rest = replace(old, http=new.http, grpc=new.grpc, http_tls=new.http_tls, grpc_tls=new.grpc_tls)
    return keys + ["limits"] * (rest != new)


def secrets_of(settings: GatewaySettings) -> list[str]:
    """Every secret that these settings hold, to be kept out of log lines."""
    found = [project.lane.token.reveal() for project in settings.projects]
    found.extend(value.reveal() for value in settings.values.values())
    if settings.self_metrics is not None:
        found.extend(value.reveal() for value in settings.self_metrics.headers.values())
    if settings.admin_token is not None:
        found.append(settings.admin_token.reveal())
    return found
