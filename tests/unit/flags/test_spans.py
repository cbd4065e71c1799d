"""Spans, span events and exceptions of a request carry the values that it was given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from otel_posthog import flags
from otel_posthog.api.control import flush
from otel_posthog.api.people import identify
from otel_posthog.emulator import Emulator
from otel_posthog.sdk.processor import PostHogSpanProcessor


@pytest.fixture
def tracer(running: None) -> Iterator[trace.Tracer]:
    """Its spans reach the bridge that the calls use."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(PostHogSpanProcessor(closed=lambda _: None))
    yield provider.get_tracer("shop")
    provider.shutdown()


def test_what_follows_a_question(tracer: trace.Tracer, emulator: Emulator) -> None:
    """The span that is open, spans after it, and an exception; not the next request."""
    with tracer.start_as_current_span("GET /cart", attributes={"posthog.event": "cart seen"}):
        identify("ada")
        assert flags.variant("timer-ui-experiment") == "variant-b"
        with tracer.start_as_current_span("pay", attributes={"posthog.event": "paid"}):
            pass
        with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("fail"):
            raise ValueError("no")
    with tracer.start_as_current_span("GET /", attributes={"posthog.event": "home seen", "user.id": "grace"}):
        pass

    assert flush(30)
    said: dict[str, Any] = {
        event["event"]: event["properties"].get("$feature/timer-ui-experiment") for event in emulator.events()
    }
    assert said == {
        "$feature_flag_called": "variant-b",
        "cart seen": "variant-b",
        "paid": "variant-b",
        "$exception": "variant-b",
        "home seen": None,
    }


def test_traces_say_it_too(tracer: trace.Tracer) -> None:
    """The span that asks and the root of its request have the value, for whoever searches traces; others have not."""
    with tracer.start_as_current_span("GET /cart") as root:
        identify("ada")
        with tracer.start_as_current_span("price") as asking:
            assert flags.variant("timer-ui-experiment") == "variant-b"
            assert flags.enabled("beta-features") is False
            assert flags.enabled("new-dashboard", "grace") is True  # somebody else's
        with tracer.start_as_current_span("log") as after:
            pass

    said = [
        {key: value for key, value in span.attributes.items() if "$feature" in key}  # type: ignore[attr-defined]
        for span in (root, asking, after)
    ]
    values = {"$feature/timer-ui-experiment": "variant-b", "$feature/beta-features": False}
    assert said == [values, values, {}]


def test_questions_of_unsampled_requests(tracer: trace.Tracer, emulator: Emulator) -> None:
    """What is counted does not depend on what is traced: with no span at all, too."""
    assert flags.enabled("new-dashboard", "ada") is True

    assert flush(30)
    (event,) = emulator.events(event="$feature_flag_called")
    assert "$trace_id" not in event["properties"]
