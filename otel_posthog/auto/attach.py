"""Attaching to one provider, by what it can do and not by what it is: once, and nothing of it replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import wrapt

from otel_posthog.observe.guard import logger

_MARK = "_otel_posthog_attached"


def can_take(provider: Any, method: str) -> bool:
    """Whether `provider` is more than a stand-in of the API: SDK providers and logfire's proxy take processors."""
    return callable(getattr(provider, method, None))


def is_marked(provider: Any) -> bool:
    """Whether we are attached to `provider` already."""
    # Not getattr: logfire's logger provider passes every unknown name on to the provider inside.
    return bool(getattr(provider, "__dict__", {}).get(_MARK, False))


def mark(provider: Any) -> None:
    """Remembers that we are attached to `provider`."""
    setattr(provider, _MARK, True)


def processors_of(provider: Any) -> Iterator[Any]:
    """The live processors of `provider`, as far as the SDK's private attributes show them; empty where they do not."""
    waiting: list[Any] = [
        getattr(provider, name, None) for name in ("_active_span_processor", "_multi_log_record_processor", "provider")
    ]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen or len(seen) > 200:
            continue
        seen.add(id(found))
        yield found
        waiting.extend(getattr(found, "_span_processors", None) or getattr(found, "_log_record_processors", None) or ())
        waiting.extend(
            getattr(found, name, None)
            for name in ("_active_span_processor", "_multi_log_record_processor", "processor", "_batch_processor")
        )


def exports_to_us(provider: Any) -> bool:
    """Whether an exporter or a processor of this package is there already: by environment, by file, or by hand."""
    for processor in processors_of(provider):
        for part in (processor, getattr(processor, "span_exporter", None), getattr(processor, "_exporter", None)):
            if part is not None and type(part).__module__.startswith("otel_posthog."):
                return True
    return False


def closes_itself(provider: Any) -> bool:
    """Whether `provider` registered its own shutdown for the end of the process, before us."""
    # Two spellings: the tracer provider's and the logger provider's.
    return any(getattr(provider, name, None) is not None for name in ("_atexit_handler", "_at_exit_handler"))


def follow_swaps(provider: Any, again: Callable[[], None]) -> None:
    """Calls `again()` after `provider` was given another provider inside (logfire's proxies, on every `configure`)."""
    if not callable(getattr(cast(Any, type(provider)), "set_provider", None)):
        return

    def after(wrapped: Callable[..., Any], _instance: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        again()
        return result

    try:
        provider.set_provider = wrapt.FunctionWrapper(provider.set_provider, after)
    except AttributeError:
        logger.debug("otel-posthog: %s cannot be followed when it is configured again", type(provider).__name__)
