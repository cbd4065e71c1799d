"""Something that holds around a piece of work: a `with` block, an `async with` block, or a function of any kind.

A generator's body runs in slices, and between them its caller does. What holds for the body must not hold for the
caller: so a `Block` is resumed and suspended for each slice. One that is closed early, by a `break` or by the garbage
collector, maybe in another task than the one it ran in, ends like any other.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Generic, TypeVar, cast

from otel_posthog.api.process import process

F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """What holds around one run of a piece of work. Its methods never raise."""

    def resume(self) -> None:
        """The work goes on, in this thread or task."""

    def suspend(self) -> None:
        """It pauses, and somebody else goes on here."""

    def gave(self, result: Any) -> None:
        """It gives its result, and ends with that.

        Args:
            result: What a function or coroutine returns, or a generator at its end.
        """

    def end(self, error: BaseException | None) -> None:
        """It is over.

        Args:
            error: What left it; `GeneratorExit` where nobody wants the rest of a generator.
        """


B = TypeVar("B", bound=Block)

# Which blocks are open here, in this thread or task. One object may be entered by several at once.
_open: Final[ContextVar[tuple[tuple[object, Block], ...]]] = ContextVar("otel_posthog_open_blocks", default=())


class Around(ABC, Generic[B]):
    """A context manager and a decorator, for sync and async code; may be used again, also by several at once."""

    def __init__(self) -> None:
        self._entered: list[B] = []

    @abstractmethod
    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> B:
        """A block for one run.

        Args:
            args: Of the call; empty for a `with` block.
            kwargs: The same.
        """

    @property
    def off(self) -> bool:
        """Whether there is nothing to hold: functions are then called as they are."""
        return False

    def __enter__(self) -> B:
        """Begins; what `as` names is the block."""
        block = self.begin((), {})
        self._entered.append(block)
        _open.set((*_open.get(), (self, block)))
        block.resume()
        return block

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Ends; an exception goes on unchanged."""
        entered = _open.get()
        for index in range(len(entered) - 1, -1, -1):
            owner, found = entered[index]
            if owner is self:
                _open.set((*entered[:index], *entered[index + 1 :]))
                block = cast("B", found)
                break
        else:
            # It was entered in another task: a generator that somebody else closes. Then it is the last of all.
            if not self._entered:
                return
            block = self._entered[-1]
        with suppress(ValueError):
            self._entered.remove(block)
        block.end(error)
        block.suspend()

    async def __aenter__(self) -> B:
        """As `__enter__`."""
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """As `__exit__`."""
        self.__exit__(kind, error, traceback)

    def __call__(self, function: F) -> F:
        """`function` with this around each of its calls.

        Args:
            function: A function, coroutine function, generator or async generator, or a method of any kind.
        """
        given: Any = function
        if isinstance(given, (staticmethod, classmethod)):
            method: Any = given  # pyright: ignore[reportUnknownVariableType] - of whatever it is a method
            return cast("F", type(method)(self(method.__func__)))
        if type(given) is property:
            return cast("F", property(given.fget and self(given.fget), given.fset, given.fdel, given.__doc__))
        if not callable(given) or inspect.isclass(given):
            process.guard.misused(
                "decorated", "otel-posthog: %s is no function: nothing can be held around it", type(given).__name__
            )
            return function
        behind = getattr(given, "__call__", None)  # noqa: B004 - an object may be called by a coroutine function
        for kind, wrap in (
            (inspect.isasyncgenfunction, _async_generator),
            (inspect.iscoroutinefunction, _coroutine),
            (inspect.isgeneratorfunction, _generator),
        ):
            if kind(given) or kind(behind):
                return cast("F", wrap(self, given))
        return cast("F", _plain(self, given))


def _plain(around: Around[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if around.off:
            return function(*args, **kwargs)
        block = around.begin(args, kwargs)
        block.resume()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            block.end(error)
            raise
        else:
            block.gave(result)
            block.end(None)
        finally:
            block.suspend()
        return result

    return called


def _coroutine(around: Around[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        if around.off:
            return await function(*args, **kwargs)
        block = around.begin(args, kwargs)
        block.resume()
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            block.end(error)
            raise
        else:
            block.gave(result)
            block.end(None)
        finally:
            block.suspend()
        return result

    return called


def _generator(around: Around[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if around.off:
            result: Any = yield from function(*args, **kwargs)  # pyright: ignore[reportUnknownVariableType] - sent
            return result  # pyright: ignore[reportUnknownVariableType]
        block = around.begin(args, kwargs)
        source = function(*args, **kwargs)
        step: Callable[[], Any] = functools.partial(next, source)
        while True:
            block.resume()
            try:
                item = step()
            except StopIteration as stop:
                block.gave(stop.value)
                block.end(None)
                return stop.value
            except BaseException as error:
                block.end(error)
                raise
            finally:
                block.suspend()
            try:
                sent: Any = yield item  # pyright: ignore[reportUnknownVariableType] - by whoever reads it
            except GeneratorExit as closing:
                block.resume()
                try:
                    source.close()
                except BaseException as error:
                    block.end(error)
                    raise
                else:
                    block.end(closing)
                finally:
                    block.suspend()
                raise
            except BaseException as thrown:  # noqa: BLE001 - whatever it is, the body gets it
                step = functools.partial(source.throw, thrown)
            else:
                step = functools.partial(source.send, sent)

    return called


def _async_generator(around: Around[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        # Also where it is off: there is no `yield from` for these.
        block: Block = Block() if around.off else around.begin(args, kwargs)
        source = function(*args, **kwargs)
        step: Callable[[], Any] = source.__anext__
        while True:
            block.resume()
            try:
                item = await step()
            except StopAsyncIteration:
                block.end(None)
                return
            except BaseException as error:
                block.end(error)
                raise
            finally:
                block.suspend()
            try:
                sent: Any = yield item  # pyright: ignore[reportUnknownVariableType] - by whoever reads it
            except GeneratorExit as closing:
                block.resume()
                try:
                    await source.aclose()
                except BaseException as error:
                    block.end(error)
                    raise
                else:
                    block.end(closing)
                finally:
                    block.suspend()
                raise
            except BaseException as thrown:  # noqa: BLE001 - whatever it is, the body gets it
                step = functools.partial(source.athrow, thrown)
            else:
                step = functools.partial(source.asend, sent)

    return called
