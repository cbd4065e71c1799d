"""`$exception` events: validation and the fingerprint that makes issues (posthog-wire §3.2 to §3.4).

The fingerprint covers, for each exception of the list: its type, and its message where it has no stack; then the
in-app frames, or the first frame where none is in-app; of a frame the file, module and function (line, column and
language too where the function is not resolved).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, cast

PLATFORMS = frozenset(
    {
        "python",
        "ruby",
        "web:javascript",
        "node:javascript",
        "go",
        "php",
        "hermes",
        "java",
        "dart",
        "apple",
        "native",
        "rust",
        "custom",
        "javascript",
    }
)
_REQUIRED = {"python": ("filename", "function"), "custom": ("lang", "function")}
_LIBRARY_PATH = re.compile(r"[/\\](?:dist|site)-packages[/\\]|[/\\][Ll]ib[/\\]python\d+(?:\.\d+)?[/\\]")
_MAX_EXCEPTIONS = 50


@dataclass(frozen=True, slots=True)
class Grouping:
    """Where an exception event goes: to the issue of `fingerprint`, or nowhere with `errors`."""

    fingerprint: str = ""
    errors: tuple[str, ...] = ()


def group(properties: dict[str, Any]) -> Grouping:
    """Validates `$exception_list` and computes the fingerprint; an explicit `$exception_fingerprint` wins."""
    errors = tuple(_faults(properties))
    if errors:
        return Grouping(errors=errors)
    given = properties.get("$exception_fingerprint")
    if isinstance(given, str) and given:
        return Grouping(fingerprint=given)
    exceptions = cast("list[dict[str, Any]]", properties["$exception_list"])
    return Grouping(fingerprint=_fingerprint(exceptions))


def title_of(properties: dict[str, Any]) -> tuple[str, str]:
    """Type and message of the outermost exception, for people."""
    listed = properties.get("$exception_list")
    first: Any = cast("list[Any]", listed)[0] if isinstance(listed, list) and listed else None
    entry = cast("dict[str, Any]", first) if isinstance(first, dict) else {}
    return str(entry.get("type") or "Error"), str(entry.get("value") or "")


def frame_in_app(frame: dict[str, Any]) -> bool:
    """Whether the server takes the frame for the app's own: missing means true, library code is demoted."""
    if frame.get("in_app", True) is False:
        return False
    if frame.get("platform") != "python":
        return True
    path = frame.get("abs_path") or frame.get("filename") or ""
    return not (isinstance(path, str) and _LIBRARY_PATH.search(path))


def _faults(properties: dict[str, Any]) -> list[str]:
    listed = properties.get("$exception_list")
    if not isinstance(listed, list):
        return ["$exception_list is missing or not a list"]
    entries = cast("list[Any]", listed)
    if not entries:
        return ["$exception_list is empty"]
    found = [f"$exception_list has {len(entries)} entries, more than 50"] if len(entries) > _MAX_EXCEPTIONS else []
    for index, entry in enumerate(entries):
        found += [f"$exception_list[{index}]{fault}" for fault in _entry_faults(entry)]
    return found


def _entry_faults(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return [" is not an object"]
    exception = cast("dict[str, Any]", entry)
    found = [
        f".{key} is not {wanted}"
        for key, kind, wanted in (
            ("type", str, "a string"),
            ("value", str, "a string"),
            ("module", str, "a string"),
            ("mechanism", dict, "an object"),
            ("stacktrace", dict, "an object"),
        )
        if exception.get(key) is not None and not isinstance(exception[key], kind)
    ]
    thread = exception.get("thread_id")
    if thread is not None and (not isinstance(thread, int) or not -(2**31) <= thread < 2**31):
        found.append(".thread_id is not a 32-bit integer")
    stack = exception.get("stacktrace")
    if isinstance(stack, dict):
        found += _stack_faults(cast("dict[str, Any]", stack))
    return found


def _stack_faults(stack: dict[str, Any]) -> list[str]:
    # A tuple: what was sent may not even be hashable.
    if stack.get("type") not in ("raw", "resolved"):
        return [".stacktrace.type is neither `raw` nor `resolved`"]
    frames = stack.get("frames")
    if not isinstance(frames, list):
        return [".stacktrace.frames is not a list"]
    found: list[str] = []
    for index, item in enumerate(cast("list[Any]", frames)):
        where = f".stacktrace.frames[{index}]"
        if not isinstance(item, dict):
            found.append(f"{where} is not an object")
            continue
        frame = cast("dict[str, Any]", item)
        platform = frame.get("platform")
        if not isinstance(platform, str) or platform not in PLATFORMS:
            found.append(f"{where}.platform `{platform}` is unknown")
            continue
        found += [
            f"{where}.{key} is required" for key in _REQUIRED.get(platform, ()) if not isinstance(frame.get(key), str)
        ]
    return found


def _fingerprint(exceptions: list[dict[str, Any]]) -> str:
    digest = hashlib.sha512()
    for exception in exceptions:
        digest.update(str(exception.get("type") or "Error").encode())
        stack = cast("dict[str, Any]", exception.get("stacktrace") or {})
        frames = cast("list[dict[str, Any]]", stack.get("frames", []))
        if not frames:
            digest.update(str(exception.get("value") or "").encode())
            continue
        in_app = [frame for frame in frames if frame_in_app(frame)]
        resolved = [frame for frame in in_app if _resolved(frame)]
        for frame in (resolved or in_app) or frames[:1]:
            _add_frame(digest, frame)
    return digest.hexdigest()


def _resolved(frame: dict[str, Any]) -> bool:
    return bool(frame.get("resolved", False)) if frame.get("platform") == "custom" else bool(frame.get("function"))


def _add_frame(digest: hashlib._Hash, frame: dict[str, Any]) -> None:
    for key in ("filename", "module", "function"):
        if frame.get(key) is not None:
            digest.update(str(frame[key]).encode())
    if not _resolved(frame):
        for value in (frame.get("lineno"), frame.get("colno"), frame.get("lang") or frame.get("platform")):
            if value is not None:
                digest.update(str(value).encode())
