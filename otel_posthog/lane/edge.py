"""What the two processors of one bridge share: the worker, the reader, the rules' prefilter, the identity sources."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, cast

from otel_posthog.assembly import Runtime, build_runtime
from otel_posthog.config.settings import Mode, Settings
from otel_posthog.lane.arriving import Arriving
from otel_posthog.lane.deployment import process_facts
from otel_posthog.lane.identity import CLAIMS, STATED, WIRE, IdentityStamper
from otel_posthog.lane.moments import Moments
from otel_posthog.lane.readable import Reader
from otel_posthog.lane.roots import Roots
from otel_posthog.lane.shapes import Shapes
from otel_posthog.lane.worker import Worker
from otel_posthog.observe.guard import Guard
from otel_posthog.rules.engine import RuleSet
from otel_posthog.semconv import posthog

DEFAULT_HOST: Final = "https://us.i.posthog.com"
"""Where PostHog's own SDKs send by default."""

_EDGE: Final = "sdk_edge"

OWN_SCOPE: Final = "otel_posthog"
"""Our own logger: what it says must not flow back."""


class Edge:
    """Everything between the callbacks and one bridge.

    Args:
        runtime: What runs behind it.
        worker: Replaces the worker, for tests.
        reader: Replaces the reader, for tests.
    """

    def __init__(self, runtime: Runtime, *, worker: Worker | None = None, reader: Reader | None = None) -> None:
        settings = runtime.settings
        self.bridge = runtime.bridge
        self._users: list[Callable[[], object]] = []
        runtime.bridge.on_replaced(self.refresh)
        self.guard: Guard = runtime.guard
        self.rules: RuleSet = runtime.rules
        self.exceptions = settings.convert.exceptions
        self.longest = settings.convert.max_value_bytes
        """Bytes of a text in a property."""
        self.carrier = carrier_mark(settings, runtime.rules)
        self.arriving = Arriving(settings.identity)
        self.stamper = IdentityStamper(settings.identity, self.arriving.believed)
        trusted = settings.identity.headers
        self.reader = reader or Reader(process_facts(), unread=frozenset() if trusted else CLAIMS)
        self.stating = STATED | WIRE if trusted else STATED
        """Keys by which a span that is not converted tells who its trace belongs to."""
        self.shapes = Shapes()
        self.moments = Moments()
        self.roots = Roots()
        self.claim_key = f"_otel_posthog_{id(self):x}"
        """Attribute of an object that was handed over."""
        self.worker = worker or Worker(
            runtime.bridge,
            identity=settings.identity,
            guard=runtime.guard,
            exit_timeout=settings.delivery.exit_timeout,
        )

    def claimed(self, item: Any, what: str = "") -> bool:
        """Whether this very object was handed over to the bridge before.

        An exporter beside a processor, or a processor that was added twice, must not count a sale twice.

        Args:
            item: A span, or a log record (the inner one: batch processors copy it with what is on it).
            what: Tells several things to hand over about one object apart.
        """
        return self.claim_key + what in getattr(item, "__dict__", ())

    def claim(self, item: Any, what: str = "") -> None:
        """The object has been handed over."""
        kept = getattr(item, "__dict__", None)
        if kept is not None:
            kept[self.claim_key + what] = True

    def refresh(self) -> None:
        """Takes over the rules that a reload put behind the bridge."""
        converter = self.bridge.converter
        rules = getattr(converter, "rules", None) or getattr(converter, "_rules", None)
        if isinstance(rules, RuleSet):
            self.rules = rules
        for use in tuple(self._users):
            use()

    def follow_rules(self, use: weakref.WeakMethod[Callable[[], None]]) -> None:
        """Calls the method after each reload of the rules, as long as its object lives."""
        self._users.append(lambda: (method := use()) and method())


def edge_of(runtime: Runtime, *, worker: Worker | None = None) -> Edge:
    """The one edge of a bridge, however many processors on however many providers feed it.

    Providers are built by others, at times of their choosing, and what hangs on them must meet in one queue: late
    identity and "exceptions once" need spans and logs together.

    Args:
        runtime: The bridge's.
        worker: Replaces the worker where this is the first time that anybody asks, for tests.
    """
    # On the bridge itself, so that it lives as long; `setdefault` is atomic, and a lost edge has started nothing.
    kept = vars(runtime.bridge)
    edge = kept.get(_EDGE)
    return cast("Edge", edge if edge is not None else kept.setdefault(_EDGE, Edge(runtime, worker=worker)))


def runtime_from_arguments(api_key: str | None, host: str | None, options: dict[str, Any]) -> Runtime | None:
    """The runtime of a processor or exporter that was made in plain code or by a configuration file.

    Args:
        api_key: Project API key (direct) or bearer token (collector); the environment's where `None`.
        host: PostHog host or OTLP endpoint; the environment's where `None`, PostHog US where only a key is given.
        options: Further settings, as for `load_settings`.

    Returns:
        `None` where the gate is shut.

    Raises:
        ConfigError: A setting is wrong.
    """
    import os

    from otel_posthog import assembly
    from otel_posthog.config.load import load_settings
    from otel_posthog.observe.guard import logger

    if api_key is not None and host is None and not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip():
        host = DEFAULT_HOST
    settings = load_settings(endpoint=host, token=api_key, **options)
    if not settings.enabled:
        logger.info("otel-posthog is off: %s", settings.reason)
        return None
    if api_key is None and host is None and not options:
        # Configured by the environment alone: the process's one runtime, shared with the hook and the API.
        return assembly.start(settings, send_guard=suppressed)
    return build_runtime(settings, send_guard=suppressed, late=True)


def suppressed() -> AbstractContextManager[Any]:
    """Entered around our own requests: instrumented HTTP clients make no telemetry of them."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    return suppress_instrumentation()


def carrier_mark(settings: Settings, rules: RuleSet) -> str:
    """`posthog.carrier` of the telemetry of this process; "" in direct mode, where no gateway follows."""
    if settings.lane is None or settings.lane.mode is not Mode.COLLECTOR:
        return ""
    return f"{posthog.CARRIER_BRIDGE}:{rules.digest}" if rules.digest else posthog.CARRIER_BRIDGE


__all__ = ["Edge", "carrier_mark", "edge_of", "runtime_from_arguments", "suppressed"]
