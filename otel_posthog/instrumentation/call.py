"""One call of a function of the app, and the events that it becomes."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime, timedelta
from datetime import time as day_time
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import Any, Final, cast
from uuid import UUID

from otel_posthog.api.around import Block
from otel_posthog.api.capture import add, add_groups, no_name, state
from otel_posthog.api.process import process
from otel_posthog.api.timed import CLOSED_EARLY, DURATION, EXCEPTION_TYPE, SUCCESS
from otel_posthog.api.values import plain
from otel_posthog.instrumentation.user import peek
from otel_posthog.lane.now import elapsed_ns, now_ns
from otel_posthog.lane.uuids import uuid7
from otel_posthog.rules.functions import CallReference, CallText, CallValue, FunctionEvent
from otel_posthog.rules.template import text_of
from otel_posthog.semconv import posthog

_LEAVES: Final = (str, Number, Decimal, UUID, Enum, datetime, date, day_time, timedelta, bytes)
_MAX_DEPTH: Final = 8
_MAX_MEMBERS: Final = 1_000
_WHOLE: Final = (
    "otel-posthog: functions: %s of %s is a whole %s, and is left out: name what of it may leave, e.g. `%s.id`"
)

_PLAIN: Final = frozenset({str, int, float, bool})

Found = list[Any]
"""What the references of a function have found, by their numbers; `None` for what is not there."""
Read = Callable[[Found], Any]


class _Event:
    """One event, ready to be made.

    Args:
        event: As the file has it.
        numbers: The references' numbers.
    """

    def __init__(self, event: FunctionEvent, numbers: Mapping[CallReference, int]) -> None:
        self.on, self.when = event.on, event.when
        self.name = _text_reader(event.event, numbers)
        self.person = None if event.distinct_id is None else _reader(event.distinct_id, numbers)
        self.properties, self.set, self.set_once, self.group = (
            tuple((name, _reader(value, numbers)) for name, value in named)
            for named in (event.properties, event.set, event.set_once, event.group)
        )


class Calls:
    """What is wanted of the calls of one function.

    Args:
        events: Its events.
        signature: What a call looks like to its caller; `None` where nobody knows.
    """

    def __init__(self, events: Sequence[FunctionEvent], signature: inspect.Signature | None) -> None:
        self.target = events[0].target
        references = list(dict.fromkeys(one for event in events for one in event.references))
        numbers = {one: number for number, one in enumerate(references)}
        self.events = tuple(_Event(event, numbers) for event in events)
        self.size = len(references)
        self.arguments = tuple((numbers[one], one) for one in references if one.root == "args")
        self.later = tuple((numbers[one], one) for one in references if one.root != "args")
        parameters = list(signature.parameters.values()) if signature is not None else []
        self._known = [one.name for one in parameters]
        self._positional = [
            one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
        ]
        self._defaults = {one.name: one.default for one in parameters if one.default is not one.empty}
        self._more = next((one.name for one in parameters if one.kind is one.VAR_POSITIONAL), "")
        self._rest = next((one.name for one in parameters if one.kind is one.VAR_KEYWORD), "")
        self._open = signature is None or bool(self._rest)

    def unknown(self) -> list[tuple[str, str]]:
        """Arguments that no call can have, each with a hint at the nearest one."""
        import difflib

        if self._open:
            return []
        missing = sorted({one.path[0] for _, one in self.arguments} - {*self._known, "self", "cls"})
        close = {name: difflib.get_close_matches(name, self._known, n=1, cutoff=0.6) for name in missing}
        return [(name, f"; did you mean `{close[name][0]}`?" if close[name] else "") for name in missing]

    def begin(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call begins. Never raises.

        Args:
            instance: The object, or class, whose method it is.
            args: Of the call, without it.
            kwargs: Of the call.
        """
        call = Call(self)
        try:
            if self.arguments:
                given = self._given(instance, args, kwargs)
                self.read(self.arguments, lambda one: _follow(given.get(one.path[0]), one.path[1:]), call.found)
            for event in self.events:
                if event.on == "start":
                    self.emit(event, call.found, {}, time.time_ns())
        except Exception as error:  # noqa: BLE001 - an edge: the function runs
            _failed(error)
        return call

    def _given(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        # Not `Signature.bind`, which takes longer than all the rest: whether the call is a right one, Python will say.
        given = {"self": instance, "cls": instance, **self._defaults, **kwargs}
        given.update(zip(self._positional, args, strict=False))
        if self._more:
            given[self._more] = args[len(self._positional) :]
        if self._rest:
            given.setdefault(self._rest, {name: value for name, value in kwargs.items() if name not in self._known})
        return given

    def read(
        self, references: tuple[tuple[int, CallReference], ...], find: Callable[[CallReference], Any], found: Found
    ) -> None:
        """Adds what `references` find, in normal form: what an event says does not change any more."""
        emitter = process.get()
        if emitter is None:
            return
        guard = emitter.edge.guard
        for number, reference in references:
            try:
                value = find(reference)
                if type(value) in _PLAIN:
                    found[number] = value
                elif value is None:
                    continue
                elif _may_leave(value, 0):
                    found[number] = (plain({"": value}, guard) or {}).get("")
                else:
                    text = reference.text
                    guard.misused(f"function.{text}", _WHOLE, text, self.target, type(value).__name__, text)
            except Exception:  # noqa: BLE001 - a property of the app's: it costs this value
                guard.misused(
                    "function_value", "otel-posthog: functions: %s of %s cannot be read", reference.text, self.target
                )

    def emit(self, event: _Event, found: Found, outcome: dict[str, Any], moment: int) -> None:
        """Captures one event, in the context that it is called in."""
        emitter = process.get()
        if emitter is None:
            return
        name = event.name(found)
        if not name:
            no_name("", emitter)
            return
        attributes: dict[str, Any] = {posthog.EVENT: name, posthog.UUID: uuid7(moment)}
        person = None if event.person is None else event.person(found)
        if person is not None:
            state(attributes, person, emitter)
        if event.set:
            add(attributes, posthog.SET, _named(event.set, found), emitter, "set")
        if event.set_once:
            add(attributes, posthog.SET_ONCE, _named(event.set_once, found), emitter, "set_once")
        if event.group:
            add_groups(attributes, _named(event.group, found), emitter)
        properties = {**outcome, **_named(event.properties, found)}
        emitter.emit(name, attributes, properties=properties, time_ns=moment)


class Call(Block):
    """One call.

    Args:
        calls: What is wanted of it.
    """

    def __init__(self, calls: Calls) -> None:
        self.found: Found = [None] * calls.size
        self._calls = calls
        self._result: Any = None
        self._begun = elapsed_ns()

    def gave(self, result: Any) -> None:
        """Remembers the result."""
        self._result = result

    def end(self, error: BaseException | None) -> None:
        """Captures the events of the end."""
        took = (elapsed_ns() - self._begun + 500) // 1_000 / 1_000
        moment = now_ns()
        try:
            outcome: dict[str, Any] = {DURATION: took, SUCCESS: True}
            if isinstance(error, GeneratorExit):
                outcome[CLOSED_EARLY] = True  # whoever read it had enough: no failure
            elif error is not None and not (isinstance(error, SystemExit) and not error.code):
                outcome[SUCCESS] = False
                outcome[EXCEPTION_TYPE] = type(error).__qualname__
            wanted = ("always", "success" if outcome[SUCCESS] else "failure")
            events = [event for event in self._calls.events if event.on == "end" and event.when in wanted]
            if events and self._calls.later:
                self._calls.read(self._calls.later, lambda one: self._later(one, outcome), self.found)
            for event in events:
                self._calls.emit(event, self.found, outcome, moment)
        except Exception as failure:  # noqa: BLE001 - an edge: the function has run
            _failed(failure)

    def _later(self, reference: CallReference, outcome: Mapping[str, Any]) -> Any:
        if reference.root == "result":
            return _follow(self._result, reference.path)
        return outcome.get(EXCEPTION_TYPE if reference.root == "error" else reference.root)


def _failed(error: Exception) -> None:
    emitter = process.get()
    (process if emitter is None else emitter.edge).guard.failed("instrumentation.functions", error)


def _follow(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if isinstance(value, (list, tuple)) and name.isdigit():
            members = cast("Sequence[Any]", value)
            value = members[int(name)] if int(name) < len(members) else None
        else:
            value = peek(value, name)
        if value is None:
            return None
    return value


def _may_leave(value: Any, depth: int) -> bool:
    """Whether `value` says no more than its name promises: an object of the app's may have anything in it."""
    if value is None or isinstance(value, _LEAVES):
        return True
    if depth >= _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        members: Any = cast("Mapping[Any, Any]", value).values()
    elif isinstance(value, (Sequence, AbstractSet)):
        members = cast("Sequence[Any]", value)
    else:
        return False
    return len(members) <= _MAX_MEMBERS and all(_may_leave(one, depth + 1) for one in members)


def _reader(value: CallValue, numbers: Mapping[CallReference, int]) -> Read:
    """Gives the value; `None` where it is not there."""
    if not isinstance(value, CallText):
        return lambda _: value
    if len(value.parts) == 1 and not isinstance(value.parts[0], str):
        return _first(value.parts[0], numbers)
    text = _text_reader(value, numbers)
    return lambda found: text(found) or None


def _first(alternatives: tuple[CallReference, ...], numbers: Mapping[CallReference, int]) -> Read:
    places = [numbers[one] for one in alternatives]
    if len(places) == 1:
        place = places[0]
        return lambda found: found[place]
    return lambda found: next((found[place] for place in places if found[place] is not None), None)


def _text_reader(text: CallText, numbers: Mapping[CallReference, int]) -> Callable[[Found], str]:
    """Gives the text; "" where something of it is missing: with a hole it would say what nobody wrote."""
    constant = text.text
    if constant is not None:
        said = constant.strip()
        return lambda _: said
    parts = [part if isinstance(part, str) else _first(part, numbers) for part in text.parts]

    def read(found: Found) -> str:
        texts: list[str] = []
        for part in parts:
            one = part if isinstance(part, str) else text_of(part(found))
            if not one:
                return ""
            texts.append(one)
        return "".join(texts).strip()

    return read


def _named(values: tuple[tuple[str, Read], ...], found: Found) -> dict[str, Any]:
    return {name: value for name, read in values if (value := read(found)) is not None}
