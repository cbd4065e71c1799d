"""What the journal and the dead letters write can be read again, by this version and told apart from any other."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_posthog.delivery.segment_log import SegmentLog
from otel_posthog.delivery.spool_files import OsFiles
from otel_posthog.gateway.dead_letters.letter import Letter
from otel_posthog.gateway.dead_letters.letter import decode as decode_letter
from otel_posthog.gateway.dead_letters.letter import encode as encode_letter
from otel_posthog.gateway.dead_letters.letters import read_letters
from otel_posthog.gateway.inbound import JSON, OK, PROTOBUF
from otel_posthog.gateway.journal.record import BrokenRecordError, Record, UnknownVersionError, decode, encode
from otel_posthog.gateway.journal.single_item import single_items
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.processing.work import Tracker
from otel_posthog.model import CaptureEvent
from tests.fixtures.gateway_intake import Rig, logs, merged, people, send, spans, until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A gateway without receivers."""
    made = Rig(str(tmp_path / "spool"))
    yield made
    made.close()


RECORDS = st.builds(
    Record,
    kind=st.sampled_from(["traces", "logs"]),
    media_type=st.sampled_from([PROTOBUF, JSON]),
    body=st.binary(max_size=300),
    gzip=st.booleans(),
    caller=st.text(max_size=20),
    received_ns=st.integers(0, 2**63),
    digests=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
) | st.builds(
    Record,
    kind=st.just("logs"),
    media_type=st.just(PROTOBUF),
    body=st.binary(max_size=300),
    content=st.just("event"),
    project=st.text(max_size=20),
    origin=st.binary(max_size=100),
)


@given(record=RECORDS)
def test_a_record_comes_back_as_it_was(record: Record) -> None:
    """Whatever is in it."""
    assert decode(encode(record)) == record


@given(data=st.binary(max_size=80))
def test_rubbish_is_told_from_records(data: bytes) -> None:
    """Bytes that nobody wrote are broken or of another version, never an unexpected error."""
    try:
        decode(data)
    except (BrokenRecordError, UnknownVersionError):
        return
    assert data[0] == 1


@given(data=RECORDS.map(encode), at=st.integers(0, 60), cut=st.booleans(), to=st.integers(0, 255))
def test_a_mutated_record_never_surprises(data: bytes, at: int, cut: bool, to: int) -> None:
    """A byte changed or the end missing: refused as broken, or read as a record that can be written and read again."""
    at %= len(data)
    changed = data[:at] if cut else data[:at] + bytes([to]) + data[at + 1 :]
    try:
        record = decode(changed)
    except (BrokenRecordError, UnknownVersionError):
        return
    assert decode(encode(record)) == record


LETTERS = st.builds(
    Letter,
    reason=st.sampled_from(["rejected", "unrouted"]),
    note=st.text(max_size=50),
    project=st.text(max_size=10),
    time_ns=st.integers(0, 2**63),
    event=st.none()
    | st.builds(
        CaptureEvent,
        event=st.text(max_size=10),
        distinct_id=st.text(max_size=10),
        uuid=st.uuids().map(str),
        timestamp_ns=st.integers(0, 2**63),
        properties=st.dictionaries(
            st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(), max_size=3
        ),
    ),
    source=st.none() | RECORDS,
)


@given(letter=LETTERS)
def test_a_letter_comes_back_as_it_was(letter: Letter) -> None:
    """With its event and its source."""
    assert decode_letter(encode_letter(letter)) == letter


def test_a_letter_of_an_event_without_a_json_form_keeps_its_source() -> None:
    """The very event that could not be encoded cannot be kept; what it was made from can."""
    source = Record("traces", PROTOBUF, b"item")
    event = CaptureEvent("odd", "ada", "1d0dd6e6-0d1a-5a0b-9f31-3f6f3e3a7e11", 1, {"what": object()})
    letter = decode_letter(encode_letter(Letter("encode", "no JSON", "shop", 5, event, source)))
    assert letter == Letter("encode", "no JSON (the event has no JSON form)", "shop", 5, None, source)


def newer(payload: bytes) -> bytes:
    """What a newer version might have written."""
    return struct.pack("<B", 2) + payload[1:]


@pytest.mark.row(50)
def test_a_record_of_a_newer_version_is_left_alone(rig: Rig) -> None:
    """Row 50: after a downgrade what can be read is delivered, and what cannot is kept for the newer version."""
    rig.delivery.capacity = 0
    intake = rig.start()
    for number in range(6):
        assert send(intake, spans(number)).answer() == OK
    intake.stop(0.0)
    rig.delivery.capacity = 1_000_000
    folder = Path(rig.folder) / "0"
    log = SegmentLog(str(folder), OsFiles(), max_bytes=1 << 20)
    log.open()
    kept = [record.payload for record in log.read(100)]
    for path in folder.glob("*.log"):
        path.unlink()
    mixed = SegmentLog(str(folder), OsFiles(), max_bytes=1 << 20)
    mixed.append([newer(payload) if number in (1, 4) else payload for number, payload in enumerate(kept)], time_ns=1)
    mixed.let_go()
    older = rig.start()
    assert until(lambda: sorted(people(rig.delivery.delivered)) == [0, 2, 3, 5])
    assert until(lambda: older.status().waiting_records == 0)
    assert rig.books.count("spool_unknown_version") == 2
    assert not older.stop(5)
    log = SegmentLog(str(folder), OsFiles(), max_bytes=1 << 20)
    log.open()
    assert [record.payload for record in log.read(100) if record.payload[0] == 2] == [newer(kept[1]), newer(kept[4])]


def test_a_record_that_nobody_can_read_is_a_dead_letter(rig: Rig) -> None:
    """Its checksum is right and its header is not: put aside with its bytes, and the rest goes on."""
    folder = Path(rig.folder) / "0"
    log = SegmentLog(str(folder), OsFiles(), max_bytes=1 << 20)
    log.append([b"\x01\xff\xff\xff\xff", b""], time_ns=1)
    log.let_go()
    intake = rig.start()
    assert until(lambda: intake.status().dead_letters == {"unreadable": 2})
    assert send(intake, spans(7)).answer() == OK
    assert until(lambda: people(rig.delivery.delivered) == [7])
    found = [kept.letter for kept in read_letters(rig.folder, OsFiles()) if kept.letter is not None]
    assert [letter.source.body for letter in found if letter.source is not None] == [b"\x01\xff\xff\xff\xff", b""]


@pytest.mark.parametrize("kind", ["traces", "logs"])
def test_single_items_are_the_request_in_pieces(kind: str) -> None:
    """Each piece has one item with its resource and scope; together they are the request."""
    bodies = [spans(0, 3, team="a"), spans(3, 2, team="b")] if kind == "traces" else [logs(0, 3), logs(3, 2)]
    body = merged(*bodies)

    class All:
        everything = True

    whole = list(prepare(kind, PROTOBUF, body, All()).signals())  # type: ignore[arg-type]
    pieces = [list(prepare(kind, PROTOBUF, piece, All()).signals()) for piece in single_items(kind, PROTOBUF, body)]  # type: ignore[arg-type]
    assert [len(piece) for piece in pieces] == [1] * 5
    assert [piece[0] for piece in pieces] == whole


def test_single_items_keep_what_they_do_not_know() -> None:
    """Schema URLs and fields of the future stay where they were."""
    request = ExportTraceServiceRequest.FromString(spans(0, 2))
    request.resource_spans[0].schema_url = "https://opentelemetry.io/schemas/1.40.0"
    request.resource_spans[0].scope_spans[0].schema_url = "https://opentelemetry.io/schemas/1.39.0"
    pieces = list(single_items("traces", PROTOBUF, request.SerializeToString()))
    for number, piece in enumerate(pieces):
        expected = ExportTraceServiceRequest()
        expected.CopyFrom(request)
        del expected.resource_spans[0].scope_spans[0].spans[:]
        expected.resource_spans[0].scope_spans[0].spans.append(request.resource_spans[0].scope_spans[0].spans[number])
        assert ExportTraceServiceRequest.FromString(piece) == expected


@given(body=st.binary(max_size=60) | st.builds(lambda at: spans(0, 2)[:at], st.integers(0, 200)))
def test_single_items_of_rubbish(body: bytes) -> None:
    """Broken framing ends it; nothing is raised, in JSON neither."""
    assert all(isinstance(piece, bytes) for piece in single_items("traces", PROTOBUF, body))
    assert list(single_items("traces", JSON, body)) == []
    odd = json.dumps({"resourceSpans": [3, {"scopeSpans": [{"spans": [None, {"name": "a"}]}, {"spans": 4}]}]}).encode()
    assert [json.loads(piece) for piece in single_items("traces", JSON, odd)] == [
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "a"}]}]}]}
    ]


def test_a_tracker_ends_once() -> None:
    """However many ends come in whatever order: the last one tells, once."""
    told: list[int] = []
    tracker = Tracker(lambda: told.append(1))
    tracker.more(3)
    tracker.less()
    tracker.less(2)
    assert (told, tracker.open) == ([], 1)
    tracker.less()
    assert told == [1]
