"""Where captured request headers are not believed."""

from __future__ import annotations

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.semconv import otel

SESSION = "0192f5b0-0000-7000-8000-000000000001"


def span(**attributes: str) -> Signal:
    """A tagged server span with captured headers."""
    headers = {
        "http.request.header.x_posthog_distinct_id": ("mallory",),
        "http.request.header.x-posthog-session-id": (SESSION,),
    }
    return Signal(
        SignalKind.SPAN,
        "GET /",
        {"posthog.event": "seen", **headers, **attributes},
        Resource({"service.name": "shop"}),
        Scope(),
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
        span_kind="server",
        time_ns=1_700_000_000_000_000_000,
    )


def on(signal: Signal) -> Signal:
    """An exception that happened in `signal`."""
    return Signal(
        SignalKind.SPAN_EVENT,
        otel.EXCEPTION_EVENT,
        {"exception.type": "ValueError", "exception.message": "no"},
        signal.resource,
        signal.scope,
        trace_id=signal.trace_id,
        span_id=signal.span_id,
        time_ns=signal.time_ns,
        span=signal,
    )


@pytest.mark.parametrize("item", [span(), on(span())], ids=["span", "span event"])
def test_headers_name_nobody(item: Signal) -> None:
    """Neither the item's own headers nor those of its span say who it was; trusted, they do."""
    (believed,) = Converter(ConvertConfig(), RuleSet()).convert(item).events
    (doubted,) = Converter(ConvertConfig(trust_headers=False), RuleSet()).convert(item).events
    assert (believed.distinct_id, believed.properties["$session_id"]) == ("mallory", SESSION)
    assert "mallory" not in (doubted.distinct_id, *doubted.properties.values())
    assert doubted.properties["$process_person_profile"] is False
    assert "$session_id" not in doubted.properties


def test_what_the_item_says_itself_still_counts() -> None:
    """The service's own word is not that of a header."""
    converter = Converter(ConvertConfig(trust_headers=False), RuleSet())
    item = span(**{"user.id": "ada"})
    (event,) = converter.convert(item).events
    assert event.distinct_id == "ada"
    assert converter.identify(item) == "ada"
    assert converter.identify(span()) == ""
