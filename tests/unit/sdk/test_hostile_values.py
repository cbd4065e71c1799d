"""What no attribute should hold, by every way in, down to the bytes of the request: it costs itself at the most."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from dirty_equals import IsList, IsPartialDict, IsStr
from opentelemetry import context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider

import otel_posthog
from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.assembly import build_runtime
from otel_posthog.config.settings import DeliveryConfig, Lane, Mode, Secret, Settings
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.contract.recording import RecordingTransport
from tests.fixtures.logging_bridge import LoggingHandler


class Hostile:
    """Raises whatever it is asked."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no text either")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __hash__(self) -> int:
        raise RuntimeError("not hashable")


class HostileMap(dict[str, Any]):
    """A mapping that cannot be read."""

    def items(self) -> Any:
        """Raises."""
        raise RuntimeError("no items")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __iter__(self) -> Any:
        raise RuntimeError("no keys")


def loop() -> list[Any]:
    """A list in itself."""
    made: list[Any] = []
    made.append(made)
    return made


def loop_of_maps() -> dict[str, Any]:
    """A map in itself."""
    made: dict[str, Any] = {}
    made["again"] = made
    return made


HOSTILE: dict[str, Callable[[], Any]] = {
    "object": Hostile,
    "map": HostileMap,
    "object in list": lambda: [1, Hostile()],
    "object in map": lambda: {"a": Hostile()},
    "loop": loop,
    "loop of maps": loop_of_maps,
    "nan": lambda: math.nan,
    "infinity": lambda: [math.inf, -math.inf],
    "decimal": lambda: Decimal("1.5"),
    "decimal nan": lambda: Decimal("sNaN"),
    "datetime": lambda: datetime(2026, 1, 2, tzinfo=timezone.utc),
    "bytes": lambda: b"\xff\x00",
    "huge": lambda: 10**5_000,
    "surrogate": lambda: "a\ud800b",
    "surrogate key": lambda: {"\udfff": "\ud800"},
}


class Shop:
    """Everything real from the app to the bytes of a request."""

    def __init__(self, *, ours: bool = True) -> None:
        self.transport = RecordingTransport()
        # One batch, which leaves at the flush.
        delivery = DeliveryConfig(flush_interval=600.0, wire="v0", compression="none", exit_timeout=30.0)
        lane = Lane(Mode.DIRECT, "http://127.0.0.1:9", Secret("phc_test"))
        self.runtime = build_runtime(Settings(enabled=True, lane=lane, delivery=delivery), transport=self.transport)
        self.spans = PostHogSpanProcessor(runtime=self.runtime)
        self.traces = TracerProvider(shutdown_on_exit=False)
        self.logs = LoggerProvider(shutdown_on_exit=False)
        if ours:
            self.traces.add_span_processor(self.spans)
            self.logs.add_log_record_processor(self.spans.for_logs())
        self.logger = logging.getLogger(f"hostile.values.{ours}")
        self.logger.propagate = False
        self.logger.setLevel(logging.INFO)
        self.handler = LoggingHandler(logger_provider=self.logs)
        self.logger.addHandler(self.handler)

    def by_span(self, event: str, value: Any) -> None:
        """An attribute of an annotated span; past the SDK's own cleaning, as vendored SDKs and old ones let it."""
        with self.traces.get_tracer("shop").start_as_current_span("x", attributes={"posthog.event": event}) as span:
            span._attributes._dict["posthog.properties.value"] = value

    def by_span_call(self, event: str, value: Any) -> None:
        """The same through `set_attribute`, which leaves out what it does not like."""
        with self.traces.get_tracer("shop").start_as_current_span("x", attributes={"posthog.event": event}) as span:
            span.set_attribute("posthog.properties.value", value)

    def by_log(self, event: str, value: Any) -> None:
        """An extra of a log line."""
        self.logger.info("line", extra={"posthog.event": event, "posthog.properties.value": value})

    def by_call(self, event: str, value: Any) -> None:
        """A property of a call."""
        otel_posthog.capture(event, {"value": value}, distinct_id="ada")

    def events(self) -> dict[str, Any]:
        """Name -> properties of what left; strict JSON in UTF-8, all of it."""
        assert self.traces.force_flush(60_000)
        found: dict[str, Any] = {}
        for request in self.transport.requests:
            text = request.body.decode("utf-8")
            for event in json.loads(text, parse_constant=pytest.fail)["batch"]:
                assert event["event"] not in found
                found[event["event"]] = event["properties"]
        return found

    def close(self) -> None:
        """Ends it."""
        self.logger.removeHandler(self.handler)
        self.traces.shutdown()
        self.logs.shutdown()


@pytest.fixture(name="shop")
def whole_shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """As in production: what is swallowed there is swallowed here."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    # A handler that cannot render an extra must not write to the test's stderr.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    shop = Shop()
    monkeypatch.setattr(assembly._process, "_runtime", shop.runtime)
    process.forget()
    token = context.attach(context.Context())
    yield shop
    context.detach(token)
    process.forget()
    shop.close()


WAYS = {"span": Shop.by_span, "span call": Shop.by_span_call, "log": Shop.by_log, "call": Shop.by_call}
ABSENT = "absent"
REPAIRED: dict[str, Any] = {
    "object in list": [1, None],
    "object in map": {"a": None},
    "nan": ABSENT,
    "infinity": [None, None],
    "decimal": 1.5,
    "datetime": "2026-01-02T00:00:00+00:00",
    "bytes": "/wA=",
    "huge": IsStr(regex="0x31e20801036510f3c591[0-9a-f]+.*"),
    "surrogate": "a\ufffdb",
    "surrogate key": {"\ufffd": "\ufffd"},
    "loop": IsList(length=1),
    "loop of maps": IsPartialDict(again=IsPartialDict()),
}
EXPECTED: dict[str, dict[str, Any]] = {
    # The converter sees what is there, and asks it for text.
    "span": {
        **REPAIRED, "object": ABSENT, "map": "{}", "decimal": "1.5", "decimal nan": "sNaN",
        "datetime": "2026-01-02 00:00:00+00:00",
    },
    # The call knows types, and names what has no form.
    "call": {
        **REPAIRED, "object": "<Hostile>", "map": "<HostileMap>", "object in list": [1, "<Hostile>"],
        "object in map": {"a": "<Hostile>"}, "decimal nan": ABSENT,
    },
}  # fmt: skip


def taken_by_the_sdk(way: str) -> list[str]:
    """What the SDK itself, without us, does not raise about: the rest never gets as far as here."""
    bare = Shop(ours=False)
    taken: list[str] = []
    for name, make in HOSTILE.items():
        try:
            WAYS[way](bare, "alone", make())
        except Exception:
            continue
        taken.append(name)
    bare.close()
    return taken


@pytest.mark.row(47)
@pytest.mark.parametrize("way", WAYS)
def test_a_hostile_value_costs_itself_at_the_most(shop: Shop, way: str) -> None:
    """Each between two good ones, all in one batch: the good ones arrive whole, each once; nothing is raised."""
    names = list(HOSTILE) if way in EXPECTED else taken_by_the_sdk(way)
    assert len(names) >= 7
    for name in names:
        WAYS[way](shop, f"before {name}", "good")
        WAYS[way](shop, f"hostile {name}", HOSTILE[name]())
        WAYS[way](shop, f"after {name}", "good")
    found = {event: properties.get("value", ABSENT) for event, properties in shop.events().items()}
    good = [f"{side} {name}" for name in names for side in ("before", "after")]
    assert {event: found.get(event) for event in good} == dict.fromkeys(good, "good")
    assert set(found) == {*good, *(f"hostile {name}" for name in names)}
    if way in EXPECTED:
        assert {name: found[f"hostile {name}"] for name in names} == EXPECTED[way]
    assert shop.runtime.guard.counts() == {}
    assert shop.runtime.bridge.delivery_stats().batches == 1


@pytest.mark.row(47)
@pytest.mark.parametrize("way", ["span call", "log", "call"])
def test_what_changes_after_the_hand_over_does_not_change_the_event(shop: Shop, way: str) -> None:
    """A list that the app goes on to fill."""
    value = ["one", "two"]
    WAYS[way](shop, "sold", value)
    value.append("three")
    assert shop.events()["sold"].get("value") == ["one", "two"]
