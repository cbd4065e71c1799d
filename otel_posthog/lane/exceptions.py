"""Live exceptions: the object behind a span event or a log record, seen in the callback and told apart by identity.

`sys.exc_info()` while a span ends or a record is emitted is the very object that passes through nested spans, the
server span and the framework's log. The object itself carries the mark that says "captured", under the names that the
`posthog` SDK uses: whoever comes second, we or that SDK, skips.

In the callback only what is cheap is read: code objects and line numbers. No frame and no local variable is kept, and
source files are opened on our own thread (`read_chain`).

What is read equals what PostHog's own SDK sends for the same object (`tests/parity/test_posthog_sdk.py`), so that its
issues and ours are the same ones: names of types and files, values, order of the chain, source lines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Any, Final, cast

from otel_posthog.lane.control_flow import is_control_flow
from otel_posthog.model import LocalException, LocalFrame
from otel_posthog.model.frozen import frozen
from otel_posthog.semconv import posthog

CAPTURED_MARK: Final = "__posthog_exception_captured"
UUID_MARK: Final = "__posthog_exception_uuid"
RAISED_MARK: Final = "__otel_posthog_raised"
"""How often the object had been raised when it was captured, see `_times_raised`."""

_OUTER_FRAMES: Final = 32
_INNER_FRAMES: Final = 96
"""Of a longer traceback both ends are kept: where it came from, and where it broke."""
_MAX_VALUE: Final = 64 * 1024
_CONTEXT_LINES: Final = 5
_MAX_LINE: Final = 1024
_MAX_WALK: Final = 20_000
"""Entries of a traceback that are looked at: one object that is raised for ever makes it longer each time."""
_PLUMBING: Final = ("opentelemetry.", "contextlib")
"""Modules whose frames at the outer end are the instrumentation's own way of passing the exception on."""

_Spot = tuple[CodeType, int, str]
"""(code, line, module): one frame without the frame."""


@frozen
class SeenException:
    """One exception of a chain as the callback saw it."""

    type: str
    module: str
    value: str
    spots: tuple[_Spot, ...]
    source: str
    parent: int
    is_group: bool
    errno: int | None


@frozen
class LiveException:
    """A live exception as the callback saw it.

    Args:
        token: The same for every carrier of this object; the `posthog` SDK's event uuid where that was first.
        captured_before: Somebody captured this object before: an earlier callback of ours, or the `posthog` SDK.
        chain: The caught one first, causes, contexts and group members after it.
        control_flow: It is no error; nothing was read and nothing marked.
    """

    token: str
    captured_before: bool
    chain: tuple[SeenException, ...]
    control_flow: bool = False

    @property
    def frames(self) -> int:
        """Frames of the caught exception: the outer the carrier, the more of the way is known."""
        return len(self.chain[0].spots) if self.chain else 0


CONTROL_FLOW: Final = LiveException("", captured_before=False, chain=(), control_flow=True)


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


def see(error: BaseException, *, deliberate: bool = False) -> LiveException:
    """Reads `error` and marks it as captured, unless it is marked already.

    Args:
        error: The live exception.
        deliberate: It counts even where it is control flow.

    Control flow is told, and neither read nor marked: whoever captures it on purpose may.

    An object that the app keeps and raises again (`raise NOT_CONFIGURED`) is captured each time.

    Never raises for anything that an exception class may do (a `__str__` that raises, frozen or slotted instances).
    """
    if not deliberate and is_control_flow(error):
        return CONTROL_FLOW
    marks = _marks(error)
    times = _times_raised(error.__traceback__)
    before = CAPTURED_MARK in marks
    token = marks.get(UUID_MARK)
    if before and times > marks.setdefault(RAISED_MARK, times):
        before, token = False, None
    if not isinstance(token, str) or not token:
        token = _new_token()
    if not before:
        marks[CAPTURED_MARK] = True
        marks[UUID_MARK] = token
        marks[RAISED_MARK] = times
    return LiveException(token, before, tuple(_walk(error)))


def captured_elsewhere(error: BaseException) -> str | None:
    """The uuid under which the `posthog` SDK captured `error`, "" where it does not say; `None` where it did not."""
    marks = _marks(error)
    if CAPTURED_MARK not in marks or RAISED_MARK in marks:
        return None
    uuid = marks.get(UUID_MARK)
    return uuid if isinstance(uuid, str) else ""


def claim(error: BaseException, uuid: str) -> bool:
    """Marks `error` as captured under this event's uuid.

    Args:
        error: A live exception.
        uuid: Of the `$exception` that somebody else has made of it.

    Returns:
        False where it was captured before, and has not been raised again since.
    """
    marks = _marks(error)
    times = _times_raised(error.__traceback__)
    if CAPTURED_MARK in marks and times <= marks.get(RAISED_MARK, times):
        return False
    marks[CAPTURED_MARK] = True
    marks[UUID_MARK] = uuid
    marks[RAISED_MARK] = times
    return True


def _times_raised(traceback: TracebackType | None) -> int:
    """How often an exception was raised where it was born, told from its traceback.

    Python goes on with the traceback that an object has, so the second `raise NOT_CONFIGURED` puts the way of that
    propagation before the whole first one: the statement that raised is there twice. On its way through handlers,
    `finally` and futures one propagation executes that statement once; a re-raise (`raise error`) is another one.
    """
    if traceback is None or traceback.tb_next is None:
        return 1
    last = traceback
    length = 1
    while last.tb_next is not None and length < _MAX_WALK:
        last, length = last.tb_next, length + 1
    code, instruction = last.tb_frame.f_code, last.tb_lasti
    times = 1
    entry = traceback
    while entry is not last and entry.tb_next is not None:
        following = entry.tb_next
        if entry.tb_lasti == instruction and entry.tb_frame.f_code is code and entry.tb_frame is not following.tb_frame:
            times += 1
        entry = following
    # A recursion stands at one and the same call on each of its levels; only `raise` starts a propagation.
    return times if times == 1 or _raises(code, instruction) else 1


def _raises(code: CodeType, instruction: int) -> bool:
    import opcode  # an object that was raised twice is rare: not worth an import at start

    return 0 <= instruction < len(code.co_code) and code.co_code[instruction] == opcode.opmap["RAISE_VARARGS"]


def _marks(error: BaseException) -> dict[str, Any]:
    # Around `__setattr__` and `__getattr__` of the class: frozen dataclasses refuse, and proxies answer to any name.
    # Every exception has this dict, also with `__slots__`: BaseException brings it.
    return cast("dict[str, Any]", object.__getattribute__(error, "__dict__"))


def _new_token() -> str:
    import uuid

    return str(uuid.uuid4())


# --- the walk, in the callback -------------------------------------------------------------------------------------


def _walk(error: BaseException) -> Iterator[SeenException]:
    """Depth-first, what it was raised from before the members of a group: PostHog's order."""
    waiting: list[tuple[BaseException, str, int]] = [(error, "", -1)]
    seen: set[int] = set()
    index = 0
    while waiting and index < posthog.MAX_EXCEPTIONS:
        current, source, parent = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        members = _members(current)
        number: object = getattr(current, "errno", None) if isinstance(current, OSError) else None
        yield SeenException(
            type=type(current).__qualname__,
            module=type(current).__module__ or "",
            value=_message(current),
            spots=_spots(current.__traceback__),
            source=source,
            parent=parent,
            is_group=bool(members),
            errno=number if isinstance(number, int) else None,
        )
        waiting.extend((member, "member", index) for member in reversed(members))
        if current.__cause__ is not None:
            waiting.append((current.__cause__, "cause", index))
        elif current.__context__ is not None and not current.__suppress_context__:
            waiting.append((current.__context__, "context", index))
        index += 1


def _message(error: BaseException) -> str:
    """As PostHog's SDK: `message` or `detail` of the object before its `str()`, and its `repr()` where that raises."""
    for name in ("message", "detail"):
        try:
            said: object = getattr(error, name, None)
            if said:
                return str.__str__(str(said))[:_MAX_VALUE]
        except Exception:  # noqa: BLE001, PERF203, S112 - the app's property; `str()` follows
            continue
    return exception_text(error)


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
    left = _MAX_WALK
    while traceback is not None and left:
        left -= 1
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
    """`str(error)`, cut to 64 KiB; its `repr()` or a placeholder where that raises."""
    for read in (str, repr):
        try:
            return str.__str__(read(error))[:_MAX_VALUE]
        except Exception:  # noqa: BLE001, PERF203, S112 - the app's `__str__` or `__repr__`
            continue
    return "<broken repr>"


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
            errno=one.errno,
        )
        for one in live.chain
    )


def _frame(code: CodeType, lineno: int, module: str) -> LocalFrame:
    path = code.co_filename
    lines = _source(path, module)
    here = lineno - 1
    known = 0 <= here < len(lines)
    return LocalFrame(
        filename=_name_in_package(module, path),
        abs_path=path if path.startswith("<") else os.path.abspath(path),  # noqa: PTH100 - no resolving
        function=code.co_name,
        lineno=lineno,
        module=module,
        context_line=_line(lines[here]) if known else None,
        pre_context=tuple(map(_line, lines[max(0, here - _CONTEXT_LINES) : here])) if known else (),
        post_context=tuple(map(_line, lines[here + 1 : here + 1 + _CONTEXT_LINES])) if known else (),
    )


def _source(path: str, module: str) -> list[str]:
    import linecache

    try:
        lines = linecache.getlines(path)
        if not lines:
            # Code in a zip file: its loader has it.
            loader: Any = getattr(sys.modules.get(module), "__loader__", None)
            text: object = loader.get_source(module) if hasattr(loader, "get_source") else None
            lines = text.splitlines() if isinstance(text, str) else []
    except Exception:  # noqa: BLE001 - a broken loader or file costs the context lines, not the exception
        return []
    return lines


def _name_in_package(module: str, path: str) -> str:
    """The file's name from its package on, the same on every machine; step for step what PostHog's SDK sends.

    For a package without `__init__.py` that is the whole path: the issues of the SDK are named so.
    """
    if not module or not path:
        return path
    path = path.removesuffix("c") if path.endswith(".pyc") else path
    base, dot, _ = module.partition(".")
    if not dot:
        return os.path.basename(path)  # noqa: PTH119 - text, not a file that is there
    home = getattr(sys.modules.get(base), "__file__", None)
    if not isinstance(home, str) or not home:
        return path
    above = home.rsplit(os.sep, 2)[0]
    return path.split(above, 1)[-1].lstrip(os.sep) if above else path


def _line(text: str) -> str:
    return text.rstrip("\r\n")[:_MAX_LINE]
