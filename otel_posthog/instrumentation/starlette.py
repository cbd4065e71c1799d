"""Starlette: `request.user` of its `AuthenticationMiddleware`, `request.state.user`, sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from otel_posthog.instrumentation.asgi import AsgiInstrumentor
from otel_posthog.instrumentation.instrumentor import Hook


class PostHogStarletteInstrumentor(AsgiInstrumentor):
    """Finds the users of Starlette apps."""

    framework: ClassVar[str] = "starlette"
    oldest: ClassVar[tuple[int, int]] = (0, 35)

    def hooks(self) -> Mapping[str, Hook]:
        """The class of apps."""
        return {"starlette.applications": self._starlette}

    def _starlette(self, module: Any) -> None:
        self._wrap_app(module.Starlette)
