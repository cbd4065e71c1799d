"""The end of the process, step by step, with a clock of our own."""

from __future__ import annotations

from otel_posthog.auto.leaving import Leaving


class Recorder:
    """Stands in for the runtime: writes down what it is asked, and lets time pass."""

    def __init__(self, takes: float = 0.0, works: bool = True) -> None:
        self.now = 100.0
        self.works = works
        self.takes = takes
        self.calls: list[tuple[str, float]] = []
        self.leaving = Leaving(self.flush, self.stop, lambda: 5.0, monotonic=lambda: self.now)

    def flush(self, timeout: float) -> bool:
        """Writes down a flush."""
        self.calls.append(("flush", timeout))
        self.now += self.takes
        return self.works

    def stop(self, timeout: float) -> bool:
        """Writes down a stop."""
        self.calls.append(("stop", timeout))
        self.now += self.takes
        return self.works


def test_without_a_provider_to_wait_for_our_handler_stops() -> None:
    """Nobody will shut our processors down: the first handler is the last chance."""
    recorder = Recorder()
    recorder.leaving.at_exit()
    assert recorder.calls == [("stop", 5.0)]


def test_with_providers_the_last_one_stops_and_only_our_time_counts() -> None:
    """Flush first, then wait for both providers; what their exporters take is not taken from our budget."""
    recorder = Recorder(takes=2.0)
    spans, logs = object(), object()
    recorder.leaving.expect(spans)
    recorder.leaving.expect(logs)
    recorder.leaving.at_exit()
    recorder.now += 30.0
    recorder.leaving.closed(logs)
    recorder.now += 30.0
    recorder.leaving.closed(spans)
    assert recorder.calls == [("flush", 5.0), ("flush", 3.0), ("stop", 1.0)]


def test_a_provider_that_is_shut_down_early_only_flushes() -> None:
    """A reconfigured provider is not the end: the runtime stays, and the whole budget with it."""
    recorder = Recorder(takes=2.0)
    spans = object()
    recorder.leaving.expect(spans)
    recorder.leaving.closed(spans)
    recorder.leaving.at_exit()
    assert recorder.calls == [("flush", 5.0), ("stop", 5.0)]


def test_an_exhausted_budget_is_never_negative() -> None:
    """After a flush that took it all, the stop gets nothing, and says so honestly to delivery."""
    recorder = Recorder(takes=7.0)
    spans = object()
    recorder.leaving.expect(spans)
    recorder.leaving.at_exit()
    recorder.leaving.closed(spans)
    assert recorder.calls == [("flush", 5.0), ("stop", 0.0)]


def test_one_wait_in_vain_is_enough() -> None:
    """A flush that could not finish, however short, leaves nothing to wait for: a dead server delays the exit once."""
    recorder = Recorder(takes=0.5, works=False)
    spans = object()
    recorder.leaving.expect(spans)
    recorder.leaving.at_exit()
    recorder.leaving.closed(spans)
    assert recorder.calls == [("flush", 5.0), ("stop", 0.0)]
