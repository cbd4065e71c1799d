"""`capture`: what a call says is what arrives."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from dirty_equals import IsStr
from opentelemetry.trace import SpanKind

import otel_posthog
from otel_posthog.config.settings import IdentityConfig, Mode
from otel_posthog.model import CaptureEvent
from otel_posthog.version import __version__
from tests.unit.api.conftest import Calls

MOMENT = 1_795_176_000_250_000_000


def test_a_whole_event(calls: Calls) -> None:
    """Name, person, properties, groups and updates are those of the call; the rest says where it comes from."""
    uuid = otel_posthog.capture(
        "order paid",
        {"total": 29.0, "sku": "mug"},
        distinct_id="ada",
        groups={"company": "acme"},
        set={"plan": "pro"},
        set_once={"first order": "mug"},
        timestamp=datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=timezone.utc),
    )

    assert calls.events == [
        CaptureEvent(
            event="order paid",
            distinct_id="ada",
            uuid=uuid or "",
            timestamp_ns=MOMENT,
            properties={
                "$geoip_disable": True,
                "$groups": {"company": "acme"},
                "$is_server": True,
                "$lib": "otel-posthog",
                "$lib_version": __version__,
                "$set": {"plan": "pro"},
                "$set_once": {"first order": "mug"},
                "deployment_method": IsStr(),
                "environment": "production",
                "machine": IsStr(),
                "platform": IsStr(),
                "python_version": sys.version.split()[0],
                "sku": "mug",
                "timezone": IsStr(),
                "total": 29.0,
            },
        )
    ]
    assert UUID(uuid).version == 7


def test_off(off: None) -> None:
    """Behind a shut gate nothing is made, nothing is started, and no argument is looked at."""
    before = threading.enumerate()  # an emulator that other tests share may be among them
    assert otel_posthog.capture("x", object(), distinct_id=object()) is None  # type: ignore[arg-type]
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


def test_every_field_of_a_trace(calls: Calls) -> None:
    """Inside of a request the event has its trace, its span and what the request is about."""
    with (
        calls.app.tracer.start_as_current_span(
            "GET /cart", kind=SpanKind.SERVER, attributes={"http.request.method": "GET", "url.path": "/cart"}
        ) as span,
        calls.app.tracer.start_as_current_span("inner") as inner,
    ):
        otel_posthog.capture("seen", distinct_id="ada")
    (event,) = calls.events

    assert event.properties["$trace_id"] == format(span.get_span_context().trace_id, "032x")
    assert event.properties["$span_id"] == format(inner.get_span_context().span_id, "016x")
    assert event.properties["$pathname"] == "/cart"


def test_a_stated_person_does_not_wait(calls: Calls) -> None:
    """What states its person leaves while the request goes on; what does not becomes that person's at its end."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.capture("early")
        otel_posthog.capture("stated", distinct_id="ada")
        assert calls.at_once == ["stated"]

    assert [(name, person) for name, person, _ in calls.said] == [("stated", "ada"), ("early", "ada")]


def test_the_span_says_who(calls: Calls) -> None:
    """A person who stands on a span above is the call's, too."""
    with calls.app.tracer.start_as_current_span("request", attributes={"posthog.distinct_id": "ada"}):
        otel_posthog.capture("inside")

    assert calls.said == [("inside", "ada", {})]


def test_two_persons_are_no_guess(calls: Calls) -> None:
    """A job that captures for two people says nothing about who else's its other events are."""
    with calls.app.tracer.start_as_current_span("mails"):
        otel_posthog.capture("mail sent", distinct_id="ada")
        otel_posthog.capture("mail sent", distinct_id="bob")
        otel_posthog.capture("batch done")

    assert [(name, person) for name, person, _ in calls.said] == [
        ("mail sent", "ada"),
        ("mail sent", "bob"),
        ("batch done", ""),
    ]


def test_without_late_identity(build: Callable[..., Calls]) -> None:
    """With the wait set to nothing every call leaves at once, as it is."""
    calls = build(identity=IdentityConfig(late_wait=0))
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.capture("early")
        assert calls.at_once == ["early"]
        otel_posthog.identify("ada")

    assert [(name, person) for name, person, _ in calls.said] == [("early", "")]


def test_with_no_span_and_nobody(calls: Calls) -> None:
    """A call in the middle of nowhere is a personless event; all of a process share one id."""
    otel_posthog.capture("one")
    otel_posthog.capture("two")

    assert calls.said == [("one", "", {}), ("two", "", {})]
    assert len({event.distinct_id for event in calls.events}) == 1


def test_unsampled_and_suppressed(build: Callable[..., Calls]) -> None:
    """No sampler decides about a call."""
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    calls = build(sampler=ALWAYS_OFF)
    with calls.app.tracer.start_as_current_span("never recorded"):
        otel_posthog.capture("kept", distinct_id="ada")

    assert calls.said == [("kept", "ada", {})]
    assert calls.events[0].properties["trace_sampled"] is False


def test_in_a_thread_without_a_context(calls: Calls) -> None:
    """A thread that nobody gave a context to captures what it is told."""
    with calls.app.tracer.start_as_current_span("request"):
        thread = threading.Thread(target=otel_posthog.capture, args=("from a thread", {"a": 1}))
        thread.start()
        thread.join(30)

    assert calls.said == [("from a thread", "", {"a": 1})]


def test_the_caller_may_go_on_writing(calls: Calls) -> None:
    """What is changed after the call is not in the event, however deep it is."""
    lines = [{"sku": "mug"}]
    properties: dict[str, Any] = {"lines": lines, "total": 1}
    groups, values = {"company": "acme"}, {"tags": ["a"]}
    otel_posthog.capture("order paid", properties, distinct_id="ada", groups=groups, set=values)
    lines[0]["sku"] = "plate"
    lines.append({})
    properties["total"] = 2
    groups["company"] = "other"
    values["tags"].append("b")

    assert calls.said == [
        (
            "order paid",
            "ada",
            {"lines": [{"sku": "mug"}], "total": 1, "$groups": {"company": "acme"}, "$set": {"tags": ["a"]}},
        )
    ]


def test_arguments_are_not_written_to(calls: Calls) -> None:
    """The app's own mappings stay as they were."""
    properties, values = {"a": 1}, {"plan": "pro"}
    otel_posthog.capture("x", properties, distinct_id="ada", set=values)

    assert (properties, values) == ({"a": 1}, {"plan": "pro"})
    assert len(calls.said) == 1


def test_the_sdks_spelling(calls: Calls) -> None:
    """`$set`, `$groups` and the like in properties mean what they mean for PostHog's SDKs."""
    otel_posthog.capture("x", {"$set": {"plan": "pro"}, "$groups": {"company": "acme"}}, distinct_id="ada")

    assert calls.said == [("x", "ada", {"$set": {"plan": "pro"}, "$groups": {"company": "acme"}})]


class Event(Enum):
    """Names that an app keeps in one place."""

    PAID = "order paid"


@pytest.mark.parametrize(
    ("event", "name"), [(Event.PAID, "order paid"), ("  order paid ", "order paid"), ("ü" * 101, "ü" * 100)]
)
def test_names(calls: Calls, event: Any, name: str) -> None:
    """A member of an enum is its value; blanks around a name go; one over 200 bytes is cut."""
    assert otel_posthog.capture(event, distinct_id="ada") is not None

    assert calls.said == [(name, "ada", {})]


@pytest.mark.parametrize("event", [None, "", "   ", 7, object(), ["a"], b"order paid"])
def test_no_name(calls: Calls, caplog: pytest.LogCaptureFixture, event: Any) -> None:
    """Without a name there is no event: one warning, however often, and a count of all."""
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture(event) is None
        assert otel_posthog.capture(event) is None

    assert calls.said == []
    assert calls.misused == {"event": 2}
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        "otel-posthog: the name of an event is text"
    ]


@pytest.mark.parametrize(
    ("stated", "person"),
    [
        (42, "42"),
        (UUID("0190f3a2-7b5c-7def-8abc-0123456789ab"), "0190f3a2-7b5c-7def-8abc-0123456789ab"),
        ("  ada ", "ada"),
    ],
)
def test_ids(calls: Calls, stated: Any, person: str) -> None:
    """Numbers and UUIDs of user tables are ids, as their text."""
    otel_posthog.capture("x", distinct_id=stated)

    assert [person for _, person, _ in calls.said] == [person]


@pytest.mark.parametrize("stated", ["", "anonymous", "NULL", "0", 0, True, object(), ["ada"], {"id": 1}, 1.5])
def test_illegal_ids(calls: Calls, caplog: pytest.LogCaptureFixture, stated: Any) -> None:
    """What PostHog refuses as an id counts as absent: the event stays, personless, with one warning."""
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("x", distinct_id=stated) is not None
        assert otel_posthog.capture("y", distinct_id=stated) is not None
        assert calls.said == [("x", "", {}), ("y", "", {})]

    assert calls.misused == {"distinct_id": 2}
    assert len([record for record in caplog.records if "is no distinct id" in record.message]) == 1


def test_an_illegal_id_beside_a_known_person(calls: Calls) -> None:
    """It counts as absent, so the event is the request's person's."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        otel_posthog.capture("x", distinct_id="anonymous")

    assert calls.said == [("x", "ada", {})]


@pytest.mark.parametrize("argument", ["properties", "groups", "set", "set_once"])
def test_no_mapping(calls: Calls, caplog: pytest.LogCaptureFixture, argument: str) -> None:
    """An argument that is no mapping is left out, and the event stays."""
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("x", distinct_id="ada", **{argument: ["a"]}) is not None

    assert calls.said == [("x", "ada", {})]
    assert calls.misused == {argument: 1}
    assert f"{argument} must be a mapping" in caplog.text


def test_groups(calls: Calls) -> None:
    """Keys may be numbers; what names no group is left out."""
    otel_posthog.capture(
        "x",
        distinct_id="ada",
        groups={"company": 5, "team": "", "a.b": "c", "": "d", "project": None},  # type: ignore[dict-item]
    )

    assert calls.said == [("x", "ada", {"$groups": {"company": "5"}})]
    assert calls.misused == {"group": 4}


class Mute(dict[str, Any]):
    """A mapping, and a value, that fails whatever is done with it."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __bool__ = __iter__ = __len__ = __eq__ = items = keys = __str__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def test_what_fails_when_it_is_read_costs_itself(calls: Calls) -> None:
    """Mappings, group keys and types that raise are left out; the event is not."""
    mute: Any = Mute(a=1)
    otel_posthog.capture("x", mute, distinct_id="ada", groups=mute, set=mute, set_once=mute, timestamp=mute)
    otel_posthog.capture("y", {"a": 1}, distinct_id="ada", groups={"company": mute, "team": 7})
    otel_posthog.capture("z", distinct_id=mute)

    assert calls.said == [("x", "ada", {}), ("y", "ada", {"a": 1, "$groups": {"team": "7"}}), ("z", "", {})]


@pytest.mark.parametrize(
    "timestamp",
    [
        datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=timezone.utc),
        datetime(2026, 11, 20, 14, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 11, 20, 12, 0, 0, 250_000),
        "2026-11-20T12:00:00.250000+00:00",
        "2026-11-20T12:00:00.250000Z",
        "2026-11-20 12:00:00.250000",
        "2026-11-20T17:30:00.250000+0530",
        1_795_176_000.25,
    ],
)
def test_timestamps(calls: Calls, timestamp: Any) -> None:
    """The forms of a moment; without a zone it is UTC."""
    uuid = otel_posthog.capture("x", timestamp=timestamp)
    (event,) = calls.events

    assert event.timestamp_ns == MOMENT
    assert uuid == event.uuid
    assert int(event.uuid.replace("-", "")[:12], 16) == MOMENT // 1_000_000


def test_now_by_the_local_clock(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datetime.now()` without a zone is this very moment, wherever the machine stands."""
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        before = time.time_ns()
        otel_posthog.capture("x", timestamp=datetime.now())
        (event,) = calls.events
    finally:
        monkeypatch.undo()
        time.tzset()

    assert abs(event.timestamp_ns - before) < 60_000_000_000


@pytest.mark.parametrize(
    "timestamp",
    [
        *("yesterday", "2026-11-20", "20261120", "", True, object()),
        *(1_795_176_000_250, -5, 5e10, float("nan"), float("inf")),
        *(datetime.min, datetime.max, datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5))), datetime(1969, 12, 31)),
    ],
)
def test_no_timestamp(calls: Calls, caplog: pytest.LogCaptureFixture, timestamp: Any) -> None:
    """What names no moment gives way to the time of the call: a warning, a count, an event."""
    import time

    before = time.time_ns()
    with caplog.at_level(logging.WARNING):
        otel_posthog.capture("x", timestamp=timestamp)
    (event,) = calls.events

    assert event.timestamp_ns >= before
    assert calls.misused == {"timestamp": 1}
    assert "is no timestamp" in caplog.text


def test_no_room(build: Callable[..., Calls]) -> None:
    """With the buffer full a call says that nothing was taken, and that is counted."""
    calls = build(capacity=0)

    assert otel_posthog.capture("x") is None
    assert calls.app.spans.stats().overflowed == 1


def test_collector_mode(build: Callable[..., Calls]) -> None:
    """Towards a Collector it is the same event."""
    calls = build(mode=Mode.COLLECTOR)
    otel_posthog.capture("x", {"a": 1}, distinct_id="ada")

    assert calls.said == [("x", "ada", {"a": 1})]


def test_after_the_end(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """After the shutdown calls are counted, complained about once, and otherwise nothing."""
    from otel_posthog.api.process import process

    otel_posthog.capture("before")
    assert otel_posthog.shutdown(30.0) is True
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("after") is None
        assert otel_posthog.identify("ada") is None

    assert [event.event for event in calls.app.delivery.events] == ["before"]
    assert calls.app.delivery.closed
    assert process.guard.misuses() == {"after_shutdown": 2}
    assert [record.message for record in caplog.records] == [
        "otel-posthog: capture() was called after the shutdown, so nothing is captured any more"
    ]


def test_after_the_end_of_a_provider(calls: Calls, caplog: pytest.LogCaptureFixture) -> None:
    """Where the app shuts down the last provider that feeds our queue, calls after it are as after our own end."""
    from otel_posthog.api.process import process

    calls.app.tracer_provider.shutdown()
    calls.app.logger_provider.shutdown()
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("after") is None
        assert otel_posthog.identify("ada", set={"a": 1}) is None

    assert process.guard.misuses() == {"after_shutdown": 2}
    assert "capture() was called after the shutdown" in caplog.text


def test_many_threads(calls: Calls) -> None:
    """Calls of many threads at once all arrive, each once."""

    def work(number: int) -> None:
        for step in range(50):
            otel_posthog.capture("step", {"step": step}, distinct_id=f"user-{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    arrived = [(person, own["step"]) for _, person, own in calls.said]

    assert sorted(arrived) == sorted((f"user-{number}", step) for number in range(8) for step in range(50))
    assert len({event.uuid for event in calls.events}) == 400


def test_loading_that_fails_for_a_moment(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the bridge cannot be loaded at the first try: the events wait for the next."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    bridge = calls.app.runtime.bridge
    loaded, bridge._accepting = bridge._accepting, None
    tries: list[int] = []

    def load() -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("cannot release un-acquired lock")
        bridge._accepting = loaded
        return loaded

    monkeypatch.setattr(bridge, "load", load)
    otel_posthog.capture("one", distinct_id="ada")
    otel_posthog.capture("two", distinct_id="ada")

    assert [name for name, _, _ in calls.said] == ["one", "two"]
    assert calls.app.runtime.guard.counts() == {"sdk.bridge": 2}
    calls.app.runtime.guard.after_fork()  # counted on purpose


def test_our_own_mistakes_are_swallowed(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours costs an event and a count, never the app's request."""
    monkeypatch.setenv("OTEL_POSTHOG_RAISE", "false")
    monkeypatch.setattr(calls.app.edge.worker, "hand_over", lambda *_: 1 / 0)
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture("x") is None
        assert otel_posthog.identify("ada", set={"a": 1}) is None
        assert otel_posthog.capture_exception(ValueError()) is None

    assert calls.app.runtime.guard.counts() == {"api.capture": 1, "api.identify": 1, "api.capture_exception": 1}
    calls.app.runtime.guard.after_fork()  # counted on purpose
