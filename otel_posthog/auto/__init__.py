"""The zero-code hook: joins whatever OpenTelemetry set-up the process has, or will have. Never raises.

`opentelemetry-instrument` calls `install()` (entry point `opentelemetry_pre_instrument`) when a distribution has built
the providers and no instrumentation runs yet. In plain code it is the one line beside an existing provider:

    otel_posthog.auto.install()
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_posthog.errors import ConfigError
from otel_posthog.observe.guard import Guard, logger

if TYPE_CHECKING:
    from otel_posthog.auto.hook import Hook
    from otel_posthog.config.settings import Settings


class _Process:
    """What the hook must remember between calls."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.guard = Guard()
        self.hook: Hook | None = None
        self.arguments: dict[str, Any] = {}
        self.said: set[str] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self.lock = threading.RLock()

    def once(self, message: str) -> bool:
        if message in self.said:
            return False
        self.said.add(message)
        return True


# Hooks have no caller who could keep this: `opentelemetry-instrument` calls a function by name, maybe twice.
_process = _Process()


def install(*, tracer_provider: Any = None, logger_provider: Any = None, **settings: Any) -> bool:
    """Attaches the bridge to the process's providers, now or as soon as there are some. Idempotent; never raises.

    With the gate closed nothing happens but one INFO line: no thread, socket, file or change to any provider.

    Args:
        tracer_provider: The provider to attach to; default the global one.
        logger_provider: The same for logs.
        **settings: Arguments of `load_settings`, e.g. `endpoint`, `token`, `config`; the environment fills the rest.

    Returns:
        Whether the bridge runs (it may still wait for a provider).
    """
    try:
        with _process.lock:
            return _install(tracer_provider, logger_provider, settings)
    except Exception as error:  # noqa: BLE001 - the edge: this is called inside other people's start-up
        _process.guard.failed("auto.install", error)
        return False


def _install(tracer_provider: Any, logger_provider: Any, arguments: dict[str, Any]) -> bool:
    loaded = _load(arguments)
    if loaded is None:
        return False
    if not loaded.enabled:
        if _process.once(f"off {loaded.reason}"):
            logger.info("otel-posthog is off: %s", loaded.reason)
        return False
    from otel_posthog.auto.hook import Hook

    hook = _process.hook
    if hook is None:
        try:
            hook = Hook.start(loaded, _process.guard)
        except ConfigError as error:
            _complain(error)
            return False
        _process.hook = hook
        from otel_posthog import assembly

        assembly.reload_by(reload)
        _process.arguments = dict(arguments)
        for warning in loaded.warnings:
            logger.warning("otel-posthog: %s", warning)
    hook.attach(tracer_provider, logger_provider)
    return True


def reload(environ: Mapping[str, str] | None = None) -> bool:
    """Reads settings and rules again and puts them behind the running bridge. Never raises.

    Where they are wrong, or the gate is now closed, everything goes on as before, and one ERROR says why.

    Args:
        environ: Instead of the process's environment.

    Returns:
        Whether the new settings count now.
    """
    try:
        with _process.lock:
            if _process.hook is None:
                return install(**_process.arguments)
            loaded = _load(_process.arguments, environ)
            if loaded is None:
                return False
            if not loaded.enabled:
                logger.error(
                    "otel-posthog: reload would switch it off (%s); the old settings stay. A restart switches it off",
                    loaded.reason,
                )
                return False
            from otel_posthog import assembly

            try:
                return assembly.reload(loaded) is not None
            except ConfigError as error:
                _complain(error, "the old settings and rules stay")
                return False
    except Exception as error:  # noqa: BLE001 - the edge: an admin endpoint or a signal handler calls it
        _process.guard.failed("auto.reload", error)
        return False


def metrics() -> dict[str, Any]:
    """Every number of the running bridge at this moment, ready for JSON. Never raises.

    For a health page or a periodic log line of the app; `docs/observability.md` has the names.

    Returns:
        Metric name -> number, or a mapping by attribute value; empty where the bridge does not run.
    """
    try:
        if _process.hook is None:
            return {}
        from otel_posthog import assembly

        runtime = assembly.current()
        if runtime is None:
            return {}
        found = runtime.bridge.metrics()
        client: Any = sys.modules.get("otel_posthog.flags.process")
        if client is not None:  # somebody asked for a flag
            stats = client.stats()
            found["otel_posthog.flags.questions"] = {**stats.answered, **stats.unanswered}
        return found
    except Exception as error:  # noqa: BLE001 - the edge: a health page calls it
        _process.guard.failed("auto.metrics", error)
        return {}


def _load(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings | None:
    from otel_posthog.config.load import load_settings

    try:
        return load_settings(environ, **arguments)
    except ConfigError as error:
        _complain(error, "the old settings stay" if _process.hook is not None else "")
        return None


def _complain(error: ConfigError, consequence: str = "") -> None:
    if _process.once(str(error)) or consequence:
        logger.error("otel-posthog: %s; %s", error, consequence or "it stays off, your app is fine")


__all__ = ["install", "metrics", "reload"]
