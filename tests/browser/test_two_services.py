"""A browser, a shop and a service behind it: one person, one session, the same group and flags, one trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from otel_posthog.emulator import Emulator
from tests.browser.conftest import Service
from tests.browser.test_one_person import IN_FULL, named
from tests.fixtures.chromium import Chromium, Page
from tests.fixtures.gateway import KEY, GatewayProcess

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "browser"
FIRST, AGAIN, LOGIN, HERS, CLICK = "first page", "page again", "login", "her page", "click"
"""The five requests of the story; each is a trace."""
OF_NOBODY = ("nobody", "", "", "")
OF_VISITOR = ("visitor", "session", "", "")
OF_ADA = ("ada", "session", "acme", "")
OF_ADA_WITH_FLAG = ("ada", "session", "acme", "friendly")
STORY = Counter(
    [
        # Before posthog-js has run in a browser, nobody has given it an id.
        ("orders", "offers shown", FIRST, *OF_NOBODY),
        ("orders", "api_request", FIRST, *OF_NOBODY),
        ("browser", "$pageview", FIRST, *OF_VISITOR),
        ("browser", "$pageleave", FIRST, *OF_VISITOR),
        ("orders", "offers shown", AGAIN, *OF_VISITOR),
        ("orders", "api_request", AGAIN, *OF_VISITOR),
        ("browser", "$pageview", AGAIN, *OF_VISITOR),
        ("browser", "$pageleave", AGAIN, *OF_VISITOR),
        ("a server", "$identify", LOGIN, *OF_ADA),
        ("shop", "api_request", LOGIN, *OF_ADA),
        # The shop asks for the flag before it asks the other service for its offers.
        (AT_SHOP := ("shop", "$feature_flag_called order-button", HERS, *OF_ADA_WITH_FLAG)),
        ("orders", "offers shown", HERS, *OF_ADA_WITH_FLAG),
        ("orders", "api_request", HERS, *OF_ADA_WITH_FLAG),
        ("browser", "$pageview", HERS, *OF_ADA_WITH_FLAG),
        ("browser", "$autocapture", HERS, *OF_ADA_WITH_FLAG),
        # A click is a request of its own: the flag is asked for after this.
        ("shop", "order placed", CLICK, *OF_ADA),
        ("orders", "order received", CLICK, *OF_ADA_WITH_FLAG),
        # Each process tells PostHog once what it was given; the shop has done so.
        ("orders", "$feature_flag_called gift-wrap", CLICK, *OF_ADA_WITH_FLAG),
        (AT_ORDERS := ("orders", "$feature_flag_called order-button", CLICK, *OF_ADA_WITH_FLAG)),
        ("orders", "stock reserved", CLICK, *OF_ADA_WITH_FLAG),
        ("orders", "api_request", CLICK, *OF_ADA_WITH_FLAG),
        ("shop", "api_request", CLICK, *OF_ADA_WITH_FLAG),
    ]
)
NOT_TOLD = ("$snapshot", "$groupidentify", "$set")
"""Of posthog-js, whose business they are."""


@pytest.fixture
def way(request: pytest.FixtureRequest, tmp_path: Path, emulator: Emulator) -> Iterator[dict[str, str]]:
    """Variables of services that send to PostHog themselves, or by way of a gateway: then only that has the key."""
    if request.param == "direct":
        yield {}
        return
    with GatewayProcess(tmp_path / "gateway", emulator.url) as gateway:
        yield {
            **gateway.otlp_env(),
            "OTEL_POSTHOG_MODE": "collector",
            "OTEL_EXPORTER_OTLP_TOKEN": gateway.token,
            "OTEL_POSTHOG_BROWSER_HOST": emulator.url,
            "OTEL_POSTHOG_BROWSER_TOKEN": KEY,
            "OTEL_POSTHOG_FLAGS_HOST": emulator.url,
            "OTEL_POSTHOG_FLAGS_TOKEN": KEY,
        }


def told(emulator: Emulator) -> list[dict[str, Any]]:
    """The events of the story; posthog-js tells of the login, too, when the next page names the person."""
    events = [event for event in emulator.events() if event["event"] not in NOT_TOLD]
    return [event for event in events if (event["event"], event["properties"]["$lib"]) != ("$identify", "web")]


def trace_of(page: Page) -> str:
    """The trace that the server made the page in."""
    return page.run("document.querySelector('meta[name=traceparent]').content").split("-")[1]


@pytest.mark.parametrize("way", ["direct", "gateway"], indirect=True)
def test_one_person_in_two_services(
    browser: Chromium, emulator: Emulator, serve: Callable[..., Service], way: dict[str, str]
) -> None:
    """A visitor logs in and orders: the browser's events and those of both services are one person's, whole."""
    emulator.flags = EXAMPLE / "flags.yaml"
    rules = str(EXAMPLE / "otel-posthog.yaml")
    orders = serve("orders", folder=EXAMPLE, OTEL_POSTHOG_CONFIG=rules, **way)
    shop = serve("shop", folder=EXAMPLE, OTEL_POSTHOG_CONFIG=rules, ORDERS=orders.url, **way)
    page = browser.page()
    orders.until_up()
    shop.until_up()

    traces: dict[str, str] = {}
    for number, label in enumerate((FIRST, AGAIN), 1):
        page.open(shop.url)
        page.until(IN_FULL)
        traces[trace_of(page)] = label
        emulator.wait_for(lambda e, number=number: len(named(e, "$pageview")) == number, 60)
    visitor, session = page.run("[posthog.get_distinct_id(), posthog.get_session_id()]")
    page.type("#login input", "ada")
    page.leave_by("document.querySelector('#login').submit()")
    page.until(IN_FULL)
    traces[trace_of(page)] = HERS
    page.click("#order")
    page.until("document.getElementById('state').textContent === 'ordered'")
    emulator.wait_for(lambda e: named(e, "$autocapture") and named(e, "order placed"), 60)
    assert {shop.stop(), orders.stop()} <= {0, -15}  # and with them all that they had
    emulator.wait_for(lambda e: named(e, "$identify", "otel-posthog") and named(e, "order placed"), 60)
    (login,) = named(emulator, "$identify", "otel-posthog")
    (order,) = named(emulator, "order placed")
    traces |= {login["properties"]["$trace_id"]: LOGIN, order["properties"]["$trace_id"]: CLICK}

    def row(event: dict[str, Any]) -> tuple[str, ...]:
        said = event["properties"]
        name = " ".join(filter(None, [event["event"], said.get("$feature_flag")]))
        by_browser = said["$lib"] == "web"
        who = "visitor" if event["distinct_id"] == visitor else event["distinct_id"]
        if said.get("$process_person_profile") is False and not by_browser:
            who = "nobody"
        return (
            "browser" if by_browser else said.get("service_name", "a server"),
            name,
            traces[said["$trace_id"]],
            who,
            "session" if said.get("$session_id") == session else said.get("$session_id", ""),
            said.get("$groups", {}).get("company", ""),
            # What a visitor's page says of flags is posthog-js's.
            said.get("$feature/order-button", "") if who != "visitor" else "",
        )

    def rows(emulator: Emulator) -> Counter[tuple[str, ...]]:
        return Counter(row(event) for event in told(emulator))

    # A gateway sees what both services tell: where one's answer was delivered when the other's comes, it tells it once.
    right = [STORY] + ([STORY - Counter([AT_SHOP]), STORY - Counter([AT_ORDERS])] if way else [])
    with suppress(TimeoutError):
        emulator.wait_for(lambda e: rows(e) in right, 60)
    found = rows(emulator)
    assert found in right, {"too many": found - STORY, "missing": STORY - found}
    (person,) = emulator.persons()
    assert set(person["distinct_ids"]) == {visitor, "ada"}
    # What the shop was told came along: the service behind it had asked for no flag yet.
    (received,) = named(emulator, "order received")
    assert received["properties"]["$active_feature_flags"] == ["order-button"]
    assert emulator.refusals() == []
