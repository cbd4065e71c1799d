"""The global propagator, taught to take along what holds at the moment of the call (docs/decisions/0116).

Baggage in OpenTelemetry is part of a context, and contexts are immutable: what is learnt in the middle of a request
(who logged in, which flag said what) would have to be attached in every place from which a call may be made. So it is
put in where all of them pass: `inject` of the global propagator, whichever that is. Nothing global is replaced: the
instance keeps its type and its place.

What a client does afterwards, it does alone: `last_look.py` sees to the hops that follow a redirect.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, cast

import wrapt
from opentelemetry import baggage, propagate
from opentelemetry.context import get_current

from otel_posthog.instrumentation import last_look
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.instrumentation.targets import Targets
from otel_posthog.observe.guard import Guard, logger
from otel_posthog.semconv import otel, posthog

if TYPE_CHECKING:
    from otel_posthog.lane.departing import Departing

_SETTER = "set_global_textmap"
_POSTHOG = posthog.PREFIX.encode()


class Propagation:
    """Wraps the global propagator, and the next one where another is set. Idempotent.

    Args:
        departing: Makes what decides on the context that is injected; called with the first outgoing call.
        guard: Counts what is swallowed.
    """

    def __init__(self, departing: Callable[[], Departing], guard: Guard) -> None:
        self._make = departing
        self._departing: Departing | None = None
        self._guard = guard
        self._on = False
        self._targets = Targets(self._failed)
        self._patches: Patches | None = None
        self._wrapped: list[tuple[Any, Any]] = []
        self._setter: tuple[Any, Any] | None = None

    def attach(self) -> None:
        """From now on calls take along what holds."""
        self._on = True
        self._follow()
        self._wrap(propagate.get_global_textmap())
        if self._patches is None:
            self._patches = Patches()
            last_look.watch(self._patches, self._leaving, self._failed)
            self._targets.watch(self._patches)

    def detach(self) -> None:
        """As if it had never been; where somebody has wrapped ours, ours stays and passes everything through."""
        self._on = False
        if self._patches is not None:
            self._patches.undo()
            self._patches = None
        if self._setter is not None:
            original, ours = self._setter
            if getattr(propagate, _SETTER) is ours:
                setattr(propagate, _SETTER, original)
            self._setter = None
        for propagator, ours in self._wrapped:
            if propagator.__dict__.get("inject") is ours:
                del propagator.inject
        self._wrapped.clear()

    def _follow(self) -> None:
        if self._setter is not None:
            return
        original = getattr(propagate, _SETTER)

        def after(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
            result = wrapped(*args, **kwargs)
            if self._on:
                self._wrap(propagate.get_global_textmap())
            return result

        ours = wrapt.FunctionWrapper(original, after)
        setattr(propagate, _SETTER, ours)
        self._setter = (original, ours)

    def _wrap(self, propagator: Any) -> None:
        if any(known is propagator for known, _ in self._wrapped):
            return
        ours = wrapt.FunctionWrapper(propagator.inject, self._inject)
        try:
            propagator.inject = ours
        except AttributeError:
            logger.warning(
                "otel-posthog: the propagator %s cannot be extended, so person and groups do not travel to other "
                "services",
                type(propagator).__name__,
            )
            return
        self._wrapped.append((propagator, ours))

    def _inject(self, wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs) if not self._on else self._send(wrapped, *args, **kwargs)

    def _send(self, wrapped: Callable[..., Any], carrier: Any, context: Any = None, *rest: Any, **kwargs: Any) -> Any:
        here = get_current() if context is None else context
        try:
            here = self._decider.context(here, self._targets.take())
            self._renew(carrier)
        except Exception as error:  # noqa: BLE001 - an edge: the app's call goes out
            # Without any baggage: where nobody could look, nothing may leave.
            here = baggage.clear(here)
            self._failed(error)
        return wrapped(carrier, here, *rest, **kwargs)

    @property
    def _decider(self) -> Departing:
        if self._departing is None:
            self._departing = self._make()
        return self._departing

    def _renew(self, carrier: Any) -> None:
        """Takes out what an earlier call has left in headers that are used again: it may have been another person's.

        A propagator that has nothing to say leaves a header as it is, and Kafka's take the first of several.
        """
        if isinstance(carrier, MutableMapping):
            headers = cast("MutableMapping[str, Any]", carrier)
            said: object = headers.get(otel.BAGGAGE)
            if isinstance(said, str) and posthog.PREFIX in said:
                kept = self._decider.without_ours(said)
                if kept:
                    headers[otel.BAGGAGE] = kept
                else:
                    del headers[otel.BAGGAGE]
            elif isinstance(said, bytes) and _POSTHOG in said:
                del headers[otel.BAGGAGE]  # a message's, which has no members but those of the context
        elif isinstance(carrier, list):
            pairs = cast("list[Any]", carrier)
            pairs[:] = [pair for pair in pairs if not _is_ours(pair)]

    def _leaving(self, header: str, value: str, destination: str) -> str:
        try:
            return self._decider.leaving(header, value, destination)
        except Exception as error:  # noqa: BLE001 - an edge: the app's call goes out, without what nobody could look at
            self._failed(error)
            return ""

    def _failed(self, error: Exception) -> None:
        self._guard.failed("propagation.inject", error)


def _is_ours(pair: Any) -> bool:
    """Whether a header of a message, (name, value), has members of ours."""
    if not isinstance(pair, tuple) or len(cast("tuple[Any, ...]", pair)) != 2:
        return False
    name, value = cast("tuple[Any, Any]", pair)
    return name == otel.BAGGAGE and isinstance(value, bytes) and _POSTHOG in value


__all__ = ["Propagation"]
