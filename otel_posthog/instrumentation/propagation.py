"""The global propagator, taught to take along what holds at the moment of the call (docs/decisions/0116).

Baggage in OpenTelemetry is part of a context, and contexts are immutable: what is learnt in the middle of a request
(who logged in, which flag said what) would have to be attached in every place from which a call may be made. So it is
put in where all of them pass: `inject` of the global propagator, whichever that is. Nothing global is replaced: the
instance keeps its type and its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry import baggage, propagate
from opentelemetry.context import get_current

from otel_posthog.observe.guard import Guard, logger

if TYPE_CHECKING:
    from otel_posthog.lane.departing import Departing

_SETTER = "set_global_textmap"


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
        self._wrapped: list[tuple[Any, Any]] = []
        self._setter: tuple[Any, Any] | None = None

    def attach(self) -> None:
        """From now on calls take along what holds."""
        self._on = True
        self._follow()
        self._wrap(propagate.get_global_textmap())

    def detach(self) -> None:
        """As if it had never been; where somebody has wrapped ours, ours stays and passes everything through."""
        self._on = False
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
            if self._departing is None:
                self._departing = self._make()
            here = self._departing.context(here)
        except Exception as error:  # noqa: BLE001 - an edge: the app's call goes out
            # Without any baggage: where nobody could look, nothing may leave.
            here = baggage.clear(here)
            self._guard.failed("propagation.inject", error)
        return wrapped(carrier, here, *rest, **kwargs)


__all__ = ["Propagation"]
