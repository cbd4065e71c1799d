"""An exception on a span event, a log record or in a live chain -> the content of one `$exception` event.

PostHog's shape (`$exception_list`): the caught exception first, what it was raised from after it, depth-first; each
with `type`, `module`, `value`, `mechanism` and raw frames, the outermost call first. Three carriers,
one normaliser: `exception.type` is qualified on some and bare on others, the traceback is text, and in process the live
chain is there. What PostHog derives itself (types, values, fingerprint …) is never sent.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_posthog.convert.frames import (
    Frame,
    Ownership,
    PythonFrames,
    bounded,
    frame_weight,
    number_weight,
    place,
    without_telemetry,
)
from otel_posthog.convert.text import clean_text, without_credentials
from otel_posthog.convert.values import ABSENT, Cleaner, cut_visibly
from otel_posthog.model import JsonValue, LocalException, Notice, Signal, SignalKind
from otel_posthog.semconv import otel, posthog

if TYPE_CHECKING:
    from otel_posthog.convert.foreign_stacks import ForeignException
    from otel_posthog.convert.traceback_text import FrameHeads, ParsedException

MAX_TYPE: Final = 400
MAX_KEPT_STACK: Final = 32 * 1024
"""Bytes of a stack that could not be read, kept as a property so that people can."""

_ENTRY: Final = 250
"""Bytes of an exception's JSON beside its texts and frames."""
_QUALIFIED: Final = re.compile(r"[^\W\d][\w$<>]*(?:\.[\w$<>]+)+\Z")
_COUNTED_MEMBERS: Final = re.compile(r" \(\d+ sub-exceptions?\)\Z")
_UNCAUGHT: Final = "opentelemetry.instrumentation.exceptions"
_INSTRUMENTATION: Final = "opentelemetry.instrumentation."
_REQUEST_LOGGERS: Final = frozenset(
    {
        "aiohttp.server", "django.request", "flask.app", "gunicorn.error", "hypercorn.error", "tornado.application",
        "uvicorn.error", "waitress",
    }
)  # fmt: skip
"""Loggers that frameworks and servers report a failure with that escaped the app's request handler."""
_LEVELS: Final = {
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "notice": "info",
    "debug": "debug",
    "trace": "debug",
}


@dataclass(frozen=True, slots=True)
class ExceptionContent:
    """What makes an event an `$exception`.

    Args:
        properties: `$exception_list`, `$exception_level` and the like.
        type: Of the caught exception, last component of its qualified name.
        place: `file:line:function` of its innermost frame, "" where no frame was read.
        weight: About how many bytes `properties` has as JSON.
    """

    properties: dict[str, JsonValue]
    type: str
    place: str
    weight: int


class ExceptionReader:
    """Reads exceptions; remembers what their tracebacks have in common. Safe in any thread.

    Args:
        ownership: Tells the app's frames from libraries'.
    """

    __slots__ = ("_heads", "frames", "ownership")

    def __init__(self, ownership: Ownership) -> None:
        self.ownership = ownership
        self.frames = PythonFrames(ownership)
        self._heads: FrameHeads | None = None

    def parse(self, stack: str) -> ParsedException | None:
        """See `parse_traceback`."""
        # Imported with the first stack in text form: compiling its expressions is a tenth of our import time.
        from otel_posthog.convert.traceback_text import FrameHeads, parse_traceback

        heads = self._heads
        if heads is None:
            self._heads = heads = FrameHeads()
        return parse_traceback(stack, heads)


def is_exception(signal: Signal) -> bool:
    """Whether `signal` brings an exception: a span event named so, or a log record that describes one."""
    if signal.kind is SignalKind.SPAN_EVENT:
        return signal.name == otel.EXCEPTION_EVENT
    if signal.kind is not SignalKind.LOG:
        return False
    attributes = signal.attributes
    return (
        bool(attributes.get(otel.EXCEPTION_TYPE) or attributes.get(otel.EXCEPTION_MESSAGE))
        or signal.name == otel.EXCEPTION_EVENT
        or signal.name.endswith(f".{otel.EXCEPTION_EVENT}")
        or (signal.local is not None and bool(signal.local.exception))
    )


def exception_content(signal: Signal, reader: ExceptionReader, cleaner: Cleaner) -> ExceptionContent:
    """Reads the exception of `signal`; always gives a list that PostHog can use."""
    # The cleaner counts all that goes into the event: frames and what surrounds them, too.
    before = cleaner.weight
    entries = _entries(signal, reader, cleaner)
    kind, handled = _mechanism(signal)
    root = entries[0]["mechanism"]
    root["type"] = kind
    if handled is not None:
        root["handled"] = handled
    properties: dict[str, JsonValue] = {"$exception_list": entries, "$exception_level": _level(signal)}
    source = _source(signal)
    if source:
        properties["$exception_source"] = source
    frames: list[Frame] = entries[0].get("stacktrace", {}).get("frames", [])
    text = signal.attributes.get(otel.EXCEPTION_STACKTRACE)
    if isinstance(text, str) and text.strip() and not any("stacktrace" in entry for entry in entries):
        cleaner.note(Notice.UNPARSED_STACK)
        kept = without_credentials(cleaner.text(text, "exception_stacktrace"))
        properties["exception_stacktrace"] = cut_visibly(kept, MAX_KEPT_STACK)
    innermost = place(frames[-1]) if frames else ""
    return ExceptionContent(properties, _last(str(entries[0]["type"])), innermost, cleaner.weight - before)


def _entries(signal: Signal, reader: ExceptionReader, cleaner: Cleaner) -> list[dict[str, JsonValue]]:
    local = signal.local.exception if signal.local is not None else ()
    if local and any(link.frames for link in local):
        return _from_local(local, reader, cleaner)
    attributes, before = signal.attributes, cleaner.weight
    said_type = _text(attributes.get(otel.EXCEPTION_TYPE), cleaner)
    cleaner.weight = before  # counted where it becomes an entry, and there it may be cut
    said_value = _text(attributes.get(otel.EXCEPTION_MESSAGE), cleaner)
    stack = attributes.get(otel.EXCEPTION_STACKTRACE)
    if isinstance(stack, str) and stack.strip():
        parsed = reader.parse(stack)
        if parsed is not None:
            return _from_text(parsed, said_type, said_value, reader, cleaner)
        # Imported with the first that needs it, as above.
        from otel_posthog.convert.foreign_stacks import parse_foreign

        language = signal.resource.attributes.get(otel.SDK_LANGUAGE)
        foreign = parse_foreign(stack, language, reader.ownership) if isinstance(language, str) else []
        if foreign:
            return _from_foreign(foreign, said_type, said_value, language == "go", cleaner)
    if local:
        cleaner.weight = before  # what was said is left out
        return _from_local(local, reader, cleaner)
    if not said_type and not said_value:
        said_value = _text(signal.body, cleaner)
    return [_entry(said_type, "", said_value, [], cleaner)]


def _from_local(
    chain: tuple[LocalException, ...], reader: ExceptionReader, cleaner: Cleaner
) -> list[dict[str, JsonValue]]:
    entries: list[dict[str, JsonValue]] = []
    for index, link in enumerate(chain[: posthog.MAX_EXCEPTIONS]):
        frames = without_telemetry(reader.frames.live(bounded(link.frames), cleaner))
        entry = _entry(link.type, link.module, cleaner.text(link.value, "$exception_list"), frames, cleaner)
        # An edge that numbers its links wrongly must not make a loop that PostHog's tree would walk for ever.
        parent = link.parent if 0 <= link.parent < index else index - 1
        _hang(entry, index, parent, link.source, group=link.is_group)
        if link.errno is not None:
            entry["mechanism"]["meta"] = {"errno": {"number": link.errno}}
            cleaner.weight += 30 + number_weight(link.errno)
        entries.append(entry)
    return entries


def _from_text(
    caught: ParsedException, said_type: str, said_value: str, reader: ExceptionReader, cleaner: Cleaner
) -> list[dict[str, JsonValue]]:
    if said_type and caught.type and _last(caught.type) != _last(said_type):
        # The text was cut off inside of the chain: what was read last is an inner exception, not the caught one.
        from otel_posthog.convert.traceback_text import ParsedException

        caught = ParsedException(type=said_type, value=said_value, cause=caught, relation="context")
    entries: list[dict[str, JsonValue]] = []
    # Depth-first without recursion: a chain may be thousands of links long. (exception, parent, how it hangs)
    waiting: list[tuple[ParsedException, int, str]] = [(caught, -1, "")]
    while waiting and len(entries) < posthog.MAX_EXCEPTIONS:
        link, parent, relation = waiting.pop()
        index = len(entries)
        frames = without_telemetry(reader.frames.printed(bounded(link.frames), cleaner))
        if index == 0:
            type_, value = _fuller(said_type, link.type), said_value or cleaner.text(link.value, "$exception_list")
        else:
            type_, value = link.type, cleaner.text(link.value, "$exception_list")
        if link.members:
            # What `str()` of a group adds is no part of its message, nor of what PostHog's SDK sends.
            value = _COUNTED_MEMBERS.sub("", value)
        entry = _entry(type_, "", value, frames, cleaner)
        _hang(entry, index, parent, relation, group=bool(link.members))
        entries.append(entry)
        waiting.extend((member, index, "member") for member in reversed(link.members))
        if link.cause is not None:
            waiting.append((link.cause, index, link.relation))
    return entries


def _from_foreign(
    chain: list[ForeignException], said_type: str, said_value: str, whole_type: bool, cleaner: Cleaner
) -> list[dict[str, JsonValue]]:
    entries: list[dict[str, JsonValue]] = []
    for index, link in enumerate(chain[: posthog.MAX_EXCEPTIONS]):
        type_ = link.type if index else said_type or link.type
        value = cleaner.text(link.value, "$exception_list") if index else said_value or link.value
        frames = bounded(link.frames)
        cleaner.weight += sum(map(frame_weight, frames))
        entry = _entry(type_, "", value, frames, cleaner, split=not whole_type)
        _hang(entry, index, index - 1, "cause")
        entries.append(entry)
    return entries


def _entry(
    type_: str, module: str, value: str, frames: list[Frame], cleaner: Cleaner, *, split: bool = True
) -> dict[str, JsonValue]:
    cleaner.weight += _ENTRY
    type_ = type_.strip()
    if split and not module and _QUALIFIED.match(type_):
        module, _, type_ = type_.rpartition(".")
    counted = cleaner.weight
    name = cut_visibly(cleaner.text(type_, "$exception_list"), MAX_TYPE)
    cleaner.weight = counted + len(name)
    entry: dict[str, JsonValue] = {
        "type": name or "Error",
        "value": without_credentials(value),
        "mechanism": {"type": "generic", "exception_id": 0, "synthetic": False},
    }
    if module and module != "builtins":
        entry["module"] = cut_visibly(cleaner.text(module, "$exception_list"), MAX_TYPE)
    if frames:
        entry["stacktrace"] = {"type": "raw", "frames": frames}
    return entry


def _hang(entry: dict[str, JsonValue], index: int, parent: int, source: str, *, group: bool = False) -> None:
    mechanism = entry["mechanism"]
    mechanism["exception_id"] = index
    if index:
        mechanism["type"] = "chained"
        mechanism["parent_id"] = parent
        mechanism["source"] = source or "cause"
    if group:
        mechanism["is_exception_group"] = True


def _mechanism(signal: Signal) -> tuple[str, bool | None]:
    """(mechanism type, handled): what the process says, else PostHog's defaults; `None` where nobody knows."""
    local = signal.local
    kind, handled = _default_mechanism(signal)
    if local is not None:
        kind = local.mechanism or kind
        handled = local.handled if local.handled is not None else handled
    return kind, handled


def _default_mechanism(signal: Signal) -> tuple[str, bool | None]:
    if signal.scope.name.startswith(_UNCAUGHT):
        return "onuncaughtexception", False
    if signal.kind is SignalKind.LOG:
        return ("middleware", False) if signal.scope.name in _REQUEST_LOGGERS else ("logger", True)
    span = signal.span
    if span is not None and span.status_code == "error":
        # Recorded by the instrumentation of a framework whose span then failed: it escaped the app's handler.
        if span.span_kind == "server":
            return "middleware", False
        if span.span_kind == "consumer":
            return "task", False
    return "generic", None


def _level(signal: Signal) -> str:
    number = signal.severity_number
    if number >= 21 and signal.scope.name.startswith(_UNCAUGHT):
        # `logger.critical` has the same severity, but the process goes on.
        return "fatal"
    if number >= 17 or signal.kind is not SignalKind.LOG:
        return "error"
    if number >= 13:
        return "warning"
    if number >= 9:
        return "info"
    return "debug" if number >= 1 else _LEVELS.get(signal.severity_text.strip().lower(), "error")


def _source(signal: Signal) -> str:
    """PostHog's `$exception_source`: a stable lower-case name of the hook that saw it."""
    scope = signal.scope.name
    if scope.startswith(_INSTRUMENTATION):
        return f"otel.{cut_visibly(clean_text(scope[len(_INSTRUMENTATION) :].lower()), 80)}"
    return "otel.log" if signal.kind is SignalKind.LOG else "otel.span"


def _fuller(said: str, parsed: str) -> str:
    # The attribute may be the bare name where the text has the module too; their last components are equal by now.
    return parsed if not said or (parsed and "." not in said) else said


def _last(type_: str) -> str:
    return type_.strip().rpartition(".")[2]


def _text(value: object, cleaner: Cleaner) -> str:
    if value is None:
        return ""
    cleaned = cleaner.value(value, "$exception_list")
    if isinstance(cleaned, str):
        return cleaned
    if cleaned is ABSENT:
        return ""
    text = json.dumps(cleaned, sort_keys=True)
    cleaner.weight += len(text)  # its escapes are longer than what was counted
    return text
