"""Python tracebacks as text -> exceptions with frames; never raises, whatever the text.

Reads what CPython's `traceback` module prints (3.10 to 3.14): chains, exception groups, `^^^^` markers, repeated lines,
syntax errors, notes, messages of many lines; and what arrives damaged: without a header, cut off, indented, with
Windows line ends.

Structure of the text. A *document* is a chain: segments, each with a header, frames and `Type: message`, joined by one
of two sentences; the exception that was caught is the last one. Below an exception group hang the documents of its
members, told apart by a margin of `|` and `+`:

      + Exception Group Traceback (most recent call last):
      |   File "app.py", line 1, in main
      | ExceptionGroup: two (2 sub-exceptions)
      +-+---------------- 1 ----------------
        | ValueError: one
        +---------------- 2 ----------------
        | KeyError: 'two'
        +------------------------------------
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_TEXT: Final = 512 * 1024
"""Characters that are looked at; the end is what matters, so the beginning is skipped."""
MAX_LINES: Final = 20_000
MAX_NESTING: Final = 20

_CAUSE: Final = "The above exception was the direct cause of the following exception:"
_CONTEXT: Final = "During handling of the above exception, another exception occurred:"
_HEADER: Final = re.compile(r"\s*(?:Exception Group )?Traceback \(most recent call last\):\s*\Z")
_FRAME: Final = re.compile(r'\s+File "(?P<file>.+)", line (?P<line>\d+)(?:, in (?P<function>.*))?\s*\Z')
_UNINDENTED_FRAME: Final = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.*?)\s*\Z')
_REPEATED: Final = re.compile(r"\s+\[Previous line repeated (?P<times>\d{1,9}) more times?\]\s*\Z")
_MAX_REPEATS: Final = 128
"""As many frames as an event holds of one exception at the most: more would be cut out again."""
_MARKERS: Final = " \t~^"
_TYPE: Final = re.compile(r"(?P<type>[^\W\d][\w.<>]*)(?::(?: (?P<value>.*)|))?\Z")
_MANY_FRAMES: Final = 4_096
_MAX_HEADS: Final = 1_024
_MAX_HEAD: Final = 300
"""Characters of a line that is remembered."""

# A group that was never raised has no header.
_GROUP_START: Final = re.compile(r" *\+ Exception Group Traceback \(most recent call last\):\s*\Z| *\+-\+-+ 1 -+\s*\Z")
_MARGIN: Final = re.compile(r"(?P<indent> *)(?P<mark>[|+])(?P<rest>.*)\Z")
_FIRST_MEMBER: Final = re.compile(r"-\+-+ (?:\d+|\.\.\.) -+\s*\Z")
_NEXT_MEMBER: Final = re.compile(r"-+ (?:\d+|\.\.\.) -+\s*\Z")
_LAST_RULE: Final = re.compile(r"-+\s*\Z")


@dataclass(slots=True)
class ParsedFrame:
    """One `File "…", line n, in f` with the source line below it."""

    file: str
    line: int
    function: str
    source: str = ""


@dataclass(slots=True)
class ParsedException:
    """One exception of a parsed text.

    Attributes:
        type: As printed, usually with its module; "" where the text was cut off before it.
        value: The message, all lines.
        frames: Outermost call first.
        cause: What it was raised from, or while handling.
        relation: `cause` or `context`; how `cause` hangs on it.
        members: Of an exception group.
    """

    type: str = ""
    value: str = ""
    frames: list[ParsedFrame] = field(default_factory=list[ParsedFrame])
    cause: ParsedException | None = None
    relation: str = ""
    members: list[ParsedException] = field(default_factory=list["ParsedException"])


class FrameHeads:
    """What the lines `File "…", line n, in f` say, by line: an app fails at few places, and there again and again.

    Safe in any thread (single operations on a dict).
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, int, str | None]] = {}

    def read(self, line: str) -> tuple[str, int, str | None] | None:
        """(file, line number, function) of `line`, without a function where nothing was called; `None` for others."""
        known = self._known.get(line)
        if known is not None:
            return known
        # Most lines are no such line, and looking for six characters is quicker than two expressions that fail.
        match = (_FRAME.match(line) or _UNINDENTED_FRAME.match(line)) if 'File "' in line else None
        if match is None:
            return None
        number, function = match["line"], match["function"]
        # A syntax error points at a place, but nothing was called there.
        found = (
            match["file"],
            int(number) if len(number) < 10 else 0,
            function if function is None else function.strip(),
        )
        if len(line) <= _MAX_HEAD:
            if len(self._known) >= _MAX_HEADS:
                self._known = {}
            self._known[line] = found
        return found


@dataclass(slots=True)
class _Document:
    """Lines without their margin, and the members of groups after the line at which they were printed."""

    lines: list[str] = field(default_factory=list[str])
    groups: dict[int, list[_Document]] = field(default_factory=dict[int, "list[_Document]"])


def parse_traceback(text: str, heads: FrameHeads | None = None) -> ParsedException | None:
    """The caught exception of `text`, with all that hangs on it; `None` where `text` is no Python traceback.

    Args:
        text: Any.
        heads: Remembers lines from one text to the next; nothing is remembered without it.
    """
    if len(text) > MAX_TEXT:
        text = text[-MAX_TEXT:]
    if 'File "' not in text and "Traceback (most recent call last)" not in text:
        return None
    # Not `splitlines`: a message may hold form feeds and other exotic line ends.
    lines = text.replace("\r\n", "\n").split("\n")[-MAX_LINES:]
    heads = heads if heads is not None else FrameHeads()
    # Each line is asked only where the text has what every answer begins with.
    if _may_group(text) and any(_GROUP_START.match(line) for line in lines):
        return _chain(_documents(lines), 0, heads)
    if _CAUSE in text or _CONTEXT in text:
        return _chain(_Document(lines), 0, heads)
    return _segment(_Document(lines), 0, len(lines), 0, heads)


def _may_group(text: str) -> bool:
    return "+-+-" in text or "+ Exception Group Traceback" in text


def _documents(lines: list[str]) -> _Document:
    """Takes the margins away. Text at the outermost margin belongs to the same chain as text without one."""
    root = _Document()
    # (margin column, document): the innermost open one last. The outermost group is printed at column 2.
    open_documents: list[tuple[int, _Document]] = [(2, root)]
    for line in lines:
        match = _MARGIN.match(line)
        if match is None:
            if len(open_documents) > 1 and line.strip():
                del open_documents[1:]
            open_documents[-1][1].lines.append(line)
            continue
        column, rest = len(match["indent"]), match["rest"]
        while len(open_documents) > 1 and open_documents[-1][0] > column:
            open_documents.pop()
        here = open_documents[-1][1]
        if match["mark"] == "|":
            here.lines.append(rest.removeprefix(" "))
        elif _FIRST_MEMBER.match(rest):
            member = _Document()
            if here.lines and len(open_documents) <= MAX_NESTING:
                here.groups.setdefault(len(here.lines) - 1, []).append(member)
            open_documents.append((column + 2, member))
        elif _NEXT_MEMBER.match(rest) and len(open_documents) > 1:
            open_documents.pop()
            parent, member = open_documents[-1][1], _Document()
            if parent.lines:
                parent.groups.setdefault(len(parent.lines) - 1, []).append(member)
            open_documents.append((column, member))
        elif _LAST_RULE.match(rest) and len(open_documents) > 1:
            open_documents.pop()
        else:
            here.lines.append(rest.removeprefix(" "))
    return root


def _chain(document: _Document, depth: int, heads: FrameHeads) -> ParsedException | None:
    """The last exception of the chain in `document`, the earlier ones hanging on it as causes."""
    current: ParsedException | None = None
    relation = ""
    for start, end, joint in _segments(document.lines):
        parsed = _segment(document, start, end, depth, heads)
        if parsed is None:
            continue
        parsed.cause, parsed.relation = current, relation if current is not None else ""
        current, relation = parsed, joint
    return current


def _segments(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(first line, line after the last, how the *next* segment hangs on this one)."""
    start, quoted = 0, False
    for index, line in enumerate(lines):
        text = line.strip()
        if text == '"""':
            # A remote traceback (multiprocessing, concurrent.futures) is printed inside of a message, in quotes.
            quoted = not quoted
        elif not quoted and text in (_CAUSE, _CONTEXT):
            yield start, index, "cause" if text == _CAUSE else "context"
            start = index + 1
    yield start, len(lines), ""


def _segment(document: _Document, start: int, end: int, depth: int, heads: FrameHeads) -> ParsedException | None:
    lines = document.lines
    found = ParsedException()
    index = start
    seen_header = False
    # 1. To the header, or to the first frame of a text that lost its header.
    while index < end:
        if _HEADER.match(lines[index]):
            seen_header, index = True, index + 1
            break
        if heads.read(lines[index]) is not None:
            break
        index += 1
    if index == end and not seen_header:
        # An exception that was never raised has no traceback: only its last line.
        index = start
    # 2. Frames, each with the source lines and markers below it.
    index = _read_frames(lines, index, end, found, heads)
    # 3. The rest is `Type: message`, notes included.
    _read_message(lines, index, end, found)
    for position, members in document.groups.items():
        if start <= position < end and depth < MAX_NESTING:
            parsed = (_chain(member, depth + 1, heads) for member in members)
            found.members.extend(member for member in parsed if member is not None)
    return found if found.type or found.frames else None


def _read_frames(lines: list[str], index: int, end: int, found: ParsedException, heads: FrameHeads) -> int:
    frame: ParsedFrame | None = None
    read, frames = heads.read, found.frames
    while index < end:
        line = lines[index]
        head = read(line)
        if head is not None:
            frame = None
            file, number, function = head
            if function is not None:
                frame = ParsedFrame(file, number, function)
                frames.append(frame)
        elif not line or line.isspace():
            pass
        elif not line[0].isspace():
            break
        elif "[Previous line" in line and (repeated := _REPEATED.match(line)):
            # The frames that the text left out: a live traceback has them, and both must look alike.
            # A text made to blow up says it again and again: then it stays as short as it is.
            if frame is not None and len(frames) < _MANY_FRAMES:
                frames.extend([frame] * min(int(repeated["times"]), _MAX_REPEATS))
            frame = None
        elif frame is not None and not frame.source and line.strip(_MARKERS):
            frame.source = line.strip()
        index += 1
    return index


def _read_message(lines: list[str], index: int, end: int, found: ParsedException) -> None:
    while index < end and not lines[index].strip():
        index += 1
    if index == end:
        return
    match = _TYPE.match(lines[index].strip())
    if match is None:
        return
    # "<exception str() failed>" and the like stay in the value; a word with blanks is no type.
    found.type = match["type"]
    rest = [match["value"] or "", *lines[index + 1 : end]]
    found.value = "\n".join(rest).strip()
