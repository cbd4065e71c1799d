"""A live exception and its text give the same `$exception`, but for what only the process knows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog.config.settings import ConvertConfig, RulesConfig
from otel_posthog.convert import Converter
from otel_posthog.lane.exceptions import read_chain, see
from otel_posthog.lane.readable import from_span
from otel_posthog.model import CaptureEvent, LocalContext
from otel_posthog.policy.exceptions import exception_place
from otel_posthog.rules.load import load_rules
from tests.parity.telemetry import Outer, failures, raised
from tests.parity.values import texts

# Source context needs the files; a frame's module, and where its package begins, need the running program.
PROCESS_ONLY = {"context_line", "pre_context", "post_context", "module", "filename"}

CONVERTER = Converter(ConvertConfig(), load_rules(RulesConfig()))
PROVIDER = TracerProvider(shutdown_on_exit=False)


def carriers(error: Exception) -> tuple[CaptureEvent, CaptureEvent]:
    """(as text, live): the events of one recorded exception."""
    span = PROVIDER.get_tracer("shop").start_span("a")
    span.record_exception(error)
    span.end()
    text = from_span(span)[1]
    live = text.with_local(LocalContext(exception=read_chain(see(error))))
    (from_text,) = CONVERTER.convert(text).events
    (from_live,) = CONVERTER.convert(live).events
    return from_text, from_live


def comparable(event: CaptureEvent) -> dict[str, Any]:
    """The properties without what only the process knows."""
    properties = dict(event.properties)
    entries: list[dict[str, Any]] = []
    for entry in properties["$exception_list"]:
        kept = dict(entry)
        if "stacktrace" in kept:
            frames = kept["stacktrace"]["frames"]
            kept["stacktrace"] = [{key: frame[key] for key in frame if key not in PROCESS_ONLY} for frame in frames]
        entries.append(kept)
    return {**properties, "$exception_list": entries}


@given(
    fail=st.sampled_from(failures),
    # A text with line breaks may itself look like a traceback; what is printed cannot be told from it.
    text=texts.filter(lambda text: len(text.splitlines()) <= 1 and text == text.strip()),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_live_exception_and_its_text_are_the_same_event(fail: Callable[[str], None], text: str) -> None:
    """Chains, groups, deep recursion: types, values, mechanisms, frames, uuid, and the place that policy compares."""
    from_text, from_live = carriers(raised(fail, text))

    expected = comparable(from_live)
    if fail.__name__ == "_nested":
        # The text has only the qualified name: it cannot say where the module ends and the class begins.
        expected["$exception_list"][0]["module"] += f".{Outer.__name__}"
        expected["$exception_list"][0]["type"] = Outer.NestedError.__name__
    assert comparable(from_text) == expected
    assert from_text.uuid == from_live.uuid
    assert exception_place(from_text) == exception_place(from_live)


def test_bottomless_recursion_looks_alike() -> None:
    """The text elides what is repeated; both keep the outermost and the innermost frames."""

    def fall(depth: int) -> None:
        fall(depth + 1)

    with pytest.raises(RecursionError) as caught:
        fall(0)
    from_text, from_live = carriers(caught.value)

    frames = [comparable(event)["$exception_list"][0]["stacktrace"] for event in (from_text, from_live)]
    assert len(frames[0]) == len(frames[1])
    assert frames[0][-1] == frames[1][-1]
    assert from_text.uuid == from_live.uuid


def test_the_logs_spelling_has_the_same_place() -> None:
    """`logging.exception` writes the bare type name: the place is still the span event's."""
    error = raised(failures[1], "x")
    from_text, from_live = carriers(error)
    record = logging.LogRecord(
        "shop", logging.ERROR, "shop.py", 1, "failed", (), (type(error), error, error.__traceback__)
    )

    assert record.exc_info is not None
    assert exception_place(from_text)[0] == type(error).__name__ == exception_place(from_live)[0]
