"""A visitor who becomes a customer: one person, one session, in the browser and on the server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from tests.browser.conftest import Service
from tests.fixtures.chromium import Chromium, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

IN_FULL = (
    "window.posthog && window.posthog.__loaded && window._POSTHOG_REMOTE_CONFIG && posthog.sessionRecordingStarted()"
)
"""posthog-js has its configuration: it captures clicks and records."""


def named(emulator: Emulator, name: str, lib: str = "") -> list[dict[str, Any]]:
    """The events of this name, oldest first, of one library where it is given."""
    return [event for event in emulator.events(event=name) if lib in ("", event["properties"].get("$lib"))]


def logged_in(page: Page, name: str) -> None:
    """Somebody logs in by the form, and the page that follows has all of posthog-js."""
    page.run("document.querySelector('#login input').value = ''")
    page.type("#login input", name)
    page.leave_by("document.querySelector('#login').submit()")
    page.until(IN_FULL)


def abroad(page: Page, home: str) -> list[str]:
    """Requests to other origins than the app's."""
    return [request["url"] for request in page.requests if not request["url"].startswith((home, "data:", "blob:"))]


def sides(events: list[dict[str, Any]]) -> set[str]:
    """Which libraries they come from."""
    return {event["properties"]["$lib"] for event in events}


@pytest.mark.parametrize("module", ["shop_django", "shop_starlette", "shop_fastapi"])
def test_one_person(browser: Chromium, emulator: Emulator, serve: Callable[..., Service], module: str) -> None:
    """Page view, login on the server, a click and the order are one person's session, by way of the app's relay."""
    url = serve(module, OTEL_POSTHOG_BROWSER_FLAGS="button", OTEL_POSTHOG_BROWSER_RELAY="/relay").url
    page = browser.page()

    page.open(url)
    page.until(IN_FULL)
    visitor = page.run("posthog.get_distinct_id()")
    emulator.wait_for(lambda e: named(e, "$pageview"))
    logged_in(page, "ada")
    assert page.run("document.getElementById('who').textContent") == "Logged in as ada"
    assert page.run("window.seen") == "green"  # before posthog-js was there: no flicker
    assert page.run("document.getElementById('order').className") == "green"
    meta = page.run("document.querySelector('meta[name=traceparent]').content")
    page.click("#order")
    page.until("document.getElementById('state').textContent === 'ordered'")
    wanted = ("order placed", "$autocapture", "$feature_flag_called", "$snapshot")
    emulator.wait_for(lambda e: all(named(e, name) for name in wanted) and len(named(e, "$pageview")) == 2)

    (person,) = emulator.persons()
    assert set(person["distinct_ids"]) == {visitor, "ada"}
    events = [event for event in emulator.events() if event["event"] != "$snapshot"]
    assert sides(events) == {"web", "otel-posthog"}
    assert len({event["properties"]["$session_id"] for event in events}) == 1
    assert [event["properties"]["$lib"] for event in named(emulator, "$pageview")] == ["web", "web"]
    (order,) = named(emulator, "order placed")
    (click,) = named(emulator, "$autocapture")
    assert order["distinct_id"] == click["distinct_id"] == "ada"
    if module != "shop_django":  # Django's own users have no company
        assert order["properties"]["$groups"] == click["properties"]["$groups"] == {"company": "acme"}
    # The page's events lead to the trace of the request that made the page.
    assert click["properties"]["$trace_id"] == meta.split("-")[1]
    emulator.wait_for(lambda e: any(span["trace_id"] == meta.split("-")[1] for span in e.spans()), 60)
    # Nobody but the app was asked for anything, and posthog-js told it who asks.
    assert abroad(page, url) == []
    (sent,) = [request for request in page.requests if request["url"].endswith("/api/order")]
    said = {name.lower(): value for name, value in sent["headers"].items()}
    assert said["x-posthog-distinct-id"] == "ada"
    assert said["x-posthog-session-id"] == order["properties"]["$session_id"]
    assert page.errors == [] or all("favicon" in error for error in page.errors)


@pytest.mark.parametrize("module", ["shop_flask", "shop_django"])
def test_who_leaves_is_forgotten(
    browser: Chromium, emulator: Emulator, serve: Callable[..., Service], module: str
) -> None:
    """After the logout the browser is a new visitor; who logs in next is somebody else, also without a logout."""
    url = serve(module).url
    page = browser.page()

    page.open(url)
    page.until(IN_FULL)
    logged_in(page, "ada")
    assert page.run("posthog.get_distinct_id()") == "ada"
    page.leave_by("document.querySelector('#logout').submit()")
    page.until(IN_FULL)
    visitor = page.run("posthog.get_distinct_id()")
    assert visitor != "ada"
    logged_in(page, "grace")
    assert page.run("posthog.get_distinct_id()") == "grace"
    logged_in(page, "ada")  # the same browser, no logout
    assert page.run("posthog.get_distinct_id()") == "ada"
    emulator.wait_for(lambda e: len(named(e, "page began")) == 5)

    found = {person["main_id"]: set(person["distinct_ids"]) for person in emulator.persons()}
    assert visitor in found["grace"]
    assert {"ada", "grace"} <= set(found)
    assert not found["ada"] & found["grace"]
    whose = [event["distinct_id"] for event in sorted(named(emulator, "page began"), key=lambda e: e["timestamp"])]
    assert whose[1:] == ["ada", visitor, "grace", "ada"]


@pytest.mark.parametrize("recording", ["inputs", "text"])
def test_recordings_are_masked(
    browser: Chromium, emulator: Emulator, serve: Callable[..., Service], recording: str
) -> None:
    """What somebody types never leaves; with `text` no text of the page does."""
    readable = json.dumps({"session_recording": {"compress_events": False}})
    url = serve(OTEL_POSTHOG_BROWSER_RECORDING=recording, OTEL_POSTHOG_BROWSER_OPTIONS=readable).url
    page = browser.page()

    page.open(url)
    page.until(IN_FULL)
    page.type("#login input", "s3cret-typed")
    page.run("posthog.capture('typed')")
    # As many stars as were typed: the recording has the field, and not what is in it.
    emulator.wait_for(lambda e: '"************"' in _recorded(e))

    assert "s3cret-typed" not in _recorded(emulator)
    assert ("A visitor" in _recorded(emulator)) is (recording == "inputs")


def _recorded(emulator: Emulator) -> str:
    return json.dumps([event["properties"].get("$snapshot_data") for event in emulator.events(event="$snapshot")])
