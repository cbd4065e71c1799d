"""What the keys of an item say is remembered, and never says anything else than the item itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.convert.layout import Layout, Layouts
from otel_posthog.convert.tags import NO_TAGS, read_tags
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import Match, RuleSet
from otel_posthog.semconv import otel, posthog

KEYS = st.sampled_from(
    [
        posthog.EVENT, posthog.DISTINCT_ID, posthog.UUID, posthog.PROPERTIES + "plan", posthog.PROPERTIES + "a.b",
        posthog.PROPERTIES_JSON, posthog.SET + "mail", posthog.GROUPS + "company", posthog.SESSION_ID, posthog.IGNORE,
        "posthog", "posthogDistinctId", "user.id", "session.id", *otel.HEADER_SESSION_ID, "gen_ai.system", "http.route",
        "url.path", "http.method", "db.system",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    ["ada", "true", "false", '{"plan": "pro", "seats": 3}', "018f3f5a-7b1c-7def-8abc-0123456789ab"]
)


class NoRules(RuleSet):
    """Matches nothing."""

    digest = ""

    def match(self, signal: Signal) -> Match | None:
        """Nothing."""
        return None


def span(attributes: dict[str, Any]) -> Signal:
    """A span with these attributes."""
    return Signal(
        kind=SignalKind.SPAN,
        name="GET /",
        attributes=attributes,
        resource=Resource({}),
        scope=Scope(),
        trace_id="5b8aa5a2d2c872e8321cf37308d69df2",
        span_id="051581bf3cb55c13",
        span_kind="server",
        start_time_ns=1_700_000_000_000_000_000,
        time_ns=1_700_000_000_000_000_000,
    )


@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=8), min_size=1, max_size=6))
def test_what_was_seen_before_changes_nothing(items: list[dict[str, Any]]) -> None:
    """A converter that has seen other items, and the same keys with other values, decides as a new one does."""
    used = Converter(ConvertConfig(), NoRules())
    for attributes in (*items, *reversed(items)):
        signal = span(attributes)
        new = Converter(ConvertConfig(), NoRules())
        assert used.identify(signal) == new.identify(signal)
        assert used.convert(signal) == new.convert(signal)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
def test_tags_are_what_the_keys_say(attributes: dict[str, Any]) -> None:
    """Each tag has the value of its key, and nothing else is a tag."""
    tags = read_tags(attributes, Layout(tuple(attributes)))

    assert (tags is NO_TAGS) == (not any(key.startswith("posthog.") for key in attributes))
    assert tags.has_event == (posthog.EVENT in attributes)
    assert (tags.event, tags.distinct_id, tags.uuid, tags.session_id) == tuple(
        attributes.get(key) for key in (posthog.EVENT, posthog.DISTINCT_ID, posthog.UUID, posthog.SESSION_ID)
    )
    flat = {
        key.removeprefix(posthog.PROPERTIES): value
        for key, value in attributes.items()
        if key.startswith(posthog.PROPERTIES)
    }
    assert {key: tags.properties[key] for key in flat} == flat
    packed = {"plan", "seats"} if attributes.get(posthog.PROPERTIES_JSON, "").startswith("{") else set[str]()
    assert set(tags.properties) == {*flat, *packed}


def test_a_layout_is_read_once() -> None:
    """The same keys in the same order share one; another order may not, since properties keep theirs."""
    layouts = Layouts()
    found = layouts.of({"posthog.event": "a", "x": 1})

    assert layouts.of({"posthog.event": "b", "x": None}) is found
    assert layouts.of({"x": 1, "posthog.event": "a"}) is not found


def test_of_long_keys_only_the_newest_are_remembered() -> None:
    """They must not fill the memory; yet every event of a span asks for the layout of its span."""
    layouts = Layouts()
    first, second = {"x" * 5_000: 1, "posthog.event": "a"}, {"y" * 5_000: 1}
    found = layouts.of(first)

    assert layouts.of(dict(first)) is found
    assert not layouts.of(second).event
    assert layouts.of(first) is not found
    assert layouts._known == {}


@pytest.mark.parametrize("key", [7, ("a",)])
def test_odd_keys_are_read_and_forgotten(key: Any) -> None:
    """`1` and `True` are one key to a dict."""
    layouts = Layouts()
    attributes: dict[Any, Any] = {key: 1, "posthog.event": "a"}

    assert layouts.of(attributes).event
    assert layouts.of(attributes) is not layouts.of(attributes)


def test_keys_made_of_data_do_not_fill_the_memory() -> None:
    """Only so many layouts are remembered."""
    layouts = Layouts()
    for number in range(3_000):
        layouts.of({f"cart.item.{number}": 1})

    assert len(layouts._known) <= 1_024
