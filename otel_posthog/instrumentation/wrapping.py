"""Wrapping functions of an app, so that they stay what they were.

Wrapped functions keep their name, signature, kind and identity for frameworks, and their exceptions pass. What is read
of a call is what the rules file names: arguments before the function runs, which may change them, the rest when it has
ended.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

import wrapt

from otel_posthog.api import around
from otel_posthog.api.process import process
from otel_posthog.instrumentation.call import Call, Calls
from otel_posthog.instrumentation.patches import Patches
from otel_posthog.rules.functions import FunctionEvent

_SHOWN: Final = 3


def wrap_function(patches: Patches, module: Any, qualname: str, events: list[FunctionEvent], *, late: bool) -> str:
    """Wraps one function, or says why not.

    Args:
        patches: Knows the way back.
        module: Its module, imported.
        qualname: Its name there.
        events: What its calls become.
        late: The module was imported before anybody could wrap anything.

    Returns:
        Why it is not wrapped; "" where it is.
    """
    target, place = events[0].target, events[0].place
    owner, name, raw = _find(module, qualname)
    function: Any = _behind(raw)
    wrong = _wrong(function, owner, name, qualname)
    if wrong:
        _say("%s: %s (%s)", target, wrong, place)
        return wrong
    calls = Calls(events, _signature(function, bound=inspect.isclass(owner) and not isinstance(raw, staticmethod)))
    for argument, nearest in calls.unknown():
        _say("%s has no argument `%s`%s (%s)", target, argument, nearest, place)
    if late and owner is module:
        _say_who_has_it(module, raw, target)
    run = _runner(function)

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if process.get() is None:
            return wrapped(*args, **kwargs)
        if run is not None:
            return run(_Captured(calls, instance), wrapped)(*args, **kwargs)
        call = calls.begin(instance, args, kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        call.gave(result)
        call.end(None)
        return result

    make: Any = _Wrapped
    patches.put(owner, name, lambda enabled: make(raw, wrapper, enabled))
    return ""


def _say_who_has_it(module: Any, function: Any, target: str) -> None:
    """`from shop.billing import charge` before us is out of reach."""
    # Anybody may put anything there.
    modules: dict[str, Any] = dict(sys.modules)
    holders = sorted(
        name
        for name, other in modules.items()
        if isinstance(other, ModuleType)
        and other is not module
        and any(value is function for value in tuple(vars(other).values()))
    )
    if holders:
        _say(
            "%s was imported by name before it could be wrapped; calls from %s%s are not counted. Start with "
            "`opentelemetry-instrument`, or instrument before the app is imported",
            target,
            ", ".join(holders[:_SHOWN]),
            " and others" if len(holders) > _SHOWN else "",
        )


class _Captured(around.Around[Call]):
    """The events of one call."""

    def __init__(self, calls: Calls, instance: Any) -> None:
        self._calls = calls
        self._instance = instance

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return self._calls.begin(self._instance, args, kwargs)


class _BoundWrapped(wrapt.BoundFunctionWrapper):  # pyright: ignore[reportMissingTypeArgument] - wrapt 1 has none
    """A wrapped method of one object; pickled as methods are."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return getattr, (self._self_instance, self.__name__)


class _Wrapped(wrapt.FunctionWrapper):  # pyright: ignore[reportMissingTypeArgument] - as above
    """A wrapped function; pickled by its name, as functions are (process pools need it)."""

    __bound_function_wrapper__ = _BoundWrapped

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__qualname__


def _runner(function: Any) -> Callable[..., Any] | None:
    """What drives a function of its kind; `None` for one that simply returns."""
    behind = getattr(function, "__call__", None)  # noqa: B004 - an object may be called by a coroutine function
    for kind, run in (
        (inspect.isasyncgenfunction, around._async_generator),
        (inspect.iscoroutinefunction, around._coroutine),
        (inspect.isgeneratorfunction, around._generator),
    ):
        if kind(function) or kind(behind):
            return run
    return None


def _signature(function: Any, *, bound: bool) -> inspect.Signature | None:
    """What a call looks like to a caller; `None` where Python does not know (a function in C)."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = list(found.parameters.values())
    # Of a method wrapt gives the object apart.
    return found.replace(parameters=parameters[1:]) if bound and parameters else found


def _find(module: Any, qualname: str) -> tuple[Any, str, Any]:
    """(owner, name, what stands there); the last is `None` from the first name on that is not there."""
    owner, found, name = module, module, ""
    for name in qualname.split("."):
        owner, found = found, _raw(found, name)
        if found is None:
            return owner, name, None
    if hasattr(found, "apply_async") and hasattr(found, "run"):
        # A task of Celery: workers run what is behind it.
        return found, "run", found.run
    return owner, name, found


def _wrong(function: Any, owner: Any, name: str, qualname: str) -> str:
    """Why this cannot be wrapped, "" where it can."""
    if function is None:
        return f"there is no {name}{_nearest(owner, name)}"
    if inspect.isclass(function):
        return f"a class is no function; `{qualname}.__init__` is called for each that is made"
    if isinstance(function, property):
        return "this is a property; name the function that does the work"
    return "" if callable(function) else f"this is no function but a {type(function).__name__}"


def _behind(raw: Any) -> Any:
    return raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - of whatever


def _raw(owner: Any, name: str) -> Any:
    """What stands under `name`, as it stands there: for a static method the static method itself."""
    if inspect.isclass(owner):
        return next((vars(cls)[name] for cls in owner.__mro__ if name in vars(cls)), None)
    return getattr(owner, name, None)


def _nearest(owner: Any, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, dir(owner), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _say(message: str, *args: object) -> None:
    # Once for each: it is said when a function is wrapped, which a reload does again.
    process.complaints.say(f"functions.{args[0]}.{message}", f"otel-posthog: functions: {message}", *args)


__all__ = ["wrap_function"]
