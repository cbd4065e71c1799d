"""How `explain` looks on a terminal: one block per item, the whole event, totals at the end."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from otel_posthog.cli.terminal import colours_wanted, columns
from otel_posthog.model import CaptureEvent, DropReason, Notice, SignalKind
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.cli.explain import Item, Totals
    from otel_posthog.gateway.decode.recorded import Recorded

_REASONS: Final[dict[DropReason, str]] = {
    DropReason.NOT_TAGGED: "no posthog.* attribute, no exception, no rule matches",
    DropReason.IGNORED: "posthog.ignore is true",
    DropReason.RULE: "a rule drops it",
    DropReason.EMPTY_NAME: "the event name is empty",
    DropReason.IDENTITY_ONLY: "its rule names no event",
    DropReason.CONTROL_FLOW: "an answer below 500, a cancelled task or an exit: no error",
    DropReason.NO_SUBJECT: "nobody to apply it to: no distinct id",
    DropReason.DUPLICATE_EXCEPTION: "the same exception was captured from another carrier",
    DropReason.DUPLICATE: "the same content was captured already",
    DropReason.CARRIED_BY_LOG: "its own process sends it as a log record",
    DropReason.AI_SPAN: "a gen_ai.* span: left to PostHog's AI endpoint",
    DropReason.REPORTED_BY_POSTHOG: "PostHog's own flag provider sends the event itself",
    DropReason.TOO_BIG: "over the size limit even after cutting",
    DropReason.INVALID: "it cannot be converted",
}
_LABEL: Final = 11
"""Columns of the label at the left."""
_MOST: Final = 20
"""Names listed in a line of the totals."""
_CONTINUED: Final = " " * (_LABEL + 2)

# Where a colour begins and ends, until a line is printed: Unicode noncharacters, so that an escape sequence in a
# recorded log line (Flask's own are coloured) can be told from ours.
_ON, _TEXT, _OFF = "\ufdd0", "\ufdd1", "\ufdd2"
_PAINTED: Final = re.compile(f"{_ON}([0-9;]*){_TEXT}")
_VISIBLE: Final = {
    **{code: 0x2400 + code for code in range(0x20)},  # ␛ and the other control pictures
    0x7F: 0x2421,
    # What turns text around or breaks a line without being ASCII.
    **dict.fromkeys((*range(0x80, 0xA0), 0x61C, 0x200E, 0x200F), 0xFFFD),
    **dict.fromkeys((*range(0x2028, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}


class Terminal:
    """Where it is printed.

    Args:
        stream: The text stream.
        color: Whether to use ANSI colours.
        width: Columns.
    """

    def __init__(self, stream: TextIO, *, color: bool = False, width: int = 100) -> None:
        self.width = width
        self._stream = stream
        self._color = color
        self._at_gap = True

    @classmethod
    def for_stream(cls, stream: TextIO) -> Terminal:
        """As wide as the terminal, in colours where it has them."""
        return cls(stream, color=colours_wanted(stream, os.environ), width=columns())

    def paint(self, text: str, *codes: int) -> str:
        """`text` in the colours of the ANSI `codes`."""
        return f"{_ON}{';'.join(map(str, codes))}{_TEXT}{text}{_OFF}" if self._color else text

    def line(self, text: str) -> None:
        """Prints one line; control characters in what was recorded are shown and never reach the terminal."""
        shown = _PAINTED.sub("\x1b[\\1m", text.translate(_VISIBLE)) if self._color else text.translate(_VISIBLE)
        print(shown.replace(_OFF, "\x1b[0m") if self._color else shown, file=self._stream)
        self._at_gap = False

    def gap(self) -> None:
        """Prints an empty line, unless there is one already or nothing above it."""
        if not self._at_gap:
            print(file=self._stream)
        self._at_gap = True

    def labelled(self, label: str, text: str) -> None:
        """Prints a line with a label at the left."""
        self.line(f"  {self.paint(f'{label:<{_LABEL}}', 2)}{text}")


def unpainted(text: str) -> str:
    """`text` without the colours of `Terminal.paint`."""
    return _PAINTED.sub("", text).replace(_OFF, "")


def show_item(terminal: Terminal, item: Item) -> None:
    """Prints what became of one item."""
    decision = item.decision
    if not decision.events:
        # One line: most spans of a recording are such.
        terminal.line(f"{terminal.paint('○', 2)} {_title(terminal, item)} {terminal.paint(f'→ {_why(item)}', 33)}")
        return
    terminal.gap()
    terminal.line(f"{terminal.paint('●', 32)} {_title(terminal, item)}")
    terminal.labelled("rule", decision.rule or _decided_by(item))
    for event in decision.events:
        _show_event(terminal, event)
    for label, change in _changes(decision.events):
        terminal.labelled(label, change)
    if decision.notices:
        terminal.labelled("mended", ", ".join(_notice(notice) for notice in decision.notices))
    terminal.gap()


def show_rejected(terminal: Terminal, file: str, recorded: Recorded) -> None:
    """Prints what could not be read of one request."""
    terminal.gap()
    place = f"{file}, {recorded.place}" if recorded.place else file
    count = recorded.decoded.rejected
    what = f"{_plural(count, 'item')} could not be read" if count else "something was mended"
    terminal.line(f"{terminal.paint('✗', 31)} {place}: {what}")
    for message in recorded.decoded.error_messages:
        terminal.line(f"{_CONTINUED}{message}")
    terminal.gap()


def show_totals(terminal: Terminal, totals: Totals) -> None:
    """Prints the account."""
    dropped = totals.items - totals.captured
    head = f"{_plural(totals.items, 'item')}: {totals.captured} captured, {dropped} dropped"
    for count, what in ((totals.rejected, "rejected"), (totals.unreadable, "unreadable")):
        head += f", {count} {what}" if count else ""
    terminal.gap()
    terminal.line(terminal.paint(head, 1))
    _show_counted(terminal, "events", totals.events)
    _show_counted(terminal, "people", totals.people)
    _show_counted(terminal, "dropped", totals.by_reason)
    _show_counted(terminal, "rules", totals.by_rule)
    if totals.idle_rules:
        terminal.labelled("unused", ", ".join(totals.idle_rules))
    if totals.metrics:
        terminal.line(f"  {_plural(totals.metrics, 'metrics request')} left aside: metrics never become events")


def iso_time(nanoseconds: int) -> str:
    """UTC, to the millisecond; "" where there is no time."""
    import datetime as dt

    if not nanoseconds:
        return ""
    try:
        moment = dt.datetime.fromtimestamp(nanoseconds // 10**9, dt.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return f"{nanoseconds} ns"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds // 10**6 % 1000:03d}Z"


# --- parts ---------------------------------------------------------------------------------------------------------


def _title(terminal: Terminal, item: Item) -> str:
    signal = item.signal
    parts = [terminal.paint(signal.name or "(no name)", 1)]
    if signal.kind is SignalKind.SPAN:
        parts.append(signal.span_kind)
        if signal.start_time_ns and signal.time_ns >= signal.start_time_ns:
            parts.append(f"{(signal.time_ns - signal.start_time_ns) / 1e6:.1f} ms")
        if signal.status_code == "error":
            parts.append(terminal.paint("error", 31))
    elif signal.kind is SignalKind.SPAN_EVENT and signal.span is not None:
        parts.append(f"in {signal.span.name}")
    elif signal.kind is SignalKind.LOG:
        parts[0] = terminal.paint(signal.name or _short(signal.body, 60), 1)
        if signal.severity_text or signal.severity_number:
            parts.append(signal.severity_text or str(signal.severity_number))
    service = signal.resource.attributes.get("service.name")
    if isinstance(service, str) and service:
        parts.append(service)
    kind = terminal.paint(f"{signal.kind.value.replace('_', ' '):<{_LABEL}}", 2)
    return kind + terminal.paint(" · ", 2).join(parts)


def _why(item: Item) -> str:
    reason = item.decision.reason or DropReason.INVALID
    if reason is DropReason.RULE and item.decision.rule:
        return f"dropped by rule {item.decision.rule}"
    if reason is DropReason.IDENTITY_ONLY:
        return f"{reason.value}: rule {item.decision.rule} captures no event"
    return f"{reason.value}: {_REASONS.get(reason, '')}".rstrip(": ")


def _decided_by(item: Item) -> str:
    if any(event.event == posthog.EVENT_EXCEPTION for event in item.decision.events):
        return "none: it is an exception"
    if item.signal.attributes.get(posthog.EVENT) is None and any(
        event.event == posthog.EVENT_FLAG_CALLED for event in item.decision.events
    ):
        return "none: it is the evaluation of a feature flag"
    return "none: it is tagged with posthog.* attributes"


def _show_event(terminal: Terminal, event: CaptureEvent) -> None:
    who = terminal.paint(event.distinct_id, 36)
    if event.properties.get("$process_person_profile") is False:
        who += terminal.paint(" (personless)", 2)
    terminal.labelled("event", f"{terminal.paint(event.event, 1, 32)}  {who}")
    terminal.labelled("", terminal.paint(f"{iso_time(event.timestamp_ns)}  {event.uuid}", 2))
    names = sorted(event.properties, key=lambda name: (name.startswith("$"), name))
    width = min(max((len(name) for name in names), default=0), 28)
    for name in names:
        _show_property(terminal, name, event.properties[name], width)


def _show_property(terminal: Terminal, name: str, value: Any, width: int) -> None:
    label = f"{_CONTINUED}{terminal.paint(f'{name:<{width}}', 34)}  "
    column = len(_CONTINUED) + width + 2
    if name == "$exception_list" and isinstance(value, list):
        first, *more = _exception_lines(terminal, cast("list[dict[str, Any]]", value))
        indent = _CONTINUED + "  "
    else:
        first, *more = json_lines(value, terminal.width - column)
        if more:
            # What needs several lines gets the whole width, under the property's name.
            first, *more = json_lines(value, terminal.width - len(_CONTINUED) - 2)
        indent = _CONTINUED
    terminal.line(label + first)
    for line in more:
        terminal.line(indent + line)


def _exception_lines(terminal: Terminal, exceptions: list[dict[str, Any]]) -> list[str]:
    """Exceptions as people read them, the frames of the app marked; `--json` has them as they are sent."""
    lines: list[str] = []
    for exception in exceptions:
        mechanism = cast("dict[str, Any]", exception.get("mechanism") or {})
        handled = {True: "handled", False: "unhandled"}.get(cast("bool", mechanism.get("handled")))
        notes = [str(part) for part in (exception.get("module"), mechanism.get("source"), handled) if part]
        head = f"{exception.get('type')}: {exception.get('value')}"
        lines.append(f"{terminal.paint(head, 31)}{terminal.paint('  ' + ', '.join(notes), 2) if notes else ''}")
        stack = cast("dict[str, Any]", exception.get("stacktrace") or {})
        lines.extend(_frame_line(terminal, frame) for frame in cast("list[dict[str, Any]]", stack.get("frames") or []))
    return lines or ["[]"]


def _frame_line(terminal: Terminal, frame: dict[str, Any]) -> str:
    mark = "▸" if frame.get("in_app") else " "
    # Whoever looks at a recording wants to open the app's file; the shorter name is for grouping.
    path = (frame.get("in_app") and frame.get("abs_path")) or frame.get("filename", "?")
    line = f"{mark} {path}:{frame.get('lineno', '?')} in {frame.get('function', '?')}"
    context = str(frame.get("context_line") or "").strip()
    return line + (terminal.paint(f"  {context}", 2) if context else "")


def json_lines(value: Any, room: int, suffix: str = "") -> list[str]:
    """JSON in as few lines as fit into `room` columns: what fits stays on one line, the rest is opened and indented."""
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or not value or len(text) + len(suffix) <= room:
        return [text + suffix]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    members = _members(cast("Any", value))
    lines = [opening]
    for index, (key, member) in enumerate(members):
        comma = "," if index < len(members) - 1 else ""
        head = f"{json.dumps(key, ensure_ascii=False)}: " if key is not None else ""
        first, *more = json_lines(member, room - 2 - (len(head) if _is_flat(member) else 0), comma)
        lines.append(f"  {head}{first}")
        lines.extend(f"  {line}" for line in more)
    return [*lines, closing + suffix]


def _members(value: dict[str, Any] | list[Any]) -> list[tuple[str | None, Any]]:
    return list(value.items()) if isinstance(value, dict) else [(None, member) for member in value]


def _is_flat(value: Any) -> bool:
    return not isinstance(value, (dict, list))


def _changes(events: tuple[CaptureEvent, ...]) -> list[tuple[str, str]]:
    """What happens to people and groups, in one line each."""
    changes: list[tuple[str, str]] = []
    for event in events:
        properties = event.properties
        for key, verb in (("$set", "set"), ("$set_once", "set once")):
            values = properties.get(key)
            if isinstance(values, Mapping) and values:
                assigned = ", ".join(f"{name} = {_short(value)}" for name, value in cast("Any", values).items())
                changes.append(("person", f"{event.distinct_id}: {verb} {assigned}"))
        unset = properties.get("$unset")
        if isinstance(unset, list) and unset:
            changes.append(("person", f"{event.distinct_id}: unset {', '.join(map(str, cast('list[Any]', unset)))}"))
        if event.event == posthog.EVENT_CREATE_ALIAS:
            changes.append(("person", f"{event.distinct_id}: is also known as {properties.get('alias')}"))
        if event.event == posthog.EVENT_IDENTIFY and properties.get("$anon_distinct_id"):
            changes.append(("person", f"{event.distinct_id}: was {properties['$anon_distinct_id']} before"))
        if event.event == posthog.EVENT_GROUP_IDENTIFY:
            values = cast("Mapping[str, Any]", properties.get("$group_set") or {})
            assigned = ", ".join(f"{name} = {_short(value)}" for name, value in values.items())
            changes.append(("group", f"{properties.get('$group_type')} {properties.get('$group_key')}: set {assigned}"))
    return list(dict.fromkeys(changes))


def _notice(notice: Notice) -> str:
    return notice.value.replace("_", " ")


def _short(value: Any, limit: int = 40) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _show_counted(terminal: Terminal, label: str, counter: Counter[str]) -> None:
    """Names with their numbers, the most frequent first, in as many lines as they need."""
    parts = [f"{name} ×{count}" for name, count in counter.most_common(_MOST)]
    if len(counter) > _MOST:
        parts.append(f"and {len(counter) - _MOST} more")
    room = terminal.width - len(_CONTINUED)
    text = ""
    for part in parts:
        if text and len(text) + len(part) + 3 > room:
            terminal.labelled(label, text)
            label = text = ""
        text += f" · {part}" if text else part
    if text:
        terminal.labelled(label, text)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
