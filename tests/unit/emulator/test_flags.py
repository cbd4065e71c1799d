"""Feature flags over HTTP: every form of the answer, who is asked about, definitions, keys, faults, browsers."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsInt, IsPartialDict, IsStr, IsUUID
from posthog import Posthog

from otel_posthog.emulator import Emulator, Fault, FlagsError

TOKEN = "phc_project_token_for_tests"
KEY = {"Authorization": "Bearer phx_personal"}
FLAGS: dict[str, Any] = {
    "group_types": ["company"],
    "cohorts": {"testers": {"distinct_ids": ["ada"]}, "team": {"any": [{"email": {"icontains": "@example"}}]}},
    "flags": {
        "checkout": {"payload": {"steps": 2}, "conditions": [{"properties": {"plan": "pro"}}], "id": 7, "version": 3},
        "colour": {
            "variants": {"red": 0, "green": 100},
            "payloads": {"green": [1, "two"]},
            "experiment": "Colours",
            "rollout_percentage": 100,
            "id": 8,
        },
        "seats": {"group": "company", "conditions": [{"properties": {"size": {"gt": 10}}}], "id": 9},
        "off": {"active": False, "id": 10},
        "inside": {"evaluation_runtime": "server", "id": 11},
        "outside": {"evaluation_runtime": "client", "id": 12},
        "tester": {"conditions": [{"cohorts": ["testers"]}], "id": 13},
    },
}

LEGACY = {
    "featureFlags": {"checkout": False, "colour": "green"},
    "featureFlagPayloads": {"colour": '[1, "two"]'},
}
NOBODY = "The distinct_id field is missing from the request. Please include a valid identifier."


@pytest.fixture(autouse=True)
def flags(emulator: Emulator) -> Iterator[None]:
    """The flags above are in force, and none afterwards: the server is the module's."""
    emulator.flags = FLAGS
    yield
    emulator.flags = None


@pytest.fixture
def ask(client: Any) -> Any:
    """Asks `/flags` and answers with the flags of the answer."""

    def asked(distinct_id: str = "ada", version: str = "?v=2", **body: Any) -> Any:
        answer = client.post(f"/flags/{version}", {"token": TOKEN, "distinct_id": distinct_id, **body})
        assert answer.status == 200
        return answer.json()

    return asked


def on(answer: Any) -> list[str]:
    """Keys of the flags that are on."""
    return [key for key, record in answer["flags"].items() if record["enabled"]]


def test_records(ask: Any) -> None:
    """`/flags?v=2` answers with a record for each active flag: value, reason, payload as JSON text."""
    answer = ask(person_properties={"plan": "pro"}, flag_keys_to_evaluate=["checkout", "colour", "seats", "off"])

    assert answer == {
        "errorsWhileComputingFlags": False,
        "requestId": IsUUID(4),
        "evaluatedAt": 1795176000000,
        "flags": {
            "checkout": {
                "key": "checkout",
                "enabled": True,
                "variant": None,
                "reason": {"code": "condition_match", "condition_index": 0, "description": "Matched condition set 1"},
                "metadata": {
                    "id": 7,
                    "version": 3,
                    "description": None,
                    "payload": '{"steps": 2}',
                    "has_experiment": False,
                },
            },
            "colour": {
                "key": "colour",
                "enabled": True,
                "variant": "green",
                "reason": {"code": "condition_match", "condition_index": 0, "description": "Matched condition set 1"},
                "metadata": {
                    "id": 8,
                    "version": 1,
                    "description": None,
                    "payload": '[1, "two"]',
                    "has_experiment": True,
                },
            },
            "seats": {
                "key": "seats",
                "enabled": False,
                "variant": None,
                "reason": {"code": "no_group_type", "condition_index": 0, "description": "No group type"},
                "metadata": {"id": 9, "version": 1, "description": None, "payload": None, "has_experiment": False},
            },
        },
    }


def test_typed_records(ask: Any) -> None:
    """`/flags?v=4` carries one typed value in place of `enabled` and `variant`."""
    records = ask(version="?v=4", flag_keys_to_evaluate=["checkout", "colour"])["flags"]

    assert records == {
        "checkout": {
            "key": "checkout",
            "value": False,
            "reason": {"code": "no_condition_match", "condition_index": 0, "description": "No matching condition set"},
            "metadata": {
                "id": 7,
                "version": 3,
                "description": None,
                "payload": None,
                "has_experiment": False,
                "config_version": 1,
            },
        },
        "colour": {
            "key": "colour",
            "value": "green",
            "reason": {"code": "condition_match", "condition_index": 0, "description": "Matched condition set 1"},
            "metadata": {
                "id": 8,
                "version": 1,
                "description": None,
                "payload": '[1, "two"]',
                "has_experiment": True,
                "config_version": 1,
                "variant_key": "green",
            },
        },
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/flags/?v=1", LEGACY),
        ("/decide/?v=3", LEGACY),
        ("/decide/?v=2", {"featureFlags": {"colour": "green"}}),
        ("/decide", {"featureFlags": ["colour"]}),
    ],
)  # fmt: skip
def test_older_forms(client: Any, path: str, expected: dict[str, Any]) -> None:
    """Old SDKs get the forms that they read."""
    body = {"token": TOKEN, "distinct_id": "ada", "flag_keys_to_evaluate": ["checkout", "colour"]}
    answer = client.post(path, body).json()

    kept = ("featureFlags", "featureFlagPayloads")
    assert {key: value for key, value in answer.items() if key in kept} == expected


def test_what_is_known_counts_and_what_is_said_wins(client: Any, ask: Any, kit: Any) -> None:
    """Properties of people and groups that arrived with events decide; those of the request override them."""
    assert on(ask()) == ["colour", "tester"]
    acme = {"$group_type": "company", "$group_key": "acme", "$group_set": {"size": 50}}
    client.v0(
        kit.event("signed up", properties={"$set": {"plan": "pro"}, "$groups": {"company": "acme"}}),
        kit.event("$groupidentify", properties=acme),
    )

    assert on(ask(groups={"company": "acme"})) == ["checkout", "colour", "seats", "tester"]
    assert on(ask("bob", groups={"company": "acme"})) == ["colour", "seats"]
    assert on(ask(groups={"company": "acme"}, person_properties={"plan": "free"},
                  group_properties={"company": {"size": 3}})) == ["colour", "tester"]  # fmt: skip


def test_another_project_has_other_people(client: Any, ask: Any, kit: Any) -> None:
    """A person of one project lends no property to their namesake in another."""
    client.v0(kit.event("signed up", properties={"$set": {"plan": "pro"}}), token="phc_another_project")

    assert "checkout" not in on(ask())


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"User-Agent": "posthog-python/7.91.1"}, {}, ["inside"]),
        ({"User-Agent": "Mozilla/5.0 (X11) Firefox/144.0"}, {}, ["outside"]),
        ({"User-Agent": "posthog-ios/3.1"}, {}, ["outside"]),
        ({"User-Agent": "somebody/1", "Origin": "https://shop.example"}, {}, ["outside"]),
        ({"User-Agent": "somebody/1"}, {}, []),
        ({"User-Agent": "Mozilla/5.0"}, {"evaluation_runtime": "server"}, ["inside"]),
        ({"User-Agent": "Mozilla/5.0"}, {"evaluation_runtime": "all"}, ["inside", "outside"]),
    ],
)
def test_flags_of_the_server_stay_there(client: Any, headers: dict[str, str], body: Any, expected: list[str]) -> None:
    """A flag for servers is not shown to a browser, nor one for clients to a server."""
    answer = client.post("/flags/?v=2", {"token": TOKEN, "distinct_id": "ada", **body}, headers).json()

    assert [key for key in answer["flags"] if key in {"inside", "outside"}] == expected


def test_continuity_outlasts_the_log_in(emulator: Emulator, ask: Any, client: Any, kit: Any) -> None:
    """A visitor's value stays when they log in, for all their ids, until the emulator forgets."""
    emulator.flags = {"flags": {"kept": {"rollout_percentage": 50, "ensure_experience_continuity": True},
                                "moves": {"rollout_percentage": 50}}}  # fmt: skip

    def values(distinct_id: str, **body: Any) -> list[bool]:
        records = ask(distinct_id, **body)["flags"]
        return [records["kept"]["enabled"], records["moves"]["enabled"]]

    apart = next(
        (f"visitor-{n}", f"user-{n}") for n in range(1000)
        if values(f"visitor-{n}") == [True, True] and values(f"user-{n}") == [False, False]
    )  # fmt: skip
    visitor, user = apart
    client.v0(kit.event("$identify", user, properties={"$anon_distinct_id": visitor}))
    assert values(user, **{"$anon_distinct_id": visitor}) == [True, False]
    assert values(user) == [True, False], "it is remembered without the anonymous id"
    client.v0(kit.event("$create_alias", user, properties={"distinct_id": user, "alias": "another-device"}))
    assert values("another-device")[0] is True, "it holds for the person's other ids"
    emulator.reset()
    assert values(user) == [False, False]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"distinct_id": "ada"}, 401, "No API token provided. Please include a valid API token in your request."),
        ({"token": "phx_personal", "distinct_id": "ada"}, 401,
         "The provided API key is invalid or has expired. Please check your API key and try again."),
        ({"token": TOKEN}, 400, NOBODY),
        ({"token": TOKEN, "distinct_id": {}}, 400,
         NOBODY),
        ([1], 401, "No API token provided. Please include a valid API token in your request."),
    ],
)  # fmt: skip
def test_refusals(client: Any, emulator: Emulator, body: Any, status: int, text: str) -> None:
    """A request without a token or without a person is refused in PostHog's words, and listed."""
    answer = client.post("/flags/?v=2", body)

    assert (answer.status, answer.data.decode(), emulator.refusals()[0]["path"]) == (status, text, "/flags")


@pytest.mark.parametrize("odd", [None, [], "x", 5, {"a": 1}, [{}, []], {"company": {}}, {"company": [None]}])
@pytest.mark.parametrize("name", ["groups", "group_properties", "person_properties", "flag_keys", "$anon_distinct_id"])
def test_odd_fields_are_passed_over(ask: Any, name: str, odd: Any) -> None:
    """A field of another type than PostHog's is as good as none, and never an error."""
    if name == "flag_keys" and isinstance(odd, list):
        assert ask(flag_keys=odd)["flags"] == {}
    else:
        assert "colour" in on(ask(**{name: odd}))


def test_numbers_are_ids_too(ask: Any) -> None:
    """A numeric distinct id, and a numeric group key, count as their text."""
    answer = ask(5, groups={"company": 12}, group_properties={"company": {"size": 11}})  # type: ignore[arg-type]

    assert "seats" in on(answer)


def test_no_flags_wanted(ask: Any, emulator: Emulator) -> None:
    """`disable_flags` gives the configuration without any flag."""
    answer = ask(version="?v=2&config=true", disable_flags=True)

    assert (answer["flags"], answer["hasFeatureFlags"], answer["supportedCompression"]) == (
        {},
        True,
        ["gzip", "gzip-js"],
    )


# --- definitions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/flags/definitions?token={}&send_cohorts", "/api/feature_flag/local_evaluation?token={}"]
)
def test_definitions(client: Any, path: str) -> None:
    """Definitions have PostHog's form: conditions as filter groups, group types by index, cohorts by id."""
    answer = client.get(path + TOKEN, KEY)
    document = answer.json()

    assert (answer.status, document["group_type_mapping"], document["cohorts"]) == (
        200,
        {"0": "company"},
        {"2": {"type": "OR", "values": [{"type": "AND", "values": [
            {"key": "email", "operator": "icontains", "value": "@example", "type": "person"}]}]}},
    )  # fmt: skip
    assert document["flags"][2] == {
        "id": 9,
        "key": "seats",
        "name": "",
        "active": True,
        "deleted": False,
        "ensure_experience_continuity": False,
        "evaluation_runtime": "all",
        "has_experiment": False,
        "version": 1,
        "filters": {
            "aggregation_group_type_index": 0,
            "groups": [
                {
                    "properties": [
                        {"key": "size", "value": 10, "operator": "gt", "type": "group", "group_type_index": 0}
                    ],
                    "rollout_percentage": 100.0,
                    "variant": None,
                }
            ],
            "multivariate": None,
            "payloads": {},
        },
    }


def test_unchanged_definitions_cost_nothing(client: Any, emulator: Emulator) -> None:
    """The ETag of the definitions gives 304 until the flags change."""
    path = f"/flags/definitions?token={TOKEN}&send_cohorts"
    first = client.get(path, KEY)
    tag = first.headers["ETag"]
    again = client.get(path, {**KEY, "If-None-Match": tag})
    strong = client.get(path, {**KEY, "If-None-Match": tag.removeprefix("W/")})
    emulator.flags = {"flags": {"one": True}}
    changed = client.get(path, {**KEY, "If-None-Match": tag})

    assert [(a.status, len(a.data) > 0) for a in (first, again, strong, changed)] == [
        (200, True), (304, False), (304, False), (200, True)
    ]  # fmt: skip
    assert changed.headers["ETag"] != tag
    assert emulator.stats()["flag_requests"] == {
        "evaluations": 0, "definitions": 2, "not_modified": 2, "remote_config": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "reason"),
    [(None, "no_secret_key"), ("Bearer ", "no_secret_key"), ("Basic phx_a", "no_secret_key"),
     (f"Bearer {TOKEN}", "invalid_secret_key")],
)  # fmt: skip
@pytest.mark.parametrize(
    "path",
    [f"/flags/definitions?token={TOKEN}", "/api/projects/@current/feature_flags/checkout/remote_config"],
)
def test_definitions_are_secret(client: Any, key: str | None, reason: str, path: str) -> None:
    """Without a personal or secret key the definitions and the payloads are refused with 401."""
    answer = client.get(path, {} if key is None else {"Authorization": key})

    assert (answer.status, answer.json()) == (
        401,
        {"type": "authentication_error", "code": reason, "detail": IsStr(), "attr": None},
    )


def test_definitions_need_a_project(client: Any) -> None:
    """The project token says whose definitions are wanted."""
    assert client.get("/flags/definitions", KEY).status == 401


def test_remote_config(emulator: Emulator) -> None:
    """The SDK reads a payload with its secret key; an unknown flag has none."""
    emulator.flags = {"flags": {"config": {"payload": {"theme": "light"}}, "bare": True}}
    sdk = Posthog(TOKEN, host=emulator.url, secret_key="phs_secret", enable_local_evaluation=False)
    logging.getLogger("posthog").disabled = True
    try:
        got = [sdk.get_remote_config_payload(key) for key in ("config", "bare", "absent")]
    finally:
        logging.getLogger("posthog").disabled = False
        sdk.shutdown()

    assert got == ['{"theme": "light"}', None, None]


# --- the SDK -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sdk(emulator: Emulator) -> Iterator[Posthog]:
    """The SDK without a secret key: it asks for every evaluation."""
    made = Posthog(TOKEN, host=emulator.url, feature_flags_request_timeout_seconds=30)
    yield made
    made.shutdown()


def test_calls_are_counted(emulator: Emulator, sdk: Posthog) -> None:
    """`$feature_flag_called` shows how often code was told which value."""
    for person in ("ada", "bob", "bob"):
        flags = sdk.evaluate_flags(person)
        flags.is_enabled("tester")
        flags.get_flag("colour")
        flags.is_enabled("no-such-flag")
    sdk.flush()

    expected = {"tester": {True: 1, False: 1}, "colour": {"green": 2}, "no-such-flag": {None: 2}}
    assert emulator.wait_for(lambda e: e.flag_calls() == expected and e.flag_calls(), timeout=30) == expected


def test_a_static_cohort_is_asked_for(emulator: Emulator) -> None:
    """What the SDK cannot know by itself it asks the emulator, which knows the members."""
    sdk = Posthog(TOKEN, host=emulator.url, secret_key="phx_personal", poll_interval=3600)
    answers = [sdk.evaluate_flags(person, flag_keys=["tester"]).is_enabled("tester") for person in ("ada", "bob")]
    sdk.shutdown()

    assert (answers, emulator.stats()["flag_requests"]["evaluations"]) == ([True, False], 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("quota", path="/flags*"), "quota_limited,flag_missing"),
        (Fault("flag_errors", path="/flags*", flag="col*"), "errors_while_computing_flags,evaluation_failed"),
        (Fault("status", path="/flags*", status=500), None),
        (Fault("status", path="/flags*", status=429, retry_after=1), None),
        (Fault("garbage", path="/flags*"), None),
        (Fault("cut", path="/flags*"), None),
        (Fault("html", path="/flags*"), None),
    ],
)
def test_weather(emulator: Emulator, sdk: Posthog, fault: Fault, error: str | None) -> None:
    """Every fault leaves the SDK without the flag, without an exception; scripted failures name their kind."""
    emulator.script(fault)
    logging.getLogger("posthog").disabled = True
    try:
        flags = sdk.evaluate_flags("ada")
        value = flags.get_flag("colour")
        sdk.flush()
    finally:
        logging.getLogger("posthog").disabled = False

    [event] = emulator.wait_for(lambda e: e.events(event="$feature_flag_called"), timeout=30)
    assert (value, emulator.faults()[0]["applied"] >= 1) == (None, True)
    if error is not None:
        assert event["properties"]["$feature_flag_error"] == error


def test_slow_flags(emulator: Emulator) -> None:
    """An SDK that waits for less than the answer takes goes on without it."""
    emulator.script(Fault("hang", path="/flags*"))
    sdk = Posthog(
        TOKEN, host=emulator.url, feature_flags_request_timeout_seconds=0.2, feature_flags_request_max_retries=0
    )
    logging.getLogger("posthog").disabled = True
    try:
        flags = sdk.evaluate_flags("ada")
    finally:
        logging.getLogger("posthog").disabled = False
        sdk.shutdown()

    assert (flags.keys, emulator.faults()[0]["applied"]) == ([], 1)


def test_failed_records(emulator: Emulator, ask: Any) -> None:
    """`flag_errors` marks the flags that it names as failed and leaves the others alone."""
    emulator.script(Fault("flag_errors", flag="col*"))
    answer = ask(flag_keys_to_evaluate=["colour", "tester"])

    assert (answer["errorsWhileComputingFlags"], answer["flags"]) == (
        True,
        {
            "colour": IsPartialDict(
                enabled=False, variant=None, failed=True, reason=IsPartialDict(code="unknown_error"),
                metadata=IsPartialDict(payload=None),
            ),
            "tester": IsPartialDict(enabled=True),
        },
    )  # fmt: skip


def test_quota_of_definitions(client: Any, emulator: Emulator) -> None:
    """Over the quota the definitions are answered 402, as PostHog does."""
    emulator.script(Fault("quota"))

    assert client.get(f"/flags/definitions?token={TOKEN}", KEY).status == 402


# --- browsers ------------------------------------------------------------------------------------------------------


def test_bodies_of_browsers(client: Any) -> None:
    """posthog-js sends gzip, or base64 in a form."""
    text = json.dumps({"token": TOKEN, "distinct_id": "ada"}).encode()
    form = b"data=" + urllib.parse.quote(base64.b64encode(text).decode()).encode()
    answers = [
        client.request("POST", "/flags/?v=2&compression=gzip-js", gzip.compress(text), {"Content-Type": "text/plain"}),
        client.request("POST", "/flags/?v=2&compression=base64", form,
                       {"Content-Type": "application/x-www-form-urlencoded"}),
    ]  # fmt: skip

    assert [(a.status, "colour" in a.json()["flags"]) for a in answers] == [(200, True), (200, True)]
    assert [a.headers["Access-Control-Allow-Origin"] for a in answers] == ["*", "*"]


@pytest.mark.parametrize(
    "path", ["/flags/?v=2", "/decide/?v=3", "/flags/definitions?token=x", f"/array/{TOKEN}/config"]
)
def test_preflight(client: Any, path: str) -> None:
    """A browser may ask from another origin."""
    answer = client.request(
        "OPTIONS", path, None, {"Origin": "http://shop.example", "Access-Control-Request-Headers": "content-type"}
    )

    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")


def test_config_of_browsers(client: Any, emulator: Emulator) -> None:
    """What posthog-js loads first says whether there are flags, and switches nothing else on."""
    with_flags = client.get(f"/array/{TOKEN}/config").json()
    emulator.flags = None
    without = client.get(f"/array/{TOKEN}/config").json()

    assert (with_flags["hasFeatureFlags"], without["hasFeatureFlags"], without["sessionRecording"]) == (
        True,
        False,
        False,
    )


def test_somebody_looks(client: Any) -> None:
    """A GET of `/flags` evaluates nothing."""
    answer = client.get("/flags/?v=2")

    assert (answer.status, answer.json()["flags"], answer.json()["evaluatedAt"]) == (200, {}, IsInt())


# --- changing them -------------------------------------------------------------------------------------------------


def test_flags_can_be_replaced(emulator: Emulator, ask: Any) -> None:
    """Other flags are in force at once; unusable ones leave those before in force."""
    emulator.flags = {"flags": {"one": True, "two": "green", "three": False}}
    first = ask()["flags"]
    with pytest.raises(FlagsError, match="unknown key"):
        emulator.flags = {"flags": {"one": {"rolout": 3}}}

    assert {key: (record["enabled"], record["variant"]) for key, record in first.items()} == {
        "one": (True, None), "two": (True, "green"), "three": (False, None)
    }  # fmt: skip
    assert list(emulator.flags.flags) == ["one", "two", "three"]


def test_a_change_wakes_those_who_wait(emulator: Emulator) -> None:
    """`wait_for` sees new flags."""
    emulator.flags = None
    threading.Timer(0, lambda: setattr(emulator, "flags", {"flags": {"late": True}})).start()

    assert emulator.wait_for(lambda e: list(e.flags.flags), timeout=30) == ["late"]


def test_a_file_is_read_again(emulator: Emulator, ask: Any, client: Any, tmp_path: Path) -> None:
    """A changed file is in force with the next question; a broken one changes nothing, and the page says why."""
    file = tmp_path / "flags.yaml"
    file.write_text("flags: {one: true}")
    emulator.flags = file
    before = on(ask())
    file.write_text("flags: {one: true, another: true}")
    after = on(ask())
    file.write_text("flags: [")
    broken = on(ask())
    problem = client.get("/api/flags").json()["problem"]
    file.unlink()

    assert (before, after, broken, on(ask())) == (["one"], ["one", "another"], ["one", "another"], ["one", "another"])
    assert problem.startswith(f"{file}:1: this is not YAML")


def test_flags_over_http(client: Any, emulator: Emulator) -> None:
    """`POST /api/flags` takes a file's text, `GET` shows each flag with what code was told."""
    answer = client.request("POST", "/api/flags", b"flags:\n  new: {owner: payments, rollout_percentage: 25}\n")
    refused = client.request("POST", "/api/flags", b"flags:\n  new: {rollout_percentage: 250}\n")

    assert (answer.status, refused.status, client.get("/api/flags").json()) == (200, 400, answer.json())
    assert refused.json() == {
        "error": "`flags.new.rollout_percentage` (flags:2): '250' is no percentage. Write a number from 0 to 100"
    }
    [flag] = answer.json()["results"]
    assert flag == IsPartialDict(
        key="new", owner="payments", active=True, calls=[], variants={},
        conditions=[IsPartialDict(rollout_percentage=25.0, properties=[])],
    )  # fmt: skip
    assert client.request("POST", "/api/flags", b"{}", {"Origin": "https://elsewhere.example"}).status == 403
    assert list(emulator.flags.flags) == ["new"]
