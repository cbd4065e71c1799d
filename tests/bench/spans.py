"""Rows about spans: what an ordinary one pays for us, and what it costs the caller to annotate one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.trace import SpanKind

from otel_posthog.assembly import Runtime
from otel_posthog.sdk.processor import PostHogSpanProcessor
from tests.bench.harness import Row, Side, alone, interleaved, no_collector, per_call, quantile, shown, undisturbed
from tests.bench.setting import (
    PROPERTIES,
    QUIET,
    RULES,
    TAGS,
    ended,
    live_spans,
    posthog_client,
    provider,
    quiet_batch_processor,
    runtime,
)

SPANS = 1_000
WARM = 50
"""Spans that a round goes over again and again: one that has just started, or ended, is in the processor's cache. (Not
where something is stamped: that happens once.)"""
CALLS = 1_000
END = 1_800_000_000_000_000_000
"""Nanoseconds; a span without an end would be an event with an absurd time."""


def rows(url: str, rounds: int) -> Iterator[Row]:
    """All of this module."""
    yield from quiet_rows(url, rounds)
    yield disabled_row(rounds)
    yield annotate_row(url, rounds)
    yield tail_row(url, max(5, rounds))


# --- an un-annotated span ------------------------------------------------------------------------------------------


def quiet_rows(url: str, rounds: int) -> Iterator[Row]:
    """`on_start` + `on_end` of an un-annotated span against `BatchSpanProcessor.on_end`, both called directly."""
    name = "un-annotated span, on_start + on_end"
    tracer = provider().get_tracer("shop")
    # As most spans are: inside of another one, of a request that nobody said anything about.
    bare = trace.set_span_in_context(tracer.start_span("GET /cart", kind=SpanKind.SERVER))
    known = trace.set_span_in_context(
        tracer.start_span("GET /cart", kind=SpanKind.SERVER, attributes={"posthog.distinct_id": "ada"})
    )
    carried = baggage.set_baggage(
        "session.id", "0190f3a2-7b5c-7def-8abc-0123456789ab", baggage.set_baggage("user.id", "ada", bare)
    )
    for label, rules, context, target, moonshot, note in (
        ("bare", "", bare, 0.75, 0.4, ""),
        ("with rules", RULES, bare, 1.3, 0.8, "the default set and seven user rules, by name, pattern, key and kind"),
        ("person of the parent span to stamp", "", known, 4.0, 2.0, ""),
        ("person and session from baggage to stamp", "", carried, 4.0, 2.0, ""),
    ):
        different = WARM if context is bare else SPANS
        with runtime(url, rules=rules) as made:
            processor = PostHogSpanProcessor(runtime=made)
            ours, peer = interleaved(
                undisturbed(_quiet(processor, context, different)), undisturbed(_batch_on_end(different)), rounds
            )
            processor.shutdown()
        yield Row(f"{name}: {label}", "BatchSpanProcessor.on_end", ours, peer, target, moonshot, note)


def _quiet(processor: Any, context: Any, different: int) -> Side:
    def side() -> float:
        spans = live_spans(different, QUIET, context) * (SPANS // different)
        on_start, on_end = processor.on_start, processor.on_end

        def start() -> None:
            for span in spans:
                on_start(span, context)

        def end() -> None:
            for span in spans:
                on_end(span)

        seconds = per_call(SPANS, start)
        ended(spans[:different])
        return seconds + per_call(SPANS, end)

    return side


def _batch_on_end(different: int) -> Side:
    def side() -> float:
        spans = ended(live_spans(different, QUIET)) * (SPANS // different)
        processor = quiet_batch_processor(SPANS)
        on_end = processor.on_end

        def end() -> None:
            for span in spans:
                on_end(span)

        try:
            return per_call(SPANS, end)
        finally:
            processor.force_flush()
            processor.shutdown()

    return side


def disabled_row(rounds: int) -> Row:
    """The same calls of a processor behind a shut gate."""
    processor = PostHogSpanProcessor()  # no variable is set
    context = trace.set_span_in_context(trace.INVALID_SPAN)
    return Row(
        "disabled: processor's on_start + on_end", "", alone(_quiet(processor, context, WARM), rounds), [], 0.3e-6
    )


# --- annotating one ------------------------------------------------------------------------------------------------


@contextmanager
def annotating(made: Runtime) -> Iterator[tuple[Callable[[Any], None], Callable[[], None]]]:
    """(annotate and hand over one span, drain): five attributes on a span that is there anyway, and its `on_end`."""
    processor = PostHogSpanProcessor(runtime=made)
    on_end = processor.on_end

    def annotate(span: Any) -> None:
        span.set_attributes(TAGS)
        span._end_time = END  # what `span.end()` does before it calls the processors
        on_end(span)

    def drain() -> None:
        assert processor.force_flush(60_000), "the bridge did not drain"

    try:
        yield annotate, drain
    finally:
        processor.shutdown()


def annotate_row(url: str, rounds: int) -> Row:
    """The caller's CPU for an annotated span against `posthog.capture()` with as many properties."""
    with runtime(url) as made, annotating(made) as (annotate, drain), posthog_client(url) as client:

        def ours() -> float:
            spans = live_spans(CALLS, QUIET)

            def run() -> None:
                for span in spans:
                    annotate(span)

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
    return Row("annotated span: 5 attributes and hand-over", "posthog.capture()", *results, 0.15, 0.1)


# --- the tail ------------------------------------------------------------------------------------------------------


def _app_work() -> int:
    # About 50 µs of Python and a wait, as for a query: an app does something between two events. Without the wait, a
    # busy loop would starve the delivery of both sides, and nothing would run "meanwhile".
    time.sleep(0.0002)
    return sum(number * number for number in range(1_000))


def slowest(call: Callable[[int], object], calls: int = 6_000) -> float:
    """Seconds of the slowest call in a thousand, wall clock, with an app's own work between the calls."""
    walls: list[float] = []
    with no_collector():
        for number in range(calls):
            _app_work()
            begun = time.perf_counter()
            call(number)
            walls.append(time.perf_counter() - begun)
    return quantile(walls, 0.999)


def tail_row(url: str, rounds: int, calls: int = 6_000) -> Row:
    """The tail of annotating a span while delivery runs."""
    with runtime(url) as made, annotating(made) as (annotate, drain), posthog_client(url) as client:

        def ours() -> float:
            spans = live_spans(calls, QUIET)
            seconds = slowest(lambda number: annotate(spans[number]), calls)
            drain()
            return seconds

        def peer() -> float:
            seconds = slowest(lambda _: client.capture("order paid", distinct_id="ada", properties=PROPERTIES), calls)
            client.flush()
            return seconds

        results = interleaved(ours, peer, rounds)
        # What the machine itself does to such a loop: the same attributes, and nobody who delivers anything.
        spans = live_spans(calls, QUIET)
        floor = slowest(lambda number: spans[number].set_attributes(TAGS), calls)
    return Row(
        "p99.9 of annotating a span while delivery runs",
        "posthog.capture()",
        *results,
        0.2,
        0.05,
        f"wall clock, so it is only as good as the machine is quiet: the attributes alone took {shown(floor)}",
    )
