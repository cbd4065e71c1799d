"""Stack frames in PostHog's shape, and whether a frame is the app's own.

Python frames are `platform: python`. Frames of every other language are `platform: custom` with `lang`: it is the one
shape whose required fields are known for certain, and one frame that PostHog's server cannot read costs the whole
issue (`docs/decisions/0024-foreign-frames-are-custom.md`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar, cast

from otel_posthog.convert.text import clean_text, cut_bytes, without_credentials
from otel_posthog.model import JsonValue, LocalFrame
from otel_posthog.semconv import posthog

if TYPE_CHECKING:
    from otel_posthog.convert.traceback_text import ParsedFrame
    from otel_posthog.convert.values import Cleaner

Frame = dict[str, JsonValue]

MAX_FRAMES: Final = 128
"""Per exception: a recursion has a thousand equal ones. The outermost quarter and the innermost rest are kept."""
MAX_LINE: Final = 300
"""Characters of a source line; PostHog cuts there itself."""

_PACKAGES: Final = re.compile(r"[\\/](?:site|dist)-packages[\\/]")
_PYTHON_HOME: Final = re.compile(r"[\\/]lib[\\/]python\d[\d.]*t?[\\/]|[\\/]python[\d.-]*[\\/]lib[\\/]", re.IGNORECASE)
_ZIPPED: Final = re.compile(r"[\\/]python\d+\.zip[\\/]")
_TELEMETRY: Final = re.compile(r"[\\/](?:opentelemetry|otel_posthog|wrapt)[\\/]")

_MAX_KNOWN: Final = 1_024
_MAX_REMEMBERED: Final = 2_048
"""Characters of what a remembered frame is made of; with its source lines that is some 500."""
_MAX_INT: Final = 1 << 63
_ALL_OF_LOCAL: Final = attrgetter(*(field.name for field in fields(LocalFrame)))

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Ownership:
    """Tells the app's frames from those of libraries.

    Args:
        include: Module or path prefixes that are the app's although they look like libraries.
        exclude: Module or path prefixes that are not the app's; wins over `include`.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def python(self, path: str, module: str) -> bool:
        """Whether a Python frame is the app's own: not the standard library, not an installed package."""
        said = self.said(path, module)
        if said is not None:
            return said
        if path.startswith("<"):
            # "<frozen importlib._bootstrap>" is the interpreter's; "<string>" and "<stdin>" are somebody's code.
            return not path.startswith("<frozen")
        return not (_PACKAGES.search(path) or _PYTHON_HOME.search(path) or _ZIPPED.search(path))

    def said(self, path: str, module: str) -> bool | None:
        """What the configuration says about it; `None` where it says nothing."""
        if self.exclude and _among(path, module, self.exclude):
            return False
        if self.include and _among(path, module, self.include):
            return True
        return None


def _among(path: str, module: str, prefixes: tuple[str, ...]) -> bool:
    for prefix in prefixes:
        if module == prefix or module.startswith(f"{prefix}."):
            return True
        if path and ("/" in prefix or "\\" in prefix) and path.startswith(prefix):
            return True
    return False


class PythonFrames:
    """Makes the frames of Python tracebacks, and remembers them: an app fails at few places, and there again and again.

    Everything that a frame is made of is what it is remembered by; each event has copies of its own, which may be cut.
    Safe in any thread (single operations on a dict).

    Args:
        ownership: Tells the app's frames from libraries'.
    """

    __slots__ = ("_live", "_printed", "ownership")

    def __init__(self, ownership: Ownership) -> None:
        self.ownership = ownership
        self._printed: dict[tuple[str, str, int, str], tuple[Frame, int]] = {}
        self._live: dict[tuple[object, ...], tuple[Frame, int]] = {}

    def printed(self, frames: Sequence[ParsedFrame], cleaner: Cleaner) -> list[Frame]:
        """The frames of a traceback in text form; `cleaner` counts them."""
        made: list[Frame] = []
        known = self._printed
        for frame in frames:
            key = (frame.file, frame.function, frame.line, frame.source)
            found = known.get(key)
            if found is None:
                fresh = python_frame(*key, self.ownership)
                found = (fresh, frame_weight(fresh))
                if len(frame.file) + len(frame.function) + len(frame.source) <= _MAX_REMEMBERED:
                    if len(known) >= _MAX_KNOWN:
                        self._printed = known = {}
                    known[key] = found
            cleaner.weight += found[1]
            made.append(found[0].copy())
        return made

    def live(self, frames: Sequence[LocalFrame], cleaner: Cleaner) -> list[Frame]:
        """The frames of a live traceback; `cleaner` counts them."""
        made: list[Frame] = []
        known = self._live
        for frame in frames:
            key = _ALL_OF_LOCAL(frame)
            found = known.get(key)
            if found is None:
                fresh = local_frame(frame, self.ownership)
                found = (fresh, frame_weight(fresh))
                if _characters(frame) <= _MAX_REMEMBERED:
                    if len(known) >= _MAX_KNOWN:
                        self._live = known = {}
                    known[key] = found
            cleaner.weight += found[1]
            mine = found[0].copy()
            if "pre_context" in mine:
                mine["pre_context"], mine["post_context"] = mine["pre_context"].copy(), mine["post_context"].copy()
            made.append(mine)
        return made


def _characters(frame: LocalFrame) -> int:
    names = len(frame.filename) + len(frame.abs_path) + len(frame.function) + len(frame.module)
    return names + len("".join((frame.context_line or "", *frame.pre_context, *frame.post_context)))


def frame_weight(frame: Frame) -> int:
    """About how many bytes `frame` has as JSON: as `Cleaner.weight`, a sixth of them is what it never falls below."""
    weight = 2
    for key, value in frame.items():
        weight += len(key) + 6
        if isinstance(value, str):
            weight += len(value)
        elif isinstance(value, list):
            texts = cast("list[str]", value)
            weight += len("".join(texts)) + 4 * len(texts)
        else:
            weight += number_weight(value)
    return weight


def number_weight(value: object) -> int:
    """As `frame_weight`, of a number or a flag; so much for absurd ones that somebody looks closer."""
    return 4 if not isinstance(value, int) or -_MAX_INT < value < _MAX_INT else posthog.MAX_EVENT_BYTES


def python_frame(path: str, function: str, lineno: int, line: str, ownership: Ownership) -> Frame:
    """A frame of a Python traceback in text form."""
    path, function = clean_text(path), clean_text(function) or "<unknown>"
    filename, module = _inside_package(path)
    frame: Frame = {
        "platform": "python",
        "filename": filename,
        "abs_path": path,
        "function": function,
        "lineno": lineno,
        "in_app": ownership.python(path, module),
    }
    if module:
        frame["module"] = module
    if line:
        frame["context_line"] = _line(line)
    return frame


def local_frame(frame: LocalFrame, ownership: Ownership) -> Frame:
    """A frame of a live traceback."""
    path = clean_text(frame.abs_path or frame.filename)
    made: Frame = {
        "platform": "python",
        "filename": clean_text(frame.filename) or path or "<unknown>",
        "abs_path": path,
        "function": clean_text(frame.function) or "<unknown>",
        "lineno": frame.lineno,
        "in_app": ownership.python(path, frame.module),
    }
    if frame.module:
        made["module"] = clean_text(frame.module)
    if frame.context_line is not None:
        made["context_line"] = _line(frame.context_line)
        made["pre_context"] = [_line(line) for line in frame.pre_context[-5:]]
        made["post_context"] = [_line(line) for line in frame.post_context[:5]]
    return made


def custom_frame(
    lang: str, function: str, filename: str, lineno: int, module: str, in_app: bool, *, colno: int = 0
) -> Frame:
    """A frame of another language than Python; readable as it is, so already `resolved`."""
    frame: Frame = {
        "platform": "custom",
        "lang": lang,
        "function": clean_text(function) or "<unknown>",
        "resolved": True,
        "in_app": in_app,
    }
    if filename:
        frame["filename"] = clean_text(filename)
    if lineno:
        frame["lineno"] = lineno
    if colno:
        frame["colno"] = colno
    if module:
        frame["module"] = clean_text(module)
    return frame


def without_telemetry(frames: list[Frame]) -> list[Frame]:
    """`frames` (outermost first) without the leading ones of the tracing code that wraps the app's function."""
    for index, frame in enumerate(frames):
        if not _TELEMETRY.search(str(frame.get("abs_path") or "")):
            return frames[index:] if index else frames
    return frames


def bounded(frames: Sequence[Item]) -> list[Item]:
    """At most `MAX_FRAMES` of `frames`: the outermost quarter and the innermost rest."""
    if len(frames) <= MAX_FRAMES:
        return list(frames)
    head = MAX_FRAMES // 4
    return [*frames[:head], *frames[head - MAX_FRAMES :]]


def place(frame: Frame) -> str:
    """`file:line:function` with only the last component of the file.

    A live frame and a formatted traceback may spell the directory of one file differently.
    """
    file = str(frame.get("abs_path") or frame.get("filename") or "").replace("\\", "/").rpartition("/")[2]
    return f"{file}:{frame.get('lineno', 0)}:{frame.get('function', '')}"


def _inside_package(path: str) -> tuple[str, str]:
    """The path inside of site-packages (or the standard library), and the module that it spells.

    Of the app's own files only the name: a text does not say where its packages begin, and what stands before them is
    another directory on each machine. Issues are grouped by it.
    """
    # The last one: a package may bring a site-packages of its own.
    packages = list(_PACKAGES.finditer(path))
    found = packages[-1] if packages else _PYTHON_HOME.search(path)
    if found is None:
        return path.replace("\\", "/").rpartition("/")[2] or path, ""
    inside = path[found.end() :].replace("\\", "/")
    stem = inside[:-3] if inside.endswith(".py") else ""
    return inside, stem.removesuffix("/__init__").replace("/", ".")


def _line(line: str) -> str:
    line = line[:MAX_LINE]
    if line.isascii() and "\x00" not in line and "://" not in line:
        return line  # as nearly all are, of which a live frame has eleven: what follows would change nothing
    return cut_bytes(without_credentials(clean_text(line)), MAX_LINE * 4)
