"""`identify`, `set_person`, `unset_person`, `alias`, `reset`, `group`: who and what the work at hand is for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any
from uuid import UUID, uuid4

import pytest
from dirty_equals import IsStr, IsUUID

import otel_posthog
from otel_posthog.context import Ambient, current_work, working
from otel_posthog.model import CaptureEvent
from otel_posthog.version import __version__
from tests.unit.api.conftest import Calls

LIBRARY = {"$lib": "otel-posthog", "$lib_version": __version__, "$is_server": True, "$geoip_disable": True}


# --- identify --------------------------------------------------------------------------------------------------------


def test_identify_with_properties(calls: Calls) -> None:
    """Person properties are one `$set` event, at once, and nothing else."""
    uuid = otel_posthog.identify("ada", set={"plan": "pro"}, set_once={"first seen": "2026"})

    assert calls.events == [
        CaptureEvent(
            "$set",
            "ada",
            calls.events[0].uuid,
            calls.events[0].timestamp_ns,
            {**LIBRARY, "$set": {"plan": "pro"}, "$set_once": {"first seen": "2026"}},
        )
    ]
    assert UUID(uuid).version == 7


def test_identify_off(off: None) -> None:
    """Behind a shut gate nobody is identified."""
    assert otel_posthog.identify("ada", set={"plan": "pro"}) is None


def test_identify_alone_sends_nothing(calls: Calls) -> None:
    """In every request, and free: without anything to say no event is made, yet what follows is the person's."""
    with calls.app.tracer.start_as_current_span("request"):
        assert otel_posthog.identify("ada") is None
        otel_posthog.capture("x")
        assert calls.at_once == ["x"]

    assert calls.said == [("x", "ada", {})]


def test_the_old_wrapper(calls: Calls) -> None:
    """`{"$set": …, "$set_once": …}` as the second argument is unwrapped, and beside `set_once` merged."""
    otel_posthog.identify("ada", {"$set": {"plan": "pro"}, "$set_once": {"first": 1}}, {"second": 2})

    assert calls.said == [("$set", "ada", {"$set": {"plan": "pro"}, "$set_once": {"first": 1, "second": 2}})]


def test_an_empty_wrapper(calls: Calls) -> None:
    """A wrapper with nothing in it, or with something that is no mapping, says nothing."""
    otel_posthog.identify("ada", {"$set": {}, "$set_once": None})
    otel_posthog.identify("ada", {"$set": "pro"})

    assert calls.said == []
    assert calls.misused == {"set": 1}


def test_earlier_events_of_the_request(calls: Calls) -> None:
    """What was captured before, and spans that ended before, become the person's; all of it once."""
    tracer = calls.app.tracer
    with tracer.start_as_current_span("request"):
        with tracer.start_as_current_span("early", attributes={"posthog.event": "annotated"}):
            pass
        otel_posthog.capture("captured")
        otel_posthog.identify("ada")

    assert sorted(calls.said) == [("annotated", "ada", {"duration_ms": pytest.approx(0, abs=60_000)}),
                                  ("captured", "ada", {})]  # fmt: skip


def test_earlier_events_without_an_end(calls: Calls) -> None:
    """After the wait they need not wait for the end of a long request either."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.capture("early")
        otel_posthog.identify("ada")
        assert calls.at_once == []
        calls.app.clock.now += 3
        assert calls.at_once == ["early"]
        assert [event.distinct_id for event in calls.app.delivery.events] == ["ada"]


def test_spans_are_marked(calls: Calls) -> None:
    """The current span and the request's have both names that link a trace to a person."""
    tracer = calls.app.tracer
    start = tracer.start_as_current_span
    with start("request") as root, start("between") as between, start("login") as login:
        otel_posthog.identify("ada")
    marks = {"posthog.distinct_id": "ada", "posthogDistinctId": "ada"}

    assert [dict(span.attributes) for span in (root, between, login)] == [marks, {}, marks]


def test_no_span_and_other_spans(calls: Calls) -> None:
    """It works without a span, in one that is not recorded, and after the span has ended."""
    from opentelemetry import trace

    otel_posthog.identify("ada", set={"a": 1})
    remote = trace.SpanContext(1, 2, is_remote=True)
    with trace.use_span(trace.NonRecordingSpan(remote)):
        otel_posthog.identify("ada", set={"a": 2})
    with calls.app.tracer.start_as_current_span("over") as span:
        span.end()
        otel_posthog.identify("ada", set={"a": 3})

    assert [own["$set"] for _, _, own in calls.said] == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_visitor_becomes_a_person(calls: Calls) -> None:
    """The anonymous id is merged by one `$identify`, with the properties in it; the second call has nothing to do."""
    with working(Ambient(anonymous_id="device-7")):
        otel_posthog.capture("seen")
        uuid = otel_posthog.identify("ada", set={"plan": "pro"})
        assert otel_posthog.identify("ada") is None

    assert calls.said == [
        ("seen", "device-7", {}),
        ("$identify", "ada", {"$anon_distinct_id": "device-7", "$set": {"plan": "pro"}}),
    ]
    assert uuid is not None


def test_a_visitor_with_that_very_id(calls: Calls) -> None:
    """An id is not merged with itself."""
    with working(Ambient(anonymous_id="ada")):
        assert otel_posthog.identify("ada") is None

    assert calls.said == []


def test_the_person_changes(calls: Calls) -> None:
    """Somebody else from now on: no merge of two people, and nobody is guessed for what came before."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.capture("before")
        otel_posthog.identify("ada")
        otel_posthog.capture("as ada")
        otel_posthog.identify("bob")
        otel_posthog.capture("as bob")

    assert [(name, person) for name, person, _ in calls.said] == [("as ada", "ada"), ("as bob", "bob"), ("before", "")]


@pytest.mark.parametrize("distinct_id", [None, "", "anonymous", "None", True, object(), ["ada"], float("nan"), 0])
def test_identify_nobody(calls: Calls, caplog: pytest.LogCaptureFixture, distinct_id: Any) -> None:
    """What is no id identifies nobody, and sets nothing on anybody: one warning, a count."""
    with caplog.at_level(logging.WARNING), calls.app.tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        assert otel_posthog.identify(distinct_id, set={"plan": "pro"}) is None
        assert otel_posthog.identify(distinct_id) is None
        otel_posthog.capture("x")

    assert calls.said == [("x", "ada", {})]
    assert calls.misused == {"distinct_id": 2}
    assert len([record for record in caplog.records if "is no distinct id" in record.message]) == 1


def test_follows_the_work(calls: Calls) -> None:
    """What a task or thread of the work learns holds for all of the work."""
    with calls.app.tracer.start_as_current_span("request"):
        current_work()
        thread = threading.Thread(target=copy_context().run, args=(otel_posthog.identify, "ada"))
        thread.start()
        thread.join(30)
        otel_posthog.capture("after")

    assert calls.said == [("after", "ada", {})]


def test_a_loop_without_scopes(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """One person after another, with nothing that tells the pieces of work apart: a warning, and no mixed groups."""
    with caplog.at_level(logging.WARNING):
        otel_posthog.identify("ada")
        otel_posthog.group("company", "acme")
        otel_posthog.identify("ada")
        assert calls.misused == {}
        otel_posthog.identify("bob")
        otel_posthog.capture("x")

    assert calls.said == [("x", "bob", {})]
    assert calls.misused == {"scope": 1}
    assert "put `with otel_posthog.scope():` around each piece of work" in caplog.text


def test_a_worker_of_a_request_that_is_over(calls: Calls) -> None:
    """A thread that a request started, and that serves others later: no group, session or flag of that request."""
    before = Ambient(distinct_id="ada", session_id="s-1", groups={"company": "acme"}, flags={"new-ui": True})
    with working(before):
        worker = copy_context()
    worker.run(otel_posthog.identify, "ada")
    assert calls.misused == {}
    worker.run(otel_posthog.identify, "bob")
    worker.run(otel_posthog.capture, "x")

    (event,) = calls.events
    assert (event.distinct_id, calls.misused) == ("bob", {"scope": 1})
    assert not {"$groups", "$session_id", "$feature/new-ui"} & set(event.properties)


def test_a_worker_of_a_visit_that_is_over(calls: Calls) -> None:
    """Whoever a thread serves after the visitor's request that started it is not made one with the visitor."""
    with working(Ambient(anonymous_id="visitor")):
        worker = copy_context()
    worker.run(otel_posthog.identify, "bob")
    worker.run(otel_posthog.capture, "x")

    assert calls.said == [("x", "bob", {})]


def test_the_next_request(calls: Calls) -> None:
    """Who was identified in one request is nobody in the next, on the same thread."""
    with calls.app.tracer.start_as_current_span("one"):
        otel_posthog.identify("ada")
        otel_posthog.group("company", "acme")
    with calls.app.tracer.start_as_current_span("two"):
        otel_posthog.capture("x")

    assert calls.said == [("x", "", {})]


# --- set_person, unset_person ----------------------------------------------------------------------------------------


def test_set_person(calls: Calls) -> None:
    """Properties of the person at hand, or of the one that is named."""
    otel_posthog.identify("ada")
    otel_posthog.set_person({"plan": "pro"}, {"first": 1})
    otel_posthog.set_person(set_once={"first": 2}, distinct_id="bob")
    otel_posthog.set_person({"$set": {"plan": "free"}}, distinct_id=7)
    uuid = otel_posthog.set_person({"seats": 5})

    assert calls.said == [
        ("$set", "ada", {"$set": {"plan": "pro"}, "$set_once": {"first": 1}}),
        ("$set", "bob", {"$set_once": {"first": 2}}),
        ("$set", "7", {"$set": {"plan": "free"}}),
        ("$set", "ada", {"$set": {"seats": 5}}),
    ]
    assert uuid is not None


def test_set_person_before_the_login(calls: Calls) -> None:
    """Without a person yet the update waits for the end of the request, as an event does."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.set_person({"plan": "pro"})
        otel_posthog.identify("ada")

    assert calls.said == [("$set", "ada", {"$set": {"plan": "pro"}})]


def test_updates_keep_their_order(calls: Calls) -> None:
    """PostHog keeps what arrives last: what waits for its person is not overtaken by later updates, events are."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.set_person({"plan": "free", "trial": True})
        otel_posthog.group("company", "acme", set={"seats": 1})
        otel_posthog.identify("ada", set={"plan": "pro"})
        otel_posthog.unset_person("trial")
        otel_posthog.group("company", "acme", set={"seats": 2})
        otel_posthog.set_person({"plan": "team"}, distinct_id="bob")
        otel_posthog.capture("paid", set={"plan": "team"})
        otel_posthog.capture("seen")
        assert calls.at_once == ["seen"]

    assert [
        (name, person, of.get("$set") or of.get("$group_set") or of.get("$unset")) for name, person, of in calls.said
    ] == [
        ("seen", "ada", None),
        ("$set", "ada", {"plan": "free", "trial": True}),
        ("$groupidentify", "ada", {"seats": 1}),
        ("$set", "ada", {"plan": "pro"}),
        ("$set", "ada", ["trial"]),
        ("$groupidentify", "ada", {"seats": 2}),
        ("$set", "bob", {"plan": "team"}),
        ("paid", "ada", {"plan": "team"}),
    ]


def test_set_person_of_nobody(calls: Calls) -> None:
    """Where nobody is known in the end there is nobody to update: dropped, and counted."""
    otel_posthog.set_person({"plan": "pro"})

    assert calls.said == []
    assert calls.app.reasons() == {"no_subject": 1}


def test_an_update_in_passing(calls: Calls) -> None:
    """Who updates somebody else by name says nothing about whose the request is."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.capture("x")
        otel_posthog.set_person({"plan": "free"}, distinct_id="bob")
        otel_posthog.alias("device-7", distinct_id="bob")

    assert [(name, person) for name, person, _ in calls.said] == [("$set", "bob"), ("$create_alias", "bob"), ("x", "")]


def test_set_person_of_an_illegal_id(calls: Calls) -> None:
    """An update that names an illegal person never becomes the person's at hand."""
    otel_posthog.identify("ada")
    otel_posthog.set_person({"plan": "pro"}, distinct_id="anonymous")
    otel_posthog.set_person({"plan": "pro"}, distinct_id=object())  # type: ignore[arg-type]
    otel_posthog.alias("other", distinct_id="")
    otel_posthog.unset_person("plan", distinct_id="null")

    assert calls.said == []
    assert calls.misused == {"distinct_id": 4}


def test_nothing_to_set(calls: Calls) -> None:
    """Calls that say nothing make nothing."""
    otel_posthog.identify("ada")
    assert otel_posthog.set_person() is None
    assert otel_posthog.set_person({}) is None
    assert otel_posthog.unset_person() is None
    assert otel_posthog.unset_person("") is None

    assert calls.said == []


def test_set_person_off(off: None) -> None:
    """Behind a shut gate nothing is set and nothing removed."""
    assert otel_posthog.set_person({"plan": "pro"}, distinct_id="ada") is None
    assert otel_posthog.unset_person("plan", distinct_id="ada") is None


def test_unset_person(calls: Calls) -> None:
    """Names of properties, also as a list; what is no name is left out."""
    otel_posthog.identify("ada")
    assert otel_posthog.unset_person("plan", "seats") is not None
    otel_posthog.unset_person(["a", 5], distinct_id="bob")  # type: ignore[arg-type]

    assert calls.said == [("$set", "ada", {"$unset": ["plan", "seats"]}), ("$set", "bob", {"$unset": ["a"]})]
    assert calls.misused == {"unset": 1}


# --- alias -----------------------------------------------------------------------------------------------------------


def test_alias(calls: Calls) -> None:
    """Another id of the person at hand, or of the one that is named."""
    otel_posthog.identify("ada")
    otel_posthog.alias("device-7")
    otel_posthog.alias(uuid := uuid4(), distinct_id="bob")

    assert calls.said == [
        ("$create_alias", "ada", {"distinct_id": "ada", "alias": "device-7"}),
        ("$create_alias", "bob", {"distinct_id": "bob", "alias": str(uuid)}),
    ]


@pytest.mark.parametrize("other", [None, "", "guest", object()])
def test_no_alias(calls: Calls, other: Any) -> None:
    """What is no id is no alias."""
    otel_posthog.identify("ada")
    assert otel_posthog.alias(other) is None

    assert calls.said == []
    assert calls.misused == {"distinct_id": 1}


def test_an_alias_of_itself(calls: Calls) -> None:
    """An id is not another name of itself."""
    otel_posthog.alias("ada", distinct_id="ada")

    assert calls.said == []


def test_alias_off(off: None) -> None:
    """Behind a shut gate nobody gets another name."""
    assert otel_posthog.alias("device-7", distinct_id="ada") is None


# --- reset -----------------------------------------------------------------------------------------------------------


def test_reset(calls: Calls) -> None:
    """After a logout the rest of the request is one new visitor's, without a profile; the login page's is, too."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        otel_posthog.group("company", "acme")
        otel_posthog.capture("as ada")
        otel_posthog.reset()
        otel_posthog.capture("goodbye")
        otel_posthog.capture("login page")

    assert calls.said == [
        ("as ada", "ada", {"$groups": {"company": "acme"}}),
        ("goodbye", "", {}),
        ("login page", "", {}),
    ]
    assert [event.distinct_id for event in calls.events[1:]] == [IsUUID, calls.events[1].distinct_id]


def test_login_after_a_logout(calls: Calls) -> None:
    """Who logs in next has been the visitor since the logout, and never the one before."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        otel_posthog.reset()
        otel_posthog.capture("between")
        otel_posthog.identify("bob")
        otel_posthog.capture("after")
    between, merge, after = calls.events

    assert [between.event, merge.event, after.event] == ["between", "$identify", "after"]
    assert (merge.distinct_id, merge.properties["$anon_distinct_id"]) == ("bob", between.distinct_id)
    assert after.distinct_id == "bob"


def test_reset_off(off: None) -> None:
    """Behind a shut gate there is nobody to forget."""
    otel_posthog.reset()
    assert current_work().ambient == Ambient()


# --- group -----------------------------------------------------------------------------------------------------------


def test_group(calls: Calls) -> None:
    """Every event from now on has it; one key for each type; properties are a `$groupidentify`."""
    with calls.app.tracer.start_as_current_span("request") as span:
        otel_posthog.identify("ada")
        assert otel_posthog.group("company", "acme") is None
        otel_posthog.group("team", 5)
        uuid = otel_posthog.group("company", "apex", set={"size": 3})
        otel_posthog.capture("x")
    groups = {"company": "apex", "team": "5"}

    assert calls.said == [
        (
            "$groupidentify",
            "ada",
            {
                "$groups": groups,
                "$group_type": "company",
                "$group_key": "apex",
                "$group_set": {"size": 3},
            },
        ),
        ("x", "ada", {"$groups": groups}),
    ]
    assert uuid is not None
    assert span.attributes["posthog.groups.company"] == "apex"
    assert span.attributes["posthog.groups.team"] == "5"


def test_a_group_of_nobody(calls: Calls) -> None:
    """Its properties are set, whoever asks for it; always under one id of its own."""
    otel_posthog.group("company", "acme", set={"size": 3})

    assert [(event.event, event.distinct_id) for event in calls.events] == [("$groupidentify", "$company_acme")]


@pytest.mark.parametrize(
    ("kind", "key"), [("", "acme"), ("company", ""), ("company", None), (None, "acme"), ("a.b", "c"), ("company", True)]
)
def test_no_group(calls: Calls, kind: Any, key: Any) -> None:
    """What names no group is none; there is a count."""
    assert otel_posthog.group(kind, key, set={"size": 3}) is None
    otel_posthog.capture("x")

    assert calls.said == [("x", "", {})]
    assert calls.misused == {"group": 1}


def test_keys_taken_for_types(calls: Calls) -> None:
    """A loop that takes keys for types gets a warning, and does not fill the memory; known types still change."""
    for number in range(100):
        otel_posthog.group(f"company {number}", "acme")
    otel_posthog.group("company 7", "apex")

    known = current_work().ambient.groups
    assert (len(known), known["company 7"]) == (20, "apex")
    assert calls.misused == {"group_types": 80}


def test_group_off(off: None) -> None:
    """Behind a shut gate there is no group."""
    assert otel_posthog.group("company", "acme", set={"size": 3}) is None
    assert current_work().ambient == Ambient()


def test_events_in_order(build: Callable[..., Calls]) -> None:
    """An update leaves before the event that was captured after it, in the same batch."""
    calls = build()
    otel_posthog.identify("ada", set={"plan": "pro"})
    otel_posthog.capture("upgraded")

    assert [event.event for event in calls.events] == ["$set", "upgraded"]
    assert calls.events[1].properties["$lib"] == IsStr()
