"""`timed` and `captured`: an event with the outcome and the duration of a piece of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast, overload
from uuid import UUID

from otel_posthog.api.around import Around, Block
from otel_posthog.api.capture import capture
from otel_posthog.api.process import process
from otel_posthog.api.values import plain
from otel_posthog.lane.now import elapsed_ns

F = TypeVar("F", bound=Callable[..., Any])

SUCCESS: Final = "success"
DURATION: Final = "duration_ms"
EXCEPTION_TYPE: Final = "exception_type"
CLOSED_EARLY: Final = "closed_early"


class Timing(Block):
    """One run of timed work.

    Attributes:
        event: Name of the event that it becomes.
        properties: Of the event; to be added to while the work runs. They win over the outcome's own: a run that ended
            without an exception, and failed all the same, may say `success: False`.
        uuid: Of the event, when the run is over; `None` where none was captured.
    """

    def __init__(self, event: str, properties: Mapping[str, Any], distinct_id: Any, groups: Any) -> None:
        self.event = event
        self.properties: dict[str, Any] = dict(properties)
        self.uuid: str | None = None
        self._distinct_id = distinct_id
        self._groups = groups
        self._begun = elapsed_ns()

    def end(self, error: BaseException | None) -> None:
        """Captures the event."""
        outcome: dict[str, Any] = {
            DURATION: (elapsed_ns() - self._begun + 500) // 1_000 / 1_000,
            SUCCESS: True,
        }
        if isinstance(error, GeneratorExit):
            outcome[CLOSED_EARLY] = True  # whoever read it had enough: no failure
        elif error is not None and not (isinstance(error, SystemExit) and not error.code):
            outcome[SUCCESS] = False
            outcome[EXCEPTION_TYPE] = type(error).__qualname__
        emitter = process.get()
        if emitter is not None:
            # Whatever the block has made of them: a mistake there must not cost the outcome.
            outcome.update(plain(self.properties, emitter.edge.guard) or {})
        self.uuid = capture(self.event, outcome, distinct_id=self._distinct_id, groups=self._groups)


class Timed(Around[Timing]):
    """See `timed` and `captured`."""

    def __init__(self, event: str, properties: Any, distinct_id: Any, groups: Any) -> None:
        super().__init__()
        self._event = event
        self._properties = properties
        self._distinct_id = distinct_id
        self._groups = groups

    @property
    def off(self) -> bool:
        """The gate is shut, or there has been a shutdown, which is said."""
        if process.get() is not None:
            return False
        if process.started:
            process.off("captured")
        return True

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Timing:
        """Reads the clock, and from the arguments what is wanted of them."""
        emitter = process.get()
        if emitter is None:
            return Timing(self._event, {}, None, None)
        properties = self._asked(self._properties, args, kwargs)
        # Now, not at the end: the arguments may be changed by the work.
        own = (plain(properties, emitter.edge.guard) or {}) if properties is not None else {}
        return Timing(
            self._event, own, self._asked(self._distinct_id, args, kwargs), self._asked(self._groups, args, kwargs)
        )

    def _asked(self, said: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not callable(said):
            return said
        try:
            return said(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the app's function; its work must go on
            emitter = process.get()
            (process if emitter is None else emitter.edge).guard.misused(
                "captured_function",
                "otel-posthog: the function that reads the arguments for the event %s failed (%s); it gets the same "
                "arguments as the function that is captured. The event is captured without",
                repr(self._event),
                type(error).__name__,
            )
            return None


def timed(
    event: str,
    properties: Mapping[str, Any] | None = None,
    *,
    distinct_id: str | int | UUID | None = None,
    groups: Mapping[str, str | int | UUID] | None = None,
) -> Timed:
    """Captures an event when a block ends, with its outcome.

    `with timed("report built") as timing:` or `async with`. The event has `success`, `duration_ms` and, where an
    exception left the block, `exception_type`; the exception goes on unchanged. Add to `timing.properties` inside of
    the block. Never raises.

    Args:
        event: Its name.
        properties: Of the event: name -> value.
        distinct_id: Whose it is, in place of the context's person.
        groups: Group type -> key, for this event.
    """
    return Timed(event, properties or {}, distinct_id, groups)


@overload
def captured(
    event: str,
    properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
    *,
    distinct_id: str | int | UUID | Callable[..., Any] | None = None,
    groups: Mapping[str, str | int | UUID] | Callable[..., Mapping[str, Any]] | None = None,
) -> Timed: ...
@overload
def captured(event: F) -> F: ...
def captured(
    event: Any,
    properties: Any = None,
    *,
    distinct_id: Any = None,
    groups: Any = None,
) -> Any:
    """Captures an event when a function ends: `@captured("charge completed")`.

    For functions, coroutine functions, generators (from the first item to the last, or until they are closed) and async
    generators, and methods of any kind. The event has `success`, `duration_ms` and, where an exception left the
    function, `exception_type`; the exception goes on unchanged. Never raises.

    Args:
        event: Its name.
        properties: Of the event: name -> value; or a function that makes them from the arguments of the call:
            `@captured("charge completed", lambda amount, currency: {"amount": amount})`. Nothing is read from
            arguments that is not asked for.
        distinct_id: Whose it is, in place of the context's person; or such a function.
        groups: Group type -> key, for this event; or such a function.
    """
    if callable(event):
        process.guard.misused(
            "captured_function",
            'otel-posthog: write @captured("name of the event"); without a name nothing is captured',
        )
        return cast("Any", event)
    return Timed(event, properties, distinct_id, groups)
