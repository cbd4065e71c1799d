"""The default rule set, on requests as the instrumentations write them, old and new convention."""

from typing import Any

import pytest

from otel_posthog.config.settings import RulesConfig
from otel_posthog.model import Resource, Scope, Signal, SignalKind
from otel_posthog.rules import Match, RuleSet
from otel_posthog.rules.load import load_rules

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"


@pytest.fixture(name="rules", scope="module")
def _rules() -> RuleSet:
    return load_rules(RulesConfig(defaults=True))


def request(
    target: str,
    *,
    new: bool,
    method: str = "GET",
    status: int | None = 200,
    agent: str = BROWSER,
    route: str | None = None,
    millis: float = 12.0,
    **attributes: Any,
) -> Signal:
    """A server span as Flask's instrumentation writes it."""
    path, _, query = target.partition("?")
    if new:
        found: dict[str, Any] = {"http.request.method": method, "url.path": path, "user_agent.original": agent}
        found |= {"url.query": query} if query else {}
        found |= {"http.response.status_code": status} if status is not None else {}
    else:
        found = {"http.method": method, "http.target": target, "http.user_agent": agent}
        found |= {"http.status_code": status} if status is not None else {}
    found |= {"http.route": route} if route is not None else {}
    found |= {key.replace("__", "."): value for key, value in attributes.items()}
    start = 1_700_000_000_000_000_000
    return Signal(
        SignalKind.SPAN,
        f"{method} {route or ''}".strip(),
        found,
        Resource(),
        Scope("opentelemetry.instrumentation.flask"),
        span_kind="server",
        start_time_ns=start,
        time_ns=start + int(millis * 1_000_000),
    )


@pytest.mark.parametrize("new", [False, True], ids=["old", "new"])
@pytest.mark.parametrize(
    ("event", "rule", "fields"),
    [
        ("$pageview", "page view", {"target": "/"}),
        ("$pageview", "page view", {"target": "/products/3?ref=mail", "route": "/products/<int:id>"}),
        ("$pageview", "page view", {"target": "/vacation"}),
        ("$pageview", "page view", {"target": "/apiary/shop"}),
        ("$pageview", "page view", {"target": "/health-tips/sleep"}),
        ("$pageview", "page view", {"target": "/status"}),
        ("$pageview", "page view", {"target": "/upload"}),
        ("$pageview", "page view", {"target": "/", "agent": ""}),
        (
            "$pageview",
            "page view",
            {"target": "/", "http__response__header__content_type": ["text/html; charset=utf-8"]},
        ),
        ("$pageview", "page view", {"target": "/", "http__request__header__sec_fetch_dest": ["document"]}),
        ("api_request", "api request", {"target": "/offers", "agent": "python-requests/2.32.5"}),
        ("api_request", "api request", {"target": "/", "http__response__header__content_type": ["application/json"]}),
        ("api_request", "api request", {"target": "/", "http__request__header__sec_fetch_dest": ["empty"]}),
        ("api_request", "api request", {"target": "/", "http__request__header__x_requested_with": ["XMLHttpRequest"]}),
        ("api_request", "api request", {"target": "/api/orders"}),
        ("api_request", "api request", {"target": "/v2/orders"}),
        ("api_request", "api request", {"target": "/api?x=1"}),
        ("api_request", "api request", {"target": "/graphql"}),
        ("api_request", "api request", {"target": "/export.csv?all=1"}),
        ("api_request", "api request", {"target": "/", "status": 302}),
        ("api_request", "api request", {"target": "/", "status": 404}),
        ("api_request", "api request", {"target": "/", "status": 500}),
        ("api_request", "api request", {"target": "/", "status": None}),
        ("api_request", "api request", {"target": "/checkout", "method": "POST"}),
        ("api_request", "api request", {"target": "/api/robots", "agent": "curl/8.5.0"}),
        (None, "preflight", {"target": "/api/orders", "method": "OPTIONS"}),
        (None, "preflight", {"target": "/", "method": "HEAD"}),
        (None, "probe", {"target": "/health"}),
        (None, "probe", {"target": "/healthz?verbose"}),
        (None, "probe", {"target": "/api/health"}),
        (None, "probe", {"target": "/health/ready"}),
        (None, "probe", {"target": "/readyz"}),
        (None, "probe", {"target": "/-/ready"}),
        (None, "probe", {"target": "/actuator/health/liveness"}),
        (None, "probe", {"target": "/metrics"}),
        (None, "probe", {"target": "/ping"}),
        (None, "probe", {"target": "/", "agent": "kube-probe/1.31"}),
        (None, "probe", {"target": "/", "agent": "ELB-HealthChecker/2.0"}),
        (None, "static file", {"target": "/favicon.ico"}),
        (None, "static file", {"target": "/static/app.1f2e.js"}),
        (None, "static file", {"target": "/img/logo.PNG?v=3"}),
        (None, "static file", {"target": "/robots.txt"}),
        (None, "bot", {"target": "/", "user_agent__synthetic__type": "bot"}),
        (None, "bot", {"target": "/", "user_agent__synthetic__type": "test"}),
        (
            None,
            "bot",
            {"target": "/", "agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        ),
        (None, "bot", {"target": "/", "agent": "Mozilla/5.0 (compatible; bingbot/2.0)"}),
        (None, "bot", {"target": "/", "agent": "facebookexternalhit/1.1"}),
        (None, "bot", {"target": "/health", "agent": "AhrefsBot/7.0"}),
    ],
)
def test_requests(rules: RuleSet, event: str | None, rule: str, fields: dict[str, Any], new: bool) -> None:
    """Pages, API requests and noise are told apart, whatever the convention."""
    found = rules.match(request(**{"new": new} | fields))

    assert found is not None
    assert (found.event or None, found.rule, found.drop) == (event, f"default: {rule}", event is None)


@pytest.mark.parametrize("agent", ["Mozilla/5.0 (Linux; Android 14; CUBOT NOTE 20)", "Mozilla/5.0 Botify/1", BROWSER])
def test_no_bot(rules: RuleSet, agent: str) -> None:
    """A name that merely holds those letters is a customer."""
    found = rules.match(request("/", new=True, agent=agent))

    assert found is not None
    assert found.event == "$pageview"


def test_whole_page_view(rules: RuleSet) -> None:
    """The properties of a request."""
    signal = request("/products/3?ref=mail", new=True, route="/products/<int:id>", millis=1000)

    assert rules.match(signal) == Match(
        rule="default: page view",
        event="$pageview",
        properties={"slow": True},
    )


def test_fast_request(rules: RuleSet) -> None:
    """`slow` is false below a second."""
    found = rules.match(request("/api/x", new=False, millis=999.9))

    assert found is not None
    assert found.properties == {"slow": False}


def test_django_without_path(rules: RuleSet) -> None:
    """Django's spans may have a route and no path."""
    signal = request("", new=True, route="metrics")
    attributes = {key: value for key, value in signal.attributes.items() if key != "url.path"}
    found = rules.match(Signal(signal.kind, signal.name, attributes, Resource(), Scope(), span_kind="server"))

    assert found is not None
    assert found.rule == "default: probe"


def test_rpc(rules: RuleSet) -> None:
    """A gRPC server's spans are API requests too."""
    attributes = {"rpc.system": "grpc", "rpc.service": "shop.Orders", "rpc.method": "Get", "rpc.grpc.status_code": 0}
    found = rules.match(
        Signal(SignalKind.SPAN, "x", attributes, Resource(), Scope(), span_kind="server", start_time_ns=1, time_ns=1)
    )

    assert found == Match(
        rule="default: rpc request",
        event="api_request",
        properties={"method": "Get", "route": "shop.Orders/Get", "status_code": 0, "slow": False},
    )


@pytest.mark.parametrize("kind", ["internal", "client", "producer", "consumer"])
def test_only_server_spans(rules: RuleSet, kind: str) -> None:
    """Child spans, outgoing requests and ASGI's `http send` and `http receive` never match, nor reach the matcher."""
    attributes = {"http.method": "GET", "http.status_code": 200, "asgi.event.type": "http.response.start"}
    signal = Signal(SignalKind.SPAN, "GET / http send", attributes, Resource(), Scope(), span_kind=kind)

    assert rules.match(signal) is None
    assert not rules.prefilter.span(kind, signal.name, "", attributes)


def test_logs_and_span_events_are_left_alone(rules: RuleSet) -> None:
    """The default set is about spans."""
    assert not rules.prefilter.logs
    assert not rules.prefilter.span_events


def test_user_rules_come_first(tmp_path: Any) -> None:
    """The default set is appended, by the setting or by the file, and the digest tells."""
    path = tmp_path / "rules.yaml"
    text = "rules: [{name: mine, match: {span_kind: server}, capture: mine}]"
    path.write_text(text)
    mine = load_rules(RulesConfig(path=str(path)))
    both = load_rules(RulesConfig(path=str(path), defaults=True))
    path.write_text(f"default_rules: true\n{text}")
    by_file = load_rules(RulesConfig(path=str(path)))
    found = both.match(request("/", new=True))

    assert found is not None
    assert found.rule == "mine"
    assert both.names[0] == "mine"
    assert (len(mine), len(both)) == (1, 9)
    assert both.digest == by_file.digest != mine.digest
