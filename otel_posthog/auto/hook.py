"""What `install()` sets up once the gate is open: the runtime, the processors, the late binding, the exit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from otel_posthog import assembly
from otel_posthog.auto import attach, own_sdk
from otel_posthog.auto.late import LOGS, TRACES, LateBinding
from otel_posthog.auto.leaving import Leaving
from otel_posthog.config import environment as names
from otel_posthog.config.settings import Settings
from otel_posthog.instrumentation.propagation import Propagation
from otel_posthog.observe.guard import Guard, logger
from otel_posthog.semconv.posthog import CARRIER

if TYPE_CHECKING:
    from otel_posthog.lane.departing import Departing


class Hook:
    """The bridge's place in one process; made by `start`.

    Args:
        settings: Enabled settings.
        runtime: What runs behind the processors.
        guard: Counts what is swallowed.
    """

    def __init__(self, settings: Settings, runtime: assembly.Runtime, guard: Guard) -> None:
        self._settings = settings
        self._runtime = runtime
        self._guard = guard
        self._processors: list[Any] = []
        self._leaving = Leaving(self._flush, self._stop, lambda: settings.delivery.exit_timeout)
        self._late_traces = LateBinding(TRACES, self._guarded(self._bind_global_traces))
        self._late_logs = LateBinding(LOGS, self._guarded(self._bind_global_logs))
        self._warned = False
        self._propagation: Propagation | None = None

    @classmethod
    def start(cls, settings: Settings, guard: Guard) -> Hook:
        """Builds the runtime, or joins the one that the API started.

        Raises:
            ConfigError: The rules cannot be loaded.
        """
        from opentelemetry import trace

        from otel_posthog.lane.edge import suppressed

        known = getattr(getattr(trace.get_tracer_provider(), "resource", None), "attributes", None)
        resource = dict(known) if known else None
        return cls(settings, assembly.start(settings, send_guard=suppressed, resource=resource), guard)

    def attach(self, tracer_provider: Any = None, logger_provider: Any = None) -> None:
        """Attaches to the given providers, else to the global ones, else as soon as there are any."""
        from opentelemetry import _logs, trace

        self._capture_headers(os.environ)
        self._propagate()
        if tracer_provider is None:
            tracer_provider = trace.get_tracer_provider()
            early = not attach.can_take(tracer_provider, "add_span_processor")
            if early and own_sdk.wanted():
                own_sdk.configure()
                tracer_provider = trace.get_tracer_provider()
            self._standard_exporters(os.environ, live=not early)
        if logger_provider is None:
            logger_provider = _logs.get_logger_provider()
        if not self._bind_traces(tracer_provider):
            self._late_traces.wait()
        if not self._bind_logs(logger_provider):
            self._late_logs.wait()
        if self._late_traces.waiting and self._late_logs.waiting:
            logger.info(
                "otel-posthog: there is no OpenTelemetry provider yet, it joins when your code sets one; install "
                "opentelemetry-distro, or start with `otel-posthog run`, to have one made"
            )
        # Last: what was registered last runs first at exit, before the exporters of others spend their time.
        self._leaving.watch(sigterm=self._settings.delivery.flush_on_sigterm)

    # --- providers ---------------------------------------------------------------------------------------------------

    def _guarded(self, bind: Callable[[], bool]) -> Callable[[], bool]:
        def guarded() -> bool:
            try:
                return bind()
            except Exception as error:  # noqa: BLE001 - the edge: we are inside the app's own set_tracer_provider
                self._guard.failed("auto.bind", error)
                return False

        return guarded

    def _bind_global_traces(self) -> bool:
        from opentelemetry import trace

        return self._bind_traces(trace.get_tracer_provider())

    def _bind_global_logs(self) -> bool:
        from opentelemetry import _logs

        return self._bind_logs(_logs.get_logger_provider())

    def _bind_traces(self, provider: Any) -> bool:
        if not attach.can_take(provider, "add_span_processor"):
            return False
        if not attach.is_marked(provider):
            self._add_span_processor(provider)
            attach.mark(provider)
            attach.follow_swaps(provider, lambda: self._add_span_processor(provider))
        return True

    def _bind_logs(self, provider: Any) -> bool:
        if not attach.can_take(provider, "add_log_record_processor"):
            return False
        if not attach.is_marked(provider):
            self._add_log_processor(provider)
            attach.mark(provider)
            attach.follow_swaps(provider, lambda: self._add_log_processor(provider))
        return True

    def _add_span_processor(self, provider: Any) -> None:
        from otel_posthog.sdk.processor import PostHogSpanProcessor
        from otel_posthog.sdk.sampler import wrap_tracers

        if self._exported_by("OTEL_TRACES_EXPORTER", provider):
            return
        processor = PostHogSpanProcessor(runtime=self._runtime, closed=self._leaving.closed)
        provider.add_span_processor(processor)
        wrap_tracers(
            provider,
            self._settings.record_unsampled,
            carrier=self._span_mark(provider),
            travels=self._settings.identity.baggage,
        )
        self._added(provider, processor)

    def _span_mark(self, provider: Any) -> str:
        """The carrier mark for each span, where the resource does not say it for all of them."""
        from otel_posthog.lane.edge import carrier_mark

        said = getattr(getattr(provider, "resource", None), "attributes", {})
        return "" if CARRIER in said else carrier_mark(self._settings, self._runtime.rules)

    def _add_log_processor(self, provider: Any) -> None:
        from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor

        if self._exported_by("OTEL_LOGS_EXPORTER", provider):
            return
        processor = PostHogLogRecordProcessor(runtime=self._runtime, closed=self._leaving.closed)
        provider.add_log_record_processor(processor)
        self._added(provider, processor)

    def _added(self, provider: Any, processor: Any) -> None:
        self._processors.append(processor)
        if attach.closes_itself(provider):
            self._leaving.expect(processor)

    def _exported_by(self, variable: str, provider: Any) -> bool:
        chosen = {name.strip() for name in os.environ.get(variable, "").split(",")}
        if "posthog" not in chosen and not attach.exports_to_us(provider):
            return False
        logger.info(
            "otel-posthog: a `posthog` exporter or processor is configured, so nothing is attached beside it "
            "(%s); an exporter sees neither baggage nor unsampled spans",
            variable if "posthog" in chosen else type(provider).__name__,
        )
        # It may bring what it has batched after everybody else has left: nobody else stops the runtime then.
        self._leaving.expect(provider)
        return True

    # --- other services ----------------------------------------------------------------------------------------------

    def _propagate(self) -> None:
        """Has outgoing calls take along what holds for the request, and none of it where the host is not ours."""
        if not self._settings.identity.baggage or self._propagation is not None:
            return

        def departing() -> Departing:
            from otel_posthog.lane.departing import Departing  # with the first call to somewhere
            from otel_posthog.lane.edge import edge_of

            return Departing(edge_of(self._runtime), self._settings.identity)

        self._propagation = Propagation(departing, self._guard)
        self._propagation.attach()

    # --- the environment ---------------------------------------------------------------------------------------------

    def _capture_headers(self, environ: MutableMapping[str, str]) -> None:
        """Has the instrumentations, which load after us, keep PostHog's two request headers on server spans."""
        if not self._settings.identity.headers:
            return
        wanted = ("x-posthog-distinct-id", "x-posthog-session-id")
        have = [name.strip() for name in environ.get(names.CAPTURE_REQUEST_HEADERS, "").split(",") if name.strip()]
        missing = [name for name in wanted if name not in {known.lower() for known in have}]
        if missing:
            environ[names.CAPTURE_REQUEST_HEADERS] = ",".join([*have, *missing])

    def _standard_exporters(self, environ: MutableMapping[str, str], *, live: bool) -> None:
        """Gives exporters that are still to be built the token; of those that live, says what they lack.

        The environment entry point has done it before under `opentelemetry-instrument` and `otel-posthog run`; where
        neither ran (an operator's `sitecustomize`, `initialize()` called from code) the exporters are built by now.
        """
        from otel_posthog.config.otlp_environment import standard_otlp_environment

        if environ.get(names.CONFIG_FILE, "").strip():
            return
        changes = standard_otlp_environment(environ)
        if not live:
            environ.update(changes)
            return
        lacking = [name for name in changes if name.endswith("_HEADERS")]
        if lacking and not self._warned:
            self._warned = True
            lines = [f"{name}=authorization=Bearer%20<the value of {names.TOKEN}>" for name in lacking]
            if environ.get(names.PROTOCOL, "").strip() != "http/protobuf":
                lines.append(f"{names.PROTOCOL}=http/protobuf")
            logger.warning(
                "otel-posthog: product events are fine, but the standard OpenTelemetry exporters were built without "
                "the token. Set these in the environment of the process:\n  %s",
                "\n  ".join(lines),
            )

    # --- the end -----------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> bool:
        # One of them speaks for all: they share a worker, which also knows when it has just waited in vain.
        for processor in self._processors:
            return processor.force_flush(int(timeout * 1000))
        return self._runtime.bridge.flush(timeout)

    def _stop(self, timeout: float) -> bool:
        if self._propagation is not None:
            self._propagation.detach()
        deadline = time.monotonic() + timeout
        self._flush(timeout)
        return assembly.stop(max(0.0, deadline - time.monotonic()))
