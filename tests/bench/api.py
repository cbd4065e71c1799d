"""Rows about calls: what `capture()` costs its caller, and everything behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import SpanKind

import otel_posthog
from otel_posthog import assembly
from otel_posthog.api.process import process
from otel_posthog.lane.edge import edge_of
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.bench.harness import Row, alone, interleaved, no_collector, per_call
from tests.bench.setting import PROPERTIES, REQUEST, posthog_client, provider, runtime
from tests.bench.spans import slowest

CALLS = 1_000
EVENTS = 2_000


def rows(url: str, rounds: int) -> Iterator[Row]:
    """All of this module."""
    yield disabled_row(rounds)
    yield capture_row(url, rounds)
    yield all_in_row(url, rounds, request=False)
    yield all_in_row(url, rounds, request=True)
    yield tail_row(url, max(5, rounds))


@contextmanager
def in_a_request(url: str) -> Iterator[tuple[Callable[[], None], Callable[[], int]]]:
    """(drain, events delivered so far): the process has our runtime, and a request of a logged-in user is at work."""
    with runtime(url) as made:
        processor = PostHogSpanProcessor(runtime=made)
        provider_ = provider()
        provider_.add_span_processor(processor)
        assembly._process._runtime = made  # as `assembly.start` leaves it
        request = provider_.get_tracer("shop").start_span("GET /cart", kind=SpanKind.SERVER, attributes=REQUEST)
        try:
            with trace.use_span(request), otel_posthog.scope(distinct_id="ada"):
                yield (
                    lambda: _must(edge_of(made).worker.flush(60.0)),
                    lambda: made.bridge.delivery_stats().delivered,
                )
        finally:
            processor.shutdown()
            assembly._process._runtime = None
            process.forget()


def _must(done: bool) -> None:
    assert done, "the bridge did not drain"


def disabled_row(rounds: int) -> Row:
    """The call behind a shut gate."""
    process.forget()
    otel_posthog.capture("order paid")  # the first one reads the environment

    def run() -> None:
        capture = otel_posthog.capture
        for _ in range(CALLS):
            capture("order paid", PROPERTIES)

    seconds = alone(lambda: per_call(CALLS, run), rounds)
    process.forget()
    return Row("disabled: capture()", "", seconds, [], 0.3e-6)


def capture_row(url: str, rounds: int) -> Row:
    """The caller's CPU for `capture()` in a request against `posthog.capture()` with the same properties."""
    with in_a_request(url) as (drain, _), posthog_client(url) as client:

        def ours() -> float:
            capture = otel_posthog.capture

            def run() -> None:
                for _ in range(CALLS):
                    capture("order paid", PROPERTIES)

            seconds = per_call(CALLS, run)
            drain()
            return seconds

        def peer() -> float:
            capture = client.capture

            def run() -> None:
                for _ in range(CALLS):
                    capture("order paid", distinct_id="ada", properties=PROPERTIES)

            seconds = per_call(CALLS, run)
            client.flush()
            return seconds

        results = interleaved(ours, peer, rounds)
    return Row("capture(): 5 properties, in a request", "posthog.capture()", *results, 0.2, 0.1)


def tail_row(url: str, rounds: int) -> Row:
    """The slowest call in a thousand while delivery runs."""
    with in_a_request(url) as (drain, _), posthog_client(url) as client:

        def ours() -> float:
            seconds = slowest(lambda _: otel_posthog.capture("order paid", PROPERTIES))
            drain()
            return seconds

        def peer() -> float:
            seconds = slowest(lambda _: client.capture("order paid", distinct_id="ada", properties=PROPERTIES))
            client.flush()
            return seconds

        results = interleaved(ours, peer, rounds)
    return Row("p99.9 of capture() while delivery runs", "posthog.capture()", *results, 0.2, 0.05)


def all_in_row(url: str, rounds: int, *, request: bool) -> Row:
    """CPU of the whole process, all threads, from the call to the acknowledgement.

    Args:
        url: Of the sink.
        rounds: How many.
        request: Our event has a request's method, path, browser and so on in it, which the peer's has not.
    """
    with in_a_request(url) as (drain, delivered), posthog_client(url) as client:

        def ours() -> float:
            before = delivered()
            around = nullcontext() if request else trace.use_span(trace.INVALID_SPAN)
            begun = time.process_time()
            with around:
                for _ in range(EVENTS):
                    otel_posthog.capture("order paid", PROPERTIES)
            drain()
            seconds = time.process_time() - begun
            assert delivered() - before == EVENTS, f"{delivered() - before} of {EVENTS} events were delivered"
            return seconds / EVENTS

        def peer() -> float:
            begun = time.process_time()
            for _ in range(EVENTS):
                client.capture("order paid", distinct_id="ada", properties=PROPERTIES)
            client.flush()
            return (time.process_time() - begun) / EVENTS

        with no_collector():
            results = interleaved(ours, peer, rounds)
    what = "all CPU of a capture() with its request's context" if request else "all CPU of a capture()"
    bounds = (None, None) if request else (0.4, 0.2)
    return Row(f"{what}, delivery included", "posthog.capture() with delivery", *results, *bounds)
