"""What makes exceptions cheap (remembered frames, sizes found without serialising) changes nothing about them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_posthog.config.settings import ConvertConfig
from otel_posthog.convert import Converter, converter, frames, limits, traceback_text
from otel_posthog.convert.exception import ExceptionReader, exception_content
from otel_posthog.convert.frames import Ownership, PythonFrames, frame_weight, local_frame, python_frame
from otel_posthog.convert.limits import flat_weight, json_size
from otel_posthog.convert.text import clean_text, cut_bytes, without_credentials
from otel_posthog.convert.traceback_text import FrameHeads, ParsedFrame, parse_traceback
from otel_posthog.convert.values import Cleaner
from otel_posthog.model import LocalContext, LocalException, LocalFrame, Resource, Scope, Signal, SignalKind
from otel_posthog.rules import RuleSet

NOW = 1_763_640_000_000_000_000
LINES = st.sampled_from(
    [
        "Traceback (most recent call last):", "  + Exception Group Traceback (most recent call last):",
        "Exception Group Traceback (most recent call last):",
        '  File "/app/a.py", line 3, in f', '  File "/app/a.py", line 3, in f  ', 'File "/app/a.py", line 3, in f',
        '  | File "/app/a.py", line 3, in f', '  |   File "/usr/lib/python3.11/asyncio/x.py", line 9, in <module>',
        '  File "/v/site-packages/opentelemetry/t.py", line 1, in w', '  File "<rules>", line 1',
        '  File "/app/a.py", line 99999999999, in f', '  File "C:\\app\\b.py", line 7, in Ünï',
        '\tFile "", line 1, in ',
        '  File "/app/a.py", line ٣, in f', "    g()", "    postgres://ada:pw@db/x \x00 \ud800", "    ^^^", "", "  ",
        "  [Previous line repeated 3 more times]", "[Previous line repeated 3 more times]",
        "The above exception was the direct cause of the following exception:",
        "During handling of the above exception, another exception occurred:", '"""',
        "  +-+---------------- 1 ----------------", "    +---------------- 2 ----------------",
        "    +------------------------------------", "    | ValueError: one", "ExceptionGroup: two (2 sub-exceptions)",
        "shop.E: first", "second line", "KeyError", "  | x", "E: é" + "\U0001f600" * 50,
    ]
)  # fmt: skip
STACKS = st.builds(
    lambda lines, end: end.join(lines), st.lists(LINES, max_size=25), st.sampled_from(["\n", "\n", "\r\n"])
)
WORDS = st.sampled_from(["", "f", "a b", "/app/a.py", "x" * 400, "é\x00", "\ud800", "redis://u:p@h/0", "\x01\x02" * 40])
FRAMES = st.builds(
    LocalFrame, WORDS, WORDS, WORDS, st.sampled_from([0, 3, 2**70]), WORDS, st.one_of(st.none(), WORDS),
    st.lists(WORDS, max_size=6).map(tuple), st.lists(WORDS, max_size=6).map(tuple),
)  # fmt: skip
LINKS = st.builds(
    LocalException, WORDS, WORDS, WORDS, st.lists(FRAMES, max_size=4).map(tuple),
    errno=st.sampled_from([None, 2, 10**300]),
)  # fmt: skip
LOCALS = st.one_of(
    st.none(), st.builds(lambda chain: LocalContext(exception=tuple(chain)), st.lists(LINKS, max_size=3))
)
VALUES = st.one_of(
    WORDS, st.sampled_from([None, 7, ["é", "\U0001f600"], {"a": "\x01" * 3_000, "b": {"c": [1.5, True]}}])
)
LANGUAGES = st.sampled_from(["python", "java", "go", "nodejs", ""])


@st.composite
def exceptions(draw: st.DrawFn) -> Signal:
    """A log record that brings an exception, as text, live or both."""
    attributes: dict[str, Any] = {
        "exception.type": draw(WORDS) or "E",
        "exception.message": draw(VALUES),
        "exception.stacktrace": draw(st.one_of(STACKS, st.just("a.B: x\n\tat a.b.C.run(C.java:17)\n"))),
        "posthog.properties.x": draw(VALUES),
        "posthog.groups.company": "acme",
    }
    return Signal(
        SignalKind.LOG, "", attributes, Resource({"telemetry.sdk.language": draw(LANGUAGES)}),
        Scope("opentelemetry.instrumentation." + draw(WORDS)),
        trace_id="a" * 32, span_id="b" * 16, time_ns=NOW, severity_number=17, body=draw(VALUES), local=draw(LOCALS),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(exceptions(), min_size=1, max_size=4), st.sampled_from([900 * 1024, 20_000, 8_000, 5_000, 1_024]))
def test_a_converter_that_remembers_gives_the_same_events(signals: list[Signal], limit: int) -> None:
    """A second time, and after others, and with each event serialised for its size: the same to the last property."""
    config = ConvertConfig(max_event_bytes=limit)
    old = Converter(config, RuleSet())
    for signal in signals:
        old.convert(signal)
    for signal in signals:
        with pytest.MonkeyPatch.context() as patch:
            # As little room beside what is counted as these signals need: a byte that is not counted shows.
            patch.setattr(limits, "CONTEXT_BYTES", 2_500)
            made = old.convert(signal)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(converter, "surely_fits", lambda *_: False)
            expected = Converter(config, RuleSet()).convert(signal)
        assert made == expected


@settings(max_examples=300, deadline=None)
@given(exceptions())
def test_the_weight_of_an_exception_is_about_its_bytes(signal: Signal) -> None:
    """Delivery bounds its queue by it: never far too low, and not so high that the queue seems full."""
    for event in Converter(ConvertConfig(), RuleSet()).convert(signal).events:
        size = json_size(dict(event.properties)) + len(event.event) + len(event.distinct_id) + 110
        # Escapes and accents are more bytes than characters, on both sides of the comparison.
        assert not event.weight or size / 6 <= event.weight <= size * 2 + 2_500


def test_the_weight_of_an_ordinary_exception() -> None:
    """Of plain text the weight is within a fifth of the bytes."""
    stack = "Traceback (most recent call last):\n" + "".join(
        f'  File "/app/shop/views{number}.py", line {number}, in pay\n    order.settle(customer, {number})\n'
        for number in range(20)
    )
    text = {"exception.type": "shop.E", "exception.message": "x", "exception.stacktrace": f"{stack}shop.E: x\n"}
    signal = Signal(
        SignalKind.LOG, "", text, Resource({"service.name": "shop"}), Scope("shop"), time_ns=NOW, severity_number=17,
    )  # fmt: skip
    (event,) = Converter(ConvertConfig(), RuleSet()).convert(signal).events
    assert event.weight == pytest.approx(json_size(dict(event.properties)) + 150, rel=0.2)


@settings(max_examples=300, deadline=None)
@given(st.lists(STACKS, min_size=1, max_size=4))
def test_remembered_lines_read_the_same(stacks: list[str]) -> None:
    """Remembered lines, and not looking for chains and groups where there are none, read every text alike."""
    heads = FrameHeads()
    for text in stacks:
        lines = text.replace("\r\n", "\n").split("\n")
        expected = None
        if 'File "' in text or "Traceback (most recent call last)" in text:
            grouped = any(traceback_text._GROUP_START.match(line) for line in lines)
            document = traceback_text._documents(lines) if grouped else traceback_text._Document(lines)
            expected = traceback_text._chain(document, 0, FrameHeads())
        assert parse_traceback(text, heads) == expected
        assert parse_traceback(text, heads) == expected


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=6), st.lists(st.builds(ParsedFrame, WORDS, st.just(3), WORDS, WORDS), max_size=6))
def test_remembered_frames_are_those_made_anew(live: list[LocalFrame], printed: list[ParsedFrame]) -> None:
    """Both kinds of frame come out of memory as they went in, and are counted each time."""
    ownership = Ownership(include=("/app",))
    memory = PythonFrames(ownership)
    from_live = [local_frame(frame, ownership) for frame in live]
    from_text = [python_frame(frame.file, frame.function, frame.line, frame.source, ownership) for frame in printed]
    for _ in range(2):
        cleaner = Cleaner(1_024)
        assert memory.live(live, cleaner) == from_live
        assert memory.printed(printed, cleaner) == from_text
        assert cleaner.weight == sum(map(frame_weight, [*from_live, *from_text]))
    for frame in (*from_live, *from_text):
        assert frame_weight(frame) * 6 >= json_size(frame)


@settings(max_examples=200, deadline=None)
@given(exceptions())
def test_a_size_that_is_counted_is_never_too_small(signal: Signal) -> None:
    """Six times what the cleaner counted of an exception is no less than its JSON has."""
    cleaner = Cleaner(64 * 1_024)
    content = exception_content(signal, ExceptionReader(Ownership()), cleaner)
    assert content.weight == cleaner.weight
    assert cleaner.weight * 6 >= json_size(content.properties)
    # And without the room for the worst of escapes, where there are none.
    if json.dumps(content.properties, ensure_ascii=False).isascii() and "\\u" not in json.dumps(content.properties):
        assert cleaner.weight * 1.3 + 100 >= json_size(content.properties)


def test_what_happens_to_an_event_stays_with_it() -> None:
    """Cutting the frames of one event leaves those of the next whole."""
    memory = PythonFrames(Ownership())
    frame = LocalFrame("a.py", "/app/a.py", "f", 3, "a", "x", ("before",), ("after",))
    (first,) = memory.live([frame], Cleaner(1_024))
    whole = copy.deepcopy(first)
    first["pre_context"].append("more")
    del first["post_context"][0], first["function"]
    assert memory.live([frame], Cleaner(1_024)) == [whole]

    parsed = ParsedFrame("/app/a.py", 3, "f", "x")
    memory.printed([parsed], Cleaner(1_024))[0].clear()
    assert memory.printed([parsed], Cleaner(1_024)) == [python_frame("/app/a.py", "f", 3, "x", Ownership())]


def test_memory_is_bounded() -> None:
    """However many places fail, and however long their lines are, no more than a bounded number is kept."""
    memory, heads, cleaner = PythonFrames(Ownership()), FrameHeads(), Cleaner(1_024)
    for number in range(frames._MAX_KNOWN * 2 + 3):
        memory.printed([ParsedFrame("a.py", number, "f", "")], cleaner)
        memory.live([LocalFrame("a.py", "a.py", "f", number)], cleaner)
        heads.read(f'  File "a.py", line {number}, in f')
    assert len(memory._printed) == len(memory._live) == len(heads._known) == 3

    memory.printed([ParsedFrame("a.py", 1, "f", "x" * 5_000)], cleaner)
    memory.live([LocalFrame("a.py", "a.py", "f", 1, pre_context=("x" * 5_000,))], cleaner)
    heads.read(f'  File "{"a" * 5_000}.py", line 1, in f')
    assert len(memory._printed) == len(memory._live) == len(heads._known) == 3


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(st.text())),
    )
)
def test_the_weight_of_flat_properties(properties: dict[str, Any]) -> None:
    """It is never less than a sixth of the bytes, which is what escapes can make of a character."""
    assert flat_weight(properties) * 6 >= json_size(properties)


def test_a_finished_event_is_measured_with_its_keys() -> None:
    """Keys of a finished event are as long as its process made them: with them it must fit, too."""
    attributes = {
        "posthog.carrier": "log",
        "posthog.event": "order paid",
        "posthog.uuid": "018f3f5a-7b1c-7def-8abc-0123456789ab",
        "posthog.distinct_id": "ada",
        **{f"posthog.properties.{number}{'k' * 9_000}": None for number in range(200)},
    }
    signal = Signal(SignalKind.LOG, "order paid", attributes, Resource({}), Scope("shop"), time_ns=NOW)
    decision = Converter(ConvertConfig(honour_carrier=True), RuleSet()).convert(signal)
    assert all(json_size(dict(event.properties)) <= 900 * 1024 for event in decision.events)
    assert decision.notices


def test_the_source_of_an_exception_is_valid_text() -> None:
    """A scope may be named by anything; what has no UTF-8 would be refused with all of its batch."""
    signal = Signal(
        SignalKind.LOG, "", {"exception.type": "E"}, Resource({}), Scope("opentelemetry.instrumentation.\ud800"),
        time_ns=NOW,
    )  # fmt: skip
    (event,) = Converter(ConvertConfig(), RuleSet()).convert(signal).events
    assert event.properties["$exception_source"] == "otel.\ufffd"


@given(st.one_of(WORDS, LINES, st.text(max_size=20), st.just("http://a:b@c" * 40), st.just("é" * 400)))
def test_a_plain_line_is_what_the_long_way_makes_of_it(line: str) -> None:
    """What is left out for a line of plain text would have changed nothing about it."""
    limit = frames.MAX_LINE
    assert frames._line(line) == cut_bytes(without_credentials(clean_text(line[:limit])), limit * 4)
