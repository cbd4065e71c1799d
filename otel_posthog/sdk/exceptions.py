"""Live exceptions: the object behind a span event or a log record, seen in the callback and told apart by identity.

`sys.exc_info()` while a span ends or a record is emitted is the very object that passes through nested spans, the
server span and the framework's log. The object itself carries the mark that says "captured", under the names that the
`posthog` SDK uses: whoever comes second, we or that SDK, skips.

In the callback only what is cheap is read: code objects and line numbers. No frame and no local variable is kept, and
source files are opened on our own thread (`read_chain`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, TracebackType
from typing import Any, Final, cast

from otel_posthog.model import LocalException, LocalFrame
from otel_posthog.semconv import posthog

CAPTURED_MARK: Final = "__posthog_exception_captured"
UUID_MARK: Final = "__posthog_exception_uuid"

_OUTER_FRAMES: Final = 32
_INNER_FRAMES: Final = 96
"""Of a longer traceback both ends are kept: where it came from, and where it broke."""
_MAX_VALUE: Final = 64 * 1024
_CONTEXT_LINES: Final = 5
_MAX_LINE: Final = 512
_PLUMBING: Final = ("opentelemetry.", "contextlib")
"""Modules whose frames at the outer end are the instrumentation's own way of passing the exception on."""

_Spot = tuple[CodeType, int, str]
"""(code, line, module): one frame without the frame."""


@dataclass(frozen=True, slots=True)
class SeenException:
    """One exception of a chain as the callback saw it."""

    type: str
    module: str
    value: str
    spots: tuple[_Spot, ...]
    source: str
    parent: int
    is_group: bool


@dataclass(frozen=True, slots=True)
class LiveException:
    """A live exception as the callback saw it.

    Args:
        token: The same for every carrier of this object; the `posthog` SDK's event uuid where that was first.
        captured_before: Somebody captured this object before: an earlier callback of ours, or the `posthog` SDK.
        chain: The caught one first, causes, contexts and group members after it.
    """

    token: str
    captured_before: bool
    chain: tuple[SeenException, ...]

    @property
    def frames(self) -> int:
        """Frames of the caught exception: the outer the carrier, the more of the way is known."""
        return len(self.chain[0].spots) if self.chain else 0


def matches(error: BaseException, type_name: str, message: str) -> bool:
    """Whether `error` is what a carrier with this `exception.type` and `exception.message` describes.

    The type is qualified in some carriers and bare in others, and logging writes `str(args[0])` for the message: so the
    last component of the type decides, and the message only where the carrier has one and it is neither form.
    """
    cls = type(error)
    last = type_name.rpartition(".")[2]
    if last and last not in (cls.__name__, cls.__qualname__.rpartition(".")[2]):
        return False
    return not message or message in (exception_text(error), _first_argument(error))


def see(error: BaseException) -> LiveException:
    """Reads `error` and marks it as captured, unless it is marked already.

    Never raises for anything that an exception class may do (a `__str__` that raises, frozen or slotted instances).
    """
    marks = _marks(error)
    before = CAPTURED_MARK in marks
    token = marks.get(UUID_MARK)
    if not isinstance(token, str) or not token:
        token = _new_token()
    if not before:
        marks[CAPTURED_MARK] = True
        marks[UUID_MARK] = token
    return LiveException(token, before, tuple(_walk(error)))


def _marks(error: BaseException) -> dict[str, Any]:
    # Around `__setattr__` and `__getattr__` of the class: frozen dataclasses refuse, and proxies answer to any name.
    # Every exception has this dict, also with `__slots__`: BaseException brings it.
    return cast("dict[str, Any]", object.__getattribute__(error, "__dict__"))


def _new_token() -> str:
    import uuid

    return str(uuid.uuid4())


# --- the walk, in the callback -------------------------------------------------------------------------------------


def _walk(error: BaseException) -> Iterator[SeenException]:
    waiting: list[tuple[BaseException, str, int]] = [(error, "", -1)]
    seen: set[int] = set()
    index = 0
    while waiting and index < posthog.MAX_EXCEPTIONS:
        current, source, parent = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        members = _members(current)
        yield SeenException(
            type=type(current).__qualname__.rpartition(".")[2],
            module=type(current).__module__ or "",
            value=exception_text(current),
            spots=_spots(current.__traceback__),
            source=source,
            parent=parent,
            is_group=bool(members),
        )
        waiting.extend((member, "member", index) for member in members)
        if current.__cause__ is not None:
            waiting.append((current.__cause__, "cause", index))
        elif current.__context__ is not None and not current.__suppress_context__:
            waiting.append((current.__context__, "context", index))
        index += 1


def _members(error: BaseException) -> tuple[BaseException, ...]:
    # By shape and not by class: the `exceptiongroup` backport of Python 3.10 has classes of its own.
    if not any(base.__name__ == "BaseExceptionGroup" for base in type(error).__mro__):
        return ()
    members: object = getattr(error, "exceptions", ())
    if not isinstance(members, (tuple, list)):
        return ()
    return tuple(item for item in cast("tuple[object, ...]", members) if isinstance(item, BaseException))


def _spots(traceback: TracebackType | None) -> tuple[_Spot, ...]:
    outer: list[_Spot] = []
    inner: list[_Spot] = []
    while traceback is not None:
        frame = traceback.tb_frame
        module = frame.f_globals.get("__name__", "")
        module = module if isinstance(module, str) else ""
        plumbing = not outer and module.startswith(_PLUMBING)
        if not plumbing:
            spot = (frame.f_code, traceback.tb_lineno, module)
            if len(outer) < _OUTER_FRAMES:
                outer.append(spot)
            else:
                inner.append(spot)
                if len(inner) > 2 * _INNER_FRAMES:
                    del inner[:_INNER_FRAMES]
        traceback = traceback.tb_next
    return (*outer, *inner[-_INNER_FRAMES:])


def exception_text(error: BaseException) -> str:
    """`str(error)`, cut to 64 KiB; a placeholder where that raises."""
    try:
        text = str.__str__(str(error))
    except Exception:  # noqa: BLE001 - the app's `__str__`
        return f"<unprintable {type(error).__name__} object>"
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE]


def _first_argument(error: BaseException) -> str | None:
    try:
        return str(error.args[0]) if error.args else None
    except Exception:  # noqa: BLE001 - the app's `__str__`
        return None


def live_exception() -> BaseException | None:
    """The exception that is being handled right now in this thread, task or generator."""
    return sys.exc_info()[1]


# --- source, on our own thread -------------------------------------------------------------------------------------


def read_chain(live: LiveException) -> tuple[LocalException, ...]:
    """The chain for a Signal, with five source lines around each frame where the file is still there.

    Does file I/O (cached by `linecache`): never to be called in a callback.
    """
    return tuple(
        LocalException(
            type=one.type,
            module=one.module,
            value=one.value,
            frames=tuple(_frame(*spot) for spot in one.spots),
            source=one.source,
            parent=one.parent,
            is_group=one.is_group,
        )
        for one in live.chain
    )


def _frame(code: CodeType, lineno: int, module: str) -> LocalFrame:
    import linecache
    import os

    filename = code.co_filename
    try:
        lines = linecache.getlines(filename)
    except Exception:  # noqa: BLE001 - a broken loader or file costs the context lines, not the exception
        lines = []
    here = lineno - 1
    known = 0 <= here < len(lines)
    return LocalFrame(
        filename=filename,
        abs_path=filename if filename.startswith("<") else os.path.abspath(filename),  # noqa: PTH100 - no resolving
        function=code.co_name,
        lineno=lineno,
        module=module,
        context_line=_line(lines[here]) if known else None,
        pre_context=tuple(map(_line, lines[max(0, here - _CONTEXT_LINES) : here])) if known else (),
        post_context=tuple(map(_line, lines[here + 1 : here + 1 + _CONTEXT_LINES])) if known else (),
    )


def _line(text: str) -> str:
    return text.rstrip("\r\n")[:_MAX_LINE]
