"""`super_properties` and `scope`: what the OpenTelemetry context holds for a block."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from otel_posthog.api.around import Around, Block
from otel_posthog.api.process import process
from otel_posthog.api.values import id_value, plain


class Held(Block):
    """A context that holds while a piece of work runs.

    Args:
        build: Makes the context from the current one; `None` for nothing to hold.
    """

    def __init__(self, build: Callable[[Any], Any] | None) -> None:
        self._build = build
        self._context: Any = None
        self._token: Any = None

    def resume(self) -> None:
        """Attaches it: as it was left, where the work goes on."""
        if self._build is None:
            return
        from opentelemetry import context

        if self._context is None:
            self._context = self._build(context.get_current())
        self._token = context.attach(self._context)

    def suspend(self) -> None:
        """Gives the caller its own context back."""
        token, self._token = self._token, None
        if token is None:
            return
        from opentelemetry import context

        self._context = context.get_current()
        runtime: Any = getattr(context, "_RUNTIME_CONTEXT", None)
        # Not by `context.detach`, which logs an error where the block is left in another task than it was entered in.
        # There is nothing to give back there.
        with suppress(Exception):
            (runtime or context).detach(token)


class HeldWork(Held):
    """A context whose unit of work ends with the block: what has been started in it may go on for a while."""

    _work: Any = None

    def resume(self) -> None:
        """As above, and remembers what began with it."""
        super().resume()
        if self._work is None and self._context is not None:
            from otel_posthog.context.work import KEY

            self._work = self._context[KEY]

    def loosen(self) -> None:
        """It may hold where it should not: no request that begins there is part of it."""
        if self._work is not None:
            self._work.loose = True

    def end(self, error: BaseException | None) -> None:  # noqa: ARG002 - it is over, whatever it came to
        """It is over."""
        if self._work is not None:
            self._work.finish()


H = TypeVar("H", bound=Held)

_BY_ASYNC_WITH: Final = cast("Any", Around).__aenter__.__code__
_YIELDS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_DRIVERS: Final = frozenset({"contextlib", "_pytest", "pytest_asyncio", "anyio"})
"""Packages that run a generator up to its only value as the beginning of a block, and want to be in its context."""


class Holding(Around[H]):
    """A block that holds something for what runs inside of it, and knows where that is not to be had.

    A `with` in the body of a generator is left by neither of Python's ways while the generator waits: whoever reads
    from it is inside, too. Only a decorator is told about each pause.
    """

    def __enter__(self) -> H:
        """Begins; what `as` names is the block."""
        block = super().__enter__()
        if _is_in_a_generator(sys._getframe(1)):
            self._leaks(block)
        return block

    def _leaks(self, block: H) -> None:  # noqa: ARG002 - of interest to some
        emitter = process.get()
        if emitter is not None:
            emitter.edge.guard.misused(
                "generator",
                "otel-posthog: `with %s()` in the body of a generator holds for whoever reads from it, too, between "
                "two of its values: decorate the generator instead, `@otel_posthog.%s(…)`",
                self.name,
                self.name,
            )

    name = ""
    """Of the function that gives it."""


def _is_in_a_generator(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_code is _BY_ASYNC_WITH:
        frame = frame.f_back
    if frame is None or not frame.f_code.co_flags & _YIELDS or frame.f_code.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return False
    reader = frame.f_back
    return reader is None or str(reader.f_globals.get("__name__")).partition(".")[0] not in _DRIVERS


class SuperProperties(Holding[Held]):
    """See `super_properties`."""

    name = "super_properties"

    def __init__(self, properties: Any, named: dict[str, Any]) -> None:
        super().__init__()
        self._properties = properties
        self._named = named

    @property
    def off(self) -> bool:
        """The gate is shut."""
        return process.get() is None

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Held:  # noqa: ARG002 - of no interest here
        """A context with the properties as they are now."""
        emitter = process.get()
        if emitter is None:
            return Held(None)
        from otel_posthog.context import with_properties

        guard = emitter.edge.guard
        values = {**(plain(self._properties, guard) or {}), **(plain(self._named, guard) or {})}
        return Held(lambda here: with_properties(values, here))


def super_properties(properties: Mapping[str, Any] | None = None, /, **named: Any) -> SuperProperties:
    """Stamps properties on every event below a block: captured ones, annotated spans, exceptions, log records.

    `with super_properties(area="billing"):`, `async with …`, or `@super_properties(area="billing")` on a function,
    coroutine function, generator or async generator. Nested blocks add to the outer ones, and win over them; what an
    event says itself wins over both. They follow the work wherever OpenTelemetry's context goes: into tasks by itself,
    into threads with `opentelemetry-instrumentation-threading`. Never raises.

    Args:
        properties: Name -> value, for names that are no Python names.
        named: The same.
    """
    return SuperProperties(properties, named)


class Scope(Holding[HeldWork]):
    """See `scope`."""

    name = "scope"

    def __init__(self, distinct_id: Any, groups: Any) -> None:
        super().__init__()
        self._distinct_id = distinct_id
        self._groups = groups

    @property
    def off(self) -> bool:
        """The gate is shut."""
        return process.get() is None

    def _leaks(self, block: HeldWork) -> None:
        super()._leaks(block)
        block.loosen()

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> HeldWork:  # noqa: ARG002 - of no interest here
        """A context with a new unit of work."""
        emitter = process.get()
        if emitter is None:
            return HeldWork(None)
        from otel_posthog.api.capture import add_groups, bad_id
        from otel_posthog.context import Ambient, new_work
        from otel_posthog.convert.person import person_id
        from otel_posthog.semconv import posthog

        person = ""
        if self._distinct_id is not None:
            person = person_id(id_value(self._distinct_id))
            if not person:
                bad_id(self._distinct_id, emitter)
        found: dict[str, Any] = {}
        if self._groups is not None:
            add_groups(found, self._groups, emitter)
        groups = {name[len(posthog.GROUPS) :]: key for name, key in found.items()}
        ambient = Ambient(distinct_id=person, groups=groups)
        # In a thread that a request has started, and that serves others later, it has nothing to do with that request.
        return HeldWork(lambda here: new_work(ambient, here, apart=emitter.outlives()))


def scope(
    *,
    distinct_id: str | int | UUID | None = None,
    groups: Mapping[str, str | int | UUID] | None = None,
) -> Scope:
    """A unit of work of its own: a job, a message, one turn of a loop. Never raises.

    What `identify`, `group` and `reset` say inside holds inside, and ends with it; of the work around it nothing is
    known in it. Requests and jobs of the frameworks that are instrumented have one already; scripts and loops of one's
    own need it, or each turn is counted for the person of the one before. `with scope():`, `async with …`, or
    `@scope()` on a function of any kind.

    Args:
        distinct_id: Who it is for, where that is known from the start.
        groups: Group type -> key, likewise.
    """
    return Scope(distinct_id, groups)
