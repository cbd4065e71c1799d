"""Super properties: what stamps every event below a block."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from opentelemetry import baggage, context

KEY: Final = context.create_key("otel-posthog-properties")

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def properties_in(ctx: Mapping[str, Any]) -> Mapping[str, Any]:
    """The super properties that hold in `ctx`, an OpenTelemetry context."""
    return ctx.get(KEY, _NONE)


def with_properties(properties: Mapping[str, Any], ctx: Any = None) -> Any:
    """A context in which `properties` hold beside those that held before, and above them.

    Args:
        properties: Name -> value.
        ctx: What to build on; the current context where `None`.
    """
    ctx = context.get_current() if ctx is None else ctx
    ctx = context.set_value(KEY, MappingProxyType({**properties_in(ctx), **properties}), ctx)
    key = getattr(baggage, "_BAGGAGE_KEY", "")
    if key and key not in ctx:
        # Spans look at a context that has baggage, and at no other: see `sdk/quick.py`. An empty one is never sent.
        ctx = context.set_value(key, _NONE, ctx)
    return ctx


@contextmanager
def attach_properties(properties: Mapping[str, Any]) -> Generator[None]:
    """Holds `properties` for the block.

    Args:
        properties: Name -> value; normal values, not to be changed afterwards.
    """
    token = context.attach(with_properties(properties))
    try:
        yield
    finally:
        context.detach(token)
