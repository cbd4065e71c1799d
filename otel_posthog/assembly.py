"""Composition root: plain calls, no magic. Builds a Bridge from Settings, and keeps the process's one runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import Settings
from otel_posthog.model.frozen import frozen
from otel_posthog.observe.guard import Guard
from otel_posthog.observe.log import quiet_logger
from otel_posthog.rules.engine import RuleSet
from otel_posthog.rules.load import load_rules

if TYPE_CHECKING:
    # Loaded with the first item, see `Bridge.late`.
    from otel_posthog.bridge import Tap
    from otel_posthog.convert import Converter
    from otel_posthog.delivery.protocols import Clock, Delivery, SendGuard, Transport
    from otel_posthog.policy import Policy


@frozen
class Runtime:
    """What runs: the settings it was built from, the rules, the bridge, and what is entered around every request.

    With `keeps_all` whatever it is handed stays in the process (a test's list), so it takes events of any project.
    """

    settings: Settings
    rules: RuleSet
    bridge: Bridge
    guard: Guard
    send_guard: Callable[[], SendGuard] = nullcontext
    resource: Mapping[str, object] | None = None
    keeps_all: bool = False


def build_runtime(
    settings: Settings,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: Callable[[], SendGuard] = nullcontext,
    tap: Tap | None = None,
    resource: Mapping[str, object] | None = None,
    late: bool = False,
) -> Runtime:
    """Builds everything behind `settings`; starts no thread and opens nothing.

    Args:
        settings: Enabled settings.
        transport: Replaces the HTTP client, for tests.
        clock: Replaces the system clock, for tests.
        send_guard: Entered around every request (suppression of self-instrumentation, in process).
        tap: Sees every outcome.
        resource: Who we are towards a Collector; what the environment says where `None`.
        late: Leave everything behind the bridge, save the rules, to the first item: for hosts whose start-up is not
            ours to spend.

    Raises:
        ConfigError: The rules cannot be loaded.
    """
    # Before anything of ours can complain: a warning must not become telemetry (docs/decisions/0060).
    quiet_logger()
    guard = Guard()
    rules = load_rules(settings.rules)
    resource = resource_of_environment(os.environ) if resource is None else resource

    def parts() -> tuple[Converter, Policy, Delivery]:
        from otel_posthog.convert import Converter
        from otel_posthog.delivery.build import build_delivery
        from otel_posthog.policy import Policy

        delivery = build_delivery(
            settings, transport=transport, clock=clock, send_guard=send_guard, guard=guard.failed, resource=resource
        )
        return Converter(settings.convert, rules), Policy(), delivery

    bridge = Bridge.late(parts, guard=guard, tap=tap)
    if not late:
        bridge.load()
    return Runtime(settings=settings, rules=rules, bridge=bridge, guard=guard, send_guard=send_guard, resource=resource)


def resource_of_environment(environ: Mapping[str, str]) -> dict[str, object]:
    """What the standard variables say about the service, for when there is no provider to ask yet.

    Args:
        environ: The environment.

    Returns:
        Resource attributes; `OTEL_SERVICE_NAME` wins over `OTEL_RESOURCE_ATTRIBUTES`, as the specification has it.
    """
    found: dict[str, object] = {}
    for item in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, equals, value = item.partition("=")
        if equals and key.strip():
            found[unquote(key.strip())] = unquote(value.strip())
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        found["service.name"] = name
    return found


class ProcessRuntime:
    """At most one runtime for a process: started once, shared by everybody who asks, closed at the end.

    A fork keeps it: every part behind it looks after its own threads and connections, this one after its lock.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runtime: Runtime | None = None
        self._reload: Callable[[], bool] | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        # Another thread of the parent may have held it; that thread does not exist here.
        self._lock = threading.RLock()

    def current(self) -> Runtime | None:
        """The runtime, `None` before `start` and after `stop`."""
        return self._runtime

    def start(
        self,
        settings: Settings,
        *,
        transport: Transport | None = None,
        send_guard: Callable[[], SendGuard] = nullcontext,
        tap: Tap | None = None,
        resource: Mapping[str, object] | None = None,
    ) -> Runtime:
        """Builds the runtime, or gives the one that is there, whatever `settings` it was built from.

        What dead processes left in the spool begins to leave at once; without any, no thread is started.

        Raises:
            ConfigError: The rules cannot be loaded; there is no runtime then.
        """
        with self._lock:
            if self._runtime is None:
                self._runtime = build_runtime(
                    settings, transport=transport, send_guard=send_guard, tap=tap, resource=resource, late=True
                )
                if _has_spooled(settings.delivery.spool_dir):
                    self._runtime.bridge.resume()
            return self._runtime

    def reload(self, settings: Settings) -> Runtime | None:
        """Puts new settings and rules behind the running bridge.

        Everybody keeps the bridge that they hold. The queue and its connection stay where neither the lane nor the
        delivery settings changed; otherwise a new delivery takes over and the old one is drained beside it. Which
        unsampled spans are recorded and which baggage is believed is read when processors are attached: changing that
        takes a restart.

        Args:
            settings: The new settings, enabled.

        Returns:
            The runtime as it is now, `None` where there is none to reload.

        Raises:
            ConfigError: The new rules cannot be loaded; everything stays as it was.
        """
        with self._lock:
            old = self._runtime
            if old is None:
                return None
            from otel_posthog.convert import Converter
            from otel_posthog.delivery.build import build_delivery

            rules = load_rules(settings.rules)
            bridge = old.bridge
            delivery: Delivery | None = None
            if _delivers_elsewhere(old.settings, settings):
                delivery = build_delivery(
                    settings, send_guard=old.send_guard, guard=old.guard.failed, resource=old.resource
                )
            # First: who follows the bridge's replacements asks what the settings are now.
            self._runtime = replace(old, settings=settings, rules=rules)
            replaced = bridge.replace(Converter(settings.convert, rules), delivery)
            if delivery is not None:
                delivery.resume()
        if replaced is not None:
            threading.Thread(
                target=replaced.shutdown,
                args=(old.settings.delivery.exit_timeout,),
                name="otel-posthog-reload",
                daemon=True,
            ).start()
        return self._runtime

    def reload_by(self, again: Callable[[], bool]) -> None:
        """Whoever started the runtime with arguments of its own reads the settings again with the same ones."""
        self._reload = again

    def reloading(self) -> Callable[[], bool] | None:
        """What reads the settings again; `None` where the environment says it all."""
        return self._reload

    def stop(self, timeout: float) -> bool:
        """Closes and forgets the runtime within `timeout` seconds; True if nothing was lost. Idempotent."""
        with self._lock:
            runtime, self._runtime = self._runtime, None
        return runtime is None or runtime.bridge.shutdown(timeout)


def _has_spooled(spool_dir: str) -> bool:
    """Whether some process, dead or alive, has a folder in the spool: a look that loads nothing."""
    if not spool_dir:
        return False
    top = os.path.expanduser(spool_dir)  # noqa: PTH111 - pathlib costs an import in every process
    try:
        with os.scandir(top) as lanes:
            return any(lane.is_dir() and os.listdir(lane.path) for lane in lanes)  # noqa: PTH208 - as above
    except OSError:
        return False


def _delivers_elsewhere(old: Settings, new: Settings) -> bool:
    return (old.lane, old.also, old.sinks, old.delivery) != (new.lane, new.also, new.sinks, new.delivery)


# The one object that a process shares: hooks, the API and exporters are built by others, at times of their choosing,
# and must meet in one queue.
_process = ProcessRuntime()

current = _process.current
start = _process.start
reload = _process.reload
reload_by = _process.reload_by
reloading = _process.reloading
stop = _process.stop

__all__ = ["ProcessRuntime", "Runtime", "build_runtime", "current", "reload", "reload_by", "reloading", "start", "stop"]
