"""Factories, rules under test, and the fold into people and groups."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timezone
from pathlib import Path

import pytest
from dirty_equals import IsPartialDict
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from otel_posthog.emulator import Emulator
from otel_posthog.errors import ConfigError, RulesError
from otel_posthog.testing import Events, Group, Person, fold, make_event, make_log, make_span, make_span_event, rules_of

RULES = """
rules:
  - name: payments
    match: {name: pay, span_kind: server}
    capture: {event: order paid, properties: {total: "{shop.total}"}}
  - name: noise
    match: {name: health}
    drop: true
"""


def test_rules_under_test(tmp_path: Path) -> None:
    """What a rules file makes of a span, and why it makes nothing of another one."""
    rules = rules_of(RULES)
    paid = make_span("pay", {"shop.total": 29.0, "user.id": "ada"}, kind="server", duration=1.5)

    assert rules.event(paid) == {
        "event": "order paid",
        "distinct_id": "ada",
        "properties": {"total": 29.0, "duration_ms": 1500.0},
    }
    assert (rules.rule(paid), rules.why(paid)) == ("payments", "")
    assert (rules.rule(make_span("health")), rules.why(make_span("health"))) == ("noise", "rule")
    assert (rules.rule(make_span("pay")), rules.why(make_span("pay"))) == ("", "not_tagged")
    assert [event.name for event in rules.events(paid, make_span("health"), paid)] == ["order paid"] * 2
    with pytest.raises(AssertionError, match=r"^the span 'health' becomes no event: rule \(rule 'noise'\)$"):
        rules.event(make_span("health"))

    file = tmp_path / "rules.yaml"
    file.write_text(RULES)
    assert rules_of(file).event(paid) == rules_of(str(file)).event(paid) == rules.event(paid)


def test_logs_and_span_events_under_test() -> None:
    """The same for log records and events of spans."""
    rules = rules_of("rules:\n  - {name: d, match: {kind: log, body: declined}, capture: card declined}\n")
    span = make_span("pay", {"user.id": "ada"})

    assert rules.event(make_log("declined", {"user.id": "ada"})) == {
        "event": "card declined",
        "distinct_id": "ada",
        "properties": {},
    }
    error = make_span_event("exception", {"exception.type": "OSError", "exception.message": "x"}, span=span)
    assert rules.event(error) == IsPartialDict(event="$exception", distinct_id="ada")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_span(kind="servre"), "kind is one of internal, server, client, producer, consumer, not 'servre'"),
        (lambda: make_span(status="bad"), "status is one of unset, ok, error, not 'bad'"),
        (lambda: make_log(severity=25), "a severity is a number from 0 to 24, not 25"),
        (lambda: make_event(timestamp=datetime(2026, 1, 1)), "has no zone"),
    ],
)
def test_what_cannot_be_made(make: object, said: str) -> None:
    """A wrong argument is told at once."""
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]


def test_wrong_rules_are_told() -> None:
    """By key and line, as in production; and so are settings."""
    with pytest.raises(RulesError, match=r"rules\[0\].nome"):
        rules_of("rules:\n  - {nome: x}\n")
    with pytest.raises(ConfigError, match="Did you mean keep_query"):
        rules_of(RULES, keep_qery=True)
    with pytest.raises(RulesError, match="nowhere"):
        rules_of("nowhere.yaml")


def test_an_event_is_a_dict() -> None:
    """Copies, pickles (xdist sends them) and comparisons are those of a dict; and it is no key."""
    event = make_event("paid", properties={"total": 1}, groups={"company": "acme"}, set={"plan": "pro"})

    assert event == {
        "event": "paid",
        "distinct_id": "ada",
        "properties": {"total": 1, "$set": {"plan": "pro"}},
        "groups": {"company": "acme"},
    }
    assert pickle.loads(pickle.dumps(event)).whole == copy.deepcopy(event).whole == event.whole
    assert make_event().uuid != make_event().uuid
    with pytest.raises(TypeError, match="its `uuid` can"):
        hash(event)


def test_people_and_groups() -> None:
    """`$set` and its like, merges, groups, duplicates, visitors; in order of arrival."""
    late = datetime(2025, 1, 1, tzinfo=timezone.utc)
    twice = make_event("seen", "anon", set_once={"first": "a"}, groups={"company": "acme"})
    folded = fold(
        [
            twice,
            twice,
            make_event("$identify", "ada", {"$anon_distinct_id": "anon"}, set={"plan": "pro", "old": 1}),
            make_event("$set", "ada", {"$unset": ["old"]}, set={"plan": "team"}, timestamp=late),
            make_event("$create_alias", "ada", {"alias": "ada@work"}),
            {
                "event": "$groupidentify",
                "distinct_id": "ada",
                "properties": {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 3}},
            },
            make_event("seen", "visitor", {"$process_person_profile": False}),
            make_event("seen", "bob"),
            make_event("$identify", "bob", {"$anon_distinct_id": "ada"}),
        ]
    )

    assert folded.persons == (
        Person(("anon", "ada", "ada@work"), {"first": "a", "plan": "team"}, identified=True, events=5),
        Person(("bob",), {}, identified=True, events=2),
    )
    assert folded.person("ada@work") is folded.person("anon")
    assert folded.group("company", "acme") == Group("company", "acme", {"size": 3}, events=2)
    assert (folded.events, folded.warnings) == (8, {"cannot_merge_already_identified": 1})
    with pytest.raises(AssertionError) as nobody:
        folded.person("eve")
    assert str(nobody.value) == snapshot("there is no person 'eve'; there is anon/ada/ada@work, bob")
    with pytest.raises(AssertionError) as no_group:
        folded.group("company", "x")
    assert str(no_group.value) == snapshot("there is no company 'x'; there is company 'acme'")


NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3), max_size=2)
EVENTS = st.lists(
    st.one_of(
        st.builds(make_event, distinct_id=NAMES, set=VALUES, set_once=VALUES),
        st.builds(lambda who, other: make_event("$identify", who, {"$anon_distinct_id": other}), NAMES, NAMES),
        st.builds(lambda who, keys: make_event("$set", who, {"$unset": keys}), NAMES, st.lists(st.sampled_from("xyz"))),
        st.builds(lambda who, key: make_event("seen", who, groups={"company": key}), NAMES, NAMES),
    ),
    max_size=8,
)


def test_the_fold_is_the_local_posthog() -> None:
    """Whatever the events: the people and groups are those of the emulator that is sent the same over HTTP."""
    pytest.importorskip("uvicorn")
    import json
    import urllib.request

    with Emulator() as emulator:

        @given(EVENTS)
        def same(events: list[dict[str, object]]) -> None:
            emulator.reset()
            if events:
                body = json.dumps({"api_key": "phc_test", "batch": Events(events).as_dicts(whole=True)}).encode()
                headers = {"Content-Type": "application/json"}
                urllib.request.urlopen(urllib.request.Request(f"{emulator.url}/batch/", body, headers), timeout=60)
            folded = fold(events)

            def plain(row: dict[str, object]) -> tuple[object, ...]:
                return tuple(row["distinct_ids"]), row["properties"], row["identified"], row["events"]  # type: ignore[arg-type]

            theirs = sorted((plain(row) for row in emulator.persons()), key=repr)
            ours = sorted(
                ((one.distinct_ids, one.properties, one.identified, one.events) for one in folded.persons), key=repr
            )
            assert ours == theirs
            assert [(one.type, one.key, one.events) for one in folded.groups] == [
                (row["type"], row["key"], row["events"]) for row in emulator.groups()
            ]

        same()
