"""What a page with the script does, and what it must never do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from otel_posthog.emulator import Emulator
from tests.browser.conftest import TOKEN, Service
from tests.browser.test_one_person import IN_FULL, abroad, logged_in, named
from tests.fixtures.chromium import Chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]


def test_no_consent_no_request(browser: Chromium, emulator: Emulator, serve: Callable[..., Service]) -> None:
    """Before a yes, and after a no, the page works and asks nobody; a yes loads posthog-js, a no silences it."""
    url = serve(OTEL_POSTHOG_BROWSER_CONSENT="shop_flask:consent").url
    page = browser.page()

    for answer in ("", "no"):
        page.open(url)
        page.run(f"document.cookie = 'consent={answer}'")
        page.open(url)
        page.click("#order")
        page.run("otelPosthog.capture('not wanted')")
        assert page.run("[typeof window.posthog, otelPosthog.flag('button', 'plain'), document.cookie]") == [
            "undefined",
            "plain",
            f"consent={answer}",
        ]
    assert abroad(page, url) == []

    page.run("otelPosthog.consent(true); otelPosthog.capture('wanted')")
    page.until(IN_FULL)
    emulator.wait_for(lambda e: named(e, "wanted"))
    page.run("otelPosthog.consent(false)")
    assert page.run("posthog.has_opted_out_capturing()") is True
    page.run("otelPosthog.capture('not wanted'); posthog.capture('not wanted')")
    page.run("document.cookie = 'consent=yes'")
    page.open(url)  # a yes on the server is newer than the no in the browser
    page.until(IN_FULL)
    page.run("otelPosthog.capture('wanted again')")
    emulator.wait_for(lambda e: named(e, "wanted again"))

    assert named(emulator, "not wanted") == []
    assert len(named(emulator, "page began")) == 1


def test_relay_keeps_everything_at_home(browser: Chromium, emulator: Emulator, serve: Callable[..., Service]) -> None:
    """With the relay no request leaves the origin, and all arrives: events, recordings, flags; no cookie goes out."""
    url = serve(OTEL_POSTHOG_BROWSER_RELAY="/relay").url
    page = browser.page()

    page.open(url)
    page.until(IN_FULL)
    logged_in(page, "ada")
    page.click("#order")
    emulator.wait_for(lambda e: named(e, "$autocapture") and named(e, "$snapshot") and named(e, "order placed"))
    page.until("posthog.getFeatureFlag('hidden') === true")  # not on the page: asked through the relay

    assert abroad(page, url) == []
    asked = {request["url"].removeprefix(url).partition("?")[0] for request in page.requests}
    assert {"/relay/e/", "/relay/s/", "/relay/flags/", "/relay/static/array.js"} <= asked
    (click,) = named(emulator, "$autocapture")
    assert click["distinct_id"] == "ada"
    assert click["properties"]["$geoip_disable"] is True
    # Its own requests are no use of the app.
    emulator.wait_for(lambda e: len(e.events(event="api_request")) >= 2)
    paths = {event["properties"]["$pathname"] for event in emulator.events(event="api_request")}
    assert paths == {"/login", "/api/order"}


def test_blocked(browser: Chromium, emulator: Emulator, serve: Callable[..., Service]) -> None:
    """Where posthog-js is blocked the page works, calls are safe, and nothing piles up."""
    url = serve(OTEL_POSTHOG_BROWSER_FLAGS="button").url
    page = browser.page()
    page.block("*array.js*")

    page.open(url)
    page.type("#login input", "ada")
    page.leave_by("document.querySelector('#login').submit()")
    page.run("for (let i = 0; i < 1000; i++) { otelPosthog.capture('x', {i}); posthog.capture('x'); }")
    page.run("otelPosthog.identify('a'); otelPosthog.group('b', 'c'); otelPosthog.reset(); otelPosthog.consent(true)")
    page.click("#order")
    page.until("document.getElementById('state').textContent === 'ordered'")
    emulator.wait_for(lambda e: named(e, "order placed"))

    assert page.run("[window.seen, otelPosthog.flag('button'), otelPosthog.flag('other', 7), posthog.length]") == [
        "green",
        "green",
        7,
        0,
    ]
    assert {event["properties"]["$lib"] for event in emulator.events()} == {"otel-posthog"}
    assert [error for error in page.errors if "favicon" not in error and "array.js" not in error] == []


ATTACK = "</script><script>window.pwned=1</script><!--<script>\u2028'\"`${window.pwned=2}"


def test_escaping(browser: Chromium, emulator: Emulator, serve: Callable[..., Service]) -> None:
    """A user, a flag and a payload full of markup stay data; the page's scripts run, and only those."""
    variant = "x" + ATTACK
    emulator.flags = {"flags": {"button": {"variants": {variant: 100}, "payloads": {variant: {"a": ATTACK}}}}}
    url = serve(OTEL_POSTHOG_BROWSER_FLAGS="*").url
    page = browser.page()

    page.open(f"{url}/?note={quote(ATTACK)}")
    page.until(IN_FULL)
    logged_in(page, ATTACK)

    assert page.run("typeof window.pwned") == "undefined"
    assert page.run("[window.seen, posthog.get_distinct_id()]") == [variant, ATTACK]
    assert page.run("posthog.getFeatureFlagPayload('button').a") == ATTACK


PAGE_VIEWS: dict[str, tuple[list[str], dict[str, str]]] = {
    "browser": (["web"], {}),
    "server": (["otel-posthog"], {"OTEL_POSTHOG_BROWSER_PAGE_VIEWS": "server"}),
}


VITALS = {"web_vitals": True, "web_vitals_delayed_flush_ms": 50}


def vitals(emulator: Emulator) -> list[str]:
    """The measurements that arrived, by name; one event may have several."""
    names = re.compile(r"\$web_vitals_(\w+)_value")
    said = [event["properties"] for event in named(emulator, "$web_vitals")]
    return [found[1] for properties in said for name in properties if (found := names.fullmatch(name))]


@pytest.mark.parametrize("owner", PAGE_VIEWS)
def test_one_page_view(browser: Chromium, emulator: Emulator, serve: Callable[..., Service], owner: str) -> None:
    """One page, one `$pageview`, by whoever is to count it, and its web vitals once, by posthog-js in both cases."""
    libraries, variables = PAGE_VIEWS[owner]
    running = serve(OTEL_POSTHOG_BROWSER_OPTIONS=json.dumps({"capture_performance": VITALS}), **variables)
    page = browser.page()

    page.open(running.url)
    page.until(IN_FULL)
    page.until("!!document.querySelector('script[src*=web-vitals]')")
    page.click("#order")  # what was painted largest is known when somebody does something
    emulator.wait_for(lambda e: named(e, "$pageview") and "LCP" in vitals(e), 60)
    assert running.stop() in (0, -15)  # and with it all that it had

    assert [event["properties"]["$lib"] for event in named(emulator, "$pageview")] == libraries
    requests = [event["properties"]["$pathname"] for event in named(emulator, "api_request")]
    assert [path for path in requests if path != "/favicon.ico"] == ["/api/order"]
    assert len(vitals(emulator)) == len(set(vitals(emulator)))
    assert {event["properties"]["$lib"] for event in named(emulator, "$web_vitals")} == {"web"}


WAYS = {
    "script": """await new Promise(done => { const it = document.createElement("script");
            it.src = "/relay/analytics.js";
            it.onload = done; document.head.append(it); }); const all = window.otelPosthog;""",
    "module": """const all = await import("/relay/analytics.mjs");""",
}


@pytest.mark.parametrize("way", WAYS)
def test_wrapper_alone(browser: Chromium, serve: Callable[..., Service], way: str) -> None:
    """Without posthog-js the wrapper waits within bounds, and tells all of it once there is one; nothing throws."""
    page = browser.page()
    page.open(f"{serve().url}/bare")

    waited: list[Any] = json.loads(
        page.run(f"""(async () => {{
            {WAYS[way]}
            const {{capture, identify, group, reset, onFlags, flag, consent}} = all;
            for (let i = 0; i < 200; i++) capture("event " + i, {{i}});
            identify("ada"); group("company", "acme"); reset(); onFlags(() => 0);
            const before = flag("button", "plain"), told = [];
            window.posthog = {{__loaded: true, capture: name => {{ told.push(name); if (name === "event 1") throw 1; }},
                getFeatureFlag: key => key === "button" ? "green" : undefined,
                opt_out_capturing: () => told.push("out")}};
            capture("later");
            const after = [flag("button", "plain"), flag("other", "plain")];
            consent(false); capture("never"); identify({{}});
            return JSON.stringify([before, told.length, told[0], told.slice(-2), after]);
        }})()""")
    )

    assert waited == ["plain", 102, "event 0", ["later", "out"], ["green", "plain"]]


def test_nonce(browser: Chromium, emulator: Emulator, serve: Callable[..., Service]) -> None:
    """Under a strict Content-Security-Policy the nonce is enough, for what posthog-js loads, too."""
    url = serve(SHOP_NONCE="n0nce").url
    page = browser.page()

    page.open(url)
    page.until(IN_FULL)
    page.run("otelPosthog.capture('under a policy')")
    emulator.wait_for(lambda e: named(e, "under a policy"))

    assert page.run("window.seen") == "plain"
    assert TOKEN in page.run("document.scripts[0].textContent")
    assert [error for error in page.errors if "favicon" not in error] == []
