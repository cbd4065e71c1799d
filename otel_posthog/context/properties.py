"""Super properties: what stamps every event below a block."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from opentelemetry import baggage, context, trace

from otel_posthog.context.ambient import WORK

KEY: Final = context.create_key("otel-posthog-properties")
_SINCE: Final = context.create_key("otel-posthog-properties-since-the-end")
"""Those of them that were attached after the request was over whose context it is."""

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
    if _is_over(ctx):
        ctx = context.set_value(_SINCE, {**ctx.get(_SINCE, _NONE), **properties}, ctx)
    ctx = context.set_value(KEY, MappingProxyType({**properties_in(ctx), **properties}), ctx)
    key = getattr(baggage, "_BAGGAGE_KEY", "")
    if key and key not in ctx:
        # Spans look at a context that has baggage, and at no other: see `sdk/quick.py`. An empty one is never sent.
        ctx = context.set_value(key, _NONE, ctx)
    return ctx


def properties_since_the_end(ctx: Mapping[str, Any]) -> Mapping[str, Any]:
    """The super properties that do not come from the request whose context it is, and which is over."""
    return ctx.get(_SINCE, _NONE)


def since_the_end(ctx: Any) -> Any:
    """The context without the super properties of the request that is over."""
    return context.set_value(KEY, MappingProxyType({**properties_since_the_end(ctx)}), ctx)


def _is_over(ctx: Any) -> bool:
    work = ctx.get(WORK)
    if work is not None and work.has_ended:
        return True
    return getattr(trace.get_current_span(ctx), "_end_time", None) is not None


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
