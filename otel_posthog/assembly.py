"""Composition root: plain calls, no magic. Builds a Bridge from Settings, and keeps the process's one runtime."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from otel_posthog.bridge import Bridge, Tap
from otel_posthog.config.settings import Settings
from otel_posthog.convert import Converter
from otel_posthog.delivery.build import build_delivery
from otel_posthog.delivery.protocols import Clock, SendGuard, Transport
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import load_rules


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs: the settings it was built from, the rules, the bridge."""

    settings: Settings
    rules: RuleSet
    bridge: Bridge
    guard: Guard


def build_runtime(
    settings: Settings,
    *,
    transport: Transport | None = None,
    clock: Clock | None = None,
    send_guard: Callable[[], SendGuard] = nullcontext,
    tap: Tap | None = None,
) -> Runtime:
    """Builds everything behind `settings`; starts no thread and opens nothing.

    Args:
        settings: Enabled settings.
        transport: Replaces the HTTP client, for tests.
        clock: Replaces the system clock, for tests.
        send_guard: Entered around every request (suppression of self-instrumentation, in process).
        tap: Sees every outcome.

    Raises:
        ConfigError: The rules cannot be loaded.
    """
    guard = Guard()
    rules = load_rules(settings.rules)
    delivery = build_delivery(settings, transport=transport, clock=clock, send_guard=send_guard, guard=guard.failed)
    bridge = Bridge(Converter(settings.convert, rules), Policy(), delivery, guard=guard, tap=tap)
    return Runtime(settings=settings, rules=rules, bridge=bridge, guard=guard)


__all__ = ["Runtime", "build_runtime"]
