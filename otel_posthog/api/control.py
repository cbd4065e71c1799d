"""`flush`, `reload`, `shutdown`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.errors import ConfigError
from otel_posthog.observe.log import logger

if TYPE_CHECKING:
    from otel_posthog.lane.emitter import Emitter


_FLUSH: Final = 10.0
_LONGEST: Final = 86_400.0
"""Locks refuse to wait for an infinity."""


def flush(timeout: float = _FLUSH) -> bool:
    """Delivers what has been captured so far: at the end of a job, before a process is frozen. Never raises.

    Args:
        timeout: Seconds to wait at the most; 10 by default.

    Returns:
        Whether all of it has been delivered; true where the gate is shut.
    """
    emitter = process.get()
    if emitter is None:
        return True
    try:
        return emitter.edge.worker.flush(_seconds(timeout, _FLUSH, emitter))
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.flush", error)
        return False


def shutdown(timeout: float | None = None) -> bool:
    """Delivers what has been captured, and stops for good. Never raises.

    Not needed at the end of a process, which delivers by itself. Later calls do nothing but complain, once.

    Args:
        timeout: Seconds to wait at the most; `OTEL_POSTHOG_EXIT_TIMEOUT` by default.

    Returns:
        Whether nothing was lost.
    """
    emitter = process.get()
    if emitter is None:
        return True
    try:
        begun = time.monotonic()
        worker = emitter.edge.worker
        limit = worker.exit_timeout if timeout is None else _seconds(timeout, worker.exit_timeout, emitter)
        done = worker.shutdown(limit)
        return assembly.stop(max(0.0, limit - (time.monotonic() - begun))) and done
    except Exception as error:  # noqa: BLE001 - an edge: the app goes on
        emitter.edge.guard.failed("api.shutdown", error)
        return False


def reload() -> bool:
    """Reads settings and rules again: after a change of variables, or of the rules file. Never raises.

    Where they are wrong, or would shut the gate of a running bridge, everything stays as it was, and one ERROR says
    why.

    Returns:
        Whether the bridge runs with what was read.
    """
    try:
        if assembly.current() is None:
            process.forget()
            return process.get() is not None
        again = assembly.reloading()
        if again is not None:
            return again()
        from otel_posthog.config.load import load_settings

        settings = load_settings()
        if not settings.enabled:
            logger.error(
                "otel-posthog: reload would switch it off (%s); the old settings stay. shutdown() switches it off",
                settings.reason,
            )
            return False
        return assembly.reload(settings) is not None
    except ConfigError as error:
        logger.error("otel-posthog: %s; the old settings and rules stay", error)
    except Exception as error:  # noqa: BLE001 - an edge: an admin endpoint or a signal handler calls it
        process.guard.failed("api.reload", error)
    return False


def _seconds(timeout: Any, usual: float, emitter: Emitter) -> float:
    if isinstance(timeout, (int, float)) and timeout == timeout:
        return min(max(0.0, float(timeout)), _LONGEST)
    emitter.edge.guard.misused(
        "timeout", "otel-posthog: a timeout is a number of seconds, not %s; it is %s", type(timeout).__name__, usual
    )
    return usual
