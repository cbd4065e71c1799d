"""Stack traces of other languages -> frames, conservatively: a line that does not look exactly right is no frame.

Only the outermost (caught) exception's frames are read; `Caused by:` sections become exceptions of their own for the
JVM, where their form is fixed. The rest of the text is not lost: what yields no frame is kept as a property by the
caller.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from otel_posthog.convert.frames import Frame, Ownership, custom_frame

MAX_LINES: Final = 2_000
MAX_LINE: Final = 1_000

_JAVA_FRAME: Final = re.compile(r"\s*at (?:[^\s(]+/)?([\w$.<>]+)\.([\w$<>]+)\(([^()]*)\)")
_JAVA_HEAD: Final = re.compile(r"(?:Caused by: )?([a-zA-Z_][\w$.]*)(?:: (.*))?\Z")
_GO_FUNCTION: Final = re.compile(r"([\w./\-~%]+\.[\w.()*\[\]{}/·-]+?)\((?:[^()]*|\.\.\.)\)\Z")
_GO_PLACE: Final = re.compile(r"\s+(/?[^\s:][^:]*\.(?:go|s)):(\d+)(?: \+0x[0-9a-f]+)?\s*\Z")
_NODE_FRAME: Final = re.compile(
    r"\s*at (?:async )?(?:(?P<function>[^()]+?) \()?(?P<file>(?:file://|node:|[A-Za-z]:[\\/]|/|webpack)[^()]*?|[\w./<>-]+):(?P<line>\d+):(?P<column>\d+)\)?\s*\Z"
)
_RUBY_FRAME: Final = re.compile(r"\s*(?:from )?(?P<file>[^:\s][^:]*):(?P<line>\d+):in [`'](?P<function>[^']+)'")
_PHP_FRAME: Final = re.compile(r"#\d+ (?P<file>[^()]+?)\((?P<line>\d+)\): (?P<function>[^(]+)\(")
_DOTNET_FRAME: Final = re.compile(
    r"\s*at (?P<function>[\w.`<>+\[\],|$]+)\([^)]*\)(?: in (?P<file>.+?):line (?P<line>\d+))?\s*\Z"
)

_JAVA_LIBRARIES: Final = (
    "java.", "javax.", "jakarta.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala.", "groovy.", "clojure.",
    "org.springframework.", "org.apache.", "org.hibernate.", "org.eclipse.", "org.junit.", "io.netty.",
    "io.opentelemetry.", "reactor.", "io.undertow.", "com.fasterxml.", "com.google.common.", "akka.", "io.micrometer.",
)  # fmt: skip
_GO_RECORDING: Final = frozenset({"runtime", "runtime/debug", "panic", "go.opentelemetry.io/otel/sdk/trace"})
"""Packages that record the stack (`RecordError(err, WithStackTrace(true))`). As the innermost frame they would be the
same place for every error, and two errors of one type in a trace would pass for one."""
_DOTNET_LIBRARIES: Final = ("System.", "Microsoft.", "OpenTelemetry.", "Newtonsoft.", "Npgsql.", "Grpc.")
_LIBRARY_PATHS: Final = {
    "go": ("/go/pkg/mod/", "/usr/local/go/src/", "/usr/lib/go", "/vendor/", "/libexec/src/"),
    "javascript": ("/node_modules/", "node:"),
    "ruby": ("/gems/", "/lib/ruby/", "<internal:"),
    "php": ("/vendor/",),
}


@dataclass(slots=True)
class ForeignException:
    """One exception of a foreign stack text; `type` is "" for the first where the text does not repeat it."""

    type: str = ""
    value: str = ""
    frames: list[Frame] = field(default_factory=list[Frame])


def parse_foreign(text: str, language: str, ownership: Ownership) -> list[ForeignException]:
    """The exceptions in `text`, the caught one first; empty where nothing was recognised.

    Args:
        text: `exception.stacktrace`.
        language: `telemetry.sdk.language` of the resource.
        ownership: Tells the app's frames from libraries'.
    """
    parser = _PARSERS.get(language.strip().lower())
    if parser is None:
        return []
    # Bounded lines keep the expressions above linear in practice: no stack line is this long.
    return parser([line[:MAX_LINE] for line in text.split("\n", MAX_LINES)[:MAX_LINES]], ownership)


def _java(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    chain = [ForeignException()]
    suppressed = False
    for line in lines:
        match = _JAVA_FRAME.match(line)
        if match is not None:
            if not suppressed:
                _java_frame(match, ownership, chain[-1].frames)
        elif line.startswith("Caused by: "):
            head = _JAVA_HEAD.match(line.rstrip())
            chain.append(ForeignException(head[1] if head else "", (head[2] or "") if head else ""))
            suppressed = False
        elif line.lstrip().startswith("Suppressed: "):
            suppressed = True
    chain = [exception for index, exception in enumerate(chain) if exception.frames or (index and exception.type)]
    for exception in chain:
        exception.frames.reverse()
    return chain if chain and chain[0].frames and not chain[0].type else []


def _java_frame(match: re.Match[str], ownership: Ownership, frames: list[Frame]) -> None:
    module, function, place = match[1], match[2], match[3]
    file, _, line = place.partition(":")
    said = ownership.said("", module)
    in_app = said if said is not None else not f"{module}.".startswith(_JAVA_LIBRARIES)
    known = file not in ("Native Method", "Unknown Source")
    frames.append(custom_frame("java", function, file if known else "", _number(line), module, in_app))


def _go(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    frames: list[Frame] = []
    for above, line in pairwise(lines):
        place = _GO_PLACE.match(line)
        function = _GO_FUNCTION.match(above.removeprefix("created by ").partition(" in goroutine ")[0].rstrip())
        if place is None or function is None:
            continue
        package, _, name = function[1].rpartition("/")
        module, _, short = name.partition(".")
        module = f"{package}/{module}" if package else module
        if module in _GO_RECORDING:
            continue
        frames.append(
            custom_frame("go", short, place[1], _number(place[2]), module, _own("go", place[1], module, ownership))
        )
    return _one(frames, innermost_first=True)


def _node(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    frames: list[Frame] = []
    for line in lines:
        if line.lstrip().startswith("[cause]"):
            break
        match = _NODE_FRAME.match(line)
        if match is not None:
            file = match["file"].removeprefix("file://")
            frames.append(
                custom_frame(
                    "javascript",
                    match["function"] or "<anonymous>",
                    file,
                    _number(match["line"]),
                    "",
                    _own("javascript", file, "", ownership),
                    colno=_number(match["column"]),
                )
            )
    return _one(frames, innermost_first=True)


def _ruby(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    matches = [match for line in lines if (match := _RUBY_FRAME.match(line)) is not None]
    return _one([_simple("ruby", match, ownership) for match in matches], innermost_first=True)


def _php(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    matches = [match for line in lines if (match := _PHP_FRAME.match(line)) is not None]
    return _one([_simple("php", match, ownership) for match in matches], innermost_first=True)


def _dotnet(lines: list[str], ownership: Ownership) -> list[ForeignException]:
    frames: list[Frame] = []
    for line in lines:
        if line.lstrip().startswith("--- End of inner exception"):
            frames.clear()
            continue
        match = _DOTNET_FRAME.match(line)
        if match is not None:
            module, _, function = match["function"].rpartition(".")
            said = ownership.said(match["file"] or "", module)
            in_app = said if said is not None else not f"{module}.".startswith(_DOTNET_LIBRARIES)
            frames.append(custom_frame("csharp", function, match["file"] or "", _number(match["line"]), module, in_app))
    return _one(frames, innermost_first=True)


def _simple(lang: str, match: re.Match[str], ownership: Ownership) -> Frame:
    file = match["file"].strip()
    return custom_frame(
        lang, match["function"].strip(), file, _number(match["line"]), "", _own(lang, file, "", ownership)
    )


def _own(lang: str, path: str, module: str, ownership: Ownership) -> bool:
    said = ownership.said(path, module)
    return said if said is not None else not any(part in path for part in _LIBRARY_PATHS[lang])


def _one(frames: list[Frame], *, innermost_first: bool) -> list[ForeignException]:
    # PostHog wants the outermost call first and the crash last.
    if innermost_first:
        frames.reverse()
    return [ForeignException(frames=frames)] if frames else []


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


_PARSERS: Final[dict[str, Callable[[list[str], Ownership], list[ForeignException]]]] = {
    "java": _java,
    "kotlin": _java,
    "scala": _java,
    "go": _go,
    "nodejs": _node,
    "webjs": _node,
    "javascript": _node,
    "ruby": _ruby,
    "php": _php,
    "dotnet": _dotnet,
}
