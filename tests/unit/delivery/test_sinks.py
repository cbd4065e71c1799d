"""Onlookers see what the primary took, and concern nobody else."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.config.settings import Lane, Mode, Secret, Settings
from otel_posthog.delivery.build import memory_sink
from otel_posthog.delivery.fanout import FanOut
from otel_posthog.delivery.sinks import ConsoleWriter, FileWriter, MemorySink, WriterSink
from otel_posthog.errors import ConfigError
from tests.unit.delivery import loopback
from tests.unit.delivery.loopback import QUICK, TOKEN, Server, Workshop, balanced, event, key, raise_it, until


def settings_of(server: Server, *sinks: str, **changes: Any) -> Settings:
    """A lane to the server, and sinks."""
    lane = Lane(Mode.DIRECT, server.url, Secret(TOKEN))
    return Settings(enabled=True, lane=lane, delivery=QUICK, sinks=sinks, **changes)


def test_sinks_see_what_the_lane_took(server: Server, deliver: Workshop, tmp_path: Path) -> None:
    """Memory and file beside PostHog: the same events, whole."""
    delivery = deliver.build(settings_of(server, "memory", f"file:{tmp_path / 'sub' / 'events.jsonl'}"))
    events = [event(number, properties={"text": "line\nbreak é"}) for number in range(3)]
    assert delivery.submit(events)
    assert delivery.flush(60)
    sink = memory_sink(delivery)
    assert sink is not None
    assert sink.events == events
    assert set(server.store) == {key(made) for made in events}
    lines = (tmp_path / "sub" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "timestamp": f"2025-11-20T00:53:20.00{number}000Z",
            "event": "order placed",
            "distinct_id": f"user-{number}",
            "uuid": event(number).uuid,
            "properties": {"text": "line\nbreak é"},
        }
        for number in range(3)
    ]
    assert (tmp_path / "sub" / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_both_lanes(server: Server, deliver: Workshop) -> None:
    """PostHog and a Collector get the same events; the Collector's trouble is not PostHog's."""
    other = Server()
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        other.default = loopback.status(200, b"", Content_Type="application/x-protobuf")
        also = Lane(Mode.COLLECTOR, f"{other.url}/v1/logs", Secret("bearer"))
        delivery = deliver.build(settings_of(server, also=also))
        delivery.submit([event(1)])
        assert delivery.flush(60)
        assert until(lambda: len(other.seen) == 1)
        assert other.seen[0].headers["authorization"] == "Bearer bearer"
        other.default = loopback.hang
        delivery.submit([event(2)])
        assert isinstance(delivery, FanOut)
        assert delivery.primary.flush(60)
        assert len(server.store) == 2
        other.over.set()
        delivery.shutdown(0.5)
        for part in delivery.onlookers.values():
            balanced(part.stats())
    finally:
        other.over.set()
        other.shutdown()
        other.server_close()


def test_a_sink_alone_is_the_primary(deliver: Workshop) -> None:
    """Without a lane the first sink's books are the books."""
    delivery = deliver.build(Settings(enabled=True, sinks=("memory",)))
    assert delivery.submit([event(1)])
    assert delivery.stats().delivered == 1
    delivery.shutdown(1)
    assert not delivery.submit([event(2)])


def test_an_onlooker_cannot_refuse_or_raise() -> None:
    """What it does is its own affair, and told to the guard."""

    class Broken(MemorySink):
        def submit(self, events: Any, receipt: object = None) -> bool:
            raise ZeroDivisionError

        def flush(self, timeout: float) -> bool:
            raise ZeroDivisionError

    told: list[str] = []
    primary = MemorySink()
    fan = FanOut(primary, {"broken": Broken(), "memory": MemorySink()}, guard=lambda where, _: told.append(where))
    assert fan.submit([event(1)])
    assert fan.flush(60)
    assert primary.events == [event(1)]
    assert told == ["sink.broken", "sink.broken"]


def test_what_the_primary_refuses_nobody_sees() -> None:
    """An event that is not taken is shown nowhere: it will come again."""
    primary, onlooker = MemorySink(), MemorySink()
    primary.shutdown(0)
    fan = FanOut(primary, {"memory": onlooker}, guard=raise_it)
    assert not fan.submit([event(1)])
    assert onlooker.events == []


def test_memory_keeps_the_newest() -> None:
    """A ring: bounded, the oldest go first."""
    sink = MemorySink(limit=3)
    sink.submit([event(number) for number in range(5)])
    assert sink.events == [event(number) for number in (2, 3, 4)]
    sink.clear()
    assert sink.events == []
    assert sink.stats().captured == 5


def test_the_console_shows_one_safe_line_for_an_event() -> None:
    """Line breaks, escape sequences and turned text in the data forge nothing on a terminal."""
    stream = io.StringIO()
    sink = WriterSink(ConsoleWriter(stream), guard=raise_it, name="console")
    nasty = "a\nposthog forged \x1b[31mred\u202eturned"
    assert sink.submit([event(1, event=nasty, distinct_id=nasty, properties={"k": nasty})])
    assert sink.flush(60)
    sink.shutdown(1)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("posthog 2025-11-20T00:53:20.001000Z a")
    assert "\x1b" not in line
    assert "\u202e" not in line


def test_a_console_that_knows_no_unicode() -> None:
    """An ASCII terminal gets escapes, not an exception."""
    raw = io.BytesIO()
    sink = WriterSink(ConsoleWriter(io.TextIOWrapper(raw, encoding="ascii")), guard=raise_it, name="console")
    sink.submit([event(1, event="größe 🦔")])
    assert sink.flush(60)
    assert b"gr\\xf6" in raw.getvalue()
    sink.shutdown(1)


def test_a_file_is_opened_again(tmp_path: Path) -> None:
    """Rotated, removed, or its folder gone and back: later lines are written."""
    path = tmp_path / "logs" / "events.jsonl"
    sink = WriterSink(FileWriter(str(path)), guard=raise_it, name="file")

    def write(number: int) -> None:
        assert sink.submit([event(number)])
        assert sink.flush(60)

    write(1)
    os.rename(path, path.with_suffix(".1"))
    write(2)
    assert [json.loads(line)["distinct_id"] for line in path.read_text().splitlines()] == ["user-2"]
    path.unlink()
    path.mkdir()
    write(3)  # cannot be written: counted, not raised
    path.rmdir()
    write(4)
    assert [json.loads(line)["distinct_id"] for line in path.read_text().splitlines()] == ["user-4"]
    stats = sink.stats()
    assert (stats.delivered, sum(stats.lost.values())) == (3, 1)
    balanced(stats)
    sink.shutdown(1)


def test_a_stuck_writer_bounds_its_queue() -> None:
    """An onlooker that cannot keep up refuses for itself alone, and ends within its time."""
    gate = threading.Event()

    class Stuck(ConsoleWriter):
        def write(self, lines: Any) -> None:
            gate.wait(20)

    sink = WriterSink(Stuck(io.StringIO()), guard=raise_it, name="stuck", limit=5)
    taken = [sink.submit([event(number)]) for number in range(300)]
    assert not all(taken)
    assert not sink.shutdown(0.05)
    balanced(sink.stats())
    gate.set()


@pytest.mark.parametrize("spec", ["nonsense", "file:", "file", "phc_secret_key_pasted_here_by_mistake"])
def test_an_unknown_sink_is_a_config_error(spec: str) -> None:
    """Named, with what there is; a long word is not repeated whole."""
    from otel_posthog.delivery.build import build_delivery

    with pytest.raises(ConfigError, match="OTEL_POSTHOG_SINK") as failure:
        build_delivery(Settings(enabled=True, sinks=(spec,)), guard=raise_it)
    assert "pasted_here" not in str(failure.value)
