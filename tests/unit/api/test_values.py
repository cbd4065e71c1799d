"""What people put into properties arrives as what they mean."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import ipaddress
import logging
import pathlib
import uuid
from collections import ChainMap, OrderedDict, UserDict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_posthog
from otel_posthog.api.values import plain
from otel_posthog.observe import Guard
from tests.unit.api.conftest import Calls


class Plan(enum.Enum):
    """A member is its value."""

    PRO = "pro"
    NESTED = ("a", 1)


class Size(enum.IntEnum):
    """A number."""

    BIG = 3


class Colour(str, enum.Enum):
    """Text."""

    RED = "red"


@dataclasses.dataclass
class Line:
    """A dataclass is a map."""

    sku: str
    price: Decimal


class Order(pydantic.BaseModel):
    """A Pydantic model is a map."""

    number: int
    placed: dt.date


class Lazy:
    """Like a translation of Django's: its text is what it means."""

    def __str__(self) -> str:
        """The text."""
        return "Warenkorb"


class Str(str):
    """Text of another class."""

    __slots__ = ()


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the old kind
UTC = dt.timezone.utc
BERLIN = dt.timezone(dt.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ("text", "text"),
        (7, 7),
        (1.5, 1.5),
        (True, True),
        (Str("text"), "text"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=BERLIN), "2026-01-02T03:04:05+02:00"),
        (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(minutes=1, milliseconds=500), 60.5),
        (Decimal("19.99"), 19.99),
        (Decimal("1E+400"), "1E+400"),
        (Fraction(1, 4), 0.25),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Plan.PRO, "pro"),
        (Plan.NESTED, ["a", 1]),
        (Size.BIG, 3),
        (Colour.RED, "red"),
        ({"b", "a"}, ["a", "b"]),
        (frozenset([2, 1]), [1, 2]),
        ((1, "a"), [1, "a"]),
        (Point(1, 2), [1, 2]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (ChainMap({"a": 1}), {"a": 1}),
        ({"a": {"b": [dt.date(2026, 1, 2)]}}, {"a": {"b": ["2026-01-02"]}}),
        (Line("mug", Decimal("4.50")), {"sku": "mug", "price": 4.5}),
        (Order(number=7, placed=dt.date(2026, 1, 2)), {"number": 7, "placed": "2026-01-02"}),
        (b"plain", "plain"),
        (bytearray("ü", "utf-8"), "ü"),
        (b"\xff\xfe", "//4="),
        (pathlib.PurePosixPath("/srv/mug"), "/srv/mug"),
        (ipaddress.ip_address("192.0.2.1"), "192.0.2.1"),
        (Lazy(), "Warenkorb"),
        (ValueError("no stock"), "no stock"),
        (1 << 70, str(1 << 70)),
    ],
)
def test_values(calls: Calls, value: Any, arrives: Any) -> None:
    """Each kind of value, at the top and inside of a list."""
    otel_posthog.capture("x", {"value": value, "list": [value]}, distinct_id="ada")

    assert calls.said == [("x", "ada", {"value": arrives, "list": [arrives]})]
    assert calls.misused == {}


@pytest.mark.parametrize(
    "value", [None, float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity"), Decimal("sNaN")]
)
def test_no_value(calls: Calls, value: Any) -> None:
    """What JSON has no number for is left out, or null in a list; the event stays."""
    otel_posthog.capture("x", {"value": value, "list": [1, value]}, distinct_id="ada")

    assert calls.said == [("x", "ada", {"list": [1, None]})]


class Opaque:
    """Says nothing about itself."""


class Hostile:
    """Fails whatever one does with it."""

    def __str__(self) -> str:
        """Fails."""
        raise RuntimeError("no")

    __repr__ = __str__

    def __getattribute__(self, name: str) -> Any:
        """Fails."""
        raise RuntimeError("no")


class HostileList(list[Any]):
    """Fails while it is read."""

    def __iter__(self) -> Any:
        """Fails."""
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Opaque(), "<Opaque>"),
        ((number for number in [1]), "<generator>"),
        (lambda: 1, "<function>"),
        (Hostile, "<Hostile>"),
        (HostileList([1]), "<HostileList>"),
        ([Opaque(), 1], ["<Opaque>", 1]),
    ],
)
def test_what_cannot_be_written(calls: Calls, caplog: pytest.LogCaptureFixture, value: Any, arrives: Any) -> None:
    """It becomes the name of its class, never an address in memory: one warning, and a count."""
    value = Hostile() if value is Hostile else value  # pytest cannot even print it
    with caplog.at_level(logging.WARNING):
        otel_posthog.capture("x", {"value": value}, distinct_id="ada")
        otel_posthog.capture("x", {"value": value}, distinct_id="ada")

    assert calls.said == [("x", "ada", {"value": arrives})] * 2
    assert calls.misused == {"value": 2}
    assert len([record for record in caplog.records if "cannot be written as JSON" in record.message]) == 1


def test_names(calls: Calls) -> None:
    """Names that are no text become text; text of other kinds is what it is."""
    otel_posthog.capture("x", {7: "a", Plan.PRO: "b", Str("s"): "c", None: "d", "": "e"}, distinct_id="ada")  # type: ignore[dict-item]

    assert calls.said == [("x", "ada", {"7": "a", "pro": "b", "s": "c", "None": "d"})]
    assert calls.misused == {"property_name": 3}


def test_a_thing_that_contains_itself(calls: Calls) -> None:
    """It is cut, visibly, and ends."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    otel_posthog.capture("x", {"value": endless}, distinct_id="ada")
    (event,) = calls.events

    assert "[cut]" in str(event.properties["value"])


def test_enormous_values(calls: Calls) -> None:
    """A million things in a list, a text of ten megabytes: an event within PostHog's limits that says it was cut."""
    otel_posthog.capture("x", {"list": [dt.date(2026, 1, 2)] * 1_000_000, "text": "ü" * 5_000_000}, distinct_id="ada")
    (event,) = calls.events

    assert event.properties["otel_posthog_cut"] == ["list", "text"]
    assert len(event.properties["list"]) <= 10_001


def test_enormous_values_in_a_crowd(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where many wait they wait without what is cut off them later; it is the same event, and the app's value."""
    text, raw = "ü" * 1_000_000, b"\xff" * 1_000_000
    values = {"text": text, "raw": raw, "inside": [{"text": text, "number": 7}, text[:5]], "short": "ü"}
    kept: list[Any] = []
    with monkeypatch.context() as held:
        worker = calls.app.edge.worker
        held.setattr(worker, "hand_over", lambda expand, payload: kept.append((expand, payload)) or True)
        for crowd in (1_000, -1):
            held.setattr("otel_posthog.lane.worker._CROWDED", crowd)
            otel_posthog.capture("x", values, distinct_id="ada", set=values)
    usual, short = kept
    for expand, payload in kept:
        calls.app.edge.worker.hand_over(expand, payload)
    one, other = calls.events

    assert len(str(usual[1][2])) > 2_000_000
    assert len(str(short[1][2])) < 600_000
    assert one.properties == other.properties
    assert "text" in one.properties["otel_posthog_cut"]


def test_a_mapping_that_fails(calls: Calls) -> None:
    """Properties that cannot be read are left out; the event stays."""

    class Failing(UserDict[str, Any]):
        """Fails while it is read."""

        def items(self) -> Any:
            """Fails."""
            raise RuntimeError("no")

    otel_posthog.capture("x", Failing(a=1), distinct_id="ada")

    assert calls.said == [("x", "ada", {})]
    assert calls.misused == {"properties": 1}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text() | st.integers(), ANY, max_size=6))
def test_any_values(values: dict[Any, Any]) -> None:
    """Whatever it is: plain types alone, text keys alone, once more the same, and nothing of the caller's changed."""
    before = copy.deepcopy(values)
    guard = Guard()
    found = plain(values, guard)

    assert found is not None
    assert repr(plain(copy.deepcopy(found), guard)) == repr(found)
    assert _only_plain(found)
    assert repr(values) == repr(before)


def _only_plain(value: Any) -> bool:
    if type(value) is dict:
        return all(type(key) is str and _only_plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(_only_plain, value))
    return type(value) in (str, int, float, bool, bytes, type(None))
