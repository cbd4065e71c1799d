"""The oracle of the rig: every acknowledgement is an obligation, and obligations are compared with what PostHog has.

Sender ─► [Collector] ─► gateway ─► local PostHog with scripted faults
   └── acknowledged ids ──► Oracle.check ◄── stored events ──┘
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import urllib3
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.emulator import Emulator
from tests.fixtures.gateway import GatewayProcess

START_NS = 1_763_600_000_000_000_000
EVENT = "order placed"


def request(numbers: Sequence[int], *, padding: int = 0, event: str = EVENT) -> bytes:
    """One OTLP request with a tagged span for each number.

    Args:
        numbers: Who and when; each is a person and a trace of its own.
        padding: Characters of a further property.
        event: Name of the event.
    """
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    pair = resource.resource.attributes.add()
    pair.key, pair.value.string_value = "service.name", "rig"
    spans = resource.scope_spans.add().spans
    for number in numbers:
        span = spans.add()
        span.trace_id = (number + 1).to_bytes(16, "big")
        span.span_id = (number + 1).to_bytes(8, "big")
        span.name = "checkout"
        span.start_time_unix_nano = START_NS + number * 1_000_000
        span.end_time_unix_nano = START_NS + number * 1_000_000 + 250_000
        tags = {"posthog.event": event, "posthog.distinct_id": f"person-{number}"}
        if padding:
            tags["posthog.properties.padding"] = "x" * padding
        for key, value in tags.items():
            pair = span.attributes.add()
            pair.key, pair.value.string_value = key, value
        pair = span.attributes.add()
        pair.key, pair.value.int_value = "posthog.properties.number", number
    return message.SerializeToString()


@dataclass
class Sender:
    """Sends as a Collector does: again after 429, 502, 503, 504 or no answer; anything else is a violation.

    Args:
        url: Base of OTLP/HTTP.
        token: Bearer token, "" for none.
    """

    url: str
    token: str = ""
    acknowledged: list[int] = field(default_factory=list[int])
    answers: Counter[int] = field(default_factory=Counter[int])
    retry_after: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self._http = urllib3.PoolManager(1, retries=False, timeout=urllib3.Timeout(40))

    def send(self, numbers: Sequence[int], *, tries: int = 200, body: bytes | None = None) -> bool:
        """Sends one request until it is acknowledged; whether it was.

        Raises:
            AssertionError: An answer that makes a Collector drop it for good.
        """
        body = request(numbers) if body is None else body
        headers = {"content-type": "application/x-protobuf"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        for _ in range(tries):
            try:
                answer = self._http.request("POST", f"{self.url}/v1/traces", body=body, headers=headers)
            except urllib3.exceptions.HTTPError:
                self.answers[0] += 1
                time.sleep(0.05)
                continue
            self.answers[answer.status] += 1
            if answer.status == 200:
                self.acknowledged.extend(numbers)
                return True
            assert answer.status in (429, 502, 503, 504), f"{answer.status}: a Collector would drop it"
            self.retry_after.add(answer.headers.get("retry-after", ""))
            time.sleep(0.05)
        return False

    def send_all(self, numbers: Sequence[int], *, together: int = 20) -> None:
        """Sends `numbers`, so many in a request."""
        for start in range(0, len(numbers), together):
            assert self.send(numbers[start : start + together])

    def close(self) -> None:
        """Closes its connection."""
        self._http.clear()


def until(done: Callable[[], bool], timeout: float = 60.0) -> bool:
    """Looks again and again until `done`, for `timeout` seconds at the most; whether it was."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True


def delivered(posthog: Emulator) -> set[int]:
    """The numbers that PostHog has."""
    return {int(event["distinct_id"].removeprefix("person-")) for event in posthog.events()}


def metric(gateway: GatewayProcess, name: str, **labels: str) -> float:
    """The sum of a metric of the gateway over everything that has these labels."""
    status, text = gateway.get("/metrics")
    assert status == 200
    total = 0.0
    for found, given, value in re.findall(r"^(\w+)(?:\{([^}]*)\})? ([0-9.eE+-]+|NaN)$", text, re.MULTILINE):
        having = dict(re.findall(r'(\w+)="([^"]*)"', given))
        if found == name and labels.items() <= having.items():
            total += float(value)
    return total


def memory(gateway: GatewayProcess) -> int:
    """KiB of memory that a gateway has now."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def check(posthog: Emulator, owed: Sequence[int], *, without: Sequence[int] = (), timeout: float = 60.0) -> None:
    """Every obligation is met: each event is there, once by PostHog's key, and whole.

    Args:
        posthog: Where they must be.
        owed: What was acknowledged.
        without: What PostHog refused for good.
        timeout: Seconds to wait for it.

    Raises:
        AssertionError: Something is missing, double or changed.
    """
    expected = set(owed) - set(without)
    assert until(lambda: expected <= delivered(posthog), timeout), sorted(expected - delivered(posthog))[:20]
    events = posthog.events()
    keys = Counter((event["uuid"], event["event"], event["distinct_id"], event["timestamp"][:10]) for event in events)
    assert [key for key, count in keys.items() if count > 1] == []
    assert len({event["uuid"] for event in events}) == len(events)
    assert Counter(event["distinct_id"] for event in events) == Counter(f"person-{number}" for number in expected)
    for event in events:
        number = int(event["distinct_id"].removeprefix("person-"))
        properties = event["properties"]
        assert (event["event"], properties["number"], properties["$trace_id"], properties["duration_ms"]) == (
            EVENT,
            number,
            f"{number + 1:032x}",
            0.25,
        )
