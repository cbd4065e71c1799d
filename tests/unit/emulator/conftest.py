"""A running emulator with a clock that stands still, and a client that says exactly what goes over the wire."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
import urllib3

from otel_posthog.emulator import Emulator, Limits

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=timezone.utc)
TOKEN = "phc_project_token_for_tests"


@dataclass
class Clock:
    """Server time, set by the test."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Client:
    """One HTTP client; every answer as (status, body)."""

    url: str
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60))

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        return self.pool.request(method, self.url + path, body=body, headers=headers or {}, redirect=False)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {"Content-Type": "application/json", **(headers or {})})

    def get(self, path: str, headers: dict[str, str] | None = None) -> Any:
        return self.request("GET", path, headers=headers)

    def v0(self, *events: dict[str, Any], token: str = TOKEN, **root: Any) -> Any:
        return self.post("/batch/", {"api_key": token, "batch": list(events), **root})

    def v1(self, *events: Any, headers: dict[str, str | None] | None = None, **root: Any) -> Any:
        head: dict[str, str | None] = {
            "Authorization": f"Bearer {TOKEN}",
            "User-Agent": "tests/1",
            "PostHog-Sdk-Info": "tests/1.2.3",
            "PostHog-Attempt": "1",
            "PostHog-Request-Id": str(uuid.uuid4()),
            "PostHog-Request-Timestamp": NOW.isoformat(),
            **(headers or {}),
        }
        body = {"created_at": NOW.isoformat(), "batch": list(events), **root}
        if "User-Agent" in head and head["User-Agent"] is None:
            head["User-Agent"] = urllib3.util.SKIP_HEADER
        return self.post("/i/v1/analytics/events", body, {k: v for k, v in head.items() if v is not None})


def event(name: str = "signed_up", distinct_id: Any = "ada", **more: Any) -> dict[str, Any]:
    """A v0 event without a timestamp: server time."""
    return {"event": name, "distinct_id": distinct_id, **more}


def v1_event(name: Any = "signed_up", distinct_id: Any = "ada", **more: Any) -> dict[str, Any]:
    """A v1 event at server time."""
    made = {
        "event": name,
        "distinct_id": distinct_id,
        "uuid": str(uuid.uuid4()),
        "timestamp": NOW.isoformat(),
        "properties": {},
        **more,
    }
    return {key: value for key, value in made.items() if value is not ...}


def gzipped(value: Any) -> bytes:
    """JSON, compressed."""
    return gzip.compress(json.dumps(value).encode(), mtime=0)


@pytest.fixture(scope="module")
def clock() -> Clock:
    """The clock of `emulator`."""
    return Clock()


@pytest.fixture(scope="module")
def running_emulator(clock: Clock) -> Iterator[Emulator]:
    """One server for a module: small limits make the size rules cheap to test."""
    limits = Limits(v0_single=20_000, v0_batch=60_000, v1_compressed=60_000, v1_decompressed=200_000, event=10_000)
    with Emulator(clock=clock, limits=limits) as emulator:
        yield emulator


@pytest.fixture
def emulator(running_emulator: Emulator, clock: Clock) -> Emulator:
    """The server, emptied, its clock at NOW."""
    running_emulator.reset()
    clock.now = NOW
    return running_emulator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    """A client of `emulator`."""
    made = Client(emulator.url)
    yield made
    made.pool.clear()


@pytest.fixture
def kit() -> Any:
    """The makers of this file, for tests that cannot import a conftest."""

    class Kit:
        NOW = NOW
        TOKEN = TOKEN
        event: Callable[..., dict[str, Any]] = staticmethod(event)
        v1_event: Callable[..., dict[str, Any]] = staticmethod(v1_event)
        gzipped: Callable[[Any], bytes] = staticmethod(gzipped)

    return Kit
