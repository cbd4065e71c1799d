"""The short way for plain events gives what the careful way gives, to the last property, or leaves the item to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.convert.item import ResourceContexts
from otel_posthog.convert.layout import Layout
from otel_posthog.convert.limits import json_size
from otel_posthog.convert.plain import PlainEvents
from otel_posthog.convert.user_agent import UserAgents
from otel_posthog.model import LocalContext, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.semconv import otel, posthog

NOW = 1_763_679_600_000_000_000
UUID7 = "018f3f5a-7b1c-7def-8abc-0123456789ab"

# Mostly what is plain, so that the short way is really taken, and beside it what only looks so.
TEXTS = st.one_of(
    st.sampled_from(["ada", "order paid", " padded ", "EUR", "x" * 200]),
    st.sampled_from(
        ["", " ", "anonymous", "None", "0", "\x00", "a\x00b", "\ud800", "é", "x" * 201, "y" * 1_025, "$exception",
         "$pageview", "$identify", UUID7, UUID7.upper(), UUID7.replace("-", ""), f" {UUID7}", "https://shop.example/cart?token=1"]
    ),
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, 42.5, True, False, 2**53 - 1, 2**53, -(2**53), 2**64, 1e308, float("nan"), float("inf"), -0.0]
)
ODD = st.sampled_from([None, b"\xff", [], ["a"], {"a": 1}, {"$set": {"x": 1}}])
VALUES = st.one_of(TEXTS, TEXTS, NUMBERS, ODD)
PROPERTIES = st.dictionaries(
    st.sampled_from(
        ["plan", "total", "duration_ms", "$ip", "environment", "service_name", "$lib", "trace_sampled", "$trace_id",
         "$geoip_disable", "http_route", "a.b", "é", "n" * 201, "", "\x00", "$set", "$session_id", "$groups",
         "$process_person_profile", "$exception_list", "distinct_id", "tracking_tier"]
    ).map(lambda name: posthog.PROPERTIES + name),
    VALUES,
    max_size=5,
)  # fmt: skip
EXTRAS = st.dictionaries(
    st.sampled_from(
        [posthog.POSTHOG_DISTINCT_ID, otel.USER_ID, otel.ENDUSER_ID, otel.ENDUSER_PSEUDO_ID, posthog.UUID,
         otel.HEADER_DISTINCT_ID[0], otel.SESSION_ID, posthog.POSTHOG_SESSION_ID, "http.request.method", "url.full",
         "user_agent.original", "gen_ai.system", "db.system", otel.EXCEPTION_TYPE, posthog.ON, posthog.IGNORE,
         posthog.CARRIER, posthog.TIER, posthog.SET + "mail", posthog.GROUPS + "company", posthog.PROPERTIES_JSON,
         posthog.TRACE_SAMPLED, otel.HEADER_SESSION_ID[0], posthog.SESSION_ID]
    ),
    VALUES,
    max_size=2,
)  # fmt: skip
TAGS = st.fixed_dictionaries({posthog.EVENT: TEXTS}, optional={posthog.DISTINCT_ID: st.one_of(TEXTS, NUMBERS, ODD)})
RESOURCES = st.sampled_from(
    [
        Resource({}),
        Resource({otel.SERVICE_NAME: "shop", posthog.DEPLOYMENT_METHOD: "docker", posthog.TIMEZONE: "UTC"}),
        Resource({otel.SERVICE_NAME: "shop", posthog.CARRIER: "bridge:abc"}),
        Resource({posthog.DISTINCT_ID: "the service"}),
        Resource({posthog.IGNORE: True}),
        Resource({posthog.GROUPS + "company": "acme", posthog.PROCESS_PERSON_PROFILE: False}),
        Resource({posthog.PROPERTIES + "region": "eu", posthog.TIER: "core"}),
        Resource({posthog.PROPERTIES + "essay": "z" * 20_000}),
    ]
)
LOCALS = st.sampled_from(
    [None, LocalContext(), LocalContext(sampled=True), LocalContext(sampled=False, distinct_id="late"),
     LocalContext(distinct_id="anonymous")]
)  # fmt: skip
TIMES = st.sampled_from([NOW, NOW + 1_500_000, 0, 1, 2**63])
CONFIGS = st.sampled_from(
    [
        ConvertConfig(),
        ConvertConfig(honour_carrier=True),
        ConvertConfig(request_context=False),
        ConvertConfig(max_value_bytes=64),
        ConvertConfig(max_event_bytes=2_048),
        ConvertConfig(static_properties={"environment": "test", "é": 1}),
    ]
)


OWNERS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "http.request.method": st.just("GET"),
            "url.path": VALUES,
            "user_agent.original": TEXTS,
            otel.USER_ID: VALUES,
            otel.ENDUSER_PSEUDO_ID: VALUES,
        },
    ).flatmap(lambda request: EXTRAS.map(lambda extras: {**request, **extras} if len(extras) > 1 else request)).map(
        lambda attributes: Signal(
            kind=SignalKind.SPAN,
            name="GET /cart",
            attributes=attributes,
            resource=Resource({}),
            scope=Scope("flask"),
            trace_id="5b8aa5a2d2c872e8321cf37308d69df2",
            span_id="151581bf3cb55c13",
            span_kind="server",
        )
    ),
)  # fmt: skip
"""What is around a log record that a call has made: mostly a request that nobody has tagged."""


@st.composite
def signals(draw: st.DrawFn) -> Signal:
    """Spans and log records with a tag."""
    kind = draw(st.sampled_from([SignalKind.SPAN, SignalKind.LOG]))
    pairs = list({**draw(EXTRAS), **draw(TAGS), **draw(PROPERTIES)}.items())
    return Signal(
        kind=kind,
        name=draw(st.sampled_from(["GET /", "exception", "shop.exception"])),
        attributes=dict(draw(st.permutations(pairs))),
        resource=draw(RESOURCES),
        scope=Scope("shop"),
        trace_id=draw(st.sampled_from(["5b8aa5a2d2c872e8321cf37308d69df2", ""])),
        span_id=draw(st.sampled_from(["051581bf3cb55c13", ""])),
        span_kind=draw(st.sampled_from(["server", "client"])) if kind is SignalKind.SPAN else "",
        start_time_ns=draw(TIMES),
        time_ns=draw(TIMES),
        local=draw(LOCALS),
        span=draw(OWNERS) if kind is SignalKind.LOG else None,
    )


def exactly(value: Any) -> str:
    """With types, and without the order of keys: `1`, `1.0` and `True` are equal otherwise."""
    if isinstance(value, dict):
        return repr(sorted((key, exactly(member)) for key, member in value.items()))
    return f"{type(value).__name__} {value!r}"


def both(config: ConvertConfig, signal: Signal) -> tuple[list[Any], list[Any]]:
    """What `convert` and what the careful way alone make of `signal`, ready to compare."""
    converter = Converter(config, RuleSet())
    found: list[list[Any]] = []
    for decision in (
        converter.convert(signal),
        converter.convert_carefully(signal, Layout(tuple(signal.attributes))),
    ):
        events = [
            (event.event, event.distinct_id, event.uuid, event.timestamp_ns, exactly(event.properties))
            for event in decision.events
        ]
        found.append([events, decision.reason, decision.rule, decision.notices])
    return found[0], found[1]


@settings(max_examples=400, deadline=None)
@given(CONFIGS, signals())
def test_the_short_way_gives_what_the_careful_way_gives(config: ConvertConfig, signal: Signal) -> None:
    """Events, reason and notices are the same for every tagged span and log record."""
    short, careful = both(config, signal)
    assert short == careful


@pytest.mark.parametrize("key", [otel.USER_ID, otel.HEADER_DISTINCT_ID[0]])
def test_whom_the_request_names(key: str) -> None:
    """It comes before whom its trace turned out to be about, on the short way, too."""
    request = Signal(
        kind=SignalKind.SPAN,
        name="GET /cart",
        attributes={"http.request.method": "GET", key: "ada"},
        resource=Resource({}),
        scope=Scope("flask"),
        span_kind="server",
    )
    log = Signal(
        kind=SignalKind.LOG,
        name="order paid",
        attributes={posthog.EVENT: "order paid"},
        resource=Resource({}),
        scope=Scope("shop"),
        time_ns=NOW,
        local=LocalContext(distinct_id="late"),
        span=request,
    )

    short, careful = both(ConvertConfig(), log)

    assert short == careful
    assert [event[1] for event in short[0]] == ["ada"]


PLAIN = {
    posthog.EVENT: "order paid",
    posthog.DISTINCT_ID: "ada",
    posthog.PROPERTIES + "total": 42.5,
    posthog.PROPERTIES + "plan": "pro",
    "db.system": "postgresql",
}


def plain_event(attributes: dict[str, Any], **changes: Any) -> Any:
    """What the short way makes of a span with `attributes`; `None` where it leaves it alone."""
    config = changes.pop("config", ConvertConfig())
    given_resource = changes.pop("resource", Resource({otel.SERVICE_NAME: "shop"}))
    fields: dict[str, Any] = {
        "kind": SignalKind.SPAN,
        "name": "GET /",
        "trace_id": "5b8aa5a2d2c872e8321cf37308d69df2",
        "span_id": "051581bf3cb55c13",
        "span_kind": "server",
        "start_time_ns": NOW - 1_500_000,
        "time_ns": NOW,
        "local": LocalContext(sampled=True),
        **changes,
    }
    signal = Signal(attributes=attributes, resource=given_resource, scope=Scope(), **fields)
    short, layout = PlainEvents(config, UserAgents()), Layout(tuple(attributes))
    context = ResourceContexts(config).get(given_resource)
    return short.event(signal, layout, None, context) if short and layout.plain and context.plain else None


@pytest.mark.parametrize(
    ("attributes", "changes"),
    [
        (PLAIN, {}),
        ({**PLAIN, posthog.UUID: UUID7}, {"kind": SignalKind.LOG, "span_kind": ""}),
        (PLAIN, {"kind": SignalKind.LOG, "trace_id": "", "span_id": ""}),
        ({posthog.EVENT: "seen", "user.id": "ada"}, {}),
        ({**PLAIN, "session.id": UUID7}, {}),
        ({**PLAIN, "sessionId": UUID7.upper(), "session.id": "s"}, {}),
        ({posthog.EVENT: "seen"}, {"local": LocalContext(distinct_id="late")}),
        ({**PLAIN, "http.request.method": "GET", "url.path": "/cart"}, {}),
        (PLAIN, {"resource": Resource({posthog.CARRIER: "bridge"})}),
    ],
    ids=[
        "span",
        "log with its uuid",
        "log without a trace",
        "user.id",
        "session",
        "sessions",
        "late identity",
        "request",
        "own carrier",
    ],
)
def test_a_plain_item_goes_the_short_way(attributes: dict[str, Any], changes: dict[str, Any]) -> None:
    """Otherwise the comparison of both ways would compare one with itself."""
    assert plain_event(attributes, **changes) is not None


@pytest.mark.parametrize(
    ("attributes", "changes"),
    [
        ({**PLAIN, posthog.SET + "mail": "a@b.example"}, {}),
        ({**PLAIN, posthog.PROPERTIES + "$session_id": UUID7}, {}),
        ({**PLAIN, posthog.PROPERTIES + "note": "é"}, {}),
        ({**PLAIN, posthog.PROPERTIES + "note": "x" * 2_000}, {}),
        ({**PLAIN, posthog.PROPERTIES + "note": None}, {}),
        ({**PLAIN, posthog.DISTINCT_ID: "anonymous"}, {}),
        ({**PLAIN, posthog.DISTINCT_ID: 7}, {}),
        ({**PLAIN, posthog.EVENT: "$exception"}, {}),
        ({**PLAIN, posthog.EVENT: ["a", "b"]}, {}),
        ({**PLAIN, posthog.UUID: "none"}, {}),
        ({**PLAIN, "session.id": "s"}, {}),
        ({**PLAIN, "sessionId": "s", "session.id": UUID7}, {}),
        ({**PLAIN, otel.HEADER_SESSION_ID[0]: [UUID7]}, {}),
        ({**PLAIN, posthog.SESSION_ID: UUID7}, {}),
        ({posthog.EVENT: "seen"}, {}),
        ({posthog.EVENT: "seen", otel.HEADER_DISTINCT_ID[0]: ["ada"]}, {}),
        (PLAIN, {"time_ns": 0}),
        (PLAIN, {"kind": SignalKind.LOG, "name": "exception"}),
        (PLAIN, {"resource": Resource({posthog.DISTINCT_ID: "service"})}),
        (PLAIN, {"resource": Resource({posthog.CARRIER: "bridge"}), "config": ConvertConfig(honour_carrier=True)}),
        (PLAIN, {"config": ConvertConfig(max_event_bytes=2_048)}),
    ],
)
def test_everything_else_is_left_to_the_careful_way(attributes: dict[str, Any], changes: dict[str, Any]) -> None:
    """An update of a person, a value to mend, a name with a meaning, an absurd time: nothing is made here."""
    assert plain_event(attributes, **changes) is None


def test_a_type_that_is_cut_weighs_what_is_left() -> None:
    """What a sender writes as `exception.type` may be anything; the event has its beginning."""
    signal = Signal(
        kind=SignalKind.LOG,
        name="",
        attributes={"exception.type": "y" * 5_000},
        resource=Resource({}),
        scope=Scope(),
        time_ns=1_763_679_600_000_000_000,
    )
    (event,) = Converter(ConvertConfig(), RuleSet()).convert(signal).events

    assert event.weight <= json_size(dict(event.properties)) * 1.6 + 400


@settings(max_examples=200, deadline=None)
@given(signals())
def test_the_weight_of_a_plain_event_is_about_its_bytes(signal: Signal) -> None:
    """Delivery bounds its queue by it: never far too low, and not so high that the queue seems full."""
    for event in Converter(ConvertConfig(), RuleSet()).convert(signal).events:
        if event.weight:
            size = json_size(dict(event.properties)) + len(event.event) + len(event.distinct_id) + 150
            assert size * 0.9 <= event.weight <= size * 1.6 + 400
