"""Whatever is sent, the answer is one of the protocol's, and the books still balance."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_posthog.emulator import Limits, queries
from otel_posthog.emulator.exchange import Incoming
from otel_posthog.emulator.flags.operators import DATES, OPERATORS, PRESENCE
from otel_posthog.emulator.flags.service import DECIDE_PATH, FLAGS_PATH
from otel_posthog.emulator.flags.state import FlagState
from otel_posthog.emulator.ingest import OTLP_PATHS, V0_PATHS, V1_PATH, Ingest
from otel_posthog.emulator.store import Store

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
UUID = "0190a0b0-0000-7000-8000-00000000000"

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(), max_size=8),
    st.sampled_from(
        [UUID + "1", UUID + "2", "2026-11-20T12:00:00Z", "null", "\ud800", "a\0b", "$identify", "$exception"]
    ),
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PROPERTY_KEYS = [
    *(
        "$set",
        "$set_once",
        "$unset",
        "$groups",
        "$group_type",
        "$group_key",
        "$group_set",
        "$anon_distinct_id",
        "alias",
    ),
    *("$exception_list", "$process_person_profile", "$cookieless_mode", "$ignore_sent_at", "token", "distinct_id", "a"),
]
PROPERTIES = st.dictionaries(st.sampled_from(PROPERTY_KEYS), ANY, max_size=5)
NAMES = st.sampled_from(
    ["e", "$identify", "$create_alias", "$merge_dangerously", "$groupidentify", "$set", "$exception"]
)
EVENT = st.fixed_dictionaries(
    {},
    optional={
        "event": NAMES | ANY,
        "distinct_id": st.sampled_from(["ada", "bob", "undefined"]) | ANY,
        "uuid": st.sampled_from([UUID + "1", UUID + "2"]) | ANY,
        "timestamp": st.sampled_from(["2026-11-20T12:00:00Z", "0999-01-01T00:00:00Z"]) | ANY,
        "properties": PROPERTIES | ANY,
        "options": ANY,
        "offset": ANY,
        "$set": ANY,
    },
)
# Whole events, so that the pipeline behind the edge is reached as well.
WHOLE = st.builds(
    lambda name, who, n, properties: {
        "event": name,
        "distinct_id": who,
        "uuid": UUID + str(n),
        "timestamp": "2026-11-20T12:00:00Z",
        "properties": properties,
    },
    NAMES,
    st.sampled_from(["ada", "bob", "carl", "undefined"]),
    st.integers(0, 9),
    PROPERTIES,
)
BATCH = st.fixed_dictionaries(
    {"api_key": st.just("phc_any_input"), "created_at": st.just("2026-11-20T12:00:00Z")},
    optional={"batch": st.lists(WHOLE | EVENT, max_size=4) | ANY, "historical_migration": ANY, "sent_at": ANY},
)
HEADERS = {
    "authorization": "Bearer phc_any_input",
    "content-type": "application/json",
    "user-agent": "t",
    "posthog-sdk-info": "t/1",
    "posthog-attempt": "1",
    "posthog-request-id": UUID + "0",
    "posthog-request-timestamp": "2026-11-20T12:00:00Z",
}


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    """One store for all examples: what one left behind is the next one's past."""
    made = Store(":memory:", lambda: NOW)
    yield made
    made.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
@given(body=BATCH | EVENT | ANY, path=st.sampled_from([*V0_PATHS, V1_PATH]))
def test_any_json(store: Store, body: Any, path: str) -> None:
    """Any JSON is accepted or refused with a status of the protocol, and the store can still be read."""
    incoming = Incoming("POST", path, {}, HEADERS, json.dumps(body).encode())

    answer = Ingest(store, Limits(), lambda: NOW).answer(incoming)

    assert answer.status in {200, 400, 401, 413}
    stats = queries.stats(store)
    assert stats["received"] == stats["stored"] + stats["duplicates"]
    shown = [queries.events(store), queries.persons(store), queries.groups(store), queries.issues(store)]
    json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    ids = [distinct_id for person in queries.persons(store) for distinct_id in person["distinct_ids"]]
    assert all(person["distinct_ids"] for person in queries.persons(store))
    assert len(ids) == len({(p["token"], d) for p in queries.persons(store) for d in p["distinct_ids"]})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(body=st.binary(max_size=60), path=st.sampled_from([*V0_PATHS, V1_PATH, *OTLP_PATHS]), gzip=st.booleans())
def test_any_bytes(store: Store, body: bytes, path: str, gzip: bool) -> None:
    """Any bytes are answered."""
    incoming = Incoming("POST", path, {}, HEADERS, (b"\x1f\x8b\x08" if gzip else b"") + body)

    assert Ingest(store, Limits(), lambda: NOW).answer(incoming).status in {200, 400, 401, 413}


KEYS = ("person_properties", "groups", "group_properties", "flag_keys_to_evaluate", "$anon_distinct_id",
        "evaluation_runtime", "disable_flags", "distinct_id", "token")  # fmt: skip
QUESTION = st.dictionaries(
    st.sampled_from(KEYS), ANY | st.dictionaries(st.sampled_from(["p", "company", "a"]), ANY, max_size=2), max_size=5
)
ALL_OPERATORS = {operator: True if operator in PRESENCE else "1.2" for operator in OPERATORS if operator not in DATES}
FLAGS = {
    "group_types": ["company"],
    "cohorts": {"c": {"any": [{"p": ALL_OPERATORS}]}},
    "flags": {
        "a": {"conditions": [{"properties": {"p": {name: operand}}} for name, operand in ALL_OPERATORS.items()]},
        "b": {"group": "company", "conditions": [{"properties": {"p": {"is_date_before": "-3d"}}}]},
        "c": {"ensure_experience_continuity": True, "conditions": [{"cohorts": ["c"], "flags": {"a": False}}]},
    },
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    body=QUESTION | QUESTION.map(lambda asked: {"token": "phc_x", "distinct_id": "ada", **asked}) | ANY,
    path=st.sampled_from([FLAGS_PATH, DECIDE_PATH]),
    version=st.sampled_from(["", "1", "2", "4", "x", "²", "9" * 5000]),
)
def test_any_question_about_flags(store: Store, body: Any, path: str, version: str) -> None:
    """Any question is answered or refused with a status of the protocol."""
    ingest = Ingest(store, Limits(), lambda: NOW, FlagState(FLAGS))

    answer = ingest.answer(Incoming("POST", path, {"v": version}, HEADERS, json.dumps(body).encode()))

    assert answer.status in {200, 400, 401}
    if answer.status == 200:
        json.loads(answer.body)
