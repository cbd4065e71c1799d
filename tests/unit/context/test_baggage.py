"""Members of baggage: what is written is read again, through the real propagator, and nothing else is believed."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, context
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from otel_posthog.context.ambient import NOTHING, Ambient
from otel_posthog.context.baggage import MAX_BYTES, decode, encode, weight_of

SESSION = "01920000-0000-7000-8000-000000000001"
PRINTABLE = st.text(
    st.characters(exclude_categories=("C", "Z"), include_characters=" ,;=&%+!:\\\"'ü漢😀"), min_size=1, max_size=24
).map(str.strip)
TEXT = PRINTABLE.filter(lambda text: bool(text) and text.isprintable())
NAMES = TEXT.filter(lambda text: not text.startswith("$"))
GROUP_TYPES = NAMES.filter(lambda text: "." not in text)
NUMBERS = st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
AMBIENTS = st.builds(
    Ambient,
    distinct_id=TEXT | st.just(""),
    session_id=TEXT | st.just(""),
    groups=st.dictionaries(GROUP_TYPES, TEXT, max_size=2),
    flags=st.dictionaries(NAMES, st.booleans() | TEXT, max_size=2),
)


def sent(members: dict[str, Any]) -> dict[str, Any]:
    """`members` after a journey as a header of the W3C."""
    ctx = context.set_value(baggage._BAGGAGE_KEY, members, context.Context())
    carrier: dict[str, str] = {}
    W3CBaggagePropagator().inject(carrier, ctx)
    assert carrier.get("baggage", "").isascii()
    return dict(baggage.get_all(W3CBaggagePropagator().extract(carrier, context.Context())))


@given(AMBIENTS, st.dictionaries(NAMES, TEXT | NUMBERS, max_size=2))
@settings(max_examples=300)
def test_what_is_written_is_read(ambient: Ambient, properties: dict[str, Any]) -> None:
    """Whatever script, comma or blank is in it: a header brings it as it was, also the types."""
    from dataclasses import replace

    members = encode(ambient, properties)
    assert weight_of(members) <= MAX_BYTES
    whole = weight_of(encode(ambient, properties, room=10**6)) == weight_of(members)
    read = decode(sent(members))
    expected = replace(ambient, properties=properties)
    if whole and len(members) == sum(
        map(bool, (ambient.distinct_id, ambient.session_id, ambient.groups, ambient.flags, properties))
    ):
        if read != expected:  # one value too many for its member: what came is right
            for name in ("groups", "flags", "properties"):
                assert getattr(read, name).items() <= getattr(expected, name).items()
        assert (read.distinct_id, read.session_id) == (ambient.distinct_id, ambient.session_id)


def test_a_whole_one() -> None:
    """The members of an ordinary request, as they are written and read."""
    ambient = Ambient(
        distinct_id="anna@example.com",
        anonymous_id="not sent beside a person",
        session_id=SESSION,
        groups={"company": "Müller, Söhne & Co", "team": "7"},
        flags={"beta": True, "old": False, "checkout": "b=1"},
    )
    members = encode(ambient, {"plan": "pro", "seats": 12, "paid": True, "rate": 0.5})
    assert members == {
        "posthog.distinct_id": "anna@example.com",
        "posthog.session_id": SESSION,
        "posthog.groups": "company=M%C3%BCller%2C%20S%C3%B6hne%20%26%20Co&team=7",
        "posthog.flags": "beta&checkout=b%3D1&!old",
        "posthog.properties": "paid:=true&plan=pro&rate:=0.5&seats:=12",
    }
    assert decode(sent(members)) == Ambient(
        distinct_id="anna@example.com",
        session_id=SESSION,
        groups=ambient.groups,
        flags=ambient.flags,
        properties={"plan": "pro", "seats": 12, "paid": True, "rate": 0.5},
    )


def test_types_survive() -> None:
    """A variant called `true` is no switch, and a text of digits no number."""
    members = encode(Ambient(flags={"a": "true", "b": True}), {"c": "12", "d": 12})
    read = decode(sent(members))
    assert (read.flags, read.properties) == ({"a": "true", "b": True}, {"c": "12", "d": 12})


def test_an_anonymous_visitor_travels() -> None:
    """Where nobody is known, the visitor's own stable id goes along."""
    assert encode(Ambient(anonymous_id="anon-1"), {}) == {"posthog.anonymous_id": "anon-1"}


def test_no_room_for_all() -> None:
    """What there is no room for stays at home, whole pairs at a time: properties first, then flags."""
    flags: dict[str, str | bool] = {f"flag-{number:03}": True for number in range(500)}
    ambient = Ambient(distinct_id="u1", groups={"company": "acme"}, flags=flags)
    properties = {f"p{number}": "x" * 300 for number in range(100)}
    members = encode(ambient, properties)
    assert weight_of(members) <= MAX_BYTES
    assert all(len(value) <= 1024 for value in members.values())
    read = decode(sent(members))
    assert (read.distinct_id, read.groups) == ("u1", {"company": "acme"})
    assert read.flags == dict.fromkeys(sorted(flags)[:50], True)
    assert 0 < len(read.properties) < 5
    assert encode(ambient, properties, room=60) == {"posthog.distinct_id": "u1", "posthog.groups": "company=acme"}
    assert encode(ambient, properties, room=3) == {}
    assert encode(ambient, properties, room=-5) == {}


@pytest.mark.parametrize(
    "ambient",
    [
        Ambient(distinct_id="x" * 201),
        Ambient(distinct_id="a\nb"),
        Ambient(distinct_id="\ud800"),
        Ambient(groups={"a\x00": "b", "c": "\ud800", "d": ""}),
        Ambient(flags={"": True, "a": "x" * 500}),
    ],
)
def test_what_no_header_carries_stays_at_home(ambient: Ambient) -> None:
    """Control characters, lone surrogates and what is too long are not sent."""
    assert encode(ambient, {"\ud800": 1, "$ip": "1.1.1.1", "n": float("nan"), "o": object(), "l": [1]}) == {}


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"posthog.groups": ""},
        {"posthog.groups": "&&&==&=a&b="},
        {"posthog.groups": "a.b=c"},
        {"posthog.groups": "a=" + "x" * 2000},
        {"posthog.groups": 7, "posthog.flags": None, "posthog.properties": ["a"]},
        {"posthog.flags": "%00=1&!&a=%0a&" + "b=" + "x" * 300},
        {"posthog.properties": "$ip=1.1.1.1&%24set=x&n:=NaN&o:={}&l:=[1]&t:=abc&h:=1e999"},
        {"posthog.distinct_id": "a\r\nb", "posthog.session_id": " x", "posthog.anonymous_id": 5},
        {"posthog.distinct_id": "x" * 201},
    ],
)
def test_what_is_not_believed_of_anybody(members: dict[str, Any]) -> None:
    """Malformed, oversized and reserved: as if it had not been sent."""
    assert decode(members) == NOTHING


def test_too_many() -> None:
    """A flood of pairs is cut off."""
    members = {
        "posthog.groups": "&".join(f"t{number}=k" for number in range(40)),
        "posthog.flags": "&".join(f"f{number}" for number in range(200)),
        "posthog.properties": "&".join(f"p{number}=v" for number in range(100)),
    }
    read = decode(members)
    assert (len(read.groups), len(read.flags), len(read.properties)) == (5, 50, 20)


@given(st.dictionaries(st.sampled_from(["posthog.groups", "posthog.flags", "posthog.properties"]), st.text()))
def test_any_text_is_read_without_an_error(members: dict[str, str]) -> None:
    """Whatever stands in a header, and within the caps."""
    read = decode(members)

    assert len(read.groups) <= 5
    assert len(read.flags) <= 50
    assert len(read.properties) <= 20


@given(st.text(string.printable))
def test_a_first_of_two_counts(text: str) -> None:
    """A key that comes twice is what it was first: nobody overwrites by appending."""
    assert decode({"posthog.flags": f"a=1&a={text}"}).flags["a"] == "1" or "&" in text
