"""`capturing()`: for a block, everything that would go to PostHog goes into a list."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from otel_posthog import assembly
from otel_posthog.assembly import Runtime
from otel_posthog.config.environment import OURS
from otel_posthog.config.load import load_settings
from otel_posthog.config.settings import Settings
from otel_posthog.lane.worker import Worker
from otel_posthog.testing.captured import CapturedEvents
from otel_posthog.testing.clock import Clock

PROJECT: Final = "phc_test"
"""Project API key in tests."""

_INSTRUMENTORS: Final = {
    "posthog_celery": ("frameworks", "PostHogCeleryInstrumentor"),
    "posthog_django": ("frameworks", "PostHogDjangoInstrumentor"),
    "posthog_fastapi": ("frameworks", "PostHogFastAPIInstrumentor"),
    "posthog_flask": ("frameworks", "PostHogFlaskInstrumentor"),
    "posthog_functions": ("functions", "PostHogFunctionsInstrumentor"),
    "posthog_sdk": ("posthog_sdk", "PostHogSdkInstrumentor"),
    "posthog_starlette": ("frameworks", "PostHogStarletteInstrumentor"),
}
"""Entry points of `opentelemetry_instrumentor` -> module and class."""

LANE: Final[Mapping[str, Any]] = {"endpoint": "http://127.0.0.1:9", "token": PROJECT, "mode": "direct"}
"""What an open gate has. Nothing listens there, and nothing is sent there."""

_PATIENCE: Final = 60.0
_SECTIONS: Final = ("convert.", "identity.", "rules.", "browser.", "record_unsampled")
KEPT: Final = frozenset(row.name for row in OURS if row.setting.startswith(_SECTIONS))
"""Variables that count in a test: those that say what becomes of things, not where it goes."""


@contextmanager
def capturing(
    *,
    rules: str | Path | None = None,
    directory: str | Path = ".",
    clock: Clock | None = None,
    seed: str = "",
    real_time: bool = False,
    **settings: object,
) -> Generator[CapturedEvents]:
    """Captures everything that the block does, in any thread of this process; sends nothing.

    Calls of this package, spans and log records of the global providers (see `CapturedEvents.attach` for others; where
    the app sets none, of providers that are there for the block), lines of `logging`, exceptions, flag evaluations,
    functions by configuration, and what the `posthog` package would send. Frameworks are instrumented, so that each
    request has a person of its own.

    Settings and rules are those of production (`OTEL_POSTHOG_*`, `[tool.otel_posthog]`), apart from where and how
    events are sent; whether the gate is open does not matter. The block begins with an empty OpenTelemetry context.
    Afterwards all is as it was.

    Fixture `captured_events` is this for pytest. In `unittest.TestCase.setUp` it is
    `self.events = self.enterContext(capturing())`; docs/testing.md has it for Python 3.10.

    Args:
        rules: Rules instead of the app's: a file, or YAML text.
        directory: Where the `pyproject.toml` is looked for.
        clock: When things happen; one of its own by default.
        seed: Of trace ids; the name of a test.
        real_time: Time and ids are real ones.
        **settings: Further settings by the variable's name without `OTEL_POSTHOG_`, in lower case.

    Raises:
        ConfigError: A setting or a rule is wrong.
    """
    clock = clock or Clock()
    with ExitStack() as undo:
        if rules is not None:
            settings["config"] = _file(rules, undo)
        loaded = _settings(directory, settings)
        runtime, sink = _build(loaded)
        events = _begin(runtime, sink, clock, undo, seed=None if real_time else seed)
        yield events
        # What was on its way when the block ended belongs to it, and can be read later on.
        events.events  # noqa: B018 - the look settles


class Settling(Worker):
    """A worker without a thread: what was handed over is read when somebody looks, on the thread that looks."""

    def _start_thread(self) -> None:
        """Nobody waits for anything here."""


def _settings(directory: str | Path, arguments: dict[str, Any]) -> Settings:
    environ = {name: value for name, value in os.environ.items() if name in KEPT}
    if not any(name.startswith("flags") for name in arguments):
        # Overrides count all the same; nobody is asked.
        arguments = {**arguments, "flags": False}
    return load_settings(environ, directory=str(directory), **{**LANE, **arguments})


def _build(settings: Settings) -> tuple[Runtime, Any]:
    from otel_posthog.bridge import Bridge
    from otel_posthog.convert import Converter
    from otel_posthog.delivery.sinks import MemorySink
    from otel_posthog.lane.edge import edge_of
    from otel_posthog.observe import Guard
    from otel_posthog.policy import Policy
    from otel_posthog.rules.load import load_rules

    guard = Guard()
    rules = load_rules(settings.rules)
    sink = MemorySink(limit=sys.maxsize)
    bridge = Bridge(Converter(settings.convert, rules), Policy(), sink, guard=guard)
    runtime = Runtime(settings=settings, rules=rules, bridge=bridge, guard=guard, keeps_all=True)
    # A test that captures a million events shall see a million.
    identity = replace(settings.identity, late_cap=sys.maxsize)
    edge_of(runtime, worker=Settling(bridge, identity=identity, guard=guard, capacity=sys.maxsize))
    return runtime, sink


def _begin(runtime: Runtime, sink: Any, clock: Clock, undo: ExitStack, *, seed: str | None) -> CapturedEvents:
    from otel_posthog.lane.edge import edge_of
    from otel_posthog.testing.attaching import Attachment, attach_lines
    from otel_posthog.testing.steady import count_ids, stop_time

    worker = edge_of(runtime).worker
    enter_context(undo)
    put_runtime(runtime, undo)
    attachment = Attachment(runtime, undo)
    attachment.attach_global()
    attach_lines(undo, None if seed is None else clock)
    if seed is not None:
        # After everything that has to do with it has been imported.
        count_ids(undo, seed)
        stop_time(undo, clock)
    _instrument(undo, functions=bool(runtime.settings.rules.path))

    def read() -> list[Any]:
        if not worker.settle(_PATIENCE):
            raise RuntimeError("otel-posthog: what was captured could not be read")
        if worker.failures:
            # An error of this package's: production would count it, and go on.
            raise worker.failures[0]
        return sink.events

    return CapturedEvents(
        read=read,
        forget=sink.clear,
        dropped=lambda: {reason.value: count for reason, count in runtime.bridge.signal_stats().dropped.items()},
        misused=lambda: {**runtime.guard.misuses()},
        attach=attachment.attach,
        clock=clock,
    )


def put_runtime(runtime: Runtime | None, undo: ExitStack) -> None:
    """Makes `runtime` the one that all calls of the process go to, until `undo`.

    Args:
        runtime: `None`: the next call reads the environment.
        undo: When it ends.
    """
    from otel_posthog.api.process import process

    before = assembly._process._runtime
    assembly._process._runtime = runtime
    process.forget()

    def back() -> None:
        assembly._process._runtime = before
        process.forget()
        flags: Any = sys.modules.get("otel_posthog.flags.process")
        if flags is not None:
            flags.client.forget()

    undo.callback(back)


def enter_context(undo: ExitStack) -> None:
    """Begins with an empty OpenTelemetry context, until `undo`."""
    from opentelemetry import context

    token = context.attach(context.Context())

    def back() -> None:
        runtime: Any = getattr(context, "_RUNTIME_CONTEXT", None)
        # Not by `context.detach`, which logs an error where a fixture ends in another task than it began in.
        with suppress(Exception):
            (runtime or context).detach(token)

    undo.callback(back)


def _instrument(undo: ExitStack, *, functions: bool) -> None:
    """Frameworks, functions and the `posthog` package, as under `opentelemetry-instrument`.

    Without it requests of one test would not be told apart, and the `posthog` package would send.
    """
    disabled = {one.strip() for one in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    for name, (module, kind) in _INSTRUMENTORS.items():
        if name in disabled or (name == "posthog_functions" and not functions):
            continue
        instrumentor = getattr(import_module(f"otel_posthog.instrumentation.{module}"), kind)()
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(skip_dep_check=True)
            undo.callback(instrumentor.uninstrument)


def _file(rules: str | Path, undo: ExitStack) -> str:
    if isinstance(rules, Path) or "\n" not in rules:
        return str(rules)
    import tempfile

    folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="otel-posthog-"))
    path = Path(folder, "rules.yaml")
    path.write_text(rules, encoding="utf-8")
    return str(path)


__all__ = ["KEPT", "LANE", "PROJECT", "capturing", "enter_context", "put_runtime"]
