"""Starlette: `request.user` of its `AuthenticationMiddleware`, `request.state.user`, sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from otel_posthog.instrumentation.asgi import AsgiHooks
from otel_posthog.instrumentation.frameworks import PostHogStarletteInstrumentor
from otel_posthog.instrumentation.instrumentor import Hook


class StarletteHooks(AsgiHooks):
    """What is done in Starlette."""

    framework: ClassVar[str] = "starlette"

    def modules(self) -> Mapping[str, Hook]:
        """The class of apps."""
        return {"starlette.applications": self._starlette, **super().modules()}

    def _starlette(self, module: Any) -> None:
        self._wrap_app(module.Starlette)


__all__ = ["PostHogStarletteInstrumentor", "StarletteHooks"]
