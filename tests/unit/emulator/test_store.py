"""The store: PostHog's de-duplication key, restarts, concurrency, waiting."""

from __future__ import annotations

import sqlite3
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from otel_posthog.errors import ConfigError

UUID = "0190a0b0-0000-7000-8000-00000000000"


def test_deduplication_key(client: Any, emulator: Any, kit: Any) -> None:
    """1.8: token, UTC day, name, distinct id and uuid; the last write wins; the arrivals are counted."""
    first = kit.event("e", "ada", uuid=UUID + "1", timestamp="2026-11-19T23:59:59Z", properties={"n": 1})
    client.v0(first)
    client.v0({**first, "timestamp": "2026-11-19T00:00:00Z", "properties": {"n": 2}})
    client.v0({**first, "timestamp": "2026-11-20T00:00:00Z"})
    client.v0({**first, "event": "f"})
    client.v0({**first, "distinct_id": "bob"})
    client.v0({**first, "uuid": UUID + "2"})
    client.v0(first, token="phc_another_project")

    assert [
        (e["event"], e["distinct_id"], e["day"], e["arrivals"], e["properties"]["n"]) for e in emulator.events()
    ] == [
        ("e", "ada", "2026-11-19", 2, 2),
        ("e", "ada", "2026-11-20", 1, 1),
        ("f", "ada", "2026-11-19", 1, 1),
        ("e", "bob", "2026-11-19", 1, 1),
        ("e", "ada", "2026-11-19", 1, 1),
        ("e", "ada", "2026-11-19", 1, 1),
    ]
    stats = emulator.stats()
    assert (stats["received"], stats["stored"], stats["duplicates"]) == (7, 6, 1)


def test_v0_and_v1_share_the_key(client: Any, emulator: Any, kit: Any) -> None:
    """A client that falls back from v1 to v0 does not count twice."""
    client.v1(kit.v1_event("e", uuid=UUID + "1"))
    client.v0(kit.event("e", uuid=UUID + "1"))

    assert [(e["event"], e["arrivals"], e["version"]) for e in emulator.events()] == [("e", 2, "v0")]


def test_file_survives_a_restart(tmp_path: Path) -> None:
    """With a file, events, people, groups, counts and telemetry are there again."""
    from posthog import Posthog

    path = str(tmp_path / "emulator.db")

    def run() -> tuple[Any, ...]:
        with Emulator(db=path) as emulator:
            sdk = Posthog("phc_restart", host=emulator.url, sync_mode=True, debug=False)
            sdk.capture("a", distinct_id="ada", uuid=UUID + "1", timestamp=datetime(2026, 11, 20, tzinfo=timezone.utc))
            sdk.set(
                distinct_id="ada",
                properties={"p": 1},
                uuid=UUID + "2",
                timestamp=datetime(2026, 11, 20, tzinfo=timezone.utc),
            )
            sdk.shutdown()
            return (
                [(e["event"], e["arrivals"]) for e in emulator.events()],
                [(p["distinct_ids"], p["properties"]) for p in emulator.persons()],
            )

    people = [(["ada"], {"p": 1})]
    assert run() == ([("a", 1), ("$set", 1)], people)
    assert run() == ([("a", 2), ("$set", 2)], people)


@pytest.mark.parametrize("fault", ["folder", "not a database", "other version", "a folder"])
def test_unusable_file(tmp_path: Path, fault: str) -> None:
    """The message names the option, the file and the way out, and no port stays bound."""
    path = tmp_path / "x.db"
    if fault == "folder":
        path = tmp_path / "absent" / "x.db"
    elif fault == "not a database":
        path.write_bytes(b"hello, this is a text file and no database at all" * 100)
    elif fault == "other version":
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        path.mkdir()

    with pytest.raises(ConfigError) as raised:
        Emulator(db=str(path))
    assert str(raised.value).startswith(f"`--db` ({path}): ")
    assert raised.value.hint


def test_concurrent_requests(client: Any, emulator: Any, kit: Any) -> None:
    """Eight senders at once, some resending: every event is there once, every arrival is counted."""
    failures: list[int] = []

    def send(worker: int) -> None:
        for n in range(20):
            uuid = f"0190a0b0-0000-7000-8000-{worker:06d}{n // 2:06d}"
            status = client.v0(
                kit.event("e", f"user {n % 3}", uuid=uuid, properties={"$set": {f"w{worker}": n}})
            ).status
            if status != 200:
                failures.append(status)

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    stats = emulator.stats()
    assert failures == []
    assert (stats["received"], stats["persons"]) == (160, 3)
    assert stats["stored"] == len({(e["uuid"], e["distinct_id"]) for e in emulator.events()})


def test_wait_for_returns_what_the_predicate_gave(client: Any, emulator: Any, kit: Any) -> None:
    """A waiter wakes when the event arrives."""
    sender = threading.Timer(0.05, lambda: client.v0(kit.event("late")))
    sender.start()

    found = emulator.wait_for(lambda e: e.events(event="late"), timeout=60)

    sender.join()
    assert [event["event"] for event in found] == ["late"]


def test_wait_for_says_what_did_arrive(client: Any, emulator: Any, kit: Any) -> None:
    """The error of a wait in vain helps."""
    client.v0(kit.event("other"))

    with pytest.raises(TimeoutError, match=r"not within 0\.05 s; arrived: \{'other': 1\}"):
        emulator.wait_for(lambda e: e.events(event="never"), timeout=0.05)


def test_unknown_filter_is_an_error(emulator: Any) -> None:
    """A misspelt filter never looks like "nothing arrived"."""
    with pytest.raises(TypeError, match="no such filter `name`"):
        emulator.events(name="x")


def test_nothing_is_left_after_close() -> None:
    """Closing ends the thread, the socket and live pages; closing again is fine."""
    import urllib3

    before = set(threading.enumerate())
    emulator = Emulator().start()
    pool = urllib3.PoolManager(retries=False)
    live = pool.request("GET", f"{emulator.url}/api/live", preload_content=False)
    assert next(live.stream(6)).startswith(b"data:")
    emulator.close()
    emulator.close()
    live.close()

    # starlette's worker threads idle for a while and are daemons
    left = [t for t in set(threading.enumerate()) - before if not t.name.startswith("AnyIO worker")]
    assert left == []
    with pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", emulator.url)
    pool.clear()


def test_hang_does_not_hold_up_close() -> None:
    """A scripted hang ends with the server."""
    import urllib3

    from otel_posthog.emulator import Fault

    emulator = Emulator().start()
    emulator.script(Fault("hang"))
    pool = urllib3.PoolManager(retries=False)
    errors: list[Exception] = []

    def send() -> None:
        try:
            pool.request("POST", f"{emulator.url}/batch/", body=b"{}", timeout=30)
        except urllib3.exceptions.HTTPError as error:
            errors.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    while not emulator.faults()[0]["applied"]:
        sender.join(0.01)
    emulator.close()
    sender.join(20)
    pool.clear()

    assert [type(error) for error in errors] == [urllib3.exceptions.ProtocolError]
