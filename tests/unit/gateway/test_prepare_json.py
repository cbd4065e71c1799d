"""OTLP/JSON: a text of which nothing is wanted is not parsed, whatever it hides is found, and bad JSON is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.errors import SignalError
from otel_posthog.gateway.inbound import JSON
from otel_posthog.gateway.prepare import from_json as room
from otel_posthog.gateway.prepare.request import prepare
from otel_posthog.gateway.prepare.wanted import EVERYTHING, wanted_of
from otel_posthog.rules.load import parse_text

TAGS = wanted_of([], [ConvertConfig()])


def span(name: str, **attributes: str) -> dict[str, Any]:
    """A span as an SDK writes it; `_` in a key stands for a dot."""
    return {
        "traceId": "0123456789ABCDEF0123456789abcdef",
        "spanId": "0123456789ABCDEF",
        "name": name,
        "kind": 2,
        "startTimeUnixNano": "1763600000000000000",
        "endTimeUnixNano": 1763600001000000000,
        "attributes": [
            {"key": key.replace("_", "."), "value": {"stringValue": value}} for key, value in attributes.items()
        ],
    }


def traces(*spans: Any, resource: Any = None) -> dict[str, Any]:
    """A request."""
    return {"resourceSpans": [{"resource": resource or {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def looked(body: Any, wanted: Any = TAGS, kind: Any = "traces") -> tuple[list[str], tuple[int, int, int]]:
    """Names of the signals, and (received, skipped, rejected)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    prepared = prepare(kind, JSON, raw, wanted)
    assert prepared.received == prepared.skipped + prepared.candidates + prepared.rejected
    return [signal.name for signal in prepared.signals()], (prepared.received, prepared.skipped, prepared.rejected)


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be parsed here."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(room, "decode_some", refuse)


@pytest.mark.usefixtures("unparsed")
def test_what_nobody_wants_is_not_parsed() -> None:
    """By the text alone, however it is laid out; an address with our name in it does not count."""
    quiet = traces(span("a", url_full="https://eu.i.posthog.com/exception"), span("ü", text='a "quoted" \u2028 line\n'))

    assert looked(quiet) == ([], (2, 2, 0))
    assert looked(json.dumps(quiet, indent=2, ensure_ascii=False).encode()) == ([], (2, 2, 0))
    assert looked(b"\xef\xbb\xbf \n" + json.dumps(quiet).encode() + b"\n ") == ([], (2, 2, 0))
    records = [{"timeUnixNano": "1", "body": {}}, {"observedTimeUnixNano": "1"}, {"timeUnixNano": 2}]
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    assert looked(logs, kind="logs") == ([], (2, 2, 0))


def test_wanted_items_alone_are_read() -> None:
    """Tags, exceptions and rules; the others of the request are parsed with it, and left."""
    failed = {**span("failed"), "events": [{"name": "exception", "timeUnixNano": "5"}]}
    body = traces(span("quiet"), span("tagged", posthog_event="paid"), failed, span("vip", shop_vip="yes"))
    rules = parse_text("rules: [{name: vip, match: {attributes: {shop.vip: {exists: true}}}, capture: vip}]")

    assert looked(body) == (["tagged", "failed", "exception"], (4, 2, 0))
    assert looked(body, wanted_of([rules], [ConvertConfig()])) == (["tagged", "failed", "exception", "vip"], (4, 1, 0))
    assert looked(body, EVERYTHING)[1] == (4, 0, 0)
    every = parse_text("rules: [{name: all, match: {span_kind: server}, capture: x}]")
    assert looked(body, wanted_of([every], [ConvertConfig()]))[1] == (4, 0, 0)


@pytest.mark.row(33)
@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ('"posthog.event"', r'"\u0070osthog.event"'),
        ('"posthog.event"', r'"posthog\u002Eevent"'),
        ('"posthog.event"', r'"posthog\u002eevent"'),
        ('"/checkout/7"', r'"\/checkout\/7"'),
        ('"/checkout/7"', r'"\u002fcheckout\/7"'),
        ('"größe"', r'"gr\u00f6\u00DFe"'),
        ('"größe"', r'"gr\u00F6ße"'),
    ],
)
def test_escapes_hide_nothing(plain: str, escaped: str) -> None:
    """A needle spelt in another way is found all the same."""
    rules = parse_text(
        """
        rules:
          - {name: checkout, match: {attributes: {url.path: {glob: "/checkout*"}}}, capture: checkout}
          - {name: size, match: {attributes: {"größe": {exists: true}}}, capture: sized}
        """
    )
    body = traces(span("a", **{"posthog_event": "x"} if "posthog" in plain else {"url_path": "/checkout/7"}))
    body["resourceSpans"][0]["scopeSpans"][0]["spans"].append(span("b", größe="L"))
    text = json.dumps(body, ensure_ascii=False)
    assert plain in text

    wanted = wanted_of([rules], [ConvertConfig()])
    assert looked(text.replace(plain, escaped).encode(), wanted) == (["a", "b"], (2, 0, 0))


@pytest.mark.row(33)
def test_an_escaped_backslash_is_no_escape() -> None:
    r"""`\\u0070` is a backslash and a text; the request is parsed to be sure, and nothing is made of it."""
    assert looked(traces(span("a", text=r"\u0070osthog.event"))) == ([], (1, 1, 0))


@pytest.mark.row(33, 36)
@pytest.mark.parametrize(
    ("body", "received"),
    [
        (b"", 0),
        (b" \n", 0),
        (b"{}", 0),
        (b'\xef\xbb\xbf{"resourceSpans": []}', 0),
        (b'{"resourceSpans": null, "later": {"posthog.event": 1}}', 0),
        (b'{"resourceSpans": [{"scopeSpans": [{"spans": [null, {}]}, {}]}, {}], "new": [1]}', 2),
        (b'{"resource_spans": [{"scope_spans": [{"spans": [{}]}]}]}', 0),
    ],
    ids=["nothing", "blank", "object", "bom", "null", "empty envelopes", "snake_case"],
)
def test_empty_requests(body: bytes, received: int) -> None:
    """Success, and nothing in it; unknown and snake_case keys are passed over."""
    assert looked(body)[1][0] == received
    assert looked(body, EVERYTHING)[1][0] == received


@pytest.mark.row(33)
@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b'"x"',
        b"1",
        b"{",
        b"}{",
        b"<html>",
        b"\xff\xfe{\0}\0",
        b'{"resourceSpans": [}',
        b"\x0a\x02",
        b"NaN",
    ],
)
def test_what_is_no_json(body: bytes) -> None:
    """It raises, with the needles' help or without."""
    for wanted in (TAGS, EVERYTHING):
        with pytest.raises(SignalError, match="the body is not"):
            prepare("traces", JSON, body, wanted)


def test_a_quiet_text_that_is_cut_is_refused_and_its_items_are_not_proved() -> None:
    """What does not end like an object is parsed, and refused; what does is counted (docs/decisions/0076)."""
    text = json.dumps(traces(span("a"))).encode()

    with pytest.raises(SignalError, match="not JSON"):
        prepare("traces", JSON, text[:-1] + b"]", TAGS)
    assert looked(text.replace(b"null", b"nil"))[1] == (1, 1, 0)


@pytest.mark.row(33)
def test_the_traps_of_otlp_json() -> None:
    """Ids in both cases, integers as texts and numbers, enums as numbers, unknown keys, doubled keys, null."""
    tagged = span("tagged", posthog_event="paid")
    tagged["attributes"] += [
        {"key": "text", "value": {"intValue": "9223372036854775807"}},
        {"key": "number", "value": {"intValue": 5}},
        {"key": "nan", "value": {"doubleValue": "NaN"}},
        {"key": "bytes", "value": {"bytesValue": "/w=="}},
        {"key": "null", "value": None},
        {
            "key": "doubled",
            "value": {"kvlistValue": {"values": [{"key": "a"}, {"key": "a", "value": {"boolValue": True}}]}},
        },
        {"key": "later", "value": {"laterValue": 1}, "more": 1},
    ]
    (signal,) = prepare("traces", JSON, json.dumps({**traces(tagged), "later": 1}).encode(), TAGS).signals()

    assert (signal.trace_id, signal.span_id) == ("0123456789abcdef0123456789abcdef", "0123456789abcdef")
    assert (signal.span_kind, signal.start_time_ns, signal.time_ns) == (
        "server",
        1763600000000000000,
        1763600001000000000,
    )
    nan = signal.attributes["nan"]
    assert nan != nan
    assert {key: value for key, value in signal.attributes.items() if key != "nan"} == {
        "posthog.event": "paid",
        "text": 2**63 - 1,
        "number": 5,
        "bytes": b"\xff",
        "null": None,
        "doubled": {"a": True},
        "later": None,
    }


@pytest.mark.row(33)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("traceId", "ASNFZ4mrze8BI0VniavN7w=="),
        ("startTimeUnixNano", "1e3"),
        ("startTimeUnixNano", "abc"),
        ("name", 5),
        ("attributes", {"posthog.event": "x"}),
        ("events", "x"),
    ],
)
def test_a_bad_item_is_rejected_alone(key: str, value: Any) -> None:
    """Where it is wanted; where it is not, nobody looks."""
    good, bad = span("good", posthog_event="paid"), {**span("bad", posthog_event="paid"), key: value}
    if key == "attributes":
        bad["name"] = "posthog.event"
    body = traces(good, bad, {**span("quiet"), "traceId": "xyz"})

    assert looked(body) == (["good"], (3, 1, 1))


@pytest.mark.row(33)
def test_lone_surrogates_and_numbers_that_are_none() -> None:
    """They are read as the plain way reads them: mended, or as what Python makes of them."""
    raw = json.dumps(traces(span("a", posthog_event="x", text="\ud800"))).encode()
    raw = raw.replace(b'"kind": 2', b'"kind": NaN')
    assert looked(raw)[1] == (1, 0, 1)
    raw = raw.replace(b'"kind": NaN', b'"kind": 2')
    prepared = prepare("traces", JSON, raw, TAGS)
    (signal,) = prepared.signals()

    assert signal.attributes["text"] == "\ufffd"
    assert prepared.messages == ("a lone surrogate was replaced by U+FFFD",)


@pytest.mark.row(31)
@pytest.mark.parametrize("depth", [10, 50, 1_000, 100_000])
def test_nesting(depth: int) -> None:
    """A value nested too deep rejects its own span; never a RecursionError."""
    deep = '{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth
    body = json.dumps(traces(span("deep", posthog_event="x", nested="@"), span("flat", posthog_event="x")))
    body = body.replace('{"stringValue": "@"}', deep)

    names, counts = looked(body.encode())
    assert (names, counts) == ((["deep", "flat"], (2, 0, 0)) if depth == 10 else (["flat"], (2, 0, 1)))
    quiet = body.replace("posthog.event", "shop.event")
    assert looked(quiet.encode()) == ([], (2, 2, 0))
