"""Measuring: two sides interleaved in one run, ratios taken inside a round, medians with their range.

Neither pyperf nor pytest-benchmark is used for the ratios: both measure one function after the other, and on a machine
that others use too, the load moves between the two. Here every round runs the peer and us back to back (A B, B A, …),
so that what disturbs one side disturbs the other.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Side = Callable[[], float]
"""Runs one round and gives seconds per operation."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: What is measured.
        peer_name: Against what; "" for an absolute bound.
        ours: Seconds per operation, one for each round.
        peer: The peer's, in the same rounds; for an absolute bound empty.
        target: The ratio (or, without a peer, the seconds) that must not be exceeded; `None` for information.
        moonshot: What would be splendid; `None` for none.
        note: What a reader should know.
        unit: Of values without a peer: `s`, or what to put behind a number.
    """

    name: str
    peer_name: str
    ours: list[float]
    peer: list[float] = field(default_factory=list)
    target: float | None = None
    moonshot: float | None = None
    note: str = ""
    unit: str = "s"

    @property
    def values(self) -> list[float]:
        """What is compared with the target: ratios inside a round, or seconds."""
        if not self.peer:
            return self.ours
        return [ours / peer for ours, peer in zip(self.ours, self.peer, strict=True)]

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """`moonshot`, `ok`, `MISSED`, or `-` where nothing is asked."""
        if self.target is None:
            return "-"
        if self.moonshot is not None and self.value <= self.moonshot:
            return "moonshot"
        return "ok" if self.value <= self.target else "MISSED"


def interleaved(ours: Side, peer: Side, rounds: int) -> tuple[list[float], list[float]]:
    """Both sides in every round, in turn who goes first; the first round warms up and is not kept."""
    results: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        order = ((0, ours), (1, peer)) if number % 2 else ((1, peer), (0, ours))
        for index, side in order:
            seconds = side()
            if number:
                results[index].append(seconds)
    return results


def undisturbed(side: Side, times: int = 5) -> Side:
    """The least of several goes: what a few microseconds of code cost, without what the machine did meanwhile.

    As `timeit` advises: whatever is more than the least was not the code's.
    """
    return lambda: min(side() for _ in range(times))


def alone(side: Side, rounds: int) -> list[float]:
    """One side, the first round not kept."""
    return [side() for _ in range(rounds + 1)][1:]


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the cyclic garbage collector, as `timeit` does it: a collection belongs to whoever filled the heap."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def per_call(calls: int, run: Callable[[], object], clock: Callable[[], float] = time.thread_time) -> float:
    """Seconds of `clock` per operation of `run`, which does `calls` of them.

    The thread's CPU time by default: what the caller pays, whatever other threads do meanwhile.
    """
    with no_collector():
        begun = clock()
        run()
        return (clock() - begun) / calls


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# --- output --------------------------------------------------------------------------------------------------------


def shown(seconds: float, unit: str = "s") -> str:
    """With the unit that fits."""
    if unit != "s":
        return f"{seconds:.4g} {unit}".rstrip()
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def table(rows: list[Row]) -> str:
    """For people."""
    lines = [("what", "ours", "peer", "ratio (min..max)", "target", "moonshot", "verdict")]
    for row in rows:
        ratio = bool(row.peer)
        low, high = min(row.values), max(row.values)
        lines.append(
            (
                row.name,
                shown(statistics.median(row.ours), row.unit),
                f"{shown(statistics.median(row.peer))} {row.peer_name}" if ratio else "",
                f"{row.value:.3f} ({low:.3f}..{high:.3f})" if ratio else _range(low, high, row.unit),
                _bound(row, row.target),
                _bound(row, row.moonshot),
                row.verdict,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    text += [f"  {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join(text)


def markdown(rows: list[Row]) -> str:
    """For docs/benchmarks.md."""
    lines = [
        "| What | Ours | Peer | Ratio (min..max) | Target | Moonshot | Verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        ratio = bool(row.peer)
        low, high = min(row.values), max(row.values)
        spread = f"{row.value:.3f} ({low:.3f}..{high:.3f})" if ratio else _range(low, high, row.unit)
        peer = f"{shown(statistics.median(row.peer))}, {row.peer_name}" if ratio else ""
        lines.append(
            f"| {row.name} | {shown(statistics.median(row.ours), row.unit)} | {peer} | {spread} | "
            f"{_bound(row, row.target)} | {_bound(row, row.moonshot)} | {row.verdict} |"
        )
    return "\n".join(lines)


def _range(low: float, high: float, unit: str) -> str:
    return f"({shown(low, unit)}..{shown(high, unit)})"


def _bound(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    return f"<= {value:.3g}" if row.peer else f"<= {shown(value, row.unit)}"
