"""The emulator's remote answer and the local evaluation of PostHog's own SDK over the definitions served: the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posthog import Posthog
from posthog.feature_flags import InconclusiveMatchError, match_property

from otel_posthog.emulator import Emulator, FlagsError
from otel_posthog.emulator.flags.document import flags_of
from otel_posthog.emulator.flags.model import Filter
from otel_posthog.emulator.flags.operators import DATES, NUMERIC, OPERATORS, PRESENCE, SEMVER, SEMVER_RANGES, meets
from otel_posthog.emulator.flags.rules import Subject, evaluate

FLAGS: dict[str, Any] = {
    "group_types": ["company", "project"],
    "cohorts": {
        "team": {"any": [{"email": {"ends_with": "@example.com"}}, {"beta": True, "seats": {"gt": 3}}]},
        "testers": {"distinct_ids": ["id-1", "id-2", "id-3"]},
    },
    "flags": {
        "everybody": True,
        "nobody": False,
        "forced": "green",
        "tenth": {"rollout_percentage": 10, "payload": {"steps": [1, 2]}},
        "third": {"rollout_percentage": 33.3},
        "colours": {"variants": {"control": 33.3, "green": 33.3, "blue": 33.4}, "payloads": {"green": "#0a0"}},
        "half-colours": {
            "variants": {"a": 50, "b": 50},
            "conditions": [
                {"properties": {"plan": "pro"}, "variant": "b"},
                {"rollout_percentage": 40},
            ],
        },
        "team-only": {"conditions": [{"cohorts": ["team"]}]},
        "not-team": {"conditions": [{"not_cohorts": ["team"], "rollout_percentage": 70}]},
        "after-third": {"conditions": [{"flags": {"third": True, "colours": "green"}}]},
        "without-third": {"conditions": [{"flags": {"third": False, "colours": True}, "rollout_percentage": 60}]},
        "by-company": {"group": "company", "rollout_percentage": 50},
        "rich-companies": {
            "group": "company",
            "variants": {"x": 20, "y": 80},
            "conditions": [{"properties": {"mrr": {"gte": 1000}, "$group_key": {"is_set": True}}}],
        },
        "mixed": {
            "conditions": [
                {"group": "company", "properties": {"mrr": {"lt": 10}}, "rollout_percentage": 50},
                {"properties": {"plan": ["pro", "team"]}, "rollout_percentage": 50},
            ]
        },
        "gone": {"active": False},
        "after-gone": {"conditions": [{"flags": {"gone": False}}]},
    },
}
KEYS = [key for key in FLAGS["flags"] if key != "gone"]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """The flags above, and companies that it knows."""
    with Emulator(flags=FLAGS) as started:
        yield started


@pytest.fixture(scope="module")
def local(emulator: Emulator) -> Iterator[Posthog]:
    """An SDK that evaluates by itself."""
    sdk = Posthog("phc_x", host=emulator.url, secret_key="phx_x", poll_interval=3600)
    sdk.load_feature_flags()
    yield sdk
    sdk.shutdown()


@pytest.fixture(scope="module")
def remote(emulator: Emulator) -> Iterator[Posthog]:
    """An SDK that asks for everything."""
    sdk = Posthog("phc_x", host=emulator.url)
    yield sdk
    sdk.shutdown()


def somebody(number: int, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A distinct id, and what is said about them."""
    person = {"plan": chance.choice(["pro", "team", "free"]), "beta": chance.choice([True, False, "true"])}
    person |= {"email": chance.choice(["a@example.com", "b@elsewhere.org"]), "seats": chance.randrange(8)}
    return f"id-{number}" if number % 2 else f"{chance.getrandbits(128):x}ü", {
        "person_properties": person,
        "groups": {"company": f"c-{chance.randrange(50)}"},
        "group_properties": {"company": {"mrr": chance.choice([5, 500, 5000])}},
    }


def test_a_thousand_people(local: Posthog) -> None:
    """Every flag has for each of 1,000 people the value and the payload that the SDK finds by itself."""
    flags, chance = flags_of(FLAGS), random.Random(11)
    seen: dict[str, set[Any]] = {key: set() for key in KEYS}
    for number in range(1000):
        distinct_id, asked = somebody(number, chance)
        groups = asked["groups"]
        of_groups = {kind: {"$group_key": groups[kind], **asked["group_properties"][kind]} for kind in groups}
        subject = Subject(distinct_id, {"distinct_id": distinct_id, **asked["person_properties"]}, groups, of_groups)
        ours = evaluate(flags, flags.flags, subject, datetime.now(timezone.utc))
        theirs = local.evaluate_flags(distinct_id, only_evaluate_locally=True, **asked)
        got = {key: (outcome.value, outcome.payload) for key, outcome in ours.items()}
        assert got == {key: (theirs.get_flag(key), theirs.get_flag_payload(key)) for key in KEYS}, distinct_id
        assert theirs.unresolved_flags == {}
        for key in KEYS:
            seen[key].add(got[key][0])

    assert seen == {
        "everybody": {True}, "nobody": {False}, "forced": {"green"}, "tenth": {True, False}, "third": {True, False},
        "colours": {"control", "green", "blue"}, "half-colours": {"a", "b", False}, "team-only": {True, False},
        "not-team": {True, False}, "after-third": {True, False}, "without-third": {True, False},
        "by-company": {True, False}, "rich-companies": {"x", "y", False}, "mixed": {True, False}, "after-gone": {True},
    }  # fmt: skip


def test_asked_and_evaluated(local: Posthog, remote: Posthog, emulator: Emulator) -> None:
    """The same over the wire: what the SDK is told is what it finds, with one request for each person."""
    chance = random.Random(12)
    before = emulator.stats()["flag_requests"]["evaluations"]
    for number in range(100):
        distinct_id, asked = somebody(number, chance)
        there = remote.evaluate_flags(distinct_id, **asked)
        here = local.evaluate_flags(distinct_id, only_evaluate_locally=True, **asked)
        assert {key: (there.get_flag(key), there.get_flag_payload(key)) for key in KEYS} == {
            key: (here.get_flag(key), here.get_flag_payload(key)) for key in KEYS
        }, distinct_id
        assert sorted(there.keys) == sorted(KEYS)

    assert emulator.stats()["flag_requests"]["evaluations"] - before == 100


def test_no_definition_is_beyond_the_sdk(local: Posthog) -> None:
    """The SDK finds nothing in the definitions that it could never evaluate by itself."""
    snapshot = local._local_evaluation_snapshot()

    assert local._classify_unresolvable_flags(snapshot) == {}


numbers = st.one_of(
    st.integers(-(10**20), 10**20), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1", "1.0", "1e3", " 5", "+2", "-.5", "1_0", "inf", "nan", "0x1"]),
)  # fmt: skip
versions = st.sampled_from(
    ["1.2.3", "v1.2", "1.2.3-rc1", "1.2.4", "1.3.0", "2", "0.0.3", "0.0.4", "0.2.9", "0.3.0", "1.2.*", "1.*", "V1.*.*",
     "10.0.0+b", "1..2", "x.1", "", "1.2.3.4", 1, 1.2, "01.2"]
)  # fmt: skip
dates = st.one_of(
    st.sampled_from(["2024-06-01", "2024-06-01T10:00:00Z", "2024-06-01 10:00:00 UTC", "2024-06-01T10:00:00 +02:00",
                     "2024-06-01T12:00:00.5", "2025-12-01", "99999d", "soon", "2024"]),
    st.builds("{}{}{}".format, st.sampled_from(["-", ""]), st.integers(1, 400), st.sampled_from("hdwmyx")),
)  # fmt: skip
texts = st.one_of(
    st.text(max_size=4), st.sampled_from(["true", "False", "TRUE", "Ab", "aB", "ab", "b", "ß", "SS", "İ", "é", "É"])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, versions, dates, texts)
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.dictionaries(st.text(max_size=3), scalars, max_size=2))
PATTERNS = ["^a", "b$", "[0-9]+", "a|b", r"\d{2,}", "[$]", r"\$", "", "é", r"^\w+$", "(ab)?c"]


def compared(operator: str) -> st.SearchStrategy[tuple[str, Any, Any]]:
    """An operator, what it compares with, and what with."""
    kind = next(
        (
            strategy
            for operators, strategy in ((NUMERIC, numbers), (DATES, dates), ((*SEMVER, *SEMVER_RANGES), versions))
            if operator in operators
        ),
        texts,
    )
    either = st.one_of(kind, kind, kind, values)
    # Two that were drawn apart are rarely equal.
    return st.tuples(either, either, st.sampled_from([True, False, False])).map(
        lambda drawn: (operator, drawn[0], drawn[0] if drawn[2] else drawn[1])
    )


@given(st.sampled_from([operator for operator in OPERATORS if operator not in PRESENCE]).flatmap(compared))
@settings(max_examples=2000, deadline=None)
def test_each_operator_compares_as_the_sdk_does(case: tuple[str, Any, Any]) -> None:
    """Whenever the SDK comes to an answer about one property, it is ours."""
    operator, wanted, actual = case
    try:
        flags_of({"flags": {"f": {"conditions": [{"properties": {"p": {operator: wanted}}}]}}})
    except FlagsError:  # what a file cannot hold is never compared
        return
    try:
        theirs = match_property({"key": "p", "operator": operator, "value": wanted}, {"p": actual})
    except InconclusiveMatchError:
        return

    assert meets(Filter("p", operator, wanted), {"p": actual}, datetime.now(timezone.utc)) == theirs


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_not_there(operator: str) -> None:
    """A property that nobody knows meets only what asks for its absence, or for something else."""
    wanted = {"is_not", "is_not_set", "not_icontains", "not_starts_with", "not_ends_with", "not_regex"}
    demand = Filter("p", operator, "1")

    assert meets(demand, {}, datetime.now(timezone.utc)) is (operator in wanted)
    if operator in PRESENCE:
        assert meets(demand, {"p": None}, datetime.now(timezone.utc)) is (operator == "is_set")


@given(
    operator=st.sampled_from(["regex", "not_regex"]),
    pattern=st.sampled_from(PATTERNS),
    actual=st.one_of(values, st.text(alphabet="ab0$1é\n", max_size=5)),
)
@settings(max_examples=300, deadline=None)
def test_patterns_match_as_in_the_sdk(operator: str, pattern: str, actual: Any) -> None:
    """A regular expression finds what the SDK finds, with `$` at the end of the text alone."""
    try:
        theirs = match_property({"key": "p", "operator": operator, "value": pattern}, {"p": actual})
    except InconclusiveMatchError:
        return

    assert meets(Filter("p", operator, pattern), {"p": actual}, datetime.now(timezone.utc)) == theirs
