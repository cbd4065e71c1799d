"""Celery: who a task is for travels with its message, and holds for as long as the task runs.

The message's header `otel_posthog` is JSON; whoever can write to the broker can run tasks, so it is believed:

    {"person": "42", "session": "0199…", "groups": {"company": "acme"}, "properties": {"plan": "pro"}, …}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

from opentelemetry import context, trace

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.properties import properties_in
from otel_posthog.context.work import work_in
from otel_posthog.instrumentation.frameworks import PostHogCeleryInstrumentor
from otel_posthog.instrumentation.hooks import Hooks
from otel_posthog.instrumentation.instrumentor import Hook
from otel_posthog.instrumentation.visit import Visit

HEADER: Final = "otel_posthog"
_UID: Final = "otel_posthog"
_VISITS: Final = "_otel_posthog_visits"
_MAX_BYTES: Final = 16 * 1024
"""Of the header; beyond it super properties are left out, and flags."""
_FIELDS: Final = (
    ("person", "distinct_id"),
    ("anonymous", "anonymous_id"),
    ("session", "session_id"),
    ("window", "window_id"),
    ("groups", "groups"),
    ("flags", "flags"),
    ("properties", "properties"),
    ("nobody", "nobody"),
    ("claimed", "claimed"),
)
"""Name in the header -> field of `Ambient`."""


class CeleryHooks(Hooks):
    """What is done in Celery."""

    framework: ClassVar[str] = "celery"

    def modules(self) -> Mapping[str, Hook]:
        """Celery's signals, and the place where tasks are made ready to run."""
        return {"celery.signals": self._signals, "celery.app.trace": self._trace}

    def _signals(self, module: Any) -> None:
        for name, receiver in (
            ("before_task_publish", self._publishing),
            ("task_prerun", self._begin),
            ("task_postrun", self._end),
            ("worker_init", self._worker_begins),
        ):
            signal = getattr(module, name)
            signal.connect(receiver, weak=False, dispatch_uid=_UID)
            self.patches.on_undo(lambda signal=signal: signal.disconnect(dispatch_uid=_UID))

    def _trace(self, module: Any) -> None:
        self.patches.wrap(module, "build_tracer", self._build_tracer)

    def _worker_begins(self, **_: Any) -> None:
        self._be_last()

    def _build_tracer(self, wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        self._be_last()
        return wrapped(*args, **kwargs)

    def _be_last(self) -> None:
        """Moves us behind OpenTelemetry's own receiver, which replaces the context: a visit begins inside of it."""
        try:
            from celery.signals import task_prerun  # pyright: ignore[reportMissingImports, reportUnknownVariableType]

            signal = cast("Any", task_prerun)
            if signal.receivers and signal.receivers[-1][1] != self._begin:
                signal.disconnect(dispatch_uid=_UID)
                signal.connect(self._begin, weak=False, dispatch_uid=_UID)
        except Exception as error:  # noqa: BLE001 - an edge: the worker starts
            self.failed(error)

    # --- the sender --------------------------------------------------------------------------------------------------

    def _publishing(self, headers: Any = None, **_: Any) -> None:
        try:
            if isinstance(headers, dict) and HEADER not in headers:
                text = packed(_at_hand())
                if text:
                    headers[HEADER] = text
        except Exception as error:  # noqa: BLE001 - an edge: the task is sent
            self.failed(error)

    # --- the worker --------------------------------------------------------------------------------------------------

    def _begin(self, task: Any = None, task_id: Any = None, **_: Any) -> None:
        try:
            request = task.request
            said: Any = request.get(HEADER) or cast("Any", request.get("headers") or {}).get(HEADER)
            # A task that runs at once, in its caller's place, has no message.
            ambient = unpacked(said) if said else _at_hand() if request.get("is_eager") else NOTHING
            visit = Visit(ambient)
            visit.begin()
            # By id: a task that runs another at once, of its own kind, is at work twice.
            cast("dict[str, Any]", vars(task)).setdefault(_VISITS, {})[task_id] = visit
        except Exception as error:  # noqa: BLE001 - an edge: the task runs
            self.failed(error)

    def _end(self, task: Any = None, task_id: Any = None, **_: Any) -> None:
        try:
            kept = cast("dict[str, Any]", vars(task))
            visits: dict[Any, Visit] = kept.get(_VISITS, {})
            visit = visits.pop(task_id, None)
            if visit is not None:
                visit.end()
            if not visits:
                kept.pop(_VISITS, None)
        except Exception as error:  # noqa: BLE001 - an edge: the task has run
            self.failed(error)


def _at_hand() -> Ambient:
    """What holds here, super properties included."""
    here = context.get_current()
    work = work_in(here, trace.get_current_span(here).get_span_context().trace_id)
    ambient = NOTHING if work is None else work.ambient
    supers = properties_in(here)
    if not supers:
        return ambient
    from dataclasses import replace

    return replace(ambient, properties={**ambient.properties, **supers})


def packed(ambient: Ambient) -> str:
    """The header's text; "" where there is nothing to say."""
    said = {name: value for name, field in _FIELDS if (value := getattr(ambient, field))}
    for left_out in ("", "properties", "flags"):
        said.pop(left_out, None)
        if not said:
            return ""
        text = json.dumps(said, default=str, separators=(",", ":"))
        if len(text) <= _MAX_BYTES:
            return text
    return ""


def unpacked(text: Any) -> Ambient:
    """What a header says; nothing where it is none of ours."""
    try:
        said: Any = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return NOTHING
    if not isinstance(said, dict):
        return NOTHING
    found = cast("dict[str, Any]", said)
    values: dict[str, Any] = {}
    for name, field in _FIELDS:
        value = found.get(name)
        if type(value) is type(getattr(NOTHING, field)):
            values[field] = value
    values["groups"] = {
        name: key for name, key in cast("dict[str, Any]", values.get("groups", {})).items() if isinstance(key, str)
    }
    return Ambient(**values)


__all__ = ["CeleryHooks", "PostHogCeleryInstrumentor"]
