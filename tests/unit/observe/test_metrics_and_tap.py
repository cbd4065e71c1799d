"""One table of metrics, and a tap that is bounded."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path

import pytest

from otel_posthog.delivery import DeliveryStats
from otel_posthog.model import (
    CaptureEvent,
    Decision,
    DropReason,
    LossReason,
    Notice,
    Resource,
    Scope,
    Signal,
    SignalKind,
)
from otel_posthog.observe import METRICS, SignalCounters, SignalStats, Tally, Tap, snapshot

DOCS = Path(__file__).parents[3] / "docs" / "observability.md"
SIGNAL = Signal(kind=SignalKind.SPAN, name="a", attributes={}, resource=Resource(), scope=Scope())
TAKEN = Decision(events=(CaptureEvent("order", "ada", "0190f3a2-7b5c-7def-8abc-0123456789ab", 1, {}),))
DROPPED = Decision(reason=DropReason.RULE, rule="health")


# --- counters and metrics ------------------------------------------------------------------------------------------


def test_a_snapshot_of_everything() -> None:
    """Every metric by name; nested by its attributes; ready for JSON."""
    counters = SignalCounters()
    tally = Tally(5)
    tally.captured(SignalKind.SPAN, events=2, rule="orders", notices=(Notice.CUT_VALUE, Notice.CUT_VALUE))
    tally.dropped(SignalKind.LOG, DropReason.NOT_TAGGED)
    tally.dropped(SignalKind.SPAN, DropReason.RULE, rule="health")
    tally.dropped(SignalKind.SPAN, DropReason.NOT_TAGGED)
    tally.refused(SignalKind.SPAN_EVENT, events=3)
    counters.add(tally)
    delivery = DeliveryStats(
        captured=9,
        delivered=4,
        spooled=1,
        dead_lettered={LossReason.REJECTED: 1},
        lost={LossReason.SHUTDOWN: 2},
        pending=1,
        retries=6,
        batches=7,
    )

    values = snapshot(
        counters.stats(),
        delivery,
        removed={DropReason.DUPLICATE: 3},
        errors={"tap": 1},
        misused={"distinct_id": 2},
        edge={"queue_full": 2},
    )

    assert json.loads(json.dumps(values)) == {
        "otel_posthog.signals.received": 5,
        "otel_posthog.signals.captured": {"span": 1},
        "otel_posthog.signals.dropped": {"log": {"not_tagged": 1}, "span": {"rule": 1, "not_tagged": 1}},
        "otel_posthog.signals.refused": {"span_event": 1},
        "otel_posthog.signals.by_rule": {"orders": 1, "health": 1},
        "otel_posthog.signals.mended": {"cut_value": 2},
        "otel_posthog.events.captured": 9,
        "otel_posthog.events.refused": 3,
        "otel_posthog.events.removed": {"duplicate": 3},
        "otel_posthog.events.delivered": 4,
        "otel_posthog.events.spooled": 1,
        "otel_posthog.events.dead_lettered": {"rejected": 1},
        "otel_posthog.events.lost": {"shutdown": 2},
        "otel_posthog.queue.size": 1,
        "otel_posthog.delivery.retries": 6,
        "otel_posthog.delivery.batches": 7,
        "otel_posthog.internal.errors": {"tap": 1},
        "otel_posthog.api.misused": {"distinct_id": 2},
        "otel_posthog.flags.questions": {},
        "otel_posthog.edge": {"queue_full": 2},
    }
    assert counters.stats().balanced


def test_a_snapshot_of_nothing_names_every_metric() -> None:
    """A dashboard sees zeros, not holes."""
    values = snapshot(SignalStats(), DeliveryStats())

    assert list(values) == [metric.name for metric in METRICS]
    assert all(
        value == ({} if metric.attributes else 0) for metric, value in zip(METRICS, values.values(), strict=True)
    )


def test_the_balance_can_fail() -> None:
    """`received` is counted on its own: a signal without an outcome shows."""
    counters = SignalCounters()
    tally = Tally(2)
    tally.captured(SignalKind.SPAN)
    counters.add(tally)

    assert not counters.stats().balanced


def test_threads_lose_no_count() -> None:
    """Eight threads, exact totals."""
    counters = SignalCounters()

    def work() -> None:
        for _ in range(1_000):
            tally = Tally(3)
            tally.captured(SignalKind.LOG, events=2, rule="r", notices=(Notice.CUT_NAME,))
            tally.dropped(SignalKind.LOG, DropReason.RULE, rule="r")
            tally.refused(SignalKind.LOG)
            counters.add(tally)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = counters.stats()
    assert stats.balanced
    assert (stats.received, stats.captured, stats.refused, stats.dropped) == (
        24_000,
        8_000,
        8_000,
        {DropReason.RULE: 8_000},
    )
    assert (stats.by_rule, stats.notices) == ({"r": 16_000}, {Notice.CUT_NAME: 8_000})
    assert (stats.events_captured, stats.events_refused) == (16_000, 8_000)


def test_no_outcome_is_named_like_a_drop_reason() -> None:
    """The counters keep outcomes and reasons in one dictionary."""
    assert not {"captured", "refused"} & {reason.value for reason in DropReason}


def test_names_are_unique_and_follow_the_convention() -> None:
    """Lower case, our prefix, a UCUM annotation or unit."""
    names = [metric.name for metric in METRICS]

    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"otel_posthog(\.[a-z_]+)+", name) for name in names)
    assert all(re.fullmatch(r"\{[a-z]+\}|By|s|1", metric.unit) for metric in METRICS)


def test_the_documentation_lists_every_metric() -> None:
    """Name, unit, attributes and meaning, as in the table."""
    rows = [
        f"| `{metric.name}` | {metric.instrument.value} | `{metric.unit}` | "
        f"{', '.join(f'`{name}`' for name in metric.attributes) or '-'} | {metric.description} |"
        for metric in METRICS
    ]
    text = DOCS.read_text()

    assert [row for row in rows if row not in text] == []


def test_the_documentation_lists_every_reason() -> None:
    """Whoever finds a reason in an output finds its meaning in the documentation."""
    text = DOCS.read_text()

    assert [
        r.value for group in (DropReason, LossReason, Notice) for r in group if f"| `{r.value}` |" not in text
    ] == []


# --- tap -----------------------------------------------------------------------------------------------------------


def test_the_ring_keeps_the_latest() -> None:
    """Bounded, oldest first, numbered from the first that was seen."""
    tap = Tap(capacity=2)
    tap(SIGNAL, TAKEN, False)
    tap(SIGNAL, TAKEN, True)
    tap(SIGNAL, DROPPED, False)

    assert [(outcome.number, outcome.verdict) for outcome in tap.latest()] == [(2, "refused"), (3, "rule")]


def test_a_subscriber_reads_what_comes_after_it() -> None:
    """Each outcome once."""
    tap = Tap()
    tap(SIGNAL, TAKEN, False)
    with tap.subscribe() as reader:
        tap(SIGNAL, DROPPED, False)

        assert [outcome.verdict for outcome in reader.read(timeout=0)] == ["rule"]
        assert reader.read(timeout=0) == []


def test_a_slow_subscriber_misses_the_oldest_and_is_told() -> None:
    """It never holds up the bridge and never fills the memory."""
    tap = Tap()
    with tap.subscribe(capacity=2) as slow, tap.subscribe() as other:
        for _ in range(5):
            tap(SIGNAL, TAKEN, False)

        assert [outcome.number for outcome in slow.read(timeout=0)] == [4, 5]
        assert (slow.missed, other.missed, len(other.read(timeout=0))) == (3, 0, 5)


def test_a_closed_subscriber_gets_nothing_more() -> None:
    """And closing twice is fine."""
    tap = Tap()
    reader = tap.subscribe()
    reader.close()
    reader.close()
    tap(SIGNAL, TAKEN, False)

    assert reader.read() == []


@pytest.mark.parametrize("wake", ["outcome", "close"])
def test_a_waiting_reader_wakes(wake: str) -> None:
    """By an outcome, or because the subscription is closed."""
    tap = Tap()
    reader = tap.subscribe()
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(reader.read(timeout=30))))
    thread.start()

    if wake == "outcome":
        tap(SIGNAL, TAKEN, False)
    else:
        reader.close()
    thread.join(30)

    assert found == [1 if wake == "outcome" else 0]


def test_a_decision_without_a_reason_is_told_as_invalid() -> None:
    """As the bridge counts it."""
    tap = Tap()
    tap(SIGNAL, Decision(), False)

    assert tap.latest()[0].verdict == "invalid"
