"""Where calls go whose spans do not say so: gRPC's name the service and no host, Kafka's no broker, or only the first.

Both instrumentations know it at another moment: when the channel or the producer is made. What they know is kept for
the call, and the propagator reads it when it is asked for the headers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, cast

from otel_posthog.instrumentation.last_look import when_imported
from otel_posthog.instrumentation.patches import Patches

_KEPT: Final = "_otel_posthog_targets"
"""On an interceptor or a producer: where its calls go."""
_INTERCEPTORS: Final = "opentelemetry.instrumentation.grpc"
_MAX_DEPTH: Final = 20
"""Interceptors around a channel, at the most."""


class Targets:
    """Where the call at hand goes.

    Args:
        failed: Counts what is swallowed.
    """

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._here: ContextVar[tuple[str, ...]] = ContextVar("otel-posthog-targets", default=())

    def take(self) -> tuple[str, ...]:
        """`host:port` of all places that the call may go to; nothing where nobody knows. It is said once."""
        found = self._here.get()
        if found:
            self._here.set(())
        return found

    def watch(self, patches: Patches) -> None:
        """Has the instrumentations say it, those that are there and those that are imported later.

        Args:
            patches: Keeps what is changed.
        """
        for name, change in (
            ("opentelemetry.instrumentation.grpc.grpcext._interceptor", self._grpc_channel),
            ("opentelemetry.instrumentation.grpc._client", self._grpc_call),
            ("grpc.aio._channel", self._grpc_aio_channel),
            ("opentelemetry.instrumentation.kafka", self._kafka),
            ("opentelemetry.instrumentation.confluent_kafka", self._confluent),
        ):
            when_imported(name, patches, lambda module, change=change: change(module, patches), self._failed)

    # --- gRPC --------------------------------------------------------------------------------------------------------

    def _grpc_channel(self, module: Any, patches: Patches) -> None:
        def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
            result = wrapped(*args, **kwargs)
            self._try(lambda: _keep(instance._interceptor, _target_of(instance._channel)))
            return result

        patches.wrap(module._InterceptorChannel, "__init__", init)

    def _grpc_aio_channel(self, module: Any, patches: Patches) -> None:
        def init(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
            result = wrapped(*args, **kwargs)
            target = kwargs.get("target", args[0] if args else None)
            for one in kwargs.get("interceptors", args[4] if len(args) > 4 else None) or ():
                if type(one).__module__.startswith(_INTERCEPTORS):
                    self._try(lambda one=one: _keep(one, target))
            return result

        patches.wrap(module.Channel, "__init__", init)

    def _grpc_call(self, module: Any, patches: Patches) -> None:
        def start_span(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
            # The headers are asked for next, in the same breath.
            self._here.set(getattr(instance, _KEPT, ()))
            return wrapped(*args, **kwargs)

        patches.wrap(module.OpenTelemetryClientInterceptor, "_start_span", start_span)

    # --- Kafka -------------------------------------------------------------------------------------------------------

    def _kafka(self, module: Any, patches: Patches) -> None:
        def wrap_send(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
            traced = wrapped(*args, **kwargs)

            def send(function: Any, producer: Any, args: Any, kwargs: Any) -> Any:
                return self._sending(producer, traced, (function, producer, args, kwargs), {})

            return send

        patches.wrap(module, "_wrap_send", wrap_send)

    def _confluent(self, module: Any, patches: Patches) -> None:
        def init(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
            result = wrapped(*args, **kwargs)
            config = args[0] if args else kwargs.get("conf", kwargs)
            self._try(lambda: setattr(instance, _KEPT, _brokers_in(config)))
            return result

        def wrap_produce(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
            return self._sending(args[1] if len(args) > 1 else None, wrapped, args, kwargs)

        patches.wrap(module.AutoInstrumentedProducer, "__init__", init)
        patches.wrap(module.ConfluentKafkaInstrumentor, "wrap_produce", wrap_produce)

    def _sending(self, producer: Any, traced: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        token = self._here.set(self._try(lambda: _brokers(producer)) or ())
        try:
            return traced(*args, **kwargs)
        finally:
            self._here.reset(token)

    def _try(self, do: Callable[[], Any]) -> Any:
        """The app's own call goes on, whatever it is made of."""
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - an edge
            self._failed(error)
            return None


def _keep(interceptor: Any, target: object) -> None:
    """One that several channels use has a target only where they all go to the same."""
    from otel_posthog.context.destination import destinations_of

    found = destinations_of((target.decode() if isinstance(target, bytes) else target,))
    if getattr(interceptor, _KEPT, found) != found:
        found = ()
    setattr(interceptor, _KEPT, found)


def _target_of(channel: Any) -> object:
    """What a channel was made with; it may be under the interceptors of others."""
    for _ in range(_MAX_DEPTH):
        target = getattr(channel, "target", None)
        if callable(target):
            return target()
        channel = getattr(channel, "_channel", None)
    return None


def _brokers(producer: Any) -> tuple[str, ...]:
    kept = getattr(producer, _KEPT, None)
    return _brokers_in(getattr(producer, "config", None)) if kept is None else kept


def _brokers_in(config: object) -> tuple[str, ...]:
    from otel_posthog.context.destination import destinations_of

    if not isinstance(config, dict):
        return ()
    said = cast("dict[str, object]", config)
    # kafka-python's key, and the two of librdkafka.
    for key in ("bootstrap_servers", "bootstrap.servers", "metadata.broker.list"):
        brokers = said.get(key)
        if brokers:
            return destinations_of(cast("list[object]", brokers) if isinstance(brokers, (list, tuple)) else [brokers])
    return ()


__all__ = ["Targets"]
