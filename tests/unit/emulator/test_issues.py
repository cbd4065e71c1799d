"""Exceptions: what makes one valid, and which belong together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_posthog.emulator.issues import PLATFORMS, group


def frame(function: str = "pay", **more: Any) -> dict[str, Any]:
    """A Python frame."""
    return {"platform": "python", "filename": "shop/cart.py", "function": function, "in_app": True, **more}


def exception(*frames: Any, **more: Any) -> dict[str, Any]:
    """An exception, without a stack where there are no frames."""
    made = {"type": "ValueError", "value": "order 17", **more}
    return {**made, "stacktrace": {"type": "raw", "frames": list(frames)}} if frames else made


def grouped(*exceptions: Any, **more: Any) -> Any:
    """The grouping of a list of exceptions."""
    return group({"$exception_list": list(exceptions), **more})


INVALID = [
    ({}, "$exception_list is missing or not a list"),
    ({"$exception_list": {}}, "$exception_list is missing or not a list"),
    ({"$exception_list": []}, "$exception_list is empty"),
    ({"$exception_list": ["x"]}, "$exception_list[0] is not an object"),
    ({"$exception_list": [{"type": 5}]}, "$exception_list[0].type is not a string"),
    ({"$exception_list": [{"type": "E", "value": {}}]}, "$exception_list[0].value is not a string"),
    ({"$exception_list": [{"type": "E", "thread_id": 2**40}]}, "$exception_list[0].thread_id is not a 32-bit integer"),
    (
        {"$exception_list": [exception(stacktrace={})]},
        "$exception_list[0].stacktrace.type is neither `raw` nor `resolved`",
    ),
    (
        {"$exception_list": [exception(stacktrace={"type": "raw"})]},
        "$exception_list[0].stacktrace.frames is not a list",
    ),
    ({"$exception_list": [exception(5)]}, "$exception_list[0].stacktrace.frames[0] is not an object"),
    (
        {"$exception_list": [exception(frame(platform="dotnet"))]},
        "$exception_list[0].stacktrace.frames[0].platform `dotnet` is unknown",
    ),
    (
        {"$exception_list": [exception(frame(filename=None))]},
        "$exception_list[0].stacktrace.frames[0].filename is required",
    ),
    (
        {"$exception_list": [exception({"platform": "custom", "function": "f"})]},
        "$exception_list[0].stacktrace.frames[0].lang is required",
    ),
    ({"$exception_list": [exception()] * 51}, "$exception_list has 51 entries, more than 50"),
]


@pytest.mark.parametrize(("properties", "error"), INVALID, ids=[row[1] for row in INVALID])
def test_invalid_exception_makes_no_issue(properties: dict[str, Any], error: str) -> None:
    """3.4: the fault is named and there is no fingerprint."""
    found = group(properties)

    assert (found.errors, found.fingerprint) == ((error,), "")


def test_invalid_exception_over_the_wire(client: Any, emulator: Any, kit: Any) -> None:
    """3.4: the event is stored with `$cymbal_errors` and no issue."""
    client.v0(kit.event("$exception", properties={"$exception_list": []}))

    [stored] = emulator.events()
    assert stored["properties"] == {"$exception_list": [], "$cymbal_errors": ["$exception_list is empty"]}
    assert (stored["errors"], stored["issue"], emulator.issues()) == (["$exception_list is empty"], None, [])


@pytest.mark.parametrize("platform", sorted(PLATFORMS))
def test_every_platform_is_taken(platform: str) -> None:
    """3.2: each known platform is valid."""
    assert grouped(exception(frame(platform=platform, lang="x"))).errors == ()


BASE = exception(frame("view", in_app=False), frame("pay"))
SAME = [
    ("message, where there is a stack", {**BASE, "value": "order 18"}),
    ("line", exception(frame("view", in_app=False), frame("pay", lineno=99))),
    ("frames that are not in-app", exception(frame("other", in_app=False), frame("pay"))),
    ("in-app claimed for site-packages", exception(frame("pay"), frame("get", abs_path="/v/site-packages/x.py"))),
    (
        "in-app claimed for the standard library",
        exception(frame("pay"), frame("get", abs_path="/usr/lib/python3.11/x.py")),
    ),
    ("in_app missing means true", exception({k: v for k, v in frame("pay").items() if k != "in_app"})),
    ("mechanism", {**BASE, "mechanism": {"handled": False}}),
]
OTHER = [
    ("type", {**BASE, "type": "KeyError"}),
    ("function", exception(frame("refund"))),
    ("file", exception(frame("pay", filename="shop/pay.py"))),
    ("module", exception(frame("pay", module="shop.cart"))),
    ("no stack", exception()),
]


@pytest.mark.parametrize("other", [row[1] for row in SAME], ids=[row[0] for row in SAME])
def test_belongs_together(other: dict[str, Any]) -> None:
    """3.3: what the fingerprint leaves out."""
    assert grouped(BASE) == grouped(other)


@pytest.mark.parametrize("other", [row[1] for row in OTHER], ids=[row[0] for row in OTHER])
def test_does_not_belong_together(other: dict[str, Any]) -> None:
    """3.3: what the fingerprint covers."""
    assert grouped(BASE).fingerprint != grouped(other).fingerprint


def test_without_frames_the_message_groups() -> None:
    """3.3: ids in messages explode into issues."""
    assert grouped(exception(value="order 1")).fingerprint != grouped(exception(value="order 2")).fingerprint


def test_without_in_app_frames_the_first_counts() -> None:
    """3.3: the outermost frame stands for the stack."""
    one = exception(frame("main", in_app=False), frame("a", in_app=False))
    two = exception(frame("main", in_app=False), frame("b", in_app=False))

    assert grouped(one) == grouped(two)
    assert grouped(one) != grouped(exception(frame("b", in_app=False)))


def test_causes_count() -> None:
    """3.3: every exception of the list is part of the fingerprint."""
    assert grouped(BASE) != grouped(BASE, exception(type="KeyError"))


def test_explicit_fingerprint_wins() -> None:
    """3.3: the user's own grouping."""
    assert grouped(BASE, **{"$exception_fingerprint": "mine"}).fingerprint == "mine"


def test_issue_of_several_events(client: Any, emulator: Any, kit: Any) -> None:
    """An issue counts its events and users, resends once, and shows the newest frames."""
    for who, value in (("ada", "order 1"), ("ada", "order 2"), ("bob", "order 3")):
        sent = kit.event(
            "$exception",
            who,
            uuid=f"0190a0b0-0000-7000-8000-00000000000{value[-1]}",
            properties={"$exception_list": [{**BASE, "value": value}], "$exception_level": "fatal"},
        )
        client.v0(sent)
        client.v0(sent)

    [issue] = emulator.issues()
    assert issue == {
        "token": kit.TOKEN,
        "id": grouped(BASE).fingerprint,
        "count": 3,
        "users": 2,
        "first_seen": "2026-11-20T12:00:00.000000Z",
        "last_seen": "2026-11-20T12:00:00.000000Z",
        "type": "ValueError",
        "value": "order 1",
        "level": "fatal",
        "exceptions": [{**BASE, "value": "order 3"}],
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "value", "stacktrace", "frames", "platform", "filename", "function", "lang", "module"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(JSON)
@example([{"type": None, "stacktrace": {"type": []}}])
@example([{"stacktrace": {"type": "raw", "frames": [{"platform": []}]}}])
def test_nothing_breaks_the_grouping(listed: Any) -> None:
    """Any JSON is either grouped or has named errors, never both, never neither."""
    found = group({"$exception_list": listed})

    assert bool(found.errors) != bool(found.fingerprint)
