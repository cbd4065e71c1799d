"""The JSON API: filters, paging, masks, guards, live notices."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.config.loopback import is_loopback
from otel_posthog.emulator import Emulator
from otel_posthog.emulator.project_token import masked
from otel_posthog.errors import ConfigError


@pytest.fixture
def filled(client: Any, emulator: Any, kit: Any) -> Any:
    """Six events of two people."""
    for n in range(6):
        client.v0(
            kit.event(
                f"event {n % 2}",
                "ada" if n < 4 else "bob",
                uuid=f"0190a0b0-0000-7000-8000-00000000000{n}",
                timestamp=f"2026-11-1{n}T00:00:00Z",
                properties={"n": n, "colour": "Red" if n == 5 else "blue"},
            )
        )
    return client


QUERIES = [
    ("", [5, 4, 3, 2, 1, 0]),
    ("?limit=2", [5, 4]),
    ("?limit=2&offset=3", [2, 1]),
    ("?event=event+1", [5, 3, 1]),
    ("?distinct_id=bob", [5, 4]),
    ("?event=event+1&distinct_id=ada", [3, 1]),
    ("?q=red", [5]),
    ("?q=EVENT+1", [5, 3, 1]),
    ("?q=%25", []),
    ("?uuid=0190a0b0-0000-7000-8000-000000000002", [2]),
    ("?after=2026-11-13&before=2026-11-15", [4, 3]),
    ("?mode=propertyless", []),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES)
def test_events(filled: Any, query: str, expected: list[int]) -> None:
    """Newest first; filters combine; the count is that of the filter, not of the page."""
    answer = filled.get(f"/api/events{query}").json()

    assert [event["properties"]["n"] for event in answer["results"]] == expected
    if "limit" not in query:
        assert answer["count"] == len(expected)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1001", "offset=-1", "offset=99999999999", "nmae=x"])
def test_bad_query(filled: Any, query: str) -> None:
    """A wrong or unknown parameter is a 400 that says so."""
    answer = filled.get(f"/api/events?{query}")

    assert answer.status == 400
    assert "`" in answer.json()["error"]


def test_event_person_and_missing_ones(filled: Any, emulator: Any) -> None:
    """One event by uuid, a person by id or distinct id, 404 for what is not there."""
    event = filled.get("/api/events/0190A0B0-0000-7000-8000-000000000002").json()["results"]
    person = emulator.person("ada")

    assert [row["properties"]["n"] for row in event] == [2]
    assert filled.get("/api/persons/ada").json()["id"] == person["id"]
    assert filled.get(f"/api/persons/{person['id']}").json()["distinct_ids"] == ["ada"]
    assert [p["distinct_ids"] for p in filled.get("/api/persons?q=BO").json()["results"]] == [["bob"]]
    for path in ("events/nope", "persons/nope", "issues/nope", "nothing"):
        assert filled.get(f"/api/{path}").status == 404


def test_distinct_id_with_slashes(client: Any, emulator: Any, kit: Any) -> None:
    """Any distinct id can be asked for."""
    client.v0(kit.event(distinct_id="a/b?c=d%"))

    assert client.get("/api/persons/a%2Fb%3Fc%3Dd%25").json()["distinct_ids"] == ["a/b?c=d%"]


def test_names_stats_reset(filled: Any, emulator: Any) -> None:
    """Event names with counts; the books; `POST /api/reset` forgets, a `GET` does not."""
    assert filled.get("/api/events/names").json()["results"] == [
        {"event": "event 0", "count": 3},
        {"event": "event 1", "count": 3},
    ]
    assert filled.get("/api/reset").status == 405
    assert filled.get("/api/stats").json()["stored"] == 6
    assert filled.post("/api/reset", {}).status == 200
    assert (emulator.events(), emulator.persons(), emulator.stats()["received"]) == ([], [], 0)


def test_refusals_are_listed(client: Any) -> None:
    """What PostHog would refuse is shown with path, status and reason."""
    client.post("/batch/", b"{nope")
    client.v0({"event": "e", "distinct_id": "ada", "uuid": "x"})

    rows = client.get("/api/refusals").json()["results"]
    assert [(row["path"], row["status"], row["reason"], row["events"]) for row in rows] == [
        ("/batch", 200, "invalid_uuid", 1),
        ("/batch", 400, "invalid_json", 0),
    ]


PATHS = ["events", "events/0190a0b0-0000-7000-8000-000000000001", "persons", "persons/ada", "groups", "issues", "spans"]
PATHS += ["logs", "metrics", "refusals", "stats", "events/names", "faults"]


@pytest.mark.parametrize("path", PATHS)
def test_no_token_in_full(client: Any, kit: Any, path: str) -> None:
    """No answer of the API carries a project token, not even where the app put it into a property."""
    properties = {"token": kit.TOKEN, "text": f"key {kit.TOKEN}!", "$groups": {"company": "acme"}}
    client.v0(kit.event(uuid="0190a0b0-0000-7000-8000-000000000001", properties=properties))
    client.v0(kit.event("$exception", properties={"$exception_list": [{"type": "E", "value": kit.TOKEN}]}))
    client.post("/i/v1/logs", b"", {"Authorization": f"Bearer {kit.TOKEN}"})

    answer = client.get(f"/api/{path}")

    assert answer.status == 200
    assert kit.TOKEN not in answer.data.decode()
    json.loads(answer.data)


@pytest.mark.parametrize("token", ["phc_1234567890abcdef", "phc_12", "ab", "x"])
def test_mask_never_shows_all(token: str) -> None:
    """However short the token."""
    assert masked(token).endswith("…")
    assert token not in masked(token)


def test_refused_token_is_not_kept(client: Any, emulator: Any) -> None:
    """A personal key sent by mistake is nowhere in what is stored or shown."""
    client.v0({"event": "e", "distinct_id": "ada"}, token="phx_very_secret")

    assert "phx_very_secret" not in json.dumps([emulator.refusals(), emulator.stats()])


def test_another_site_reads_and_writes_nothing(client: Any, emulator: Any, kit: Any) -> None:
    """A foreign name that points to loopback, and a foreign origin, are turned away; capture takes any origin."""
    client.v0(kit.event())

    assert client.get("/api/events", {"Host": "evil.example:80"}).status == 403
    assert client.get("/", {"Host": "evil.example"}).status == 403
    assert client.post("/api/reset", {}, {"Origin": "https://evil.example"}).status == 403
    assert "Access-Control-Allow-Origin" not in client.get("/api/events").headers
    assert client.request("OPTIONS", "/batch/").headers["Access-Control-Allow-Origin"] == "*"
    assert client.post("/api/reset", {}, {"Origin": emulator.url}).status == 200


def test_page_is_served_with_a_strict_policy(client: Any) -> None:
    """The page, its style and its scripts come from here alone, and no inline script could run."""
    page = client.get("/")

    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert b"http://" not in page.data
    assert b"https://" not in page.data
    for name, kind in (
        ("app.js", "javascript"),
        ("dom.js", "javascript"),
        ("views.js", "javascript"),
        ("app.css", "css"),
    ):
        asset = client.get(f"/static/{name}")
        assert (asset.status, kind in asset.headers["Content-Type"]) == (200, True)
    assert client.get("/static/../server.py").status == 404
    assert client.get("/static/%2e%2e/server.py").status == 404


def test_scripts_never_write_markup(client: Any) -> None:
    """Text from outside becomes text: the scripts have no way to parse it as HTML."""
    for name in ("app.js", "dom.js", "views.js"):
        source = client.get(f"/static/{name}").data.decode()
        assert [
            word for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(") if word in source
        ] == []


def test_live_notices(client: Any, kit: Any, emulator: Any) -> None:
    """A live reader hears of a change."""
    live = client.pool.request("GET", f"{emulator.url}/api/live", preload_content=False)
    stream = live.stream(4096)
    first = json.loads(next(stream).removeprefix(b"data:"))
    client.v0(kit.event())
    second = json.loads(next(stream).removeprefix(b"data:"))
    live.close()

    assert second["version"] > first["version"]


HOSTS = {
    "127.0.0.1": True,
    "127.8.8.8": True,
    "localhost": True,
    "::1": True,
    "0.0.0.0": False,
    "192.168.1.5": False,
    "example.com": False,
    "": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_loopback_only_by_default(host: str) -> None:
    """An address that others reach needs to be asked for."""
    assert is_loopback(host) is HOSTS[host]
    if not HOSTS[host]:
        with pytest.raises(ConfigError, match=r"--host.*--allow-remote"):
            Emulator(host=host)


def test_taken_port(emulator: Any) -> None:
    """A port in use is said so, with the way out."""
    port = int(emulator.url.rpartition(":")[2])

    with pytest.raises(ConfigError, match=rf"`--port` \(127\.0\.0\.1:{port}\): .*0 for a free one"):
        Emulator(port=port)


def test_flags(client: Any) -> None:
    """`/flags` answers an empty, valid set."""
    answer = client.post("/flags/?v=4", {"api_key": "phc_x", "distinct_id": "ada"}).json()

    assert (answer["flags"], answer["errorsWhileComputingFlags"], len(answer["requestId"])) == ({}, False, 36)
