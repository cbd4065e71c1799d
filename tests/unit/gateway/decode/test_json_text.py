"""OTLP/JSON read piece by piece is what `json.loads` makes of the whole, and nobody waits for the largest of them."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_posthog.errors import SignalError
from otel_posthog.gateway.decode.decoded import Complaints
from otel_posthog.gateway.decode.from_json import decode_some
from otel_posthog.gateway.decode.json_text import TOO_LARGE, UNWANTED, read_request

texts = st.text(max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def lists_of(key: str, inner: st.SearchStrategy[Any], *others: str) -> st.SearchStrategy[Any]:
    """An object whose `key` has a list of `inner`, mostly; with other members before and behind it."""
    listed = st.lists(inner | values, max_size=3) | values
    members = st.lists(
        st.tuples(st.sampled_from([key, *others]) | texts, listed) | st.tuples(st.just(key), listed), max_size=4
    )
    return members.map(dict)


scopes = lists_of("spans", values, "scope")
resources = lists_of("scopeSpans", scopes, "resource")
requests = lists_of("resourceSpans", resources, "resourceLogs")
spellings = st.builds(
    dict, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 0, 3]), separators=st.just(None)
) | st.just({"separators": (",", ":")})


def read(body: bytes, **options: Any) -> tuple[Any, Complaints]:
    """What is read of a request with spans."""
    complaints = Complaints()
    return read_request("traces", body, complaints, **options), complaints


def holds(value: Any, wanted: Any) -> bool:
    """Whether `wanted` is anywhere in `value`."""
    if value is wanted:
        return True
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(each, wanted) for each in inner)


@given(request=requests, spelling=spellings, size=st.integers(40, 300))
def test_it_is_what_json_loads_makes_of_it(request: Any, spelling: dict[str, Any], size: int) -> None:
    """Of any document in any spelling, cut into pieces anywhere; but for what is larger than a piece may be."""
    body = json.dumps(request, **spelling).encode()
    expected = json.loads(body)
    assert read(body)[0] == expected
    found, complaints = read(body, max_piece=size)
    if holds(found, TOO_LARGE):
        assert complaints.any
    else:
        assert found == expected


@given(request=requests, data=st.data(), size=st.integers(40, 300))
def test_damaged_text_is_refused_as_json_loads_does(request: Any, data: st.DataObject, size: int) -> None:
    """Bytes changed, cut out, put in: either both take it for JSON, and for the same, or neither does."""
    raw = bytearray(json.dumps(request, ensure_ascii=False).encode())  # half a surrogate pair would be mended
    at = data.draw(st.integers(0, len(raw)))
    damage = data.draw(st.sampled_from([b"", b'"', b"{", b"]", b",", b"\\", b"7 "]))
    raw[at : at + data.draw(st.integers(0, 3))] = damage
    body = bytes(raw)
    try:
        expected = json.loads(body.decode(errors="replace"))
    except ValueError:
        expected = SignalError
    try:
        found = read(body, max_piece=size)[0]
    except SignalError:
        found = SignalError
    if expected is not SignalError and not isinstance(expected, dict):
        expected = SignalError
    if not body.strip():
        expected = {}
    if not holds(found, TOO_LARGE):
        assert found == expected


@given(raw=st.binary(max_size=60), size=st.integers(15, 40))
def test_invalid_utf8_is_mended_wherever_it_is_cut(raw: bytes, size: int) -> None:
    """A sequence that two stretches of the text share is read as if it were in one."""
    raw = raw.replace(b'"', b"").replace(b"\\", b"")
    raw = bytes(byte for byte in raw if byte >= 0x20)
    found, complaints = read(b'{"resourceSpans":[{"resource":"%b"}]}' % raw, max_piece=max(size, len(raw) + 2))
    assert found == {"resourceSpans": [{"resource": raw.decode(errors="replace")}]}
    assert complaints.any == (raw.decode(errors="ignore").encode() != raw)


def request(*items: str) -> bytes:
    """A request with these items."""
    return ('{"resourceSpans":[{"scopeSpans":[{"spans":[' + ",".join(items) + "]}]}]}").encode()


@pytest.mark.row(29, 32)
@pytest.mark.parametrize(
    "large",
    [
        json.dumps({"name": "x" * 500}),
        json.dumps({"name": '"{[\\' * 100}),
        json.dumps({"attributes": [{"key": str(number)} for number in range(60)]}, indent=1),
        json.dumps("y" * 500),
        "[" * 300 + "]" * 300,
    ],
    ids=["a text", "a text of brackets", "attributes", "no object", "nesting"],
)
@pytest.mark.parametrize("padding", range(0, 200, 23))
def test_a_piece_that_is_too_large_goes_alone(large: str, padding: int) -> None:
    """Wherever in the text it begins, its neighbours are read."""
    space = " " * padding
    found, complaints = read(request('{"name":"a"}', space + large, '{"name":"b"}'), max_piece=200)
    assert found["resourceSpans"][0]["scopeSpans"][0]["spans"] == [{"name": "a"}, TOO_LARGE, {"name": "b"}]
    assert complaints.decoded([]).error_messages == (
        "a part of more than 4 MiB of JSON was left out; protobuf may be larger",
    )


@pytest.mark.row(32)
def test_a_large_item_is_rejected_and_counted() -> None:
    """Five MiB of one span: it is named and counted, and the others become signals."""
    large = json.dumps({"name": "x" * 5_000_000})
    body = request('{"name":"a"}', large, '{"name":"b"}')
    decoded, unwanted = decode_some("traces", body, lambda item: "name" in item)
    assert ([signal.name for signal in decoded.signals], decoded.rejected, unwanted) == (["a", "b"], 1, 0)
    assert "spans: an item has more than 4 MiB of JSON; protobuf may be larger" in decoded.error_messages


def test_what_nobody_wants_is_let_go() -> None:
    """Its place is kept, so that it is counted."""
    found, _ = read(request('{"name":"a"}', "7", '{"name":"b"}'), admits=lambda item: item == {"name": "b"})
    assert found["resourceSpans"][0]["scopeSpans"][0]["spans"] == [UNWANTED, UNWANTED, {"name": "b"}]


@pytest.mark.row(29)
def test_others_have_their_turn() -> None:
    """While thirty MiB are read another thread runs again and again; `json.loads` of the whole lets it run never."""
    item = json.dumps({"name": "x" * 200, "attributes": [{"key": str(n), "value": {"intValue": n}} for n in range(9)]})
    body = request(*[item] * 50_000)
    turns = 0
    started, over = threading.Event(), threading.Event()

    def run() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            started.set()
            over.wait(0.001)

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    before = turns
    found, _ = read(body, admits=lambda _: False)
    after = turns
    over.set()
    thread.join()
    assert len(found["resourceSpans"][0]["scopeSpans"][0]["spans"]) == 50_000
    assert after - before >= 8
