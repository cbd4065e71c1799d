"""What `write` puts into a page, and when it puts nothing there."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from dirty_equals import IsStr
from opentelemetry import trace

from otel_posthog.api.held import scope, super_properties
from otel_posthog.api.process import process
from otel_posthog.browser.markup import script_of, source
from otel_posthog.browser.page import write
from otel_posthog.browser.request import nonce_of, signed_out
from otel_posthog.config.browser import browser_target
from otel_posthog.config.load import load_settings
from otel_posthog.context import current_work
from tests.unit.browser.conftest import TOKEN, Upstream

SESSION = "0199a0b0-0000-7000-8000-00000000000a"
PAGE = re.compile(r"\}\)\(window, document, (\{.*\})\);\n?</script>\n\Z", re.DOTALL)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said; a record that reached two handlers counts once."""
    return [record.getMessage() for record in {id(record): record for record in caplog.records}.values()]


def page_in(html: str) -> dict[str, Any]:
    """The data of a page."""
    found = PAGE.search(html)
    assert found is not None, html[-300:]
    return json.loads(found[1])


def test_whole_page(setting: Callable[..., None], upstream: Upstream) -> None:
    """A person with groups, session, flags and super properties: everything that posthog-js begins with."""
    setting(OTEL_POSTHOG_BROWSER_PROPERTIES="plan,absent", OTEL_POSTHOG_BROWSER_RECORDING="text")
    with scope(distinct_id="ada", groups={"company": "acme"}), super_properties(plan="pro", secret="mine"):
        current_work().change(session_id=SESSION, flags={"button": "green", "off": False})
        page = page_in(write(properties={"section": "shop"}))

    assert page == {
        "token": TOKEN,
        "script": f"{upstream.url}/static/array.js",
        "granted": True,
        "consented": False,
        "signed_out": False,
        "groups": {"company": "acme"},
        "properties": {"plan": "pro", "section": "shop"},
        "options": {
            "api_host": upstream.url,
            "ui_host": upstream.url,
            "defaults": "2026-01-30",
            "person_profiles": "identified_only",
            "internal_or_test_user_hostname": None,
            "autocapture": True,
            "capture_pageview": "history_change",
            "capture_pageleave": "if_capture_pageview",
            "disable_session_recording": False,
            "session_recording": {"maskAllInputs": True, "maskTextSelector": "*"},
            "opt_out_capturing_persistence_type": "cookie",
            "bootstrap": {
                "distinctID": "ada",
                "isIdentifiedID": True,
                "sessionID": SESSION,
                "featureFlags": {"button": "green", "off": False},
            },
        },
    }


def test_nobody(setting: Callable[..., None]) -> None:
    """A page for nobody says nobody: posthog-js makes the visitor's id, so that pages may be cached."""
    page = page_in(write())

    assert page["options"]["bootstrap"] == {"featureFlags": {}}
    assert (page["groups"], page["properties"]) == ({}, {})


def test_session_that_is_none(setting: Callable[..., None]) -> None:
    """A session id that is no UUIDv7 never reaches posthog-js, which would refuse it."""
    with scope(distinct_id="ada"):
        current_work().change(session_id="jsession-1")

        assert "sessionID" not in page_in(write())["options"]["bootstrap"]


OPTIONS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "server views": (
        {"OTEL_POSTHOG_BROWSER_PAGE_VIEWS": "server"},
        {"capture_pageview": False, "capture_pageleave": "if_capture_pageview"},
    ),
    "no autocapture": ({"OTEL_POSTHOG_BROWSER_AUTOCAPTURE": "false"}, {"autocapture": False}),
    "no recording": ({"OTEL_POSTHOG_BROWSER_RECORDING": "off"}, {"disable_session_recording": True}),
    "relay": ({"OTEL_POSTHOG_BROWSER_RELAY": "/a/relay"}, {"api_host": "/a/relay"}),
    "own": (
        {"OTEL_POSTHOG_BROWSER_OPTIONS": '{"session_recording": {"maskTextSelector": ".x"}, "debug": true}'},
        {"session_recording": {"maskAllInputs": True, "maskTextSelector": ".x"}, "debug": True},
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(setting: Callable[..., None], name: str) -> None:
    """Each setting reaches posthog-js; one's own options win, and take nothing else away."""
    variables, wanted = OPTIONS[name]
    setting(**variables)
    options = page_in(write())["options"]

    assert {key: options[key] for key in wanted} == wanted


def test_relay_page(setting: Callable[..., None], upstream: Upstream) -> None:
    """With a relay the script comes through it, and nobody is placed where the server stands."""
    setting(OTEL_POSTHOG_BROWSER_RELAY="/relay")
    page = page_in(write())
    assert page["script"] == "/relay/static/array.js"
    assert page["properties"] == {"$geoip_disable": True}
    assert page["options"]["ui_host"] == upstream.url

    setting(OTEL_POSTHOG_BROWSER_RELAY="/relay", OTEL_POSTHOG_BROWSER_RELAY_CLIENT_IP="true")
    assert page_in(write())["properties"] == {}
    setting(OTEL_POSTHOG_BROWSER_SCRIPT="/static/posthog.js")
    assert page_in(write())["script"] == "/static/posthog.js"


NOTHING: dict[str, tuple[dict[str, str], str]] = {
    "gate": ({"OTEL_SDK_DISABLED": "true"}, ""),
    "switch": ({"OTEL_POSTHOG_BROWSER": "false"}, "OTEL_POSTHOG_BROWSER is false"),
    "collector": (
        {"OTEL_POSTHOG_MODE": "collector"},
        "product data goes to a Collector: set OTEL_POSTHOG_BROWSER_HOST and OTEL_POSTHOG_BROWSER_TOKEN",
    ),
    "host alone": (
        {"OTEL_POSTHOG_BROWSER_HOST": "https://eu.posthog.com"},
        "another host has another key: set OTEL_POSTHOG_BROWSER_TOKEN",
    ),
    "secret key": (
        {"OTEL_EXPORTER_OTLP_TOKEN": "phs_secret"},
        "the token is no project API key, and would stand in the page: set OTEL_POSTHOG_BROWSER_TOKEN",
    ),
    "another kind of key": (
        {"OTEL_EXPORTER_OTLP_TOKEN": "pha_oauth"},
        "the token is no project API key, and would stand in the page: set OTEL_POSTHOG_BROWSER_TOKEN",
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing(setting: Callable[..., None], caplog: pytest.LogCaptureFixture, name: str) -> None:
    """No page without a project key: nothing is written, and it is said once, without the key."""
    variables, why = NOTHING[name]
    setting(**variables)

    with caplog.at_level(logging.WARNING):
        assert [write(), write()] == ["", ""]

    said = [text for text in messages(caplog) if "pages get no script" in text]
    assert said == ([f"otel-posthog: pages get no script, and nothing is relayed: {why}"] if why else [])
    assert "phs_secret" not in caplog.text


def test_targets() -> None:
    """Where browsers find PostHog: its hosts by region, one's own host for everything."""
    on = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.i.posthog.com/i", "OTEL_EXPORTER_OTLP_TOKEN": TOKEN}
    target, _ = browser_target(load_settings(on, directory="/nowhere"))
    assert target is not None
    assert (target.host, target.assets, target.ui) == (
        "https://eu.i.posthog.com",
        "https://eu-assets.i.posthog.com",
        "https://eu.posthog.com",
    )

    collector = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "OTEL_EXPORTER_OTLP_TOKEN": "bearer-of-the-collector",
        "OTEL_POSTHOG_BROWSER_HOST": "https://posthog.example.com/",
        "OTEL_POSTHOG_BROWSER_TOKEN": "phc_other",
    }
    target, _ = browser_target(load_settings(collector, directory="/nowhere"))
    assert target is not None
    assert (target.token, target.host, target.assets) == (
        "phc_other",
        "https://posthog.example.com",
        "https://posthog.example.com",
    )


MISTAKES = {
    "OTEL_POSTHOG_BROWSER_TOKEN": ["phx_personal", "PHS_secret", "two words", "x" * 65, "<script>"],
    "OTEL_POSTHOG_BROWSER_RELAY": ["relay", "/relay/", "https://x/relay", "//evil", "/a b", "/"],
    "OTEL_POSTHOG_BROWSER_CONSENT": ["maybe", "module", "module:", "a:b()"],
    "OTEL_POSTHOG_BROWSER_HOST": ["ftp://x", "https://"],
    "OTEL_POSTHOG_BROWSER_RECORDING": ["everything"],
    "OTEL_POSTHOG_BROWSER_OPTIONS": ["{", "[1]"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MISTAKES.items() for value in values])
def test_mistakes(setting: Callable[..., None], caplog: pytest.LogCaptureFixture, name: str, value: str) -> None:
    """A wrong setting keeps the bridge off with one error that names it, and never shows a key."""
    setting(**{name: value})

    assert write() == ""
    assert [name in text for text in messages(caplog) if "stays off" in text] == [True]
    assert not re.search(r"phx_personal|PHS_secret", caplog.text)


HOSTILE = "</script><!--<script>\u2028\u2029'\"&`\x00\ud800"


def test_data_stays_data(setting: Callable[..., None]) -> None:
    """No data ends its script element, begins a comment or a string, or breaks a line; nothing of it is lost."""
    with scope(groups={"company": HOSTILE}):
        html = write(properties={HOSTILE: [HOSTILE]}, nonce='"><script>')

    data = html[html.rindex("(window, document, ") :]
    assert re.findall(r"[<>&'\u2028\u2029\x00]", data.removesuffix("</script>\n")) == []
    assert html.count("<script") == html.count("</script>") == 1
    assert html.startswith('<script nonce="&quot;&gt;&lt;script&gt;">')


def test_numbers_that_json_has_not() -> None:
    """What JSON cannot say is said in a way that a script can read."""
    page = {"options": {"a": float("nan"), "b": object}}

    assert '"a": NaN' in script_of(page)


CONSENT: list[tuple[str, bool | None, tuple[bool, bool]]] = [
    ("granted", None, (True, False)),
    ("granted", False, (False, False)),
    ("granted", True, (True, True)),
    ("required", None, (False, False)),
    ("required", True, (True, True)),
    ("required", False, (False, False)),
    ("tests.unit.browser.test_page:agreed", None, (True, True)),
    ("tests.unit.browser.test_page:refused", None, (False, False)),
    ("tests.unit.browser.test_page:silent", None, (False, False)),
    ("tests.unit.browser.test_page:nothing", None, (False, False)),
    ("tests.unit.browser.test_page:broken", None, (False, False)),
    ("nowhere_at_all:function", None, (False, False)),
]


def agreed(request: Any) -> bool:
    """Of a visitor who said yes."""
    return request == "the request"


def refused(request: Any) -> bool:
    """Of one who said no."""
    return False


def silent(request: Any) -> None:
    """Of one who was not asked."""


def broken(request: Any) -> bool:
    """One that fails."""
    raise ValueError(request)


@pytest.mark.parametrize(("configured", "given", "wanted"), CONSENT)
def test_consent(setting: Callable[..., None], configured: str, given: bool | None, wanted: tuple[bool, bool]) -> None:
    """Only a yes loads posthog-js where consent is asked for; a function that fails is a no."""
    setting(OTEL_POSTHOG_BROWSER_CONSENT=configured)
    page = page_in(write(request="the request", consent=given))

    assert (page["granted"], page["consented"]) == wanted
    if "broken" in configured:
        emitter = process.get()
        assert emitter is not None
        assert emitter.edge.guard.misuses() == {"consent": 1}


def test_trace(setting: Callable[..., None]) -> None:
    """The current span stands in a meta element, and on the page's events."""
    context = trace.SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        html = write()

    assert html.startswith(
        '<meta name="traceparent" content="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01">\n<script>'
    )
    assert page_in(html)["properties"] == {
        "$trace_id": "0af7651916cd43dd8448eb211c80319c",
        "$span_id": "b7ad6b7169203331",
    }


USERS: list[tuple[Any, bool | None]] = [
    (None, None),
    (SimpleNamespace(META={}), None),
    (SimpleNamespace(META={}, user=SimpleNamespace(is_authenticated=True)), False),
    (SimpleNamespace(META={}, user=SimpleNamespace(is_authenticated=False)), True),
    (SimpleNamespace(META={}, user=SimpleNamespace(is_authenticated=lambda: False)), True),
    (SimpleNamespace(scope={"type": "http"}), None),
    (SimpleNamespace(scope={"type": "http", "user": SimpleNamespace(is_authenticated=False)}), True),
    (SimpleNamespace(), None),
]


@pytest.mark.parametrize(("request_", "wanted"), USERS)
def test_signed_out(setting: Callable[..., None], request_: Any, wanted: bool | None) -> None:
    """Only an app that has users can say that nobody is logged in; and a page for a person is never signed out."""
    assert signed_out(request_) is wanted
    assert page_in(write(request=request_))["signed_out"] is bool(wanted)
    with scope(distinct_id="ada"):
        assert page_in(write(request=request_))["signed_out"] is False


def test_nonces() -> None:
    """Nonces of the usual packages are found."""
    assert nonce_of(None, {"csp_nonce": lambda: "talisman"}) == "talisman"
    assert nonce_of(None, {"csp_nonce": "django 6"}) == "django 6"
    assert nonce_of(SimpleNamespace(csp_nonce="django-csp"), {}) == "django-csp"
    assert nonce_of(None, None) == ""


def test_size_and_both_forms() -> None:
    """The wrapper stays below two kilobytes, and its module exports what it has."""
    script, module = source("analytics.js"), source("analytics.mjs")

    assert len(script.encode()) < 2_000
    listed = re.findall(r"export const \{ (.*) \} = it;", module)[0].split(", ")
    assert listed == re.findall(r"^([a-z]\w+): (?:method|function)", script, re.MULTILINE)


def test_templates(setting: Callable[..., None]) -> None:
    """Jinja takes it as it is, from a Flask app, a set of templates, or an environment; anything else is refused."""
    jinja2 = pytest.importorskip("jinja2")
    from otel_posthog.browser import install

    environment = jinja2.Environment(autoescape=True)
    install(environment)
    install(SimpleNamespace(env=environment))
    install(SimpleNamespace(jinja_env=environment))
    html = environment.from_string("<head>{{ posthog_script(properties={'a': 1}) }}</head>").render(csp_nonce="x")

    assert html == IsStr(regex=r'<head><script nonce="x">.*</script>\n</head>', regex_flags=re.DOTALL)
    with pytest.raises(TypeError, match="has no Jinja environment"):
        install(object())
