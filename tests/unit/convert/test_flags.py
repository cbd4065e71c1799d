"""A flag's evaluation becomes one `$feature_flag_called` in the words of PostHog's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter
from otel_posthog.model import Decision, DropReason, LocalContext, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet
from otel_posthog.rules.load import parse_text

NOW = 1_763_640_000_000_000_000
EVALUATION = "feature_flag.evaluation"


def log(attributes: dict[str, Any], name: str = EVALUATION, body: Any = None, **more: Any) -> Signal:
    """A log record within a trace."""
    return Signal(
        SignalKind.LOG,
        name,
        attributes,
        more.pop("resource", Resource({"service.name": "shop"})),
        Scope("flags"),
        **{"trace_id": "a" * 32, "span_id": "b" * 16, "time_ns": NOW, "body": body, **more},
    )


def span_event(attributes: dict[str, Any], name: str = EVALUATION, owner: dict[str, Any] | None = None) -> Signal:
    """An event of a span with the attributes `owner`."""
    resource, scope = Resource({"service.name": "shop"}), Scope("flags")
    ids: dict[str, Any] = {"trace_id": "a" * 32, "span_id": "b" * 16, "time_ns": NOW}
    span = Signal(SignalKind.SPAN, "GET /", owner or {}, resource, scope, **ids)
    return Signal(SignalKind.SPAN_EVENT, name, attributes, resource, scope, index=1, span=span, **ids)


def decide(signal: Signal, rules: RuleSet | None = None, **config: Any) -> Decision:
    """What becomes of `signal`."""
    return Converter(ConvertConfig(**config), rules or RuleSet()).convert(signal)


def said(signal: Signal, **config: Any) -> dict[str, Any]:
    """The flag's own properties of the one event."""
    (event,) = decide(signal, **config).events
    assert event.event == "$feature_flag_called"
    return {
        key: value
        for key, value in event.properties.items()
        if "feature" in key or key in ("locally_evaluated", "$active_feature_flags")
    }


def test_the_whole_event() -> None:
    """Everything that the semantic convention has, in PostHog's words, with what every event of a log record has."""
    attributes = {
        "feature_flag.key": "new-cart",
        "feature_flag.result.variant": "blue",
        "feature_flag.result.value": "#0000ff",
        "feature_flag.result.reason": "targeting_match",
        "feature_flag.provider.name": "flagd",
        "feature_flag.context.id": "ada",
        "feature_flag.set.id": "shop/prod",
        "feature_flag.version": "17",
        "posthog.groups.company": "acme",
    }

    (event,) = decide(log(attributes)).events

    assert (event.event, event.distinct_id, event.timestamp_ns) == ("$feature_flag_called", "ada", NOW)
    properties = dict(event.properties)
    assert properties.pop("$lib_version")
    assert properties == {
        "$feature_flag": "new-cart",
        "$feature_flag_response": "blue",
        "$feature/new-cart": "blue",
        "$feature_flag_reason": "targeting_match",
        "$feature_flag_version": 17,
        "feature_flag_provider": "flagd",
        "feature_flag_set": "shop/prod",
        "$groups": {"company": "acme"},
        "$lib": "otel-posthog",
        "$is_server": True,
        "$geoip_disable": True,
        "$process_person_profile": False,
        "$trace_id": "a" * 32,
        "$span_id": "b" * 16,
        "service_name": "shop",
        "environment": "production",
    }


@pytest.mark.parametrize(
    "signal",
    [
        log({"feature_flag.key": "f", "feature_flag.result.variant": "a"}),
        log({"feature_flag.key": "f", "feature_flag.variant": "a"}, "feature_flag"),
        log({"feature_flag.key": "f", "feature_flag.variant": "a", "event.name": EVALUATION}, ""),
        log({"feature_flag.key": "f", "feature_flag.variant": "a", "otel.event.name": "feature_flag"}, ""),
        span_event({"feature_flag.key": "f", "feature_flag.result.value": '"a"'}),
        span_event({"feature_flag.key": "f", "feature_flag.variant": "a"}, "feature_flag"),
    ],
)
def test_every_spelling_says_the_same(signal: Signal) -> None:
    """Log event and span event, names of today and of before."""
    assert said(signal) == {"$feature_flag": "f", "$feature_flag_response": "a", "$feature/f": "a"}


@pytest.mark.parametrize(
    ("attributes", "body", "response", "payload"),
    [
        ({"result.value": True}, None, True, None),
        ({"result.value": False}, None, False, None),
        ({"result.value": "true"}, None, True, None),
        ({"result.value": "false"}, None, False, None),
        ({"result.value": '"blue"'}, None, "blue", None),
        ({"result.value": "blue"}, None, "blue", None),
        ({"result.value": 10}, None, "10", None),
        ({"result.value": "1.5"}, None, "1.5", None),
        ({"result.value": "null"}, None, None, None),
        ({"result.value": '{"a": 1}'}, None, True, {"a": 1}),
        ({"result.value": {"a": [1]}}, None, True, {"a": [1]}),
        ({"result.value": "x" * 300}, None, True, "x" * 300),
        ({"result.value": ""}, None, None, None),
        # A boolean flag, from emitters that send the variant, the value, or both.
        ({"result.variant": "on", "result.value": "true"}, None, True, None),
        ({"result.variant": "off", "result.value": False}, None, False, None),
        ({"result.variant": "off"}, None, False, None),
        ({"variant": "true"}, None, True, None),
        # The name of a variant that has a value of its own stays a name.
        ({"result.variant": "on", "result.value": "#fff"}, None, "on", None),
        ({"result.variant": "treatment", "result.value": True}, None, "treatment", None),
        ({"result.variant": "b", "result.value": {"a": 1}}, None, "b", {"a": 1}),
        ({}, {"value": "blue"}, "blue", None),
        ({}, {"value": False}, False, None),
        ({}, None, None, None),
        ({}, "a line", None, None),
    ],
)
def test_what_came_out(attributes: dict[str, Any], body: Any, response: Any, payload: Any) -> None:
    """The variant wins over the value; what cannot be a variant is a payload."""
    signal = log(
        {"feature_flag.key": "f", **{f"feature_flag.{key}": value for key, value in attributes.items()}}, body=body
    )

    properties = said(signal)

    expected: dict[str, Any] = {"$feature_flag": "f"}
    if response is not None:
        expected |= {"$feature_flag_response": response, "$feature/f": response}
    if payload is not None:
        expected["$feature_flag_payload"] = payload
    assert properties == expected


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"error.type": "flag_not_found", "feature_flag.result.reason": "error"}, "flag_missing"),
        ({"error.type": "general"}, "unknown_error"),
        ({"error.type": "TYPE_MISMATCH"}, "type_mismatch"),
        ({"feature_flag.result.reason": "ERROR"}, "unknown_error"),
        ({"feature_flag.evaluation.reason": "error"}, "unknown_error"),
    ],
)
def test_a_failed_evaluation_has_no_answer(attributes: dict[str, Any], error: str) -> None:
    """The value is then the app's own default, which no flag gave; the message may name people and is left out."""
    signal = log({"feature_flag.key": "f", "feature_flag.result.value": "true", "error.message": "ada@x", **attributes})

    properties = said(signal)

    properties.pop("$feature_flag_reason", None)
    assert properties == {"$feature_flag": "f", "$feature_flag_error": error}


@pytest.mark.parametrize(
    ("attributes", "owner", "local", "person"),
    [
        ({}, {}, "", ("target", False)),
        ({}, {}, "late", ("late", None)),
        ({}, {"user.id": "u-1"}, "", ("u-1", None)),
        ({"posthog.distinct_id": "tagged"}, {"user.id": "u-1"}, "late", ("tagged", None)),
        ({"enduser.pseudo.id": "pseudo"}, {}, "", ("pseudo", None)),
        ({"feature_flag.context.id": "anonymous"}, {}, "", None),
    ],
)
def test_the_targeting_key_is_the_weakest_identity(
    attributes: dict[str, Any], owner: dict[str, Any], local: str, person: tuple[str, bool | None] | None
) -> None:
    """Whom a flag was evaluated for counts where nothing stronger says who it was, and makes no person."""
    signal = span_event({"feature_flag.key": "f", "feature_flag.context.id": "target", **attributes}, owner=owner)
    (event,) = decide(signal.with_local(LocalContext(distinct_id=local))).events

    found = (event.distinct_id, event.properties.get("$process_person_profile"))
    if person is None:
        # Nobody: the stand-in of the trace.
        assert "anonymous" not in found
        assert found[1] is False
    else:
        assert found == person


@pytest.mark.parametrize("provider", ["PostHogProvider", "posthog", "posthog-provider"])
@pytest.mark.parametrize("key", ["feature_flag.provider.name", "feature_flag.provider_name"])
def test_posthogs_own_provider_reports_itself(provider: str, key: str) -> None:
    """Its events are no second `$feature_flag_called`; who told it not to report can have them."""
    signal = log({"feature_flag.key": "f", "feature_flag.result.value": True, key: provider})

    assert decide(signal) == Decision(reason=DropReason.REPORTED_BY_POSTHOG)
    assert said(signal, flag_events="all")["$feature_flag_response"] is True


def test_our_own_client_is_another_provider() -> None:
    """It sends no events but these, with what PostHog's evaluation knows."""
    attributes = {
        "feature_flag.key": "f",
        "feature_flag.result.variant": "a",
        "feature_flag.provider.name": "otel-posthog",
        "posthog.distinct_id": "ada",
        "posthog.properties.$feature_flag_id": 7,
        "posthog.properties.$feature_flag_reason": "Matched condition set 1",
        "posthog.properties.locally_evaluated": True,
    }

    assert said(log(attributes)) == {
        "$feature_flag": "f",
        "$feature_flag_response": "a",
        "$feature/f": "a",
        "$feature_flag_id": 7,
        "$feature_flag_reason": "Matched condition set 1",
        "feature_flag_provider": "otel-posthog",
        "locally_evaluated": True,
    }


@pytest.mark.parametrize(
    ("signal", "reason"),
    [
        (log({"feature_flag.result.variant": "a"}), DropReason.INVALID),
        (log({"feature_flag.key": " "}), DropReason.INVALID),
        (log({"feature_flag.key": 7}), DropReason.INVALID),
        (log({"feature_flag.key": "f"}, "feature_flag.changed"), DropReason.NOT_TAGGED),
        (log({"feature_flag.key": "f"}, ""), DropReason.NOT_TAGGED),
        (log({"feature_flag.key": "f", "event.name": [EVALUATION]}, ""), DropReason.NOT_TAGGED),
        (log({"feature_flag.key": "f", "posthog.ignore": True}), DropReason.IGNORED),
        (
            Signal(SignalKind.SPAN, "feature_flag", {"feature_flag.key": "f"}, Resource(), Scope()),
            DropReason.NOT_TAGGED,
        ),
    ],
)
def test_what_is_no_evaluation(signal: Signal, reason: DropReason) -> None:
    """A flag without a key, other events about flags, and spans that merely name one."""
    assert decide(signal) == Decision(reason=reason)


def test_it_can_be_switched_off() -> None:
    """Then they are items like any other."""
    assert decide(log({"feature_flag.key": "f"}), flag_events="off") == Decision(reason=DropReason.NOT_TAGGED)


def test_what_the_process_carries_is_not_converted_again() -> None:
    """At a gateway, evaluations of a bridged process arrive as finished events too."""
    signal = log({"feature_flag.key": "f"}, resource=Resource({"posthog.carrier": "bridge"}))

    assert decide(signal, honour_carrier=True) == Decision(reason=DropReason.CARRIED_BY_LOG)


@pytest.mark.parametrize(
    ("attributes", "rules", "events"),
    [
        ({"posthog.event": "seen"}, "", ["seen", "$feature_flag_called"]),
        ({"posthog.event": "$feature_flag_called"}, "", ["$feature_flag_called"]),
        ({"posthog.set.plan": "pro", "user.id": "u"}, "", ["$feature_flag_called", "$set"]),
        ({}, "rules: [{name: r, match: {kind: log, name: feature_flag.evaluation}, capture: asked}]",
         ["asked", "$feature_flag_called"]),
        ({}, "rules: [{name: r, match: {kind: log, name: feature_flag.evaluation}, drop: true}]", []),
        ({"exception.type": "ValueError"}, "", ["$exception", "$feature_flag_called"]),
    ],
)  # fmt: skip
def test_beside_other_events(attributes: dict[str, Any], rules: str, events: list[str]) -> None:
    """A tag or a rule that names an event does not hide the flag call; a rule that drops does."""
    signal = log({"feature_flag.key": "f", "feature_flag.result.value": True, **attributes})
    decision = decide(signal, parse_text(f"version: 1\n{rules}") if rules else None)

    assert [event.event for event in decision.events] == events
    assert len({event.uuid for event in decision.events}) == len(events)


def test_two_flags_of_one_moment_are_two_events() -> None:
    """In one span and one nanosecond only the key tells them apart, and PostHog keeps one event for each uuid."""
    first, second = (decide(log({"feature_flag.key": key})).events[0] for key in ("a", "b"))

    assert first.uuid != second.uuid
    assert first.uuid == decide(log({"feature_flag.key": "a", "added.by": "a collector"})).events[0].uuid


def test_the_uuid_of_the_item_is_that_of_the_event() -> None:
    """As for every item that brings one."""
    uuid = "0190a6f0-7d3e-7c3a-9f31-3f6f3e3a7e11"

    assert decide(log({"feature_flag.key": "f", "posthog.uuid": uuid})).events[0].uuid == uuid


def test_values_of_flags_on_events() -> None:
    """What a span happened under is on its event and on its span events; what these say themselves stays."""
    flags = {"posthog.properties.$feature/a": "x", "posthog.properties.$active_feature_flags": ["a"]}
    owner = {**flags, "posthog.properties.secret": 1}
    event = span_event({"posthog.event": "paid", "posthog.properties.$feature/b": False}, "note", owner)

    (made,) = decide(event).events
    own = {key: value for key, value in made.properties.items() if "feature" in key or key == "secret"}
    assert own == {"$feature/a": "x", "$feature/b": False, "$active_feature_flags": ["a"]}

    (tagged,) = decide(log({"posthog.event": "paid", "user.id": "u", **flags}, "")).events
    assert (tagged.properties["$feature/a"], tagged.properties["$active_feature_flags"]) == ("x", ["a"])


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = (
    "key", "result.variant", "variant", "result.value", "result.reason", "evaluation.reason", "provider.name",
    "provider_name", "context.id", "set.id", "version",
)  # fmt: skip


@given(
    values=st.dictionaries(st.sampled_from(KEYS), anything),
    error=anything,
    body=anything,
    name=st.sampled_from([EVALUATION, "feature_flag", ""]),
)
def test_any_value_gives_an_event_or_a_reason(values: dict[str, Any], error: Any, body: Any, name: str) -> None:
    """Whatever providers write: one valid event, the same at the second look, or one reason."""
    attributes = {f"feature_flag.{key}": value for key, value in values.items()} | {"error.type": error}
    decision = decide(log(attributes, name, body), flag_events="all")

    assert (decision.reason is None) == (len(decision.events) == 1)
    assert repr(decide(log(attributes, name, body), flag_events="all")) == repr(decision)
    for event in decision.events:
        assert event.distinct_id
        response = event.properties.get("$feature_flag_response")
        assert response is None or isinstance(response, (bool, str))
