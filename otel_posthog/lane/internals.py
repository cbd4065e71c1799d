"""The SDK's private attributes that we read, in one place, each with a public fallback.

A missing key asked of the SDK's attribute map costs nine times a look into the dict behind it, and every span of the
app pays it. So the dict is read where it is there (SDK 1.39 to 1.45 at the least), and the public API where it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from opentelemetry import baggage, context, trace

from otel_posthog.context.work import OUTLIVES
from otel_posthog.model import Attributes

Context = Mapping[str, Any]

_NOTHING: Mapping[str, Any] = {}
_OUTLIVES_NS = int(OUTLIVES * 1e9)

MARKS: Final = "_otel_posthog_marks"
"""Kept beside a span that calls have marked with person or groups: the keys. What a call was for is known from its
context and by witnesses, and must not depend on how far our thread has read when somebody sets a mark later."""


def current_context_reader() -> Callable[[], Context]:
    """A function that gives the current OTel context, as cheap as there is."""
    runtime = getattr(context, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    getter = getattr(variable, "get", None)
    try:
        # Another runtime context (OTEL_PYTHON_CONTEXT) may use the name for something else: it must give the same.
        if callable(getter) and getter() is context.get_current():
            return cast("Callable[[], Context]", getter)
    except Exception:  # noqa: BLE001 - a probe of foreign internals; the public way follows
        pass
    return context.get_current


def span_key() -> str:
    """Key of the current span in a context; "" where this API does not say."""
    return _private_key("opentelemetry.trace.propagation", "_SPAN_KEY")


def baggage_key() -> str:
    """Key of the baggage in a context; "" where this API does not say."""
    return _private_key("opentelemetry.baggage", "_BAGGAGE_KEY")


def suppression_key() -> str:
    """Key that says "telemetry made here is about telemetry"; "" where this API does not say."""
    return _private_key("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY")


def _private_key(module: str, name: str) -> str:
    import importlib

    value = getattr(importlib.import_module(module), name, "")
    return value if isinstance(value, str) else ""


def span_in(ctx: Context, key: str) -> Any:
    """The span in `ctx`, or `None`."""
    if key:
        return ctx.get(key)
    span = trace.get_current_span(cast("Any", ctx))
    return None if span is trace.INVALID_SPAN else span


def baggage_in(ctx: Context, key: str) -> Mapping[str, Any]:
    """The baggage in `ctx`; empty where there is none."""
    found = ctx.get(key) if key else baggage.get_all(cast("Any", ctx))
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else _NOTHING


def attributes_of(item: Any) -> Attributes:
    """The attributes of a span, span event or log record, without a copy; not to be kept or written."""
    # Spans and span events keep their map in `_attributes`, log records in `attributes`.
    holder = getattr(item, "_attributes", None)
    if holder is None:
        holder = getattr(item, "attributes", None)
    if not holder:
        return _NOTHING
    inner = getattr(holder, "_dict", holder)
    return cast("Attributes", inner) if isinstance(inner, Mapping) else _NOTHING


def put_attributes(span: Any, values: Mapping[str, str]) -> None:
    """Sets `values` on a span that is just starting, or on a log record that is just emitted.

    Nobody else has the item yet, the values are clean, and `set_attribute` locks and cleans: so they go into the dict
    where it has room and no limit on lengths is set, and the public way otherwise.
    """
    holder: Any = getattr(span, "_attributes", None)
    if holder is None:
        holder = getattr(span, "attributes", None)
    try:
        inner: Any = holder._dict
        room = (holder.maxlen or 128) - len(inner)
        if type(inner) is dict and holder.max_value_len is None and len(values) <= room:
            cast("dict[str, Any]", inner).update(values)
            return
    except AttributeError:
        pass
    if hasattr(span, "set_attribute"):
        for key, value in values.items():
            span.set_attribute(key, value)
    elif holder is not None:
        holder.update(values)


def keep_beside(span: Any, key: str, value: Any) -> None:
    """Keeps `value` for whoever gets the ended span, which is another object: they share the map of attributes."""
    holder: Any = getattr(span, "_attributes", None)
    kept: Any = getattr(holder, "__dict__", None)
    if kept is not None:
        kept[key] = value


def kept_beside(span: Any, key: str) -> Any:
    """What was kept for this span, `None` for nothing."""
    kept: Any = getattr(getattr(span, "_attributes", None), "__dict__", None)
    return None if kept is None else kept.get(key)


def is_long_over(span: Any, root: Any, now_ns: int) -> bool:
    """Whether a request ended so long ago that what is still in its context is something else (decision 0119).

    Args:
        span: The current one of a context.
        root: The local root of its trace, `None` where that is not known any more.
        now_ns: Nanoseconds since the Unix epoch.
    """
    return _ended_long_ago(span, now_ns) and (root is None or _ended_long_ago(root, now_ns))


def _ended_long_ago(span: Any, now_ns: int) -> bool:
    ended = getattr(span, "_end_time", None)
    return isinstance(ended, int) and now_ns - ended > _OUTLIVES_NS


def events_of(span: Any) -> Sequence[Any]:
    """The span events, oldest first."""
    events = getattr(span, "_events", None)
    if events is None:
        events = getattr(span, "events", None)
    return tuple(events) if events else ()


__all__ = [
    "Context",
    "attributes_of",
    "baggage_in",
    "baggage_key",
    "current_context_reader",
    "events_of",
    "is_long_over",
    "keep_beside",
    "kept_beside",
    "put_attributes",
    "span_in",
    "span_key",
    "suppression_key",
]
