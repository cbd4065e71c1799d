"""`capture_exception`: one issue for one object, whoever tells of it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest

import otel_posthog
from otel_posthog.model import CaptureEvent
from tests.unit.api.conftest import Calls


def boom() -> None:
    """Fails."""
    raise ValueError("no stock")


def outcome(event: CaptureEvent) -> tuple[Any, ...]:
    """Type, text, whether handled, and the functions of its stack, innermost last."""
    (first, *_) = event.properties["$exception_list"]
    frames = [frame["function"] for frame in first["stacktrace"]["frames"]]
    return first["type"], first["value"], first["mechanism"].get("handled"), frames


def test_the_exception_at_hand(calls: Calls) -> None:
    """Without an argument it is the one that is being handled, with its stack and the call's properties."""
    try:
        boom()
    except ValueError:
        uuid = otel_posthog.capture_exception(properties={"order": 7}, distinct_id="ada", groups={"company": "acme"})
    (event,) = calls.events

    assert (event.event, event.distinct_id, event.uuid) == ("$exception", "ada", uuid)
    assert outcome(event) == ("ValueError", "no stock", True, ["test_the_exception_at_hand", "boom"])
    assert (event.properties["order"], event.properties["$groups"]) == (7, {"company": "acme"})
    assert event.properties["$exception_level"] == "error"


def test_off(off: None) -> None:
    """Behind a shut gate the object is not even marked."""
    error = ValueError("no stock")
    assert otel_posthog.capture_exception(error) is None
    assert vars(error) == {}


def test_twice(calls: Calls) -> None:
    """The same object again is the same issue: one event, the same uuid."""
    try:
        boom()
    except ValueError as error:
        first = otel_posthog.capture_exception(error)
        second = otel_posthog.capture_exception(error)

    assert first == second is not None
    assert [event.uuid for event in calls.events] == [first]


def test_an_object_that_was_never_raised(calls: Calls) -> None:
    """It has no stack, and is an issue all the same."""
    otel_posthog.capture_exception(ValueError("made by hand"))
    (event,) = calls.events

    assert event.properties["$exception_list"][0]["value"] == "made by hand"


def test_it_speaks_for_the_span(calls: Calls) -> None:
    """A span has failed with it before: the call is the one that counts, since it knows more."""
    with calls.app.tracer.start_as_current_span("request"):
        otel_posthog.identify("ada")
        try:
            with calls.app.tracer.start_as_current_span("charge"):
                boom()
        except ValueError as error:
            uuid = otel_posthog.capture_exception(error, {"order": 7})
    (event,) = calls.events

    assert (event.uuid, event.distinct_id, event.properties["order"]) == (uuid, "ada", 7)
    assert outcome(event)[:3] == ("ValueError", "no stock", True)


def test_raised_on(calls: Calls) -> None:
    """Captured, raised on, and handled by nobody: one issue, unhandled."""
    with pytest.raises(ValueError, match="no stock"), calls.app.tracer.start_as_current_span("request"):
        try:
            boom()
        except ValueError as error:
            otel_posthog.capture_exception(error, {"order": 7})
            raise
    (event,) = calls.events

    assert outcome(event)[:3] == ("ValueError", "no stock", False)
    assert event.properties["order"] == 7


def test_logged_as_well(calls: Calls) -> None:
    """`logger.exception` of the same object beside it is no second issue."""
    from opentelemetry.sdk._logs import LoggingHandler

    logger = logging.getLogger("shop.checkout")
    handler = LoggingHandler(logger_provider=calls.app.logger_provider)
    logger.addHandler(handler)
    try:
        with calls.app.tracer.start_as_current_span("request"):
            try:
                boom()
            except ValueError:
                logger.exception("checkout failed")
                otel_posthog.capture_exception(properties={"order": 7})
    finally:
        logger.removeHandler(handler)

    assert [(event.event, event.properties.get("order")) for event in calls.events] == [("$exception", 7)]


def test_the_posthog_sdk_was_first(calls: Calls) -> None:
    """What PostHog's SDK captured is its event: nothing is sent, and its uuid is given."""
    error = ValueError("no stock")
    vars(error).update(__posthog_exception_captured=True, __posthog_exception_uuid="1-2-3")
    assert otel_posthog.capture_exception(error) == "1-2-3"
    del error.__posthog_exception_uuid  # type: ignore[attr-defined]
    assert otel_posthog.capture_exception(error) is None

    assert calls.events == []


def test_raised_again(calls: Calls) -> None:
    """An object that the app keeps and raises again is another failure each time."""
    kept = ValueError("not configured")

    def work() -> None:
        raise kept

    for _ in range(2):
        try:
            work()
        except ValueError as error:
            otel_posthog.capture_exception(error)

    assert len({event.uuid for event in calls.events}) == 2


def test_on_purpose(calls: Calls) -> None:
    """Control flow is no error by itself; whoever captures it means it."""
    otel_posthog.capture_exception(KeyboardInterrupt())

    assert [event.properties["$exception_list"][0]["type"] for event in calls.events] == ["KeyboardInterrupt"]


def test_exc_info(calls: Calls) -> None:
    """The triple of `sys.exc_info()`, as other SDKs take it."""
    try:
        boom()
    except ValueError:
        otel_posthog.capture_exception(sys.exc_info())  # type: ignore[arg-type]

    assert [outcome(event)[0] for event in calls.events] == ["ValueError"]


@pytest.mark.parametrize("error", [None, "text", object(), ValueError, (None, None, None), (1, 2)])
def test_no_exception(calls: Calls, caplog: pytest.LogCaptureFixture, error: Any) -> None:
    """Without one there is nothing to capture: one warning, and a count."""
    with caplog.at_level(logging.WARNING):
        assert otel_posthog.capture_exception(error) is None
        assert otel_posthog.capture_exception(error) is None

    assert calls.events == []
    assert calls.misused == {"exception": 2}
    assert len([record for record in caplog.records if "takes an exception" in record.message]) == 1


class Broken(Exception):
    """Nothing of it can be read."""

    def __str__(self) -> str:
        """Fails."""
        raise RuntimeError

    __repr__ = __str__


def test_a_broken_one(calls: Calls) -> None:
    """An exception that cannot be read is an issue by its type."""
    otel_posthog.capture_exception(Broken())

    assert [event.properties["$exception_list"][0]["type"] for event in calls.events] == ["Broken"]
