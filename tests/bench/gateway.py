"""Rows about the gateway: spans per second and core, from the compressed request to the compressed batch.

The peer ("typical") is what an ordinary receiver of this kind does: inflate, parse all of it, walk every span and every
attribute into dicts, make events of those that are tagged, `json.dumps`, gzip at level 6. In the same run, of the same
bytes, in one process and without a network on either side.
"""

from __future__ import annotations

import gzip
import json
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, Secret
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats
from otel_posthog.delivery.build import build_wire
from otel_posthog.delivery.wire import Batch
from otel_posthog.gateway.inbound import PROTOBUF
from otel_posthog.gateway.inflate import choose_inflate
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import wanted_of
from otel_posthog.gateway.process.allocator import tune_allocator
from otel_posthog.model import CaptureEvent
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules.load import parse_text
from tests.bench.gateway_payloads import SPANS, body, failed, tagged
from tests.bench.harness import Row, interleaved, per_call
from tests.bench.setting import TOKEN

LIMIT = 64 * 1024 * 1024
RULES = """
rules:
  - {name: vip, match: {attributes: {shop.vip: true}}, capture: vip order}
  - {name: refund, match: {name: {glob: "POST /refunds*"}}, capture: refunded}
"""
"""Rules of which nothing in the payloads is matched, as most spans match none."""

CASES = (
    ("A", "nothing tagged", 8, 20, 20),
    ("B", "1 % tagged, 0.5 % exceptions", 4, 9, 20),
    ("C", "all tagged", 1.5, 10, 4),
)
"""Payload, name, target and moonshot as multiples of the peer's speed, requests of each round."""


def rows(rounds: int) -> Iterator[Row]:
    """All of this module."""
    tune_allocator()
    with _extra():
        yield from _rows(rounds)


@contextmanager
def _extra() -> Iterator[None]:
    """With orjson and isal, whatever the bench hides for the other rows: the extra `gateway` brings both."""
    hidden = [name for name in ("orjson", "isal") if sys.modules.get(name, name) is None]
    for name in hidden:
        del sys.modules[name]
    yield
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]


def _rows(rounds: int) -> Iterator[Row]:
    for payload, name, target, moonshot, requests in CASES:
        compressed = gzip.compress(body(payload), 6)
        expected = sum(tagged(payload, number) + failed(payload, number) for number in range(SPANS))
        pipeline = Pipeline()
        assert pipeline(compressed) == expected, f"{payload}: {pipeline(compressed)} events in place of {expected}"
        assert typical(compressed) == expected
        results = interleaved(
            _of_one_span(pipeline, compressed, requests), _of_one_span(typical, compressed, requests), rounds
        )
        yield Row(
            f"gateway, {name}: CPU of a span",
            "inflate + parse + full traversal + json + gzip -6",
            *results,
            1 / target,
            1 / moonshot,
            f"target and moonshot are {target} and {moonshot} times the peer's spans/s",
        )


def _of_one_span(run: Callable[[bytes], int], compressed: bytes, requests: int) -> Callable[[], float]:
    def round_() -> float:
        return per_call(SPANS * requests, lambda: [run(compressed) for _ in range(requests)])

    return round_


# --- ours ----------------------------------------------------------------------------------------------------------


class Pipeline:
    """What the gateway does with a request, the disk and the network apart."""

    def __init__(self) -> None:
        rules = parse_text(RULES)
        config = ConvertConfig(honour_carrier=True)
        wire = build_wire(Lane(Mode.DIRECT, "http://localhost:1", Secret(TOKEN)), DeliveryConfig(wire="v1"))
        self._inflate = choose_inflate()
        self._wanted = wanted_of([rules], [config])
        self._delivery = Encoded(wire)
        # Every request comes a day after the one before: the same exceptions again would be none.
        self._requests = 0
        self._bridge = Bridge(
            Converter(config, rules), Policy(monotonic=lambda: 86_400.0 * self._requests), self._delivery, guard=Guard()
        )

    def __call__(self, compressed: bytes) -> int:
        """The number of events."""
        prepared = prepare("traces", PROTOBUF, self._inflate(compressed, LIMIT), self._wanted)
        if not prepared.candidates:
            return 0
        self._requests += 1
        result = self._bridge.accept(list(prepared.signals()))
        assert result.refused == 0
        return self._delivery.send()


class Encoded:
    """A delivery up to the wire: events are encoded, batches joined and compressed."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self._events: list[CaptureEvent] = []

    def submit(self, events: Sequence[CaptureEvent], receipt: Any = None) -> bool:
        """Takes them."""
        self._events += events
        return True

    def send(self) -> int:
        """Encodes them and makes the requests, a thousand events each; the number of events in them."""
        events, self._events = self._events, []
        for start in range(0, len(events), 1_000):
            parcels = self._wire.encode_all(events[start : start + 1_000], record=False)
            assert self._wire.request(Batch(parcels, "bench", time.time_ns(), attempts=1), time.time()).body
        return len(events)

    def stats(self) -> DeliveryStats:
        """Nothing."""
        return DeliveryStats()

    def resume(self) -> None:
        """Nothing."""

    def flush(self, timeout: float) -> bool:
        """Nothing."""
        return True

    def shutdown(self, timeout: float) -> bool:
        """Nothing."""
        return True


# --- the peer ------------------------------------------------------------------------------------------------------


def typical(compressed: bytes) -> int:
    """The number of events."""
    request = ExportTraceServiceRequest.FromString(zlib.decompress(compressed, 31))
    events: list[dict[str, Any]] = []
    for resource_spans in request.resource_spans:
        resource = _dict(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                attributes = _dict(span.attributes)
                if "posthog.event" in attributes:
                    events.append(_event(span, attributes, resource, attributes["posthog.event"]))
                for event in span.events:
                    of_event = _dict(event.attributes)
                    if event.name == "exception":
                        events.append(_event(span, of_event, resource, "$exception"))
    if events:
        gzip.compress(json.dumps({"api_key": TOKEN, "batch": events}).encode(), 6)
    return len(events)


def _event(span: Any, attributes: dict[str, Any], resource: dict[str, Any], name: str) -> dict[str, Any]:
    return {
        "event": name,
        "distinct_id": attributes.get("posthog.distinct_id", span.trace_id.hex()),
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{span.trace_id.hex()}{span.span_id.hex()}{name}")),
        "timestamp": datetime.fromtimestamp(span.end_time_unix_nano / 1e9, timezone.utc).isoformat(),
        "properties": {
            **{key.removeprefix("posthog.properties."): value for key, value in attributes.items()},
            "$lib": "typical",
            "$trace_id": span.trace_id.hex(),
            "$span_id": span.span_id.hex(),
            "service_name": resource.get("service.name"),
            "environment": resource.get("deployment.environment.name"),
        },
    }


def _dict(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    field = value.WhichOneof("value")
    if field == "array_value":
        return [_value(item) for item in value.array_value.values]
    if field == "kvlist_value":
        return _dict(value.kvlist_value.values)
    return getattr(value, field) if field else None
