"""Providers of OpenTelemetry for one test: listening to those of the app, or to one of ours where there is none.

Everything is taken back at the end: processors, samplers, global providers, the handler of `logging`.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import ExitStack
from copy import copy
from types import ModuleType
from typing import Any, Final, cast

from otel_posthog.assembly import Runtime
from otel_posthog.sdk.log_processor import PostHogLogRecordProcessor
from otel_posthog.sdk.processor import PostHogSpanProcessor
from otel_posthog.sdk.sampler import RecordOnlySampler, wrap_tracers
from otel_posthog.testing.clock import Clock
from otel_posthog.testing.steady import replace

_MULTI: Final = ("_active_span_processor", "_multi_log_record_processor")
_LISTS: Final = ("_span_processors", "_log_record_processors")


class Attachment:
    """Processors over one runtime, on the providers of the process.

    Args:
        runtime: What they feed.
        undo: Takes everything back.
    """

    def __init__(self, runtime: Runtime, undo: ExitStack) -> None:
        self._undo = undo
        self._record = runtime.settings.record_unsampled
        # A provider that the app shuts down in its test takes nothing with it: the test reads the events after that.
        self._spans = PostHogSpanProcessor(runtime=runtime, closed=lambda _processor: None)
        self._logs = PostHogLogRecordProcessor(runtime=runtime, closed=lambda _processor: None)
        self._on: list[Any] = []

    def attach_global(self) -> None:
        """Listens to the global providers, those that are set later on included."""
        from opentelemetry import trace
        from opentelemetry._logs import _internal as logs

        self._global(trace, "_TRACER_PROVIDER", "_set_tracer_provider", own.tracer_provider)
        self._global(logs, "_LOGGER_PROVIDER", "_set_logger_provider", own.logger_provider)

    def attach(self, provider: Any) -> None:
        """Listens to one provider; once.

        Raises:
            TypeError: It takes no processors.
        """
        if not self._attach(provider):
            raise TypeError(f"a {type(provider).__name__} takes no processors: pass a provider of OpenTelemetry's SDK")

    def _global(self, module: ModuleType, name: str, setter: str, make: Any) -> None:
        found = getattr(module, name, None)
        if found is None or not self._attach(found):
            # Not by the API's own setter, which takes one provider for good: the app may set its own in the test.
            ours = make()
            replace(self._undo, module, name, ours)
            self._attach(ours)
        original = getattr(module, setter, None)
        if original is None:
            return

        def watching(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._attach(getattr(module, name, None))
            return result

        replace(self._undo, module, setter, watching)

    def _attach(self, provider: Any) -> bool:
        if any(known is provider for known in self._on):
            return True
        if callable(getattr(provider, "add_span_processor", None)):
            self._wrap_sampler(provider)
            provider.add_span_processor(self._spans)
            self._undo.callback(_remove, provider, self._spans)
        elif callable(getattr(provider, "add_log_record_processor", None)):
            provider.add_log_record_processor(self._logs)
            self._undo.callback(_remove, provider, self._logs)
        else:
            return False
        self._on.append(provider)
        return True

    def _wrap_sampler(self, provider: Any) -> None:
        """Unsampled spans are seen, as in production (docs/attach.md)."""
        from otel_posthog.sdk import sampler

        inner = sampler._inner_provider(provider)
        if getattr(inner, sampler._WRAPPED, False) or not hasattr(inner, "sampler"):
            return
        kept = cast(dict[str, Any], vars(inner))
        before = kept.get("get_tracer")
        wrap_tracers(inner, self._record)

        def back() -> None:
            if before is None:
                kept.pop("get_tracer", None)
            else:
                inner.get_tracer = before
            kept.pop(sampler._WRAPPED, None)
            for tracer in sampler._tracers_of(inner):
                if isinstance(tracer.sampler, RecordOnlySampler):
                    tracer.sampler = tracer.sampler.root

        self._undo.callback(back)


class OwnProviders:
    """Providers for tests of apps that set none. One for the whole process: `trace.get_tracer()` at the top of a
    module, asked before there was a provider, keeps the tracer of the first that it finds.
    """  # noqa: D205 - one sentence more than a line

    def __init__(self) -> None:
        self._tracers: Any = None
        self._loggers: Any = None

    def tracer_provider(self) -> Any:
        """Samples everything, and exports nothing."""
        if self._tracers is None:
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON

            self._tracers = _enabled(TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False))
        return self._tracers

    def logger_provider(self) -> Any:
        """Exports nothing."""
        if self._loggers is None:
            from opentelemetry.sdk._logs import LoggerProvider

            self._loggers = _enabled(LoggerProvider(shutdown_on_exit=False))
        return self._loggers


# See there: tracers that modules keep must go on to work in the next test.
own = OwnProviders()


def _enabled(provider: Any) -> Any:
    # `OTEL_SDK_DISABLED=true` keeps the exporters of the app quiet in tests; ours has none.
    if getattr(provider, "_disabled", False):
        provider._disabled = False
    return provider


def _remove(provider: Any, processor: Any) -> None:
    for name in _MULTI:
        multi: Any = getattr(provider, name, None)
        for listed in _LISTS:
            found: Any = getattr(multi, listed, None)
            if found and processor in found:
                with multi._lock:
                    setattr(multi, listed, type(found)(one for one in getattr(multi, listed) if one is not processor))
                return
    # A provider of another make keeps it: it must do nothing any more.
    for callback in ("on_start", "on_end", "on_emit"):
        setattr(processor, callback, _nothing)


def _nothing(*_args: Any, **_kwargs: Any) -> None:
    """The test is over."""


class Lines(logging.Handler):
    """Makes log records of OpenTelemetry of `logging`'s, where no handler of the app does so.

    Args:
        inner: OpenTelemetry's own handler.
        clock: When lines are written; `None` for what they say themselves.
    """

    def __init__(self, inner: logging.Handler, clock: Clock | None) -> None:
        super().__init__(logging.NOTSET)
        self._inner = inner
        self._clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Passes `record` on."""
        if _handled_elsewhere(record.name):
            return
        if self._clock is not None:
            record = copy(record)
            record.created = self._clock.time_ns() / 1_000_000_000
        self._inner.emit(record)


def attach_lines(undo: ExitStack, clock: Clock | None = None) -> None:
    """Has lines of `logging` become log records, as under `opentelemetry-instrument`.

    Args:
        undo: When it ends.
        clock: See `Lines`.
    """
    inner = _otel_handler()
    if inner is None:
        return
    handler = Lines(inner, clock)
    root = logging.getLogger()
    root.addHandler(handler)
    undo.callback(root.removeHandler, handler)


def _otel_handler() -> logging.Handler | None:
    # Contrib's where it is installed. The SDK's is deprecated where contrib's exists, which is nobody's fault here.
    try:
        from opentelemetry.instrumentation.logging.handler import LoggingHandler

        return LoggingHandler()
    except ImportError:
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from opentelemetry.sdk._logs import LoggingHandler as OfTheSdk

            return OfTheSdk()
        except ImportError:
            return None


def _handled_elsewhere(name: str) -> bool:
    """Whether another handler of OpenTelemetry gets the lines of this logger."""
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        for handler in logger.handlers:
            kind: Any = type(handler)
            if (
                not isinstance(handler, Lines)
                and kind.__name__ == "LoggingHandler"
                and "opentelemetry" in kind.__module__
            ):
                return True
        logger = logger.parent if logger.propagate else None
    return False


__all__ = ["Attachment", "attach_lines"]
