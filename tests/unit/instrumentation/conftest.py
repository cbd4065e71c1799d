"""Frameworks in the test's own process, with our runtime behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from otel_posthog.instrumentation.instrumentor import PostHogInstrumentor
from tests.unit.api.conftest import Calls, builder, default_calls, own_context, own_process

__all__ = ["builder", "default_calls", "own_context", "own_process"]

InstrumentorT = TypeVar("InstrumentorT", bound=PostHogInstrumentor)

ADA, GRACE = "01990000-0000-7000-8000-00000000000a", "01990000-0000-7000-8000-00000000000b"
"""What posthog-js calls two visitors."""


@pytest.fixture
def on() -> Iterator[Callable[[type[InstrumentorT]], InstrumentorT]]:
    """Instruments; takes everything back at the end."""
    made: list[PostHogInstrumentor] = []

    def instrument(kind: type[InstrumentorT]) -> InstrumentorT:
        instrumentor = kind()
        instrumentor.instrument()
        made.append(instrumentor)
        return instrumentor

    yield instrument
    for instrumentor in reversed(made):
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def people(calls: Calls) -> list[tuple[str, str]]:
    """Name and person ("" for personless events) of each event."""
    return [(name, person) for name, person, _ in calls.said]
