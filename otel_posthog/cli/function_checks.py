"""What `status`, `doctor` and `rules check` say of the functions that a rules file names: each looked for, none run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from otel_posthog.cli.findings import Finding, ok, problem, warn
from otel_posthog.rules.functions import FunctionEvent

_INSTRUMENTOR = "otel_posthog.instrumentation.functions"


@dataclass(frozen=True, slots=True)
class FunctionState:
    """One function.

    Args:
        target: As the file names it.
        place: File and line.
        level: As of a `Finding`; `warn` where it may only not be here.
        what: How it stands: wrapped, waiting, or what is missing.
    """

    target: str
    place: str
    level: str
    what: str


def function_states(events: Iterable[FunctionEvent], modules: Mapping[str, ModuleType]) -> list[FunctionState]:
    """How the functions of a rules file stand, in the file's order.

    Args:
        events: The file's.
        modules: Loaded modules: where our instrumentation runs in this process, it knows.
    """
    from otel_posthog.instrumentation.seeking import missing_function

    # A command's own path begins with the folder of the command, the app's as a rule with this one.
    here = [str(Path.cwd())]
    instrumentation: Any = modules.get(_INSTRUMENTOR)
    running = instrumentation.PostHogFunctionsInstrumentor() if instrumentation is not None else None
    found: dict[str, FunctionState] = {}
    for event in events:
        if event.target in found:
            continue
        outcome = running.state(event.target) if running is not None and running.patches is not None else None
        if outcome is not None:
            level, what = ("problem", outcome) if outcome else ("ok", "wrapped")
        elif (missing := missing_function(event.module, event.qualname, here)) is not None:
            level = "warn" if missing.package else "problem"
            what = missing.what
        else:
            level, what = "ok", "there; wrapped when its module is imported"
        found[event.target] = FunctionState(event.target, event.place, level, what)
    return list(found.values())


def findings(states: Iterable[FunctionState]) -> Iterator[Finding]:
    """The same as the doctor says it."""
    for state in states:
        what = f"{state.target}: {state.what} ({state.place})"
        if state.level == "ok":
            yield ok("functions", f"{state.target}: {state.what}")
        elif state.level == "warn":
            yield warn(
                "functions",
                what,
                "if the app does not find it either, its calls become no events",
                "Run this in the app's folder and environment, or mend the name.",
            )
        else:
            yield problem("functions", what, "its calls become no events", "Mend the name in the rules file.")


__all__ = ["FunctionState", "findings", "function_states"]
