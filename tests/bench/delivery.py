"""Rows about everything behind the call: all CPU of an event, one batch, and the seam itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from opentelemetry.trace import SpanKind

from otel_posthog.bridge import Bridge
from otel_posthog.config.settings import ConvertConfig, DeliveryConfig, Lane, Mode, RulesConfig, Secret
from otel_posthog.convert import Converter
from otel_posthog.delivery import DeliveryStats
from otel_posthog.lane.readable import Reader
from otel_posthog.model import CaptureEvent, Decision, Signal
from otel_posthog.observe import Guard
from otel_posthog.policy import Policy
from otel_posthog.rules.load import load_rules
from tests.bench.harness import Row, alone, interleaved, no_collector, per_call
from tests.bench.setting import PROPERTIES, QUIET, REQUEST, TAGS, TOKEN, ended, live_spans, posthog_client, runtime
from tests.bench.spans import annotating

EVENTS = 2_000
BATCH = 100


def rows(url: str, rounds: int, *, fast: bool) -> Iterator[Row]:
    """All of this module."""
    yield all_in_row(url, rounds, fast=fast)
    yield batch_row(url, rounds, fast=fast)
    yield accept_row(rounds)


def all_in_row(url: str, rounds: int, *, fast: bool) -> Row:
    """CPU of the whole process, all threads, from the call to the acknowledgement."""
    sent: list[bool] = []
    with runtime(url) as made, annotating(made) as (annotate, drain), posthog_client(url) as client:

        def ours() -> float:
            spans = live_spans(EVENTS, QUIET)
            before = made.bridge.delivery_stats().delivered
            begun = time.process_time()
            for span in spans:
                annotate(span)
            drain()
            seconds = time.process_time() - begun
            delivered = made.bridge.delivery_stats().delivered - before
            assert delivered == EVENTS, f"{delivered} of {EVENTS} events were delivered"
            return seconds / EVENTS

        def peer() -> float:
            begun = time.process_time()
            for _ in range(EVENTS):
                sent.append(client.capture("order paid", distinct_id="ada", properties=PROPERTIES) is not None)
            client.flush()
            return (time.process_time() - begun) / EVENTS

        with no_collector():
            results = interleaved(ours, peer, rounds)
    assert all(sent), f"the peer took only {sum(sent)} of {len(sent)} events"
    return Row(
        "all CPU of an annotated span, delivery included",
        "posthog.capture() with delivery",
        *results,
        0.4,
        0.2,
        f"attributes, hand-over, conversion, {_encoders(fast)} and HTTP; the span itself exists anyway. "
        "The peer at its defaults: json, no compression",
    )


def batch_row(url: str, rounds: int, *, fast: bool) -> Row:
    """Encode, compress, send and read the answer of 100 events."""
    from posthog.request import batch_post

    from otel_posthog.delivery.build import build_wire
    from otel_posthog.delivery.forming import SLICE
    from otel_posthog.delivery.transport import Urllib3Transport
    from otel_posthog.delivery.wire import Batch, Parcel

    lane = Lane(Mode.DIRECT, url, Secret(TOKEN))
    wire = build_wire(lane, DeliveryConfig(wire="v1"), fast=fast)
    transport = Urllib3Transport()
    events = _events(BATCH)
    message = [
        {
            "event": event.event,
            "distinct_id": event.distinct_id,
            "uuid": event.uuid,
            "timestamp": "2026-11-20T12:00:00.000000+00:00",
            "properties": dict(event.properties),
        }
        for event in events
    ]
    repeats = 10

    def send() -> None:
        for _ in range(repeats):
            parcels: list[Parcel] = []
            for start in range(0, BATCH, SLICE):  # as the engine does it, so that other threads are not held up
                parcels += wire.encode_all(events[start : start + SLICE], record=False)
            batch = Batch(parcels, "bench", time.time_ns(), attempts=1)
            response = transport.post(wire.request(batch, time.time()), timeout=10)
            assert len(wire.read(batch, response, time.time()).delivered) == BATCH

    def post() -> None:
        for _ in range(repeats):
            batch_post(TOKEN, url, gzip=True, timeout=10, batch=message)

    results = interleaved(
        lambda: per_call(repeats, send, time.process_time), lambda: per_call(repeats, post, time.process_time), rounds
    )
    transport.close()
    size = len(json.dumps(message[0]))
    return Row(
        "one batch of 100 events: encode, compress, send",
        "posthog.request.batch_post, gzip",
        *results,
        0.35,
        0.1,
        f"{size} bytes of JSON an event; ours by {_encoders(fast)}, the peer's by json and gzip",
    )


def _encoders(fast: bool) -> str:
    return "orjson and isal" if fast else "json and zlib"


class _Taking:
    """Delivery that takes everything, at no cost."""

    def submit(self, events: Sequence[CaptureEvent], receipt: object = None) -> bool:
        return True

    def flush(self, timeout: float) -> bool:
        return True

    def shutdown(self, timeout: float) -> bool:
        return True

    def stats(self) -> DeliveryStats:
        return DeliveryStats()


class _Ready:
    """A converter that has decided already, at no cost."""

    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    def convert(self, signal: Signal) -> Decision:
        return self._decision


def accept_row(rounds: int) -> Row:
    """The seam itself: outcome, policy, counters; converter and delivery at no cost."""
    (signal,) = _signals(1)
    decision = Converter(ConvertConfig(), load_rules(RulesConfig())).convert(signal)
    bridge = Bridge(cast("Converter", _Ready(decision)), Policy(), _Taking(), guard=Guard())

    def through() -> None:
        accept = bridge.accept
        for _ in range(EVENTS):
            accept((signal,))

    seconds = alone(lambda: per_call(EVENTS, through), rounds)
    return Row("Bridge.accept of one signal, without convert and submit", "", seconds, [], 1.5e-6)


def _signals(count: int, attributes: Mapping[str, Any] = QUIET, kind: SpanKind = SpanKind.CLIENT) -> list[Signal]:
    # One reader for all, as the processors have it: it recognises the resource and the scope that spans share.
    reader = Reader()
    return [reader.span(span) for span in ended(live_spans(count, {**attributes, **TAGS}, kind=kind))]


def _events(count: int) -> list[CaptureEvent]:
    converter = Converter(ConvertConfig(), load_rules(RulesConfig()))
    made: list[Any] = [converter.convert(signal).events[0] for signal in _signals(count, REQUEST, SpanKind.SERVER)]
    return made
