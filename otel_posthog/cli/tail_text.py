"""One line for each document of `/tail`, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TextIO

from otel_posthog.cli.explain_text import Terminal, unpainted

_QUIET: Final = frozenset(
    {
        *("$lib", "$lib_version", "$process_person_profile", "$session_id", "$window_id"),
        *("$is_server", "$geoip_disable", "$span_id"),
    }
)
"""Properties that are of nearly every event, and left out of its line; `--json` shows them."""
_LAST: Final = frozenset({"service_name", "environment"})
"""With PostHog's own (`$…`), what stands after the event's own: a terminal cuts the end of a line."""
_MAX_VALUE: Final = 60


def show(document: Mapping[str, Any], stream: TextIO) -> None:
    """Prints one document as one line, cut to the width of a terminal; control characters are shown, never obeyed."""
    terminal = Terminal.for_stream(stream)
    head, rest = parts(terminal, document)
    if stream.isatty():
        room = terminal.width - len(unpainted(head)) - 2
        rest = rest if len(rest) <= room else rest[: max(room - 1, 0)] + "…"
    terminal.line(f"{head}  {rest}".rstrip())
    stream.flush()


def parts(terminal: Terminal, document: Mapping[str, Any]) -> tuple[str, str]:
    """What always fits into a line, painted, and the rest."""
    kind = document.get("type")
    if kind == "missed":
        return terminal.paint(f"! {document.get('count')} missed: more came than could be shown", 33), ""
    project = str(document.get("project", ""))
    signal: Mapping[str, Any] = document.get("signal") or {}
    properties: Mapping[str, Any] = document.get("properties") or {}
    if kind == "drop":
        name = f"{signal.get('kind', '')} {signal.get('name') or '(no name)'}"
        why = str(document.get("reason", "")) + (f" ({signal['rule']})" if signal.get("rule") else "")
        return f"{terminal.paint('○', 2)} {project}  {name} {terminal.paint(f'→ {why}', 33)}", ""
    mark = terminal.paint("●", 32) if kind == "event" else terminal.paint("↺", 33)
    time = str(document.get("timestamp", "")).partition("T")[2].rstrip("Z")[:12] or str(document.get("timestamp", ""))
    event = terminal.paint(str(document.get("event", "")), 1)
    head = f"{mark} {time}  {project}  {event}  {document.get('distinct_id', '')}"
    named = [name for name in properties if name not in _QUIET]
    named.sort(key=lambda name: name.startswith("$") or name in _LAST)
    return head, " ".join(f"{name}={_short(properties[name])}" for name in named)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"
