"""FastAPI: what Starlette knows, and what dependencies such as `get_current_user` give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from otel_posthog.instrumentation.asgi import AsgiHooks
from otel_posthog.instrumentation.frameworks import PostHogFastAPIInstrumentor
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.instrumentation.people import People
from otel_posthog.instrumentation.visit import visit_at_hand


class FastAPIHooks(AsgiHooks):
    """What is done in FastAPI."""

    framework: ClassVar[str] = "fastapi"

    def __init__(self, people: People, patches: Patches) -> None:
        super().__init__(people, patches)
        self._dependencies = frozenset(people.sources_of("dependency"))

    def modules(self) -> Mapping[str, Hook]:
        """The class of apps, and the place where routes get what they depend on."""
        return {"fastapi.applications": self._fastapi, "fastapi.routing": self._routing}

    def _fastapi(self, module: Any) -> None:
        self._wrap_app(module.FastAPI)

    def _routing(self, module: Any) -> None:
        if self._dependencies:
            self.patches.wrap(module, "solve_dependencies", self._solve)

    async def _solve(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        solved: Any = await wrapped(*args, **kwargs)
        try:
            # Before FastAPI 0.112 it was the last of a tuple.
            found: Any = getattr(solved, "dependency_cache", None)
            if found is None:
                found = solved[-1]
            for key, value in found.items() if found else ():
                # A key begins with the function itself; the cache outlives no request.
                if value is not None and getattr(key[0], "__name__", "") in self._dependencies:
                    request = kwargs.get("request")
                    session = getattr(request, "scope", {}).get("session")
                    self.people.seen(visit_at_hand(), value, session, silent=True)
        except Exception as error:  # noqa: BLE001 - an edge: the user's request goes on
            self.failed(error)
        return solved


__all__ = ["FastAPIHooks", "PostHogFastAPIInstrumentor"]
