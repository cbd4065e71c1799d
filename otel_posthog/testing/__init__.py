"""For tests of apps: what the code under test captures, as a list. See docs/testing.md.

    def test_checkout(captured_events):
        checkout(cart)
        assert captured_events.named("order paid") == [
            {"event": "order paid", "distinct_id": "ada", "properties": {"total": 29.0}}
        ]

`plugin` is what pytest loads, `capturing()` the same for everybody else. Nothing is sent, and nothing is mocked: calls,
spans and log records go through the converter and the rules of production, up to the door.
"""

from typing import TYPE_CHECKING

from otel_posthog.lazy import lazy_exports

if TYPE_CHECKING:
    from otel_posthog.testing.captured import CapturedEvents
    from otel_posthog.testing.capturing import capturing
    from otel_posthog.testing.clock import Clock
    from otel_posthog.testing.events import Event, Events
    from otel_posthog.testing.factories import make_event, make_log, make_span, make_span_event
    from otel_posthog.testing.folding import Folded, Group, Person, fold
    from otel_posthog.testing.ruling import Ruling, rules_of
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "CapturedEvents": "captured",
            "Clock": "clock",
            "Event": "events",
            "Events": "events",
            "Folded": "folding",
            "Group": "folding",
            "Person": "folding",
            "Ruling": "ruling",
            "capturing": "capturing",
            "fold": "folding",
            "make_event": "factories",
            "make_log": "factories",
            "make_span": "factories",
            "make_span_event": "factories",
            "rules_of": "ruling",
        },
    )

__all__ = [
    "CapturedEvents",
    "Clock",
    "Event",
    "Events",
    "Folded",
    "Group",
    "Person",
    "Ruling",
    "capturing",
    "fold",
    "make_event",
    "make_log",
    "make_span",
    "make_span_event",
    "rules_of",
]
